"""The command line: help, versions, errors and exit codes, forms of output."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClip, Seen
from rich.console import Console
from scan_kit import write_toy_model
from typer.testing import CliRunner

from grainscan import __version__, console
from grainscan.cli import display
from grainscan.cli.app import app
from grainscan.console import Progress
from grainscan.data.labels import Prevalence
from grainscan.data.prep import PrepReport
from grainscan.data.split import SplitPart, SplitReport
from grainscan.errors import ConfigError, OutputError
from grainscan.model.last_run import remember_run
from grainscan.options import (
    PANELS,
    EvalConfig,
    Options,
    PredictConfig,
    PrepConfig,
    SplitConfig,
    TrainConfig,
    command_of,
    resolve,
)
from grainscan.predict import predict
from grainscan.report.formats import Json
from grainscan.scan.scanner import Scanner
from grainscan.tasks import STANDARD, task_of

COMMANDS = ["prep", "split", "train", "eval", "predict"]
CLASSES = [PrepConfig, SplitConfig, TrainConfig, EvalConfig, PredictConfig]
README = Path(__file__).parent.parent / "README.md"
CHANGELOG = README.with_name("CHANGELOG.md")


def run(*arguments: object, code: int = 0, stdin: str | None = None):  # type: ignore[no-untyped-def]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == code, f"{result.output}\n{result.stderr}\n{result.exception!r}"
    return result


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(command: str) -> None:
    text = plain(run(command, "--help").output)
    assert f"grainscan {command}" in text
    assert "Example" in text
    assert f"grainscan {command} " in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_common_options_first_and_sections_in_one_order(command: str) -> None:
    text = plain(run(command, "--help").output)
    sections = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert sections[:2] == ["Arguments", "Options"]
    assert sections[2:] == [panel for panel in PANELS if panel in sections]
    common = text.partition("\nOptions:\n")[2].partition("\n\n")[0]
    assert "--config FILE" in common
    assert common.splitlines()[-1].startswith("  -h, --help")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_the_terminal_and_divides_no_default(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = plain(run(command, "--help").output).splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line.count("[default:") != len(re.findall(r"\[default: [^]]+\]", line))]


def test_help_names_arguments_defaults_and_choices() -> None:
    train = " ".join(plain(run("train", "--help").output).split())
    assert "--lora RANK Rank of low-rank updates (LoRA) of attention and MLP; 0: none. [default: 0]" in train
    assert "--loss focal|bce Classification loss. [default: focal]" in train
    assert "--cache / --no-cache" in train
    assert "Usage: grainscan prep [OPTIONS] SRC... DST\n" in plain(run("prep", "--help").output)
    assert "Usage: grainscan eval [OPTIONS] [DATA]\n" in plain(run("eval", "--help").output)


def test_a_new_format_is_offered_without_an_option_being_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grainscan.report.formats.FORMATS", {"json": Json(), "xml": Json()})
    assert "--format json|xml" in plain(run("predict", "--help").output)
    assert resolve(PredictConfig, {"inputs": ("a.avi",), "format": "xml"}, environ={}).format == "xml"
    with pytest.raises(ConfigError, match="--format is 'csv'"):
        resolve(PredictConfig, {"inputs": ("a.avi",), "format": "csv"}, environ={})


def test_help_is_coloured_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(**options: bool) -> str:
        return CliRunner().invoke(app, ["predict", "--help"], **options).output  # type: ignore[arg-type]

    assert "\x1b[36m" in shown(color=True)
    assert "\x1b" not in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(color=True)


def test_words_are_explained_where_they_are_first_used() -> None:
    pages = {name: " ".join(plain(run(name, "--help").output).split()) for name in COMMANDS}
    for words in (
        "windows (runs of consecutive frames)",
        "small squares, the crops",
        "Each crop of a window is a view",
    ):
        assert words in pages["predict"]
    assert "an adapter, a small block of weights" in pages["train"]
    assert "ECE (expected calibration error) is the mean distance" in pages["eval"]
    assert "the Brier score the mean squared error" in pages["eval"]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_an_option_with_help_and_every_option_a_field(cls: type[Options]) -> None:
    import typer

    command = typer.main.get_command(app).commands[command_of(cls)]  # type: ignore[attr-defined]
    assert {parameter.name for parameter in command.params} == {field.name for field in dataclasses.fields(cls)} | {
        "config"
    }
    for parameter in command.params:
        assert getattr(parameter, "help", "").endswith((".", "]")), parameter.name


def test_version_names_the_libraries_without_importing_them() -> None:
    lines = run("--version").output.splitlines()
    assert lines[0] == f"grainscan {__version__}"
    assert f"onnxruntime {version('onnxruntime')}" in lines
    assert f"torch {version('torch')}" in lines


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{__version__}]" in CHANGELOG.read_text(encoding="utf-8")


def test_the_module_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grainscan", "predict", str(tmp_path / "none.avi"), "-f", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["results"][0]["status"] == "error"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "a.avi", "--model", "nowhere"], 2, "nowhere: no model there"),
        (["predict", "a.avi", "--model", "last"], 2, "--model last: nothing was trained in this folder"),
        (["predict"], 2, "predict needs INPUT..."),
        (["predict", "*.mov"], 2, "no file matches *.mov"),
        (["predict", "-"], 2, "stdin names no files"),
        (["predict", "."], 2, "no videos in ."),
        (["predict", "a.avi", "--fail-on", "vignette"], 2, "the model has no task 'vignette'"),
        (["predict", "a.avi", "--threshold", "2"], 2, "not between 0 and 1"),
        (["predict", "a.avi", "--short", "stretch"], 2, "--short is 'stretch'"),
        (["predict", "a.avi", "-o", "x.pdf"], 2, "the suffix does not say which format to write"),
        (["predict", "a.avi", "-o", "no/such/x.csv"], 2, "no such folder"),
        (["eval", ".", "-o", "no/such/x.json"], 2, "no such folder"),
        (["eval", ".", "--model", "nowhere"], 2, "labels.json"),
        (["prep", "only"], 2, "prep needs SRC..."),
        (["train"], 2, "train needs DATA"),
        (["split", "nowhere"], 2, "labels.json"),
        (["split", ".", "--ratios", "1/2"], 2, "ratios"),
        (["train", "nowhere"], 2, "labels.json"),
        (["train", ".", "--epochs", "-1"], 2, "epochs"),
        (["eval", "--split", "test"], 2, "data"),
    ],
)
def test_errors_say_what_and_what_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, code=code)
    assert "error:" in result.stderr
    assert said in " ".join(plain(result.stderr).split())
    assert "hint:" in result.stderr
    assert "Traceback" not in result.output + result.stderr


def test_a_traceback_shows_with_vv_alone(tmp_path: Path) -> None:
    assert "Traceback" in run("-vv", "predict", "a.avi", "--model", tmp_path / "nowhere", code=2).stderr


@pytest.fixture
def folder(make_clip: MakeClip, tmp_path: Path) -> Path:
    make_clip("clips/plain.avi", width=160, height=128, frames=12)
    make_clip("clips/noisy.avi", width=160, height=128, frames=12, grain=14)
    (tmp_path / "clips" / "broken.avi").write_bytes(b"nothing")
    return tmp_path / "clips"


def test_predict_as_json(folder: Path) -> None:
    report = json.loads(run("predict", folder, "-f", "json", "--workers", "0", code=1).stdout)
    assert report["schema"] == 1
    rows = {Path(row["path"]).name: row for row in report["results"]}
    assert list(rows) == ["broken.avi", "noisy.avi", "plain.avi"]
    assert set(rows["broken.avi"]) == {"schema", "path", "status", "error"}
    assert set(rows["broken.avi"]["error"]) == {"type", "message", "hint"}
    noisy, plain_one = (rows[name]["tasks"]["graininess"] for name in ("noisy.avi", "plain.avi"))
    assert set(noisy) == {"label", "probability", "threshold", "strength", "prevalence"}
    assert (noisy["label"], plain_one["label"]) == (1, 0)
    assert noisy["strength"] > plain_one["strength"]
    assert rows["noisy.avi"]["video"]["width"] == 160


def test_predict_as_jsonl_and_csv(folder: Path) -> None:
    lines = run("predict", folder, "-f", "jsonl", "--workers", "0", code=1).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["error", "ok", "ok"]
    rows = list(csv.DictReader(io.StringIO(run("predict", folder, "-f", "csv", "--workers", "0", code=1).stdout)))
    assert [row["status"] for row in rows] == ["error", "ok", "ok"]


def test_predict_as_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = plain(run("predict", ".", "--workers", "0", code=1).output)
    assert "noisy.avi" in text
    assert "3 files" in text


def test_predict_into_files(folder: Path, tmp_path: Path) -> None:
    for suffix in ("json", "csv", "html", "jsonl"):
        run("predict", folder, "-o", tmp_path / f"out.{suffix}", "--workers", "0", code=1)
        assert (tmp_path / f"out.{suffix}").stat().st_size > 100
    assert "out.csv (replaced)" in run("predict", folder, "-o", tmp_path / "out.csv", "--workers", "0", code=1).stderr
    assert "<svg" in (tmp_path / "out.html").read_text(encoding="utf-8")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


def test_predict_goes_on_with_a_log(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "scan.jsonl"
    run("predict", folder / "plain.avi", "-o", log, "--workers", "0")
    before = log.read_text()
    result = run("predict", folder / "plain.avi", folder / "noisy.avi", "-o", log, "--workers", "0")
    assert f"1 file already judged, 1 to go: {log}" in plain(result.stderr)
    assert log.read_text().endswith(before)
    assert len(log.read_text().splitlines()) == 2


def test_fail_on(folder: Path) -> None:
    run("predict", folder / "noisy.avi", "--fail-on", "graininess", "--workers", "0", code=3)
    run("predict", folder / "plain.avi", "--fail-on", "graininess", "--workers", "0", code=0)


def test_threshold_decides(folder: Path) -> None:
    row = json.loads(run("predict", folder / "noisy.avi", "-f", "jsonl", "-t", "1", "--workers", "0").stdout)
    assert row["tasks"]["graininess"]["threshold"] == 1
    assert row["tasks"]["graininess"]["label"] == 0


def test_paths_on_stdin(folder: Path) -> None:
    names = "\n".join(str(folder / name) for name in ("plain.avi", "noisy.avi"))
    lines = run("predict", "-", "-f", "jsonl", "--workers", "0", stdin=names).stdout.splitlines()
    assert len(lines) == 2


def test_options_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAINSCAN_PREDICT_FORMAT", "jsonl")
    assert json.loads(run("predict", folder / "plain.avi", "--workers", "0").stdout)["status"] == "ok"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_quiet_says_nothing_beside_the_data(folder: Path, place: int) -> None:
    words: list[object] = ["predict", folder / "plain.avi", "-f", "jsonl", "--workers", "0"]
    assert run(*words[:place], "-q", *words[place:]).stderr == ""


def test_verbosity_may_follow_the_command_but_not_the_two_dashes(tmp_path: Path) -> None:
    assert "Traceback" in run("predict", "a.avi", "-v", "--verbose", "--model", tmp_path / "nowhere", code=2).stderr
    row = json.loads(run("predict", "-f", "jsonl", "--workers", "0", "--", "-v", code=1).stdout)
    assert row["path"] == "-v"


# ------------------------------------------------------------------------------------- what is kept of results


def interrupt_after(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when so many files have been judged."""
    judge, judged = Scanner._judge_here, iter(range(files))

    def patched(self: Scanner, path: str) -> object:
        if next(judged, None) is None:
            raise KeyboardInterrupt
        return judge(self, path)

    monkeypatch.setattr(Scanner, "_judge_here", patched)


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "settings")} for row in rows]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "html"])
def test_an_interrupted_scan_keeps_what_it_judged_and_goes_on_from_there(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    (folder / "broken.avi").unlink()
    output, words = tmp_path / f"out.{suffix}", ("predict", folder, "--workers", "0", "-o")
    log = output if suffix == "jsonl" else tmp_path / f"out.{suffix}.partial.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        said = run(*words, output, code=130).stderr
    assert f"interrupted: 1 result kept in {log}; the same command continues from there" in said
    assert [Path(row["path"]).name for row in rows_of(log)] == ["noisy.avi"]
    assert log == output or not output.exists()

    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)  # one file more is all that is left to do
        assert f"1 file already judged, 1 to go: {log}" in run(*words, output).stderr
    run(*words, tmp_path / f"whole.{suffix}")
    assert log == output or not log.exists()
    if suffix == "jsonl":
        assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")
    if suffix == "json":
        reports = [json.loads(path.read_text())["results"] for path in (output, tmp_path / "whole.json")]
        one, other = ([{**row, "seconds": 0} for row in rows] for rows in reports)
        assert one == other
    if suffix != "jsonl":
        assert "settings" not in output.read_text()


def test_interrupted_before_the_first_file_nothing_is_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(0, monkeypatch)
    out = tmp_path / "out"
    out.mkdir()
    said = run("predict", folder, "--workers", "0", "-o", out / "page.html", code=130).stderr
    assert "interrupted: nothing was judged yet" in said
    assert list(out.iterdir()) == []


def test_an_interrupted_table_shows_what_was_judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(2, monkeypatch)
    result = run("predict", folder, "--workers", "0", "--tasks", "graininess", code=130)
    assert "noisy.avi" in plain(result.stdout)
    assert "plain.avi" not in plain(result.stdout)
    assert "interrupted: 2 of 3 files judged; with -o scan.jsonl, the same command" in result.stderr


def test_an_interrupted_document_on_stdout_is_said_to_be_incomplete(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(2, monkeypatch)
    said = run("predict", folder, "-f", "json", "--workers", "0", code=130).stderr
    assert "interrupted: 2 of 3 files judged, and the output is incomplete" in said


def test_a_page_that_cannot_be_written_costs_no_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("page.html: No space left on device", hint="Make room.")

    page = tmp_path / "page.html"
    monkeypatch.setattr("grainscan.predict.save", full)
    said = run("predict", folder / "plain.avi", "--workers", "0", "-o", page, code=1).stderr
    assert f"Make room. Meanwhile, 1 result kept in {page}.partial.jsonl; the same command continues" in said
    assert len(rows_of(tmp_path / "page.html.partial.jsonl")) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "html"])
def test_results_of_another_model_are_replaced_only_when_asked(folder: Path, tmp_path: Path, suffix: str) -> None:
    model, output = write_toy_model(tmp_path / "model"), tmp_path / f"out.{suffix}"
    log = output if suffix == "jsonl" else tmp_path / f"out.{suffix}.partial.jsonl"
    words = ("predict", folder, "--workers", "0", "-o", output)
    (folder / "broken.avi").unlink()
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(1, patch)
        run(*words, code=130)
    before = log.read_bytes()
    said = " ".join(run(*words, "--model", model, code=2).stderr.split())
    assert "grainscan-s" in said
    assert "toy" in said
    assert "--overwrite" in said
    assert log.read_bytes() == before
    said = run(*words, "--model", model, "--overwrite").stderr
    assert "model toy" in said
    if suffix == "jsonl":
        assert {row["model"] for row in rows_of(output)} == {"toy"}


@pytest.mark.parametrize(("suffix", "begins"), [("csv", "path,status"), ("jsonl", '{"schema"'), ("html", "<!doctype")])
def test_a_dash_is_stdout(folder: Path, suffix: str, begins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = ("predict", "plain.avi", "--workers", "0", "-o", "-")
    assert run(*words, "-f", suffix).stdout.lower().startswith(begins)
    assert "plain.avi" in plain(run(*words).stdout)
    assert not (folder / "-").exists()


def test_eval_goes_by_the_suffix_and_knows_the_dash(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.avi").unlink()
    (folder / "labels.json").write_text('{"plain.avi": 0, "noisy.avi": 1}')
    words = ("eval", folder, "--workers", "0", "--bootstrap", "0", "-o")
    for ends in ("", " (replaced)"):
        assert run(*words, tmp_path / "x.json").stderr.endswith(f"results: {tmp_path / 'x.json'}{ends}\n")
    report = json.loads((tmp_path / "x.json").read_text())
    assert (report["schema"], report["clips"]) == (1, 2)
    assert json.loads(run(*words, "-", "-f", "json").stdout) == report
    assert "AUROC" in plain(run(*words, "-").stdout)


def test_an_error_decides_the_exit_code_beside_a_find(folder: Path) -> None:
    """The answer is incomplete, whatever was found."""
    run("predict", folder, "--fail-on", "graininess", "--workers", "0", code=1)


def test_the_trained_model_is_used_when_it_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy_model(tmp_path / "runs" / "mine" / "model")
    remember_run(tmp_path / "runs" / "mine", folder)
    clip, words = folder / "plain.avi", ("predict", folder / "plain.avi", "-f", "jsonl", "--workers", "0")
    models = [json.loads(run(*words, *more).stdout)["model"] for more in ((), ("-m", "last"), ("-m", "runs/mine"))]
    assert models == ["grainscan-s", "toy", "toy"]
    for model, name in ((None, "grainscan-s"), ("last", "toy"), ("runs/mine", "toy")):
        with Scanner(model, workers=0) as scanner:
            assert scanner.predict(clip)["model"] == name


def test_eval_takes_the_last_run_and_says_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "broken.avi").unlink()
    (folder / "labels.json").write_text('{"plain.avi": 0, "noisy.avi": 1}')
    write_toy_model(tmp_path / "runs" / "mine" / "model")
    remember_run(tmp_path / "runs" / "mine", folder)
    words = ("eval", "-f", "json", "--workers", "0", "--bootstrap", "0")
    result = run(*words)
    assert json.loads(result.stdout)["model"] == "toy"
    assert f"model: {tmp_path / 'runs' / 'mine' / 'model'}, the last run here" in result.stderr
    assert json.loads(run(*words, "--model", "small").stdout)["model"] == "grainscan-s"


def test_what_is_left_out_of_the_work_ends_in_exit_code_1(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip("footage/a.avi")
    make_clip("footage/b.avi", seed=1)
    (tmp_path / "footage" / "broken.avi").write_bytes(b"no video")
    (tmp_path / "footage" / "labels.json").write_text('{"a.avi": 0, "b.avi": 1, "broken.avi": 1}')
    assert "broken.avi" in run("prep", "footage", "data", "--clips", 1, "--size", 64, "--workers", 0, code=1).stderr
    words = ("--model", write_toy_model(tmp_path / "model"), "--workers", 0, "--bootstrap", 0, "--format", "json")
    report = json.loads(run("eval", "footage", *words, code=1).stdout)
    assert report["clips"] == 2 and "broken.avi" in json.dumps(report["errors"])


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (
            "predict --fial-on graininess a.avi",
            "no such option: --fial-on",
            "Did you mean --fail-on? Run `grainscan predict --help` for the options.",
        ),
        ("-q train --xyz", "no such option: --xyz", "Run `grainscan train --help` for the options."),
        ("train a b", "got unexpected extra argument(s) (b)", "Run `grainscan train --help` for the options."),
        ("eval --seed", "option '--seed' requires an argument", "Run `grainscan eval --help` for the options."),
        (
            "--verbos predict",
            "no such option: --verbos",
            "Did you mean --verbose? Run `grainscan --help` for the options.",
        ),
        ("-q", "missing command", "Run `grainscan --help` for the options."),
        ("predit a.avi", "no such command: predit", "Did you mean predict? Run `grainscan --help` for the commands."),
        ("predict a.avi --windows four", "--windows is 'four'", "Use a whole number."),
        ("predict a.avi --every x", "--every is 'x'", "Use a number."),
        ("predict a.avi --every 1 --windows 2.5", "--windows is '2.5'", "Use a whole number."),
    ],
)
def test_usage_errors_look_like_all_others(arguments: str, error: str, hint: str) -> None:
    result = run(*arguments.split(), code=2)
    assert result.stdout == ""
    assert plain(result.stderr).splitlines() == [f"error: {error}", f"hint: {hint}"]


def test_without_a_command_there_is_the_help() -> None:
    assert "Usage: grainscan [OPTIONS] COMMAND" in plain(run(code=2).output)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("prep empty data", 2, "no video found"),
        ("prep broken data", 1, "no clip can be cut from this footage (bad.avi"),
        ("prep footage data --small skip --size 512", 2, "no clip can be cut from this footage"),
        ("prep footage data --balance graininess", 2, "no balanced subset"),
        ("prep footage data --labels other.csv", 2, "none of its names matches"),
        ("prep footage data --balance banding --synthesize graininess", 2, "cannot be balanced by banding"),
        ("prep footage other.csv", 2, "is a file"),
        ("prep footage footage", 2, "is not empty"),
        ("split footage", 2, "1 source cannot fill 3 splits"),
        ("split footage --undo", 2, "no record of a split"),
        ("split unknown", 2, "no clip has a known label"),
        ("train unknown", 2, "no clip has a known label"),
        ("eval other --model model", 2, "no labels for the tasks of toy"),
        ("eval broken --model model", 1, ""),
        ("predict footage -o log.jsonl", 2, "line 1 is not a result of grainscan"),
        ("predict footage -f csv -o missing/a.csv", 2, "no such folder"),
        ("predict broken -f json --model model", 1, ""),
    ],
)
def test_mistakes_in_the_request_end_in_2_and_faults_of_files_in_1(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("PREP", "EVAL", "PREDICT"):
        monkeypatch.setenv(f"GRAINSCAN_{command}_WORKERS", "0")
    write_toy_model(tmp_path / "model")
    for folder, labels in (("footage", {"graininess": 0}), ("unknown", {"graininess": None}), ("other", {"dust": 1})):
        make_clip(f"{folder}/a.avi")
        Path(folder, "labels.json").write_text(json.dumps({"a.avi": labels}))
    for folder in ("empty", "broken"):
        Path(folder).mkdir()
    Path("broken", "bad.avi").write_bytes(b"no video")
    Path("broken", "labels.json").write_text('{"bad.avi": 1}')
    Path("other.csv").write_text("file,graininess\nz.avi,1\n")
    Path("log.jsonl").write_text("[]\n")
    result = run(*arguments.split(), code=code)
    assert said in " ".join(plain(result.stderr).split())
    assert not Path("data", "labels.json").exists()


def test_the_plan_of_a_training_goes_to_stdout(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.avi", "b.avi"):
        make_clip(f"data/{name}", seed=ord(name[0]))
    (tmp_path / "data" / "labels.json").write_text('{"a.avi": 0, "b.avi": 1}')
    text = run("train", "data", "--dry-run", "--max-steps", 1, "--device", "cpu", "--workers", 0).stdout
    assert "max_steps = 1" in text and "train: 2 clips from 2 sources" in text and "1 step of 16 views" in text
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------------------ progress and tables


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.StringIO]:
    """`screen(80)`: stdout and stderr are a terminal of 80 columns; what is drawn on it."""

    def make(width: int) -> io.StringIO:
        stream = io.StringIO()
        drawn = Console(file=stream, width=width, force_terminal=True, highlight=False, color_system=None)
        monkeypatch.setattr(console, "out", lambda: drawn)
        monkeypatch.setattr(console, "err", lambda: drawn)
        return stream

    return make


def test_lines_appear_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, screen: Callable[[int], io.StringIO]) -> None:
    stream, now = screen(80), [100.0]
    monkeypatch.setattr("grainscan.cli.display.time.monotonic", lambda: now[0])
    lines = display.Lines()
    lines.stage("training", 4000)
    lines.advance(1000)  # resumed
    for second in range(1, 26):
        now[0] = 100.0 + second
        lines.advance(1000 + second * 100, "1 error")
    assert stream.getvalue().splitlines() == [
        "training: 2,000 of 4,000, 100.0/s, 20 s left, 1 error",
        "training: 3,000 of 4,000, 100.0/s, 10 s left, 1 error",
    ]
    lines.stage("training", 3)
    lines.advance(1)
    now[0] += 80
    lines.advance(2)
    assert stream.getvalue().splitlines()[-1] == "training: 2 of 3, 1 min 20 s each, 1 min 20 s left"


def test_one_process_of_a_training_shows_progress(
    monkeypatch: pytest.MonkeyPatch, screen: Callable[[int], io.StringIO]
) -> None:
    for rank, kind in (("1", Progress), ("0", display.Lines)):
        monkeypatch.setenv("RANK", rank)
        with display.progress(bar=False) as shown:
            assert type(shown) is kind


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_bar_shows_count_rate_time_left_and_the_best_highlights(
    width: int, screen: Callable[[int], io.StringIO]
) -> None:
    stream = screen(width)
    with display.progress() as progress:
        progress.stage("scanning", 12345)
        for number in range(7):
            progress.highlight(number / 10, f"0.{number}0  grainy  clip[{number}].avi")
        progress.advance(1234, "12 errors")
        progress._drawn.refresh()  # type: ignore[attr-defined]
    frames = plain(stream.getvalue())
    for shown in ("scanning", "1234/12345", "12 errors", "0.60  grainy  clip[6].avi", "clip[2].avi"):
        assert shown in frames
    assert "clip[1].avi" not in frames
    assert max(map(len, re.sub(r"\x1b\[\??[\d;]*[A-Za-z]|\r", "\n", frames).splitlines())) <= width


@pytest.mark.parametrize("note", ["loss 0.132 · lr 5.0e-05", "a note that is much longer than the line has room for"])
def test_count_and_time_left_of_a_slow_training_are_whole(note: str, screen: Callable[[int], io.StringIO]) -> None:
    stream, now = screen(80), [0.0]
    console.err().get_time = lambda: now[0]  # type: ignore[method-assign]
    with display.progress() as progress:
        progress.stage("training", 2000)
        for done in range(1100, 1106):
            now[0] += 80
            progress.advance(done, note)
        progress._drawn.refresh()  # type: ignore[attr-defined]
    frames = re.sub(r"\x1b\[\??[\d;]*[A-Za-z]|\r", "\n", plain(stream.getvalue())).splitlines()
    line = next(line for line in frames if "1105/2000" in line)
    assert "1 min 20 s each" in line and re.search(r"\d+:\d\d:\d\d", line) and len(line) <= 80
    assert note in line or "…" in line[-20:]


def test_figures_of_a_training_fit_into_80_columns(screen: Callable[[int], io.StringIO]) -> None:
    from grainscan.train.run import FIGURES, Run

    views = {"loss": 0.1} | {f"{key}_{task}": 0.98765 for key in ("auroc", "strength_error") for task in TEN_TASKS}
    whole = {key: dict.fromkeys(TEN_TASKS, 0.98765) for key in ("auroc", "f1", "threshold")}
    fitted = {"clips": dict.fromkeys(TEN_TASKS, 12345), **whole}
    metrics = {"validation": views, "before": views, "after": views, "best_step": 1, "calibration": fitted}
    stream = screen(80)
    display.print_run(Run("mine", Path("runs/mine"), Path("runs/mine/model"), metrics, [], 1.0))
    text = plain(stream.getvalue())
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert {word for name in FIGURES for word in name.lower().split()} <= set(text.lower().split())
    assert "strength error: mean error of log2(1 + strength); 1 is about a factor of 2\n" in text
    assert text.count(" 12,345 ") == len(TEN_TASKS)
    for task in TEN_TASKS:  # each in one line
        assert any(line.strip().startswith(task_of(task).title) for line in text.splitlines())


def test_only_what_was_found_is_highlighted(folder: Path) -> None:
    seen = Seen()
    report = predict(
        PredictConfig(inputs=(str(folder),), tasks="graininess", workers=0), stdout=io.StringIO(), progress=seen
    )
    assert seen.stages == [("scanning", 3)]
    assert [text.split("  ")[1:] for text in seen.highlights] == [["grainy", str(folder / "noisy.avi")]]
    assert seen.steps == [("scanning", done, "1 error") for done in (1, 2, 3)]
    values = report.to_dict()
    assert (values["tally"]["files"], values["tally"]["errors"]) == (3, 1)
    assert values["tally"]["tasks"] == {"graininess": 1}
    assert values["model"] == "grainscan-s"
    assert json.loads(json.dumps(values)) == values


TEN_TASKS = tuple(task.name for task in STANDARD)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_of_ten_tasks_are_never_cut_off(width: int, screen: Callable[[int], io.StringIO]) -> None:
    from grainscan.train.plan import Plan, SplitSummary
    from grainscan.train.roles import Roles

    known = {task: Prevalence(1000 + n, 20000 + n, 300 + n) for n, task in enumerate(TEN_TASKS)}
    parts = tuple(SplitPart(name, 21345, 1234, known) for name in ("train", "val", "test"))
    split = SplitReport(Path("a folder"), "split", TEN_TASKS, parts, {})
    prep = PrepReport(Path("a folder"), "written", 1, {"a.avi": {}}, known, next_steps=("first", "second"))
    plan = Plan(
        name="first",
        config="[train]\ndata = 'x'",
        roles=Roles(TEN_TASKS),
        view=(8, 64),
        parameters=2,
        trainable=1,
        splits={"train": SplitSummary(21345, 1234, known, dict.fromkeys(TEN_TASKS, 20500))},
        leaks=(),
        left_out=(),
        device="cpu",
        precision="fp32",
        steps=10,
        views_per_step=16,
        validation_interval=None,
        flops_per_view=2_000_000_000,
        memory=1_250_000_000,
    )
    for show, figures in (
        (lambda: display.print_split(split), ("21,345", "1,234", "1,009", "20,009", "309", "train 'a folder'")),
        (
            lambda: display.print_prep(prep),
            ("1,009", "20,009", "309", "1 clip of 1 video", "next: first", "or: second"),
        ),
        (
            lambda: display.print_plan(plan),
            ("[train]\ndata = 'x'\n", "21,345", "1,234", "1,009", "20,009", "309", "20,500", "Strengths"),
        ),
    ):
        stream = screen(width)
        show()
        text = plain(stream.getvalue())
        assert "…" not in text
        assert all(figure in text for figure in figures)
        rows = [line for line in text.splitlines() if re.search(r"─$|[^,:] +[\d,]+$", line.rstrip())]
        assert {word for line in rows for word in line.split()} >= set(TEN_TASKS)
        assert max(map(len, rows)) <= width


def test_an_interrupted_command_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grainscan.data.prep.prepare", stop)
    monkeypatch.setattr("grainscan.data.split.split", stop)
    assert "interrupted: nothing was written" in run("prep", "a", "b", code=130).stderr
    (tmp_path / "b" / ".prep").mkdir(parents=True)
    (tmp_path / "b" / ".prep" / "plan.json").touch()
    assert "kept in b; the same command continues from there" in run("prep", "a", "b", code=130).stderr
    assert "interrupted: nothing was moved" in run("split", "b", code=130).stderr
    (tmp_path / "b" / ".split").mkdir()
    (tmp_path / "b" / ".split" / "journal.json").touch()
    assert "the same command completes the split; --undo reverts it" in run("split", "b", code=130).stderr

    checkpoint = tmp_path / "runs" / "first" / "checkpoints" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").touch()
    config = TrainConfig(data=tmp_path, runs=Path("runs"))
    assert "--resume runs/first/checkpoints/checkpoint-8" in display.kept_by_train(config, 0)
    assert display.kept_by_train(config, time.time() + 60) == "no checkpoint was written yet"
