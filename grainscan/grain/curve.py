"""The noise level function: how the deviation of grain depends on the level of luma (Liu, Freeman, Szeliski and Kang:
"Noise estimation from a single image", 2006), fitted to patches of which some show moving texture besides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grainscan.grain import BANDS, WIDTH

Vector = NDArray[np.float64]

CENTRES = WIDTH * (np.arange(BANDS) + 0.5)  # codes, the knots of the curve

_ABOVE, _BELOW = 0.1, 0.3  # of log deviation: farther from the curve, a patch is doubted
_FIRST = 0.3  # quantile of the deviations at which the fit begins
_ROUNDS = 30
_TEXTURE = 4.0  # ratio of structure to variance from which a patch is doubted beforehand
_STEADY, _UNSTEADY = 1.05, 0.1  # leap of a patch up to which it is trusted; beyond, it is doubted by this measure
_BEND, _SLOPE = 1.0, 0.1  # stiffness, in patches
_LEAST = 0.02  # squared codes


@dataclass(frozen=True, eq=False)
class Curve:
    """Log deviations at CENTRES, joined by lines; and how far each patch is trusted, 0 to 1."""

    knots: Vector  # (BANDS,)
    weights: Vector  # (n,)
    spread: float  # of the log deviations of trusted patches about the curve

    @property
    def deviation(self) -> Vector:
        """Deviations at CENTRES, 8-bit codes."""
        return np.asarray(np.exp(self.knots))


def fit_curve(level: Vector, variance: Vector, structure: Vector, leap: Vector) -> Curve:
    """A curve through the deviations of patches, robust against those with texture, whose deviation is too high.

    `leap` is that of `patches.News`, by which texture is doubted that moves as no compensation can follow.

    Iteratively reweighted least squares with weights that fall faster above the curve than below it, from a low
    quantile on and with a scale that narrows, so that a minority of clean patches can win.
    """
    deviation = 0.5 * np.log(np.maximum(variance, _LEAST))
    prior = 1 / (1 + structure / (_TEXTURE * np.maximum(variance, _LEAST)))
    prior /= np.square(1 + np.square(np.maximum(leap - _STEADY, 0) / _UNSTEADY))
    base = _hats(level)
    stiff = _BEND * _differences(2) + _SLOPE * _differences(1)
    order = np.argsort(deviation, kind="stable")
    total = np.cumsum(prior[order])
    fitted = np.full(len(level), deviation[order][np.searchsorted(total, _FIRST * total[-1])])
    for number in range(_ROUNDS):
        away = deviation - fitted
        scale = np.where(away > 0, _ABOVE, _BELOW) * max(1.0, 4 * 0.75**number)
        weights = prior / np.square(1 + np.square(away / scale))
        knots = np.linalg.solve(base.T @ (weights[:, None] * base) + stiff, base.T @ (weights * deviation))
        fitted = base @ knots
    spread = float(np.sqrt(np.average(np.square(deviation - fitted), weights=weights)))
    return Curve(knots, weights, spread)


def _hats(level: Vector) -> Vector:
    """(n, BANDS) weights of linear interpolation between the knots."""
    place = np.clip((level - CENTRES[0]) / WIDTH, 0, BANDS - 1)
    left = np.minimum(place.astype(np.intp), BANDS - 2)
    base = np.zeros((len(level), BANDS))
    row = np.arange(len(level))
    base[row, left] = 1 - (place - left)
    base[row, left + 1] = place - left
    return base


def _differences(order: int) -> Vector:
    matrix = np.diff(np.eye(BANDS), order, axis=0)
    return np.asarray(matrix.T @ matrix)
