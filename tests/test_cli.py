"""The command line: help, versions, errors and exit codes, forms of output."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import MakeClip
from typer.testing import CliRunner

from grainscan import __version__
from grainscan.cli.app import app
from grainscan.options import EvalConfig, PredictConfig, PrepConfig, SplitConfig, TrainConfig

COMMANDS = ["prep", "split", "train", "eval", "predict"]
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


def test_help_keeps_the_sections_and_names_the_defaults() -> None:
    text = plain(run("train", "--help").output)
    assert re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE) == [
        "Arguments",
        "Model",
        "Data and views",
        "Optimisation",
        "Loss",
        "Run",
        "Options",
    ]
    assert "--lora RANK LoRA on attention and MLP; 0: none. [default: 0]" in " ".join(text.split())
    assert "Usage: grainscan prep [OPTIONS] SRC... DST\n" in plain(run("prep", "--help").output)


def test_every_option_has_help() -> None:
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("cls", [PrepConfig, SplitConfig, TrainConfig, EvalConfig, PredictConfig])
def test_every_configuration_field_has_an_option(cls: type) -> None:
    import typer

    name = cls.__name__.removesuffix("Config").lower()
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options = {parameter.name for parameter in command.params} | (
        {"sources", "destination"} if name == "prep" else set()
    )
    assert {field.name for field in dataclasses.fields(cls)} <= options


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
        (["predict", "a.avi", "--model", "nowhere"], 1, "nowhere: no model there"),
        (["predict", "a.avi", "--fail-on", "banding"], 2, "the model has no such task"),
        (["predict", "a.avi", "--threshold", "2"], 2, "not between 0 and 1"),
        (["predict", "a.avi", "--short", "stretch"], 2, "option short is 'stretch'"),
        (["predict", "a.avi", "-o", "x.pdf"], 2, "the suffix names no format"),
        (["predict", "a.avi", "-o", "no/such/x.csv"], 1, "no such folder"),
        (["prep", "only"], 2, "prep needs footage"),
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
    assert "Traceback" in run("-vv", "predict", "a.avi", "--model", tmp_path / "nowhere", code=1).stderr


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
    assert set(noisy) == {"label", "probability", "threshold", "strength"}
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
    assert "<svg" in (tmp_path / "out.html").read_text(encoding="utf-8")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


def test_predict_goes_on_with_a_log(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "scan.jsonl"
    run("predict", folder / "plain.avi", "-o", log, "--workers", "0")
    before = log.read_text()
    result = run("predict", folder / "plain.avi", folder / "noisy.avi", "-o", log, "--workers", "0")
    assert "1 files are in the log already" in plain(result.stderr)
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
    assert "Traceback" in run("predict", "a.avi", "-v", "--verbose", "--model", tmp_path / "nowhere", code=1).stderr
    row = json.loads(run("predict", "-f", "jsonl", "--workers", "0", "--", "-v", code=1).stdout)
    assert row["path"] == "-v"
