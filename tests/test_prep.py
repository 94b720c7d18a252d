"""Footage to labelled clips: what is cut, how it is labelled, and what an interruption or a bad file does to it."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeBlock, MakeClip, Seen

from grainscan.data.labels import Prevalence, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.data.prep import PrepReport, prepare
from grainscan.data.prep.cutting import choose_box
from grainscan.data.prep.footage import find_footage
from grainscan.data.prep.labelling import read_csv
from grainscan.data.prep.selection import Wanted, select, surplus
from grainscan.data.sources import group_clips
from grainscan.data.split import split
from grainscan.data.synth import BaseRecipe, Twin, twin
from grainscan.data.synth.graininess import Recipe
from grainscan.errors import ConfigError, DataError, LabelsError, OutputError, UsageError
from grainscan.options import PrepConfig, SplitConfig
from grainscan.video import Block, Window, read_clip, write_clip

SMALL: dict[str, Any] = {"clips": 2, "frames": 6, "size": 64, "workers": 0}


def prep(tmp_path: Path, *sources: Path | str, **options: Any) -> PrepReport:
    paths = tuple(tmp_path / source for source in sources or ("footage",))
    return prepare(PrepConfig(paths, tmp_path / "data", **{**SMALL, **options}))


def footage(make_clip: MakeClip, *names: str, **scene: Any) -> None:
    options: dict[str, Any] = {"frames": 24, "width": 96, "height": 80, "codec": "mjpeg", **scene}
    for number, name in enumerate(names):
        make_clip(f"footage/{name}", seed=number, **options)


@pytest.fixture
def quick_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins without encoders, which take most of the time: noise on the block, and labels of every kind."""

    def made(block: Block, recipe: BaseRecipe) -> Twin:
        noise = np.random.default_rng(recipe.seed).integers(-3, 4, block.planes[0].shape)
        luma = np.clip(block.planes[0] + noise, 0, 255).astype(block.planes[0].dtype)
        label: Any = (1, 1, 0, None)[recipe.seed % 4]
        return Twin(block, Block((luma, *block.planes[1:]), block.format), 2.0, label)

    monkeypatch.setattr("grainscan.data.synth.twin", made)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def window_of(block: Block) -> Window:
    pictures = tuple(tuple(plane[t] for plane in block.planes) for t in range(block.frames))
    return Window(0.0, 1.0, block.format, pictures)


# -------------------------------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray", "gbrp"])
def test_clips_hold_the_very_pixels_of_the_footage(tmp_path: Path, make_clip: MakeClip, pix_fmt: str) -> None:
    source = make_clip("footage/a.mkv", frames=14, width=96, height=80, pix_fmt=pix_fmt, grain=3)
    report = prep(tmp_path)
    assert report.state == "written" and report.videos == 1 and report.skipped == ()
    whole = read_clip(source)
    clips = manifest_of(tmp_path / "data")["clips"]
    assert list(clips) == list(report.clips) == ["a_c00.avi", "a_c01.avi"]
    for name, entry in clips.items():
        x, y, width, height = entry["box"]
        first = round(entry["start"] * 25)
        clip = read_clip(tmp_path / "data" / name)
        expected = whole.crop(x, y, width, height, first, 6)
        assert (width, height, clip.frames) == (64, 64, entry["frames"]) == (64, 64, 6)
        assert clip.format.depth == whole.format.depth and x % 2 == y % 2 == 0
        for plane, wanted in zip(clip.planes, expected.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)
        assert entry["source"] == entry["file"] == "a.mkv" and entry["synthesis"] is entry["twin"] is None
    assert len({(entry["start"], *entry["box"]) for entry in clips.values()}) == 2


def test_one_seed_one_result(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", width=160)
    made = []
    for name, options in {"one": {}, "two": {"workers": 2}, "three": {"seed": 1}}.items():
        prepare(PrepConfig((tmp_path / "footage",), tmp_path / name, **{**SMALL, **options}))
        made.append(tree(tmp_path / name))
    assert made[0] == made[1]  # whatever the number of processes
    assert made[0].keys() == made[2].keys() and made[0] != made[2]


def test_a_clip_does_not_depend_on_the_others(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi")
    whole = tree_after(tmp_path, "whole", [tmp_path / "footage"])
    alone = tree_after(tmp_path, "alone", [tmp_path / "footage" / "b.avi"])
    assert {name: data for name, data in whole.items() if name.startswith("b_")} == alone


def tree_after(tmp_path: Path, name: str, sources: list[Path]) -> dict[str, bytes]:
    prepare(PrepConfig(tuple(sources), tmp_path / name, **SMALL))
    return {file: data for file, data in tree(tmp_path / name).items() if file.endswith(".avi")}


def test_crops_avoid_bars_and_flat_black(make_block: MakeBlock) -> None:
    block = make_block(frames=3, width=256, height=200)
    block.planes[0][:, :36] = 16  # letterbox
    block.planes[0][:, -36:] = 16
    block.planes[0][:, 36:-36, :128] = 16  # the left half of the picture is black, but for a lit corner
    block.planes[0][:, 40:44, 0:4] = 120
    window = window_of(block)
    for seed in range(20):
        box = choose_box(window, 64, np.random.default_rng(seed), [])
        assert box is not None
        x, y, width, height = box
        assert 36 <= y <= 200 - 36 - 64 and x + width > 128 and (width, height) == (64, 64)


def test_black_is_taken_where_there_is_nothing_else(make_block: MakeBlock) -> None:
    block = make_block(frames=3, width=128, height=96)
    block.planes[0][:] = 16
    assert choose_box(window_of(block), 64, np.random.default_rng(0), []) is not None


def test_crops_lie_on_the_chroma_grid(make_block: MakeBlock) -> None:
    block = make_block(frames=3, width=128, height=96, pix_fmt="yuv410p")  # chroma of every fourth pixel
    boxes = [choose_box(window_of(block), 32, np.random.default_rng(seed), []) for seed in range(10)]
    assert all(box is not None and box[0] % 4 == box[1] % 4 == 0 for box in boxes) and len(set(boxes)) > 5


def test_places_are_used_once_and_overlap_little(make_block: MakeBlock) -> None:
    window = window_of(make_block(frames=3, width=68, height=66))  # three columns, two rows of places
    taken: list[tuple[int, int, int, int]] = []
    for number in range(6):
        box = choose_box(window, 64, np.random.default_rng(number), taken)
        assert box is not None and box not in taken
        taken.append(box)
    assert choose_box(window, 64, np.random.default_rng(6), taken) is None
    wide = window_of(make_block(frames=3, width=256, height=64))
    second = choose_box(wide, 64, np.random.default_rng(1), [(0, 0, 64, 64)])
    assert second is not None and second[0] >= 64


def test_small_and_short_videos_are_kept_whole(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "tiny.avi", width=50, height=42)
    footage(make_clip, "short.avi", frames=4)
    footage(make_clip, "wide.avi", height=48)
    report = prep(tmp_path)
    clips = manifest_of(tmp_path / "data")["clips"]
    assert clips["tiny_c00.avi"]["box"] == clips["tiny_c01.avi"]["box"] == [0, 0, 50, 42]
    assert clips["tiny_c00.avi"]["start"] != clips["tiny_c01.avi"]["start"]
    assert clips["short_c00.avi"]["frames"] == 4 == read_clip(tmp_path / "data" / "short_c00.avi").frames
    assert clips["wide_c00.avi"]["box"][2:] == [64, 48]
    assert report.notes[-1] == ("3 videos smaller or shorter than a clip, used whole: short.avi, tiny.avi, wide.avi")


def test_small_and_short_videos_are_skipped_on_request(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "ok.avi")
    footage(make_clip, "tiny.avi", width=50, height=42)
    report = prep(tmp_path, small="skip")
    assert set(report.clips) == {"ok_c00.avi", "ok_c01.avi"} and report.skipped == ()
    assert "1 video smaller or shorter than a clip, left out: tiny.avi" in report.notes


def test_a_video_without_enough_places_gives_fewer_clips(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", frames=6, width=66, height=64)  # two places in one window
    report = prep(tmp_path, clips=5)
    assert len(report.clips) == 2 and any("3 clips fewer than asked for" in note for note in report.notes)


def test_the_frame_rate_is_kept(tmp_path: Path, make_block: MakeBlock) -> None:
    from fractions import Fraction

    from grainscan.video import probe

    (tmp_path / "footage").mkdir()
    write_clip(tmp_path / "footage" / "a.mkv", make_block(frames=14), fps=Fraction(30000, 1001))
    prep(tmp_path)
    assert probe(tmp_path / "data" / "a_c00.avi").fps == Fraction(30000, 1001)


# -------------------------------------------------------------------------------------------------------------- footage


def test_clip_names_are_safe_and_unique(tmp_path: Path, make_clip: MakeClip) -> None:
    names = [
        "x/a.avi",
        "y/a.avi",
        "x_a.avi",
        "X/A.avi",
        "çà et là 🎞.avi",
        "-rf.avi",
        "=1+1.avi",
        "日本.avi",
        "b.avi",
        "b.mkv",
    ]
    footage(make_clip, *names, codec="ffv1", frames=6)
    report = prep(tmp_path, clips=1)
    clips = manifest_of(tmp_path / "data")["clips"]
    assert {entry["file"] for entry in clips.values()} == set(names) and len(clips) == len(names)
    assert len({name.casefold() for name in clips}) == len(names)
    assert all(name.isascii() and " " not in name and "/" not in name and name[0].isalnum() for name in report.clips)
    assert "ca_et_la_c00.avi" in clips and "rf_c00.avi" in clips and "1_1_c00.avi" in clips
    assert {entry["source"] for entry in clips.values()} == set(names)


def test_very_long_names_are_cut(tmp_path: Path) -> None:
    (tmp_path / ("a" * 200 + ".avi")).touch()
    (tmp_path / ("a" * 201 + ".avi")).touch()
    sources, _ = find_footage([tmp_path], apart_from=tmp_path / "data")
    assert len({source.stem for source in sources}) == 2 and all(len(source.stem) < 100 for source in sources)


def test_names_start_at_the_folder_or_at_the_one_that_holds_all(tmp_path: Path) -> None:
    for name in ("one/sub/a.avi", "two/a.avi", "two/note.txt", "two/.hidden.avi", "two/.git/b.avi", "two/raw.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    away = tmp_path / "data"

    def names(*paths: str) -> list[str]:
        return [source.name for source in find_footage([tmp_path / path for path in paths], apart_from=away)[0]]

    assert names("one") == ["sub/a.avi"]
    assert names("one/sub/a.avi") == ["a.avi"]
    assert names("one", "two") == ["one/sub/a.avi", "two/a.avi"]
    assert names("two", "two/a.avi", "two/raw.bin") == ["a.avi", "raw.bin"]  # named outright: any suffix


def test_links_are_followed_but_nothing_is_taken_twice(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.avi").touch()
    (tmp_path / "in" / "a.avi").touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "same.avi").symlink_to("a.avi")
    (tmp_path / "in" / "gone.avi").symlink_to("nowhere.avi")
    os.link(tmp_path / "in" / "a.avi", tmp_path / "in" / "hard.avi")
    sources, skipped = find_footage([tmp_path / "in"], apart_from=tmp_path / "in" / "data")
    assert [source.name for source in sources] == ["a.avi", "other/b.avi"]
    assert [item.file for item in skipped] == [str(tmp_path / "in" / "gone.avi")]


def test_the_destination_is_no_footage(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi")
    config = PrepConfig((tmp_path / "footage",), tmp_path / "footage" / "data", **SMALL)
    prepare(config)
    assert prepare(config).state == "unchanged" and len(list((tmp_path / "footage" / "data").glob("*.avi"))) == 2


def test_footage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        prep(tmp_path, "nowhere")
    (tmp_path / "footage").mkdir()
    with pytest.raises(DataError, match="no video found"):
        prep(tmp_path)


def test_files_that_do_not_decode_are_listed(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "good.avi")
    bad = {"empty.avi": b"", "text.avi": b"not a video" * 99, "list.avi": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"}
    for name, data in bad.items():
        (tmp_path / "footage" / name).write_bytes(data)
    whole = (tmp_path / "footage" / "good.avi").read_bytes()
    (tmp_path / "footage" / "head.avi").write_bytes(whole[:300])
    report = prep(tmp_path)
    assert {item.file for item in report.skipped} == {*bad, "head.avi"} and all(item.reason for item in report.skipped)
    assert set(report.clips) == {"good_c00.avi", "good_c01.avi"}
    assert manifest_of(tmp_path / "data")["skipped"] == [dataclasses.asdict(item) for item in report.skipped]
    assert not any(str(tmp_path) in item.reason for item in report.skipped)


def test_nothing_that_decodes(tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "empty.avi").touch()
    with pytest.raises(DataError, match=r"no clip can be cut.*empty\.avi"):
        prep(tmp_path)
    assert not (tmp_path / "data").exists()


# --------------------------------------------------------------------------------------------------------------- labels


def labels_after(tmp_path: Path, **options: Any) -> dict[str, dict[str, int | None]]:
    """Labels by source in a dry run: nothing needs to be cut to know them."""
    report = prep(tmp_path, dry_run=True, clips=1, **options)
    return {name.removesuffix("_c00.avi"): labels for name, labels in report.clips.items()}


def test_a_labels_file_beside_the_footage(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", "sub/c.avi", "other/d.avi", frames=6)
    (tmp_path / "footage" / "labels.json").write_text(
        '{"a.avi": 1, "b.avi": {"graininess": 0, "banding": null}, "x.avi": 1}'
    )
    (tmp_path / "footage" / "sub" / "labels.json").write_text('{"c.avi": {"banding": 1}}')
    assert labels_after(tmp_path) == {
        "a": {"graininess": 1},
        "b": {"graininess": 0},
        "sub_c": {"banding": 1},
    }
    folder = tmp_path / "footage"
    assert prep(tmp_path, dry_run=True).notes[:4] == (
        f"labels of 2 videos from {folder / 'labels.json'}",
        f"1 name in {folder / 'labels.json'} without a video: x.avi",
        f"labels of 1 video from {folder / 'sub' / 'labels.json'}",
        "1 video without a label, left out: other/d.avi",
    )


def test_unlabelled_videos_among_labelled_ones_are_named_and_left_out(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", "c.avi", "broken.avi")
    (tmp_path / "footage" / "broken.avi").write_bytes(b"not looked at")
    (tmp_path / "footage" / "labels.json").write_text('{"a.avi": 1, "c.avi": {"graininess": null}}')
    report = prep(tmp_path)
    assert report.clips == read_labels(tmp_path / "data").clips == {name: {"graininess": 1} for name in report.clips}
    assert {path.name[0] for path in (tmp_path / "data").glob("*.avi")} == {"a"}
    assert "3 videos without a label, left out: b.avi, broken.avi, c.avi" in report.notes and not report.skipped
    assert report.next_steps == (f"grainscan split {tmp_path / 'data'}",)


def test_footage_without_any_label_ends_with_steps_that_work(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", "c.avi")
    report = prep(tmp_path)
    data = tmp_path / "data"
    assert set(map(len, report.clips.values())) == {0} and len(report.clips) == 6
    label, judge, synthesise = report.next_steps
    assert judge == f"grainscan predict {data}" and "--synthesize graininess" in synthesise
    assert str(data / "labels.json") in label and label.endswith(f"grainscan split {data}")
    assert prep(tmp_path).next_steps == report.next_steps
    (data / "labels.json").write_text(json.dumps(dict.fromkeys(report.clips, 1)))
    assert split(SplitConfig(data)).state == "split"
    prepare(PrepConfig((tmp_path / "footage",), tmp_path / "new", **SMALL, synthesize="graininess", limit=2))
    assert read_labels(tmp_path / "new").tasks == ("graininess",)


def test_clips_carry_the_labels_of_their_source(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi")
    (tmp_path / "footage" / "labels.json").write_text('{"a.avi": 1, "b.avi": {"graininess": 0, "banding": 1}}')
    report = prep(tmp_path)
    labels = read_labels(tmp_path / "data")
    assert labels.clips == report.clips
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["clips"] == labels.clips and plain["prevalence"]["banding"]["unknown"] == 2
    assert labels.clips["a_c01.avi"] == {"graininess": 1}
    assert labels.clips["b_c00.avi"] == {"graininess": 0, "banding": 1}
    assert report.prevalence["banding"] == Prevalence(negative=0, positive=2, unknown=2)


def test_the_layout_with_a_folder_avi(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "avi/Bird_64x64_x.avi", "avi/Bird_64x64_y.avi", frames=6)
    (tmp_path / "footage" / "labels.json").write_text('{"Bird_64x64_x.avi": 1, "Bird_64x64_y.avi": 0}')
    report = prep(tmp_path, clips=1)
    assert [labels["graininess"] for labels in report.clips.values()] == [1, 0]
    manifest = manifest_of(tmp_path / "data")
    assert {entry["source"] for entry in manifest["clips"].values()} == {"Bird"}  # one scene: never divided
    assert set(group_clips(report.clips, manifest).values()) == {"Bird"}


def test_a_labels_file_from_elsewhere(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "x/a.avi", "y/a.avi", "y/b.avi", "c.avi", frames=6)
    elsewhere = tmp_path / "labels" / "mine.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(json.dumps({"x/a.avi": 1, "b.avi": 0, "a.avi": 1}))  # b.avi is one file, a.avi might be two
    assert labels_after(tmp_path, labels=elsewhere) == {
        "x_a": {"graininess": 1},
        "y_b": {"graininess": 0},
    }
    elsewhere.write_text('{"nothing.avi": 1}')
    with pytest.raises(LabelsError, match=r"none of its names matches the footage \(4 videos\)"):
        labels_after(tmp_path, labels=elsewhere)


def test_a_table(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "sub/b.avi", "c.avi", "d.avi", frames=6)
    table = tmp_path / "footage" / "labels.csv"
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Path", "Graininess", "motion blur"])
        writer.writerow([tmp_path / "footage" / "a.avi", "1", ""])  # an absolute path: matched, never opened
        writer.writerow(["sub\\b.avi", "FALSE", "true"])
        writer.writerow(["c", " 0 ", "1.0"])  # without its suffix
        writer.writerow([])
    expected = {
        "a": {"graininess": 1},
        "sub_b": {"graininess": 0, "motion_blur": 1},
        "c": {"graininess": 0, "motion_blur": 1},
    }
    assert labels_after(tmp_path) == labels_after(tmp_path, labels=table) == expected


def test_faults_of_a_table_come_at_once(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("name,graininess,Bad-Ü,graininess\na.avi,2,,\nb.avi,1\n,1,0,1\na.avi,yes,0,nan\n")
    with pytest.raises(LabelsError) as caught:
        read_csv(table)
    assert caught.value.faults == [
        "line 1, column 2: 'graininess': given twice",
        "line 1, column 3: 'bad_ü': a task name is snake_case, such as graininess or film_scratches",
        "line 1, column 4: 'graininess': given twice",
        "line 2, column graininess: '2' is not 0, 1, true, false or empty",
        "line 3: has 2 columns, the header 4",
        "line 4: names no file",
        "line 5: names 'a.avi' again",
        "line 5, column graininess: 'yes' is not 0, 1, true, false or empty",
        "line 5, column graininess: 'nan' is not 0, 1, true, false or empty",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "no column for the file"), (b"a,b\n1,2\n", "no column for the file"), (b"file,\xff\n", "not UTF-8")],
)
def test_tables_that_are_none(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(LabelsError, match=reason):
        read_csv(tmp_path / "labels.csv")
    with pytest.raises(LabelsError, match="cannot be read"):
        read_csv(tmp_path / "gone.csv")


def test_names_of_folders(tmp_path: Path, make_clip: MakeClip) -> None:
    names = [
        "grainy/a.avi",
        "graininess/deep/b.avi",
        "Clean/c.avi",
        "banding/d.avi",
        "no-graininess/e.avi",
        "misc/f.avi",
    ]
    footage(make_clip, *names, "grainy/clean/g.avi", frames=6)
    assert labels_after(tmp_path) == {
        "grainy_a": {"graininess": 1},
        "graininess_deep_b": {"graininess": 1},
        "Clean_c": {"graininess": 0, "banding": 0},
        "banding_d": {"banding": 1},
        "no-graininess_e": {"graininess": 0},
        "grainy_clean_g": {"graininess": 0, "banding": 0},  # the innermost folder has the last word
    }
    assert "folder clean/ means banding 0 (2 videos)" in prep(tmp_path, dry_run=True).notes


def test_folders_given_on_the_command_line_have_names_too(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "clean/a.avi", "grainy/b.avi", frames=6)
    report = prep(tmp_path, "footage/clean", "footage/grainy", dry_run=True, clips=1)
    assert report.clips == {"clean_a_c00.avi": {"graininess": 0}, "grainy_b_c00.avi": {"graininess": 1}}


def test_a_custom_task_can_be_asked_for(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "film_scratches/a.avi", "pristine/b.avi", frames=6)
    assert labels_after(tmp_path) == {"pristine_b": {"graininess": 0}}
    report = prep(tmp_path, balance="film_scratches", dry_run=True, clips=1)
    assert [labels["film_scratches"] for labels in report.clips.values()] == [1, 0]


def test_faulty_labels_stop_before_anything_is_written(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", frames=6)
    (tmp_path / "footage" / "labels.json").write_text('{"a.avi": 2, "../b.avi": 1}')
    with pytest.raises(LabelsError) as caught:
        prep(tmp_path)
    assert len(caught.value.faults) == 2 and not (tmp_path / "data").exists()


# ------------------------------------------------------------------------------------------------------------ selection


def config_for(**options: Any) -> PrepConfig:
    return PrepConfig((Path("x"),), Path("y"), **options)


def counts_of(chosen: list[Wanted], labels: dict[str, dict[str, int]]) -> tuple[int, int]:
    """Expected clips without and with graininess."""
    positive = sum(labels[item.source]["graininess"] for item in chosen) + sum(item.twins for item in chosen)
    return len(chosen) + sum(item.twins for item in chosen) - positive, positive


def test_all_clips_are_wanted_by_default() -> None:
    chosen = select({"a": 2, "b": 1}, {"a": {"graininess": 0}}, config_for())
    assert sorted((item.source, item.clip, item.twins) for item in chosen) == [("a", 0, 0), ("a", 1, 0), ("b", 0, 0)]


def test_a_limit_takes_first_clips_first() -> None:
    available = {f"s{i}": 4 for i in range(10)}
    chosen = select(available, {}, config_for(limit=10))
    assert {item.clip for item in chosen} == {0} and len({item.source for item in chosen}) == 10
    assert [item.source for item in chosen] != sorted(available)
    assert chosen != select(available, {}, config_for(limit=10, seed=1))


def test_a_limit_counts_twins() -> None:
    labels = {"a": {"graininess": 0}, "b": {"graininess": 1}, "c": {}}
    chosen = select({"a": 3, "b": 3, "c": 3}, labels, config_for(limit=8, synthesize="graininess", twins=2))
    assert sum(1 + item.twins for item in chosen) == 8
    assert all(item.twins == 0 for item in chosen if item.source != "a")


@pytest.mark.parametrize(
    ("clean", "grainy", "options", "expected"),
    [
        (10, 4, {}, (4, 4)),
        (4, 10, {}, (4, 4)),
        (10, 4, {"limit": 3}, (3, 3)),
        (10, 4, {"synthesize": "graininess"}, (10, 10)),
        (10, 0, {"synthesize": "graininess"}, (10, 10)),
        (10, 30, {"synthesize": "graininess", "limit": 5}, (5, 5)),
        (4, 1, {"synthesize": "graininess", "twins": 3}, (4, 4)),
    ],
)
def test_balance(clean: int, grainy: int, options: dict[str, Any], expected: tuple[int, int]) -> None:
    labels = {f"c{i}": {"graininess": 0} for i in range(clean)} | {f"g{i}": {"graininess": 1} for i in range(grainy)}
    available = dict.fromkeys([*labels, "unknown"], 1)
    config = config_for(balance="graininess", **options)
    chosen = select(available, labels, config)
    assert counts_of(chosen, labels) == expected
    assert "unknown" not in {item.source for item in chosen} and len(set(chosen)) == len(chosen)
    assert all(item.twins <= config.twins for item in chosen)


def test_a_class_that_is_empty_cannot_be_balanced() -> None:
    with pytest.raises(DataError, match="0 clips with graininess 1 and 2 with 0") as caught:
        select({"a": 2}, {"a": {"graininess": 0}}, config_for(balance="graininess"))
    assert "--synthesize" in caught.value.hint
    with pytest.raises(DataError, match="1 clip with banding 1 and 0 with 0") as caught:
        select({"a": 1}, {"a": {"banding": 1}}, config_for(balance="banding"))
    assert "banding" in caught.value.hint and "--synthesize" not in caught.value.hint


def test_surplus() -> None:
    assert surplus({"a": 0, "b": 1, "c": 0, "d": None, "e": 0}) == {"c", "d", "e"}
    assert surplus({"a": 1, "b": 0}) == set()


@pytest.mark.parametrize(
    "options",
    [
        {"synthesize": "halos"},
        {"synthesize": ","},
        {"synthesize": "banding,halos"},
        {"balance": "Not A Task"},
        {"synthesize": "graininess", "balance": "banding"},
        {"synthesize": "graininess,banding", "balance": "banding"},
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        prep(tmp_path, **options)


# ------------------------------------------------------------------------------------------------------------ synthesis


def test_twins_differ_in_grain_alone_and_say_how_they_were_made(tmp_path: Path, make_clip: MakeClip) -> None:
    source = make_clip("footage/a.mkv", frames=14, width=96, height=80)
    report = prep(tmp_path, synthesize="graininess", twins=2, clips=1)
    data, clips = tmp_path / "data", manifest_of(tmp_path / "data")["clips"]
    assert set(clips) == {"a_c00.avi", "a_c00_graininess1.avi", "a_c00_graininess2.avi"}
    assert report.notes[0] == "no label for graininess: 1 video taken as clean (--synthesize)"
    whole = read_clip(source)
    for name, entry in clips.items():
        x, y, width, height = entry["box"]
        cropped = whole.crop(x, y, width, height, round(entry["start"] * 25), 6).copy()
        recipe = Recipe.from_dict(entry["synthesis"])
        written = read_clip(data / name)
        assert entry["source"] == "a.mkv" and entry["twin"] in clips
        if recipe.grain is None:
            assert entry["labels"] == {"graininess": 0} and entry["strength"] == {"graininess": 0.0}
            expected = twin(cropped, recipe).clean
        else:
            pair = twin(cropped, recipe)
            assert entry["labels"] == {"graininess": pair.label}
            assert entry["strength"]["graininess"] == pytest.approx(pair.strength, abs=1e-3)
            assert clips[entry["twin"]]["synthesis"]["grain"] is None
            expected = pair.affected
        for plane, wanted in zip(written.planes, expected.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)
    first, clean = (Recipe.from_dict(clips[name]["synthesis"]) for name in ("a_c00_graininess1.avi", "a_c00.avi"))
    assert dataclasses.replace(first, grain=None) == clean  # the same encoders: nothing but grain tells them apart


@pytest.mark.usefixtures("quick_twins")
def test_footage_with_the_artifact_stays_as_it_is_and_unknown_footage_is_left_out(
    tmp_path: Path, make_clip: MakeClip
) -> None:
    footage(make_clip, "clean.avi", "grainy.avi", "unknown.avi")
    labels = {"clean.avi": {"graininess": 0, "banding": 1}, "grainy.avi": 1, "unknown.avi": None}
    (tmp_path / "footage" / "labels.json").write_text(json.dumps(labels))
    prep(tmp_path, synthesize="graininess", clips=1)
    clips = manifest_of(tmp_path / "data")["clips"]
    assert set(clips) == {"clean_c00.avi", "clean_c00_graininess1.avi", "grainy_c00.avi"}
    assert clips["grainy_c00.avi"]["labels"] == {"graininess": 1} and clips["grainy_c00.avi"]["synthesis"] is None
    assert clips["clean_c00.avi"]["labels"] == {"graininess": 0}  # encoded anew: what it was for banding is unknown


@pytest.mark.usefixtures("quick_twins")
def test_a_balanced_folder_is_balanced_whatever_survived(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", "c.avi", codec="ffv1")
    report = prep(tmp_path, synthesize="graininess", balance="graininess", seed=2, clips=3)
    count = report.prevalence["graininess"]
    assert count.negative == count.positive > 0 and count.unknown == 0
    assert (
        {path.name for path in (tmp_path / "data").glob("*.avi")}
        == set(report.clips)
        == set(read_labels(tmp_path / "data").clips)
    )
    clips = manifest_of(tmp_path / "data")["clips"]
    assert all(entry["twin"] is None or entry["twin"] in clips for entry in clips.values())
    assert len(report.clips) < 18 and any("left out again" in note for note in report.notes)


def test_an_encoder_that_refuses_costs_one_clip(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage(make_clip, "a.avi", "b.avi")
    seen: list[float] = []

    def stubborn(block: Block, recipe: BaseRecipe) -> Twin:
        seen.append(recipe.seed)
        if len(seen) <= 3:
            raise DataError("the encoder refuses")
        return Twin(block, block, 0.0, 0)

    monkeypatch.setattr("grainscan.data.synth.twin", stubborn)
    report = prep(tmp_path, synthesize="graininess")
    assert [(item.file, item.reason) for item in report.skipped] == [("a_c00.avi", "the encoder refuses")]
    assert len(set(seen[:3])) == 3 and not (tmp_path / "data" / "a_c00.avi").exists()
    assert len(report.clips) == 6


# ---------------------------------------------------------------------------------------------- dry run, again, resume


@pytest.mark.usefixtures("quick_twins")
def test_a_dry_run_writes_nothing_and_foretells_the_result(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi")
    (tmp_path / "footage" / "labels.json").write_text('{"a.avi": 1, "b.avi": 0}')
    planned = prep(tmp_path, dry_run=True, synthesize="graininess", balance="graininess")
    assert planned.state == "planned" and not (tmp_path / "data").exists()
    assert planned.prevalence["graininess"] == Prevalence(negative=2, positive=2)
    done = prep(tmp_path, synthesize="graininess", balance="graininess")
    assert planned.clips.keys() == done.clips.keys()


def test_the_same_call_again_changes_nothing(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi")
    (tmp_path / "footage" / "bad.avi").touch()
    first = prep(tmp_path)
    before = tree(tmp_path / "data")
    second = prep(tmp_path, workers=2)
    assert second == dataclasses.replace(first, state="unchanged") and tree(tmp_path / "data") == before


def test_clips_that_went_missing_are_made_again(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi")
    prep(tmp_path)
    before = tree(tmp_path / "data")
    (tmp_path / "data" / "a_c01.avi").unlink()
    assert prep(tmp_path).state == "written" and tree(tmp_path / "data") == before


def test_other_options_or_footage_are_refused(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi")
    prep(tmp_path)
    before = tree(tmp_path / "data")
    for options in ({"seed": 1}, {"clips": 3}, {"synthesize": "graininess"}, {"dry_run": True, "size": 32}):
        with pytest.raises(OutputError, match="other options"):
            prep(tmp_path, **options)
    footage(make_clip, "b.avi")
    with pytest.raises(OutputError, match="other footage"):
        prep(tmp_path)
    assert tree(tmp_path / "data") == before


def test_folders_of_others_are_left_alone(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").touch()
    with pytest.raises(OutputError, match="not empty"):
        prep(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        prepare(PrepConfig((tmp_path / "footage",), tmp_path / "file", **SMALL))


@pytest.mark.usefixtures("quick_twins")
def test_an_interruption_at_any_clip_loses_at_most_that_clip(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage(make_clip, "a.avi", "b.avi")
    options = {"synthesize": "graininess", "clips": 2}
    whole = tree_of_run(tmp_path, "whole", options)
    for stop in range(1, 8):
        written: list[str] = []

        def interrupted(path: Path, *arguments: Any, **values: Any) -> None:
            if len(written) == stop:  # noqa: B023
                raise KeyboardInterrupt
            written.append(Path(path).name)  # noqa: B023
            write_clip(path, *arguments, **values)

        with monkeypatch.context() as patch:
            patch.setattr("grainscan.data.prep.cutting.write_clip", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tree_of_run(tmp_path, f"cut{stop}", options)
        assert not (tmp_path / f"cut{stop}" / "labels.json").exists()
        journals = tmp_path / f"cut{stop}" / ".prep"
        for journal in journals.glob("*.jsonl"):  # a power cut may tear the last line, too
            journal.write_bytes(journal.read_bytes() + b'{"clip": 1, "entr')
        again: list[str] = []

        def counted(path: Path, *arguments: Any, **values: Any) -> None:
            again.append(Path(path).name)  # noqa: B023
            write_clip(path, *arguments, **values)

        with monkeypatch.context() as patch:
            patch.setattr("grainscan.data.prep.cutting.write_clip", counted)
            assert tree_of_run(tmp_path, f"cut{stop}", options) == whole
        assert len(set(written) & set(again)) <= 1


def tree_of_run(tmp_path: Path, name: str, options: dict[str, Any]) -> dict[str, bytes]:
    prepare(PrepConfig((tmp_path / "footage",), tmp_path / name, **{**SMALL, **options}))
    return tree(tmp_path / name)


def test_an_interrupted_folder_belongs_to_its_call(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage(make_clip, "a.avi")
    with monkeypatch.context() as patch:
        patch.setattr("grainscan.data.prep.run._finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prep(tmp_path)
    with pytest.raises(OutputError, match="other options"):
        prep(tmp_path, seed=5)
    (tmp_path / "data" / ".tmp-abc.avi").write_bytes(b"of a worker that was killed")
    assert prep(tmp_path).state == "written"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "a_c00.avi", "a_c01.avi", "labels.json", "manifest.json"
    ]  # fmt: skip


def test_a_disk_that_is_full_is_an_error(tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    footage(make_clip, "a.avi")

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("grainscan.data.prep.cutting.write_clip", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        prep(tmp_path)
    assert "continues from here" in caught.value.hint


def test_progress_is_told(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi")
    seen = Seen()
    prepare(PrepConfig((tmp_path / "footage",), tmp_path / "data", **SMALL), progress=seen)
    assert seen.stages == [("verifying", 2), ("cutting", 4)]
    assert seen.steps == [("verifying", 1, ""), ("verifying", 2, ""), ("cutting", 2, ""), ("cutting", 4, "")]


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize("stage", ["examine", "cut"])
def test_a_video_that_crashes_the_decoder_costs_itself(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    footage(make_clip, "a.avi", "crash.avi")
    monkeypatch.setattr(f"grainscan.data.prep.run._{stage.upper()}", f"worker_kit:crashing_{stage}")
    report = prep(tmp_path, workers=2)
    assert [(item.file, item.reason) for item in report.skipped] == [("crash.avi", "its decoder crashed (SIGSEGV)")]
    assert len(report.clips) == (4 if stage == "cut" else 2)  # what was done before the crash is kept


_SCRIPT = """
import sys
from pathlib import Path
from grainscan.data.prep import prepare
from grainscan.options import PrepConfig
if __name__ == "__main__":
    prepare(PrepConfig((Path(sys.argv[1]),), Path(sys.argv[2]), clips=24, synthesize="graininess", workers=2,
                       frames=6, size=64))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_run_is_completed_and_leaves_no_process(tmp_path: Path, make_clip: MakeClip) -> None:
    footage(make_clip, "a.avi", "b.avi", codec="ffv1")
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "footage"), str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for end in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A shell starts background jobs, this test among them, with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        have = len(list((tmp_path / "data").glob("*.avi")))
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "data").glob("*.avi"))) < have + 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(end)
        process.communicate(timeout=30)  # until no worker holds the pipe any more
        assert not (tmp_path / "data" / "labels.json").exists()
        assert end == signal.SIGKILL or not list((tmp_path / "data").glob(".tmp-*"))
    report = prep(tmp_path, clips=24, synthesize="graininess")
    assert report.state == "written" and len(read_labels(tmp_path / "data").clips) == len(report.clips) == 96
    assert not list((tmp_path / "data").glob(".tmp-*"))
