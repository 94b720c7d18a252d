"""Motion blur: the camera moves while the shutter is open, or pictures are blended with their neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.drawing import PLAIN, VALUES, Span, draw_setting, pick, short
from grainscan.data.synth.optics import convolved, remaining, trail
from grainscan.data.synth.recipe import BaseRecipe, Effect, unknown
from grainscan.data.synth.stack import Array, Stack, mapped
from grainscan.video import Block

KINDS = {"line": 0.45, "sway": 0.15, "zoom": 0.1, "turn": 0.1, "blend": 0.2}
LENGTH = Span(4, 40, log=True)  # pixels
PANS = {"line": 0.75, "sway": 0.3, "blend": 0.6}  # share of recipes in which the camera is seen to move
_EXPOSED = Span(0.4, 1.6)  # length of the trail over the way from picture to picture
_FASTEST = 1 / 12  # of the smaller side, from picture to picture
_BLENDED = (2, 3, 4, 5, 7, 9)  # pictures


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with a trail of `length` pixels, or (0) without.

    For a zoom or a turn, the length is that of the trail half a side away from the middle. The unit of strengths is
    that of `spatial_blur`.
    """

    task = "motion_blur"
    visible = 1.8
    negligible = 0.7
    undone = None
    own_scene = frozenset({"pan"})

    kind: str = "line"
    length: float = 0.0
    angle: float = 0.0  # radians
    bend: float = 0.0  # radians along the trail
    drift: float = 0.0  # radians per picture
    frames: int = 1  # blended, kind "blend"
    filled: bool = False  # whether each of them has a trail, so that there are no gaps between the copies
    linear: bool = False  # in linear light

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        setting = draw_setting(rng, PLAIN, width=width, height=height)
        side = min(width, height)
        kind = pick(rng, KINDS)
        length = min(LENGTH.draw(rng), side / 6)
        angle = short(rng.uniform(-math.pi, math.pi))
        drift = short(rng.normal(0, 0.04))
        filled = kind == "blend" and rng.random() < 0.6
        if filled or rng.random() < PANS.get(kind, 0.0):
            if filled:
                length = min(length, side / 24)
            exposed = 1.0 if filled else _EXPOSED.draw(rng)
            speed = short(min(length / exposed, _FASTEST * side))
            zoom = VALUES["pan"]["zoom"].draw(rng) if rng.random() < 0.2 else 0.0
            moving = Effect("pan", {"speed": speed, "angle": angle, "bend": drift, "zoom": zoom})
            still = ("pan", "still")
            setting["scene"] = (moving, *(effect for effect in setting["scene"] if effect.kind not in still))
        return cls(
            kind=kind,
            length=short(length),
            angle=angle,
            bend=short(rng.normal(0, 0.5)) if rng.random() < 0.4 else 0.0,
            drift=drift,
            frames=int(rng.choice(_BLENDED)) if kind == "blend" else 1,
            filled=filled,
            linear=bool(rng.random() < 0.4),
            **setting,
        )

    def clean(self) -> Self:
        return replace(
            self, kind="line", length=0.0, angle=0.0, bend=0.0, drift=0.0, frames=1, filled=False, linear=False
        )

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.kind not in KINDS:
            raise unknown("kind of motion", self.kind)
        if not self.length:
            return stack
        if self.kind in ("zoom", "turn"):
            return mapped(stack, self._spun)
        if self.kind != "blend" or self.filled:
            paths = self._sway(rng, stack.shape[0]) if self.kind == "sway" else self._line(stack.shape[0])

            def kernels(sub_w: int, sub_h: int) -> Array:
                return trail(paths / np.array([1 << sub_h, 1 << sub_w]))

            stack = convolved(stack, kernels, linear=self.linear)
        return mapped(stack, lambda plane, sub_w, sub_h: _blended(plane, self.frames)) if self.frames > 1 else stack

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return remaining(reference, decoded, added)

    def _line(self, frames: int) -> NDArray[np.float64]:
        """The trails (frames, points, 2) of a straight or bent motion."""
        points = 2 * math.ceil(self.length) + 1
        along = np.linspace(-0.5, 0.5, points)
        heading = self.angle + self.drift * np.arange(frames)[:, None] + self.bend * along
        return _centred(np.stack([np.sin(heading), np.cos(heading)], axis=-1) * (self.length / points))

    def _sway(self, rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
        """The trails of a hand that moves this way and that while the shutter is open."""
        points = 3 * math.ceil(self.length) + 1
        turns = np.cumsum(rng.normal(0, 1.5 / math.sqrt(points), (frames, points)), axis=1)
        heading = self.angle + self.drift * np.arange(frames)[:, None] + turns
        return _centred(np.stack([np.sin(heading), np.cos(heading)], axis=-1) * (self.length / points))

    def _spun(self, plane: Array, sub_w: int, sub_h: int) -> Array:
        """The mean of 2^n enlarged or turned copies, made by n means of two."""
        _, height, width = plane.shape
        middle = ((height - 1) / 2, (width - 1) / 2)
        copies = max(2, math.ceil(math.log2(self.length)))
        whole = self.length / (min(height << sub_h, width << sub_w) / 2)  # relative enlargement, or radians
        step = whole / (1 << copies)
        plane = _transformed(plane, self._matrix(-whole / 2), middle)
        for _ in range(copies):
            plane = (plane + _transformed(plane, self._matrix(step), middle)) * np.float32(0.5)
            step *= 2
        return plane

    def _matrix(self, amount: float) -> NDArray[np.float64]:
        if self.kind == "zoom":
            return np.eye(2) * math.exp(amount)
        return np.array([[math.cos(amount), -math.sin(amount)], [math.sin(amount), math.cos(amount)]])


def _centred(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    paths = np.cumsum(steps, axis=1)
    return paths - (paths.max(axis=1, keepdims=True) + paths.min(axis=1, keepdims=True)) / 2


def _transformed(plane: Array, matrix: NDArray[np.float64], middle: tuple[float, float]) -> Array:
    """Every picture at `matrix` times the place from the middle, bilinear, mirrored at its edges."""
    _, height, width = plane.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    rows, columns = (
        _inside(line[0] * (y - middle[0]) + line[1] * (x - middle[1]) + centre, length)
        for line, centre, length in zip(matrix, middle, (height, width), strict=True)
    )
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    index = (top * width + left).ravel()
    flat = plane.reshape(len(plane), -1)

    def corner(dy: int, dx: int) -> Array:
        return np.take(flat, index + dy * width + dx, axis=1).reshape(plane.shape)

    above = corner(0, 0) + right * (corner(0, 1) - corner(0, 0))
    below = corner(1, 0) + right * (corner(1, 1) - corner(1, 0))
    return above + down * (below - above)


def _inside(places: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Mirrored into [0, length - 1), so that a neighbour exists."""
    places = np.abs(places)
    places = np.where(places > length - 1, 2 * (length - 1) - places, places)
    return np.clip(places, 0, length - 1 - 1e-4)


def _blended(plane: Array, frames: int) -> Array:
    """Each picture the mean of `frames` around it, fewer at the ends of the clip."""
    total = np.cumsum(np.concatenate([np.zeros_like(plane[:1], np.float64), plane]), axis=0, dtype=np.float64)
    first = np.maximum(np.arange(len(plane)) - (frames - 1) // 2, 0)
    last = np.minimum(np.arange(len(plane)) + frames // 2 + 1, len(plane))
    return np.asarray((total[last] - total[first]) / (last - first)[:, None, None], np.float32)
