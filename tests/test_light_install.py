"""An install for judging only: what requirements/judge.txt lists is all that `predict` needs on a CPU."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from conftest import MakeClip

from grainscan.errors import missing_package

ROOT = Path(__file__).parents[1]
IMPORT_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn", "tomli-w": "tomli_w"}

# The libraries that are not in the list cannot be found, as if they were not installed.
LIGHT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv = ["grainscan", *{arguments!r}]
import runpy
runpy.run_module("grainscan", run_name="__main__")
"""


def requirements(lines: list[str]) -> dict[str, str]:
    """Package to bounds."""
    plain = (line.partition("#")[0].strip() for line in lines)
    found = [re.fullmatch(r"([A-Za-z0-9-]+)(.*)", line) for line in plain if line]
    return {match[1]: match[2] for match in found if match}


def listed() -> dict[str, str]:
    return requirements((ROOT / "requirements" / "judge.txt").read_text(encoding="utf-8").splitlines())


def declared() -> dict[str, str]:
    return requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"])


def run_light(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    hidden = {IMPORT_NAMES.get(name, name) for name in set(declared()) - set(listed())}
    code = LIGHT.format(hidden=hidden, arguments=[str(argument) for argument in arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")


def test_the_list_is_a_part_of_the_dependencies_with_the_same_bounds() -> None:
    assert listed().items() <= declared().items()
    assert {"torch", "transformers", "scikit-learn", "matplotlib"} <= set(declared()) - set(listed())


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "html"])
def test_predict_works_in_full(make_clip: MakeClip, tmp_path: Path, form: str) -> None:
    clip = make_clip("a.avi", width=128, height=128, frames=16, grain=6)
    where = () if form == "table" else ("-o", tmp_path / f"result.{form}")
    done = run_light("predict", clip, "--maps", "--format", form, *where)
    assert done.returncode == 0, done.stderr
    if form == "table":
        assert "1 file " in done.stdout
    else:
        assert "a.avi" in (tmp_path / f"result.{form}").read_text(encoding="utf-8")


def test_train_says_what_to_install(make_clip: MakeClip, tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi"):
        make_clip(f"data/{name}", width=64, height=64)
    (tmp_path / "data" / "labels.json").write_text('{"a.avi": 1, "b.avi": 0}')
    done = run_light("train", tmp_path / "data")
    assert done.returncode == 1
    assert "error: this command needs" in done.stderr
    assert re.search(r"^hint: Run `pip install torch\b[^`]*`\.$", done.stderr, re.MULTILINE)
    assert "grainscan`" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what", "packages"),
    [
        ("eval data", "eval", ["scikit-learn", "scipy"]),
        ("eval data --plots plots", "eval", ["scikit-learn", "scipy", "matplotlib"]),
        ("prep data new --synthesize graininess", "prep --synthesize", ["scipy"]),
    ],
)
def test_what_is_missing_is_said_before_any_work(
    make_clip: MakeClip, tmp_path: Path, arguments: str, what: str, packages: list[str]
) -> None:
    make_clip("data/a.avi", width=64, height=64)
    (tmp_path / "data" / "labels.json").write_text('{"a.avi": 1}')
    places = {name: tmp_path / name for name in ("data", "plots", "new")}
    done = run_light(*(places.get(word, word) for word in arguments.split()))
    assert done.returncode == 1 and done.stdout == ""
    missing = f"error: {what} needs what is not installed: {', '.join(packages)}"
    assert done.stderr.splitlines() == [missing, f"hint: Run `pip install {' '.join(packages)}`."]
    assert [path.name for path in tmp_path.iterdir() if path != places["plots"]] == ["data"]


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install for judging only lacks more than the package that was looked for first."""

    def version(name: str) -> str:
        if name in ("torch", "transformers", "peft"):
            raise PackageNotFoundError(name)
        return "1"

    required = ["torch>=2.8", "numpy>=1.26", "transformers>=5.9", "peft>=0.14; extra == 'lora'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: required)
    monkeypatch.setattr("importlib.metadata.version", version)
    error = missing_package(ModuleNotFoundError("No module named 'torch'", name="torch.nn"))
    assert error is not None and error.hint == "Run `pip install torch transformers`."
    for name in ("grainscan.nothing", None):
        assert missing_package(ModuleNotFoundError(name=name)) is None
