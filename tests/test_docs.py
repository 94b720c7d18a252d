"""README and the pages under examples/ are run: every fenced block, in order, each page as one session.

A session is an empty folder with a copy of examples/, as in a checkout, where `grainscan` and `python` are those under
test, and the settings of `TINY` are in the environment. By the language of a block:

    bash      is run by bash and has to succeed
    python    is executed; the blocks of a page share their names
    json      has to parse
    toml      has to hold options that exist, with values that they take
    text      is output, for people

A comment in front of a block says what a reader sees from the text around it:

    <!-- test: setup             the commands in the comment prepare what the page takes for granted
    mkdir library -->
    <!-- test: exit 3 -->        the exit code of the block
    <!-- test: file NAME -->     the block is the content of this file
    <!-- test: output -->        the block's lines stand in the output of the block before it; … is any text
    <!-- test: needs jq -->      the block is run where this program, or Python package, is installed
    <!-- test: with NAME -->     what this function below makes is there
    <!-- test: see PAGE -->      the lines stand in a block of this page, which is run
    <!-- test: skip WHY -->      the block cannot be run in a test
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from conftest import scene_block
from test_model import write_checkpoint

from grainscan.data.dataset import read_clips
from grainscan.data.sources import leaks
from grainscan.evaluate.evaluation import EvalReport
from grainscan.evaluate.figures import TaskReport
from grainscan.model.spec import ModelSpec, read_spec
from grainscan.options import EvalConfig, PredictConfig, PrepConfig, SplitConfig, TrainConfig, command_of, resolve
from grainscan.results import Result
from grainscan.video import write_clip
from grainscan.views.crops import ViewSpec

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *(EXAMPLES / f"{name}.md" for name in ("tutorial", "cookbook", "reference", "glossary"))]
TUTORIAL = EXAMPLES / "tutorial.md"
CLASSES = {command_of(cls): cls for cls in (PrepConfig, SplitConfig, TrainConfig, EvalConfig, PredictConfig)}
TINY = {
    "PREP_CLIPS": "1",
    "PREP_SIZE": "64",
    "TRAIN_MAX_STEPS": "1",
    "TRAIN_WORKERS": "0",
    "EVAL_WINDOWS": "1",
    "EVAL_CROPS": "2",
    "EVAL_BOOTSTRAP": "50",
    "PREDICT_CROPS": "2",
}
WORKERS = {f"{command}_WORKERS": "0" for command in ("PREP", "EVAL", "PREDICT")}
MOST_SKIPPED = 6  # blocks, of all pages


@dataclass(frozen=True)
class Block:
    """A fenced block and the directives in front of it, by their first word."""

    page: str
    line: int
    language: str
    text: str
    directives: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page; a setup is a block of bash itself."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(r"^<!-- test: (\w+)(.*?)-->$|^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    directives: dict[str, str] = {}
    end = 0
    for match in pattern.finditer(text):
        if directives and text[end : match.start()].strip():
            raise AssertionError(f"{page.name}: a comment stands before no block: {directives}")
        end = match.end()
        line = text.count("\n", 0, match.start()) + 1
        if match[1] == "setup":
            yield Block(page.name, line, "bash", match[2])
        elif match[1]:
            directives[match[1]] = match[2].strip()
        else:
            yield Block(page.name, line, match[4], match[5], directives)
            directives = {}
    assert not directives


@functools.cache
def commands_of(page: Path) -> list[str]:
    """The lines of the blocks of bash that are run."""
    run = [
        block for block in blocks(page) if block.language == "bash" and not {"skip", "see"} & block.directives.keys()
    ]
    return [line for block in run for line in block.text.splitlines()]


class Session:
    """A page that is being followed in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names, self.said = folder, {"__name__": "page"}, ""
        shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        programs = folder / ".bin"
        programs.mkdir()
        for name, module in (("grainscan", " -m grainscan"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ,
            **{f"GRAINSCAN_{name}": value for name, value in (TINY | WORKERS).items()},
            "GRAINSCAN_CACHE_DIR": str(folder / ".cache"),
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "COLUMNS": "120",
            "RAY_worker_niceness": "0",  # with Ray's usual one, its workers get nothing from a busy machine
        }

    def follow(self, block: Block) -> None:
        """Do what the block is for. Raises AssertionError."""
        directives = block.directives
        if "with" in directives:
            MAKERS[directives["with"]](self.folder)
        if "skip" in directives:
            assert len(directives["skip"].split()) > 3, f"{block}: say why"
        elif "needs" in directives and not _installed(directives["needs"]):
            pass
        elif "see" in directives:
            assert set(block.text.splitlines()) <= set(commands_of(EXAMPLES / directives["see"])), block
        elif "file" in directives:
            path = self.folder / directives["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            self._bash(block, code=int(directives.get("exit", 0)))
        elif block.language == "python":
            self._python(block)
        elif block.language == "text" and "output" in directives:
            self._compare(block)
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            _check_options(block)
        else:
            assert block.language in ("bash", "python", "text"), f"{block}: of which language?"

    def _bash(self, block: Block, *, code: int) -> None:
        command = ["bash", "-euo", "pipefail", "-c", block.text]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == code, f"{block}\n{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        self.said = done.stdout + done.stderr

    def _python(self, block: Block) -> None:
        said = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(said):
            exec(compile(block.text, str(block), "exec"), self.names)
        self.said = said.getvalue()

    def _compare(self, block: Block) -> None:
        said = " ".join(self.said.split())
        for line in block.text.splitlines():
            parts = (re.escape(" ".join(part.split())) for part in line.split("…"))
            assert re.search(".*?".join(parts), said), f"{block}: {line!r} is not in\n{self.said}"


def published_layout(folder: Path) -> None:
    """The data of the published recipe, few and small, and a checkpoint of its architecture where its name leads to.

    transformers looks for a folder of that name before it asks the hub.
    """
    data = folder / "data" / "graininess_100_balanced_subset_split"
    for number, (side, count) in enumerate({"train": 4, "val": 2, "test": 2}.items()):
        (data / side).mkdir(parents=True)
        labels = {f"clip{10 * number + n}.avi": n % 2 for n in range(count)}
        for name, label in labels.items():
            block = scene_block(frames=34, width=240, height=232, grain=6.0 * label, seed=int(name[4:-4]))
            write_clip(data / side / name, block)
        (data / side / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    (folder / "google").mkdir()
    least = {"num_hidden_layers": 1, "num_attention_heads": 1}  # of 3,137 tokens each
    write_checkpoint(folder / "google" / "vivit-b-16x2-kinetics400", old=True, **least)


MAKERS = {"published_layout": published_layout}


def _installed(name: str) -> bool:
    return shutil.which(name) is not None or importlib.util.find_spec(name) is not None


def _check_options(block: Block) -> None:
    for command, values in tomllib.loads(block.text).items():
        required = {"sources": ("a",), "destination": "b", "data": "c", "inputs": ("d",)}
        names = CLASSES[command].__dataclass_fields__
        resolve(CLASSES[command], {**{key: required[key] for key in required if key in names}, **values}, environ={})


# ---------------------------------------------------------------------------------------------------------- the pages


posix = pytest.mark.skipif(os.name == "nt", reason="the pages are written for a POSIX shell")


def follow(page: Path, folder: Path) -> None:
    session = Session(folder)
    try:
        for block in blocks(page):
            session.follow(block)
    finally:
        plt.close("all")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL], ids=lambda page: page.stem.lower())
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    follow(page, tmp_path)


@posix
@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    follow(TUTORIAL, tmp_path)
    footage, data = read(tmp_path / "footage" / "labels.json"), tmp_path / "data"

    sides = {side: read(data / side / "labels.json") for side in ("train", "val", "test")}
    assert all(sides.values())
    assert leaks({side: read_clips(data / side).side() for side in sides}) == ()
    labels = {name: clip for side in sides.values() for name, clip in side.items()}
    entries = {name: entry for side in sides for name, entry in read(data / side / "manifest.json")["clips"].items()}
    twins = {name for name in entries if "_graininess" in name}
    assert {entries[name]["source"] for name in twins} == {name for name, label in footage.items() if not label}
    for name in set(labels) - twins:
        assert labels[name] == {"graininess": footage[entries[name]["source"]]}

    for run in (tmp_path / "runs" / "mine", tmp_path / "runs" / "vivit-b"):
        assert {"model", "metrics.json", "history.csv", "curves.png", "README.md"} <= {
            path.name for path in run.iterdir()
        }
        files = {path.name for path in (run / "model").iterdir()}
        assert files == {"config.json", "model.safetensors", "model.onnx", "README.md"}
    recipe = read_spec(tmp_path / "runs" / "vivit-b" / "model")
    assert (recipe.view.frames, recipe.view.size, recipe.tasks) == (32, 224, ("graininess",))
    assert "new6.mp4" in (tmp_path / "report.html").read_text(encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_few_blocks_are_skipped() -> None:
    skipped = [block for page in PAGES for block in blocks(page) if "skip" in block.directives]
    assert len(skipped) <= MOST_SKIPPED


def test_every_option_that_a_page_mentions_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        mentioned = re.findall(r"`(grainscan (\w+)\b[^`\n]*)`", text)
        for command, name in mentioned:
            if name in CLASSES:
                known = {"--" + key.replace("_", "-") for key in CLASSES[name].__dataclass_fields__} | {
                    "--config",
                    "--help",
                }
                assert set(re.findall(r"(?<=\s)--[\w-]+", command)) <= known, f"{page.name}: {command}"


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, EXAMPLES / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match("https?:", target):
                continue
            name, _, heading = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), f"{page.name}: {target}"
            if heading:
                assert heading in _anchors(path), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_name_each_other() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f"(examples/{page.name})" in readme
        others = page.read_text(encoding="utf-8")
        assert all(f"({other.name}" in others for other in PAGES[1:] if other != page), page.name


def test_readme_is_two_screens_long() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 130


# ------------------------------------------------------------------------------------------------------- the reference


def test_the_reference_is_up_to_date() -> None:
    reference = runpy.run_path(str(EXAMPLES / "pages" / "reference.py"))
    page = (EXAMPLES / "reference.md").read_text(encoding="utf-8")
    assert reference["renewed"](page) == page, "run: python examples/pages/reference.py"


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("A result", list(Result.__annotations__)),
        ("The report of eval", [*EvalReport.__dataclass_fields__, *TaskReport.__dataclass_fields__]),
        ("A model directory", [*ModelSpec.__dataclass_fields__, *ViewSpec.__dataclass_fields__]),
    ],
)
def test_the_reference_describes_every_key(section: str, names: list[str]) -> None:
    page = (EXAMPLES / "reference.md").read_text(encoding="utf-8")
    described = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert [name for name in names if f"`{name}`" not in described] == []
