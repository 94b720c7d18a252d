"""Train the embedded model from nothing: `python examples/embedded/recipe.py WORK [--videos DIR] [--install]`.

One command from an empty folder: fetch and film the clean material (`material.py`); in rounds, synthesise grainy twins
(`grainscan prep`) and train on them (`grainscan train`), from the weights of the round before; calibrate on whole clips
of scenes that are kept apart; then teach the model the other artifacts (`artifacts.py`). Each stage is skipped when its
result exists, so an interrupted run continues where it stopped.

`--videos` adds a folder of clean real footage to the material; the recipe runs without it. `--install` copies the model
into the package. `--quick` goes through all stages in minutes, to see how they work; its model is not worth keeping.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from artifacts import clips_of, divide, teach
from common import TASK, grainscan, make_material

from grainscan.data.cache import CACHE_VARIABLE
from grainscan.evaluate.calibrate import PREVALENCE, calibrate, write_spec
from grainscan.model.spec import find_model, read_spec
from grainscan.model.store import load, model_card, save

NAME = "grainscan-s"
SEED = 1
CALIBRATION_SEED = 4  # of no round: grain that the model has not been shown
# Crops for training are larger and longer than a view, so that no epoch sees the same pixels twice; those for
# validation hold many views, as a file does; calibration needs files as long and as large as the scenes are.
TRAIN_CLIPS = "--clips 10 --frames 12 --size 96 --twins 1"
VAL_CLIPS = "--clips 8 --frames 24 --size 256 --twins 1"
CALIBRATION_CLIPS = "--clips 1 --frames 32 --size 4096 --twins 6"
# Grain is local: a view of 32 pixels costs a quarter of one of 64 and says nearly as much, so that a model trained on
# small views sees four times as many, in training as in prediction.
TRAIN = "--batch-size 64 --eval-every 1000 --views-per-clip 4 --loss bce --soft-labels 1 --strength-weight 2"
# Each round synthesises grain anew, so that the next one trains on what the last has not seen.
ROUNDS = ("--scratch --size 32 --max-steps 6000 --lr 7e-4", "--max-steps 4500 --lr 5e-4")
CROPS = 12  # of a window in prediction: 36 rank hardly better and take three times the time
# For a quick look; of an option that is given twice, the last counts.
QUICK_SCENES, QUICK_CLIPS, QUICK_TRAIN = 8, "--clips 1", "--max-steps 20 --eval-every 10"

ABOUT = f"""
The model that `grainscan predict` uses by default. Graininess: `python examples/embedded/recipe.py WORK --videos DIR`
(seed {SEED}, {len(ROUNDS)} rounds), calibrated on whole synthetic clips of scenes apart from training: Platt scaling;
threshold of the best F1 in a library of which {PREVALENCE:.0%} is grainy. The other artifacts: `artifacts.py` beside
it, which leaves all that graininess depends on as it was; figures, data and configuration below are those of its last
stage, but for the threshold of `frame_drop`, which is set by hand on real footage. Material,
sources and licences: `examples/embedded/README.md`. What was tried: `examples/DIARY.md`. The weights are stored in 16
bits in both files.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--videos", type=Path, help="folder of clean real footage")
    parser.add_argument("--install", action="store_true", help="put the model into the package")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    options = parser.parse_args()
    work: Path = options.work
    material, runs = work / "material", work / "runs"
    began = time.monotonic()
    os.environ.setdefault(CACHE_VARIABLE, os.fspath((work / "cache").resolve()))  # all files in one folder

    if not (material / "scenes" / "labels.json").is_file():
        make_material(material, "--only", "scenes", *(["--videos", options.videos] if options.videos else []))
    if not (material / "large" / "labels.json").is_file():
        make_material(material, "--only", "large")
    training, validation = divide(material / "scenes")
    large = clips_of(material / "large")
    if options.quick:
        training, validation, large = training[:QUICK_SCENES], validation[:QUICK_SCENES], large[:QUICK_SCENES]
    synthesise(validation, work / "val", VAL_CLIPS, SEED, options.quick)
    synthesise(validation, work / "calibration", CALIBRATION_CLIPS, CALIBRATION_SEED, options.quick)
    base: str | Path = "small"
    for number, settings in enumerate(ROUNDS, start=1):
        data, name = work / f"round-{number}", f"{NAME}-{number}"
        synthesise(training, data / "train", TRAIN_CLIPS, SEED + number - 1, options.quick)
        if not (data / "val").exists():
            (data / "val").symlink_to(Path("..") / "val", target_is_directory=True)
        if not (runs / name / "metrics.json").is_file():
            flags = shlex.split(f"{TRAIN} {settings} {QUICK_TRAIN if options.quick else ''}")
            resume = ("--resume", "auto") if (runs / name / "checkpoints").is_dir() else ()
            identity = ("--model", base, "--seed", SEED + number - 1, "--runs", runs, "--name", name)
            grainscan("train", data, *identity, *flags, *resume)
        base = runs / name
    model = Path(base) / "model"
    spec = read_spec(model)
    write_spec(model, spec.with_(view=replace(spec.view, crops=CROPS)))
    fitted = calibrate(model, work / "calibration").spec
    print(f"the lowest {fitted.aggregation_of(TASK):.0%} of the views decide; threshold {fitted.threshold}")
    print(f"{model}: {time.monotonic() - began:.0f} s")
    quick = shlex.split(QUICK_TRAIN) if options.quick else ()
    model = teach(work, training, validation, large, model, quick)
    if options.install:
        install(model)
    return 0


def synthesise(scenes: Sequence[Path], target: Path, clips: str, seed: int, quick: bool) -> None:
    """Clips of the scenes and grainy twins of them, labelled by what survives."""
    if not (target / "labels.json").is_file():
        flags = shlex.split(f"{clips} {QUICK_CLIPS if quick else ''}")
        grainscan("prep", *scenes, target, *flags, "--synthesize", TASK, "--seed", seed)


def install(directory: Path) -> None:
    """Put a model directory in the place of the embedded one, under its own name and in 16 bits."""
    target = find_model("small")
    model = load(directory)
    model.spec = model.spec.with_(name=NAME)
    training = (directory / "README.md").read_text(encoding="utf-8").split("## Figures", 1)[1]
    save(model, target, card=model_card(model, f"{ABOUT}\n## Figures{training}"), half=True)
    print(f"installed as {target}")


if __name__ == "__main__":
    sys.exit(main())
