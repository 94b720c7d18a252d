"""Make the protocol set: `python examples/embedded/protocol.py DST [--material DIR]`.

Known grain through a known encoder, in the manner of BVI-Artefact (Feng et al., 2024), from scenes that training never
saw: the clips that `material.py` writes to DIR/held-out (made first if no DIR is given).

Every scene is written once without grain and once with grain of each sigma; each of these is encoded with HEVC (x265,
constant quantiser) at each QP:

    DST/qp22/  DST/qp32/  DST/qp47/   SCENE_WIDTHxHEIGHT_qp32_s10.mp4, labels.json, manifest.json
    DST/labels.json, DST/manifest.json    all of them in one

so that `grainscan eval DST/qp32` and `grainscan eval DST` both work. An interrupted run continues where it stopped.

The grain is Gaussian, independent from frame to frame, 1.0 to 1.6 pixels wide (full width at half maximum), strongest
in the mid-tones as on film; sigma is its standard deviation over the clip in 8-bit luma codes before encoding.

The label depends on what survives the encoder: `strength` in the manifest is the standard deviation of the surviving
grain, the root of the covariance of decoded grainy minus decoded clean and the grain put in
(`grainscan.data.synth.surviving`). Grain that the encoder removed is labelled 0, grain in between has no label. `sigma`
and `qp` are in the manifest; `protocol_report.py` gives the figures by both, whatever survived.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import TASK, Entry, log_to_stderr, logger, make_all, make_material, middle, read_set, write_set
from material import HELD_OUT

from grainscan.data.synth import Generation, apply, surviving
from grainscan.data.synth.grain import Grain, film_curve
from grainscan.data.synth.graininess import Recipe
from grainscan.files import write_json
from grainscan.video import Block, read_clip, write_clip

QPS = (22, 32, 47)
SIGMAS = (0, 5, 10, 25, 50)
FRAMES = 32
PRESETS = ("medium", "veryfast", "ultrafast")  # of x265, by the speed of grainscan.video
GRID = 8  # pixels; sides are cut to a multiple of it


@dataclass(frozen=True)
class Scene:
    """A held-out clip, and how it is encoded: `limit` is the largest width in pixels, 0 for none."""

    name: str
    path: Path
    kind: str
    seed: int
    frames: int = FRAMES
    speed: int = 1
    limit: int = 0

    def __str__(self) -> str:
        return self.name

    @property
    def key(self) -> str:
        return f"{self.name}_{self.seed}_{self.frames}_{self.speed}_{self.limit}"


Make = Callable[[Scene, Path], dict[str, Entry]]


def main() -> int:
    return make_protocol(make, __doc__, "embedded/protocol.py", QPS, sigmas=list(SIGMAS))


def make_protocol(make: Make, about: str | None, script: str, qps: Sequence[int], **said: Any) -> int:
    """The command line of a protocol: the clips of every scene, by `make`, into a folder for each QP."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, metavar="DST")
    parser.add_argument("--material", type=Path, metavar="DIR", help="written by material.py (default: made first)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames per clip")
    parser.add_argument("--preset", choices=PRESETS, default="veryfast", help="of x265")
    parser.add_argument("--limit", type=int, default=0, metavar="PIXELS", help="crop to this width, and 9/16 of it")
    parser.add_argument("--scenes", type=int, default=0, metavar="N", help="only N scenes, of all sorts; 0: all")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args()
    log_to_stderr()
    started = time.monotonic()
    folder: Path = options.destination
    material = options.material or make_material(folder / "material", "--only", HELD_OUT)
    how = {"frames": options.frames, "speed": PRESETS.index(options.preset), "limit": options.limit}
    found = find_scenes(material, options.seed)
    number = min(options.scenes or len(found), len(found))
    scenes = [replace(found[i * len(found) // number], **how) for i in range(number)]
    for name in ("finished", *(f"qp{qp}" for qp in qps)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    clips = make_all(partial(_once, make), scenes, folder, workers=options.workers)
    for part in (*(f"qp{qp}/" for qp in qps), ""):
        chosen = {name.removeprefix(part): entry for name, entry in clips.items() if name.startswith(part)}
        write_set(folder / part, chosen, script=script, seed=options.seed, qps=list(qps), **said, codec="hevc")
    logger.info("%d clips of %d scenes, %.0f s", len(clips), len(scenes), time.monotonic() - started)
    return 0


def find_scenes(material: Path, seed: int) -> list[Scene]:
    """The held-out clips of the material, sorted by name."""
    folder = material / HELD_OUT
    entries = read_set(folder, f"python examples/embedded/material.py {material}")
    return [Scene(entries[name]["source"], folder / name, entries[name]["kind"], seed) for name in sorted(entries)]


def _once(make: Make, scene: Scene, destination: Path) -> dict[str, Entry]:
    """The entries of a scene, read back if an earlier run has finished it."""
    finished = destination / "finished" / f"{scene.key}.json"
    if finished.is_file():
        return dict(json.loads(finished.read_text(encoding="utf-8")))
    made = make(scene, destination)
    write_json(finished, made)
    return made


def read_scene(scene: Scene) -> Block:
    """The pictures of a scene, the middle of them if its width is limited."""
    block = read_clip(scene.path, frames=scene.frames)
    return middle(block, scene.limit or block.width, scene.limit * 9 // 16 or block.height, grid=GRID)


def make(scene: Scene, destination: Path) -> dict[str, Entry]:
    """Write the clips of a scene; their entries in the manifest by name relative to the destination."""
    block = read_scene(scene)
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
                "labels": {TASK: Recipe.label_of(strength)}, "strength": {TASK: round(strength, 3)},
                "sigma": sigma, "qp": qp, "put_in": round(float(synthesis.added.std()), 3),
                "synthesis": Recipe(seed=recipe.seed, grain=recipe.grain, encode=(generation,)).to_dict(),
            }  # fmt: skip
    return made


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
