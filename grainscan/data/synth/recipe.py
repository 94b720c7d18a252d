"""What is done to a clip, as data: a frozen recipe that can be stored as JSON. Its steps, in order:

    scene -> artifact -> defects -> scale -> process -> encode

Everything but the artifact is shared. A synthesiser is a module with a class `Recipe`, derived from `BaseRecipe`, that
adds the artifact. `seed` fixes every random detail: the same recipe on the same block yields the same pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np

from grainscan.data.synth.encoding import Generation, surviving
from grainscan.data.synth.stack import Array, Stack
from grainscan.errors import DataError
from grainscan.video import Block

Stage = Literal["scene", "defects", "process"]
STAGES: tuple[Stage, ...] = ("scene", "defects", "process")


@dataclass(frozen=True)
class Effect:
    """A step of a stage: its name and its keyword arguments."""

    kind: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Scaling after the artifact: factor > 1 enlarges, < 1 reduces. taps: 2 bilinear, 4 bicubic, 6 Lanczos."""

    factor: float
    taps: int = 4


@dataclass(frozen=True)
class BaseRecipe(ABC):
    """Everything that happens to a clip. A synthesiser adds fields for its artifact, and the methods below.

    Strengths are in the unit of the task's record. A clip of at least `visible` is labelled 1, below `negligible` 0.
    In between people disagree: such a clip has a strength but no label.
    """

    task: ClassVar[str]
    visible: ClassVar[float]
    negligible: ClassVar[float]

    seed: int = 0
    scene: tuple[Effect, ...] = ()
    defects: tuple[Effect, ...] = ()
    scale: Scale | None = None
    process: tuple[Effect, ...] = ()
    encode: tuple[Generation, ...] = ()

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A random recipe for a clip of this size."""

    @abstractmethod
    def clean(self) -> Self:
        """The same recipe without the artifact."""

    @abstractmethod
    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        """The pictures with the artifact, before the next steps. Raises DataError for an unknown kind."""

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        """How strong the artifact in `decoded` is, compared with `reference`, the clean branch after encoding.

        `added` (frames, height, width) is the change of luma by the artifact before encoding, in 8-bit codes.
        """
        return surviving(reference, decoded, added)

    @classmethod
    def label_of(cls, strength: float) -> Literal[0, 1] | None:
        """1 from `visible` on, 0 below `negligible`, None in between."""
        if strength >= cls.visible:
            return 1
        return 0 if strength < cls.negligible else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; floats keep all digits, so that the recipe yields the same pixels when read again."""
        record = asdict(self)
        for stage in STAGES:
            record[stage] = [{"kind": effect.kind, **effect.values} for effect in getattr(self, stage)]
        artifact = {key: value for key, value in record.items() if key not in _SHARED}
        return {"task": self.task, "seed": record.pop("seed"), **artifact, **record}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises DataError for anything else."""
        try:
            values = dict(record)
            if values.pop("task", cls.task) != cls.task:
                raise ValueError(f"it is for {record['task']}")
            for stage in STAGES:
                values[stage] = tuple(_effect(effect) for effect in values.get(stage, ()))
            values["scale"] = None if values.get("scale") is None else Scale(**values["scale"])
            values["encode"] = tuple(Generation(**generation) for generation in values.get("encode", ()))
            return cls(**cls._read(values))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"a recipe of the synthesiser cannot be read: {error}", hint="It must be as written by `to_dict`."
            ) from None

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Convert the artifact's own fields from JSON, if they are more than numbers and text."""
        return values


_SHARED = frozenset(field.name for field in fields(BaseRecipe))


def unknown(what: str, name: str) -> DataError:
    """The error for a recipe that names what does not exist."""
    return DataError(f"the recipe names an unknown {what}: {name}", hint="It comes from another version of grainscan.")


def _effect(record: Mapping[str, Any]) -> Effect:
    values = dict(record)
    return Effect(str(values.pop("kind")), {key: float(value) for key, value in values.items()})
