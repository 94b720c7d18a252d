"""What training minimises, as functions of a batch: masked focal or cross-entropy loss, and strength regression.

Every sum is divided by the number of views times tasks, known or not. Dividing by the number of known labels would make
a view's weight depend on which others share its batch; this way a batch of 8, two accumulated batches of 4 and two
processes of 4 give the same gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a run. `alpha` and `task_weight` hold a number for each task; alpha None: both classes weigh 1."""

    kind: Literal["focal", "bce"] = "focal"
    gamma: float = 2.0
    alpha: tuple[float, ...] | None = None
    task_weight: tuple[float, ...] | None = None
    strength_weight: float = 0.5
    soft: float = 0.0  # strength at which the target is one half; 0: labels are taken as they are

    def __call__(self, logits: Tensor, strength: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        """Scalar loss. All (n, tasks); labels are 0, 1 or NaN, strengths log2(1 + strength) or NaN."""
        logits, strength = logits.float(), strength.float()
        weight = self._row(self.task_weight, logits)
        measured = ~strengths.isnan()
        known = ~labels.isnan()
        truth = labels.nan_to_num()
        if self.soft:
            known = known | measured
            truth = torch.where(measured, soften(strengths.nan_to_num(), self.soft), truth)
        if self.kind == "focal":
            each = focal(logits, truth, gamma=self.gamma, alpha=self._row(self.alpha, logits))
        else:
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (each * known * weight).sum()
        error = F.smooth_l1_loss(strength, strengths.nan_to_num(), reduction="none")
        loss = loss + self.strength_weight * (error * measured * weight).sum()
        return loss / logits.numel()

    @staticmethod
    def _row(values: tuple[float, ...] | None, like: Tensor) -> Tensor | float:
        return 1.0 if values is None else torch.tensor(values, dtype=like.dtype, device=like.device)


def soften(strengths: Tensor, half: float) -> Tensor:
    """Targets s^2 / (s^2 + half^2) of strengths given as log2(1 + s): the odds of an artifact grow with its energy.

    A threshold on the strength makes two labels of nearly the same picture, and one label of faint and none.
    """
    energy = (torch.exp2(strengths) - 1).square()
    return energy / (energy + half**2)


def focal(logits: Tensor, labels: Tensor, *, gamma: float, alpha: Tensor | float) -> Tensor:
    """Focal loss of each element (Lin et al. 2017): -a_t (1 - p_t)^gamma log p_t, p_t the probability of the truth.

    a_t is alpha for label 1 and 1 - alpha for label 0; alpha 1.0 stands for no weights (1 for both).
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    # 1 - p_t through the logit of the wrong class: exp(-cross_entropy) would lose the small differences from 1.
    wrong = torch.sigmoid(logits * (1 - 2 * labels))
    loss = wrong**gamma * cross_entropy if gamma else cross_entropy
    if isinstance(alpha, float) and alpha == 1.0:
        return loss
    return loss * (alpha * labels + (1 - alpha) * (1 - labels))


def alpha_from_counts(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Focal alpha of each task from (tasks, 2) counts of labels 0 and 1: the share of the other class.

    Both classes then have the same total weight. A task with one class only gets 0.5.
    """
    alphas = []
    for negative, positive in counts:
        both = negative > 0 and positive > 0
        alphas.append(float(negative / (negative + positive)) if both else 0.5)
    return tuple(alphas)
