"""README's section on teaching, run word for word: its commands in their order, on tiny clips, with tiny settings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClip
from test_cli import README, plain, run

from grainscan.data.dataset import read_clips
from grainscan.data.sources import leaks

CLIPS = 12  # of the user's own, every second one grainy
TINY = {
    "prep": "--clips 1 --frames 8 --size 64 --workers 1",
    "train": "--epochs 2 --batch-size 8 --views-per-clip 1 --workers 0 --device cpu",
    "eval": "--windows 1 --crops 4 --bootstrap 100 --workers 0",
    "predict": "--windows 1 --crops 4 --workers 0",
}


def tutorial() -> dict[str, list[str]]:
    """The arguments of each command of the section's first block, by what they are for."""
    section = README.read_text(encoding="utf-8").split("\n## Teach it your footage\n")[1].split("\n## ")[0]
    block = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[0]
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    assert all(line[0] == "grainscan" for line in lines)
    names = ("judge", "prep", "split", "train", "compare", "predict")
    assert [line[1] for line in lines] == ["eval", "prep", "split", "train", "eval", "predict"]
    return {name: line[1:] for name, line in zip(names, lines, strict=True)}


def follow(arguments: list[str]) -> str:
    """Run a command with tiny settings; everything that it prints."""
    result = run(*arguments, *shlex.split(TINY.get(arguments[0], "")))
    return plain(result.output)


def after(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_the_tutorial_of_the_readme(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = tutorial()
    footage, data = Path(steps["prep"][1]), Path(steps["prep"][2])
    labels = {f"reel{number}.mp4": number % 2 for number in range(CLIPS)}
    for name, label in labels.items():
        scene = {"width": 96, "height": 80, "frames": 10, "grain": 6.0 * label}
        make_clip(f"{footage}/{name}", codec="h264", quality=18, **scene)
    (footage / "labels.json").write_text(json.dumps(labels))
    make_clip(f"{steps['predict'][1]}/unseen.mp4", codec="h264", quality=18, width=96, height=80, frames=10, grain=6)

    assert Path(steps["judge"][1]) == footage
    said = follow(steps["judge"])
    assert "AUROC" in said
    assert f"{CLIPS} clips" in said

    follow(steps["prep"])
    cut = read(data / "labels.json")
    entries = read(data / "manifest.json")["clips"]
    twins = {name for name in entries if "_graininess" in name}
    assert {entries[name]["source"] for name in twins} == {name for name, label in labels.items() if not label}
    assert len(cut) == CLIPS + len(twins)
    for name in set(cut) - twins:
        assert cut[name] == {"graininess": labels[entries[name]["source"]]}

    follow(steps["split"])
    sides = {side: read(data / side / "labels.json") for side in ("train", "val", "test")}
    assert sum(map(len, sides.values())) == len(cut)
    assert all(sides.values())
    assert leaks({side: read_clips(data / side).side() for side in sides}) == ()

    follow(steps["train"])
    left = Path("runs") / after(steps["train"], "--name")
    assert {"model", "metrics.json", "history.csv", "curves.png", "README.md"} <= {path.name for path in left.iterdir()}
    model = {path.name for path in (left / "model").iterdir()}
    assert model == {"config.json", "model.safetensors", "model.onnx", "README.md"}
    assert read(left / "metrics.json")["validation"]["clips"] == len(sides["val"])

    assert Path(after(steps["compare"], "--model")) == left
    said = follow(steps["compare"])
    assert f"{len(sides['test'])} clips" in said
    assert "Comparison: AUROC on the same clips" in said
    assert "A: mine" in said
    assert "B: grainscan-s" in said
    assert "A − B" in said

    assert Path(after(steps["predict"], "--model")) == left
    follow(steps["predict"])
    page = Path(after(steps["predict"], "-o")).read_text(encoding="utf-8")
    assert "unseen.mp4" in page
