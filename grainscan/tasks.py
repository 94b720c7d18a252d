"""The table of artifacts: one frozen record for each, and a default record for any other name.

Code that depends on an artifact asks its record; no other module names one, but the artifact's synthesiser. A new
artifact that is learnt from labels needs no record at all. One with words, a unit or a sampling of its own needs an
entry in `STANDARD`; one that can be synthesised also needs a module in `grainscan.data.synth`, which its record names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["reverse", "mirror", "flip", "light"]
AUGMENTATIONS: frozenset[Augmentation] = frozenset({"reverse", "mirror", "flip", "light"})


@dataclass(frozen=True)
class Task:
    """What the rest of the package needs to know about an artifact."""

    name: str  # snake_case, as in labels.json
    found: str = ""  # word for label 1; default: the name
    absent: str = ""  # word for label 0; default: "no" and the name
    report_title: str = ""  # of a page about it alone; default: the name and "report"
    folders: tuple[str, ...] = ()  # names of folders, besides the task's own, whose clips have it
    published_mark: str | None = None  # part of BVI-Artefact's output names that means that a clip has it
    unit: str | None = None  # of its strength; None: that of the training data
    flat_crops: float = 0.5  # share of a window's crops taken where the picture is flattest; the rest lies on a grid
    decided_by: Literal["lowest", "highest"] = "lowest"  # the views of a file that decide, where not all do
    augmentations: frozenset[Augmentation] = AUGMENTATIONS  # those that keep its label true
    synthesiser: str | None = None  # module of `grainscan.data.synth` that makes it
    estimator: str | None = None  # of `grainscan.views.estimators`, which the model is compared with

    def __post_init__(self) -> None:
        words = self.name.replace("_", " ")
        object.__setattr__(self, "found", self.found or words)
        object.__setattr__(self, "absent", self.absent or f"no {words}")
        object.__setattr__(self, "report_title", self.report_title or f"{words} report".capitalize())

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def word(self, label: int) -> str:
        """`grainy` and `clean`; `banding` and `no banding`."""
        return self.found if label else self.absent


def _without(*forbidden: Augmentation) -> frozenset[Augmentation]:
    return AUGMENTATIONS - set(forbidden)


STANDARD: tuple[Task, ...] = (  # the artifacts of BVI-Artefact, in the order of its paper
    Task(
        "graininess",
        found="grainy",
        absent="clean",
        report_title="Grain report",
        folders=("grainy", "noisy"),
        published_mark="graininess",
        unit="8-bit luma codes (standard deviation)",
        synthesiser="graininess",
        estimator="temporal",
    ),
    Task("blockiness", folders=("blocky",), published_mark="QP47"),
    Task("banding", folders=("banded",), published_mark="banding"),
    Task("spatial_blur"),
    Task("motion_blur", published_mark="Motion"),
    Task("aliasing", folders=("aliased",), published_mark="aliasing"),
    Task("dark_scenes", published_mark="Dark", augmentations=_without("light")),
    Task("black_screen", decided_by="highest", augmentations=_without("light")),
    Task("frame_drop", decided_by="highest", augmentations=_without("reverse")),
    Task("transmission_error", decided_by="highest"),
)
DEFAULT_TASK = STANDARD[0].name  # what {"a.avi": 1} in labels.json means, and what a fresh model learns

_BY_NAME = {task.name: task for task in STANDARD}


def task_of(name: str) -> Task:
    """The record of a task; a default one for tasks of the user's own."""
    return _BY_NAME.get(name) or Task(name)


def synthesised() -> tuple[str, ...]:
    """Tasks that `prep --synthesize` can make."""
    return tuple(task.name for task in STANDARD if task.synthesiser)
