"""Footage to follow the tutorial with: `python examples/pages/footage.py [--clips 100] [--frames 24]`.

Writes to the current folder:

    footage/       clips of computed scenes with labels.json, every second one with the noise of analogue video tape,
                   which the embedded model does not know
    new-footage/   a few more, without labels
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from grainscan.data.synth.stack import add_luma, from_block
from grainscan.data.synth.stack import to_block as from_stack
from grainscan.video import PixelFormat, write_clip

sys.path.insert(0, str(Path(__file__).parents[1] / "embedded"))

from camera import to_block
from procedural import SCENES
from teach import Tape

SIZE = (256, 192)
NEW = 6  # clips in new-footage/


@dataclass(frozen=True)
class Clip:
    """A clip to make: the seed decides on its scene and its noise."""

    name: str
    seed: int
    noisy: bool
    frames: int


def make(clip: Clip, folder: Path) -> None:
    """Write a clip, encoded by H.264 at ordinary quality."""
    rng = np.random.default_rng(clip.seed)
    scene = list(SCENES.values())[clip.seed // 2 % len(SCENES)]
    block = to_block(scene(rng, SIZE, clip.frames), PixelFormat.of("yuv420p"))
    if clip.noisy:
        stack = from_block(block)
        block = from_stack(add_luma(stack, Tape.draw(rng).field(stack.shape, rng)))
    write_clip(folder / clip.name, block, codec="h264", quality=int(rng.integers(20, 27)), speed=1)


def write(folder: Path, clips: list[Clip]) -> None:
    """Make clips in a folder, on all processors."""
    try:
        folder.mkdir()
    except FileExistsError:
        sys.exit(f"{folder}/ exists already: remove it, or start in another folder")
    with ProcessPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(partial(make, folder=folder), clips), 1):
            if done % 10 == 0 or done == len(clips):
                print(f"{folder}/: {done} of {len(clips)} clips", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100, metavar="N", help="clips in footage/ (default: 100)")
    parser.add_argument("--frames", type=int, default=24, metavar="N", help="frames of each clip (default: 24)")
    options = parser.parse_args()
    clips = [Clip(f"reel{n + 1:03}.mp4", n, bool(n % 2), options.frames) for n in range(options.clips)]
    write(Path("footage"), clips)
    labels = {clip.name: int(clip.noisy) for clip in clips}
    Path("footage/labels.json").write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")
    write(Path("new-footage"), [Clip(f"new{n + 1}.mp4", 1000 + n, bool(n % 2), options.frames) for n in range(NEW)])


if __name__ == "__main__":
    main()
