"""Scan a library on many machines with Ray: `pip install '.[ray]'` on each of them.

    ray start --head --port 6379                 # on the first machine, say `head`
    ray start --address head:6379                # on each of the others
    python examples/many_machines.py /mnt/archive scan.jsonl head:6379

All machines must see the files under the same names, on a shared file system or by URL (s3://...). Without an address
the script starts Ray on this machine alone, to try it. The log is the one of a scan without Ray: either continues it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CLIPS = Path(__file__).parent / "clips"


def main(library: str = str(CLIPS), log: str = "scan.jsonl", address: str = "local") -> int:
    command = [sys.executable, "-m", "grainscan", "predict", library, "--model", "small", "--output", log]
    status = subprocess.run([*command, "--ray", address]).returncode
    if status > 1 or not Path(log).exists():  # with 1, files that could not be judged are in the log, too
        return status

    rows = [json.loads(line) for line in Path(log).read_text(encoding="utf-8").splitlines()]
    judged = [row for row in rows if row["status"] == "ok"]
    judged.sort(key=lambda row: row["tasks"]["graininess"]["probability"], reverse=True)
    for row in judged[:20]:
        print(f"{row['tasks']['graininess']['probability']:.2f}  {row['path']}")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
