"""Which level of SVT-AV1's `--film-grain` keeps the grain of a file."""

from __future__ import annotations

from grainscan.grain.character import Character

LEVELS = (1, 50)  # of SvtAv1EncApp --film-grain; 0 is off


def film_grain_level(character: Character) -> int:
    return round(min(max(3 * character.strength, LEVELS[0]), LEVELS[1]))
