"""Teach the grain model the other artifacts: `python examples/embedded/artifacts.py WORK [--material DIR]`.

The model gets adapters of the picture's statistics (`with_statistics`), and learns the artifacts of the standard tasks
that are not measured, on clips of the recipe's clean material and of large photographs with one to four artifacts each
(`grainscan prep --synthesize all`, several times: each time other places and other artifacts). Everything that judges
views is kept, so graininess stays as it was. What exists is not made again. `recipe.py` ends with these stages; from
the embedded model alone, DIR is the folder that `material.py` wrote (made first if none is given). `--install` puts the
model into the package.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import TASK, grainscan, make_material, read_set, share

from grainscan.data.cache import ClipCache, default_directory
from grainscan.data.dataset import read_clips
from grainscan.evaluate.calibrate import write_spec
from grainscan.files import write_json
from grainscan.model.spec import find_model, read_spec
from grainscan.model.store import load, save
from grainscan.model.vivit import GrainscanViViT
from grainscan.tasks import MEASURED
from grainscan.views.statistics import COUNT

NAME = "artifacts"
MAKE = "python examples/embedded/material.py"  # makes the material
VALIDATION = 0.12  # of the scenes
VALIDATION_SEED = 11
# Larger than the clips for grain, so that the picture can be seen, and as long as a window and a half. Those of 768
# pixels are whole pictures, as they are judged later. Folder of the material and options; the number is the seed, too.
PARTS = {
    1: ("scenes", "--clips 2 --frames 12 --size 352 --twins 4 --synthesize all"),
    2: ("scenes", "--clips 2 --frames 12 --size 352 --twins 5 --synthesize all"),
    3: ("scenes", "--clips 1 --frames 12 --size 768 --twins 4 --synthesize all"),
    4: ("large", "--clips 1 --frames 12 --size 768 --twins 4 --synthesize all"),
    5: ("large", "--clips 1 --frames 12 --size 352 --twins 4 --synthesize all"),
    6: ("scenes", "--clips 1 --frames 12 --size 352 --twins 4 --synthesize transmission_error"),
}
VAL_CLIPS = "--clips 2 --frames 12 --size 352 --twins 6 --synthesize all"
TRAIN = (
    "--tune picture --loss bce --batch-size 128 --epochs 40 --lr 2e-3 --warmup 0.1 --weight-decay 0.3 "
    "--strength-weight 0.1 --eval-every 400"
)
# A threshold that holds on real footage, where the synthetic clips say little: their drops lie between the windows.
BY_HAND = {"frame_drop": 0.8}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--material", type=Path, metavar="DIR", help="written by material.py (default: made first)")
    parser.add_argument("--model", default="small", help="the grain model to start from")
    parser.add_argument("--install", action="store_true", help="put the model into the package")
    options = parser.parse_args()
    material = options.material or make_material(options.work / "material", "--only", "scenes", "--only", "large")
    model = teach(options.work, *divide(material / "scenes"), clips_of(material / "large"), options.model)
    if options.install:
        from recipe import install

        install(model)
    return 0


def divide(scenes: Path) -> tuple[list[Path], list[Path]]:
    """Clips for training and for validation: all clips of a scene on one side, which depends on its name alone."""
    sides: tuple[list[Path], list[Path]] = ([], [])
    for name, clip in sorted(read_set(scenes, MAKE).items()):
        sides[share(clip["source"]) < VALIDATION].append(scenes / name)
    return sides


def clips_of(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(read_set(folder, MAKE))]


def teach(
    work: Path,
    training: Sequence[Path],
    validation: Sequence[Path],
    large: Sequence[Path],
    model: str | Path,
    quick: Sequence[str] = (),
) -> Path:
    """Synthesise, train and calibrate; the directory of the new model. `quick`: options for a short trial."""
    data, base, run = work / NAME, work / f"{NAME}-start", work / "runs" / NAME
    material = {"scenes": training, "large": large}
    parts = [(f"train/{seed}", material[folder], flags, seed) for seed, (folder, flags) in PARTS.items()]
    for part, clips, flags, seed in (*parts, ("val", validation, VAL_CLIPS, VALIDATION_SEED)):
        if not (data / part / "labels.json").is_file():
            grainscan("prep", *clips, data / part, *shlex.split(flags), "--seed", seed)
    join([data / part for part, *_ in parts], data / "train")
    if not base.exists():
        with_statistics(find_model(str(model)), base, data / "train")
    if not (run / "metrics.json").is_file():
        resume = ("--resume", "auto") if (run / "checkpoints").is_dir() else ()
        identity = ("--model", base, "--runs", run.parent, "--name", run.name)
        grainscan("train", data, *identity, *shlex.split(TRAIN), *quick, *resume)
    spec = read_spec(run / "model")
    write_spec(run / "model", spec.with_(threshold=spec.threshold | BY_HAND))
    return run / "model"


def join(parts: Sequence[Path], folder: Path) -> None:
    """Write the labels and the manifest of a folder whose subfolders are data sets."""
    for file in ("labels.json", "manifest.json"):
        found = [(part.name, json.loads((part / file).read_text(encoding="utf-8"))) for part in parts]
        clips = {f"{name}/{clip}": entry for name, each in found for clip, entry in each.get("clips", each).items()}
        write_json(folder / file, {**found[0][1], "clips": clips} if "clips" in found[0][1] else clips)


def with_statistics(source: Path, target: Path, folder: Path) -> None:
    """Write a grain model that reads the statistics of the picture, brought to the scale of the clips of a folder.

    Other tasks that it knows are dropped.
    """
    old = load(source)
    of_grain = {
        name: {TASK: values[TASK]} if TASK in (values := getattr(old.spec, name)) else {}
        for name in ("aggregation", "calibration", "threshold", "prevalence", "strength")
    }
    spec = old.spec.with_(name=target.name, tasks=(TASK,), statistics=COUNT, measured=MEASURED, **of_grain)
    new = GrainscanViViT(old.config, spec)
    state = new.state_dict()
    state |= {key: value for key, value in old.state_dict().items() if not key.startswith(("picture.", "adapters."))}
    adapter = old.adapters[str(old.spec.tasks.index(TASK))].state_dict()
    state |= {f"adapters.0.{key}": value for key, value in adapter.items()}
    new.load_state_dict(state)
    assert new.picture is not None
    cache = ClipCache(default_directory(), old.spec.view, views=False, statistics=True)
    clips = read_clips(folder)
    paths = [clips.path(index) for index in range(len(clips))]
    read = [path for path, error in cache.fill(paths) if error is None]
    new.picture.scale.fit(torch.from_numpy(np.concatenate([cache.read(path).statistics for path in read])))
    save(new, target)


if __name__ == "__main__":
    sys.exit(main())
