"""Calibrate the suggested `--film-grain` level of SVT-AV1: `python examples/grain/levels.py CLIPS`.

The encoder removes noise up to a deviation that grows with the level, describes what it has removed, and leaves the
rest to the quantiser. Clean clips get Gaussian grain of 1 to 8 codes and 0.7 to 2.5 pixels and are encoded at every
level of LEVELS, with a quantiser (crf) so coarse that little grain survives by itself, as is usual where film grain is
synthesised. What the decoded clip has more than the clean one is compared with the grain put in.

Printed are, per clip, the strengths at all levels over that put in; in the end, for several constants a, the mean
distance of that ratio from one if the level is a times the measured strength. The smallest a that comes within CLOSE of
the best is the constant of `grainscan/grain/levels.py`. Grain below LEAST is left out: the errors of so coarse a
quantiser are stronger.
"""

from __future__ import annotations

import argparse
import math
import zlib
from pathlib import Path

import numpy as np
from coders import clean_clips, need, statistics, svt, windows

from grainscan.data.synth import apply
from grainscan.data.synth.grain import Grain
from grainscan.data.synth.graininess import Recipe
from grainscan.grain.character import characterise
from grainscan.grain.sample import sample

LEVELS = (4, 8, 12, 18, 25, 35, 50)
QUALITY = 45  # crf
CLOSE = 0.02
LEAST = 1.5  # codes
CONSTANTS = (2, 3, 4, 6, 8, 10, 12, 15, 20)  # levels per code
FRAMES, WIDTH, HEIGHT = 16, 480, 272


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of clean clips")
    parser.add_argument("--limit", type=int, default=16, metavar="N", help="the first N clips only; 0: all")
    parser.add_argument("--skip", default="", metavar="A,B", help="leave out clips whose names begin with these")
    options = parser.parse_args()
    need("SvtAv1EncApp")
    rows = []
    print(f"| clip | put in | size | measured | off | {' | '.join(map(str, LEVELS))} |")
    print("|---" * (len(LEVELS) + 5) + "|")
    clips = clean_clips(options.clips, frames=FRAMES, width=WIDTH, height=HEIGHT, skip=options.skip)
    for number, (name, clean) in enumerate(clips):
        if options.limit and number >= options.limit:
            break
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        sigma, size = (math.exp(rng.uniform(math.log(a), math.log(b))) for a, b in ((1, 8), (0.7, 2.5)))
        grainy = apply(clean, Recipe(seed=number, grain=Grain("gaussian", sigma, size=size, chroma=0.5))).affected
        character = characterise([found for window in windows(grainy) if (found := sample(window)) is not None])
        if character is None:
            continue
        put_in = statistics(grainy, clean)[0]
        kept = [statistics(svt(grainy, "--film-grain", str(level), "--crf", str(QUALITY)), clean)[0] / put_in
                for level in (0, *LEVELS)]  # fmt: skip
        rows.append((put_in, character.strength, kept))
        shares = " | ".join(f"{share:.2f}" for share in kept)
        print(f"| {name} | {put_in:.1f} | {size:.1f} | {character.strength:.1f} | {shares} |", flush=True)
    counted = [(strength, kept) for put_in, strength, kept in rows if put_in >= LEAST]
    missed = {}
    for constant in CONSTANTS:
        levels = [min(max(constant * strength, 1), LEVELS[-1]) for strength, _ in counted]
        shares = [np.interp(level, (0, *LEVELS), kept) for level, (_, kept) in zip(levels, counted, strict=True)]
        missed[constant] = float(np.mean(np.abs(1 - np.array(shares))))
        print(f"level = {constant} * strength: {missed[constant]:.3f}")
    print("constant:", next(constant for constant, miss in missed.items() if miss <= min(missed.values()) + CLOSE))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
