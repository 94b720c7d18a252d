"""Several artifacts in one clip: drawn in order, made again from the manifest, labelled each by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip
from test_synth_sources import same, scene

from grainscan.data.labels import read_labels
from grainscan.data.manifest import read_manifest
from grainscan.data.prep import prepare
from grainscan.data.synth import (
    Combination,
    Generation,
    apply,
    banding,
    combine,
    dark_scenes,
    encode,
    graininess,
    spatial_blur,
    synthesiser,
    twin,
)
from grainscan.data.synth.combination import NUMBER
from grainscan.data.synth.grain import Grain
from grainscan.data.synth.twins import Branches
from grainscan.errors import ConfigError, DataError
from grainscan.options import PrepConfig
from grainscan.tasks import SYNTHESISED, task_of
from grainscan.video import Block, read_clip

FINE = (Generation("h264", 18, speed=2),)


def test_a_combination_draws_some_of_the_tasks_and_sorts_them_by_stage() -> None:
    rng = np.random.default_rng(0)
    seen: dict[int, int] = {}
    for _ in range(300):
        recipe = Combination.draw(rng, SYNTHESISED, width=96, height=80)
        tasks = [one.task for one in recipe.artifacts]
        assert len(set(tasks)) == len(tasks) and set(tasks) <= set(SYNTHESISED)
        stages = [one.stage for one in recipe.artifacts]
        assert stages == sorted(stages, reverse=True)  # source, then delivery
        assert all(one.encode == one.scene == one.defects == one.process == () for one in recipe.artifacts)
        assert all(one != one.clean() for one in recipe.artifacts)
        seen[len(tasks)] = seen.get(len(tasks), 0) + 1
    assert set(seen) == set(NUMBER) and seen[1] > seen[2] > seen[4]
    pairs = [Combination.draw(rng, ("banding", "spatial_blur"), width=96, height=80).artifacts for _ in range(60)]
    orders = {tuple(one.task for one in artifacts) for artifacts in pairs}
    assert orders == {("banding",), ("spatial_blur",), ("banding", "spatial_blur"), ("spatial_blur", "banding")}
    assert len(Combination.draw(rng, ("banding",), width=96, height=80).artifacts) == 1


def test_a_combination_is_read_back_and_gives_the_same_pixels() -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        recipe = Combination.draw(rng, SYNTHESISED, width=96, height=80)
        recipe = replace(recipe, encode=FINE)
        read = Combination.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert read == recipe
        clean, affected = combine(scene(), recipe, ())
        again = combine(scene(), read, ())
        assert same(clean.block, again[0].block) and same(affected.block, again[1].block)
    artifacts: tuple[Any, ...] = ({}, {"task": "halos"}, {"task": "banding", "x": 1})
    for broken in (*({"artifacts": [one]} for one in artifacts), {"scene": [{}]}, {"colour": 1}):
        with pytest.raises((DataError, ConfigError)):
            Combination.from_dict(broken)


def test_one_artifact_alone_is_the_same_as_its_twin() -> None:
    recipe = spatial_blur.Recipe(seed=3, sigma=2.0, encode=FINE)
    alone = replace(recipe, encode=())
    pair = twin(scene(), recipe)
    clean, affected = combine(scene(), Combination(3, encode=FINE, artifacts=(alone,)), ("spatial_blur",))
    assert same(pair.clean, clean.block) and same(pair.affected, affected.block)
    assert affected.strength["spatial_blur"] == pair.strength and affected.labels == {"spatial_blur": pair.label}


def test_every_task_asked_for_has_a_label() -> None:
    blur, dark = spatial_blur.Recipe(seed=1, sigma=3.0), dark_scenes.Recipe(gain=0.05)
    tasks = ("graininess", "spatial_blur", "dark_scenes", "banding")
    clean, affected = combine(scene(), Combination(encode=FINE, artifacts=(blur, dark)), tasks)
    assert clean.labels == dict.fromkeys(tasks, 0)
    assert affected.labels == {"graininess": 0, "spatial_blur": 1, "dark_scenes": 1, "banding": 0}
    assert affected.strength["graininess"] == 0


def test_an_artifact_that_another_one_undoes_is_not_labelled_1() -> None:
    grain = graininess.Recipe(seed=2, grain=Grain("white", 6.0))
    blur = spatial_blur.Recipe(sigma=4.0)
    tasks = ("graininess", "spatial_blur")
    after = combine(scene(), Combination(encode=FINE, artifacts=(blur, grain)), tasks)[1]
    before = combine(scene(), Combination(encode=FINE, artifacts=(grain, blur)), tasks)[1]
    assert after.labels == {"graininess": 1, "spatial_blur": 1}
    assert before.labels == {"graininess": 0, "spatial_blur": 1}
    twice = (spatial_blur.Recipe(seed=1, sigma=0.9), blur)
    assert Branches(scene(), Combination(encode=FINE)).strength(spatial_blur.Recipe, twice[:1]) > 0


def test_branches_with_the_same_pictures_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = []

    def counted(block: Block, generations: Any) -> Block:
        count.append(1)
        return encode(block, generations)

    monkeypatch.setattr("grainscan.data.synth.twins.encode", counted)
    late = synthesiser("frame_drop").draw(np.random.default_rng(0), width=96, height=80)
    late = replace(late, scene=(), defects=(), process=(), encode=(), late=True)
    recipe = Combination(encode=FINE, artifacts=(banding.Recipe(step=10.0), late))
    combine(scene(), recipe, ("banding", "frame_drop"))
    assert len(count) == 2  # with banding and without, whatever is dropped afterwards


# ------------------------------------------------------------------------------------------------------------- prep


def prep(tmp_path: Path, **options: Any) -> Any:
    values = {"clips": 1, "frames": 6, "size": 64, "workers": 0, **options}
    return prepare(PrepConfig((tmp_path / "footage",), tmp_path / "data", **values))


def test_prep_labels_every_task_and_its_clips_can_be_made_again(tmp_path: Path, make_clip: MakeClip) -> None:
    source = make_clip("footage/a.mkv", frames=14, width=96, height=80, codec="ffv1")
    tasks = ("banding", "spatial_blur", "graininess")
    report = prep(tmp_path, synthesize=",".join(tasks), twins=3, seed=4)
    names = ["a_c00.avi", *(f"a_c00_artifacts{number}.avi" for number in (1, 2, 3))]
    assert sorted(report.clips) == names
    manifest = read_manifest(tmp_path / "data")
    assert manifest is not None
    known = {name: {task: label for task, label in manifest["clips"][name]["labels"].items() if label is not None}
             for name in names}  # fmt: skip
    assert read_labels(tmp_path / "data").clips == known
    whole = read_clip(source)
    for name in names:
        entry = manifest["clips"][name]
        assert list(entry["labels"]) == list(tasks)
        assert set(entry["strength"]) == {"banding", "graininess"}  # a blur has no unit
        x, y, width, height = entry["box"]
        block = whole.crop(x, y, width, height, round(entry["start"] * 25), 6).copy()
        recipe = Combination.from_dict(entry["synthesis"])
        assert bool(recipe.artifacts) == (name != "a_c00.avi")
        made = combine(block, recipe, tasks)[1]
        assert entry["labels"] == dict(made.labels)
        assert same(read_clip(tmp_path / "data" / name), made.block)
    assert manifest["clips"]["a_c00.avi"]["twin"] == "a_c00_artifacts1.avi"
    again = prep(tmp_path, synthesize=",".join(tasks), twins=3, seed=4)
    assert again.state == "unchanged" and again.clips == report.clips


def test_all_means_every_task_with_a_synthesiser(tmp_path: Path, make_clip: MakeClip) -> None:
    assert PrepConfig((), Path("x"), synthesize="all").synthesised == SYNTHESISED
    assert PrepConfig((), Path("x"), synthesize="banding, graininess,banding").synthesised == ("banding", "graininess")
    assert all(task_of(task).synthesiser for task in SYNTHESISED) and len(SYNTHESISED) == 10
    make_clip("footage/a.avi", frames=8, width=80, height=80)
    planned = prep(tmp_path, synthesize="all", dry_run=True)
    assert planned.clips["a_c00_artifacts1.avi"] == dict.fromkeys(SYNTHESISED)
    report = prep(tmp_path, synthesize="all")
    assert all(set(labels) == set(SYNTHESISED) for labels in report.clips.values())
    assert any("taken as clean" in note and "banding" in note for note in report.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [("halos", "'halos'"), ("banding,halos", "'halos'"), (",", "','"), ("", "''"), ("all,x", "'all'")],
)
def test_other_names_are_refused_with_the_choices(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="--synthesize is") as caught:
        PrepConfig((), Path("x"), synthesize=text)
    assert message in caught.value.message
    assert caught.value.hint == f"Use all, or some of {', '.join(SYNTHESISED)}, separated by commas."


def test_several_tasks_cannot_be_balanced_by_one(tmp_path: Path, make_clip: MakeClip) -> None:
    make_clip("footage/a.avi", frames=8, width=80, height=80)
    with pytest.raises(ConfigError, match="banding, graininess cannot be balanced"):
        prep(tmp_path, synthesize="banding,graininess", balance="banding")


def test_only_footage_that_is_clean_of_all_gets_twins(tmp_path: Path, make_clip: MakeClip) -> None:
    for name in ("blurred", "clean"):
        make_clip(f"footage/{name}.avi", frames=8, width=80, height=80)
    (tmp_path / "footage" / "labels.json").write_text(
        json.dumps({"clean.avi": {"spatial_blur": 0}, "blurred.avi": {"spatial_blur": 1}})
    )
    report = prep(tmp_path, synthesize="spatial_blur,banding")
    assert set(report.clips) == {"clean_c00.avi", "clean_c00_artifacts1.avi", "blurred_c00.avi"}
    assert report.clips["blurred_c00.avi"] == {"spatial_blur": 1, "banding": 0}


def test_a_combination_is_drawn_alike_whatever_else_is_asked() -> None:
    one = Combination.draw(np.random.default_rng(1), SYNTHESISED, width=96, height=80)
    other = Combination.draw(np.random.default_rng(1), SYNTHESISED, width=96, height=80)
    assert one == other and apply(scene(), banding.Recipe()).added.max() == 0
