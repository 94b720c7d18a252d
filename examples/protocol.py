"""Make the protocol set: `python examples/protocol.py DST [--material DIR]`.

Known grain through a known encoder, in the manner of BVI-Artefact (Feng et al., 2024), from scenes that training never
saw: the clips that `material.py` writes to DIR/held-out (made first if no DIR is given).

Every scene once without grain and once with grain of each sigma; each of these encoded with HEVC (x265, constant
quantiser) at each QP:

    DST/qp22/  DST/qp32/  DST/qp47/   SCENE_WIDTHxHEIGHT_qp32_s10.mp4, labels.json, manifest.json
    DST/labels.json, DST/manifest.json    all of them in one

so that `grainscan eval DST/qp32` and `grainscan eval DST` both work. An interrupted run goes on where it stopped.

The grain is Gaussian, independent from frame to frame, 1.0 to 1.6 pixels wide (full width at half maximum), strongest
in the mid-tones as on film; sigma is its standard deviation over the clip in 8-bit luma codes before encoding.

The label is by what survives the encoder: `strength` in the manifest is the deviation of the surviving grain, the root
of the covariance of decoded grainy minus decoded clean and the grain put in (`grainscan.synth.surviving`). Grain that
the encoder removed is labelled 0, grain in between has no label. `sigma` and `qp` stand in the manifest;
`protocol_report.py` gives the figures by both, whatever survived.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from material import HELD_OUT
from rich.console import Console
from rich.progress import Progress

from grainscan import __version__
from grainscan.data.labels import write_labels
from grainscan.data.manifest import read_manifest, write_manifest
from grainscan.data.synth import Generation, apply, surviving
from grainscan.data.synth.grain import Grain, film_curve
from grainscan.data.synth.graininess import Recipe
from grainscan.errors import GrainscanError
from grainscan.files import write_text
from grainscan.video import Block, read_clip, write_clip

logger = logging.getLogger("protocol")

QPS = (22, 32, 47)
SIGMAS = (0, 5, 10, 25, 50)
FRAMES = 32
PRESETS = ("medium", "veryfast", "ultrafast")  # of x265, by the speed of grainscan.video
GRID = 8  # sides are cut to a multiple of this


@dataclass(frozen=True)
class Scene:
    """A held-out clip. `frames`, `speed` and `limit` (the larger side in pixels, 0: none) are how it is encoded."""

    name: str
    path: Path
    kind: str
    seed: int
    frames: int = FRAMES
    speed: int = 1
    limit: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}_{self.seed}_{self.frames}_{self.speed}_{self.limit}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, metavar="DST")
    parser.add_argument("--material", type=Path, metavar="DIR", help="of material.py; else made here")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--preset", choices=PRESETS, default="veryfast", help="of x265")
    parser.add_argument("--limit", type=int, default=0, metavar="PIXELS", help="crop to this width, and 9/16 of it")
    parser.add_argument("--scenes", type=int, default=0, help="the first N scenes only; 0: all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()
    scenes = find_scenes(options.material or _made(options.destination / "material"), options.seed)
    how = {"frames": options.frames, "speed": PRESETS.index(options.preset), "limit": options.limit}
    scenes = [replace(scene, **how) for scene in scenes[: options.scenes or None]]
    for name in ("finished", *(f"qp{qp}" for qp in QPS)):
        (options.destination / name).mkdir(parents=True, exist_ok=True)
    count = len(scenes)
    clips: dict[str, dict[str, Any]] = {}
    bar = Progress(console=Console(stderr=True))
    with bar, ProcessPoolExecutor(options.workers) as pool:
        task = bar.add_task("protocol", total=count)
        for made in pool.map(_attempt, scenes, [options.destination] * count):
            clips.update(made)
            bar.advance(task)
    for qp in QPS:
        folder = f"qp{qp}"
        part = {name.removeprefix(f"{folder}/"): entry for name, entry in clips.items() if name.startswith(folder)}
        _describe(options.destination / folder, part, options.seed)
    _describe(options.destination, clips, options.seed)
    logger.info("%d clips of %d scenes, %.0f s", len(clips), count, time.monotonic() - started)
    return 0


def find_scenes(material: Path, seed: int) -> list[Scene]:
    """The held-out clips of the material, sorted by name."""
    folder = material / HELD_OUT
    manifest = read_manifest(folder)
    if manifest is None:
        raise SystemExit(f"error: {folder} has no manifest.json; run: python examples/material.py {material}")
    entries = manifest["clips"]
    return [Scene(entries[name]["source"], folder / name, entries[name]["kind"], seed) for name in sorted(entries)]


def _made(folder: Path) -> Path:
    script = Path(__file__).with_name("material.py")
    subprocess.run([sys.executable, os.fspath(script), os.fspath(folder), "--only", HELD_OUT], check=True)
    return folder


def _describe(folder: Path, clips: dict[str, dict[str, Any]], seed: int) -> None:
    write_labels(folder, {name: entry["labels"] for name, entry in clips.items()})
    options = {"made by": "examples/protocol.py", "qps": list(QPS), "sigmas": list(SIGMAS), "codec": "hevc"}
    write_manifest(folder, {"schema": 1, "grainscan": __version__, "seed": seed, "options": options, "clips": clips})


def _attempt(scene: Scene, destination: Path) -> dict[str, dict[str, Any]]:
    """The entries of a scene, read back where an earlier run had finished it."""
    finished = destination / "finished" / f"{scene.key}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text(encoding="utf-8")))
    try:
        made = make(scene, destination)
    except GrainscanError as error:
        logger.warning("%s is left out: %s", scene.name, error)
        return {}
    write_text(finished, json.dumps(made))
    return made


def make(scene: Scene, destination: Path) -> dict[str, dict[str, Any]]:
    """The clips of a scene; their manifest entries by name relative to the destination."""
    block = _cropped(read_clip(scene.path, frames=scene.frames), scene.limit)
    made = {}
    references: dict[int, Block] = {}
    for sigma in SIGMAS:
        recipe = Recipe(seed=_seed(scene, sigma), grain=_grain(scene, sigma))
        synthesis = apply(block, recipe)
        for qp in QPS:
            name = f"qp{qp}/{scene.name}_{block.width}x{block.height}_qp{qp}_s{sigma:02d}.mp4"
            write_clip(destination / name, synthesis.affected, codec="hevc", quality=qp, speed=scene.speed)
            decoded = read_clip(destination / name)
            references.setdefault(qp, decoded)
            strength = surviving(references[qp], decoded, synthesis.added) if sigma else 0.0
            generation = Generation("hevc", qp, None, scene.speed)
            made[name] = {
                "source": scene.name, "kind": scene.kind, "file": scene.path.name, "frames": block.frames,
                "labels": {"graininess": Recipe.label_of(strength)}, "strength": {"graininess": round(strength, 3)},
                "sigma": sigma, "qp": qp, "put_in": round(float(synthesis.added.std()), 3),
                "synthesis": Recipe(seed=recipe.seed, grain=recipe.grain, encode=(generation,)).to_dict(),
            }  # fmt: skip
    return made


def _cropped(block: Block, limit: int) -> Block:
    """The middle of the pictures, its sides multiples of GRID."""
    width = min(block.width, limit or block.width) // GRID * GRID
    height = min(block.height, limit * 9 // 16 or block.height) // GRID * GRID
    left, top = (block.width - width) // 4 * 2, (block.height - height) // 4 * 2
    return block.crop(left, top, width, height).copy()


def _grain(scene: Scene, sigma: int) -> Grain | None:
    if not sigma:
        return None
    size = np.random.default_rng(_seed(scene, 0)).uniform(1.0, 1.6)
    return Grain("gaussian", float(sigma), size=round(float(size), 3), gain=film_curve())


def _seed(scene: Scene, sigma: int) -> int:
    digest = hashlib.sha256(f"{scene.seed}/{scene.name}/{sigma}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


if __name__ == "__main__":
    raise SystemExit(main())
