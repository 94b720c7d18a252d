"""From grain to a film-grain table and back: `python examples/grain/tables.py CLIPS`.

Each clean clip gets grain of known, random AV1 parameters, which a decoder makes: the table with the parameters goes
through aomenc. Its grain is measured as `grainscan predict --grain-table` does, the table is written, and aomenc
applies it to the clean clip. Strength and autocorrelation at a lag of one pixel of what the decoded clip has more than
the clean one are compared with those of the grainy clip by plain statistics.

Beside it, from the same grainy clip: aomenc with its own estimate (--denoise-noise-level), and SvtAv1EncApp with
--film-grain of the level that grainscan suggests. Needs aom-tools and svt-av1.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import zlib
from pathlib import Path

import numpy as np
from coders import aomenc, clean_clips, need, statistics, svt, windows

from grainscan.grain.character import characterise
from grainscan.grain.film import LAG, WHITE, coefficient_shift, film_grain, fit, gain, quantised
from grainscan.grain.levels import film_grain_level
from grainscan.grain.sample import LAGS, sample
from grainscan.grain.table import Segment, write_table
from grainscan.video.film_grain import FilmGrain

FRAMES, WIDTH, HEIGHT = 16, 640, 360
LEVEL = 25  # of aomenc's own estimate, 0 to 50
FWHM = 2.3548


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of clean clips")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="the first N clips only; 0: all")
    parser.add_argument("--skip", default="", metavar="A,B", help="leave out clips whose names begin with these")
    options = parser.parse_args()
    need("aomenc", "SvtAv1EncApp")
    columns: dict[str, list[tuple[float, float]]] = {}
    print("| clip | strength, lag 1 | table | Cb | aomenc's estimate | SVT-AV1, level |\n|---|---|---|---|---|---|")
    clips = clean_clips(options.clips, frames=FRAMES, width=WIDTH, height=HEIGHT, skip=options.skip)
    for number, (name, clean) in enumerate(clips):
        if options.limit and number >= options.limit:
            break
        known = draw(np.random.default_rng(zlib.crc32(name.encode())))
        grainy = with_table(clean, known)
        character = characterise([found for window in windows(grainy) if (found := sample(window)) is not None])
        if character is None:
            continue
        level = film_grain_level(character)
        made = with_table(clean, film_grain(character))
        found = {
            "original": statistics(grainy, clean),
            "table": statistics(made, clean),
            "aomenc": statistics(aomenc(grainy, f"--denoise-noise-level={LEVEL}"), clean),
            "svt": statistics(svt(grainy, "--film-grain", str(level)), clean),
        }
        chroma = statistics(grainy, clean, 1)[0], statistics(made, clean, 1)[0]
        for key, value in found.items():
            columns.setdefault(key, []).append(value)
        if known.cb:
            columns.setdefault("chroma", []).append(chroma)
        shown = {key: f"{value:.2f}, {lag:+.2f}" for key, (value, lag) in found.items()}
        print(f"| {name} | {shown['original']} | {shown['table']} | {chroma[0]:.2f} -> {chroma[1]:.2f} "
              f"| {shown['aomenc']} | {shown['svt']}, {level} |", flush=True)  # fmt: skip
    print("\n| | strength, median error | 90 % of clips | lag 1, median | 90 % of clips |\n|---|---|---|---|---|")
    original = np.array(columns["original"])
    for key in ("table", "aomenc", "svt"):
        made = np.array(columns[key])
        strength, lag = np.abs(made[:, 0] / original[:, 0] - 1), np.abs(made[:, 1] - original[:, 1])
        print(f"| {key} | {np.median(strength):.1%} | {np.quantile(strength, 0.9):.1%} "
              f"| {np.median(lag):.3f} | {np.quantile(lag, 0.9):.3f} |")  # fmt: skip
    if "chroma" in columns:
        error = [abs(after / before - 1) for before, after in columns["chroma"]]
        print(f"| table, Cb | {np.median(error):.1%} | {np.quantile(error, 0.9):.1%} | | |")
    return 0


def with_table(block, grain: FilmGrain):  # type: ignore[no-untyped-def]
    """The block through aomenc with a table of one entry."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "grain.tbl")
        write_table(path, [Segment(0, math.inf, grain)])
        return aomenc(block, f"--film-grain-table={path}")


def draw(rng: np.random.Generator) -> FilmGrain:
    """Random parameters: grain of 0.7 to 2.5 pixels and 2 to 14 codes, its strength any function of luma."""
    size = math.exp(rng.uniform(math.log(0.7), math.log(2.5)))
    down, across = np.arange(LAGS)[:, None], np.arange(1 - LAGS, LAGS)[None]
    solved = fit(np.exp(-(down**2 + across**2) / (4 * (size / FWHM) ** 2)))
    shift, scaling_shift = coefficient_shift(solved), 9
    values = quantised(solved, shift)
    amplified = WHITE * gain(np.array(values) / (1 << shift))
    scale_shift = 0 if amplified < 40 else 1 if amplified < 80 else 2
    unit = amplified / (1 << scale_shift) / (1 << scaling_shift)
    sigma = math.exp(rng.uniform(math.log(2), math.log(14)))
    levels = (0, 60, 120, 180, 255)
    shape = rng.uniform(0.5, 1.0, len(levels))
    ratio = float(rng.choice([0.0, 0.4, 0.8]))

    def points(factor: float) -> tuple[tuple[int, int], ...]:
        scaling = np.clip(np.round(factor * sigma * shape / unit), 0, 255).astype(int)
        return tuple(zip(levels, map(int, scaling), strict=True))

    none = (0,) * (2 * LAG * (LAG + 1) + 1)
    return FilmGrain(
        y=points(1.0),
        cb=points(ratio) if ratio else (),
        cr=points(ratio) if ratio else (),
        coefficients_y=values,
        coefficients_cb=(*values, 0) if ratio else none,
        coefficients_cr=(*values, 0) if ratio else none,
        lag=LAG,
        coefficient_shift=shift,
        scale_shift=scale_shift,
        scaling_shift=scaling_shift,
    )


if __name__ == "__main__":
    raise SystemExit(main())
