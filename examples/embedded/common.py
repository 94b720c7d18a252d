"""What the scripts of this folder share: labelled folders of clips, draws by name, and stages run as commands."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

from grainscan import __version__, console
from grainscan.data.labels import write_labels
from grainscan.data.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from grainscan.errors import GrainscanError
from grainscan.video import Block

HERE = Path(__file__).parent
TASK = "graininess"

Entry = dict[str, Any]  # of a clip in a manifest
Job = TypeVar("Job")

logger = logging.getLogger("examples")


def log_to_stderr() -> None:
    """Show what the scripts log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


# ---------------------------------------------------------------------------------------------------- folders of clips


def write_set(folder: Path, clips: Mapping[str, Entry], *, script: str, seed: int = 0, **options: Any) -> None:
    """Write labels.json and manifest.json of a folder whose clips `script` has made."""
    options = {"made by": f"examples/{script}", **options}
    head = {"schema": MANIFEST_SCHEMA, "grainscan": __version__, "seed": seed, "options": options}
    write_manifest(folder, {**head, "clips": dict(clips)})
    write_labels(folder, {name: entry["labels"] for name, entry in clips.items()})  # a folder with labels is complete


def read_set(folder: Path, command: str) -> dict[str, Entry]:
    """The entries of a folder's manifest by clip. Without one, exits and names the command that makes the folder."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise SystemExit(f"error: {folder} has no manifest.json\nhint: run {command}")
    return dict(manifest["clips"])


def make_all(
    make: Callable[[Job, Path], dict[str, Entry]], jobs: Sequence[Job], folder: Path, *, workers: int
) -> dict[str, Entry]:
    """The entries of the clips of all jobs, made by several processes. Jobs that fail are left out with a warning."""
    clips: dict[str, Entry] = {}
    with ProcessPoolExecutor(workers) as pool:
        made = pool.map(partial(_attempt, make), jobs, [folder] * len(jobs))
        shown = track(made, folder.name, total=len(jobs), console=console.err(), transient=True)
        for job, entries in zip(jobs, shown, strict=True):
            if isinstance(entries, str):
                logger.warning("%s is left out: %s", job, entries.removeprefix(f"{job}: "))
            else:
                clips.update(entries)
    return clips


def _attempt(make: Callable[[Job, Path], dict[str, Entry]], job: Job, folder: Path) -> dict[str, Entry] | str:
    """The entries of a job, or why there are none."""
    try:
        return make(job, folder)
    except (GrainscanError, OSError, ValueError) as error:
        return str(error)


def middle(block: Block, width: int, height: int, *, grid: int) -> Block:
    """The middle of the pictures, at most `width` x `height`, its sides multiples of `grid` pixels."""
    width, height = min(block.width, width) // grid * grid, min(block.height, height) // grid * grid
    return block.crop((block.width - width) // 4 * 2, (block.height - height) // 4 * 2, width, height).copy()


def share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone: it decides on which side of a division a scene lies."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


# ------------------------------------------------------------------------------------------------------------- stages


def grainscan(*arguments: object, cwd: Path | None = None) -> None:
    """Run a grainscan command, shown as a user would type it. The first failure ends the script."""
    words = [str(argument) for argument in arguments]
    shown = words if len(words) < 16 else [*words[:2], "...", *words[-11:]]
    print("$ grainscan", shlex.join(shown), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "grainscan", *words], cwd=cwd, check=True)


def make_material(folder: Path, *arguments: object) -> Path:
    """Run `material.py FOLDER`, which keeps what is there already; the folder."""
    words = [os.fspath(HERE / "material.py"), os.fspath(folder), *map(str, arguments)]
    subprocess.run([sys.executable, *words], check=True)
    return folder
