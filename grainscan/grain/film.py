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

Field = NDArray[np.float64]

LAG = 3
WHITE = 32.0  # codes, deviation of the decoder's noise before the filter
CHROMA = 0.3  # codes: weaker chroma grain is left out

_FIRM = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # additions to the variance
_NEAR = {(0, 1): 3.0, (1, 0): 3.0, (1, 1): 1.0, (1, -1): 1.0, (0, 2): 1.0, (2, 0): 1.0}  # lags (down, across): weight
_ROWS, _REACH = 32, 32  # of an impulse response, pixels; a decoder's template has 64 each way
_LATE, _RUNAWAY = 0.02, 1e3  # energy at its end over all, and the value at which it has no end
_LOUDEST = 40.0  # codes, of filtered noise: from three times that on the decoder would clip it
_SCALE_SHIFTS = range(4)
_COEFFICIENT_SHIFTS = (9, 8, 7, 6)
_SCALING_SHIFTS = (11, 10, 9, 8)


def neighbours(lag: int = LAG) -> list[tuple[int, int]]:
    """(dy, dx) of the 2 lag (lag + 1) neighbours that precede a pixel in raster order, in AV1's order."""
    above = [(dy, dx) for dy in range(-lag, 0) for dx in range(-lag, lag + 1)]
    return above + [(0, dx) for dx in range(-lag, 0)]


def film_grain(character: Character) -> FilmGrain:
    """Parameters with which a decoder makes grain of this character."""
    coloured = "cb" in character.curves and max(character.mean("cb"), character.mean("cr")) >= CHROMA
    planes = ("y", "cb", "cr") if coloured else ("y",)  # a decoder refuses grain in one of the two
    shift = max(6, min(coefficient_shift(fit(character.lags[plane])) for plane in planes))
    whole = {plane: quantised(fit(character.lags[plane], shift), shift) for plane in planes}
    gains = {plane: gain(np.array(values) / (1 << shift)) for plane, values in whole.items()}
    loudest = WHITE * max(gains.values())
    scale_shift = next((s for s in _SCALE_SHIFTS if loudest / (1 << s) <= _LOUDEST), _SCALE_SHIFTS[-1])
    # The scaling function over 2^scaling_shift
    wanted = {plane: character.curves[plane] * (1 << scale_shift) / (WHITE * gains[plane]) for plane in planes}
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


def _points(scaling: Field, shown: NDArray[np.intp]) -> Points:
    """The scaling function at the centres of the bands that the picture shows; decoders hold its ends."""
    return tuple(
        (int(CENTRES[band]), int(np.clip(round(float(scaling[band])), 0, 255)))
        for band in range(int(shown[0]), int(shown[-1]) + 1)
    )


def fit(correlation: Field, shift: int | None = None) -> Field:
    """Coefficients of a stable filter whose output has nearly this autocorrelation (LAGS, 2 LAGS - 1).

    The full system of Norkin and Birkbeck is ill-conditioned for smooth grain, and rounding to 2^-shift can make its
    solution ring. So it is solved with several additions to the variance, and products of a horizontal and a vertical
    filter, which hardly ring, compete; the one with the nearest autocorrelation wins.
    """
    solved = [yule_walker(correlation, firm) for firm in _FIRM]
    solved += [_product(correlation, lag) for lag in range(1, LAG + 1)]
    best, least = np.zeros(len(neighbours())), math.inf
    for values in (best, *solved):
        used = coefficient_shift(values) if shift is None else shift
        rounded = np.array(quantised(values, used)) / (1 << used)
        response = impulse_response(rounded)
        if response is not None and (error := _distance(response, correlation)) < least:
            best, least = values, error
    return best


def yule_walker(correlation: Field, firm: float = 0.0) -> Field:
    """The filter whose output has this autocorrelation: least squares of a pixel predicted by its neighbours (Yule
    1927, Walker 1931). `firm` is added to the variance."""
    places = neighbours()

    def at(dy: int, dx: int) -> float:
        if dy < 0:
            dy, dx = -dy, -dx
        return float(correlation[dy, dx + LAGS - 1])

    matrix = np.array([[at(a[0] - b[0], a[1] - b[1]) for b in places] for a in places])
    target = np.array([at(*place) for place in places])
    return np.asarray(np.linalg.lstsq(matrix + firm * np.eye(len(places)), target, rcond=None)[0])


def _product(correlation: Field, lag: int) -> Field:
    """The product of a horizontal and a vertical filter of this lag, each by its own Yule-Walker system."""
    middle = LAGS - 1
    along: list[Field] = []
    for line in (correlation[:, middle], correlation[0, middle:]):
        matrix = np.array([[line[abs(i - j)] for j in range(lag)] for i in range(lag)])
        along.append(np.linalg.lstsq(matrix, line[1 : lag + 1], rcond=None)[0])
    down, across = (np.concatenate([[-1.0], values]) for values in along)
    table = -np.outer(down, across)  # of which the pixel itself is -1
    return np.array([
        table[-dy, -dx] if -lag <= dy and -lag <= dx <= 0 else 0.0 for dy, dx in neighbours()
    ])  # fmt: skip


def coefficient_shift(values: Field) -> int:
    """The finest steps, 2^-shift, in which the largest coefficient fits into a signed byte."""
    largest = float(np.abs(values).max())
    return next((shift for shift in _COEFFICIENT_SHIFTS if round(largest * (1 << shift)) <= 127), 6)


def quantised(values: Field, shift: int) -> tuple[int, ...]:
    """Coefficients in units of 2^-shift, as they are transmitted."""
    return tuple(int(value) for value in np.clip(np.round(values * (1 << shift)), -128, 127))


def gain(coefficients: Field) -> float:
    """Standard deviation of filtered white noise of unit deviation. Raises ValueError for an unstable filter."""
    response = impulse_response(coefficients)
    if response is None:
        raise ValueError("the filter is not stable")
    return math.sqrt(float(np.square(response).sum()))


def impulse_response(coefficients: Field) -> Field | None:
    """(_ROWS, 2 _REACH + 1) of the recursive filter, or None if it has not died away within that."""
    rows, wide = _ROWS + LAG, 2 * _REACH + 1
    field = np.zeros((rows, wide + 2 * LAG))  # with a border that stays zero
    weights = coefficients[: LAG * (2 * LAG + 1)].reshape(LAG, -1)
    before = coefficients[LAG * (2 * LAG + 1) :][::-1].tolist()
    for y in range(LAG, rows):
        line = sum(np.correlate(field[y - LAG + i], weights[i], mode="valid") for i in range(LAG))
        values = [0.0] * LAG + np.asarray(line).tolist()
        if y == LAG:
            values[LAG + _REACH] = 1.0
        for x in range(LAG, len(values)):
            values[x] += sum(weight * values[x - 1 - i] for i, weight in enumerate(before))
        field[y, LAG : LAG + wide] = values[LAG:]
        if not abs(values[-1]) < _RUNAWAY:
            return None
    response = field[LAG:, LAG : LAG + wide]
    energy = np.square(response)
    late = energy[-_ROWS // 4 :].sum() + energy[:, -_REACH // 4 :].sum()
    return response if late < _LATE * energy.sum() else None


def _distance(response: Field, correlation: Field) -> float:
    """Between the autocorrelation of a response and the wanted one, at the nearest lags."""
    shape = (2 * response.shape[0], 2 * response.shape[1])
    own = np.fft.irfft2(np.square(np.abs(np.fft.rfft2(response, s=shape))), s=shape)
    return sum(
        weight * float(own[dy, dx] / own[0, 0] - correlation[dy, dx + LAGS - 1]) ** 2
        for (dy, dx), weight in _NEAR.items()
    )
