"""Teach the grain model the other artifacts: `python examples/embedded/artifacts.py WORK [--material DIR]`.

The model gets views of other scales and what the network needs for them (`with_scales`), and learns the artifacts of
the standard tasks that are not measured, on clips of the recipe's clean material with one to four artifacts each
(`grainscan prep --synthesize all`). Everything that native views use is frozen, so graininess stays as it was. Each
stage is skipped when its result exists. `recipe.py` ends with these stages; from the embedded model alone, DIR is the
folder that `material.py` wrote (made first if none is given). `--install` puts the model into the package.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from common import TASK, grainscan, make_material, read_set, share

from grainscan.model.spec import find_model
from grainscan.model.store import load, save
from grainscan.model.vivit import GrainscanViViT
from grainscan.tasks import MEASURED

NAME = "artifacts"
SEED, VALIDATION_SEED = 1, 11
VALIDATION = 0.12  # of the scenes
VIEWS = {"detail": 6, "quarter": 6, "whole": 1}  # of a window, besides those for grain
BOTTLENECK = 128
# Larger than the clips for grain, so that the picture can be seen, and long enough for a window at any of four places.
TRAIN_CLIPS = "--clips 2 --frames 12 --size 352 --twins 4"
VAL_CLIPS = "--clips 2 --frames 12 --size 352 --twins 6"
TRAIN = "--tune scales --loss bce --balanced --warmup 0.03"
# First each view by itself, which is quick to learn; then the views of a clip together, as files are judged.
STAGES = (
    "--batch-size 64 --views-per-clip 4 --max-steps 2000 --eval-every 400 --lr 1e-3",
    "--by-clip --batch-size 14 --max-steps 900 --eval-every 200 --lr 1e-3",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--material", type=Path, metavar="DIR", help="written by material.py (default: made first)")
    parser.add_argument("--model", default="small", help="the grain model to start from")
    parser.add_argument("--install", action="store_true", help="put the model into the package")
    options = parser.parse_args()
    material = options.material or make_material(options.work / "material", "--only", "scenes")
    model = teach(options.work, *divide(material / "scenes"), options.model)
    if options.install:
        from recipe import install

        install(model)
    return 0


def divide(scenes: Path) -> tuple[list[Path], list[Path]]:
    """Clips for training and for validation: all clips of a scene on one side, which depends on its name alone."""
    sides: tuple[list[Path], list[Path]] = ([], [])
    for name, clip in sorted(read_set(scenes, "python examples/embedded/material.py").items()):
        sides[share(clip["source"]) < VALIDATION].append(scenes / name)
    return sides


def teach(
    work: Path, training: Sequence[Path], validation: Sequence[Path], model: str | Path, quick: Sequence[str] = ()
) -> Path:
    """Synthesise, train and calibrate; the directory of the new model. `quick`: options for a short trial."""
    data, base = work / NAME, work / f"{NAME}-start"
    for side, clips, flags, seed in (
        ("train", training, TRAIN_CLIPS, SEED),
        ("val", validation, VAL_CLIPS, VALIDATION_SEED),
    ):
        if not (data / side / "labels.json").is_file():
            grainscan("prep", *clips, data / side, *shlex.split(flags), "--synthesize", "all", "--seed", seed)
    if not base.exists():
        with_scales(find_model(str(model)), base)
    for number, settings in enumerate(STAGES, start=1):
        run = work / "runs" / f"{NAME}-{number}"
        if not (run / "metrics.json").is_file():
            resume = ("--resume", "auto") if (run / "checkpoints").is_dir() else ()
            identity = ("--model", base, "--seed", SEED + number - 1, "--runs", run.parent, "--name", run.name)
            grainscan("train", data, *identity, *shlex.split(f"{TRAIN} {settings}"), *quick, *resume)
        base = run
    return base / "model"


def with_scales(source: Path, target: Path) -> None:
    """Write a grain model with untrained parts for views of other scales; other tasks that it knows are dropped."""
    torch.manual_seed(SEED)
    old = load(source)
    of_grain = {
        name: {TASK: values[TASK]} if TASK in (values := getattr(old.spec, name)) else {}
        for name in ("aggregation", "calibration", "threshold", "strength")
    }
    view = replace(old.spec.view, **VIEWS)
    spec = old.spec.with_(
        name=target.name, tasks=(TASK,), view=view, bottleneck=BOTTLENECK, measured=MEASURED, **of_grain
    )
    new = GrainscanViViT(old.config, spec)
    state = new.state_dict()
    state |= {key: value for key, value in old.state_dict().items() if not key.startswith(("scaled.", "adapters."))}
    adapter = old.adapters[old.spec.tasks.index(TASK)].state_dict()
    state |= {f"adapters.0.{key}": value for key, value in adapter.items()}
    new.load_state_dict(state)
    save(new, target)


if __name__ == "__main__":
    sys.exit(main())
