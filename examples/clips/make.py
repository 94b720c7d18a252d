"""Make the tiny clips of this folder: `python examples/clips/make.py [DST]`.

The scenes are computed (`examples/embedded/procedural.py`), so that nothing in them has another owner. The clean ones
are full of what looks like noise: leaves in wind, stones under a moving camera, rippled water. The grainy ones carry
known grain of three kinds; the manifest says how much of it is left after encoding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grainscan.data.synth import apply, surviving
from grainscan.data.synth.grain import Grain, film_curve
from grainscan.data.synth.graininess import Recipe
from grainscan.video import PixelFormat, read_clip, write_clip

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.with_name("embedded")))

from camera import Canvas, Frames, Pose, shoot, to_block  # noqa: E402
from common import TASK, Entry, write_set  # noqa: E402
from procedural import Rng, clouds, foliage, grass, gravel, shapes, water  # noqa: E402

SIZE = (448, 252)
FRAMES = 32


@dataclass(frozen=True)
class Example:
    """A clip: its scene, its format and encoder, and its grain, if any."""

    name: str
    scene: Callable[[Rng], Frames]
    pix_fmt: str
    codec: str
    quality: int
    seed: int
    grain: Grain | None = None


def leaves(rng: Rng) -> Frames:
    """Leaves in front of a sky."""
    return _beside(foliage(rng, SIZE, FRAMES), sky(rng), _slope(rng))


def meadow(rng: Rng) -> Frames:
    """Grass under a sky."""
    return _beside(grass(rng, SIZE, FRAMES), sky(rng), _horizon(0.55))


def sky(rng: Rng) -> Frames:
    """Soft clouds on blue."""
    soft = clouds(rng, SIZE, FRAMES).mean(axis=-1, keepdims=True)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    blue, white = np.array([0.38, 0.58, 0.80]), np.array([0.88, 0.90, 0.92])
    return np.asarray(blue + soft * (white - blue), dtype=np.float32)


def shore(rng: Rng) -> Frames:
    """Water under a sky."""
    return _beside(water(rng, SIZE, FRAMES), sky(rng), _horizon(0.5))


def pebbles(rng: Rng) -> Frames:
    """Stones under a sky and a moving camera."""
    return _beside(gravel(rng, SIZE, FRAMES), sky(rng), _horizon(0.5))


def paper(rng: Rng) -> Frames:
    """Flat shapes that glide, in grey."""
    frames = shapes(rng, SIZE, FRAMES)
    return np.repeat(frames.mean(axis=-1, keepdims=True), 3, axis=-1) * np.float32(0.8) + np.float32(0.1)


def dusk(rng: Rng) -> Frames:
    """A dark gradient and a slow pan over leaves."""
    canvas = Canvas(np.repeat(np.repeat(foliage(rng, (560, 320), 1)[0], 2, 0), 2, 1), 1.0, 0.0)
    poses = [Pose(-20 + 0.7 * number, 0.2 * number) for number in range(FRAMES)]
    near = shoot(canvas, poses, SIZE, kernel="mitchell")
    return np.float32(0.45) * _beside(near, sky(rng), _horizon(0.4))


def _beside(busy: Frames, calm: Frames, cover: np.ndarray) -> Frames:
    return np.asarray(calm + cover[..., None] * (busy - calm), dtype=np.float32)


def _horizon(part: float) -> np.ndarray:
    """1 below the given part of the height, 0 above, with an edge of two pixels."""
    rows = np.arange(SIZE[1])[:, None] - (1 - part) * SIZE[1]
    return np.clip(rows / 2 + 0.5, 0, 1) * np.ones((1, SIZE[0]))


def _slope(rng: Rng) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]))
    turn = rng.uniform(0, 2 * np.pi)
    line = np.cos(turn) * x + np.sin(turn) * y + 0.1 * np.sin(5 * x + turn)
    return np.clip(line * SIZE[1] / 4 + 0.5, 0, 1)


EXAMPLES = (
    Example("clean_leaves.mp4", leaves, "yuv420p", "h264", 27, 11),
    Example("clean_pebbles.mkv", pebbles, "yuv420p", "hevc", 28, 12),
    Example("clean_shore.webm", shore, "yuv420p", "vp9", 30, 13),
    Example("grainy_fine.mp4", meadow, "yuv420p", "hevc", 27, 16, Grain("gaussian", 9, 1.2, gain=film_curve())),
    Example("grainy_film.mkv", paper, "yuv420p", "h264", 26, 15, Grain("film", 9, 2.8, gain=film_curve(1.3))),
    Example("grainy_10bit.mov", dusk, "yuv420p10le", "hevc", 26, 16, Grain("autoregressive", 7, 1.6, chroma=0.4)),
)


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder.mkdir(parents=True, exist_ok=True)
    clips = {example.name: make(example, folder / example.name) for example in EXAMPLES}
    write_set(folder, clips, script="clips/make.py")
    return 0


def make(example: Example, path: Path) -> Entry:
    """Write one clip; its entry in the manifest."""
    block = to_block(example.scene(np.random.default_rng(example.seed)), PixelFormat.of(example.pix_fmt))
    recipe = Recipe(seed=example.seed, grain=example.grain)
    made = apply(block, recipe)
    strength = 0.0
    if example.grain is not None:
        write_clip(path, made.clean, codec=example.codec, quality=example.quality)
        reference = read_clip(path)
        write_clip(path, made.affected, codec=example.codec, quality=example.quality)
        strength = surviving(reference, read_clip(path), made.added)
    else:
        write_clip(path, made.affected, codec=example.codec, quality=example.quality)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, strength {strength:.2f}")
    labels = {"labels": {TASK: int(example.grain is not None)}, "strength": {TASK: round(strength, 2)}}
    synthesis = recipe.to_dict() if example.grain else None
    return {"source": path.stem, "frames": FRAMES, **labels, "synthesis": synthesis}


if __name__ == "__main__":
    raise SystemExit(main())
