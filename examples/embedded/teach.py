"""Teach grainscan a kind of grain that it does not know: `python examples/embedded/teach.py WORK [--material DIR]`.

The kind is the noise of analogue video tape. A recorder limits the bandwidth of luma along the line and nowhere else,
so its noise is drawn out into streaks of 10 to 40 pixels while neighbouring lines have nothing in common; the level of
each line wavers, and where the oxide is worn the signal drops out with a tail like a comet's. Film and sensors do
nothing of the kind, nor does `grainscan prep --synthesize`, so the embedded model takes most of it for texture.

The scenes are those of `material.py` (made first if no DIR is given); the clips are encoded with H.264:

    WORK/footage/     40 labelled clips of 40 scenes, half of them with tape noise: all that is taught
    WORK/tape/        every held-out scene with and without tape noise: is it learnt?
    WORK/old/         `prep --synthesize graininess` from the held-out scenes: is anything forgotten?
    WORK/data/        what `prep --synthesize graininess` and `split` make of the footage
    WORK/runs/tape/   what `train` makes of that
    WORK/figures.json

Every step but the making of clips is a grainscan command, printed as it runs. Finished steps are not repeated. The
last one judges both sets with the embedded model and with the taught one: AUROC with 95 % intervals from resampling
scenes, and the difference on the same resamples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import TASK, Entry, grainscan, make_all, make_material, middle, read_set, write_set
from material import HELD_OUT, TRAINING
from rich.console import Console
from rich.table import Table

from grainscan import Scanner, console
from grainscan.data.labels import LABELS_FILE
from grainscan.data.synth import fields, surviving
from grainscan.data.synth.stack import Array, add_luma, from_block, to_block
from grainscan.evaluate import bootstrap
from grainscan.files import write_json
from grainscan.video import read_clip, write_clip

LABELLED = 40  # clips that are taught, half of them with tape noise
FRAMES = 24
WIDTH, HEIGHT = 384, 288  # at most: a part of a picture of 720x576
QUANTISERS = (20, 26)  # of H.264: ordinary quality
TRAIN = ("--batch-size", "32", "--views-per-clip", "8", "--lr", "5e-5")


@dataclass(frozen=True)
class Tape:
    """Tape noise of one clip, in 8-bit codes and pixels."""

    sigma: float  # standard deviation of the streaks
    length: float  # of a streak: full width at half maximum
    level: float  # standard deviation of the level of a line
    dropouts: float  # per picture

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Tape:
        sigma = rng.uniform(2.5, 6)
        return cls(sigma, rng.uniform(10, 40), rng.uniform(0.1, 0.4) * sigma, rng.uniform(0, 2))

    def field(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Array:
        """What is added to luma, (frames, height, width); independent from picture to picture."""
        frames, height, width = shape
        _, x = fields.frequencies(height, width)
        along = np.exp(-2 * (np.pi * self.length / fields.FWHM * x) ** 2)
        noise = np.float32(self.sigma) * fields.shaped(rng, shape, along)
        noise += np.float32(self.level) * rng.standard_normal((frames, height, 1), dtype=np.float32)
        for _ in range(rng.poisson(self.dropouts * frames)):
            start = int(rng.integers(width))
            tail = rng.uniform(60, 120) * np.exp(-np.arange(width - start) / rng.uniform(5, 15))
            noise[rng.integers(frames), rng.integers(height), start:] += tail.astype(np.float32)
        return noise


@dataclass(frozen=True)
class Clip:
    """A clip to make of a clean scene, with tape noise or without."""

    name: str
    scene: Path
    source: str
    noisy: bool

    def __str__(self) -> str:
        return self.name

    def rng(self) -> np.random.Generator:
        """The same for a clip and its clean twin."""
        return np.random.default_rng(list(hashlib.sha256(self.source.encode()).digest()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--material", type=Path, metavar="DIR", help="written by material.py (default: made first)")
    parser.add_argument("--scenes", type=int, default=0, metavar="N", help="the first N held-out scenes only; 0: all")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--train", type=shlex.split, default=TRAIN, metavar="FLAGS", help="of `grainscan train`")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    material = (options.material or make_material(work / "material")).absolute()
    held_out = scenes(material / HELD_OUT)[: options.scenes or None]
    write(work / "footage", footage(scenes(material / TRAINING)), options.workers)
    write(work / "tape", [clip for scene in held_out for clip in pair(*scene)], options.workers)
    workers = ("--workers", options.workers)
    clean = [path for _, path in held_out]
    if not (work / "old" / LABELS_FILE).is_file():
        grainscan("prep", *clean, "old", "--synthesize", TASK, "--clips", 2, "--seed", 1, *workers, cwd=work)
    if not (work / "data" / "train" / LABELS_FILE).is_file():
        if not (work / "data" / LABELS_FILE).is_file():
            grainscan("prep", "footage", "data", "--synthesize", TASK, *workers, cwd=work)
        grainscan("split", "data", "--ratios", "80/20/0", cwd=work)
    figures: dict[str, Any] = {"training": taught(work, options.train)}
    for name in ("tape", "old"):
        figures[name] = compared(work / name, work / "runs" / "tape")
    figures["tape"]["surviving"] = survival(work / "tape")
    write_json(work / "figures.json", figures)
    show(figures, console.out())
    return 0


# -------------------------------------------------------------------------------------------------------------- clips


def scenes(folder: Path) -> list[tuple[str, Path]]:
    """(source, first clip of it) of a folder of the material, sorted."""
    first: dict[str, Path] = {}
    for name, entry in sorted(read_set(folder, f"python examples/embedded/material.py {folder.parent}").items()):
        first.setdefault(entry["source"], folder / name)
    return sorted(first.items())


def footage(found: list[tuple[str, Path]]) -> list[Clip]:
    """The clips that are taught: scenes in the order of hashes of their names, every second one with tape noise."""
    chosen = sorted(found, key=lambda scene: hashlib.sha256(scene[0].encode()).digest())[:LABELLED]
    return [Clip(f"{source}.mp4", path, source, bool(i % 2)) for i, (source, path) in enumerate(chosen)]


def pair(source: str, path: Path) -> list[Clip]:
    return [Clip(f"{source}_{'tape' if noisy else 'clean'}.mp4", path, source, noisy) for noisy in (False, True)]


def write(folder: Path, clips: Sequence[Clip], workers: int) -> None:
    """Make the clips with labels.json and manifest.json, unless they exist."""
    if not (folder / LABELS_FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_set(folder, make_all(make, clips, folder, workers=workers), script="embedded/teach.py")


def make(clip: Clip, folder: Path) -> dict[str, Entry]:
    """Write a clip; its entry by its name. `strength` is the standard deviation of the noise that survived encoding."""
    rng = clip.rng()
    block = middle(read_clip(clip.scene, frames=FRAMES), WIDTH, HEIGHT, grid=16)
    how = {"codec": "h264", "quality": int(rng.integers(QUANTISERS[0], QUANTISERS[1] + 1)), "speed": 1}
    path = folder / clip.name
    write_clip(path, block, **how)
    strength = 0.0
    if clip.noisy:
        reference = read_clip(path)
        tape = Tape.draw(rng)
        stack = from_block(block)
        noise = tape.field(stack.shape, rng)
        write_clip(path, to_block(add_luma(stack, noise)), **how)
        strength = surviving(reference, read_clip(path), noise)
    labels = {"labels": {TASK: int(clip.noisy)}, "strength": {TASK: round(strength, 3)}}
    return {clip.name: {"source": clip.source, **labels}}


def survival(folder: Path) -> float:
    """The median standard deviation of the noise that survived the encoder, 8-bit luma codes."""
    entries = read_set(folder, "teach.py").values()
    return round(float(np.median([entry["strength"][TASK] for entry in entries if entry["labels"][TASK]])), 2)


# ----------------------------------------------------------------------------------------------------------- training


def taught(work: Path, flags: Iterable[str]) -> dict[str, float]:
    """Train unless it is done; the cost of the training."""
    cost = work / "training.json"
    if not cost.is_file():
        shutil.rmtree(work / "runs" / "tape", ignore_errors=True)
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        grainscan("train", "data", "--model", "small", "--name", "tape", *flags, cwd=work)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seconds = time.monotonic() - begun
        write_json(cost, {"seconds": round(seconds, 1), "processor_seconds": round(processor, 1)})
    return dict(json.loads(cost.read_text(encoding="utf-8")))


# ------------------------------------------------------------------------------------------------------------ figures


def compared(folder: Path, taught_model: Path) -> dict[str, Any]:
    """AUROC of the embedded and of the taught model on the labelled clips, and their difference."""
    entries = {name: entry for name, entry in read_set(folder, "teach.py").items() if TASK in known(entry)}
    truth = [known(entry)[TASK] for entry in entries.values()]
    sources = [entry["source"] for entry in entries.values()]
    before, after = judged(folder, entries, "small"), judged(folder, entries, taught_model)
    change = bootstrap.compare(truth, after, before, groups=sources)
    return {
        "clips": len(entries),
        "scenes": len(set(sources)),
        "before": {"auroc": change["auroc"][1], "ci95": bootstrap.auroc_interval(truth, before, groups=sources)},
        "after": {"auroc": change["auroc"][0], "ci95": bootstrap.auroc_interval(truth, after, groups=sources)},
        "change": {"auroc": change["difference"], "ci95": change["ci95"]},
    }


def known(entry: Entry) -> dict[str, int]:
    return {task: label for task, label in entry["labels"].items() if label is not None}


def judged(folder: Path, names: Iterable[str], model: str | Path) -> list[float]:
    """The probability of each clip."""
    paths = [str(folder / name) for name in names]
    with Scanner(model) as scanner:
        rows = {row["path"]: row for row in scanner.scan(paths)}
    for row in rows.values():
        if row["status"] != "ok":
            raise SystemExit(f"error: {row['error']['message']}")
    return [rows[path]["tasks"][TASK]["probability"] for path in paths]


def show(figures: dict[str, Any], terminal: Console) -> None:
    table = Table(title="AUROC [95 %]")
    for name in ("clips of held-out scenes", "embedded", "taught", "change"):
        table.add_column(name)
    for name, what in (("tape", "tape noise"), ("old", "grain as synthesised")):
        found = figures[name]
        cells = [f"{found[key]['auroc']:.3f} {span(found[key]['ci95'])}" for key in ("before", "after")]
        change = f"{found['change']['auroc']:+.3f} {span(found['change']['ci95'], '+.3f')}"
        table.add_row(f"{what} ({found['clips']} of {found['scenes']})", *cells, change)
    terminal.print(table)
    cost = figures["training"]
    terminal.print(
        f"Training took {cost['seconds'] / 60:.1f} minutes, {cost['processor_seconds'] / 60:.1f} of processor time. "
        f"Of the tape noise {figures['tape']['surviving']} codes survive the encoder (median)."
    )


def span(interval: list[float] | None, form: str = ".3f") -> str:
    return "" if interval is None else f"[{interval[0]:{form}}, {interval[1]:{form}}]"


if __name__ == "__main__":
    raise SystemExit(main())
