"""Which level of SVT-AV1's `--film-grain` describes the grain of a file.

Measured with SvtAv1EncApp 1.4.1 by `examples/grain/levels.py`: what the decoder adds grows with the level, to about
four codes of fine grain at the highest, and coarse grain, from 1.6 pixels on, is mostly taken for picture at any level.
For either a film-grain table (`grainscan.grain.table`) is the better way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grainscan.grain.character import Character

LEVELS = (1, 50)  # of SvtAv1EncApp --film-grain; 0 is off

_PER_CODE = 10.0  # levels per code of strength
_MOST = 5.0  # codes, for which the highest level is meant
_COARSE = 2.3  # pixels of `Character.size`: grain of 1.6 pixels


def film_grain_level(character: Character) -> int:
    """The level with which a strongly compressed clip keeps most of this grain."""
    return round(min(max(_PER_CODE * character.strength, LEVELS[0]), LEVELS[1]))


def falls_short(strength: float, horizontal: float, vertical: float) -> bool:
    """Whether no level adds as much grain as there is: it is stronger (codes) or coarser (pixels) than what they do."""
    return strength > _MOST or max(horizontal, vertical) >= _COARSE
