"""Two models on the same clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from grainscan.evaluate.bootstrap import Paired, compare
from grainscan.evaluate.judging import ClipError, Judged, Sample
from grainscan.options import EvalConfig
from grainscan.results import Report


@dataclass(frozen=True)
class Comparison(Report):
    """The other model, and per task the difference between the first one's AUROC and its own."""

    model: str
    tasks: dict[str, Paired]
    errors: list[ClipError]  # of the other model


def compare_models(samples: Mapping[str, Sample], other: Judged, config: EvalConfig) -> Comparison:
    """Compare two models by paired bootstrap on the clips that both could judge."""
    tasks: dict[str, Paired] = {}
    for task, sample in samples.items():
        if task not in other.tasks:
            continue
        keep = [k for k, name in enumerate(sample.names) if task in other.probability.get(name, ())]
        tasks[task] = compare(
            sample.labels[keep],
            sample.probabilities[keep],
            np.array([other.probability[sample.names[k]][task] for k in keep]),
            groups=[sample.sources[k] for k in keep] if sample.sources else None,
            resamples=config.bootstrap,
            seed=config.seed,
        )
    return Comparison(other.model, tasks, other.errors)
