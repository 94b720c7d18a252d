"""The verdicts on a file that are measured in its frames, not learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from grainscan.model.spec import ModelSpec
from grainscan.scan.pooling import calibrated
from grainscan.views.measures import Frames, score, track


class Measured:
    """The measured ones of the `tasks` for the frames of a file; `whole`: all of its frames."""

    def __init__(self, frames: Frames, spec: ModelSpec, tasks: Iterable[str], *, whole: bool) -> None:
        self.frames = frames
        self.tracks = {task: track(task, frames, whole=whole) for task in tasks if task in spec.measured}
        self._spec = spec

    def verdicts(self, thresholds: Mapping[str, float]) -> dict[str, Any]:
        """Their part of the `tasks` object."""
        verdicts = {}
        for task, value in self.probabilities(slice(None)).items():
            threshold = thresholds.get(task, self._spec.threshold_of(task))
            verdicts[task] = {"label": int(value >= threshold), "probability": value, "threshold": threshold}
        return verdicts

    def probabilities(self, rows: slice) -> dict[str, float]:
        """By task, for some of the frames."""
        frames = self.frames.part(rows)
        scores = {task: score(task, frames, each.part(rows)) for task, each in self.tracks.items()}
        return {task: round(calibrated(value, task, self._spec), 6) for task, value in scores.items()}

    def of_frames(self, task: str) -> list[tuple[float, float, float]]:
        """(start, end, probability) of each frame."""
        found = self.tracks[task]
        return [
            (float(start), float(end), calibrated(float(value), task, self._spec))
            for value, start, end in zip(found.score, found.start, found.end, strict=True)
        ]
