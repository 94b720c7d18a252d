"""Calibrate the suggested `--film-grain` level of SVT-AV1: `python examples/grain/levels.py CLIPS`.

The encoder removes grain up to a threshold that grows with the level, describes what it removed, and leaves the rest to
the quantiser. A level that is too low loses grain; one that is too high costs texture, which the denoiser takes for
grain. Clean clips get Gaussian grain of 2 to 16 codes and 0.7 to 2.5 pixels, are encoded at every level of LEVELS at a
usual quality, decoded, and what they have more than the clean clip is compared with the grain put in.

Printed are, per clip, the strengths at all levels over that put in, and the lowest level that keeps ENOUGH of it; in
the end the line through the origin, level = a * strength, that fits these levels: the constant of
`grainscan/grain/levels.py`.
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
QUALITY = 40  # crf
ENOUGH = 0.95
FRAMES, WIDTH, HEIGHT = 16, 480, 272


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of clean clips")
    parser.add_argument("--limit", type=int, default=16, metavar="N", help="the first N clips only; 0: all")
    parser.add_argument("--skip", default="", metavar="A,B", help="leave out clips whose names begin with these")
    options = parser.parse_args()
    need("SvtAv1EncApp")
    rows = []
    print(f"| clip | put in | size | measured | off | {' | '.join(map(str, LEVELS))} | suggested |")
    print("|---" * (len(LEVELS) + 6) + "|")
    clips = clean_clips(options.clips, frames=FRAMES, width=WIDTH, height=HEIGHT, skip=options.skip)
    for number, (name, clean) in enumerate(clips):
        if options.limit and number >= options.limit:
            break
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        sigma, size = (math.exp(rng.uniform(math.log(a), math.log(b))) for a, b in ((2, 16), (0.7, 2.5)))
        grainy = apply(clean, Recipe(seed=number, grain=Grain("gaussian", sigma, size=size, chroma=0.5))).affected
        character = characterise([found for window in windows(grainy) if (found := sample(window)) is not None])
        if character is None:
            continue
        put_in = statistics(grainy, clean)[0]
        kept = [statistics(svt(grainy, "--film-grain", str(level), "--crf", str(QUALITY)), clean)[0] / put_in
                for level in (0, *LEVELS)]  # fmt: skip
        enough = next((level for level, share in zip(LEVELS, kept[1:], strict=True) if share >= ENOUGH), LEVELS[-1])
        rows.append((character.strength, enough))
        shares = " | ".join(f"{share:.2f}" for share in kept)
        print(f"| {name} | {put_in:.1f} | {size:.1f} | {character.strength:.1f} | {shares} | {enough} |", flush=True)
    strength, level = np.array(rows, float).T
    inside = level < LEVELS[-1]
    print(f"\nlevel = {np.median(level[inside] / strength[inside]):.2f} * strength")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
