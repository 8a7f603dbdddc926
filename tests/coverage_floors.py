"""The shares of lines and branches that the tests ran; fails below the floors (`make test COVERAGE=1`)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

FLOORS = {"lines": ("num_statements", "covered_lines", 95.0), "branches": ("num_branches", "covered_branches", 90.0)}
SHOWN = 8  # files with the most lines and branches that no test reaches


def main() -> int:
    """Print both shares and the files that miss most; exit code 0, or 1 where a floor is missed."""
    try:
        report = _report()
    except NoDataError:
        print("coverage: nothing was measured. Remedy: make test COVERAGE=1")
        return 1
    passed, words = True, []
    for name, (all_of_them, run, floor) in FLOORS.items():
        share = 100 * report["totals"][run] / report["totals"][all_of_them]
        passed &= share >= floor
        words.append(f"{name} {share:.2f} % (at least {floor:g})")
    missed = {
        file: part["summary"]["missing_lines"] + part["summary"]["missing_branches"]
        for file, part in report["files"].items()
    }
    for file in sorted(missed, key=missed.__getitem__, reverse=True)[:SHOWN]:
        lines = ", ".join(map(str, report["files"][file]["missing_lines"][:15]))
        print(f"  {missed[file]:3d} lines and branches not run: {file}  {lines}")
    print(f"coverage: {', '.join(words)}" + ("" if passed else ": too little"))
    return 0 if passed else 1


def _report() -> dict:
    """Coverage's own JSON report of the file .coverage here."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
