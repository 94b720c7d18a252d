"""Teach one more artifact from labels alone: here scan lines, which the script paints into clips of its own.

    python examples/teach_task.py [WORK]     # default: ./scan-lines

Any name in snake_case is a task: with footage of your own, all you write is labels.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from grainscan import Scanner
from grainscan.data.split import split
from grainscan.options import SplitConfig, TrainConfig
from grainscan.train.fit import train
from grainscan.video import Block, PixelFormat, write_clip

TASK = "scan_lines"
CLIPS, FRAMES, SIDE = 40, 10, 64


def paint(path: Path, label: int, seed: int) -> None:
    """Write a smooth grey scene that drifts; with label 1, every second line is darker."""
    rng = np.random.default_rng(seed)
    frame, row, column = np.ogrid[:FRAMES, :SIDE, :SIDE]
    scene = np.sin(column / rng.uniform(5, 20) + frame / 5) + np.cos(row / rng.uniform(5, 20) + rng.uniform(0, 6))
    picture = 128 + 40 * scene - label * rng.uniform(4, 20) * (row % 2)
    write_clip(path, Block((picture.astype(np.uint8),), PixelFormat.of("gray")))  # lossless


def main(work: Path) -> None:
    data, runs = work / "data", work / "runs"
    data.mkdir(parents=True)
    labels = {f"clip{number:02}.mkv": {TASK: number % 2} for number in range(CLIPS)}
    for number, (name, label) in enumerate(labels.items()):
        paint(data / name, label[TASK], seed=number)
    (data / "labels.json").write_text(json.dumps(labels))

    split(SplitConfig(data, ratios="75/25/0"))
    train(TrainConfig(data, name=TASK, runs=runs, max_steps=40, eval_every=20, lr=1e-3, workers=0))

    with Scanner(runs / TASK) as scanner:
        for label in (0, 1):
            paint(work / f"new{label}.mkv", label, seed=CLIPS + label)
            verdict = scanner.predict(work / f"new{label}.mkv")["tasks"][TASK]
            print(f"label {label}: probability of scan lines {verdict['probability']:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "scan-lines"))
