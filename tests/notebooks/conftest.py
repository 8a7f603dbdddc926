"""A real browser for the files that `make browser` runs."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
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
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no chromium on the path. Remedy: apt-get install chromium"
    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield window
        window.close()


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
