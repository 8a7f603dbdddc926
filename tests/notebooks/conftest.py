"""A real browser for the files that `make browser` runs."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
PATIENCE = 1000 * int(os.environ.get("VIBTHEORY_BROWSER_SECONDS", "240"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium as root, asking nobody but the test's own server.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def shots():
    """The folder of the screenshots."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    assert CHROMIUM, "no chromium on the path. Remedy: apt-get install chromium"
    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield window
        window.close()


@pytest.fixture
def window(browser):
    """window(**options): a page in a context of its own, closed after the test; a page lives, so tests wait for what it
    shall show (`expect`, `wait_for`) and never ask once.
    """
    with contextlib.ExitStack() as stack:

        def opened(**options):
            context = browser.new_context(**options)
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE)
            return context.new_page()

        yield opened


@pytest.fixture(scope="module")
def served():
    """A folder's address on this machine, as long as the module's tests run."""
    with contextlib.ExitStack() as stack:

        def serve(folder):
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield serve
