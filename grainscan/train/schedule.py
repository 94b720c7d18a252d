"""How long a training is and when it validates: plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grainscan.options import ADDED_STEPS, EPOCHS, TrainConfig

_LOGGED_ROWS = 400  # about, in a run's history
_BETWEEN_VALIDATIONS = 20  # steps, at least by default: a small data set has epochs of a step or two


@dataclass(frozen=True)
class Schedule:
    """The optimiser steps of a training, the views per step, and the steps between validations."""

    config: TrainConfig
    clips: int
    processes: int = 1

    @property
    def views_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulate * self.processes

    @property
    def steps_per_epoch(self) -> float:
        return self.clips * self.config.views_per_clip / self.views_per_step

    @property
    def steps(self) -> int:
        if self.config.max_steps:
            return self.config.max_steps
        least = ADDED_STEPS if self.config.add_task is not None and self.config.epochs is None else 1
        return max(least, math.ceil((self.config.epochs or EPOCHS) * self.steps_per_epoch))

    @property
    def views(self) -> int:
        """Views drawn in the whole training."""
        return self.steps * self.views_per_step

    @property
    def validation_interval(self) -> int:
        """Steps between validations."""
        wanted = self.config.eval_every or max(_BETWEEN_VALIDATIONS, math.ceil(self.steps_per_epoch))
        return min(wanted, self.steps)

    @property
    def logging_interval(self) -> int:
        """Steps between rows of the history. Divides the other interval: no average spans a checkpoint."""
        interval = self.validation_interval
        wanted = max(1, min(interval, self.steps // _LOGGED_ROWS))
        return max(divisor for divisor in range(1, wanted + 1) if interval % divisor == 0)
