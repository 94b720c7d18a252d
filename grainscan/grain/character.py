"""From the samples of a file to the character of its grain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.grain import BANDS, WIDTH
from grainscan.grain.curve import Curve, fit_curve
from grainscan.grain.sample import LAGS, PLANES, Sample

SHOWN = 0.005  # of the picture: a band with less is not described
STATIC = 0.5  # temporal share below which the pattern is called static

# Half the width of the 90 % interval of the log of a strength: at least, per share of patches that are doubted, and per
# share of the variance that lies in bands of luma where no patch is trusted. `examples/grain/strength.py --calibrate`
# fits the three to clips whose truth is known.
_FLOOR, _PER_DOUBT, _PER_GAP = 0.01, 0.12, 1.05


@dataclass(frozen=True, eq=False)
class Character:
    """The grain of a file, or of a stretch of it. Deviations are in 8-bit codes.

    Grain is all noise that does not move with the picture. In a moving picture that includes a pattern that stays on
    the screen, whose share `temporal` tells.
    """

    strength: float  # standard deviation of luma grain over the whole picture
    interval: tuple[float, float]  # holds the true strength in nine of ten files
    shares: NDArray[np.float64]  # (BANDS,) of the picture
    curves: dict[str, NDArray[np.float64]]  # by plane: deviation at the centre of each band of luma
    lags: dict[str, NDArray[np.float64]]  # by plane: autocorrelation (LAGS, 2 * LAGS - 1)
    temporal: float  # share of the variance of fine noise that changes with every frame

    @property
    def bands(self) -> tuple[int, ...]:
        """The bands of luma that the picture shows."""
        return tuple(int(band) for band in np.flatnonzero(self.shares >= SHOWN))

    @property
    def size(self) -> tuple[float, float]:
        """Width of the autocorrelation at half its height in pixels, (horizontal, vertical); see `width_at_half`."""
        centre = LAGS - 1
        return width_at_half(self.lags["y"][0, centre:]), width_at_half(self.lags["y"][:, centre])

    def mean(self, plane: str) -> float:
        """Deviation in a plane over the whole picture."""
        return float(np.sqrt(np.average(np.square(self.curves[plane]), weights=self.shares)))

    def to_dict(self) -> dict[str, Any]:
        """The `grain` object of a result."""
        horizontal, vertical = self.size
        found: dict[str, Any] = {
            "strength": round(self.strength, 3),
            "interval": [round(limit, 3) for limit in self.interval],
            "bands": [
                {"from": band * WIDTH, "to": (band + 1) * WIDTH, "strength": round(float(self.curves["y"][band]), 3)}
                for band in self.bands
            ],
            "size": {"horizontal": round(horizontal, 2), "vertical": round(vertical, 2)},
            "temporal": round(self.temporal, 3),
            "pattern": "static" if self.temporal < STATIC else "temporal",
        }
        if "cb" in self.curves:
            found["chroma"] = {plane: round(self.mean(plane), 3) for plane in ("cb", "cr")}
        return found


def width_at_half(correlation: NDArray[np.float64]) -> float:
    """Full width at half maximum, in pixels, of an autocorrelation given at lags 0, 1, 2, ...

    Between whole lags it is taken to be linear, so that white noise is one pixel wide. Grain made by a Gaussian blur of
    full width w is the root of two times w wide, if w is more than a pixel. At most twice the largest lag.
    """
    below = np.flatnonzero(correlation < 0.5)
    if not len(below):
        return 2.0 * (len(correlation) - 1)
    last = int(below[0])
    before, after = correlation[last - 1], correlation[last]
    return 2.0 * (last - 1 + float((before - 0.5) / (before - after)))


def characterise(samples: Sequence[Sample]) -> Character | None:
    """The character of the grain in samples of one file; None without samples."""
    if not samples:
        return None
    planes = [plane for plane in PLANES if all(plane in each.variance for each in samples)]
    fits = {plane: curve_of(samples, plane) for plane in planes}
    shares = np.mean([each.shares for each in samples], axis=0)
    curves = {plane: fit.deviation for plane, fit in fits.items()}
    strength = float(np.sqrt(np.average(np.square(curves["y"]), weights=shares)))
    # A window with more grain says more about its correlation.
    loud = [float(np.mean(each.variance["y"])) for each in samples]
    lags = {plane: np.average([each.lags[plane] for each in samples], axis=0, weights=loud) for plane in planes}
    fixed, loose = (float(np.mean([getattr(each, name) for each in samples])) for name in ("fixed", "loose"))
    factor = math.exp(_half_width(fits["y"], joined(samples, "level"), shares))
    return Character(
        strength,
        (strength / factor, strength * factor),
        shares,
        curves,
        lags,
        loose / (fixed + loose) if fixed + loose > 0 else 1.0,
    )


def curve_of(samples: Sequence[Sample], plane: str) -> Curve:
    """How the deviation of the grain in a plane depends on luma, by the patches of all samples."""
    variance = np.concatenate([each.variance[plane] for each in samples])
    return fit_curve(joined(samples, "level"), variance, joined(samples, "structure"), joined(samples, "leap"))


def joined(samples: Sequence[Sample], name: str) -> NDArray[np.float64]:
    """What the samples say of each of their patches, (n,) of all: `level`, `structure` or `leap`."""
    return np.concatenate([getattr(each, name) for each in samples])


def features(curve: Curve, level: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[float, float]:
    """What the error of a strength grows with: the share of patches that are doubted, and the share of the variance
    that lies in bands of luma where no patch is trusted."""
    trust = np.bincount(np.clip(level // WIDTH, 0, BANDS - 1).astype(np.intp), curve.weights, minlength=BANDS)
    power = shares * np.square(curve.deviation)
    gap = float(power[trust < 1].sum() / max(power.sum(), 1e-9))
    return float(1 - curve.weights.mean()), gap


def _half_width(curve: Curve, level: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    doubted, gap = features(curve, level, shares)
    return _FLOOR + _PER_DOUBT * doubted + _PER_GAP * gap
