"""From a folder of labelled clips to a model of your own and its figures.

    python examples/fine_tune.py [FOOTAGE [WORK]]     # default: examples/clips into ./fine-tuned

FOOTAGE holds videos and a labels.json: {"reel1.mp4": 1, "reel2.mp4": 0}. The six tiny clips of the default show how it
works; about a hundred videos of your own make a better model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CLIPS = Path(__file__).parent / "clips"


def grainscan(*arguments: str | Path) -> str:
    """Run a command and return the data that it prints. Progress and errors go to the terminal."""
    done = subprocess.run([sys.executable, "-m", "grainscan", *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main(footage: Path = CLIPS, work: Path = Path("fine-tuned")) -> None:
    data, runs = work / "data", work / "runs"

    # Small clips of the footage, and a twin with synthesised grain of each clean one.
    grainscan("prep", footage, data, "--synthesize", "graininess")
    # Parts for training, validation and testing: all clips of a video are in the same part.
    grainscan("split", data, "--ratios", "50/25/25")
    # Start from the embedded model, with a low learning rate; show every clip eight times per epoch.
    grainscan("train", data, "--runs", runs, "--name", "mine", "--lr", "5e-5", "--views-per-clip", "8")
    # Judge the test clips with the new model and with the embedded one.
    test = ("--split", "test", "--model", runs / "mine", "--compare", "small")
    report = json.loads(grainscan("eval", data, *test, "--format", "json"))

    figures = report["compare"]["tasks"]["graininess"]
    after, before = figures["auroc"]
    print(f"AUROC on {figures['clips']} test clips: {after} (the embedded model: {before})")
    print(f"95 % interval of the difference: {figures['ci95']}; keep the new model if it lies above zero")
    print(f"use it: grainscan predict VIDEO --model {runs / 'mine'}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
