"""What is done to a clip, as data: a frozen recipe that can be stored as JSON. Its steps, in order:

    scene -> artifact -> defects -> scale -> process -> encode -> artifact

Everything but the artifact is shared. A synthesiser is a module with a class `Recipe`, derived from `BaseRecipe`, that
adds the artifact: before the encoders if it comes from the camera or the edit (`affect`), after them if it comes from
the way to the viewer (`deliver`). `seed` fixes every random detail: the same recipe on the same block yields the same
pixels.
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

Steps = Literal["scene", "defects", "process"]
STEPS: tuple[Steps, ...] = ("scene", "defects", "process")
Stage = Literal["source", "delivery"]


@dataclass(frozen=True)
class Effect:
    """One of the shared steps: its name and its keyword arguments."""

    kind: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Scaling after the artifact: factor > 1 enlarges, < 1 reduces. taps: 2 bilinear, 4 bicubic, 6 Lanczos."""

    factor: float
    taps: int = 4


@dataclass(frozen=True)
class Surroundings:
    """What happens to both branches of a clip."""

    seed: int = 0
    scene: tuple[Effect, ...] = ()
    defects: tuple[Effect, ...] = ()
    scale: Scale | None = None
    process: tuple[Effect, ...] = ()
    encode: tuple[Generation, ...] = ()

    def shared(self) -> dict[str, Any]:
        """The fields of this class as JSON values, without the seed."""
        record = {key: value for key, value in asdict(self).items() if key in _SHARED and key != "seed"}
        for name in STEPS:
            record[name] = [{"kind": effect.kind, **effect.values} for effect in getattr(self, name)]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises DataError for anything else."""
        try:
            values = dict(record)
            for name in STEPS:
                values[name] = tuple(_effect(effect) for effect in values.get(name, ()))
            values["scale"] = None if values.get("scale") is None else Scale(**values["scale"])
            values["encode"] = tuple(Generation(**generation) for generation in values.get("encode", ()))
            return cls(**cls._read(values))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"a recipe of the synthesiser cannot be read: {error}", hint="It must be as written by `to_dict`."
            ) from None

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Convert a subclass's own fields from JSON, if they are more than numbers and text."""
        return values


@dataclass(frozen=True)
class BaseRecipe(Surroundings, ABC):
    """Everything that happens to a clip. A synthesiser adds fields for its artifact, and the methods below.

    Strengths are in the unit of the task's record, or in one that the synthesiser states. A clip of at least `visible`
    is labelled 1, below `negligible` 0. In between people disagree: such a clip has a strength but no label.
    """

    task: ClassVar[str]
    visible: ClassVar[float]
    negligible: ClassVar[float]
    stage: ClassVar[Stage] = "source"  # where it arises: before or after the shared encoders
    own_scene: ClassVar[frozenset[str]] = frozenset()  # effects of `scene` that the artifact needs in both branches
    undone: ClassVar[Literal[0] | None] = 0  # label of a clip that has lost it; None if it may have it all the same

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A random recipe for a clip of this size."""

    @abstractmethod
    def clean(self) -> Self:
        """The same recipe without the artifact."""

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        """The pictures with the artifact, before the next steps. Raises DataError for an unknown kind."""
        return stack

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        """The decoded pictures with the artifact: as many, in the same size and format. Raises DataError."""
        return block

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        """How strong the artifact in `decoded` is, compared with `reference`: the same clip without the artifact.

        `added` (frames, height, width) is the change of luma by `affect` before encoding, in 8-bit codes, or what
        `of_itself` leaves of it.
        """
        return surviving(reference, decoded, added)

    def of_itself(self, added: Array, picture: Array) -> Array:
        """The part of a change of the luma of `picture` that is this artifact, not another one that comes with it."""
        return added

    @classmethod
    def standing(cls, source: Block, decoded: Block) -> float:
        """The strength in any clip, whether or not it was put there: what footage or encoders do by themselves.

        `source` is the clip before the encoders. Frames of `decoded` may be repeated or black.
        """
        return 0.0

    @classmethod
    def label_of(cls, strength: float) -> Literal[0, 1] | None:
        """1 from `visible` on, 0 below `negligible`, None in between."""
        if strength >= cls.visible:
            return 1
        return 0 if strength < cls.negligible else None

    def artifact(self) -> dict[str, Any]:
        """The recipe of the artifact alone as JSON values: task, seed and the synthesiser's own fields."""
        own = {key: value for key, value in asdict(self).items() if key not in _SHARED}
        return {"task": self.task, "seed": self.seed, **own}

    def to_dict(self) -> dict[str, Any]:
        """JSON values; floats keep all digits, so that the recipe yields the same pixels when read again."""
        return {**self.artifact(), **self.shared()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_dict` or `artifact` wrote. Raises DataError for anything else."""
        values = dict(record)
        task = values.pop("task", cls.task)
        if task != cls.task:
            raise DataError(
                f"a recipe of the synthesiser cannot be read: it is for {task}",
                hint="It must be as written by `to_dict`.",
            )
        return super().from_dict(values)


_SHARED = frozenset(field.name for field in fields(Surroundings))


def unknown(what: str, name: str) -> DataError:
    """The error for a recipe that names what does not exist."""
    return DataError(f"the recipe names an unknown {what}: {name}", hint="It comes from another version of grainscan.")


def _effect(record: Mapping[str, Any]) -> Effect:
    values = dict(record)
    return Effect(str(values.pop("kind")), {key: float(value) for key, value in values.items()})
