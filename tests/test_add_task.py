"""One more task for a model that knows others: it is learnt, and the others stay as they were, to the last bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import scene_block
from safetensors.torch import load_file
from test_model import tiny
from test_train import Record, no_export

from grainscan import Scanner
from grainscan.errors import UsageError
from grainscan.evaluate.evaluation import evaluate
from grainscan.model.spec import read_spec
from grainscan.model.store import save
from grainscan.options import EvalConfig, TrainConfig
from grainscan.train.fit import train
from grainscan.train.plan import describe
from grainscan.train.setup import prepare
from grainscan.video import Block, write_clip
from grainscan.views.crops import ViewSpec
from grainscan.views.statistics import COUNT

__all__ = ["no_export"]  # a fixture

VIEW = ViewSpec(frames=4, size=32, windows=2, crops=3)
OLD: dict[str, Any] = {
    "calibration": {"graininess": (1.7, -0.3), "banding": (0.9, 0.2), "black_screen": (1.1, 0.0)},
    "threshold": {"graininess": 0.41, "banding": 0.63},
    "aggregation": {"graininess": 0.5},
    "strength": {"graininess": "codes"},
    "measured": ("black_screen",),
    "provenance": {"experimental": ["banding"]},
}


def vignetted(label: int, seed: int) -> Block:
    """A scene whose corners are dark, with label 1."""
    block = scene_block(frames=6, width=96, height=80, grain=0, seed=seed)
    y, x = np.mgrid[-1:1:80j, -1:1:96j]
    light = 1 - label * np.random.default_rng(seed).uniform(0.5, 0.9) * (x**2 + y**2) / 2
    return Block(((block.planes[0] * light).astype(np.uint8), *block.planes[1:]), block.format)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vignettes")
    for number, (split, count) in enumerate((("train", 24), ("val", 12), ("test", 20))):
        (folder / split).mkdir()
        labels = {f"{split}{i}.avi": {"vignette": i % 2} for i in range(count)}
        for i, (name, known) in enumerate(labels.items()):
            write_clip(folder / split / name, vignetted(known["vignette"], seed=1000 * number + i))
        (folder / split / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / "two"
    model = tiny("graininess", "banding", statistics=COUNT)
    with torch.no_grad():  # smaller weights than the drawn ones, whose layers drown what they are given
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.ones(()) if name.endswith("norm.weight") else parameter / 2)
    model.spec = model.spec.with_(view=VIEW, **OLD)
    save(model, directory, half=True)  # as the embedded model is
    return directory


@pytest.fixture
def config(data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.chdir(tmp_path)
    return TrainConfig(
        data, str(base), add_task="vignette", name="run", runs=tmp_path / "runs", device="cpu", precision="fp32",
        batch_size=16, max_steps=40, eval_every=20, workers=0,
    )  # fmt: skip


@pytest.mark.slow
def test_a_task_is_added_and_the_others_stay_bit_identical(config: TrainConfig, base: Path, data: Path) -> None:
    run = train(config)
    before, after = read_spec(base), read_spec(run.model)
    assert after.tasks == ("graininess", "banding", "vignette") and after.measured == ("black_screen",)
    assert after.view == before.view
    for key in ("calibration", "threshold", "aggregation", "strength"):
        found = dict(getattr(after, key))
        found.pop("vignette", None)
        assert found == getattr(before, key), key
    assert "vignette" in after.calibration and "vignette" in after.threshold
    assert after.provenance["learnt"] == ["vignette"] and after.provenance["experimental"] == ["banding"]

    old, new = (load_file(folder / "model.safetensors") for folder in (base, run.model))
    assert all(name.startswith(("adapters.2.", "picture.adapters.2.")) for name in new.keys() - old.keys())
    assert all(torch.equal(value.float(), new[name]) for name, value in old.items())
    random = np.random.default_rng(0)
    sessions = [onnxruntime.InferenceSession(folder / "model.onnx") for folder in (base, run.model)]
    for count in (1, 3, 24):
        pixels = random.random((count, 4, 3, 32, 32), dtype=np.float32)
        inputs = {"views": pixels, "statistics": random.standard_normal((count, COUNT), dtype=np.float32)}
        for first, second in zip(*(session.run(["logits", "strength"], inputs) for session in sessions), strict=True):
            np.testing.assert_array_equal(second[:, :2], first)
    clip = str(data / "test" / "test0.avi")
    with Scanner(base) as first, Scanner(run.model) as second:
        ours = second.predict(clip)["tasks"]
        assert {task: ours[task] for task in first.predict(clip)["tasks"]} == first.predict(clip)["tasks"]

    report = evaluate(EvalConfig(data=data, model=str(run.directory), split="test", workers=0, bootstrap=0))
    area = report.tasks["vignette"].auroc
    assert area is not None and area > 0.9
    card = (run.model / "README.md").read_text()
    assert "Learnt here: `vignette`." in card and "to the last bit" in card and "`graininess`, `banding`" in card


@pytest.mark.slow
def test_the_plan_says_what_is_learnt_kept_and_measured(config: TrainConfig) -> None:
    setup = prepare(config)
    lines = list(describe(setup).lines())
    assert lines[0].startswith("run run: vignette on views of 4 frames")
    assert lines[1:3] == ["kept as they are, labels or not: graininess, banding", "measured, not learnt: black_screen"]
    trained = [name for name, value in setup.model.named_parameters() if value.requires_grad]
    assert trained and all(name.startswith(("adapters.2.", "picture.adapters.2.")) for name in trained)


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
def test_an_interrupted_addition_goes_on(config: TrainConfig) -> None:
    config = replace(config, max_steps=4, eval_every=2)
    straight = train(config)
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, name="broken"), progress=Record(stop=3))
    resumed = train(replace(config, name="broken", resume="auto"))
    assert resumed.history == straight.history
    first, second = (load_file(run.model / "model.safetensors") for run in (straight, resumed))
    assert first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.usefixtures("no_export")
def test_the_picture_is_learnt_beside_grain(config: TrainConfig, base: Path) -> None:
    """Tasks that the picture's statistics judge are learnt; those that are not labelled here are dropped."""
    run = train(replace(config, add_task=None, tune="picture", max_steps=2))
    assert read_spec(run.model).tasks == ("graininess", "vignette")
    old, new = (load_file(folder / "model.safetensors") for folder in (base, run.model))
    changed = {name for name, value in new.items() if name not in old or not torch.equal(value, old[name].float())}
    assert changed and all(name.startswith(("adapters.1.", "picture.adapters.1.")) for name in changed)
    assert read_spec(run.model).calibration["graininess"] == read_spec(base).calibration["graininess"]


@pytest.mark.usefixtures("no_export")
def test_data_labelled_for_some_tasks_makes_a_model_for_these(config: TrainConfig, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "partly"
    folder.mkdir()
    labels = {}
    for i in range(12):
        shutil.copy(data / "train" / f"train{i}.avi", folder / f"{i}.avi")
        known = {"banding": i % 2, "aliasing": (i // 2) % 2, "black_screen": 0} if i < 8 else {"spatial_blur": i % 2}
        labels[f"{i}.avi"] = known
    (folder / "labels.json").write_text(json.dumps(labels))
    record = Record()
    config = replace(config, data=folder, add_task=None, max_steps=2)
    run = train(config, progress=record)
    spec = read_spec(run.model)
    assert spec.tasks == ("banding", "spatial_blur", "aliasing") and spec.measured == ("black_screen",)
    assert spec.calibration == {"black_screen": (1.1, 0.0)}  # nothing was calibrated: there are no validation clips
    assert "measured, not learnt: black_screen" in record.said
    only = train(replace(config, name="only", tasks="banding"))
    assert read_spec(only.model).judged == ("banding",)
    with pytest.raises(UsageError, match="only kept or measured"):
        train(replace(config, name="none", tasks="black_screen"))
