"""What a window says about its grain, as plain numbers that travel from a worker to the parent.

Per patch: level of luma, structure, and the variance of grain in each plane. Of the window: which part of the picture
lies in each band of luma, the autocovariance of grain, and how much of the noise stays in its place on the screen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.grain import BANDS
from grainscan.grain.curve import fit_curve
from grainscan.grain.patches import Array, News, blurred, centred, find, follow
from grainscan.video import Window

LAGS = 7  # 0 to 6 pixels down, and -6 to 6 across: what a filter of lag 3 needs, and grain of up to 8 pixels
PLANES = ("y", "cb", "cr")

_STILL, _JUMP = 0.2, 4.0  # of the usual change: pairs of frames below are repeated frames, above are cuts
_MOVED = 3.0  # pixels between the first frame and the last, from which a pattern on the screen is told from the picture
_FEW = 4  # moving patches that suffice for that
_LOW = 25  # percentile of what patches share, taken for the pattern on the screen
_LEAST = 1e-3  # squared codes, least variance


@dataclass(frozen=True, eq=False)
class Sample:
    """The grain of a window. Arrays are float64; `n` is the number of patches, variances are squared 8-bit codes."""

    level: NDArray[np.float64]  # (n,)
    structure: NDArray[np.float64]  # (n,) variance of the means of 8x8 pixels
    leap: NDArray[np.float64]  # (n,) what is new over two frames, of what is new over one
    variance: dict[str, NDArray[np.float64]]  # by plane: (n,)
    lags: dict[str, NDArray[np.float64]]  # by plane: autocovariance (LAGS, 2 * LAGS - 1) of unit variance
    shares: NDArray[np.float64]  # (BANDS,) of the picture
    fixed: float  # variance of the fine noise that stays in its place on the screen
    loose: float  # variance of the fine noise that changes with every frame

    def to_dict(self) -> dict[str, Any]:
        """JSON values, rounded to what they are worth."""
        return {
            "level": _short(self.level),
            "structure": _short(self.structure),
            "leap": _short(self.leap),
            "variance": {plane: _short(values) for plane, values in self.variance.items()},
            "lags": {plane: _short(values.ravel()) for plane, values in self.lags.items()},
            "shares": _short(self.shares),
            "fixed": self.fixed,
            "loose": self.loose,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sample:
        """Read what `to_dict` made, possibly by a process that is not to be trusted. Raises ValueError, TypeError or
        LookupError."""
        level = _vector(values["level"])
        count = len(level)
        planes = [plane for plane in PLANES if plane in values["variance"]]
        if "y" not in planes or not count:
            raise ValueError("a sample without luma")
        return cls(
            level,
            _vector(values["structure"], count),
            _vector(values["leap"], count),
            {plane: _vector(values["variance"][plane], count) for plane in planes},
            {plane: _vector(values["lags"][plane], LAGS * (2 * LAGS - 1)).reshape(LAGS, -1) for plane in planes},
            _vector(values["shares"], BANDS),
            *(float(_vector([values[name]])[0]) for name in ("fixed", "loose")),
        )


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _vector(values: Any, length: int | None = None) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or (length is not None and len(array) != length) or not np.isfinite(array).all():
        raise ValueError("these are not the numbers of a sample")
    return array


def sample(window: Window) -> Sample | None:
    """Measure a window. None where no frame differs from the one before it."""
    patches = find(window)
    if window.frames < 2:
        return None
    news = follow(patches)
    pairs = _usable(news.luma)
    if not pairs.any():
        return None
    rounding = 2 * (1 / 12) / window.format.unit**2  # both frames were rounded to codes: uniform noise
    edge = (patches.luma.shape[-1] - news.luma.shape[-1]) // 2
    inner = patches.luma[:, :, edge:-edge, edge:-edge]
    level, structure, leap = _quarters(inner.mean(axis=1)), np.repeat(patches.structure, 4), np.repeat(news.leap, 4)
    variance, lags = {}, {}
    for plane, change in zip(PLANES, (news.luma, *news.chroma), strict=False):
        change = change[:, pairs]
        quarters = np.maximum(_quarters(np.square(change).mean(axis=1)), _LEAST)
        raw = quarters.reshape(-1, 4).mean(axis=1)
        variance[plane] = np.maximum(quarters - rounding, _LEAST) / 2
        if plane == "y":
            curve = fit_curve(level, variance["y"], structure, leap)
            weights = curve.weights.reshape(-1, 4).mean(axis=1)
            chosen = np.argsort(-weights, kind="stable")[: max(8, len(raw) // 2)]
        share = weights[chosen] / raw[chosen]  # of unit variance each
        covariance = np.average(_autocovariance(change[chosen]), axis=0, weights=share)
        lags[plane], lost = _whole(covariance, rounding, change.shape[-1] * change.shape[-2])
        variance[plane] = variance[plane] / (1 - lost)
    fixed, loose = _places(patches.luma, news, pairs)
    return Sample(level, structure, leap, variance, lags, patches.shares, fixed, loose)


def _quarters(field: Array) -> NDArray[np.float64]:
    """(4 n,): means of the quarters of each of n squares (n, high, wide), one square after the other."""
    count, high, wide = field.shape
    parts = field.reshape(count, 2, high // 2, 2, wide // 2)
    return np.asarray(parts.mean(axis=(2, 4), dtype=np.float64)).reshape(-1)


def _usable(change: Array) -> NDArray[np.bool_]:
    """Which pairs of frames show grain: neither repeated frames nor cuts."""
    energy = np.median(np.square(change).mean(axis=(2, 3)), axis=0)
    usual = np.median(energy[energy > _LEAST]) if (energy > _LEAST).any() else 0.0
    return np.asarray((energy > max(_LEAST, _STILL * usual)) & (energy < _JUMP * usual))


def _autocovariance(change: Array) -> NDArray[np.float64]:
    """(n, LAGS, 2 LAGS - 1): means of products at each lag, down by the row, across by the column."""
    frames, high, wide = change.shape[1:]
    # By the Fourier transform, padded so that nothing wraps around.
    shape = (high + LAGS, wide + LAGS)
    power = np.square(np.abs(np.fft.rfft2(change, s=shape))).sum(axis=1)
    product = np.fft.irfft2(power, s=shape)
    down, across = np.arange(LAGS)[:, None], np.arange(1 - LAGS, LAGS)[None, :]
    count = frames * (high - down) * (wide - np.abs(across))
    return np.asarray(product[:, down, across] / count)


def _whole(covariance: NDArray[np.float64], rounding: float, area: int) -> tuple[NDArray[np.float64], float]:
    """The autocovariance of grain of unit variance, without rounding noise and with what the mean of a patch took.

    A patch of `area` pixels has lost the variance of its mean: the integral of the autocovariance over the area. Here
    the integral is that of a Gaussian through the neighbours. Also returns the part of the variance that was lost.
    """
    middle = LAGS - 1
    covariance = covariance.copy()
    covariance[0, middle] -= rounding
    scale = max(covariance[0, middle], 1e-9)
    near = float(np.clip((covariance[0, middle + 1] + covariance[1, middle]) / 2 / scale, 0.02, 0.95))
    lost = min(math.pi / -math.log(near) / area, 0.3)  # the integral of exp(log(near) r^2)
    covariance += scale * lost / (1 - lost)
    return covariance / covariance[0, middle], lost


def _places(luma: Array, news: News, pairs: NDArray[np.bool_]) -> tuple[float, float]:
    """(fixed, loose): variances of fine noise that stays on the screen, and of the rest.

    What the first frame and the last share at the same place is texture, if the picture stands still, or a pattern on
    the screen, as of dirt on a sensor or of a frozen overlay. Where the picture moves, only the latter is left, and
    edges that lie along the movement; a motion-compensated difference contains the pattern. The least quarter of the
    patches decides: a pattern is everywhere, texture and edges in places.
    """
    edge = (luma.shape[-1] - news.luma.shape[-1]) // 2
    inner = slice(edge, luma.shape[-1] - edge)
    fine = [centred((frame - blurred(frame, 2))[:, inner, inner]) for frame in (luma[:, 0], luma[:, -1])]
    shared = (fine[0] * fine[1]).mean(axis=(1, 2))
    change = news.luma[:, pairs]
    loose = np.square(change - blurred(change, 2))[..., 2:-2, 2:-2].mean(axis=(1, 2, 3)) / 2
    moving = np.hypot(*news.shifts.sum(axis=1).T) >= _MOVED
    if moving.sum() >= _FEW:
        fixed, both = float(np.percentile(shared[moving], _LOW)), float(np.median(loose[moving]))
        fixed = min(max(fixed, 0.0), both)
        return fixed, both - fixed
    return max(0.0, float(np.percentile(shared, _LOW))), float(np.median(loose))
