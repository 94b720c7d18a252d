"""The table of artifacts: a record for each, and a default record for any other name.

Code that depends on an artifact asks its record; only its synthesiser also names it. An artifact learnt from labels
needs no record. One with its own words, unit or sampling needs an entry in `STANDARD`; one that can be synthesised also
needs a module in `grainscan.data.synth`, named by its record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["reverse", "mirror", "flip", "light"]
AUGMENTATIONS: frozenset[Augmentation] = frozenset({"reverse", "mirror", "flip", "light"})


@dataclass(frozen=True)
class Task:
    """What the package knows about an artifact."""

    name: str  # snake_case, as in labels.json
    found: str = ""  # word for label 1; default: the name
    absent: str = ""  # word for label 0; default: "no" and the name
    report_title: str = ""  # title of a page about this task only; default: the name and "report"
    folders: tuple[str, ...] = ()  # names of folders, besides the task's own, whose clips have it
    published_mark: str | None = None  # in BVI-Artefact's names of clips that have it
    unit: str | None = None  # of its strength; None: that of the training data
    flat_crops: float = 0.5  # share of a window's crops where the picture is flattest; the others form a grid
    views: bool = True  # whether the network judges it by views; if not, by statistics of the picture alone
    statistics: bool = True  # whether by statistics of the picture, if the model reads them
    decided_by: Literal["lowest", "highest"] = "lowest"  # the views that decide if not all do
    measured: bool = False  # by a formula over every decoded frame (`grainscan.views.measures`), not by the network
    augmentations: frozenset[Augmentation] = AUGMENTATIONS  # those that preserve its label
    synthesiser: str | None = None  # module in `grainscan.data.synth`
    estimator: str | None = None  # baseline in `grainscan.views.estimators`

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", self.found or self.title)
        object.__setattr__(self, "absent", self.absent or f"no {self.title}")
        object.__setattr__(self, "report_title", self.report_title or f"{self.title} report".capitalize())

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def word(self, label: int) -> str:
        """`grainy` or `clean`, `banding` or `no banding`."""
        return self.found if label else self.absent


STANDARD: tuple[Task, ...] = (  # the artifacts of BVI-Artefact, in the order of its paper
    Task(
        "graininess",
        found="grainy",
        absent="clean",
        report_title="Grain report",
        folders=("grainy", "noisy"),
        published_mark="graininess",
        unit="8-bit luma codes (standard deviation)",
        statistics=False,
        synthesiser="graininess",
        estimator="temporal",
    ),
    Task(
        "blockiness",
        folders=("blocky",),
        published_mark="QP47",
        views=False,
        synthesiser="blockiness",
    ),
    Task(
        "banding",
        folders=("banded",),
        published_mark="banding",
        unit="8-bit luma codes (height of a step)",
        views=False,
        synthesiser="banding",
    ),
    Task(
        "spatial_blur",
        folders=("blurred", "blurry"),
        views=False,
        synthesiser="spatial_blur",
    ),
    Task(
        "motion_blur",
        published_mark="Motion",
        views=False,
        synthesiser="motion_blur",
    ),
    Task(
        "aliasing",
        folders=("aliased",),
        published_mark="aliasing",
        views=False,
        synthesiser="aliasing",
    ),
    Task(
        "dark_scenes",
        published_mark="Dark",
        augmentations=AUGMENTATIONS - {"light"},
        measured=True,
        synthesiser="dark_scenes",
    ),
    Task(
        "black_screen",
        decided_by="highest",
        augmentations=AUGMENTATIONS - {"light"},
        measured=True,
        synthesiser="black_screen",
    ),
    Task(
        "frame_drop",
        decided_by="highest",
        augmentations=AUGMENTATIONS - {"reverse"},
        measured=True,
        synthesiser="frame_drop",
    ),
    Task(
        "transmission_error",
        views=False,
        decided_by="highest",
        synthesiser="transmission_error",
    ),
)
SYNTHESISED = tuple(task.name for task in STANDARD if task.synthesiser)  # what `prep --synthesize all` means
MEASURED = tuple(task.name for task in STANDARD if task.measured)
DEFAULT_TASK = STANDARD[0].name  # the meaning of {"a.avi": 1} in labels.json

_BY_NAME = {task.name: task for task in STANDARD}


def task_of(name: str) -> Task:
    """The record of a task, a default one for custom tasks."""
    return _BY_NAME.get(name) or Task(name)
