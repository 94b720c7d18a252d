"""The `grain` object of a result, and the film-grain table in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from grainscan.grain.character import Character, characterise
from grainscan.grain.film import film_grain
from grainscan.grain.levels import film_grain_level
from grainscan.grain.sample import Sample
from grainscan.grain.table import Segment
from grainscan.video.film_grain import FilmGrain

TASK = "graininess"
CONSTANT = 1.3  # strengths of neighbouring windows that differ by less than this factor are one stretch


@dataclass(frozen=True, eq=False)
class Piece:
    """A window: its time in seconds, its sample, and whether it was judged grainy."""

    start: float
    end: float
    sample: Sample
    grainy: bool


def describe(pieces: Sequence[Piece]) -> dict[str, Any] | None:
    """The `grain` object for the windows of a file, in order of time. None where nothing could be measured."""
    character = characterise([piece.sample for piece in pieces if piece.grainy] or [piece.sample for piece in pieces])
    if character is None:
        return None
    segments = [
        {"start": start, "end": None if math.isinf(end) else end, "strength": round(part.strength, 3),
         "film_grain": asdict(film_grain(part))}
        for start, end, part in stretches(pieces)
    ]  # fmt: skip
    return {**character.to_dict(), "film_grain_level": film_grain_level(character), "segments": segments}


def stretches(pieces: Sequence[Piece]) -> list[tuple[float, float, Character]]:
    """Stretches of constant grain: (start, end, character). They meet halfway between windows; the last has no end.

    Neighbouring grainy windows belong together as long as none differs from the whole by the factor CONSTANT. A stretch
    whose windows were not judged grainy is left out, unless none was.
    """
    any_grainy = any(piece.grainy for piece in pieces)
    runs: list[tuple[list[Piece], Character | None]] = []
    for piece in pieces:
        own = characterise([piece.sample]) if piece.grainy or not any_grainy else None
        if runs and _alike(runs[-1][1], own):
            together = [*runs[-1][0], piece]
            runs[-1] = (together, own and characterise([each.sample for each in together]))
        else:
            runs.append(([piece], own))
    found, start = [], 0.0
    for number, (run, character) in enumerate(runs):
        last = number == len(runs) - 1
        end = math.inf if last else round((run[-1].end + runs[number + 1][0][0].start) / 2, 3)
        if character is not None:
            found.append((start, end, character))
        start = end
    return found


def _alike(first: Character | None, second: Character | None) -> bool:
    if first is None or second is None:
        return first is second
    return max(first.strength, second.strength) <= CONSTANT * min(first.strength, second.strength)


def segments_of(grain: Mapping[str, Any]) -> list[Segment]:
    """The segments of a film-grain table from the `grain` object of a result."""
    return [
        Segment(
            float(each["start"]), math.inf if each["end"] is None else float(each["end"]), _read(each["film_grain"])
        )
        for each in grain["segments"]
    ]


def _read(values: Mapping[str, Any]) -> FilmGrain:
    points = {name: tuple((int(level), int(scaling)) for level, scaling in values[name]) for name in ("y", "cb", "cr")}
    lists = {name: tuple(map(int, value)) for name, value in values.items()
             if isinstance(value, list | tuple) and name not in points}  # fmt: skip
    return FilmGrain(**{**values, **lists, **points})


def grain_of(
    windows: Sequence[tuple[Mapping[str, float], Sample | None]],
    verdict: Mapping[str, Any] | None,
    carried: Mapping[str, Any] | None,
    bare: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """The `grain` object of a file: the character of its grain if it is grainy, and what its stream says.

    `windows` are those of a result, each with its sample; `verdict` that on the graininess of the file, if any.
    `carried` is a `Carried` as a dictionary, and `bare` are samples of pictures without the grain that it describes.
    """
    threshold = verdict["threshold"] if verdict else 0.0
    pieces = [Piece(window["start"], window["end"], sample, window.get(TASK, 1.0) >= threshold)
              for window, sample in windows if sample is not None]  # fmt: skip
    found = (describe(pieces) or {}) if verdict is None or verdict["label"] else {}
    if carried is not None:
        full, without = [piece.sample for piece in pieces], [Sample.from_dict(each) for each in bare]
        strengths = {"with": characterise(full), "without": characterise(without)}
        found["metadata"] = {
            "kind": carried["kind"],
            "strength": {name: round(part.strength, 3) if part else 0.0 for name, part in strengths.items()},
            "film_grain": carried["grain"],
        }
    return found or None
