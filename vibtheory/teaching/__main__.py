"""`python -m vibtheory.teaching run|record|gallery|lite`: notebooks in place, recorded runs, the static sites."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vibtheory.errors import VibTheoryError
from vibtheory.teaching import notebooks


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m vibtheory.teaching", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    execute = commands.add_parser("run", help="execute notebooks and write their outputs into them")
    execute.add_argument("paths", nargs="*", type=Path, help="default: all of notebooks/")
    execute.add_argument("--live", action="store_true", help="train instead of reading the recorded runs (slow)")
    record = commands.add_parser("record", help="make a recorded run again")
    record.add_argument("names", nargs="*", help="default: all")
    record.add_argument("--folder", type=Path, default=Path("notebooks/recorded"))
    site = commands.add_parser("gallery", help="all notebooks as one static HTML site")
    site.add_argument("--out", type=Path, default=Path("site/gallery"))
    site.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    site.add_argument("--frames", action="store_true", help="execute them, so that the sliders move (minutes)")
    lite = commands.add_parser("lite", help="JupyterLite with the notebooks that need no torch")
    lite.add_argument("--out", type=Path, default=Path("site/lite"))
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "run":
            for path in chosen.paths or sorted(Path("notebooks").glob("*.ipynb")):
                notebooks.write(notebooks.run(notebooks.read(path), path, live=chosen.live), path)
                print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
        elif chosen.command == "record":
            from vibtheory.teaching.records import RECORDS, record_all

            for written in record_all(chosen.names or list(RECORDS), chosen.folder):
                print(written)
        elif chosen.command == "gallery":
            from vibtheory.teaching.gallery import build_gallery

            print(build_gallery(chosen.notebooks, chosen.out, frames=chosen.frames))
        else:
            from vibtheory.teaching.lite import build_lite

            print(build_lite(out=chosen.out))
    except VibTheoryError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
