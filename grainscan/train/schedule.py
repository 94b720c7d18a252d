"""How long a training is and when it validates. Plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LOGGED_ROWS = 400  # of a run's history, about
_BETWEEN_VALIDATIONS = 20  # steps at least, unless asked otherwise: a small data set has epochs of a step or two


@dataclass(frozen=True)
class Schedule:
    """How many optimiser steps a training takes, how many views each of them sees, and when it validates."""

    clips: int
    epochs: float
    max_steps: int  # 0: by epochs
    batch_size: int  # views per process and forward pass
    accumulate: int  # forward passes per step
    views_per_clip: int  # in an epoch
    validate_every: int  # steps; 0: each epoch
    processes: int = 1

    @property
    def views_per_step(self) -> int:
        return self.batch_size * self.accumulate * self.processes

    @property
    def steps_per_epoch(self) -> float:
        return self.clips * self.views_per_clip / self.views_per_step

    @property
    def steps(self) -> int:
        return self.max_steps or max(1, math.ceil(self.epochs * self.steps_per_epoch))

    @property
    def views(self) -> int:
        """Drawn in the whole training."""
        return self.steps * self.views_per_step

    @property
    def validation_interval(self) -> int:
        """Steps from one validation to the next."""
        wanted = self.validate_every or max(_BETWEEN_VALIDATIONS, math.ceil(self.steps_per_epoch))
        return min(wanted, self.steps)

    @property
    def logging_interval(self) -> int:
        """Steps between rows of the history: divides the other interval, so that no average spans a checkpoint."""
        interval = self.validation_interval
        wanted = max(1, min(interval, self.steps // _LOGGED_ROWS))
        return max(divisor for divisor in range(1, wanted + 1) if interval % divisor == 0)
