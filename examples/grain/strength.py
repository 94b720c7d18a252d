"""How far the measured character of grain can be trusted: `python examples/grain/strength.py CLIPS [-o CASES.jsonl]`.

Known grain is added to clean clips, which `examples/embedded/material.py` writes (DIR/held-out for figures, DIR/scenes
for `--calibrate`), encoded, decoded and measured. Strengths are drawn from 2 to 20 codes and sizes from 0.7 to 3
pixels, evenly on a logarithmic scale; every other clip has grain in luma alone. Each clip appears once for each of
FFV1, HEVC and H.264 at QP 22, with other grain.

The truth is what survived the encoder: of strength, the root of the covariance of decoded grainy minus decoded clean
with the grain put in (`grainscan.data.synth.surviving`), over the picture and over the pixels of each band of luma that
holds at least 5 % of it; of size, the width of the autocorrelation of decoded grainy minus decoded clean; of chroma,
the deviation of that difference. Clips whose surviving grain is below one code are not counted: nobody sees it.

`--calibrate` prints the constants of the interval in `grainscan/grain/character.py`; never use the clips that are
measured for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth import Generation, apply, surviving
from grainscan.data.synth.encoding import encode
from grainscan.data.synth.grain import FLAT, Grain, film_curve, sensor_curve
from grainscan.data.synth.graininess import Recipe
from grainscan.errors import GrainscanError
from grainscan.grain import BANDS, WIDTH
from grainscan.grain.character import characterise, curve_of, features, joined, width_at_half
from grainscan.grain.sample import sample
from grainscan.video import Block, Window, read_clip

CODECS = {"ffv1": (), "hevc": (Generation("hevc", 22, speed=1),), "h264": (Generation("h264", 22, speed=1),)}
KINDS = {"gaussian": 0.45, "film": 0.2, "autoregressive": 0.15, "white": 0.1, "band": 0.1}
FRAMES = 8  # of a window, as in `predict`
WINDOWS = 2
WIDEST, HIGHEST = 640, 360  # pixels; larger clips are cropped
LEAST = 1.0  # codes: weaker grain is not counted
SHARE = 0.05  # of the picture: smaller bands are not counted
LAGS = 8
QUANTILE = 0.9


@dataclass(frozen=True)
class Case:
    """A clip, its number among those of the same clip, and an encoder."""

    path: Path
    codec: str
    number: int

    def rng(self) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.path.stem}/{self.codec}/{self.number}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of clean clips")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the cases here, one JSON line each")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="use N clips, spread over all; 0: all")
    parser.add_argument("--skip", default="", metavar="A,B", help="leave out clips whose names begin with these")
    parser.add_argument("--calibrate", action="store_true", help="print the constants of the interval")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    skipped = tuple(filter(None, options.skip.split(",")))
    paths = sorted(path for path in options.clips.glob("*.mkv") if not skipped or not path.name.startswith(skipped))
    cases = [
        Case(path, codec, number)
        for number, path in enumerate(paths[:: max(1, len(paths) // options.limit) if options.limit else 1])
        for codec in CODECS
    ]
    rows = []
    with ProcessPoolExecutor(options.workers) as pool, Path(options.output or os.devnull).open("w") as output:
        for row in filter(None, pool.map(measure, cases)):
            rows.append(row)
            print(json.dumps(row), file=output, flush=True)
    counted = [row for row in rows if row["truth"] >= LEAST]
    print(f"{len(counted)} of {len(rows)} clips with at least {LEAST:g} code of surviving grain\n")
    print("\n".join(table(counted)))
    if options.calibrate:
        print(calibration(counted))
    return 0


def measure(case: Case) -> dict[str, Any] | None:
    """One case: its truth and what was measured. None for clips that are too short or of another format."""
    try:
        block = read_clip(case.path, frames=FRAMES * WINDOWS)
    except GrainscanError:
        return None
    if block.frames < FRAMES * WINDOWS or block.format.name != "yuv420p":
        return None
    wide, high = min(block.width, WIDEST) // 16 * 16, min(block.height, HIGHEST) // 16 * 16
    block = block.crop((block.width - wide) // 4 * 2, (block.height - high) // 4 * 2, wide, high).copy()
    rng = case.rng()
    grain = draw(rng, colour=case.number % 2 == 0)
    made = apply(block, Recipe(seed=int(rng.integers(1 << 31)), grain=grain))
    clean, grainy = (encode(each, CODECS[case.codec]) for each in (made.clean, made.affected))
    samples = [found for window in windows(grainy) if (found := sample(window)) is not None]
    character = characterise(samples)
    if character is None:
        return None
    change = grainy.luma8() - clean.luma8()
    return {
        "clip": case.path.name,
        "codec": case.codec,
        "kind": grain.kind,
        "put_in": float(made.added.std()),
        "grain_size": grain.size,
        "colour": grain.chroma > 0,
        "truth": surviving(clean, grainy, made.added),
        "strength": character.strength,
        "interval": character.interval,
        "features": features(curve_of(samples, "y"), joined(samples, "level"), character.shares),
        "bands": [
            (truth, float(character.curves["y"][band])) for band, truth in true_bands(clean, made.added, change).items()
        ],
        "sizes": list(zip(true_size(change), character.size, strict=True)),
        "chroma": [
            (float((after.astype(np.float32) - before).std()), character.mean(plane))
            for plane, after, before in zip(("cb", "cr"), grainy.planes[1:], clean.planes[1:], strict=True)
            if grain.chroma
        ],
        "temporal": character.temporal,
    }


def draw(rng: np.random.Generator, *, colour: bool) -> Grain:
    """Random grain."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    size = math.exp(rng.uniform(math.log(0.7), math.log(3)))
    gain = (FLAT, film_curve(float(rng.uniform(0.7, 1.6))), sensor_curve(0.05))[int(rng.integers(3))]
    chroma = float(rng.uniform(0.3, 0.9)) if colour else 0.0
    sigma = math.exp(rng.uniform(math.log(2), math.log(20)))
    return Grain(kind, sigma, size=max(size, 1.0) if kind in ("film", "band") else size, gain=gain, chroma=chroma)


def windows(block: Block) -> Iterable[Window]:
    for start in range(0, block.frames - FRAMES + 1, FRAMES):
        pictures = tuple(tuple(plane[i] for plane in block.planes) for i in range(start, start + FRAMES))
        yield Window(start / 25, (start + FRAMES) / 25, block.format, pictures)


def true_bands(clean: Block, added: NDArray[Any], change: NDArray[Any]) -> dict[int, float]:
    """Surviving strength in each band of luma that holds enough of the picture."""
    level = clean.luma8() // WIDTH
    found = {}
    for band in range(BANDS):
        inside = level == band
        if inside.mean() >= SHARE:
            put, left = added[inside], change[inside]
            survived = float(np.sqrt(max(0.0, np.mean((put - put.mean()) * (left - left.mean()), dtype=np.float64))))
            if survived >= LEAST / 2:
                found[band] = survived
    return found


def true_size(change: NDArray[Any]) -> tuple[float, float]:
    """(horizontal, vertical) width of the autocorrelation of grain (frames, height, width)."""
    change = change - change.mean(axis=(1, 2), keepdims=True)
    power = float(np.square(change).mean(dtype=np.float64))
    across, down = [1.0], [1.0]
    for lag in range(1, LAGS):
        across.append(float((change[:, :, lag:] * change[:, :, :-lag]).mean(dtype=np.float64)) / power)
        down.append(float((change[:, lag:] * change[:, :-lag]).mean(dtype=np.float64)) / power)
    return width_at_half(np.array(across)), width_at_half(np.array(down))


def table(rows: list[dict[str, Any]]) -> Iterable[str]:
    """The figures as a Markdown table."""
    yield "| clips | n | strength | within 10 % | band | size | chroma | inside the interval | its width |"
    yield "|---|---|---|---|---|---|---|---|---|"
    groups = {
        "all": rows,
        **{codec: [row for row in rows if row["codec"] == codec] for codec in CODECS},
        "luma and chroma": [row for row in rows if row["colour"]],
        "luma only": [row for row in rows if not row["colour"]],
        "2 to 5 codes": [row for row in rows if row["put_in"] < 5],
        "coarse, from 1.5 pixels": [row for row in rows if row["grain_size"] >= 1.5],
    }
    for name, group in groups.items():
        if not group:
            continue
        errors = np.array([abs(row["strength"] / row["truth"] - 1) for row in group])
        inside = [row["interval"][0] <= row["truth"] <= row["interval"][1] for row in group]
        width = np.median([row["interval"][1] / row["strength"] - 1 for row in group])
        pairs = (_median_error(pair for row in group for pair in row[key]) for key in ("bands", "sizes", "chroma"))
        yield (
            f"| {name} | {len(group)} | {np.median(errors):.1%} | {np.mean(errors < 0.1):.0%} | {' | '.join(pairs)} "
            f"| {np.mean(inside):.0%} | +{width:.0%} |"
        )


def _median_error(pairs: Iterable[tuple[float, float]]) -> str:
    errors = [abs(found / truth - 1) for truth, found in pairs]
    return f"{np.median(errors):.1%}" if errors else "-"


def calibration(rows: list[dict[str, Any]]) -> str:
    """Constants of the interval: quantile regression of the log error on the features, none of them negative."""
    from scipy.optimize import minimize

    error = np.array([abs(math.log(row["strength"] / row["truth"])) for row in rows])
    design = np.array([(1.0, *row["features"]) for row in rows])

    def loss(log_weights: NDArray[np.float64]) -> float:
        over = error - design @ np.exp(log_weights)
        return float(np.where(over > 0, QUANTILE * over, (QUANTILE - 1) * over).mean())

    starts = np.log([(0.05, 0.5, 0.5), (0.1, 0.1, 1.0), (0.02, 1.0, 0.1)])
    tried = [minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000}) for start in starts]
    best = min(tried, key=lambda found: found.fun)
    covered = np.mean(error <= design @ np.exp(best.x))
    return "\nconstants: " + ", ".join(f"{value:.3f}" for value in np.exp(best.x)) + f" (covered: {covered:.1%})"


if __name__ == "__main__":
    raise SystemExit(main())
