"""What becomes of each task in a training: learnt, kept, measured, or refused with what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grainscan.errors import ConfigError, UsageError
from grainscan.model.spec import ModelSpec
from grainscan.options import TrainConfig
from grainscan.tasks import STANDARD
from grainscan.train.roles import Roles, assign
from grainscan.views.statistics import COUNT

LABELLED = ("banding", "black_screen", "graininess", "vignette")
GRAIN = ModelSpec("grain", ("graininess",), statistics=COUNT)
MANY = ModelSpec("many", ("graininess", "banding"), statistics=COUNT, measured=("frame_drop",))


def roles(start: ModelSpec | None = MANY, labelled: tuple[str, ...] = LABELLED, **options: Any) -> Roles:
    return assign(TrainConfig(Path("data"), **options), labelled, start)


def test_by_default_the_new_model_has_what_is_labelled() -> None:
    found = roles()
    assert found == Roles(("banding", "graininess", "vignette"), (), ("black_screen",), (*found.learnt, "black_screen"))
    assert found.tasks == ("banding", "graininess", "vignette")


def test_a_subset_may_be_named() -> None:
    assert roles(tasks="banding, vignette").learnt == ("banding", "vignette")
    named = roles(tasks="banding,frame_drop")  # a formula needs no labels, but cannot be calibrated without
    assert (named.learnt, named.measured, named.fitted) == (("banding",), ("frame_drop",), ("banding",))


def test_an_added_task_leaves_the_others_alone() -> None:
    assert roles(add_task="vignette") == Roles(("vignette",), MANY.tasks, MANY.measured, ("vignette",))
    assert roles(GRAIN, add_task="vignette, banding").tasks == ("graininess", "vignette", "banding")


def test_tuning_the_other_scales_keeps_what_native_views_alone_judge() -> None:
    found = roles(GRAIN, tune="picture")
    assert (found.kept, found.learnt) == (("graininess",), ("banding", "vignette"))
    assert found.measured == ("black_screen",) and found.fitted == ("banding", "vignette", "black_screen")
    again = roles(MANY, tune="picture")
    assert (again.kept, again.measured) == (("graininess",), ("frame_drop", "black_screen"))
    assert roles(MANY, tune="picture", tasks="vignette").learnt == ("vignette",)


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (MANY, {"add_task": "banding"}, "many knows banding already"),
        (MANY, {"add_task": "aliasing"}, "no clip has a label for aliasing"),
        (MANY, {"add_task": "black_screen"}, "black_screen is measured by a formula"),
        (MANY, {"add_task": "Vignette"}, "'Vignette' is not a name"),
        (None, {"add_task": "vignette"}, "has no tasks yet"),
        (MANY.with_(statistics=0), {"tune": "picture"}, "reads no statistics of the picture"),
        (None, {"tune": "picture"}, "reads no statistics of the picture"),
        (MANY, {"tasks": "black_screen"}, "nothing to learn: black_screen is only kept or measured"),
        (MANY, {"tune": "picture", "tasks": "graininess"}, "nothing to learn: graininess is only kept or measured"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(start: ModelSpec | None, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=message) as caught:
        roles(start, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_task": "vignette", "scratch": True}, "--scratch does not go with --add-task"),
        ({"add_task": "vignette", "tasks": "banding"}, "--tasks does not go with --add-task"),
        ({"add_task": "vignette", "tune": "last-2"}, "--tune last-2 does not go with --add-task"),
        ({"add_task": "vignette", "lora": 4}, "--lora does not go with --add-task"),
        ({"add_task": "vignette", "size": 32}, "--size does not go with --add-task"),
        ({"add_task": " , "}, "--add-task names no task"),
        ({"tune": "picture", "pooling": "cls"}, "--pooling does not go with --tune picture"),
    ],
)
def test_options_that_would_change_the_rest_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TrainConfig(Path("data"), **options)
    assert caught.value.hint


def test_every_standard_task_is_either_learnt_or_measured() -> None:
    found = roles(labelled=tuple(task.name for task in STANDARD))
    assert {*found.learnt, *found.measured} == {task.name for task in STANDARD}
