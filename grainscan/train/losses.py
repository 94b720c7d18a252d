"""The loss: focal loss or cross-entropy of the known labels, and regression of the known strengths.

Every sum is divided by the number of views times tasks, known or not. Dividing by the number of known labels would make
a view's weight depend on the other views in its batch; this way a batch of 8, two accumulated batches of 4 and two
processes with 4 each have the same gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

_SURE = 30.0  # logit beyond which a right answer costs as good as nothing: 1e-13


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a run. `alpha` and `task_weight` hold one number per task; None: all weights are 1."""

    kind: Literal["focal", "bce"] = "focal"
    gamma: float = 2.0
    alpha: tuple[float, ...] | None = None
    task_weight: tuple[float, ...] | None = None
    strength_weight: float = 0.5
    soft: float = 0.0  # strength at which the target is one half; 0: the targets are the labels

    def __call__(self, logits: Tensor, strength: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        """Scalar loss. All (n, tasks); labels are 0, 1 or NaN, strengths log2(1 + strength) or NaN."""
        logits, strength = logits.float(), strength.float()
        weight = 1.0 if self.task_weight is None else logits.new_tensor(self.task_weight)
        measured = ~strengths.isnan()
        known = ~labels.isnan()
        truth = labels.nan_to_num()
        if self.soft:
            known = known | measured
            truth = torch.where(measured, soften(strengths.nan_to_num(), self.soft), truth)
        if self.kind == "focal":
            each = focal(logits, truth, gamma=self.gamma, alpha=self.alpha)
        else:
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (each * known * weight).sum()
        error = F.smooth_l1_loss(strength, strengths.nan_to_num(), reduction="none")
        loss = loss + self.strength_weight * (error * measured * weight).sum()
        return loss / logits.numel()


def soften(strengths: Tensor, half: float) -> Tensor:
    """Targets s^2 / (s^2 + half^2) from log2(1 + s): the odds of an artifact grow with its energy.

    A threshold on the strength would label two nearly equal pictures differently, and a faint artifact like none.
    """
    energy = (torch.exp2(strengths) - 1).square()
    return energy / (energy + half**2)


def focal(logits: Tensor, labels: Tensor, *, gamma: float, alpha: Sequence[float] | None = None) -> Tensor:
    """Elementwise focal loss (Lin et al. 2017): -a_t (1 - p_t)^gamma log p_t, p_t the probability of the truth.

    logits, labels (n, tasks); a_t is the task's alpha for label 1, 1 - alpha for label 0, and 1 without alpha.
    """
    # torchvision computes 1 - p_t by subtraction. In double precision that is accurate up to a logit of about 36;
    # beyond it a gamma below 1 has no finite gradient, hence the limit for right answers.
    sure = torch.where(labels > 0.5, logits.clamp(max=_SURE), logits.clamp(min=-_SURE))
    loss = sigmoid_focal_loss(sure.double(), labels.double(), alpha=-1, gamma=gamma).to(logits)
    if alpha is None:
        return loss
    weight = logits.new_tensor(alpha)  # torchvision's alpha is one number for all tasks
    return loss * (weight * labels + (1 - weight) * (1 - labels))


def alpha_from_counts(counts: NDArray[np.float64]) -> tuple[float, ...]:
    """Focal alpha per task from how often, (tasks, 2), labels 0 and 1 are drawn: the fraction of zeros.

    Both classes then have the same total weight. A task with a single class gets 0.5.
    """
    return tuple(float(zeros / (zeros + ones)) if zeros and ones else 0.5 for zeros, ones in counts)
