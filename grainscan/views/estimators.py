"""Classical noise estimators, to compare the model with on the same windows.

Each accepts the luma of a window, 8-bit codes, (frames, height, width), and estimates the standard deviation of its
noise in the same codes. All come from the literature on blind noise estimation; no constant was fitted to labelled
clips. `measure` runs them all on a window, and a file's value is the median over its windows.

A task's record names the one that the model is compared with. Like the model, it was chosen on synthetic twins of
training clips, not on what it is evaluated on; `eval` shows all of them, so that a stronger one cannot hide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window
from grainscan.views.crops import active_area

BLOCK = 16  # side of a block, pixels
PERCENTILE = 10  # of the block deviations: the flattest blocks show the noise best
FRAMES = 3  # consecutive frames of a window that are used
WIDEST, HIGHEST = 1280, 720  # pixels; only the middle of larger pictures is used

_DARK, _BRIGHT = 20.0, 232.0  # mean luma codes between which noise is not clipped away (limited range: 16 to 235)
_PATCH = 5  # side of the patches of `pca`, pixels
_PATCH_STEP = 3  # pixels between patches
_WEAK_PATCH = 7  # side of the patches of `weak_texture`, pixels
_WEAK_STEP = 4
_WEAK_ROUNDS = 3
_WEAK_SIGMAS = 3.0  # texture strength, in its own standard deviations, above which a patch counts as textured

Frames = NDArray[np.float32]


def measure(window: Window) -> dict[str, float]:
    """All estimates for a window, in 8-bit luma codes; 0 where there is nothing to measure."""
    picture = Picture(luma_of(window))
    return {name: estimate(picture) for name, estimate in ESTIMATORS.items()}


def luma_of(window: Window) -> Frames:
    """The middle of the picture without its black bars, at most WIDEST x HIGHEST, of the first FRAMES frames."""
    x, y, width, height = active_area(window)
    inner_width, inner_height = min(width, WIDEST), min(height, HIGHEST)
    left = x + (width - inner_width) // 4 * 2  # on the chroma grid
    top = y + (height - inner_height) // 4 * 2
    return window.block(left, top, inner_width, inner_height).luma8()[:FRAMES]


@dataclass(frozen=True)
class Picture:
    """The luma (T, H, W) of a window in 8-bit codes, and what several estimators derive from it, computed once."""

    luma: Frames

    @cached_property
    def changes(self) -> Frames:
        """Differences of consecutive frames over the root of 2, which keeps the deviation of independent noise."""
        return (self.luma[1:] - self.luma[:-1]) / np.float32(np.sqrt(2))

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Which blocks (T, rows, columns) are neither clipped nor without any variation."""
        mean, deviation = block_moments(self.luma)
        return (mean > _DARK) & (mean < _BRIGHT) & (deviation > 0)

    def lowest(self, frames: Frames) -> float:
        """The PERCENTILE of the deviations of usable blocks; `frames` may lack the first frame or the border."""
        if not frames.size:
            return 0.0
        _, deviation = block_moments(frames)
        usable = self.usable[-len(deviation) :, : deviation.shape[1], : deviation.shape[2]]
        return float(np.percentile(deviation[usable], PERCENTILE)) if usable.any() else 0.0


def flat(picture: Picture) -> float:
    """The deviation of the flattest blocks of a frame.

    Olsen, "Estimation of noise in images: an evaluation", CVGIP 55, 1993 (block method).
    """
    return picture.lowest(picture.luma)


def temporal(picture: Picture) -> float:
    """`flat` of differences of consecutive frames: still texture cancels, grain does not.

    Ghazal, Amer & Ghrayeb, "A real-time technique for spatio-temporal video noise estimation", TCSVT 17, 2007.
    """
    return picture.lowest(picture.changes)


def laplacian(picture: Picture) -> float:
    """The deviation of the flattest blocks after Immerkaer's operator, which removes shading and straight edges.

    Tai & Yang, "A fast method for image noise estimation using Laplacian operator and adaptive edge detection",
    ISCCSP 2008, with flat blocks instead of an edge detector.
    """
    return picture.lowest(immerkaer_operator(picture.luma))


def temporal_laplacian(picture: Picture) -> float:
    """`laplacian` of differences of consecutive frames, which leaves what is new, fine and everywhere."""
    return picture.lowest(immerkaer_operator(picture.changes))


def immerkaer(picture: Picture) -> float:
    """The mean magnitude of the operator over the whole picture.

    Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64, 1996.
    """
    response = immerkaer_operator(picture.luma)
    return float(np.sqrt(np.pi / 2) * np.mean(np.abs(response))) if response.size else 0.0


def mad(picture: Picture) -> float:
    """The median magnitude of the finest diagonal Haar wavelets, over 0.6745.

    Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81, 1994.
    """
    even = picture.luma[:, : picture.luma.shape[1] // 2 * 2, : picture.luma.shape[2] // 2 * 2]
    wavelets = (even[:, ::2, ::2] - even[:, 1::2, ::2] - even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 2
    return float(np.median(np.abs(wavelets)) / 0.6745) if wavelets.size else 0.0


def pca(picture: Picture) -> float:
    """The root of the smallest eigenvalue of the covariance of the flattest patches, which texture affects last.

    About four fifths of the deviation of pure noise, since the flattest patches are those where it happens to be weak.
    Pyatykh, Hesser & Zheng, "Image noise level estimation by principal component analysis", TIP 22, 2013; their search
    for the right subset of patches is replaced by the PERCENTILE with the least variance.
    """
    patches = _patches(picture.luma[0], _PATCH, _PATCH_STEP)
    variance = patches.var(axis=1)
    patches, variance = patches[variance > 0], variance[variance > 0]
    if not len(patches):
        return 0.0
    return _smallest_deviation(patches[variance <= np.percentile(variance, PERCENTILE)])


def weak_texture(picture: Picture) -> float:
    """`pca` of patches whose gradients noise alone explains, found together with the noise level by iteration.

    Liu, Tanaka & Okutomi, "Single-image noise level estimation for blind denoising", TIP 22, 2013; the
    texture strength is assumed to be normally distributed, with its moments under white noise.
    """
    patches = _patches(picture.luma[0], _WEAK_PATCH, _WEAK_STEP)
    squares = patches.reshape(-1, _WEAK_PATCH, _WEAK_PATCH)
    texture = np.sum(np.diff(squares, axis=1) ** 2, axis=(1, 2)) + np.sum(np.diff(squares, axis=2) ** 2, axis=(1, 2))
    gradients = 2 * _WEAK_PATCH * (_WEAK_PATCH - 1)  # each of variance 2 sigma^2, neighbours sharing a pixel
    deviation = _smallest_deviation(patches)
    for _ in range(_WEAK_ROUNDS):
        limit = 2 * deviation**2 * (gradients + _WEAK_SIGMAS * np.sqrt(3 * gradients))
        weak = _smallest_deviation(patches[texture < limit])
        if not weak:
            break
        deviation = weak
    return deviation


_ALL = (flat, temporal, laplacian, temporal_laplacian, immerkaer, mad, pca, weak_texture)
ESTIMATORS: dict[str, Callable[[Picture], float]] = {estimator.__name__: estimator for estimator in _ALL}


def immerkaer_operator(frames: Frames) -> Frames:
    """[[1, -2, 1], [-2, 4, -2], [1, -2, 1]] / 6, which keeps the deviation of white noise: (T, H - 2, W - 2)."""
    vertical = frames[:, :-2] - 2 * frames[:, 1:-1] + frames[:, 2:]
    both = vertical[:, :, :-2] - 2 * vertical[:, :, 1:-1] + vertical[:, :, 2:]
    return both / np.float32(6)


def block_moments(frames: Frames) -> tuple[Frames, Frames]:
    """Mean and standard deviation (T, rows, columns) of the BLOCK x BLOCK blocks that fit."""
    mean, square = _block_means(frames), _block_means(frames * frames)
    return mean, np.sqrt(np.maximum(square - mean * mean, 0))


def _block_means(frames: Frames) -> Frames:
    """Two products with matrices of ones, several times as fast as a mean over reshaped axes."""
    rows, columns = frames.shape[1] // BLOCK, frames.shape[2] // BLOCK
    ones = np.full((BLOCK, 1), 1 / BLOCK, np.float32)
    across = np.kron(np.eye(columns, dtype=np.float32), ones)
    down = np.kron(np.eye(rows, dtype=np.float32), ones.T)
    return np.asarray(down @ (frames[:, : rows * BLOCK, : columns * BLOCK] @ across))


def _patches(frame: NDArray[np.float32], side: int, step: int) -> NDArray[np.float32]:
    """Patches (n, side * side) on a grid that are neither dark nor bright."""
    if min(frame.shape) < side:
        return np.empty((0, side * side), np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(frame, (side, side))[::step, ::step].reshape(-1, side * side)
    mean = patches.mean(axis=1)
    return patches[(mean > _DARK) & (mean < _BRIGHT)]


def _smallest_deviation(patches: NDArray[np.float32]) -> float:
    """Root of the smallest eigenvalue of the covariance of the pixels (n, d) of patches; 0 for too few patches.

    A sample's is smaller than the true one by a factor of (1 - sqrt(d / n))^2 and corrected (Marchenko & Pastur 1967).
    """
    count, pixels = patches.shape
    if count < 2 * pixels:
        return 0.0
    centred = patches - patches.mean(axis=0)
    covariance = (centred.T @ centred).astype(np.float64) / (count - 1)
    smallest = max(0.0, float(np.linalg.eigvalsh(covariance)[0]))
    return float(np.sqrt(smallest) / (1 - np.sqrt(pixels / count)))
