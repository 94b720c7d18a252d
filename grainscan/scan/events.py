"""Where in a file an artifact lasts: from probabilities over time to intervals.

An event starts where the probability reaches the task's threshold, and goes on until it falls more than a margin below
it, so that it does not fall apart where the probability wavers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from grainscan.model.spec import ModelSpec
from grainscan.results import Event
from grainscan.scan.measured import Measured
from grainscan.views.measures import Frames, damage

MARGIN = 0.15  # by which the probability may fall below the threshold within an event
REPORTED = "transmission_error"  # the task of the errors that a decoder reports


class Span(NamedTuple):
    """A stretch of time and the probability that it has the artifact."""

    start: float  # seconds
    end: float
    probability: float


def merged(spans: Iterable[Span], threshold: float, margin: float = MARGIN) -> list[Span]:
    """Events from spans in order of time: from one at the threshold on to the last before one below the margin.

    The probability of an event is the highest in it. Times between two spans of an event, which nobody has looked at,
    are part of it.
    """
    found: list[Span] = []
    running = False
    for span in spans:
        if running and span.probability >= threshold - margin:
            last = found[-1]
            found[-1] = Span(last.start, max(last.end, span.end), max(last.probability, span.probability))
        else:
            running = span.probability >= threshold
            if running:
                found.append(span)
    return found


def covered(windows: Sequence[Mapping[str, float]], every: float, duration: float) -> list[tuple[float, float]]:
    """The stretch of time that each window stands for, in order of time: (start, end) in seconds.

    Stretches meet halfway between windows, and reach to the ends of a file of this `duration`, but no further than
    `every`, the length of the stretches in which a window was looked at.
    """
    starts, ends = [each["start"] for each in windows], [each["end"] for each in windows]
    halves = [(end + start) / 2 for end, start in zip(ends, starts[1:], strict=False)]
    before, after = [0.0, *halves], [*halves, duration]
    return [
        (min(start, max(left, start - every)), max(end, min(right, end + every)))
        for start, end, left, right in zip(starts, ends, before, after, strict=False)
    ]


def find_events(
    windows: Sequence[Mapping[str, float]],
    stretches: Sequence[tuple[float, float]],
    measured: Measured | None,
    spec: ModelSpec,
    thresholds: Mapping[str, float],
    tasks: Iterable[str],
) -> list[Event]:
    """The `events` of a result, in order of start: of the measured tasks from the frames, of others from the windows.

    `stretches` are the times that the windows stand for (`covered`).

    Errors that the decoder reports are events of `transmission_error` with probability 1, from the first damaged
    picture to the next that is predicted from no other; what the model finds there is left out.
    """
    found: list[tuple[str, Span]] = []
    for task in tasks:
        if measured is not None and task in measured.tracks:
            spans = [Span(*each) for each in measured.of_frames(task)]
        else:
            spans = [Span(*when, each[task]) for each, when in zip(windows, stretches, strict=True) if task in each]
        events = merged(spans, thresholds.get(task, spec.threshold_of(task)))
        if task == REPORTED and measured is not None:
            reported = _reported(measured.frames)
            apart = [each for each in events if all(each.end <= one.start or each.start >= one.end for one in reported)]
            events = [*reported, *apart]
        found += [(task, each) for each in events]
    return [
        {"task": task, "start": round(start, 3), "end": round(end, 3), "probability": round(value, 6)}
        for task, (start, end, value) in sorted(found, key=lambda item: (item[1].start, item[1].end, item[0]))
    ]


def _reported(frames: Frames) -> list[Span]:
    """Where the decoder reports damaged pictures, and where others are predicted from them."""
    ends = np.append(frames.start[1:], frames.end[-1:])
    spans = zip(frames.start.tolist(), ends.tolist(), damage(frames).tolist(), strict=True)
    return merged(itertools.starmap(Span, spans), 1.0, margin=0.0)
