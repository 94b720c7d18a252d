"""Splits: balanced by every label, no source on two sides, and nothing lost whatever is interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grainscan.data.labels import SPLITS, Prevalence, find_split, parse_labels, read_labels, write_labels
from grainscan.data.manifest import read_manifest, write_manifest
from grainscan.data.sources import Leak, Side, group_clips, leaks
from grainscan.data.split import SplitReport, parse_ratios, split
from grainscan.data.stratify import stratify
from grainscan.errors import ConfigError, DataError, LabelsError
from grainscan.options import SplitConfig


def dataset(
    folder: Path, *, sources: int = 10, clips: int = 4, media: str = "", manifest: bool = True, subfolder: str = ""
) -> Path:
    """Clips of a few sources; every other source is grainy, every fifth has banding, a clip's content is its name."""
    labels: dict[str, dict[str, int | None]] = {}
    entries: dict[str, Any] = {}
    for source in range(sources):
        for clip in range(clips):
            name = f"{subfolder}s{source:02d}_c{clip}.avi"
            labels[name] = {"graininess": source % 2, "banding": None if source % 3 == 0 else int(source % 5 == 0)}
            entries[name] = {"source": f"source {source}", "strength": {"graininess": float(source)}, "twin": None}
            path = folder / media / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    write_labels(folder, labels)
    if manifest:
        write_manifest(folder, {"schema": 1, "grainscan": "0", "seed": 0, "options": {}, "clips": entries})
    (folder / "README").write_text("stays where it is")
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder and what it holds (folders: None)."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def sides(data: Path, group: str = "auto") -> dict[str, Side]:
    """The splits on disk."""
    found = {}
    for part in SPLITS:
        if (data / part).is_dir():
            labels = read_labels(data / part)
            found[part] = Side(group_clips(labels.clips, read_manifest(data / part), group), labels.media)
    return found


# ----------------------------------------------------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("70/15/15", (0.7, 0.15, 0.15)),
        ("80/20/0", (0.8, 0.2, 0.0)),
        ("0.7/0.15/0.15", (0.7, 0.15, 0.15)),
        (" 60 / 20 / 20 ", (0.6, 0.2, 0.2)),
        ("0/0/100", (0.0, 0.0, 1.0)),
    ],
)
def test_ratios(text: str, parts: tuple[float, ...]) -> None:
    assert parse_ratios(text) == pytest.approx(parts)


@pytest.mark.parametrize(
    "text", ["", "80/20", "70/15/5", "70/15/15/0", "a/b/c", "nan/50/50", "120/-10/-10", "inf/0/0", "0/0/0"]
)
def test_ratios_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ratios(text)
    assert "70/15/15" in caught.value.hint


# --------------------------------------------------------------------------------------------------- stratification


def random_groups(groups: int, tasks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, groups)
    rate = rng.uniform(0.1, 0.6, tasks)
    counts = np.zeros((groups, 2 * tasks), dtype=np.int64)
    for task in range(tasks):
        positive = rng.random(groups) < rate[task]
        known = rng.random(groups) < 0.9
        counts[:, 2 * task] = sizes * (known & ~positive)
        counts[:, 2 * task + 1] = sizes * (known & positive)
    return sizes, counts


@pytest.mark.parametrize("seed", range(3))
def test_every_part_holds_its_share_of_every_label(seed: int) -> None:
    sizes, counts = random_groups(400, 4, seed)
    ratios = (0.7, 0.15, 0.15)
    part = stratify(sizes, counts, ratios, seed)
    for number, ratio in enumerate(ratios):
        inside = part == number
        assert sizes[inside].sum() / sizes.sum() == pytest.approx(ratio, abs=0.02)
        assert counts[inside].sum(axis=0) / counts.sum(axis=0) == pytest.approx(np.full(8, ratio), abs=0.05)


def test_a_rare_label_reaches_every_part() -> None:
    sizes = np.full(60, 2)
    counts = np.zeros((60, 2), dtype=np.int64)
    counts[:3, 1] = 2  # three groups hold the label: one for each part
    counts[3:, 0] = 2
    part = stratify(sizes, counts, (0.7, 0.15, 0.15), 0)
    assert sorted(part[:3]) == [0, 1, 2]


def test_as_many_groups_as_parts_leave_none_empty() -> None:
    counts = np.array([[4, 0], [0, 4], [0, 0]])  # one clean source, one grainy, one unknown
    assert sorted(stratify(np.full(3, 4), counts, (0.7, 0.15, 0.15), 0)) == [0, 1, 2]


def test_a_part_without_a_share_gets_nothing() -> None:
    sizes, counts = random_groups(50, 2, 0)
    assert set(stratify(sizes, counts, (0.8, 0.0, 0.2), 0)) == {0, 2}


def test_the_seed_decides() -> None:
    sizes, counts = np.ones(100, dtype=np.int64), np.ones((100, 1), dtype=np.int64)
    first = stratify(sizes, counts, (0.5, 0.25, 0.25), 1)
    assert (first == stratify(sizes, counts, (0.5, 0.25, 0.25), 1)).all()
    assert (first != stratify(sizes, counts, (0.5, 0.25, 0.25), 2)).any()
    assert Counter(first.tolist()) == {0: 50, 1: 25, 2: 25}


def test_groups_without_any_label_are_divided_by_size() -> None:
    part = stratify(np.ones(40, dtype=np.int64), np.zeros((40, 0), dtype=np.int64), (0.5, 0.25, 0.25), 0)
    assert Counter(part.tolist()) == {0: 20, 1: 10, 2: 10}


# ---------------------------------------------------------------------------------------------------------- sources


def test_sources_from_the_manifest_then_the_name() -> None:
    names = ["a.avi", "Bird_1920x1080_QP32.avi", "sub/Bird_1280x720_QP47.avi", "b.avi"]
    manifest = {"clips": {"a.avi": {"source": "scene"}, "b.avi": {"source": None}}}
    assert group_clips(names, manifest) == {
        "a.avi": "scene",
        "Bird_1920x1080_QP32.avi": "Bird",
        "sub/Bird_1280x720_QP47.avi": "Bird",
        "b.avi": "b.avi",
    }


def test_sources_by_an_expression() -> None:
    names = ["x1_c0.avi", "x1_c1.avi", "y_c0.avi", "other.avi"]
    assert list(group_clips(names, None, r"^(.+)_c\d").values()) == ["x1", "x1", "y", "other.avi"]
    assert list(group_clips(names, None, r"^[xy]").values()) == ["x", "x", "y", "other.avi"]
    assert group_clips(["abc"], None, "a(z)?b") == {"abc": "ab"}  # the group took no part: the whole match


def test_twins_are_never_divided() -> None:
    names = ["a_0.avi", "b_0.avi", "c_0.avi", "d_0.avi"]
    entries = {"a_0.avi": {"twin": "b_0.avi"}, "b_0.avi": {"twin": "a_0.avi"}, "c_0.avi": {"twin": "b_0.avi"}}
    sources = group_clips(names, {"clips": entries}, "^(.)")
    assert sources["a_0.avi"] == sources["b_0.avi"] == sources["c_0.avi"] != sources["d_0.avi"]


@pytest.mark.parametrize("group", ["(", "[", "(?P<x"])
def test_an_expression_that_is_none(tmp_path: Path, group: str) -> None:
    with pytest.raises(ConfigError, match="not a regular expression"):
        split(SplitConfig(dataset(tmp_path), group=group))


def test_an_expression_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        split(SplitConfig(dataset(tmp_path), group="nowhere"))
    assert "s00_c0.avi" in caught.value.hint


# --------------------------------------------------------------------------------------------------------- splitting


@pytest.mark.parametrize(("media", "subfolder"), [("", ""), ("avi", ""), ("", "sub/folder/")])
def test_split_and_undo(tmp_path: Path, media: str, subfolder: str) -> None:
    data = dataset(tmp_path / "data", media=media, subfolder=subfolder)
    before, whole, strengths = tree(data), read_labels(data), read_manifest(data)
    assert strengths is not None
    report = split(SplitConfig(data))

    assert report.state == "split" and [part.name for part in report.parts] == ["train", "val", "test"]
    seen: dict[str, dict[str, int]] = {}
    for part in report.parts:
        labels = read_labels(find_split(data, part.name))  # complains of any clip without a label and the reverse
        manifest = read_manifest(data / part.name)
        assert manifest is not None and set(manifest["clips"]) == set(labels.clips)
        assert len(labels.clips) == part.clips and part.sources == part.clips / 4
        counts = part.prevalence["graininess"]
        assert counts.negative + counts.positive == part.clips
        assert all(labels.path[name].read_text() == name for name in labels.clips)
        assert all(report.assignment[name] == part.name for name in labels.clips)
        assert all(manifest["clips"][name] == strengths["clips"][name] for name in labels.clips)
        seen |= labels.clips
    assert seen == whole.clips
    assert [part.sources for part in report.parts] == [6, 2, 2]
    counts = [part.prevalence["graininess"] for part in report.parts]
    assert all(each.negative == each.positive > 0 for each in counts)
    assert leaks(sides(data)) == ()
    assert sorted(path.name for path in data.iterdir()) == [".split", "README", "test", "train", "val"]

    assert split(SplitConfig(data)).assignment == report.assignment  # done already: nothing to do
    undone = split(SplitConfig(data, undo=True))
    assert undone.state == "undone" and undone.notes == () and tree(data) == before


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    before = tree(dataset(tmp_path))
    planned = split(SplitConfig(tmp_path, dry_run=True))
    assert planned.state == "planned" and tree(tmp_path) == before
    done = split(SplitConfig(tmp_path))
    assert dataclasses.replace(planned, state="split") == done
    after = tree(tmp_path)
    assert split(SplitConfig(tmp_path, undo=True, dry_run=True)).state == "undone" and tree(tmp_path) == after


def test_prevalence_of_each_task(tmp_path: Path) -> None:
    report = split(SplitConfig(dataset(tmp_path)))
    assert report.tasks == ("graininess", "banding")
    total = [part.prevalence["banding"] for part in report.parts]
    assert Prevalence(
        *(sum(getattr(p, key) for p in total) for key in ("negative", "positive", "unknown"))
    ) == Prevalence(negative=20, positive=4, unknown=16)


def test_two_splits(tmp_path: Path) -> None:
    report = split(SplitConfig(dataset(tmp_path), ratios="80/0/20"))
    assert [part.name for part in report.parts] == ["train", "test"] and not (tmp_path / "val").exists()


def test_no_source_stands_on_two_sides_by_name(tmp_path: Path) -> None:
    labels = {f"Scene{i}_{w}x{w}_QP{q}.avi": {"graininess": i % 2} for i in range(8) for w in (64, 128) for q in (1, 2)}
    write_labels(tmp_path, labels)
    for name in labels:
        (tmp_path / name).touch()
    report = split(SplitConfig(tmp_path))
    assert len({(name.split("_")[0], part) for name, part in report.assignment.items()}) == 8
    assert sum(part.sources for part in report.parts) == 8
    assert not (tmp_path / "train" / "manifest.json").exists()


def test_an_expression_is_remembered_in_the_manifest(tmp_path: Path) -> None:
    data = dataset(tmp_path, manifest=False)
    report = split(SplitConfig(data, group=r"^(s\d\d)"))
    assert report.notes == ()
    manifest = read_manifest(data / "train")
    assert manifest is not None and manifest["clips"]
    assert all(entry == {"source": name[:3]} for name, entry in manifest["clips"].items())
    assert leaks(sides(data)) == ()
    split(SplitConfig(data, undo=True))
    assert not (data / "manifest.json").exists()


def test_clips_that_an_expression_misses_are_reported(tmp_path: Path) -> None:
    report = split(SplitConfig(dataset(tmp_path, manifest=False), group=r"^(s0\d)", dry_run=True))
    assert report.notes == ()
    report = split(SplitConfig(tmp_path, group=r"^(s0[0-5])", dry_run=True))
    assert report.notes[0] == (
        "16 clips not matched by --group, each its own source: s06_c0.avi, s06_c1.avi, s06_c2.avi and 13 more"
    )


def test_leaks_are_found(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    split(SplitConfig(data, seed=3))
    train, test = (json.loads((data / part / "manifest.json").read_text()) for part in ("train", "test"))
    first = next(iter(test["clips"].values()))
    next(iter(train["clips"].values()))["source"] = first["source"]
    (data / "train" / "manifest.json").write_text(json.dumps(train))
    assert leaks(sides(data)) == (Leak("source", ("train", "test"), (first["source"],)),)
    places = tuple(f"c{i}" for i in range(4))
    assert leaks(sides(data, r"_(c\d)")) == tuple(
        Leak("source", pair, places) for pair in (("train", "val"), ("train", "test"), ("val", "test"))
    )


def test_identical_files_are_leaks_and_equal_names_are_none(tmp_path: Path) -> None:
    def side(name: str, clips: dict[str, tuple[str, bytes]]) -> Side:
        (tmp_path / name).mkdir()
        for clip, (_, content) in clips.items():
            (tmp_path / name / clip).write_bytes(content)
        return Side({clip: source for clip, (source, _) in clips.items()}, tmp_path / name)

    found = leaks(
        {
            "train": side("train", {"1.avi": ("1.avi", b"xyz"), "b.avi": ("reel", b"qrs"), "c.avi": ("reel", b"q")}),
            "val": side("val", {"1.avi": ("1.avi", b"other"), "b.avi": ("reel", b"xyz"), "d.avi": ("x", b"abc")}),
            "test": side("test", {"e.avi": ("y", b"yyy")}),
        }
    )
    assert found == (Leak("source", ("train", "val"), ("reel",)), Leak("file", ("train", "val"), ("b.avi",)))
    assert [str(leak) for leak in found] == [
        "1 source is in both train and val: reel",
        "1 identical file is in both train and val: b.avi",
    ]
    many = Leak("source", ("a", "b"), tuple("cdefghi"))
    assert str(many) == "7 sources are in both a and b: c, d, e, f, g and 2 more"


# ---------------------------------------------------------------------------------------------------------- refusals


def test_other_options_need_an_undo_first(tmp_path: Path) -> None:
    split(SplitConfig(dataset(tmp_path)))
    with pytest.raises(DataError, match="other options") as caught:
        split(SplitConfig(tmp_path, seed=1))
    assert "--undo" in caught.value.hint
    with pytest.raises(DataError, match="other options"):
        split(SplitConfig(tmp_path, ratios="80/20/0", dry_run=True))
    split(SplitConfig(tmp_path, undo=True))
    split(SplitConfig(tmp_path, seed=1))


def test_too_few_sources(tmp_path: Path) -> None:
    dataset(tmp_path, sources=2)
    with pytest.raises(DataError, match="2 sources cannot fill 3 splits"):
        split(SplitConfig(tmp_path))
    assert len(split(SplitConfig(tmp_path, ratios="80/20/0")).parts) == 2


def test_folders_that_already_exist(tmp_path: Path) -> None:
    (dataset(tmp_path) / "val").mkdir()
    before = tree(tmp_path)
    with pytest.raises(DataError, match="already exists"):
        split(SplitConfig(tmp_path))
    assert tree(tmp_path) == before


def test_data_that_somebody_else_divided(tmp_path: Path) -> None:
    dataset(tmp_path / "train")
    with pytest.raises(DataError, match="split already"):
        split(SplitConfig(tmp_path))


def test_faulty_labels_stop_before_anything_moves(tmp_path: Path) -> None:
    (dataset(tmp_path) / "unlabelled.avi").touch()
    before = tree(tmp_path)
    with pytest.raises(LabelsError):
        split(SplitConfig(tmp_path))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("label", [None, {}, {"banding": None}])
def test_clips_without_a_single_label_stay_where_they_are(tmp_path: Path, label: object) -> None:
    clips = dataset(tmp_path / "the clips")
    (clips / "labels.json").write_text(json.dumps(dict.fromkeys(read_labels(clips).clips, label)))
    before = tree(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(LabelsError, match=r"the clips/labels\.json: no clip has a known label") as caught:
            split(SplitConfig(clips, dry_run=dry_run))
        assert "Write 0 or 1" in caught.value.hint and f"grainscan split '{clips}'" in caught.value.hint
    assert tree(tmp_path) == before


def test_links_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "s00_c0.avi").unlink()
    (tmp_path / "s00_c0.avi").symlink_to("s00_c1.avi")
    with pytest.raises(DataError, match=r"symbolic links cannot be split: s00_c0\.avi"):
        split(SplitConfig(tmp_path))


def test_no_record_to_undo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record"):
        split(SplitConfig(dataset(tmp_path), undo=True))


@pytest.mark.parametrize(
    "change",
    [
        {"clips": {"../../stolen.avi": "train"}},
        {"clips": {"/etc/passwd": "train"}},
        {"clips": {"s00_c0.avi": "../train"}},
        {"media": "../elsewhere"},
        {"state": "whatever"},
        {"clips": ["a"]},
        {"sources": {"s00_c0.avi": 3}},
    ],
)
def test_a_forged_record_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    data = dataset(tmp_path / "data")
    split(SplitConfig(data))
    journal = data / ".split" / "journal.json"
    journal.write_text(json.dumps(json.loads(journal.read_text()) | change))
    before = tree(tmp_path)
    with pytest.raises(DataError, match="not a record of a split"):
        split(SplitConfig(data, undo=True))
    assert tree(tmp_path) == before


def test_a_forged_link_is_not_followed(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    split(SplitConfig(data))
    (data / "val").rename(tmp_path / "elsewhere")
    (data / "val").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(DataError, match="symbolic link"):
        split(SplitConfig(data, undo=True))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [".split", ".split/journal.json", ".split/labels.json", "val/labels.json"])
@pytest.mark.parametrize("undo", [True, False])
def test_a_linked_record_is_refused_before_anything_changes(tmp_path: Path, name: str, undo: bool) -> None:
    data = dataset(tmp_path / "data")
    split(SplitConfig(data))
    (data / name).rename(tmp_path / "outside")
    (data / name).symlink_to(tmp_path / "outside")
    corrected = read_labels(data / "train").clips
    write_labels(data / "train", {clip: {"graininess": 1} for clip in corrected})  # would be merged into the record
    before = tree(tmp_path)
    with pytest.raises(DataError, match="is a symbolic link"):
        split(SplitConfig(data, undo=undo))
    assert tree(tmp_path) == before and (data / name).is_symlink()


def test_a_linked_folder_of_clips_stops_an_undo_before_the_first_move(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", subfolder="sub/")
    split(SplitConfig(data))
    (data / "val" / "sub").rename(tmp_path / "outside")
    (data / "val" / "sub").symlink_to(tmp_path / "outside")
    before = tree(tmp_path)
    with pytest.raises(DataError, match="leads out of"):
        split(SplitConfig(data, undo=True))
    assert tree(tmp_path) == before


# ----------------------------------------------------------------------------------------------------- taking it back


def test_corrected_labels_survive_an_undo(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    whole = read_labels(data).clips
    split(SplitConfig(data))
    train = read_labels(data / "train").clips
    name = next(iter(train))
    write_labels(data / "train", train | {name: {"graininess": 1 - train[name]["graininess"]}})
    report = split(SplitConfig(data, undo=True))
    assert "corrected" in report.notes[0]
    assert read_labels(data).clips == whole | {name: {"graininess": 1 - whole[name]["graininess"]}}


def test_clips_moved_or_removed_by_hand(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    report = split(SplitConfig(data))
    moved, gone = [name for name, part in report.assignment.items() if part == "train"][:2]
    train, val = read_labels(data / "train").clips, read_labels(data / "val").clips
    (data / "train" / moved).rename(data / "val" / moved)
    (data / "train" / gone).unlink()
    write_labels(data / "val", val | {moved: train.pop(moved)})
    train.pop(gone)
    write_labels(data / "train", train)
    notes = split(SplitConfig(data, undo=True)).notes
    assert f"1 clip missing: {gone}" in notes
    clips = read_labels(data).clips
    assert moved in clips and gone not in clips and not (data / "train").exists()


def test_added_clips_stop_an_undo(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    split(SplitConfig(data))
    (data / "train" / "new.avi").touch()
    write_labels(data / "train", parse_labels(data / "train" / "labels.json") | {"new.avi": {"graininess": 1}})
    before = tree(data)
    with pytest.raises(DataError, match=r"added since the split: new\.avi"):
        split(SplitConfig(data, undo=True))
    assert tree(data) == before


def test_added_files_keep_their_folder(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    split(SplitConfig(data))
    (data / "train" / "notes.txt").write_text("mine")
    assert split(SplitConfig(data, undo=True)).notes == ("train/ holds files that the split did not put there",)
    assert [path.name for path in (data / "train").iterdir()] == ["notes.txt"]


# ------------------------------------------------------------------------------------------------------ interruptions

_CHANGES = ("rename", "replace", "mkdir", "rmdir", "unlink")


class PowerCut(BaseException):
    """Not an error that anything could handle."""


def cut_power_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let so many changes to the disk pass, then fail all; returns how many were asked for."""
    asked = 0

    def guarded(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > steps:
                raise PowerCut
            return change(*arguments, **options)

        return call

    for name in _CHANGES:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return lambda: asked


def run_until_cut(config: SplitConfig, steps: int) -> tuple[bool, SplitReport | None]:
    with pytest.MonkeyPatch.context() as patch:
        cut_power_after(steps, patch)
        try:
            return False, split(config)
        except PowerCut:
            return True, None


def contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*.avi"))


@pytest.mark.parametrize("media", ["", "avi"])
@pytest.mark.parametrize("repair", ["again", "undo"])
def test_a_split_cut_off_at_any_step_loses_nothing(tmp_path: Path, media: str, repair: str) -> None:
    reference = dataset(tmp_path / "reference", sources=4, clips=1, media=media, subfolder="x/")
    clips, start = contents(reference), tree(reference)
    split(SplitConfig(reference))
    end = tree(reference)
    for steps in range(200):
        data = dataset(tmp_path / str(steps), sources=4, clips=1, media=media, subfolder="x/")
        was_cut, _ = run_until_cut(SplitConfig(data), steps)
        if not was_cut:
            break
        assert contents(data) == clips, f"after {steps} steps"
        if repair == "again":
            split(SplitConfig(data))
            assert without_leftovers(tree(data)) == end, f"after {steps} steps"
        elif (data / ".split" / "journal.json").exists():
            split(SplitConfig(data, undo=True))
            assert tree(data) == start, f"after {steps} steps"
    assert steps > 15


@pytest.mark.parametrize("repair", ["again", "undo"])
def test_an_undo_cut_off_at_any_step_loses_nothing(tmp_path: Path, repair: str) -> None:
    reference = dataset(tmp_path / "reference", sources=4, clips=1, media="avi")
    clips, start = contents(reference), tree(reference)
    split(SplitConfig(reference))
    end = tree(reference)
    for steps in range(200):
        data = dataset(tmp_path / str(steps), sources=4, clips=1, media="avi")
        split(SplitConfig(data))
        was_cut, _ = run_until_cut(SplitConfig(data, undo=True), steps)
        if not was_cut:
            break
        assert contents(data) == clips, f"after {steps} steps"
        if repair == "again":
            split(SplitConfig(data))
            assert without_leftovers(tree(data)) == end, f"after {steps} steps"
        else:
            if (data / ".split" / "journal.json").exists():
                split(SplitConfig(data, undo=True))
            assert set(without_leftovers(tree(data))) - {".split"} == set(start), f"after {steps} steps"
    assert steps > 10


def without_leftovers(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """A writer killed between its write and its rename leaves a temporary file, which nothing reads."""
    return {name: data for name, data in files.items() if "/.tmp-" not in name}


def test_a_cut_in_the_middle_is_seen_by_readers(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    run_until_cut(SplitConfig(data), 10)
    with pytest.raises(LabelsError) as caught:
        read_labels(data)
    assert "--undo" in caught.value.hint
    assert split(SplitConfig(data, dry_run=True)).state == "planned"
    with pytest.raises(DataError, match="other options"):
        split(SplitConfig(data, seed=7))


def test_a_dry_run_does_not_finish_an_undo(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    split(SplitConfig(data))
    run_until_cut(SplitConfig(data, undo=True), 5)
    before = tree(data)
    with pytest.raises(DataError, match="half undone"):
        split(SplitConfig(data, dry_run=True))
    assert tree(data) == before


@pytest.mark.parametrize("locked", ["", "avi"])
def test_folders_without_permission_stop_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    data = dataset(tmp_path, media="avi")
    before = tree(data)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != data / locked)  # root may write everywhere
    with pytest.raises(DataError, match="no permission") as caught:
        split(SplitConfig(data))
    assert caught.value.message.startswith(f"{data / locked}:") and "copy" in caught.value.hint
    assert tree(data) == before
    assert split(SplitConfig(data, dry_run=True)).state == "planned"


def test_a_full_disk_is_an_error_with_a_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path)
    with monkeypatch.context() as patch:

        def full(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "rename", full)
        with pytest.raises(DataError, match="No space left") as caught:
            split(SplitConfig(data))
    assert "--undo" in caught.value.hint
    assert split(SplitConfig(data)).state == "split"
