"""Film-grain tables, which tell an encoder what grain to describe in the stream.

The text format of libaom ("filmgrn1"): aomenc reads it by --film-grain-table, SvtAv1EncApp by --fgs-table, rav1e by
--film-grain-table, and Av1an hands it on. Times are in units of 100 ns. Where no entry applies, there is no grain.

    filmgrn1
    E start end apply seed update
        p lag coefficient-shift scale-shift scaling-shift chroma-from-luma overlap cb-weights (3) cr-weights (3)
        sY  count level scaling level scaling ...
        sCb count ...
        sCr count ...
        cY  coefficients
        cCb coefficients, and that of luma
        cCr ...
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from grainscan.errors import DataError
from grainscan.files import write_text
from grainscan.video.film_grain import FilmGrain, Points

MAGIC = "filmgrn1"
TICKS = 10_000_000  # per second
FOREVER = (1 << 63) - 1  # ticks

_POINTS = {"sY": 14, "sCb": 10, "sCr": 10}  # at most
_LAGS = range(4)


@dataclass(frozen=True)
class Segment:
    """A stretch of time (seconds) with the same grain. `end` may be infinite."""

    start: float
    end: float
    grain: FilmGrain


def write_table(path: Path, segments: Sequence[Segment]) -> None:
    """Replace a table as a whole. Raises OutputError."""
    write_text(path, table(segments))


def table(segments: Sequence[Segment]) -> str:
    """The text of a table."""
    return "\n".join((MAGIC, *(line for segment in segments for line in _entry(segment)))) + "\n"


def _entry(segment: Segment) -> Iterator[str]:
    grain = segment.grain
    yield f"E {_ticks(segment.start)} {_ticks(segment.end)} 1 {grain.seed} 1"
    flags = (grain.lag, grain.coefficient_shift, grain.scale_shift, grain.scaling_shift, int(grain.chroma_from_luma),
             int(grain.overlap))  # fmt: skip
    weights = [part[i] for i in (0, 1) for part in (grain.chroma_weights, grain.luma_weights, grain.offsets)]
    yield f"\tp {_joined((*flags, *weights))}"
    for name, points in (("sY", grain.y), ("sCb", grain.cb), ("sCr", grain.cr)):
        yield f"\t{name} {_joined((len(points), *(number for point in points for number in point)))}"
    for name, values in (("cY", grain.coefficients_y), ("cCb", grain.coefficients_cb), ("cCr", grain.coefficients_cr)):
        yield f"\t{name} {_joined(values)}".rstrip()


def _joined(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _ticks(seconds: float) -> int:
    return FOREVER if math.isinf(seconds) else round(seconds * TICKS)


def read_table(path: Path) -> list[Segment]:
    """The segments of a table. Raises DataError for a file that is none, and for parameters out of range."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{path}: cannot be read: {reason}", hint="Name a film-grain table.") from None
    words = text.split()
    if not words or words[0] != MAGIC:
        raise DataError(f"{path}: is not a film-grain table: it does not begin with {MAGIC}", hint="Name another file.")
    reader = _Words(words[1:])
    segments: list[Segment] = []
    try:
        while reader.more:
            grain = segments[-1].grain if segments else None
            segments += [segment] if (segment := _segment(reader, grain)) else []
    except ValueError as error:
        raise DataError(
            f"{path}: entry {len(segments) + 1} of the film-grain table cannot be read: {error}",
            hint="Write it again with --grain-table, or compare it with one that aomenc writes.",
        ) from None
    return segments


class _Words:
    """The words of a table, taken one after the other. Raises ValueError for anything unexpected."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._next = 0

    @property
    def more(self) -> bool:
        return self._next < len(self._words)

    def name(self, expected: str) -> None:
        found = self._words[self._next] if self.more else "the end"
        if found != expected:
            raise ValueError(f"{found} stands where {expected} is expected")
        self._next += 1

    def numbers(self, count: int, least: int, most: int) -> tuple[int, ...]:
        found = tuple(int(word) for word in self._words[self._next : self._next + count])
        if len(found) < count:
            raise ValueError("it ends too early")
        if any(not least <= number <= most for number in found):
            raise ValueError(f"a number is not within {least} and {most}")
        self._next += count
        return found


def _segment(words: _Words, before: FilmGrain | None) -> Segment | None:
    """The next segment; None for one without grain. An entry without parameters repeats those of the entry before."""
    words.name("E")
    start, end = words.numbers(2, 0, FOREVER)
    apply, seed, update = words.numbers(3, 0, 0xFFFF)
    grain = _grain(words, seed) if update else before
    if not apply or grain is None:
        return None
    return Segment(start / TICKS, math.inf if end == FOREVER else end / TICKS, grain)


def _grain(words: _Words, seed: int) -> FilmGrain:
    words.name("p")
    lag, shift, scale_shift, scaling_shift, from_luma, overlap = words.numbers(6, 0, 11)
    if lag not in _LAGS:
        raise ValueError(f"a lag of {lag}")
    cb, cb_luma, cb_offset, cr, cr_luma, cr_offset = words.numbers(6, 0, 511)
    count = 2 * lag * (lag + 1)
    return FilmGrain(
        y=_points(words, "sY"),
        cb=_points(words, "sCb"),
        cr=_points(words, "sCr"),
        coefficients_y=_coefficients(words, "cY", count),
        coefficients_cb=_coefficients(words, "cCb", count + 1),
        coefficients_cr=_coefficients(words, "cCr", count + 1),
        lag=lag,
        coefficient_shift=shift,
        scale_shift=scale_shift,
        scaling_shift=scaling_shift,
        chroma_from_luma=bool(from_luma),
        overlap=bool(overlap),
        chroma_weights=(cb, cr),
        luma_weights=(cb_luma, cr_luma),
        offsets=(cb_offset, cr_offset),
        seed=seed,
    )


def _points(words: _Words, name: str) -> Points:
    words.name(name)
    (count,) = words.numbers(1, 0, _POINTS[name])
    numbers = words.numbers(2 * count, 0, 255)
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if any(first[0] >= second[0] for first, second in pairwise(points)):
        raise ValueError(f"the levels of {name} do not ascend")
    return points


def _coefficients(words: _Words, name: str, count: int) -> tuple[int, ...]:
    words.name(name)
    return words.numbers(count, -128, 127)
