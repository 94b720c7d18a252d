"""Dark scenes: too little light, whether in front of the camera or in the exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting
from grainscan.data.synth.recipe import BaseRecipe
from grainscan.data.synth.stack import NEUTRAL, Array, Stack
from grainscan.video import Block, PixelFormat
from grainscan.views.colour import levels

GAIN = Span(0.03, 0.4, log=True)
DARK = 0.7  # share of the picture that has to be dark: night may have its lamps
_NOTHING = 8.0  # 8-bit codes above black: a black screen is no dark scene
_GAMMA = 2.2


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with `gain` times the light, or (1) with all of it.

    Strengths are per cent of the way from white to black, in codes, at which `DARK` of the picture are at least. They
    are absolute: footage can be dark by itself, and bright in spite of the recipe. At 78, most of the picture has less
    than 4 % of white's light; at 67, a middle gray of 18 % is about a stop too dark.
    """

    task = "dark_scenes"
    visible = 78.0
    negligible = 67.0

    gain: float = 1.0
    gamma: float = 1.0  # > 1 darkens the middle
    lift: float = 0.0  # of black, 8-bit codes; < 0 crushes it
    colour: float = 1.0  # what is left of it besides
    lamp: float = 0.0  # radius of a spot of light, in heights of the picture; 0: none
    x: float = 0.5  # its place in the picture
    y: float = 0.5

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        scene = {key: chance for key, chance in PLAIN.scene.items() if key != "gradient"}
        setting = draw_setting(rng, replace(PLAIN, scene=scene), width=width, height=height)
        return cls(
            gain=GAIN.draw(rng),
            gamma=Span(0.9, 1.4).draw(rng),
            lift=Span(-8, 8).draw(rng) if rng.random() < 0.5 else 0.0,
            colour=Span(0.4, 1).draw(rng),
            lamp=Span(0.05, 0.3).draw(rng) if rng.random() < 0.3 else 0.0,
            x=Span(0, 1).draw(rng),
            y=Span(0, 1).draw(rng),
            **setting,
        )

    def clean(self) -> Self:
        return replace(self, gain=1.0, gamma=1.0, lift=0.0, colour=1.0, lamp=0.0, x=0.5, y=0.5)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self == self.clean():
            return stack
        black, white = _ends(stack.format)
        gain = self._light(stack)

        def exposed(plane: Array) -> Array:
            share = np.clip((plane - black) / np.float32(white - black), 0, 1.1)
            light = np.power(share, np.float32(_GAMMA * self.gamma)) * gain
            codes = black + np.power(light, np.float32(1 / _GAMMA)) * np.float32(white - black - self.lift)
            return np.maximum(codes + np.float32(self.lift), black)

        if stack.format.layout == "rgb":
            return Stack(tuple(map(exposed, stack.planes)), stack.format)
        faded = np.float32(self.colour * self.gain ** (1 / _GAMMA))
        chroma = (NEUTRAL + faded * (plane - np.float32(NEUTRAL)) for plane in stack.planes[1:])
        return Stack((exposed(stack.planes[0]), *chroma), stack.format)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return 0.0  # `standing` measures it

    @classmethod
    def standing(cls, source: Block, decoded: Block) -> float:
        dark = darkness(decoded)
        return (cls.visible + cls.negligible) / 2 if dark is None else dark

    def _light(self, stack: Stack) -> Array:
        """What is left of the light: (1, height, width)."""
        _, height, width = stack.shape
        gain = np.full((1, height, width), self.gain, np.float32)
        if not self.lamp:
            return gain
        y, x = np.mgrid[:height, :width].astype(np.float32)
        distance = np.hypot(y - np.float32(self.y * height), x - np.float32(self.x * width))
        return gain + np.exp(-np.square(distance / np.float32(self.lamp * height))) * np.float32(1 - self.gain)


def darkness(block: Block) -> float | None:
    """How near to black `DARK` of a picture are at least: 0 white, 100 black. The median over the pictures.

    Pictures that show nothing at all are passed over; None if there is no other.
    """
    black, white = _ends(block.format)
    luma = block.luma8()[:, ::2, ::2]
    shown = luma[np.quantile(luma, 0.99, axis=(1, 2)) > black + _NOTHING]
    if not len(shown):
        return None
    level = np.median(np.quantile(shown, DARK, axis=(1, 2)))
    return 100 * float(np.clip((white - level) / (white - black), 0, 1))


def _ends(form: PixelFormat) -> tuple[float, float]:
    """8-bit codes of black and white."""
    black, white = levels(form)
    return black / form.unit, white / form.unit
