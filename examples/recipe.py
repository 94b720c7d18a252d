"""Train the embedded model from nothing: `python examples/recipe.py WORK [--videos DIR] [--install]`.

One command from an empty folder: fetch and film the clean material (`material.py`); in rounds, synthesise grainy twins
(`grainscan prep`) and train on them (`grainscan train`), from the weights of the round before; calibrate on whole clips
of scenes kept apart. Each stage is skipped when its result is there, so an interrupted run goes on where it stopped.

`--videos` adds a folder of clean real footage to the material; the recipe runs without it. `--install` copies the model
into the package. `--quick` goes through all stages in minutes, for a look at how they work; its model is of no use.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grainscan
from grainscan.data.cache import CACHE_VARIABLE
from grainscan.data.manifest import read_manifest
from grainscan.evaluate.calibrate import PREVALENCE, calibrate, write_spec
from grainscan.model.spec import read_spec
from grainscan.model.store import load, model_card, save

HERE = Path(__file__).parent
NAME = "grainscan-s"
SEED = 1
CALIBRATION_SEED = 4  # of no round: grain that the model has not been shown
VALIDATION = 0.12  # of the scenes
# Crops for training are larger and longer than a view, so that no epoch sees the same pixels twice; those for
# validation hold many views, as a file does; calibration wants files as long and as large as the scenes are.
TRAIN_CLIPS = {"--clips": 10, "--frames": 12, "--size": 96, "--twins": 1}
VAL_CLIPS = {"--clips": 8, "--frames": 24, "--size": 256, "--twins": 1}
CALIBRATION_CLIPS = {"--clips": 1, "--frames": 32, "--size": 4096, "--twins": 6}
# Grain is local: a view of 32 pixels costs a quarter of one of 64 and says nearly as much, so that a model trained on
# small views sees four times as many, in training as in prediction.
TRAIN = {
    "--batch-size": 64, "--eval-every": 1000, "--views-per-clip": 4,
    "--loss": "bce", "--soft-labels": 1, "--strength-weight": 2,
}  # fmt: skip
# Each round synthesises grain anew, so that the next one trains on what the last has not seen.
ROUNDS: tuple[dict[str, object], ...] = (
    {"--scratch": None, "--size": 32, "--max-steps": 6000, "--lr": 7e-4},
    {"--max-steps": 4500, "--lr": 5e-4},
)
CROPS = 12  # of a window in prediction: 36 rank hardly better and take three times the time

ABOUT = f"""
The model that `grainscan predict` uses where nothing else is named. Recipe: `python examples/recipe.py WORK --videos
DIR` (seed {SEED}, {len(ROUNDS)} rounds; figures, data and configuration below are those of the last one). Material,
sources and licences: `examples/README.md`. What was tried: `examples/DIARY.md`. The weights are stored in 16 bits; the
ONNX file holds the same values. Calibrated on whole synthetic clips of scenes apart from training: Platt scaling;
threshold of the best F1 in a library of which {PREVALENCE:.0%} is grainy.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--videos", type=Path, help="a folder of clean real footage")
    parser.add_argument("--install", action="store_true", help="put the model into the package")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    options = parser.parse_args()
    work: Path = options.work
    material, runs = work / "material", work / "runs"
    began = time.monotonic()
    os.environ.setdefault(CACHE_VARIABLE, os.fspath((work / "cache").resolve()))  # all that is made lies in one folder

    if not (material / "scenes" / "labels.json").is_file():
        videos = ["--videos", options.videos] if options.videos else []
        run(sys.executable, HERE / "material.py", material, "--only", "scenes", *videos)
    training, validation = divide(material / "scenes")
    if options.quick:
        training, validation = training[:8], validation[:8]
    synthesise(validation, work / "val", VAL_CLIPS, SEED, options.quick)
    synthesise(validation, work / "calibration", CALIBRATION_CLIPS, CALIBRATION_SEED, options.quick)
    base: str | Path = "small"
    for number, settings in enumerate(ROUNDS, start=1):
        data, name = work / f"round-{number}", f"{NAME}-{number}"
        synthesise(training, data / "train", TRAIN_CLIPS, SEED + number - 1, options.quick)
        if not (data / "val").exists():
            (data / "val").symlink_to(Path("..") / "val", target_is_directory=True)
        if not (runs / name / "metrics.json").is_file():
            steps = {"--max-steps": 20, "--eval-every": 10} if options.quick else {}
            chosen = {"--model": base, "--seed": SEED + number - 1, **TRAIN, **settings, **steps}
            resume = ("--resume", "auto") if (runs / name / "checkpoints").is_dir() else ()
            run("grainscan", "train", data, "--runs", runs, "--name", name, *spelt(chosen), *resume)
        base = runs / name
    model = Path(base) / "model"
    spec = read_spec(model)
    write_spec(model, spec.with_(view=replace(spec.view, crops=CROPS)))
    fitted = calibrate(model, work / "calibration").spec
    print(f"the lowest {fitted.aggregation:.0%} of the views decide; threshold {fitted.threshold}")
    print(f"{model}: {time.monotonic() - began:.0f} s")
    if options.install:
        install(model)
    return 0


def divide(scenes: Path) -> tuple[list[Path], list[Path]]:
    """Clips for training and validation: a scene's name alone decides on which side all its clips stand."""
    manifest = read_manifest(scenes) or {"clips": {}}
    sides: tuple[list[Path], list[Path]] = ([], [])
    for name, clip in sorted(manifest["clips"].items()):
        part = int.from_bytes(hashlib.sha256(clip["source"].encode()).digest()[:4], "big") / 2**32
        sides[part < VALIDATION].append(scenes / name)
    return sides


def synthesise(scenes: list[Path], target: Path, clips: dict[str, int], seed: int, quick: bool) -> None:
    """Clips of the scenes and grainy twins of them, labelled by what survives."""
    if (target / "labels.json").is_file():
        return
    if quick:
        clips = {**clips, "--clips": min(2, clips["--clips"])}
    run("grainscan", "prep", *scenes, target, *spelt(clips), "--synthesize", "graininess", "--seed", seed)


def spelt(options: Mapping[str, object]) -> list[str]:
    """Options of a command; None stands for a flag without a value."""
    return [str(item) for pair in options.items() for item in pair if item is not None]


def run(*command: object) -> None:
    """Run a stage; its output is ours. The first failure ends the recipe."""
    words = [str(word) for word in command]
    if words[0] == "grainscan":
        words[:1] = [sys.executable, "-m", "grainscan"]
    shown = " ".join(words[:4]) + (" …" if len(words) > 4 else "")
    print(f"$ {shown}", flush=True)
    subprocess.run(words, check=True)


def install(directory: Path) -> None:
    """Put a model directory in the place of the embedded one, under its own name and in 16 bits."""
    target = Path(grainscan.__file__).parent / "models" / NAME
    model = load(directory)
    model.spec = model.spec.with_(name=NAME)
    training = (directory / "README.md").read_text(encoding="utf-8").split("## Figures", 1)[1]
    save(model, target, card=model_card(model, f"{ABOUT}\n## Figures{training}"), half=True)
    print(f"installed as {target}")


if __name__ == "__main__":
    sys.exit(main())
