"""From the character of grain to the parameters of AV1's film grain synthesis.

Norkin, Birkbeck: "Film grain synthesis for AV1 video codec", Data Compression Conference 2018: an autoregressive filter
of lag 3 gives white noise the autocorrelation of the grain, and a piecewise linear function of luma its deviation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from grainscan.grain.character import Character
from grainscan.grain.curve import CENTRES
from grainscan.grain.sample import LAGS
from grainscan.video.film_grain import FilmGrain, Points

LAG = 3
WHITE = 32.0  # codes, deviation of the decoder's noise before the filter
CHROMA = 0.3  # codes: weaker chroma grain is left out
RINGING = 12.0  # largest amplification of a frequency; beyond, the filter shows lines instead of grain

_FIRM = 0.01  # added to the variance: keeps the system solvable where grain is smooth
_LOUDEST = 40.0  # codes, of filtered noise: from three times that on the decoder would clip it
_SCALE_SHIFTS = range(4)
_COEFFICIENT_SHIFTS = (9, 8, 7, 6)
_SCALING_SHIFTS = (11, 10, 9, 8)
_GRID = 96  # frequencies in each direction, for the gain of a filter


def neighbours(lag: int = LAG) -> list[tuple[int, int]]:
    """(dy, dx) of the 2 lag (lag + 1) neighbours that precede a pixel in raster order, in AV1's order."""
    above = [(dy, dx) for dy in range(-lag, 0) for dx in range(-lag, lag + 1)]
    return above + [(0, dx) for dx in range(-lag, 0)]


def film_grain(character: Character) -> FilmGrain:
    """Parameters with which a decoder makes grain of this character."""
    planes = [plane for plane in ("y", "cb", "cr") if plane == "y" or _coloured(character, plane)]
    solved = {plane: yule_walker(character.lags[plane]) for plane in planes}
    largest = max(float(np.abs(values).max()) for values in solved.values())
    shift = next((shift for shift in _COEFFICIENT_SHIFTS if round(largest * (1 << shift)) <= 127), 6)
    whole = {plane: quantised(values, shift) for plane, values in solved.items()}
    gains = {plane: gain(np.array(values) / (1 << shift)) for plane, values in whole.items()}
    loudest = WHITE * max(gains.values())
    scale_shift = next((s for s in _SCALE_SHIFTS if loudest / (1 << s) <= _LOUDEST), _SCALE_SHIFTS[-1])
    wanted = {
        plane: character.curves[plane] * (1 << scale_shift) / (WHITE * gains[plane]) for plane in planes
    }  # of the scaling function over 2^scaling_shift
    shown = np.array(character.bands)
    highest = max(float(values[shown].max()) for values in wanted.values())
    scaling_shift = next((s for s in _SCALING_SHIFTS if round(highest * (1 << s)) <= 255), _SCALING_SHIFTS[-1])
    points = {plane: _points(values * (1 << scaling_shift), shown) for plane, values in wanted.items()}
    none = (0,) * len(neighbours())
    return FilmGrain(
        y=points["y"],
        cb=points.get("cb", ()),
        cr=points.get("cr", ()),
        coefficients_y=whole["y"],
        coefficients_cb=(*whole.get("cb", none), 0),
        coefficients_cr=(*whole.get("cr", none), 0),
        lag=LAG,
        coefficient_shift=shift,
        scale_shift=scale_shift,
        scaling_shift=scaling_shift,
    )


def _coloured(character: Character, plane: str) -> bool:
    return plane in character.curves and character.mean(plane) >= CHROMA


def _points(scaling: NDArray[np.float64], shown: NDArray[np.intp]) -> Points:
    """The scaling function at the centres of the bands that the picture shows; decoders hold its ends."""
    return tuple(
        (int(CENTRES[band]), int(np.clip(round(float(scaling[band])), 0, 255)))
        for band in range(int(shown[0]), int(shown[-1]) + 1)
    )


def yule_walker(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the filter whose output has this autocorrelation (LAGS, 2 LAGS - 1): least squares of a pixel
    predicted by its neighbours (Yule 1927, Walker 1931). Scaled towards zero until no frequency rings."""
    places = neighbours()

    def at(dy: int, dx: int) -> float:
        if dy < 0:
            dy, dx = -dy, -dx
        return float(correlation[dy, dx + LAGS - 1])

    matrix = np.array([[at(a[0] - b[0], a[1] - b[1]) for b in places] for a in places])
    solved = np.linalg.solve(matrix + _FIRM * np.eye(len(places)), np.array([at(*place) for place in places]))
    while np.abs(_denominator(solved)).min() * RINGING < 1:
        solved = solved * 0.97
    return solved


def quantised(values: NDArray[np.float64], shift: int) -> tuple[int, ...]:
    """Coefficients in units of 2^-shift, as they are transmitted."""
    return tuple(int(value) for value in np.clip(np.round(values * (1 << shift)), -128, 127))


def gain(coefficients: NDArray[np.float64]) -> float:
    """Standard deviation of filtered white noise of unit deviation."""
    return math.sqrt(float(np.mean(1 / np.square(np.abs(_denominator(coefficients))))))


def _denominator(coefficients: NDArray[np.float64]) -> NDArray[np.complex128]:
    """One over the transfer function: 1 - sum of c_k exp(2 pi i (dy_k f_y + dx_k f_x)), (_GRID, _GRID)."""
    field = np.zeros((_GRID, _GRID))
    field[0, 0] = 1
    for value, (dy, dx) in zip(coefficients, neighbours(), strict=True):
        field[-dy % _GRID, -dx % _GRID] -= value
    return np.asarray(np.fft.fft2(field))
