"""Ten artifacts at once, finished scans as input, what to show and in which order, and edit decision lists."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip
from PIL import Image
from scan_kit import write_toy_model
from test_cli import plain, run
from test_report import Page, failed, ok, several, written

from grainscan.errors import ConfigError, UsageError, VideoError
from grainscan.options import PredictConfig
from grainscan.predict import predict
from grainscan.report import format_for
from grainscan.report.selection import found, in_order
from grainscan.results import fault_of
from grainscan.scan.finished import FinishedScans
from grainscan.scan.pictures import _checked
from grainscan.scan.scanner import Scanner, predict_video
from grainscan.tasks import STANDARD
from grainscan.video import Reader, read_clip
from grainscan.video.stills import read_still

TEN = tuple(task.name for task in STANDARD)
HERE = ("--workers", "0")


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """A model of ten tasks: on a bright clip the even ones are found, on a dark one the odd ones."""
    return write_toy_model(tmp_path / "ten", tasks=TEN, provenance={"experimental": ["motion_blur", "banding"]})


@pytest.fixture
def clips(make_clip: MakeClip, tmp_path: Path) -> Path:
    make_clip("clips/bright.avi", width=96, height=64, frames=12, level=(200.0, 250.0))
    make_clip("clips/dark.avi", width=96, height=64, frames=12, level=(20.0, 40.0))
    return tmp_path / "clips"


def write_log(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ------------------------------------------------------------------------------------------------------- ten artifacts


def test_ten_tasks_reach_every_format(ten: Path, clips: Path, tmp_path: Path) -> None:
    words = ("predict", clips, "--model", ten, *HERE)
    rows = [json.loads(line) for line in run(*words, "-f", "jsonl").stdout.splitlines()]
    assert [list(row["tasks"]) for row in rows] == [list(TEN)] * 2
    marked = {task for task, block in rows[0]["tasks"].items() if "experimental" in block}
    assert marked == {"motion_blur", "banding"} and rows[0]["tasks"]["banding"]["experimental"] is True
    assert not any(fault_of(row) for row in rows)
    table = plain(run(*words).stdout)
    assert "grainy 1.00 · banding* 1.00" in " ".join(table.split()) or "banding*" in table
    assert "clean" not in table.split("files")[0] and "* experimental" in table
    header = run(*words, "-f", "csv").stdout.splitlines()[0].split(",")
    assert {f"{task}_probability" for task in TEN} <= set(header)
    run(*words, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert all(f'"name":"{task}"' in page for task in TEN)


def test_tasks_are_chosen_and_keep_the_order_of_the_model(ten: Path, clips: Path) -> None:
    words = ("predict", clips / "bright.avi", "--model", ten, *HERE, "-f", "jsonl")
    row = json.loads(run(*words, "--tasks", "banding, graininess").stdout)
    assert list(row["tasks"]) == ["graininess", "banding"]
    assert [key for key in row["windows"][0] if key in TEN] == ["graininess", "banding"]
    whole = json.loads(run(*words).stdout)
    assert row["tasks"] == {task: whole["tasks"][task] for task in row["tasks"]}
    said = " ".join(run(*words, "--tasks", "banding,grain", code=2).stderr.split())
    assert "the model has no task 'grain'" in said
    assert "hint: Did you mean graininess? Use graininess, blockiness, banding" in said
    assert "names no task" in run(*words, "--tasks", ",", code=2).stderr
    with Scanner(ten, workers=0, tasks=["aliasing"]) as scanner:
        assert list(scanner.predict(clips / "dark.avi")["tasks"]) == ["aliasing"]


def test_a_threshold_is_for_a_task_that_is_judged(ten: Path, clips: Path) -> None:
    words = ("predict", clips / "bright.avi", "--model", ten, *HERE, "--tasks", "graininess", "-f", "jsonl")
    assert json.loads(run(*words, "-t", "0.25").stdout)["tasks"]["graininess"]["threshold"] == 0.25
    assert "the model has no such task" in run(*words, "-t", "banding=0.5", code=2).stderr


def test_fail_on_any_or_on_some(ten: Path, clips: Path) -> None:
    words = ("predict", clips / "bright.avi", "--model", ten, *HERE, "-f", "jsonl", "--fail-on")
    run(*words, "any", code=3)
    run(*words, "banding", code=3)
    run(*words, "blockiness", code=0)
    run(*words, "blockiness,banding", code=3)
    said = " ".join(run(*words, "grain", code=2).stderr.split())
    assert "--fail-on grain: the model has no task 'grain'" in said and "Use any, graininess" in said
    run(*words, "banding", "--tasks", "graininess", code=2)
    run(*words, "any", "-t", "1", code=0)


def test_predict_video_takes_one_of_ten(ten: Path, clips: Path) -> None:
    assert predict_video(clips / "bright.avi", model=ten, task="banding", workers=0)[0] == 1
    assert predict_video(clips / "bright.avi", model=ten, task="blockiness", workers=0)[0] == 0
    with pytest.raises(UsageError, match="no task 'grain'"):
        predict_video(clips / "bright.avi", model=ten, task="grain", workers=0)


def test_eval_of_some_tasks(ten: Path, clips: Path, tmp_path: Path) -> None:
    both = dict.fromkeys(("graininess", "banding", "blockiness"), 1)
    (clips / "labels.json").write_text(json.dumps({"bright.avi": both, "dark.avi": dict.fromkeys(both, 0)}))
    words = ("eval", clips, "--model", ten, *HERE, "--bootstrap", "0", "-f", "json")
    report = json.loads(run(*words, "--tasks", "banding,graininess").stdout)
    assert list(report["tasks"]) == ["graininess", "banding"] and "not_judged" not in report
    assert report["tasks"]["banding"]["experimental"] is True and "experimental" not in report["tasks"]["graininess"]
    assert report["tasks"]["banding"]["auroc"] == 1.0
    assert list(json.loads(run(*words).stdout)["tasks"]) == ["graininess", "blockiness", "banding"]
    assert "has no task 'grain'" in run(*words, "--tasks", "grain", code=2).stderr
    two = write_toy_model(tmp_path / "two")
    compared = json.loads(run(*words, "--tasks", "banding,blockiness", "--compare", two).stdout)["compare"]
    assert list(compared["tasks"]) == ["banding"]


def test_events_are_checked_in_a_log() -> None:
    event = {"task": "black_screen", "start": 0.0, "end": 0.5, "probability": 0.9, "timecode": "00:00:00:00"}
    assert fault_of(ok(events=[event])) == ""
    for wrong in ({"end": "x"}, {"task": 7}, {"timecode": 7}, {"probability": None}):
        assert fault_of(ok(events=[event | wrong])) == "its events cannot be read"
    assert fault_of(ok(events="none")) == "its events cannot be read"
    assert fault_of(ok(windows=[{"start": 0, "end": 1, "timecode": 7}])) == "its windows cannot be read"


# -------------------------------------------------------------------------------------------- a finished scan as input


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = (
        failed("broken.avi"),
        several("clean.avi", graininess=0.1, banding=0.2) | {"settings": "abc"},
        several("gone/banded.avi", graininess=0.1, banding=0.9),
        several("gone/grainy.avi", graininess=0.8, banding=0.3),
        several("gone/both.avi", graininess=0.6, banding=0.7),
    )
    return write_log(tmp_path / "scan.jsonl", *rows)


def names(text: str) -> list[str]:
    return [Path(json.loads(line)["path"]).stem for line in text.splitlines()]


def test_a_log_gives_its_rows_and_nothing_is_decoded(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scanner, "__init__", None)  # nothing may be judged
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    text = run("predict", log, "-f", "jsonl", code=1).stdout
    assert [json.loads(line) for line in text.splitlines()] == sorted(kept, key=lambda row: row["path"])
    table = plain(run("predict", log, code=1).stdout)
    assert (
        "banding 0.90" in table
        and "5 files" in table
        and "settings" not in run("predict", log, "-f", "json", code=1).stdout
    )
    for suffix in ("html", "csv", "json", "txt", "jsonl", "edl"):
        run("predict", log, "-o", tmp_path / f"out.{suffix}", code=1)
    assert "gone/banded.avi" in (tmp_path / "out.csv").read_text()
    assert '"n":"banded.avi"' in (tmp_path / "out.html").read_text()
    assert not list(tmp_path.glob("*.partial.jsonl"))


def test_two_logs_and_a_video_in_one_order(log: Path, clips: Path, tmp_path: Path) -> None:
    model = write_toy_model(tmp_path / "model")
    known = str(clips / "dark.avi")
    other = write_log(tmp_path / "other.JSONL", several(known, graininess=0.77, banding=0.0), ok("zoo.avi"))
    words = ("predict", clips, log, other, "--model", model, *HERE)
    rows = [json.loads(line) for line in run(*words, "-f", "jsonl", code=1).stdout.splitlines()]
    paths = [row["path"] for row in rows]
    assert paths == sorted(paths) and len(paths) == 8
    assert rows[paths.index(known)]["tasks"]["graininess"]["probability"] == 0.77  # the log's row counts
    run(*words, "-o", tmp_path / "out.csv", code=1)
    table = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["path"] for row in table] == paths
    said = " ".join(run(*words, "-o", tmp_path / "new.jsonl", code=2).stderr.split())
    assert "takes no rows of another scan" in said


def test_a_log_takes_tasks_and_thresholds(log: Path) -> None:
    rows = [
        json.loads(line)
        for line in run("predict", log, "-f", "jsonl", "-t", "banding=0.15", code=1).stdout.splitlines()
    ]
    clean = next(row for row in rows if row["path"] == "clean.avi")
    assert clean["tasks"]["banding"] == {"label": 1, "probability": 0.2, "threshold": 0.15}
    assert clean["tasks"]["graininess"]["threshold"] == 0.5
    rows = [
        json.loads(line)
        for line in run("predict", log, "-f", "jsonl", "--tasks", "banding", code=1).stdout.splitlines()
    ]
    assert {tuple(row.get("tasks", ())) for row in rows} == {(), ("banding",)}
    assert "no task" in run("predict", log, "--tasks", "aliasing", code=2).stderr


@pytest.mark.parametrize("words", [("-o", "dark.avi", "-f", "csv"), ("-o", "other.avi", "-f", "json")], ids=str)
def test_no_video_is_written_over(ten: Path, clips: Path, words: tuple[str, ...]) -> None:
    (clips / "other.avi").write_bytes((clips / "bright.avi").read_bytes())
    (clips / "link.csv").symlink_to(clips / "dark.avi")
    before = {path.name: path.read_bytes() for path in clips.iterdir()}
    for target in ((words[0], clips / words[1], *words[2:]), ("--grain-table", clips / words[1])):
        said = run("predict", clips / "dark.avi", "--model", ten, *HERE, *target, code=2).stderr
        why = "an input, too" if words[1] == "dark.avi" else "a video, which would be lost"
        assert f"{words[1]} is {why}" in " ".join(said.split()) and str(target[0]) in said
    run("predict", clips / "link.csv", "--model", ten, *HERE, "-o", clips / "link.csv", code=2)
    assert {path.name: path.read_bytes() for path in clips.iterdir()} == before


def test_a_finished_scan_is_not_judged_again(log: Path) -> None:
    for words in (("--every", "1"), ("--maps",), ("--character",)):
        assert f"{words[0]}: the files of a finished scan are not judged again" in " ".join(
            run("predict", log, *words, code=2).stderr.split()
        )


def test_what_is_no_log_is_refused(log: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(log.read_text() + '{"hello": 1}\n')
    said = run("predict", bad, code=2).stderr
    assert "bad.jsonl: line 6 is not a result of grainscan" in said and "hint:" in said
    bad.write_text(log.read_text() + '{"schema": 1, "path": "torn')  # still being written
    assert len(FinishedScans([bad])) == 5
    assert "is an input, too" in run("predict", log, "-o", log, code=2).stderr
    assert "missing.jsonl" in run("predict", tmp_path / "missing.jsonl", code=1).stdout.replace("\n", "").replace(
        " ", ""
    )


def test_the_last_row_of_a_file_counts(tmp_path: Path) -> None:
    scans = FinishedScans(
        [write_log(tmp_path / "a.jsonl", failed("x.avi"), ok("x.avi")), write_log(tmp_path / "b.jsonl")]
    )
    assert [row["status"] for row in scans.rows()] == ["ok"]
    assert (scans.tasks, scans.models, "x.avi" in scans) == (("graininess",), ("grainscan-s",), True)


# ------------------------------------------------------------------------------------------------- selection and order


def test_only_and_sort(log: Path, tmp_path: Path) -> None:
    words = ("predict", log, "-f", "jsonl")
    assert names(run(*words, "--only", "graininess", code=1).stdout) == ["both", "grainy"]
    assert names(run(*words, "--only", "any", code=1).stdout) == ["banded", "both", "grainy"]
    assert names(run(*words, "--sort", "worst", code=1).stdout) == ["banded", "grainy", "both", "clean", "broken"]
    assert names(run(*words, "--sort", "graininess", code=1).stdout) == ["grainy", "both", "clean", "banded", "broken"]
    result = run("predict", log, "--only", "banding", "--sort", "banding", code=1)
    assert "not shown, as --only asks: 3 files, of which 1 error" in plain(result.stderr)
    assert plain(result.stdout).index("banded.avi") < plain(result.stdout).index("both.avi")
    run("predict", log, "--only", "graininess", "--sort", "graininess", "-o", tmp_path / "few.jsonl", code=1)
    assert names((tmp_path / "few.jsonl").read_text()) == ["grainy", "both"]
    run("predict", log, "--sort", "banding", "-o", tmp_path / "page.html", code=1)
    assert '"order":"worst","artifact":1' in (tmp_path / "page.html").read_text()
    assert "the model has no task 'size'" in run("predict", log, "--sort", "size", code=2).stderr


def test_the_log_of_a_scan_is_whole_and_in_order(clips: Path, tmp_path: Path) -> None:
    model = write_toy_model(tmp_path / "model")
    for flag in (("--sort", "worst"), ("--only", "any")):
        said = run("predict", clips, "--model", model, *flag, "-o", tmp_path / "log.jsonl", code=2).stderr
        assert f"it takes no {flag[0]}" in " ".join(said.split()) and not (tmp_path / "log.jsonl").exists()


def test_what_is_left_out_still_decides_the_exit_code(clips: Path, tmp_path: Path) -> None:
    model = write_toy_model(tmp_path / "model")
    report = predict(
        PredictConfig(inputs=(str(clips),), model=str(model), workers=0, only="banding"), stdout=io.StringIO()
    )
    assert [Path(row["path"]).name for row in report.rows] == ["dark.avi"] and report.left_out == 1
    assert (report.exit_code("graininess"), report.exit_code("any"), report.exit_code(None)) == (3, 3, 0)


def test_orders_by_hand() -> None:
    long, strong = ok("a.avi", 0.6), ok("b.avi", 0.7)
    strong["tasks"]["graininess"]["strength"] = 9.0
    long["video"]["duration"] = 999.0
    rows = [failed("c.avi"), strong, long]
    orders = {
        order: [row["path"][0] for row in in_order(rows, order)] for order in ("path", "length", "strength", "worst")
    }
    assert orders == {
        "path": ["a", "b", "c"],
        "length": ["a", "b", "c"],
        "strength": ["b", "a", "c"],
        "worst": ["b", "a", "c"],
    }
    low = ok("d.avi", 0.3)
    low["tasks"]["graininess"] |= {"threshold": 0.1, "label": 1}
    assert [row["path"][0] for row in in_order([*rows, low], "worst")] == [
        "b",
        "d",
        "a",
        "c",
    ]  # (0.3 - 0.1) / 0.9 > 0.2
    assert found(low, ["any"]) and not found(low, ["banding"]) and not found(failed(), ["any"])


# -------------------------------------------------------------------------------------------------- edit decision lists


def test_edl_of_windows_and_events() -> None:
    grainy = ok("reels/one|two.mov", windows=[{"start": 83.25, "end": 83.583, "graininess": 0.97}])
    black = several("three.mov", black_screen=0.99)
    black["events"] = [{"task": "black_screen", "start": 12.4, "end": 12.4, "probability": 0.99}]
    text = written([grainy, failed(), black], "edl", tasks=["graininess", "black_screen"])
    assert text.splitlines() == [
        "TITLE: grainscan",
        "FCM: NON-DROP FRAME",
        "",
        "001  AX       V     C        00:01:23:06 00:01:23:07 00:01:23:06 00:01:23:07",
        " |C:ResolveColorRed |M:grainy 0.97 |D:8",
        "* FROM CLIP NAME: one|two.mov",
        "* LOC: 00:01:23:06 RED     grainy 0.97",
        "",
        "002  AX       V     C        00:00:12:10 00:00:12:11 00:02:12:10 00:02:12:11",
        " |C:ResolveColorRed |M:black screen 0.99 |D:1",
        "* FROM CLIP NAME: three.mov",
        "* LOC: 00:02:12:10 RED     black screen 0.99",
    ]
    assert written([], "edl").splitlines() == ["TITLE: grainscan", "FCM: NON-DROP FRAME"]
    assert format_for(None, Path("a.EDL")) == "edl"


def test_edl_marks_what_lasts_too_short_for_the_file_in_yellow() -> None:
    clean = ok("clean.mov", 0.4)
    clean["windows"][1]["graininess"] = 0.9  # over the threshold, while the file is not
    assert written([clean], "edl") == written([], "edl")
    clean["events"] = [{"task": "graininess", "start": 1.0, "end": 2.0, "probability": 0.9}]
    text = written([clean], "edl")
    assert " |C:ResolveColorYellow |M:grainy 0.90 |D:24" in text and " YELLOW  grainy 0.90" in text
    clean["tasks"]["graininess"] |= {"min_strength": 2.0, "strength": 1.0}
    assert written([clean], "edl") == written([], "edl")  # too weak to count
    del clean["events"]
    clean["tasks"]["graininess"]["label"] = 1
    assert " |C:ResolveColorRed |M:grainy 0.90 " in written([clean], "edl")


def test_edl_of_no_usual_rate_keeps_the_seconds() -> None:
    windows = [{"start": 83.6, "end": 84.0, "graininess": 0.97}]
    grainy = ok("phone.mp4", windows=windows, video={"fps": 6.509, "duration": 120.0})
    assert " 00:01:23:04 00:01:23:05 " in written([grainy], "edl")
    grainy["video"]["fps"] = 1000.0
    assert " 00:01:23:60 00:01:23:61 " in written([grainy], "edl")
    (row,) = csv.DictReader(io.StringIO(written([grainy], "csv")))
    assert row["graininess_worst_timecode"] == ""


def test_edl_has_one_event_a_frame_in_order() -> None:
    found = several("a.mov", black_screen=0.99, graininess=0.9)
    spans = [("graininess", 2.0, 9.0), ("black_screen", 2.0, 2.5), ("black_screen", 0.5, 1.0)]
    found["events"] = [{"task": task, "start": start, "end": end, "probability": 0.9} for task, start, end in spans]
    lines = written([found], "edl", tasks=["graininess", "black_screen"]).splitlines()
    assert [line.split()[-2:] for line in lines if " AX " in line] == [
        ["00:00:00:12", "00:00:00:13"], ["00:00:02:00", "00:00:02:01"], ["00:00:02:01", "00:00:02:02"]
    ]  # fmt: skip
    assert [line.split("|D:")[1] for line in lines if "|D:" in line] == ["12", "168", "12"]


def test_a_scanner_takes_one_name_and_says_which_number_is_wrong(ten: Path) -> None:
    assert Scanner(ten, tasks="banding").tasks == ("banding",)
    assert set(Scanner(ten, tasks="graininess, banding").tasks) == {"graininess", "banding"}
    with pytest.raises(UsageError, match="has no task 'grain'"):
        Scanner(ten, tasks="grain")
    options: tuple[dict[str, Any], ...] = ({"windows": 0}, {"crops": 0}, {"max_pixels": 0})
    for option in options:
        with pytest.raises(ConfigError, match=f"{next(iter(option))} is 0") as caught:
            Scanner(ten, **option)
        assert "at least 1" in caught.value.hint
    with pytest.raises(ConfigError, match="timeout is -1 seconds"):
        Scanner(ten, timeout=-1)


def test_the_order_of_a_task_needs_its_name() -> None:
    with pytest.raises(UsageError, match="--sort vignette"):
        predict(PredictConfig(inputs=("a.avi",), sort="vignette"), stdout=io.StringIO())
    with pytest.raises(ConfigError):
        PredictConfig(inputs=("a.avi",), timeout=-1.0)


# ------------------------------------------------------------------------------------------------------------ pictures


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_page_shows_the_pictures_of_the_worst_files(clips: Path, tmp_path: Path) -> None:
    model, page = write_toy_model(tmp_path / "model"), tmp_path / "page.html"
    (clips / "broken.avi").write_bytes(b"nothing")
    words = ("predict", clips, "--model", model, *HERE, "--tasks", "graininess", "-o", page)
    run(*words, "--pictures", "1", code=1)
    bright, _, dark = Page(page.read_text()).files
    assert "y" not in dark and [each[0] for each in bright["y"]["c"]] == [0, 0]
    thumbnail = decoded(bright["y"]["t"])
    assert thumbnail.size == (96, 64) and np.asarray(thumbnail).mean() > 180
    plain_crop, stretched = (np.asarray(decoded(text), int) for text in bright["y"]["c"][0][2:])
    assert plain_crop.shape == (64, 96, 3) and np.ptp(stretched) > np.ptp(plain_crop)
    run(*words, code=1)
    assert ["y" in file for file in Page(page.read_text()).files] == [True, False, True]
    run(*words, "--pictures", "0", code=1)
    assert not any("y" in file for file in Page(page.read_text()).files)
    said = " ".join(run("predict", clips, "--pictures", "3", "-f", "csv", code=2).stderr.split())
    assert "--pictures 3: csv has no pictures" in said


def test_a_finished_scan_has_pictures_when_asked(clips: Path, tmp_path: Path) -> None:
    model, page, log = write_toy_model(tmp_path / "model"), tmp_path / "page.html", tmp_path / "scan.jsonl"
    run("predict", clips, "--model", model, *HERE, "-o", log)
    (clips / "dark.avi").unlink()
    run("predict", log, "-o", page)
    assert not any("y" in file for file in Page(page.read_text()).files)
    run("predict", log, "-o", page, "--pictures", "9", *HERE)
    bright, dark = Page(page.read_text()).files
    assert "y" not in dark and bright["y"]["c"] == []  # a file that is gone; a scan without --maps


def test_the_picture_is_of_the_moment(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", codec="h264", gop=10, frames=30, width=64, height=48, speed=4.0)
    whole = read_clip(path)
    with Reader(path) as reader:
        for number in (0, 7, 13, 29):
            still = read_still(reader, number / 25)
            assert still.frames == 1 and np.array_equal(still.planes[0][0], whole.planes[0][number])
        assert np.array_equal(read_still(reader, 99.0).planes[0][0], whole.planes[0][29])


def test_a_picture_of_a_stream_without_times_and_of_one_without_pictures(make_clip: MakeClip) -> None:
    path = make_clip("a.h264", codec="h264", gop=10, frames=30, width=64, height=48, speed=4.0)
    whole = read_clip(path)
    with Reader(path) as reader:
        assert np.array_equal(read_still(reader, 0.28).planes[0][0], whole.planes[0][7])
    path = make_clip("b.avi", frames=2, width=64, height=48)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with Reader(path) as reader, pytest.raises(VideoError, match="no frame could be decoded"):
        read_still(reader, 0.0)


def test_what_a_worker_sends_must_be_pictures() -> None:
    good = {
        "thumbnail": "AAAA",
        "crops": [{"task": "t", "percent": 1, "x": 0, "y": 0, "size": 8, "pictures": ["AAAA"]}],
    }
    assert _checked(good)["crops"][0]["percent"] == 1.0
    for wrong in ({"thumbnail": '"><script>'}, {"thumbnail": 7}, {"crops": [{}]}, {"crops": None}):
        with pytest.raises((ValueError, TypeError, LookupError)):
            _checked(good | wrong)
