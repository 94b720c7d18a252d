"""What people and programs get, above all when file names are hostile."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from grainscan import report
from grainscan.errors import OutputError, UsageError
from grainscan.evaluate.bootstrap import Paired
from grainscan.evaluate.comparison import Comparison
from grainscan.evaluate.evaluation import EvalReport
from grainscan.evaluate.figures import Baseline, Mistake, Source, StrengthFigures, Strongest, TaskReport
from grainscan.evaluate.metrics import FIGURES
from grainscan.evaluate.thresholds import Calibration, ChosenPoint
from grainscan.grain import BANDS, WIDTH
from grainscan.report import findings, words
from grainscan.report import formats as rows
from grainscan.results import timecode

HOSTILE = (
    "plain.avi",
    "-=leading dash.avi",
    "=cmd|' /C calc'!A0.avi",
    "+1.avi",
    "@SUM(A1).avi",
    "\t=tab.avi",
    "  =spaces.avi",
    "\uff1dfull width.avi",
    "<script>alert(1)</script>.avi",
    '"><img src=x onerror=alert(1)>.avi',
    "{{ 7 * 7 }}{% raw %}.avi",
    "[bold red]markup[/].avi",
    "comma, \"quote\" and 'apostrophe'.avi",
    "two\nlines\r.avi",
    "escape \x1b[2J\x1b]0;title\x07.avi",
    "caf\udce9 \udcff.avi",
    "high surrogate \ud800.avi",
    "right to left \u202egpj.avi",
    "emoji \U0001f39e\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467.avi",
    "folder/Ünï çödé/映画.mkv",
)


def ok(path: str = "a.avi", probability: float = 0.97, *, label: int | None = None, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "schema": 1,
        "path": path,
        "status": "ok",
        "tasks": {
            "graininess": {
                "label": int(probability >= 0.5) if label is None else label,
                "probability": probability,
                "threshold": 0.5,
                "strength": 4.1,
            }
        },
        "windows": [
            {"start": 0.0, "end": 0.333, "graininess": 0.2},
            {"start": 83.25, "end": 83.583, "graininess": probability},
        ],
        "video": {
            "width": 1920, "height": 1080, "fps": 24.0, "duration": 120.0, "codec": "h264", "pix_fmt": "yuv420p",
        },
        "model": "grainscan-s",
        "views": 48,
        "seconds": 0.61,
    }  # fmt: skip
    return result | more


def failed(path: str = "b.avi") -> dict[str, Any]:
    error = {"type": "VideoError", "message": f"{path}: no frame could be decoded", "hint": "Is it a <video>?"}
    return {"schema": 1, "path": path, "status": "error", "error": error}


def several(path: str, **probabilities: float) -> dict[str, Any]:
    result = ok(path)
    result["tasks"] = {
        task: {"label": int(p >= 0.5), "probability": p, "threshold": 0.5} for task, p in probabilities.items()
    }
    result["windows"] = [{"start": 0.0, "end": 1.0, **probabilities}]
    return result


def written(results: list[dict[str, Any]], format: str, **options: Any) -> str:
    stream = io.StringIO()
    report.write(results, stream, format, **options)
    return stream.getvalue()


def shown(renderable: Any, width: int = 150) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(renderable)
    return stream.getvalue()


# -- words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain.avi", "plain.avi"),
        ("映画 é.mkv", "映画 é.mkv"),
        ("caf\udce9.avi", r"caf\xe9.avi"),
        ("\ud800.avi", r"\ud800.avi"),
        ("a\nb\x1b.avi", r"a\nb\x1b.avi"),
        ("\u202egpj", r"\u202egpj"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert words.printable(text) == expected


@pytest.mark.parametrize("text", HOSTILE)
def test_printable_text_has_nothing_that_acts(text: str) -> None:
    shown = words.printable(text)
    assert all(char.isprintable() or char == "\u200d" for char in shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0:00.0"),
        (83.25, "1:23.2"),
        (59.96, "1:00.0"),
        (3599.0, "59:59.0"),
        (3599.99, "1:00:00"),
        (3661.5, "1:01:01"),
    ],
)
def test_clock(seconds: float, expected: str) -> None:
    assert words.clock(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "fps", "expected"),
    [
        (0, 24.0, "00:00:00:00"),
        (83.25, 24.0, "00:01:23:06"),
        (1.0, 30000 / 1001, "00:00:01:00"),  # frame 30
        (3600.0, 24000 / 1001, "00:59:56:10"),  # frame 86314
        (7199.999, 25.0, "02:00:00:00"),
        (3600.0, 23.98, "00:59:57:00"),
        (1.0, 59.94, "00:00:01:00"),
        (2.0, 15.0, "00:00:02:00"),
        (60.0, 6.509, ""),  # an average
        (60.0, 29.5, ""),
        (60.0, 240.0, ""),
        (0.5, 0.5, ""),
        (1.0, None, ""),
        (1.0, 0.0, ""),
    ],
)
def test_timecode_counts_frames_without_drops(seconds: float, fps: float | None, expected: str) -> None:
    assert timecode(seconds, fps) == expected


def test_stretches_are_events_or_windows_over_the_threshold() -> None:
    starts = ((0.0, 0.2), (1.0, 0.6), (2.0, 0.9), (3.04, 0.7), (5.0, 0.5))
    result = ok(windows=[{"start": start, "end": start + 1, "graininess": p} for start, p in starts])
    assert findings.stretches(result, ["graininess", "banding"]) == [
        {"task": "graininess", "start": 1.0, "end": 4.04, "probability": 0.9},
        {"task": "graininess", "start": 5.0, "end": 6.0, "probability": 0.5},
    ]
    result["events"] = [{"task": "black_screen", "start": 1.0, "end": 2.0, "probability": 0.99}]
    assert findings.stretches(result, ["graininess"]) == []
    assert findings.stretches(result, ["black_screen"]) == []  # the file has no verdict for it
    result["tasks"]["black_screen"] = {"label": 1, "probability": 0.99, "threshold": 0.5}
    assert findings.stretches(result, ["black_screen"]) == result["events"]
    result["tasks"]["black_screen"]["label"] = 0  # too short for the verdict on the file
    assert findings.stretches(result, ["black_screen"]) == result["events"]
    result["tasks"]["black_screen"] |= {"min_strength": 2.0, "strength": 1.0}
    assert findings.stretches(result, ["black_screen"]) == []
    assert findings.stretches(failed(), ["graininess"]) == []


def test_verdicts() -> None:
    assert words.verdict("graininess", 1) == "grainy" and words.verdict("graininess", 0) == "clean"
    assert words.verdict("motion_blur", 1) == "motion blur" and words.verdict("motion_blur", 0) == "no motion blur"


# -- programs


@pytest.mark.parametrize("name", HOSTILE)
def test_json_keeps_every_name(name: str) -> None:
    results = [ok(name), failed(name)]
    text = written(results, "json")
    assert text.isascii() and json.loads(text) == {"schema": 1, "results": results}
    lines = written(results, "jsonl")
    assert lines.isascii() and lines.count("\n") == 2
    assert [json.loads(line) for line in lines.splitlines()] == results


def test_json_of_nothing() -> None:
    assert json.loads(written([], "json")) == {"schema": 1, "results": []}
    assert written([], "jsonl") == ""


def test_results_are_written_as_they_come() -> None:
    stream = io.StringIO()
    seen = []

    def coming() -> Any:
        for name in ("a.avi", "b.avi"):
            yield ok(name)
            seen.append(stream.getvalue().count('"path"'))

    for format in ("json", "jsonl"):
        report.write(coming(), stream, format)
    report.write(coming(), stream, "csv", tasks=["graininess"])
    assert seen[:4] == [1, 2, 3, 4]


def test_csv_by_column() -> None:
    table = list(csv.DictReader(io.StringIO(written([ok("x/a.avi"), failed()], "csv"))))
    assert table[0] == {
        "path": "x/a.avi", "status": "ok", "unreliable": "", "graininess_label": "1", "graininess_probability": "0.97",
        "graininess_threshold": "0.5", "graininess_strength": "4.1", "graininess_worst_start": "83.25",
        "graininess_worst_end": "83.583", "graininess_worst_timecode": "00:01:23:06", "events": "",
        "width": "1920", "height": "1080", "fps": "24.0", "duration": "120.0",
        "codec": "h264", "pix_fmt": "yuv420p", "model": "grainscan-s", "views": "48", "seconds": "0.61",
        "error_type": "", "error_message": "", "error_hint": "",
    }  # fmt: skip
    assert table[1]["status"] == "error" and table[1]["graininess_label"] == ""
    assert table[1]["error_message"] == "b.avi: no frame could be decoded"


def test_csv_describes_grain_where_that_was_asked_for() -> None:
    sizes = {"size": {"horizontal": 1.4, "vertical": 1.2}, "temporal": 0.98, "pattern": "temporal"}
    bands = [{"from": 64, "to": 96, "strength": 4.0}, {"from": 96, "to": 128, "strength": 4.6}]
    grain = {"strength": 4.2, "interval": [3.9, 4.5], "bands": bands, "chroma": {"cb": 1.5, "cr": 1.7},
             **sizes, "film_grain_level": 9, "segments": []}  # fmt: skip
    results = [ok("a.avi", grain=grain), ok("b.avi"), failed("c.avi")]
    first, *others = csv.DictReader(io.StringIO(written(results, "csv", tasks=["graininess"], grain=True)))
    cells = {name.removeprefix("grain_"): value for name, value in first.items() if name.startswith("grain_")}
    assert {name: value for name, value in cells.items() if value} == {
        "strength": "4.2", "strength_low": "3.9", "strength_high": "4.5", "strength_luma_64": "4.0",
        "strength_luma_96": "4.6", "strength_cb": "1.5", "strength_cr": "1.7", "size_horizontal": "1.4",
        "size_vertical": "1.2", "temporal": "0.98", "pattern": "temporal", "film_grain_level": "9",
    }  # fmt: skip
    assert [name for name in cells if "luma" in name] == [f"strength_luma_{band * WIDTH}" for band in range(BANDS)]
    assert all(not row[f"grain_{name}"] for row in others for name in cells)
    assert written(results, "csv") == written(results, "csv", tasks=["graininess"], grain=True)  # as in the results
    assert "grain_" not in written(results, "csv", tasks=["graininess"]).splitlines()[0]


def test_csv_names_events() -> None:
    events = [
        {"task": "black_screen", "start": 12.4, "end": 12.9, "probability": 0.994},
        {"task": "frame_drop", "start": 20.0, "end": 20.042, "probability": 0.9},
    ]
    result = ok(events=events)
    (row,) = csv.DictReader(io.StringIO(written([result], "csv", tasks=["graininess", "black_screen", "frame_drop"])))
    assert row["events"] == (
        "black_screen 12.4-12.9 0.99 00:00:12:10-00:00:12:22; frame_drop 20-20.042 0.90 00:00:20:00-00:00:20:01"
    )
    del result["video"]["fps"]
    (row,) = csv.DictReader(io.StringIO(written([result], "csv", tasks=["black_screen"])))
    assert row["events"] == "black_screen 12.4-12.9 0.99" and row["black_screen_worst_timecode"] == ""


def test_an_event_that_is_more_exact_than_a_window_is_the_worst_part() -> None:
    windows = [{"start": k, "end": k + 0.3, "graininess": 0.9, "black_screen": 0.9} for k in (2.0, 1.0)]
    for task, probability, start in (
        ("graininess", 0.9, 1.0),  # an event of several windows does not say when it was worst
        ("graininess", 1.0, 0.5),  # likelier than any window: reported by the decoder
        ("black_screen", 0.9, 0.5),  # measured frame by frame
    ):
        event = {"task": task, "start": 0.5, "end": 3.0, "probability": probability}
        result = {"windows": windows, "events": [{**event, "start": 0.7}, event]}
        part = findings.worst_part(result, task)
        assert part is not None and part["start"] == start
    assert findings.worst_part({"windows": windows}, "banding") is None


def test_csv_of_errors_alone_and_of_nothing_has_its_header() -> None:
    assert (
        written([failed()], "csv", tasks=["graininess"])
        .splitlines()[0]
        .startswith("path,status,unreliable,graininess_label")
    )
    assert written([], "csv").splitlines() == [",".join(rows.csv_row({}, []))]


def test_csv_has_one_row_a_file_and_no_formula() -> None:
    text = written([ok(name) for name in HOSTILE], "csv")
    text.encode("utf-8")
    table = list(csv.reader(io.StringIO(text)))
    assert len(table) == len(HOSTILE) + 1 and len(text.splitlines()) == len(table)
    for name, row in zip(HOSTILE, table[1:], strict=True):
        assert row[0].lstrip(" ")[0] not in "=+-@\t\r\n\uff1d"
        assert row[0].lstrip("'") == words.printable(name)
    assert table[1][0] == "plain.avi"
    assert table[3][0] == "'=cmd|' /C calc'!A0.avi"


def test_csv_guards_messages_too() -> None:
    result = failed("=1+1.avi")
    row = next(csv.DictReader(io.StringIO(written([result], "csv"))))
    assert row["error_message"].startswith("'=1+1")


@pytest.mark.parametrize(
    ("format", "output", "expected"),
    [
        (None, None, "table"),
        (None, "-", "table"),
        ("json", "-", "json"),
        ("csv", None, "csv"),
        (None, "a/b.JSONL", "jsonl"),
        (None, "page.htm", "html"),
        (None, "page.html", "html"),
        (None, "scan.txt", "table"),
        ("json", "scan.csv", "json"),
        ("table", "scan.csv", "table"),
    ],
)
def test_format_by_name_then_suffix(format: str | None, output: str | None, expected: str) -> None:
    assert report.format_for(format, None if output is None else Path(output)) == expected


def test_formats_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="xml") as caught:
        report.write([], io.StringIO(), "xml")
    assert "jsonl" in caught.value.hint
    for output in ("scan.xml", "scan", "/dev/null"):
        with pytest.raises(UsageError, match=output) as caught:
            report.format_for(None, Path(output))
        assert ".jsonl" in caught.value.hint and "--format" in caught.value.hint
    with pytest.raises(UsageError, match="csv"):
        report.format_for("csv", None, ("table", "json"))


def test_a_new_format_is_one_class_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Names(rows.Format):
        suffixes = (".names",)

        def write(self, results: Any, stream: Any, model: rows.ModelInfo) -> None:
            for result in results:
                stream.write(f"{result['path']} of {', '.join(model.tasks)}\n")

    monkeypatch.setitem(report.FORMATS, "names", Names())
    target = tmp_path / "scan.names"
    assert report.format_for(None, target) == report.format_for("names", None) == "names"
    assert written([ok(), failed()], "names", tasks=["graininess"]) == "a.avi of graininess\nb.avi of graininess\n"
    report.save([ok()], target, "names", tasks=["banding"])
    assert target.read_text() == "a.avi of banding\n"


def test_names_of_formats_cost_nothing() -> None:
    program = (
        "import sys; from grainscan.report.formats import FORMATS; assert 'csv' in FORMATS; "
        "heavy = {'rich', 'jinja2', 'numpy', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- files


def test_save_is_atomic(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    report.save([ok()], target, "json")

    def breaking() -> Any:
        yield ok("other.avi")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        report.save(breaking(), target, "json")
    assert json.loads(target.read_text())["results"][0]["path"] == "a.avi"
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("target", ["missing/r.json", "."])
def test_save_where_nothing_can_be_written(tmp_path: Path, target: str) -> None:
    with pytest.raises(OutputError) as caught:
        report.save([ok()], tmp_path / target, "json")
    assert caught.value.hint


@pytest.mark.parametrize("format", report.FORMATS)
def test_every_format_saves_every_name(tmp_path: Path, format: str) -> None:
    report.save([f(name) for name in HOSTILE for f in (ok, failed)], tmp_path / "r", format)
    assert (tmp_path / "r").read_text(encoding="utf-8")


# -- the terminal


def test_table_of_one_task() -> None:
    text = shown(report.results_table([ok("x/a.avi"), ok("c.avi", 0.03), failed()]))
    grainy, clean, error = (
        next(line for line in text.splitlines() if name in line) for name in ("x/a", "c.avi", "b.avi")
    )
    assert "grainy" in grainy and "0.97 ███████" in grainy and "4.1" in grainy and "00:01:23:06" in grainy
    assert "1920×1080 h264 24 fps" in grainy
    assert "clean" in clean and "0.03" in clean
    assert "error" in error and f"{error}\n" in text
    below = text.partition(error)[2].splitlines()[1]
    assert below.strip() == "no frame could be decoded"


def test_table_of_several_tasks_names_what_was_found() -> None:
    results = [several("a.avi", graininess=0.9, banding=0.95), several("b.avi", graininess=0.1, banding=0.2)]
    lines = shown(report.results_table(results)).splitlines()
    first = next(k for k, line in enumerate(lines) if "a.avi" in line)
    assert "banding 0.95 · grainy 0.90" in lines[first] and "00:00:00:00" in lines[first]
    assert "clean · banding 0.20" in lines[first + 1] and "00:00" not in lines[first + 1]
    assert "strength" not in "".join(lines) and "thresholds" not in "".join(lines)


def test_table_names_the_thresholds_that_make_one_wonder() -> None:
    results = [several("a.avi", graininess=0.58, banding=0.1), several("b.avi", aliasing=0.21, blockiness=0.2)]
    for task, block in (each for result in results for each in result["tasks"].items()):
        block["threshold"] = {"graininess": 0.605, "aliasing": 0.207}.get(task, 0.5)
        block["label"] = int(block["probability"] >= block["threshold"])
    text = shown(report.results_table(results))
    assert text.splitlines()[-1] == "thresholds: graininess 0.60, aliasing 0.21; --threshold sets others"
    results[0]["tasks"]["graininess"]["threshold"] = 0.605
    assert "thresholds: graininess 0.60; --" in shown(report.results_table(results, ["graininess"]))


REEL = "library/films/1958/reel_of_the_winding_road.avi"


@pytest.mark.parametrize(
    ("width", "folder", "video"), [(130, "", True), (110, REEL[:19], True), (80, REEL[:19], False)]
)
def test_names_lose_the_folder_that_they_share_rather_than_break(width: int, folder: str, video: bool) -> None:
    found = dict.fromkeys(("graininess", "banding"), 0.95)
    results = [several(path, **found) for path in (REEL, "library/films/1958/another.avi")]
    lines = shown(report.results_table(results), width).splitlines()
    assert " ".join(lines[1].split()).startswith(f"File in {folder} Found" if folder else "File Found")
    assert any(line.startswith(f" {REEL.removeprefix(folder)} ") for line in lines)
    assert ("1920×1080" in "".join(lines)) == video


def test_videos_make_room_for_names_without_a_shared_folder() -> None:
    results = [several(path, graininess=0.95, banding=0.1) for path in (REEL, "b.avi")]
    assert "1920×1080" in shown(report.results_table(results), 130)
    narrow = shown(report.results_table(results), 100)
    assert "1920×1080" not in narrow and f" {REEL} " in narrow


def test_table_of_ten_tasks_with_strength_events_and_an_experimental_task() -> None:
    tasks = (*TEN[:9], "transmission_error")
    found = several("a.avi", **dict.fromkeys(tasks, 0.02) | {"graininess": 0.97, "frame_drop": 0.88})
    found["tasks"]["graininess"]["strength"] = 4.13
    for task in ("motion_blur", "frame_drop"):
        found["tasks"][task]["experimental"] = True
    found["events"] = [
        {"task": "black_screen", "start": 12.4, "end": 12.9, "probability": 0.99},
        *({"task": "frame_drop", "start": 20.0 + k, "end": 20.04 + k, "probability": 0.9} for k in range(9)),
    ]
    lines = [" ".join(line.split()) for line in shown(report.results_table([found])).splitlines()]
    assert "File Found, probability (strength) Worst at Video" in lines
    assert any(line.startswith("a.avi grainy 0.97 (4.1) · frame drop* 0.88 00:00:00:00") for line in lines)
    assert "(black screen: 0:12.4–0:12.9)" in lines  # it does not decide the file
    assert any(line.endswith("events go by the moment, verdicts by the whole file") for line in lines)
    found["tasks"]["black_screen"]["label"] = 1
    decided = shown(report.results_table([found]))
    assert "  black screen: 0:12.4–0:12.9" in decided and "by the moment" not in decided
    found["tasks"]["black_screen"]["label"] = 0
    assert "frame drop: 0:20.0, 0:21.0, 0:22.0 and 6 more" in lines
    assert lines[-1] == "* experimental: the model is not yet good at this artifact"
    assert "motion" not in "".join(lines)
    only = shown(report.results_table([found], ["graininess", "banding"]))
    assert "frame drop" not in only and "experimental" not in only


def test_tables_that_do_not_go_to_a_terminal_are_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [several(REEL, graininess=0.95, banding=0.1)]
    monkeypatch.delenv("COLUMNS", raising=False)
    assert max(map(len, written(results, "table").splitlines())) > 100
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, written(results, "table").splitlines())) <= 60


def test_the_table_of_one_task_tells_when_it_lasts() -> None:
    events = [{"task": "graininess", "start": 4.0 + k, "end": 4.3 + k, "probability": 0.99} for k in range(5)]
    found = [" ".join(line.split()) for line in shown(report.results_table([ok(events=events)])).splitlines()]
    assert "grainy: 0:04.0–0:04.3," in found and "0:05.0–0:05.3, 0:06.0–0:06.3" in found and "and 2 more" in found
    assert not any("in brackets" in line for line in found)
    apart = shown(report.results_table([ok(probability=0.1, events=events[:1])], ["graininess"]))
    assert "(grainy: 0:04.0–0:04.3)" in apart and "verdicts by the whole file" in apart


@pytest.mark.parametrize(("high", "ends"), [(5.0, "SVT-AV1 --film-grain 41"), (9.0, "uncertain")])
def test_an_uncertain_grain_is_no_advice_for_encoders(high: float, ends: str) -> None:
    grain = {"strength": 4.1, "interval": [3.8, high], "size": {"horizontal": 1.6, "vertical": 1.5}, "chroma": {}}
    grain |= {"pattern": "temporal", "film_grain_level": 41}
    text = words.describe_grain(ok(grain=grain))
    assert text == f"grain 4.1 codes (3.8–{high:.1f}), 1.6×1.5 px, {ends}"


@pytest.mark.parametrize("width", [80, 150])
def test_table_says_in_which_unit_a_strength_is(width: int) -> None:
    def note(*results: dict[str, Any], **options: Any) -> str:
        lines = shown(report.results_table(results, **options), width).splitlines()
        assert max(map(len, lines)) <= width
        return " ".join(line.strip() for line in lines if line.strip().startswith("strength") or "codes" in line)

    assert note(ok()) == "strength in 8-bit luma codes (standard deviation)"
    assert note(ok(), units={"graininess": "dB\n"}) == "strength in dB\\n"
    both = several("a.avi", graininess=0.9, banding=0.8, dust=0.7, aliasing=0.1)
    assert note(both) == ""
    for task in both["tasks"]:
        both["tasks"][task]["strength"] = 2.0
    text = " ".join(shown(report.results_table([both]), width).split())
    assert "strength of graininess in 8-bit luma codes (standard deviation), of banding in 8-bit luma codes" in text
    assert "of dust in the units of the training data" in text and "of aliasing" not in text


@pytest.mark.parametrize(("strength", "size"), [(7.9, 1.6), (3.0, 2.8)])
def test_grain_that_no_level_of_an_encoder_keeps_is_called_so(strength: float, size: float) -> None:
    grain = {"strength": strength, "interval": [strength, strength], "film_grain_level": 50, "pattern": "temporal"}
    text = words.describe_grain(ok(grain=grain | {"size": {"horizontal": 1.0, "vertical": size}}))
    assert text.endswith("SVT-AV1 --film-grain 50 (too little; a --grain-table keeps it)")


def test_words_for_grain_that_a_stream_describes() -> None:
    metadata = {"kind": "av1", "strength": {"with": 5.49, "without": 3.48}, "film_grain": None}
    assert words.describe_grain(ok(grain={"metadata": metadata})) == (
        "the stream adds grain: 5.5 codes with it, 3.5 without"
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_table_shows_every_name_and_lets_none_act(name: str) -> None:
    text = shown(report.results_table([ok(name), failed(name)]))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    text.encode("utf-8")
    assert words.printable(name).strip()[:12] in text


def test_summary() -> None:
    results = [ok(), ok(probability=0.1), ok(probability=0.2), failed()]
    assert report.summary(results).plain == "4 files · 1 grainy · 2 clean · 1 error · model grainscan-s"
    assert report.summary([failed()]).plain == "1 file · 1 error"
    assert report.summary([]).plain == "0 files"


def task_report(**changes: Any) -> TaskReport:
    """Figures of one task, no two of them alike."""
    values: dict[str, Any] = {
        "accuracy": 0.911,
        "precision": 0.812,
        "recall": 0.713,
        "f1": 0.754,
        "auroc": 0.971,
        "average_precision": 0.925,
        "brier": 0.056,
        "ece": 0.037,
        "threshold": 0.42,
        "prevalence": 0.1,
        "confusion": [[80, 1], [2, 7]],
        "clips": 90,
        "ci95": {
            "accuracy": [0.81, 0.98], "precision": None, "recall": [0.51, 0.92], "f1": [0.61, 0.91],
            "auroc": [0.93, 0.99], "average_precision": [0.82, 0.96], "brier": [0.03, 0.08], "ece": [0.01, 0.07],
        },
        "baseline": Baseline(
            "temporal", 0.815, {"auroc": [0.70, 0.90]}, Strongest("temporal_laplacian", 0.836),
            {"temporal": 0.815, "temporal_laplacian": 0.836},
        ),
        "reliability": [],
        "mistakes": [Mistake("bad\udcff[red].avi", 0, 0.93)],
    }  # fmt: skip
    return TaskReport(**{**values, **changes})


UNDEFINED = task_report(
    **dict.fromkeys((*FIGURES, "prevalence")),
    threshold=0.5,
    confusion=[[0, 0], [0, 0]],
    clips=0,
    ci95={"auroc": None},
    baseline=None,
    mistakes=[],
)
FULL = task_report(
    strength=StrengthFigures(40, 0.934, 0.41),
    sources={f"scene{k}": Source(2, 1, 0.5, None, 0.2) for k in range(9)},
    operating_point=ChosenPoint("recall=0.9", "val", 30),
    calibration=Calibration("val", 1.3, 0.058, 0.022),
)
PAIR = Paired(90, [0.971, 0.904], 0.067, [0.01, 0.12], 0.023)
EVALUATION = EvalReport(
    schema=1,
    split="test",
    clips=90,
    model="grainscan-s",
    data=Path("data/test"),
    tasks={"graininess": FULL, "banding": UNDEFINED},
    errors=[
        {
            "name": "x.avi",
            "path": "data/test/x.avi",
            "type": "VideoError",
            "message": "data/test/x.avi: is empty",
            "hint": "",
        }
    ],
    compare=Comparison("other", {"graininess": PAIR}, []),
    plots=[Path("p/graininess_roc.png")],
    not_judged=["dark_scenes"],
)


def test_evaluation_says_it_all() -> None:
    text = shown(report.evaluation(EVALUATION))
    for part in (
        "grainscan-s on test · 90 clips · 1 error", "0.971", "0.93–0.99", "baseline: temporal", "0.815", "0.70–0.90",
        "best here: temporal_laplacian", "0.836", "ECE, expected calibration error", "Brier: mean squared error",
        "threshold 0.42 (recall=0.9 on val)", "90 clips, 9 grainy: 7 found, 2 missed, 1 false alarm;",
        "Spearman's rank correlation with the true one 0.934", "median error 0.41 codes (", "divided by 1.30",
        r"bad\xff[red].avi", "Worst of 9 sources", "scene4", "+0.067", "+0.010 to +0.120", "0.023", "x.avi", "is empty",
        "p/graininess_roc.png", "dark_scenes",
    ):  # fmt: skip
        assert part in text, part
    assert "scene5" not in text


def test_tables_for_an_encoding_without_block_characters() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.write([ok("映画.mkv")], stream, "table")
    stream.seek(0)
    assert "0.97 ?" in stream.read()


def test_an_evaluation_says_which_intervals_are_rough_or_missing() -> None:
    def note(**blocks: Any) -> str:
        text = " ".join(shown(report.evaluation(replace(EVALUATION, tasks=blocks, compare=None)), 80).split())
        return text[text.index("95") : text.index("AUROC: chance")]

    few, enough = task_report(), task_report(confusion=[[60, 10], [0, 20]])
    rough = "rough intervals, probably too narrow, from fewer than 20"
    assert f"{rough} clips of a class: dust (9 with it, 81 without)" in note(dust=few, banding=enough)
    assert "rough" not in note(banding=enough)
    sources = {f"scene{k}": Source(8, k % 2, 0.5, None, 0.2) for k in range(30)}
    assert f"{rough} sources of a class: dust (15 with it, 30 without)" in note(dust=replace(enough, sources=sources))
    one = replace(enough, sources={"scene": Source(90, 20, 0.5, None, 0.2)}, ci95=dict.fromkeys(FIGURES))
    assert "no intervals, which take two sources at least: dust" in note(dust=one, banding=enough)
    unwanted = replace(few, ci95=dict.fromkeys(FIGURES))  # --bootstrap 0
    assert "intervals" not in note(dust=unwanted)
    assert "rough" not in json.dumps(replace(EVALUATION, tasks={"dust": few}).to_dict(), default=str)


def test_counts_of_one() -> None:
    one = task_report(confusion=[[0, 0], [0, 1]], strength=StrengthFigures(1, None, 0.41))
    text = shown(report.evaluation(replace(EVALUATION, clips=1, tasks={"graininess": one})))
    assert "1 clip ·" in text and "1 clip, 1 grainy" in text and "0 false alarms" in text and "(1 clip)" in text


def test_eval_tables_have_a_row_a_task_and_mark_experimental_ones() -> None:
    plain = replace(task_report(confusion=[[60, 10], [0, 20]]), baseline=None, mistakes=[])
    tasks = {**dict.fromkeys((*TEN[:9], "transmission_error"), plain), "motion_blur": replace(plain, experimental=True)}
    for width, tables in ((80, 5), (100, 4), (140, 3)):  # counts, figures and intervals, halved where too wide
        text = shown(report.evaluation(replace(EVALUATION, tasks=tasks, compare=None)), width)
        assert text.count("motion_blur*") == tables and text.count(" banding ") == tables
    assert "* experimental" in text and "Classical" not in text and "mistakes" not in text
    values = replace(EVALUATION, tasks=tasks).to_dict()["tasks"]
    assert values["motion_blur"]["experimental"] is True and "experimental" not in values["banding"]


TEN = ("graininess", "blockiness", "banding", "spatial_blur", "motion_blur", "aliasing", "dark_scenes", "black_screen",
       "frame_drop", "transmission_error_of_a_long_name")  # fmt: skip
LONG = "/volumes/archive/restoration/" + "reel-" * 20 + "7.mxf"


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("tasks", [TEN[:1], TEN[:2], TEN], ids=["one", "two", "ten"])
def test_no_figure_of_an_evaluation_is_cut_off(tasks: tuple[str, ...], width: int) -> None:
    block = replace(FULL, mistakes=[Mistake(LONG, 0, 0.938)], sources={LONG: Source(1234, 1233, 0.515, 0.626, 0.247)})
    name = "a-model-trained-on-" + "everything-" * 9 + "v2"
    whole = replace(
        EVALUATION,
        model=name,
        tasks=dict.fromkeys(tasks, block),
        errors=[{"name": LONG, "path": LONG, "type": "VideoError", "message": f"{LONG}: is empty", "hint": ""}],
        compare=Comparison(f"{name}-again", dict.fromkeys(tasks, PAIR), []),
    )
    text = shown(report.evaluation(whole), width)
    assert "…" not in text and max(map(cell_len, text.splitlines())) <= width
    words = text.split()
    for figure in [*(getattr(block, key) for key in FIGURES), 0.815, 0.836]:
        assert words.count(f"{figure:.3f}") >= len(tasks), figure
    for interval in [*block.ci95.values(), [0.70, 0.90]]:
        assert interval is None or words.count(f"{interval[0]:.2f}–{interval[1]:.2f}") >= len(tasks), interval
    assert words.count("0.904") == words.count("+0.067") == words.count("0.023") == len(tasks)
    assert text.count("+0.010 to +0.120") == len(tasks)
    assert {"0.94", "1,234", "1,233", "0.515", "0.626", "0.247"} <= set(words)
    unfolded = re.sub(r"\s", "", text)
    assert name in unfolded and f"{name}-again" in unfolded and unfolded.count("archive/restoration") >= len(tasks)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_figure_of_a_result_is_cut_off(width: int) -> None:
    many = several(LONG, **dict.fromkeys(TEN, 0.876))
    for block in many["tasks"].values():
        block["strength"] = 12.3
    one = ok(LONG, video={"width": 15360, "height": 8640, "fps": 23.976, "duration": 9000.0, "codec": "rawvideo"})
    one["windows"][1]["start"] = 8999.0
    for results in ([one, failed(LONG)], [many, failed(LONG)]):
        text = shown(report.results_table(results), width)
        assert "…" not in text and max(map(cell_len, text.splitlines())) <= width
        assert min(len(line.split("  ")[0]) for line in text.splitlines() if "/volumes" in line) > 20  # room for names
        words = re.sub("[()]", "", text).split()
        judged = results[0]["tasks"].values()
        assert words.count(f"{next(iter(judged))['probability']:.2f}") == len(judged)
        assert words.count(f"{next(iter(judged))['strength']:.1f}") == len(judged)
        assert "no frame could be decoded" in re.sub(r"\s+", " ", text)
    assert "02:29:50:00" in shown(report.results_table([one]), width)
    assert ("15360×8640" in shown(report.results_table([one]), width)) == (width >= 100)


def test_unreliable_verdicts_are_marked() -> None:
    doubtful = ok("tiny.gif", unreliable=["too small", "palette"])
    text = shown(report.results_table([doubtful, ok()]), 80)
    assert text.count("unreliable") == 1 and "unreliable: too small, palette" in text and "0.97" in text
    assert "2 files · 2 grainy · 0 clean · 1 unreliable" in report.summary([doubtful, ok()]).plain
    rows = list(csv.DictReader(io.StringIO(written([doubtful, ok(), failed()], "csv"))))
    assert [row["unreliable"] for row in rows] == ["too small; palette", "", ""]
    page = Page(written([doubtful, ok()], "html"))
    assert [file.get("u") for file in page.files] == [None, "too small, palette"] and "Unreliable verdicts" in page.text
    assert "nreliable" not in Page(written([ok()], "html")).text
    assert json.loads(written([doubtful], "jsonl")) == doubtful


@pytest.mark.parametrize("format", [None, "table", "json"])
def test_write_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str | None) -> None:
    plain = json.loads(json.dumps(EVALUATION.to_dict()))
    for output in (None, Path("-")):
        report.write_evaluation(EVALUATION, format=format, output=output)
        text = capsys.readouterr().out
        assert json.loads(text) == plain if format == "json" else "baseline: temporal" in text
    for name in ("e.json", "e.txt"):
        report.write_evaluation(EVALUATION, format=format, output=tmp_path / name)
        text = (tmp_path / name).read_text(encoding="utf-8")
        as_json = format == "json" or (format is None and name == "e.json")
        assert json.loads(text) == plain if as_json else "baseline: temporal" in text and "\x1b" not in text
    with pytest.raises(UsageError, match=r"e\.csv") as caught:
        report.write_evaluation(EVALUATION, output=tmp_path / "e.csv")
    assert ".txt, .json" in caught.value.hint and not (tmp_path / "e.csv").exists()


# -- the page


class Page(HTMLParser):
    """Tags, attributes, text, script and data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str | None, str] = {}  # by type
        self._script: str | None = ""
        self.feed(text)
        self.data = json.loads(self.scripts.pop("application/json"))
        self.files: list[dict[str, Any]] = self.data["files"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("type") if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script == "":
            self.text += data
        else:
            self.scripts[self._script] = data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def paths(self) -> list[str]:
        return [self.data["folders"][file["d"]] + file["n"] if "d" in file else file["n"] for file in self.files]


def test_page_is_whole_and_needs_nothing_else() -> None:
    text = written([ok("x/a.avi"), ok("c.avi", 0.03), failed()], "html", settings={"windows per file": "4 <b>"})
    parsed = Page(text)
    assert parsed.paths() == ["b.avi", "c.avi", "x/a.avi"]
    assert parsed.files[0]["e"] == ["no frame could be decoded", "Is it a <video>?"]
    assert not parsed.all("link") and not parsed.all("img")
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text) and "https://" not in text
    assert not set(re.findall(r"http://[^\"]*", text)) - {"http://www.w3.org/2000/svg"}
    policy = next(m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[None].encode()).digest()).decode()
    assert policy and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    for shown in (
        "windows per file",
        "4 <b>",
        "windows in a file",
        "views of a file",
        "4 min 0 s",
        "looked at, 0.55 %",
    ):
        assert shown in parsed.text  # two windows of a third of a second in each of two files


def test_names_cannot_become_markup() -> None:
    plain = Page(written([ok("plain.avi") for _ in HOSTILE] + [failed("plain.avi") for _ in HOSTILE], "html"))
    text = written([ok(name) for name in HOSTILE] + [failed(name) for name in HOSTILE], "html")
    hostile = Page(text)
    assert hostile.tags == plain.tags and hostile.text == plain.text and hostile.scripts == plain.scripts
    assert sorted(hostile.paths()) == sorted(words.printable(name) for name in HOSTILE for _ in range(2))
    text.encode("utf-8")


def test_page_of_nothing_of_errors_and_of_several_tasks() -> None:
    assert "0 files" in written([], "html")
    assert "not judged" in written([failed()], "html")
    several_tasks = [several("a.avi", graininess=0.9, banding=0.95), several("b.avi", graininess=0.1, banding=0.2)]
    parsed = Page(written(several_tasks, "html"))
    assert {"id": "artifact", "aria-label": "Artifact"} in parsed.all("select") and "Strength" not in parsed.text
    assert "artifact" not in [attributes.get("id") for attributes in Page(written([ok()], "html")).all("select")]


def test_a_page_describes_grain() -> None:
    grain = {"strength": 4.1, "interval": [3.8, 4.5], "size": {"horizontal": 1.6, "vertical": 1.5}}
    grain |= {"pattern": "temporal", "film_grain_level": 41}
    described, other = Page(written([ok("a.avi", grain=grain), ok("b.avi")], "html")).files
    assert described["r"] == "4.1 codes (3.8–4.5), 1.6×1.5 px, SVT-AV1 --film-grain 41" and "r" not in other


def test_data_of_a_page_by_hand() -> None:
    result = several("x/reel 10.avi", graininess=0.912345, banding=0.2)
    result["tasks"]["graininess"] |= {"strength": 4.126, "experimental": True}
    result["tasks"]["banding"]["threshold"] = 0.1  # another scan's
    result["tasks"]["banding"]["label"] = 1
    result["windows"].append({"start": 0.5, "end": 2.0, "graininess": 0.506, "banding": 0.01})
    result["events"] = [{"task": "banding", "start": 0.25, "end": 0.5, "probability": 0.876}]
    result["map"] = [{"window": 0, "x": 8, "y": 16, "size": 32, "graininess": 0.25}]
    result["file"] = {"size": 1234, "mtime": 0.0}
    others = [several(f"x/reel {number}.avi", graininess=0.1, banding=0.2) for number in (9, 11)]
    parsed = Page(written([result, *others], "html"))
    assert parsed.paths() == ["x/reel 9.avi", "x/reel 10.avi", "x/reel 11.avi"]
    assert parsed.files[1] == {
        "d": 0, "n": "reel 10.avi", "v": 0, "p": [0.9123, 0.2], "l": [0, 1], "h": {"1": 0.1}, "s": {"0": 4.13},
        "t": 120.0, "b": 1234, "k": 48, "g": [2, 2.0], "c": 0.61, "w": [0.0, 1.0, 0.5, 2.0], "q": [[91, 51], [20, 1]],
        "o": [0.0, 0.25], "a": [[1, 0.25, 0.5, 0.88]], "m": {"b": [8, 16, 32], "q": [[25], [None]]},
    }  # fmt: skip
    assert parsed.data["videos"] == [[1920, 1080, 24.0, "h264", "yuv420p"]] and parsed.data["folders"] == ["x/"]
    unit = "8-bit luma codes (standard deviation)"
    assert parsed.data["tasks"][0] == {
        "name": "graininess", "title": "graininess", "found": "grainy", "absent": "clean", "threshold": 0.5,
        "experimental": True, "unit": unit, "short": "8-bit luma codes",
    }  # fmt: skip
    assert "unit" not in parsed.data["tasks"][1] and parsed.data["tasks"][1]["threshold"] == 0.5


def test_large_scans_stay_small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    long = ok(windows=[{"start": k / 3, "end": (k + 1) / 3, "graininess": k % 97 / 100} for k in range(1000)])
    (file,) = Page(written([long], "html")).files
    assert len(file["w"]) == 2 * len(file["q"][0]) <= 480
    assert file["g"] == [1000, 333.33] and max(file["q"][0]) == 96 and file["w"][-1] == 333.33
    view = {"window": 0, "x": 0, "y": 0, "size": 64}
    mapped = [ok(f"{p}.avi", p, map=[{**view, "graininess": p}] * 5) for p in (0.1, 0.9, 0.5)]
    monkeypatch.setattr("grainscan.report.page._MAP_VALUES", 40)  # of five views with four values each
    parsed = Page(written(mapped, "html"))
    assert [file["n"] for file in parsed.files if "m" in file] == ["0.5.avi", "0.9.avi"]
    assert "for the 2 worst files" in parsed.text


def test_predict_needs_no_heavy_library() -> None:
    program = (
        "import sys; from grainscan import report; "
        "heavy = {'rich', 'jinja2', 'matplotlib', 'sklearn', 'torch', 'transformers', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
