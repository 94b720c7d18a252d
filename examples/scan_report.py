"""Scan a folder so that an interruption costs nothing, then write a page for people and a table for programs.

    python examples/scan_report.py [FOLDER [OUT]]     # default: examples/clips into ./grain-report

Run it again after an interruption, or when files were added: what the log holds is not judged again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from grainscan.report import save

CLIPS = Path(__file__).parent / "clips"


def main(folder: str = str(CLIPS), out: str = "grain-report") -> int:
    Path(out).mkdir(parents=True, exist_ok=True)
    log = Path(out, "scan.jsonl")

    # --maps adds the verdict on each part of a picture, which the page draws.
    command = [sys.executable, "-m", "grainscan", "predict", folder, "--model", "small", "--output", str(log)]
    status = subprocess.run([*command, "--maps"]).returncode
    if status > 1 or not log.exists():  # with 1, files that could not be judged are in the log, too
        return status

    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    save(rows, Path(out, "report.html"), "html")
    save(rows, Path(out, "report.csv"), "csv")

    grainy = [row["path"] for row in rows if row["status"] == "ok" and row["tasks"]["graininess"]["label"]]
    print(f"{len(grainy)} of {len(rows)} files are grainy. See {Path(out, 'report.html')}.")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
