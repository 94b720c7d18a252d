"""labels.json and manifest.json: both forms, every fault at once, and names that try to get out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grainscan.data.labels import (
    STANDARD_TASKS,
    Prevalence,
    find_split,
    json_path,
    name_fault,
    parse_labels,
    prevalence,
    read_labels,
    task_names,
    write_labels,
)
from grainscan.data.manifest import read_manifest, write_manifest
from grainscan.data.sources import group_clips, scene_of
from grainscan.errors import LabelsError, OutputError
from grainscan.files import write_text


def folder_of(path: Path, labels: Any, files: list[str] | None = None, *, media: str = "") -> Path:
    """A folder with a labels.json (text, bytes or a JSON value) and empty clips, by default those that it names."""
    path.mkdir(parents=True, exist_ok=True)
    data = labels if isinstance(labels, bytes) else (labels if isinstance(labels, str) else json.dumps(labels)).encode()
    (path / "labels.json").write_bytes(data)
    for name in labels if files is None else files:
        clip = path / media / name
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()
    return path


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(LabelsError) as caught:
        read_labels(folder)
    return caught.value.faults


# ---------------------------------------------------------------------------------------------------- both forms


def test_the_short_form_means_graininess(tmp_path: Path) -> None:
    labels = read_labels(folder_of(tmp_path, {"b.avi": 0, "a.avi": 1, "c.avi": True, "d.avi": False, "e.avi": None}))
    assert list(labels.clips) == ["a.avi", "b.avi", "c.avi", "d.avi", "e.avi"]
    assert labels.clips == {
        "a.avi": {"graininess": 1},
        "b.avi": {"graininess": 0},
        "c.avi": {"graininess": 1},
        "d.avi": {"graininess": 0},
        "e.avi": {},
    }
    assert labels.tasks == ("graininess",)
    assert all(type(value) is int for entry in labels.clips.values() for value in entry.values())


def test_the_long_form_leaves_unknowns_out(tmp_path: Path) -> None:
    entries = {
        "a.avi": {"graininess": 1, "banding": 0, "motion_blur": None},
        "sub/b.mkv": {"film_scratches": True, "banding": 1.0},
        "c.avi": {},
    }
    labels = read_labels(folder_of(tmp_path, entries))
    assert labels.clips["a.avi"] == {"graininess": 1, "banding": 0}
    assert labels.clips["sub/b.mkv"] == {"film_scratches": 1, "banding": 1}
    assert labels.clips["c.avi"] == {}
    assert labels.tasks == ("graininess", "banding", "film_scratches")  # standard order, then custom; no motion_blur


def test_both_forms_in_one_file(tmp_path: Path) -> None:
    labels = read_labels(folder_of(tmp_path, {"a.avi": 1, "b.avi": {"banding": 0}}))
    assert labels.clips == {"a.avi": {"graininess": 1}, "b.avi": {"banding": 0}}


def test_paths_are_made_on_demand(tmp_path: Path) -> None:
    labels = read_labels(folder_of(tmp_path, {"a.avi": 1, "sub/b.avi": 0}))
    assert labels.path["sub/b.avi"] == tmp_path / "sub" / "b.avi"
    assert list(labels.path) == ["a.avi", "sub/b.avi"] and len(labels.path) == 2
    with pytest.raises(KeyError):
        labels.path["other.avi"]


def test_clips_in_a_folder_avi(tmp_path: Path) -> None:
    labels = read_labels(folder_of(tmp_path, {"a.avi": 1, "b.avi": 0}, media="avi"))
    assert labels.media == tmp_path / "avi"
    assert labels.path["a.avi"] == tmp_path / "avi" / "a.avi"
    (tmp_path / "readme.mp4").touch()  # beside the folder of clips, hence not one of them
    assert len(read_labels(tmp_path).clips) == 2
    (tmp_path / "avi" / "c.avi").touch()
    assert faults_of(tmp_path) == ['$["c.avi"]: this file has no label (write null if it is unknown)']


def test_names_that_spell_the_folder_avi_out(tmp_path: Path) -> None:
    labels = read_labels(folder_of(tmp_path, {"avi/a.avi": 1}))
    assert labels.media == tmp_path and labels.path["avi/a.avi"].is_file()


def test_labels_as_published_with_bvi_artefact(tmp_path: Path) -> None:
    entries = {
        "Bird_1920x1080_30fps_graininess_QP32.yuv": {
            "output": "Bird_1920x1080_30fps_graininess_QP32.yuv",
            "noise_config": {"frame_drop": {"active": True, "ratio": 0.1}, "black_screen": {"active": 0}},
        },
        "Tree_1920x1080_30fps.yuv": {"noise_config": {"graininess": {"active": 1}, "banding": {"active": 0}}},
    }
    files = [name.replace(".yuv", ".avi") for name in entries]
    labels = read_labels(folder_of(tmp_path, entries, files, media="avi"))
    assert labels.clips[files[1]] == {"graininess": 1, "banding": 0}
    assert labels.clips[files[0]] == {
        "graininess": 1,
        "frame_drop": 1,
        "black_screen": 0,
        "blockiness": 0,
        "banding": 0,
        "motion_blur": 0,
        "aliasing": 0,
        "dark_scenes": 0,
    }


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2", "2"),
        ("-1", "-1"),
        ('"1"', '"1"'),
        ("[1]", "[1]"),
        ("0.5", "0.5"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
    ],
)
def test_other_values_are_faults(tmp_path: Path, value: str, shown: str) -> None:
    folder_of(tmp_path, f'{{"a.avi": {value}, "b.avi": {{"banding": {value}}}}}', ["a.avi", "b.avi"])
    assert faults_of(tmp_path) == [
        f'$["a.avi"]: {shown} is not 0, 1, true, false or null',
        f'$["b.avi"].banding: {shown} is not 0, 1, true, false or null',
    ]


def test_all_faults_come_at_once_with_their_paths(tmp_path: Path) -> None:
    text = """{"a.avi": 2, "a.avi": 1, "gone.avi": 1, "../x.avi": 1, "b.avi": {"Film Grain": 1, "banding": "yes",
               "banding": 0, "blockiness": {"a": 1}}}"""
    folder_of(tmp_path, text, ["a.avi", "b.avi", "unlabelled.mp4", "notes.txt", ".hidden.avi", ".cache/x.avi"])
    with pytest.raises(LabelsError) as caught:
        read_labels(tmp_path)
    assert caught.value.faults == [
        '$["a.avi"]: is given twice',
        '$["b.avi"].banding: is given twice',
        '$["../x.avi"]: the name leaves the folder',
        '$["b.avi"]["Film Grain"]: a task name is snake_case, such as graininess or film_scratches',
        '$["b.avi"].blockiness: {"a": 1} is not 0, 1, true, false or null',
        '$["gone.avi"]: no such file',
        '$["unlabelled.mp4"]: this file has no label (write null if it is unknown)',
    ]
    assert "7 faults" in str(caught.value) and all(fault in str(caught.value) for fault in caught.value.faults)
    assert caught.value.hint and caught.value.exit_code == 2


@pytest.mark.parametrize("task", ["", "Grain", "film grain", "1st", "grain-", "_grain", "a__b", "start", "end", "grän"])
def test_task_names_that_are_refused(tmp_path: Path, task: str) -> None:
    folder_of(tmp_path, {"a.avi": {task: 1}})
    assert len(faults_of(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x.avi", "leaves the folder"),
        ("a/../../x.avi", "leaves the folder"),
        ("a\\..\\x.avi", "leaves the folder"),
        ("a/..\\x.avi", "leaves the folder"),
        ("..", "leaves the folder"),
        ("/etc/passwd", "absolute"),
        ("\\\\server\\x.avi", "absolute"),
        ("C:\\x.avi", "absolute"),
        ("C:/x.avi", "absolute"),
        ("", "empty"),
        ("./a.avi", 'write the name as "a.avi"'),
        ("a//b.avi", 'write the name as "a/b.avi"'),
        ("a/", 'write the name as "a"'),
        ("a\0.avi", "NUL"),
        ("a\ud800.avi", "not valid text"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path.parent / "x.avi").touch()
    folder_of(tmp_path, {name: 1, "ok.avi": 1}, ["ok.avi"])
    faults = faults_of(tmp_path)
    assert len(faults) == 1 and reason in faults[0] and faults[0].isprintable()


@pytest.mark.parametrize(
    "name", ["a.avi", "ä b (1).avi", "…/🎞.mkv", "a..b.avi", "..a.avi", "c:d.avi", "-x.avi", "=1+1.avi"]
)
def test_odd_names_that_are_fine(tmp_path: Path, name: str) -> None:
    assert name_fault(name) is None
    assert list(read_labels(folder_of(tmp_path, {name: 1})).clips) == [name]


def test_a_very_long_name_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    folder_of(tmp_path, {"a" * 5000 + ".avi": 1}, [])
    assert faults_of(tmp_path)[0].endswith("no such file")


def test_a_name_in_invalid_utf8_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.avi")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system takes only valid names")
    write_labels(tmp_path, {name: {"graininess": 1}, "é.avi": {"graininess": 0}})
    (tmp_path / "é.avi").touch()
    assert set(read_labels(tmp_path).clips) == {name, "é.avi"}


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.avi").touch()
    data = folder_of(tmp_path / "data", {"link.avi": 1, "ok.avi": 0}, ["ok.avi"])
    (data / "link.avi").symlink_to(tmp_path / "secret.avi")
    assert faults_of(data) == ['$["link.avi"]: leads out of the folder through a symbolic link']


def test_a_linked_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.avi").touch()
    data = folder_of(tmp_path / "data", {"sub/x.avi": 1, "sub/y.avi": 1}, [])
    (data / "sub").symlink_to(tmp_path / "other")
    assert faults_of(data) == [
        '$["sub/x.avi"]: leads out of the folder through a symbolic link',
        '$["sub/y.avi"]: no such file',
    ]


def test_a_linked_folder_avi_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.avi").touch()
    data = folder_of(tmp_path / "data", {"x.avi": 1}, [])
    (data / "avi").symlink_to(tmp_path / "other")
    assert faults_of(data) == ['$["x.avi"]: leads out of the folder through a symbolic link']


def test_links_that_stay_inside_are_read_and_noted(tmp_path: Path) -> None:
    data = folder_of(tmp_path, {"a.avi": 1, "b.avi": 1, "loop/a.avi": 1}, ["a.avi"])
    (data / "b.avi").symlink_to("a.avi")
    (data / "loop").symlink_to(data)
    labels = read_labels(data)
    assert set(labels.clips) == {"a.avi", "b.avi", "loop/a.avi"}
    assert labels.links == {"b.avi", "loop/a.avi"}


def test_a_dangling_link_is_no_file(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.avi": 1}, [])
    (tmp_path / "a.avi").symlink_to("nowhere.avi")
    assert faults_of(tmp_path) == ['$["a.avi"]: no such file']


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.avi": 1, "b.avi": 0}, ["b.avi"])
    os.mkfifo(tmp_path / "a.avi")
    assert faults_of(tmp_path) == ['$["a.avi"]: no such file']
    (tmp_path / "labels.json").unlink()
    os.mkfifo(tmp_path / "labels.json")
    with pytest.raises(LabelsError, match="no such file"):
        read_labels(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    folder_of(tmp_path, b'\xef\xbb\xbf{"a.avi": 1}', ["a.avi"])
    assert read_labels(tmp_path).clips == {"a.avi": {"graininess": 1}}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a\xff.avi": 1}', "not UTF-8"),
        ('{"a.avi": 1}'.encode("utf-16"), "not UTF-8"),
        (b"", "not JSON"),
        (b'{"a.avi": 1', "not JSON"),
        (b'{"a.avi": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", r"\$ must be an object"),
        (b"null", r"\$ must be an object"),
        (b"{}", r"\$: names no clip"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, data: bytes, reason: str) -> None:
    folder_of(tmp_path, data, [])
    with pytest.raises(LabelsError, match=reason) as caught:
        read_labels(tmp_path)
    assert "labels.json" in caught.value.message and caught.value.hint


def test_a_missing_labels_file(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"has no labels\.json") as caught:
        read_labels(tmp_path)
    assert '{"a.avi": 1' in caught.value.hint
    with pytest.raises(LabelsError, match="no such folder"):
        read_labels(tmp_path / "nowhere")


def test_an_interrupted_split_is_named_in_the_hint(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.avi": 1}, [])
    (tmp_path / ".split").mkdir()
    with pytest.raises(LabelsError) as caught:
        read_labels(tmp_path)
    assert "--undo" in caught.value.hint


def test_parse_labels_looks_at_no_clip(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.avi": 1}, [])
    assert parse_labels(tmp_path / "labels.json") == {"a.avi": {"graininess": 1}}


_INDEX = """
import resource, sys, time
from grainscan.data.labels import read_labels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
labels = read_labels(sys.argv[1])
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
assert len(labels.clips) == 10_000 and labels.tasks == ("graininess",)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted in the units of Linux")
def test_indexing_costs_little_time_and_memory_a_clip(tmp_path: Path) -> None:
    """A tenth of 100,000 clips, because making that many files takes longer than reading their labels."""
    names = [f"source_{i:05d}_c{i % 10:02d}.avi" for i in range(10_000)]
    write_labels(tmp_path, {name: {"graininess": i % 2} for i, name in enumerate(names)})
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    done = subprocess.run([sys.executable, "-c", _INDEX, str(tmp_path)], capture_output=True, text=True, check=True)
    seconds, megabytes = (float(word) for word in done.stdout.split())
    assert seconds < 0.5  # about 0.1 on an idle machine
    assert megabytes < 15


def test_a_file_of_a_hundred_thousand_labels_is_read_in_a_second_or_so(tmp_path: Path) -> None:
    write_labels(tmp_path, {f"source_{i:06d}_c{i % 10:02d}.avi": {"graininess": i % 2} for i in range(100_000)})
    start = time.process_time()
    assert len(parse_labels(tmp_path / "labels.json")) == 100_000
    assert time.process_time() - start < 4


# ---------------------------------------------------------------------------------------------------------- writing


def test_written_labels_come_back_sorted_a_clip_a_line(tmp_path: Path) -> None:
    write_labels(tmp_path, {"b.avi": {"graininess": 1, "banding": None}, "a.avi": {}})
    assert (tmp_path / "labels.json").read_text() == (
        '{\n  "a.avi": {},\n  "b.avi": {"graininess": 1, "banding": null}\n}\n'
    )
    for name in ("a.avi", "b.avi"):
        (tmp_path / name).touch()
    assert read_labels(tmp_path).clips == {"a.avi": {}, "b.avi": {"graininess": 1}}


def test_nothing_unreadable_is_written(tmp_path: Path) -> None:
    with pytest.raises(LabelsError) as caught:
        write_labels(tmp_path, {"../a.avi": {"graininess": 1}, "b.avi": {"Grain": 1}, "c.avi": {"graininess": 2}})
    assert len(caught.value.faults) == 3
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labels(tmp_path, {"a.avi": {"graininess": 1}})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_labels(tmp_path, {"a.avi": {"graininess": 0}})
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]
    assert parse_labels(tmp_path / "labels.json") == {"a.avi": {"graininess": 1}}


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


# --------------------------------------------------------------------------------------------------------- manifest


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    entry = {"source": "x", "strength": {"graininess": 3.2}, "synthesis": {"codec": "hevc"}, "twin": None}
    manifest = {"schema": 1, "seed": 3, "clips": {"b.avi": entry, "a.avi": {"source": "é"}}}
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    brief = read_manifest(tmp_path, brief=True)
    assert brief is not None and "synthesis" not in brief["clips"]["b.avi"]
    assert brief["clips"]["b.avi"]["strength"] == {"graininess": 3.2}
    assert len((tmp_path / "manifest.json").read_text().splitlines()) == 8  # a clip a line


def test_no_manifest_is_fine(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_all_faults_of_a_manifest_come_at_once(tmp_path: Path) -> None:
    text = """{"schema": 2, "clips": {"../a.avi": {}, "/b.avi": {"twin": "../../c.avi"}, "c.avi": 1,
        "d.avi": {"source": 3, "strength": {"graininess": NaN, "banding": -1, "aliasing": true}},
        "e.avi": {"strength": 3, "twin": ["x"]}, "ok.avi": {"strength": {"graininess": null}, "twin": null}}}"""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LabelsError) as caught:
        read_manifest(tmp_path)
    assert caught.value.faults == [
        "$.schema: 2 is not 1, the only known version",
        '$.clips["../a.avi"]: the name leaves the folder',
        '$.clips["/b.avi"]: the name is absolute; it must be relative to the folder',
        '$.clips["/b.avi"].twin: the name leaves the folder',
        '$.clips["c.avi"]: must be an object',
        '$.clips["d.avi"].source: 3 is not text',
        '$.clips["d.avi"].strength.graininess: NaN is not a number of at least 0',
        '$.clips["d.avi"].strength.banding: -1 is not a number of at least 0',
        '$.clips["d.avi"].strength.aliasing: true is not a number of at least 0',
        '$.clips["e.avi"].twin: ["x"] is not text',
        '$.clips["e.avi"].strength: must be an object',
    ]


def test_a_manifest_without_clips_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(LabelsError, match=r"\$\.clips: must be an object"):
        read_manifest(tmp_path)


# ---------------------------------------------------------------------------------------------- splits and summaries


def test_find_split(tmp_path: Path) -> None:
    plain = folder_of(tmp_path / "plain", {"a.avi": 1})
    assert find_split(plain) == plain
    with pytest.raises(LabelsError) as caught:
        find_split(plain, "test")
    assert "grainscan split" in caught.value.hint

    data = tmp_path / "data"
    folder_of(data / "train", {"a.avi": 1})
    folder_of(data / "test", {"a.avi": 1})
    assert find_split(data, "test") == data / "test"
    assert find_split(data / "test", "test") == data / "test"
    assert find_split(str(data / "test")) == data / "test"
    with pytest.raises(LabelsError, match="has no split 'val'") as caught:
        find_split(data, "val")
    assert "train, test" in caught.value.hint
    with pytest.raises(LabelsError, match="is split into train, test"):
        find_split(data)
    with pytest.raises(LabelsError, match="not the name of a split"):
        find_split(data, "../data/test")
    with pytest.raises(LabelsError, match="no such folder"):
        find_split(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelsError, match=r"has no labels\.json"):
        find_split(tmp_path / "empty")


def test_tasks_and_prevalence() -> None:
    clips: list[dict[str, int | None]] = [
        {"graininess": 1, "zebra": 0},
        {"graininess": 0, "banding": 1},
        {"zebra": None},
    ]
    assert task_names(clips) == ("graininess", "banding", "zebra")
    counts = prevalence(clips, task_names(clips))
    assert counts["graininess"] == Prevalence(negative=1, positive=1, unknown=1)
    assert counts["zebra"] == Prevalence(negative=1, positive=0, unknown=2)


def test_the_standard_tasks_are_those_of_bvi_artefact() -> None:
    assert set(STANDARD_TASKS) == {
        "graininess", "blockiness", "banding", "spatial_blur", "motion_blur", "aliasing", "dark_scenes", "black_screen",
        "frame_drop", "transmission_error",
    }  # fmt: skip


def test_scenes_and_sources() -> None:
    assert scene_of("BirdsInCage_1920x1080_30fps_QP32.avi") == "BirdsInCage"
    assert scene_of("some/folder/My_Bird_1280x720_x_640x480_.avi") == "My_Bird"
    assert scene_of("clip_1920x1080.avi") is None and scene_of("_1x1_a.avi") is None
    manifest = {"clips": {"a.avi": {"source": "scene 7"}, "b_1x1_c.avi": {}}}
    assert group_clips(["a.avi", "b_1x1_c.avi"], manifest) == {"a.avi": "scene 7", "b_1x1_c.avi": "b"}
    assert group_clips(["c.avi"], None) == {"c.avi": "c.avi"}


def test_json_paths_are_printable() -> None:
    assert json_path("a.avi", "graininess") == '$["a.avi"].graininess'
    assert json_path('a"b\n\x9b\u202e.avi') == '$["a\\"b\\n\\u009b\\u202e.avi"]'


def test_reading_labels_is_quick_to_fail_on_many_faults(tmp_path: Path) -> None:
    folder_of(tmp_path, {f"gone_{i}.avi": 2 for i in range(5000)}, [])
    start = time.process_time()
    assert len(faults_of(tmp_path)) == 10_000
    assert time.process_time() - start < 3
