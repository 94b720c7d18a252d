"""What is done to a clip, as data: a frozen, JSON-able `Recipe`, in the order of its steps.

    scene -> grain -> defects -> scale -> process -> encode

`drawing.draw` decides what stands here; `Recipe.seed` then fixes every random detail, so that the same recipe on the
same block gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from grainscan.errors import DataError

Curve = tuple[tuple[float, float], ...]  # (luma level, gain) with rising levels
FLAT: Curve = ((0.0, 1.0), (255.0, 1.0))


@dataclass(frozen=True)
class Grain:
    """A kind of grain and its measures; the kinds stand in `grain.KINDS`."""

    kind: str
    sigma: float  # standard deviation over the clip before anything follows, 8-bit luma codes
    size: float = 1.0  # width of a grain in pixels, full width at half maximum; fixed for white and sensor
    aspect: float = 1.0  # width over height
    gain: Curve = FLAT
    chroma: float = 0.0  # deviation of chroma grain over that of luma grain; 0: black and white
    coupling: float = 0.0  # correlation of chroma grain with luma grain
    skew: float = 0.0
    lag: int = 3  # of the autoregressive kind: 0 to 3
    low: float = 0.0  # of the band kind: lower over upper cut-off frequency

    def resized(self, size: float) -> Grain:
        return replace(self, size=size)


@dataclass(frozen=True)
class Effect:
    """A step of another family: its name there and its keyword arguments."""

    kind: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Scaling after grain: factor > 1 enlarges, < 1 reduces. taps: 2 bilinear, 4 bicubic, 6 Lanczos."""

    factor: float
    taps: int = 4


@dataclass(frozen=True)
class Generation:
    """One pass through an encoder: names and scales of quality are those of `video.CODECS`."""

    codec: str
    quality: int | None = None
    gop: int | None = None  # frames between key frames; None: the encoder's choice
    speed: int = 1  # 0 the encoder's usual effort, 2 the fastest


@dataclass(frozen=True)
class Recipe:
    """Everything that happens to a clip. `grain` None: a clip that stays clean."""

    task: str = "graininess"
    seed: int = 0
    grain: Grain | None = None
    scene: tuple[Effect, ...] = ()
    defects: tuple[Effect, ...] = ()
    scale: Scale | None = None
    process: tuple[Effect, ...] = ()
    encode: tuple[Generation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats keep all their digits, so that the same pixels come out after reading."""
        record = asdict(self)
        for family in ("scene", "defects", "process"):
            record[family] = [{"kind": effect.kind, **effect.values} for effect in getattr(self, family)]
        record["encode"] = [asdict(generation) for generation in self.encode]
        if self.grain is not None:
            record["grain"]["gain"] = [list(point) for point in self.grain.gain]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote. Raises DataError when it is something else."""
        try:
            known = dict(record)
            if known.get("grain") is not None:
                values = dict(known["grain"])
                values["gain"] = tuple((float(level), float(gain)) for level, gain in values["gain"])
                known["grain"] = Grain(**values)
            for family in ("scene", "defects", "process"):
                known[family] = tuple(_effect(values) for values in known.get(family, ()))
            known["scale"] = None if known.get("scale") is None else Scale(**known["scale"])
            known["encode"] = tuple(Generation(**values) for values in known.get("encode", ()))
            return cls(**known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"a recipe of the synthesiser cannot be read: {error}", hint="It must be as `Recipe.to_dict` writes it."
            ) from None


def _effect(record: Mapping[str, Any]) -> Effect:
    values = dict(record)
    return Effect(str(values.pop("kind")), {key: float(value) for key, value in values.items()})
