"""Training that a researcher would trust: the equalities, the losses, and what a run leaves behind."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scene_block
from safetensors.torch import load_file
from test_model import tiny, write_checkpoint
from torch.utils.data import DataLoader

from grainscan.console import Progress
from grainscan.data import cache as cache_module
from grainscan.data.dataset import ClipSet, read_clips
from grainscan.data.labels import Prevalence
from grainscan.errors import ConfigError, DataError, ModelError, UsageError
from grainscan.evaluate.calibrate import Calibrated
from grainscan.model import last_run as last_run_module
from grainscan.model import store as store_module
from grainscan.model.build import build
from grainscan.model.last_run import last_run, remember_run
from grainscan.model.spec import find_model, read_spec
from grainscan.model.store import load, save
from grainscan.options import TrainConfig, resolve
from grainscan.train import curves as curves_module
from grainscan.train import estimate
from grainscan.train import fit as train_module
from grainscan.train import machine as machine_module
from grainscan.train import trainer as trainer_module
from grainscan.train.curves import draw_curves
from grainscan.train.estimate import Pace, count_flops
from grainscan.train.finetune import LORA_TARGETS, tune
from grainscan.train.fit import train
from grainscan.train.losses import Objective, alpha_from_counts, focal
from grainscan.train.machine import find_machine, processor_flags
from grainscan.train.plan import plan
from grainscan.train.run import Run, verdict
from grainscan.train.schedule import Schedule
from grainscan.train.setup import prepare, task_weights
from grainscan.train.trainer import Validation, _in_short, _in_words
from grainscan.video import write_clip
from grainscan.workers import processors

ROOT = Path(__file__).parents[1]


class Record(Progress):
    """Keeps what it is told, and stops the training before step `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.stages: list[tuple[str, int | None]] = []
        self.done: list[int] = []  # of each stage
        self.times: list[float] = []
        self.notes: list[str] = []
        self.said: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append((name, total))
        self.done.append(0)

    def advance(self, done: int, note: str = "") -> None:
        if self.stages[-1][0] == "training" and done > self.done[-1]:
            self.times.append(time.perf_counter())
            if done == self.stop:
                raise KeyboardInterrupt
        self.done[-1] = done
        self.notes.append(note)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 clips to train on and 6 to validate with; some labels are unknown, some strengths recorded."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 8), ("val", 6), ("test", 2)):
        (folder / split).mkdir()
        labels, clips = {}, {}
        for i in range(count):
            name, grain = f"{split}{i}.avi", 8.0 * (i % 2)
            seed = i + 100 * len(split)
            write_clip(folder / split / name, scene_block(frames=6, width=40, height=40, grain=grain, seed=seed))
            labels[name] = {"graininess": i % 2, "banding": (None, 0, 1)[i % 3]}
            clips[name] = {"source": f"{split}-{i // 2}", "strength": {"graininess": grain}}
        (folder / split / "labels.json").write_text(json.dumps(labels))
        (folder / split / "manifest.json").write_text(json.dumps({"schema": 1, "clips": clips}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model directory to start from."""
    directory = tmp_path_factory.mktemp("base") / "tiny"
    save(tiny("graininess", "banding"), directory, onnx=False)
    return directory


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and what needs it take longer than these trainings; one test has them on."""
    monkeypatch.setattr(store_module, "export_onnx", lambda model, path: 0.0)
    monkeypatch.setattr(train_module, "calibrate", lambda directory, *_, **__: Calibrated(read_spec(directory), {}))


@pytest.fixture
def options(data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {
        "data": data,
        "model": str(base),
        "runs": tmp_path / "runs",
        "name": "run",
        "device": "cpu",
        "precision": "fp32",
        "batch_size": 8,
        "max_steps": 3,
        "lr": 1e-3,
        "workers": 0,
    }


def read_history(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


# ------------------------------------------------------------------------------------------------ equalities

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from grainscan.evaluate.calibrate import Calibrated
from grainscan.model import store
from grainscan.model.spec import read_spec
from grainscan.options import resolve, TrainConfig
from grainscan.train import fit
store.export_onnx = lambda model, path: 0.0
fit.calibrate = lambda directory, *_, **__: Calibrated(read_spec(directory), {})
fit.train(resolve(TrainConfig, dict(zip(sys.argv[1::2], sys.argv[2::2])), environ={}))
"""


def run_in_two_processes(words: list[str]) -> tuple[int, str, str]:
    """torchrun on the CPU; (exit code, stdout, stderr). Its processes end with it, whatever happens."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=900)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, stdout, stderr


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
def test_one_batch_accumulated_batches_and_two_processes_learn_the_same(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Batch 8, 2 x 4 accumulated and two processes of 4: the same losses, gradient norms and model within rounding."""
    whole = train(TrainConfig(**{**options, "name": "whole"}))
    parts = train(TrainConfig(**{**options, "name": "parts", "batch_size": 4, "accumulate": 2}))
    (tmp_path / "script.py").write_text(SCRIPT)
    given = {**options, "name": "processes", "batch_size": 4}
    words = [str(word) for pair in given.items() for word in pair]
    code, stdout, stderr = run_in_two_processes([str(tmp_path / "script.py"), *words])
    assert code == 0, stderr[-3000:]
    assert stdout == ""
    two = tmp_path / "runs" / "processes"
    expected, rows = weights_of(whole.directory), read_history(whole.directory / "history.csv")
    start = load_file(Path(options["model"]) / "model.safetensors")
    moved = max((value - start[name]).abs().max().item() for name, value in expected.items())
    assert moved > 1e-3  # something was learnt at all
    for directory in (parts.directory, two):
        for name, value in weights_of(directory).items():
            torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=1e-4)
        for row, reference in zip(read_history(directory / "history.csv"), rows, strict=True):
            for key in ("loss", "val_loss", "grad_norm", "val_score"):
                if key in reference:
                    assert row[key] == pytest.approx(reference[key], rel=1e-4), key


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_interrupted_and_resumed_is_uninterrupted(options: dict[str, Any], tmp_path: Path, accumulate: int) -> None:
    """Optimiser, schedule, random state (dropout is on), data order and history: bit for bit."""
    model = tiny("graininess", "banding")
    model.config.hidden_dropout_prob = 0.2
    save(model, tmp_path / "dropping", onnx=False)
    options |= {
        "model": str(tmp_path / "dropping"),
        "batch_size": 4,
        "accumulate": accumulate,
        "max_steps": 7,
        "eval_every": 2,
    }
    straight = train(TrainConfig(**{**options, "name": "straight"}))
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**{**options, "name": "broken"}), progress=Record(stop=5))
    assert not (tmp_path / "runs" / "broken" / "model").exists()
    record = Record()
    resumed = train(TrainConfig(**{**options, "name": "broken", "resume": "auto"}), progress=record)
    assert f"{resumed.directory}: goes on from step 4 of 7" in record.said
    assert resumed.history == straight.history
    assert [row["step"] for row in resumed.history if "val_score" in row] == [0, 2, 4, 6, 7]
    for weights in ("model", "checkpoints/checkpoint-7"):
        first, second = (load_file(run.directory / weights / "model.safetensors") for run in (straight, resumed))
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
    for key in ("validation", "before", "after", "best_step"):
        assert resumed.metrics[key] == straight.metrics[key]


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
def test_a_seed_makes_a_run_repeatable_and_another_one_different(options: dict[str, Any]) -> None:
    found = [
        train(TrainConfig(**{**options, "name": name, "seed": seed, "max_steps": 2})).history[1]["loss"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.usefixtures("no_export")
def test_a_full_disk_costs_time_and_is_told_once(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    roomy = train(TrainConfig(**{**options, "name": "a", "max_steps": 2})).history
    assert not caplog.text
    monkeypatch.setattr(cache_module, "RESERVE", 1 << 62)
    monkeypatch.setenv("GRAINSCAN_CACHE_DIR", "elsewhere")
    full = train(TrainConfig(**{**options, "name": "b", "max_steps": 2})).history
    assert full == roomy
    assert caplog.text.count("no room for all decoded clips") == 1 and "--cache-gb" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_loader_processes_and_half_precision_see_the_same_views(options: dict[str, Any]) -> None:
    plain, processes, half = (
        train(TrainConfig(**{**options, "name": name, "max_steps": 2, **changes})).history
        for name, changes in (("a", {}), ("b", {"workers": 2}), ("c", {"precision": "bf16"}))
    )
    assert plain == processes
    assert half[1]["loss"] != plain[1]["loss"]
    assert half[1]["loss"] == pytest.approx(plain[1]["loss"], rel=0.02)


@pytest.mark.usefixtures("no_export")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_loader_processes_work_with_a_long_temporary_folder(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(trainer_module, "DataLoader", functools.partial(DataLoader, timeout=60))  # fails, not hangs
    run = train(TrainConfig(**{**options, "max_steps": 1, "workers": 1}))
    assert run.metrics["steps"] == 1
    assert tempfile.gettempdir() == str(long)  # of this process


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="tensors are passed without sockets")
def test_without_a_folder_for_sockets_training_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "t" * 71)
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(UsageError, match="temporary folder is too long: /ttt") as caught:
        find_machine("cpu", "fp32", workers=1)
    assert "TMPDIR" in caught.value.hint and "--workers 0" in caught.value.hint
    assert find_machine("cpu", "fp32", workers=0).loaders == 0


# ------------------------------------------------------------------------------------------------ losses


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_focal_loss_by_hand() -> None:
    logits = [1.5, -0.3, 0.0, -4.0]
    labels = [1.0, 1.0, 0.0, 0.0]
    expected = []
    for logit, label in zip(logits, labels, strict=True):
        truth = sigmoid(logit) if label else 1 - sigmoid(logit)
        weight = 0.8 if label else 0.2
        expected.append(-weight * (1 - truth) ** 2.5 * math.log(truth))
    found = focal(torch.tensor(logits)[:, None], torch.tensor(labels)[:, None], gamma=2.5, alpha=[0.8])[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    unweighted = focal(torch.tensor(logits), torch.tensor(labels), gamma=0.0)
    cross_entropy = [-math.log(sigmoid(v) if y else 1 - sigmoid(v)) for v, y in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(unweighted, cross_entropy, rtol=1e-5)


def test_focal_loss_is_exact_where_the_model_is_sure() -> None:
    logits = torch.tensor([30.0, -30.0], requires_grad=True)
    focal(logits, torch.tensor([1.0, 1.0]), gamma=2.0).sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert focal(torch.tensor(12.0), torch.tensor(1.0), gamma=1.0).item() == pytest.approx(math.exp(-12) ** 2, rel=1e-3)


def test_focal_loss_and_its_gradient_are_those_of_the_formula() -> None:
    """Per-task alpha and every gamma, from sure and right to sure and wrong, against the formula in float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.cat([6 * torch.randn(200, 3, generator=generator), torch.tensor([[45.0, -45.0, 0.0]])])
    labels = torch.randint(0, 2, logits.shape, generator=generator).float()
    alpha = (0.2, 0.5, 0.9)
    for gamma in (0.0, 0.5, 1.0, 2.0, 3.5):
        ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
        focal(ours, labels, gamma=gamma, alpha=alpha).sum().backward()
        sign = 2 * labels.double() - 1
        weight = torch.tensor(alpha).double() * labels + (1 - torch.tensor(alpha).double()) * (1 - labels)
        right = torch.nn.functional.logsigmoid(sign * theirs)
        (-weight * torch.sigmoid(-sign * theirs) ** gamma * right).sum().backward()
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-9)


def test_objective_by_hand() -> None:
    """Unknown labels and strengths take no part; the sum is divided by views times tasks, known or not."""
    nan = math.nan
    logits = torch.tensor([[0.4, -1.0], [2.0, 0.3], [-0.2, 0.0]])
    labels = torch.tensor([[1.0, nan], [0.0, 1.0], [nan, nan]])
    strength = torch.tensor([[2.5, 9.0], [0.4, 9.0], [0.0, 9.0]])
    strengths = torch.tensor([[1.0, nan], [0.0, nan], [nan, nan]])
    objective = Objective(kind="bce", task_weight=(1.0, 3.0), strength_weight=0.5)
    classes = -math.log(sigmoid(0.4)) - math.log(1 - sigmoid(2.0)) - 3 * math.log(sigmoid(0.3))
    errors = (1.5 - 0.5) + 0.5 * 0.4**2  # smooth L1: linear beyond 1, quadratic within
    expected = (classes + 0.5 * errors) / 6
    assert objective(logits, strength, labels, strengths).item() == pytest.approx(expected, rel=1e-5)
    halves = [objective(logits[s], strength[s], labels[s], strengths[s]) for s in (slice(0, 1), slice(1, 3))]
    assert ((halves[0] * 1 + halves[1] * 2) / 3).item() == pytest.approx(expected, rel=1e-5)


def test_soft_labels_by_hand() -> None:
    """Where a strength is known, the target is s^2 / (s^2 + half^2), whatever the label; elsewhere the label."""
    nan = math.nan
    logits = torch.tensor([[0.4], [2.0], [-0.2], [0.7]])
    labels = torch.tensor([[1.0], [nan], [0.0], [nan]])
    strengths = torch.tensor([[2.0], [1.0], [nan], [nan]])  # 3 and 1 codes
    objective = Objective(kind="bce", strength_weight=0.0, soft=1.5)
    high, low = 9 / (9 + 2.25), 1 / (1 + 2.25)
    expected = -high * math.log(sigmoid(0.4)) - (1 - high) * math.log(1 - sigmoid(0.4))
    expected += -low * math.log(sigmoid(2.0)) - (1 - low) * math.log(1 - sigmoid(2.0))
    expected += -math.log(1 - sigmoid(-0.2))
    assert objective(logits, logits, labels, strengths).item() == pytest.approx(expected / 4, rel=1e-5)


def test_an_objective_without_knowledge_is_zero_and_differentiable() -> None:
    logits = torch.zeros(2, 1, requires_grad=True)
    unknown = torch.full((2, 1), math.nan)
    loss = Objective(alpha=(0.3,))(logits, logits, unknown, unknown)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and logits.grad.abs().sum() == 0


def test_alpha_evens_out_the_classes() -> None:
    alphas = alpha_from_counts(np.array([[90, 10], [5, 5], [7, 0]]))
    assert alphas == pytest.approx((0.9, 0.5, 0.5))
    assert 10 * alphas[0] == pytest.approx(90 * (1 - alphas[0]))  # total weight of the two classes


def test_task_weights() -> None:
    assert task_weights(None, ("a", "b")) is None
    assert task_weights("b=0.5", ("a", "b")) == (1.0, 0.5)
    for wrong in ("c=1", "a", "a=-1", "a=nan", "a=x"):
        with pytest.raises(ConfigError, match="task-weights"):
            task_weights(wrong, ("a", "b"))


# ------------------------------------------------------------------------------------------------ a run


@pytest.mark.slow
def test_a_run_leaves_everything_behind(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    """With export: the model directory that every other command takes, figures, curves, card, and the memory of it."""
    record = Record()
    options |= {"eval_every": 2, "tensorboard": True, "focal_alpha": "0.7", "balanced": True, "precision": "auto"}
    run = train(TrainConfig(**options), progress=record)
    assert isinstance(run, Run) and run.name == "run"
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""
    names = {path.name for path in run.directory.iterdir()}
    assert names == {
        "README.md",
        "checkpoints",
        "config.toml",
        "curves.png",
        "history.csv",
        "metrics.json",
        "model",
        "tensorboard",
    }
    assert {path.name for path in run.model.iterdir()} == {
        "README.md",
        "config.json",
        "model.onnx",
        "model.safetensors",
    }
    spec = read_spec(find_model(str(run.directory)))
    assert spec.name == "run" and spec.tasks == ("graininess", "banding")
    assert spec.strength == {"graininess": "8-bit luma codes (standard deviation)"}
    assert set(spec.calibration) == set(spec.threshold) == {"graininess", "banding"}
    assert spec.provenance["clips"] == 8 and spec.provenance["sources"] == 4 and spec.provenance["steps"] == 3
    # The configuration reads back as it was.
    table = tomllib.loads((run.directory / "config.toml").read_text())["train"]
    precision = table["precision"]
    assert precision == find_machine("cpu", "auto").precision
    assert resolve(TrainConfig, table, environ={}) == TrainConfig(**{**options, "precision": precision})
    history = read_history(run.directory / "history.csv")
    assert [row["step"] for row in history] == [0, 1, 2, 3]
    assert {"loss", "learning_rate", "grad_norm", "val_loss", "val_score"} <= set(history[2])
    assert {"val_auroc_graininess", "val_auroc_banding"} <= set(history[2])
    assert "val_strength_error_graininess" in history[2] and "val_loss" not in history[1]
    assert "val_score" in history[0] and "loss" not in history[0]
    assert history[2]["epoch"] == 2  # 8 clips, 8 views a step
    metrics = json.loads((run.directory / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(run.metrics)) and metrics["views"] == 24
    assert metrics["validation"]["clips"] == 6
    assert (run.directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (run.directory / "README.md").read_text()
    assert "| train | 8 | 4 | graininess | 4 | 4 | 0 |" in card and "versions" in card.lower()
    assert str(run.directory.parent) not in card and "curves.png" in card
    assert record.stages == [
        ("decoding", 8),
        ("decoding", 6),
        ("validating", None),
        ("training", 3),
        ("exporting", None),
        ("calibrating", 6),
        ("writing the card", None),
    ]
    assert record.done == [8, 6, 0, 3, 0, 6, 0]
    assert any(f"in {precision} on cpu" in line for line in record.said)
    assert [line.split(":")[0] for line in record.said if "validation" in line] == ["step 0", "step 2", "step 3"]
    assert any(note.startswith("loss ") and " · lr " in note for note in record.notes)
    assert run.seconds > 0 and metrics["seconds"] == round(run.seconds, 1)
    assert run.verdict and run.verdict in card.replace("Gain", "gain").replace("No gain", "no gain")
    (events,) = (run.directory / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents") and b"train/loss" in events.read_bytes()
    last = last_run()
    assert last is not None and last.directory == run.directory and last.data == options["data"]
    assert not list(run.model.rglob("*.bin")) and not list(run.model.rglob("*.pt"))


@pytest.mark.usefixtures("no_export")
def test_the_best_weights_are_kept_and_patience_ends_the_run(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.6, 0.9, 0.7, 0.8])  # of steps 0 to 4
    monkeypatch.setattr(Validation, "figures", lambda self: {"score": next(scores, 0.1), "loss": 1.0})
    options |= {"eval_every": 1, "max_steps": 6, "patience": 2, "keep": 1}
    run = train(TrainConfig(**options))
    assert run.metrics["best_step"] == 2 and run.metrics["steps"] == 4
    best = load_file(run.directory / "checkpoints" / "checkpoint-2" / "model.safetensors")
    for name, value in weights_of(run.directory).items():
        assert torch.equal(value, best[name]), name


@pytest.mark.slow
@pytest.mark.usefixtures("no_export")
def test_from_scratch_with_unsplit_data_and_a_broken_clip(
    options: dict[str, Any], data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in (data / "train").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "train3.avi").write_bytes(b"not a video")
    record = Record()
    options |= {"data": folder, "scratch": True, "tasks": "graininess", "max_steps": 2}
    run = train(TrainConfig(**options), progress=record)
    assert "train3.avi" in caplog.text and "cannot be decoded: train3.avi" in (run.directory / "README.md").read_text()
    assert run.metrics["steps"] == 2 and "validation" not in run.metrics
    assert read_spec(run.model).calibration == {} and read_spec(run.model).provenance["clips"] == 7
    assert any("no val split" in line for line in record.said) and run.verdict == ""
    assert (
        "validating" not in dict(record.stages) and not (run.directory / "checkpoints" / "start.safetensors").exists()
    )
    start = load_file(Path(options["model"]) / "model.safetensors")
    name = "vivit.embeddings.patch_embeddings.projection.weight"
    assert not torch.allclose(weights_of(run.directory)[name], start[name], atol=0.05)


@pytest.mark.usefixtures("no_export")
def test_lora_on_a_published_checkpoint_ends_as_a_plain_directory(options: dict[str, Any], tmp_path: Path) -> None:
    """transformers 4 names, frozen backbone, low-rank updates, checkpointing: a directory as any other."""
    write_checkpoint(tmp_path / "hf", old=True)
    record = Record()
    options |= {"model": str(tmp_path / "hf"), "lora": 2, "eval_every": 1, "gradient_checkpointing": True}
    run = train(TrainConfig(**options), progress=record)
    plain = build(str(tmp_path / "hf"), tasks=["graininess", "banding"])
    weights = weights_of(run.directory)
    assert set(weights) == set(plain.state_dict())
    (line,) = (line for line in record.said if "parameters are trained" in line)
    trained, parameters = (int(word.replace(",", "")) for word in line.split() if word[0].isdigit())
    assert trained < parameters / 2
    assert "validating" not in dict(record.stages)  # a fresh adapter is nothing to compare with
    changed = {name for name, value in weights.items() if not torch.equal(value, plain.state_dict()[name])}
    in_backbone = {name for name in changed if name.startswith("vivit.")}
    assert in_backbone and {name.split(".")[-2] for name in in_backbone} <= set(LORA_TARGETS)
    load(run.model)


@pytest.mark.usefixtures("no_export")
def test_frozen_parts_stay_as_they_were(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, 0.1, 0.9)
    start = load_file(Path(options["model"]) / "model.safetensors")
    run = train(TrainConfig(**options, tune="adapters", accumulate=2, loss="bce", schedule="constant", cache=False))
    changed = {name for name, value in weights_of(run.directory).items() if not torch.equal(value, start[name])}
    assert changed and all(name.startswith("adapters.") for name in changed)


@pytest.mark.usefixtures("no_export")
def test_a_loss_that_is_not_a_number_stops_the_run(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objective, "__call__", lambda self, logits, *_: logits.sum() * math.nan)
    with pytest.raises(ModelError, match="loss is nan at step 1") as caught:
        train(TrainConfig(**options))
    assert "--lr" in caught.value.hint


@pytest.mark.usefixtures("no_export")
def test_names_of_runs(options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="no run was started here"):
        train(TrainConfig(**{**options, "name": None, "resume": "auto"}))
    record = Record()
    train(TrainConfig(**{**options, "max_steps": 1, "resume": "auto"}), progress=record)
    assert f"nothing to resume in {tmp_path / 'runs' / 'run'}: a new training starts" in caplog.text
    assert not any("goes on" in text for text in record.said)
    with pytest.raises(ConfigError, match="already exists") as caught:
        train(TrainConfig(**options))
    assert "--resume auto" in caught.value.hint
    with pytest.raises(ConfigError, match="plain name"):
        train(TrainConfig(**{**options, "name": "../up"}))
    with pytest.raises(ConfigError, match="not a checkpoint"):
        train(TrainConfig(**{**options, "resume": str(tmp_path)}))
    again = train(TrainConfig(**{**options, "name": None, "resume": "auto", "max_steps": 2, "lr": 5e-4}))
    assert again.directory == tmp_path / "runs" / "run" and again.metrics["steps"] == 2
    assert "lr = 0.0005, started with 0.001" in caplog.text and caplog.text.count("nothing to resume") == 1


def test_a_clean_start_needs_clean_clips(options: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "grainy"
    folder.mkdir()
    write_clip(folder / "a.avi", scene_block(frames=6, width=40, height=40, grain=5))
    (folder / "labels.json").write_text('{"a.avi": 1}')
    with pytest.raises(DataError, match="no clean clips"):
        train(TrainConfig(**{**options, "data": folder, "scratch": True}))
    (folder / "a.avi").write_bytes(b"")
    with pytest.raises(DataError, match="no clip can be decoded"):
        train(TrainConfig(**{**options, "name": "b", "data": folder}))


# ------------------------------------------------------------------------------------------------ the starting model


def scored(monkeypatch: pytest.MonkeyPatch, *areas: float) -> None:
    """Validations find these AUROCs, one after another."""
    values = iter(areas)

    def figures(self: Validation) -> dict[str, float]:
        area = next(values)
        return {"score": area, "loss": 1.0, "auroc_graininess": area, "auroc_banding": area}

    monkeypatch.setattr(Validation, "figures", figures)


@pytest.mark.usefixtures("no_export")
def test_the_starting_model_is_kept_when_nothing_beats_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.9711, 0.9, 0.9422, 0.9)
    run = train(TrainConfig(**options, eval_every=1))
    start = load_file(Path(options["model"]) / "model.safetensors")
    assert all(torch.equal(value, start[name]) for name, value in weights_of(run.directory).items())
    assert run.metrics["best_step"] == 0
    assert run.metrics["before"]["auroc_graininess"] == run.metrics["validation"]["auroc_graininess"] == 0.9711
    assert run.metrics["after"]["auroc_graininess"] == 0.9422
    assert run.verdict == "no gain: 0.971 before, 0.942 after (validation AUROC); the starting model was kept"
    assert json.loads((run.directory / "metrics.json").read_text())["after"]["auroc_graininess"] == 0.9422
    card = (run.model / "README.md").read_text()
    assert "| `graininess` | 0.9711 | 0.9422 |" in card and "the starting model was kept" in card


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(("later", "kept"), [(0.95, False), (0.8, True)])
def test_a_resumed_training_still_knows_where_it_started(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, later: float, kept: bool
) -> None:
    scored(monkeypatch, 0.9, 0.7, later)
    options |= {"eval_every": 2, "max_steps": 4}
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**options), progress=Record(stop=3))
    run = train(TrainConfig(**options, resume="auto"))
    assert run.metrics["before"]["score"] == 0.9 and run.metrics["after"]["score"] == later
    assert (run.metrics["best_step"] == 0) == kept
    start = load_file(Path(options["model"]) / "model.safetensors")
    assert all(torch.equal(value, start[name]) for name, value in weights_of(run.directory).items()) == kept


@pytest.mark.usefixtures("no_export")
def test_a_start_that_knows_some_tasks_is_scored_but_is_no_candidate(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tiny("graininess"), tmp_path / "half", onnx=False)
    scored(monkeypatch, 0.9, 0.4)
    run = train(TrainConfig(**{**options, "model": str(tmp_path / "half")}))
    assert run.metrics["best_step"] == 3 and run.metrics["before"] == {"auroc_graininess": 0.9}
    assert run.verdict == "no gain: 0.900 before, 0.400 after (validation AUROC)"


def test_the_verdict_compares_losses_where_auroc_says_nothing() -> None:
    loss = {"best_step": 4, "before": {"score": -0.5, "loss": 0.5}, "after": {"score": -0.25, "loss": 0.25}}
    assert verdict(loss) == "gain: 0.500 before, 0.250 after (validation loss)"
    tie = {**loss, "before": {"auroc_a": 1.0, "loss": 0.5}, "after": {"auroc_a": 1.0, "loss": 0.25}}
    ranks = "no gain: 1.000 before, 1.000 after (validation AUROC)"
    assert verdict(tie) == f"{ranks}, but the loss fell from 0.500 to 0.250"
    assert verdict({**tie, "best_step": 0}) == f"{ranks}; the starting model was kept"
    assert verdict({"steps": 3}) == verdict({**loss, "before": {"auroc_other": 0.9}}) == ""


def test_the_figures_of_a_single_task_go_without_its_name() -> None:
    row = {"step": 105, "val_score": 0.89, "val_loss": 0.19617, "val_auroc_graininess": 0.8901}
    row["val_strength_error_graininess"] = 0.7231
    assert _in_words(row) == "loss 0.1962, AUROC 0.8901, strength error 0.7231"
    row["val_auroc_banding"] = 0.5
    assert "AUROC graininess 0.8901" in _in_words(row)


def test_the_note_beside_the_bar_is_short() -> None:
    row = {"step": 1200, "loss": 0.13149, "grad_norm": 0.8681, "learning_rate": 4.994e-05}
    assert _in_short(row) == "loss 0.131 · lr 5.0e-05"


# ------------------------------------------------------------------------------------------------ plans


def test_a_plan_says_everything_and_writes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    shown = plan(TrainConfig(**{**options, "epochs": 5, "max_steps": 0, "batch_size": 3, "dry_run": True}))
    assert sorted(tmp_path.rglob("*")) == before
    json.dumps(shown.to_dict())
    assert shown.steps == math.ceil(5 * 8 / 3) and shown.views_per_step == 3
    assert shown.splits["train"].clips == 8 and shown.splits["train"].sources == 4
    assert shown.splits["train"].prevalence["banding"] == Prevalence(negative=3, positive=2, unknown=3)
    assert shown.splits["train"].strengths == {"graininess": 8, "banding": 0}
    assert set(shown.splits) == {"train", "val", "test"} and shown.leaks == ()
    assert shown.trainable == shown.parameters > 0
    assert shown.memory > 0 and shown.seconds is not None
    assert all(value > 0 for value in vars(shown.seconds).values())
    assert 'model = "' in shown.config and 'precision = "fp32"' in shown.config
    lines = list(shown.lines())
    assert "train: 8 clips from 4 sources" in lines and "test: 2 clips from 1 source" in lines
    assert "14 steps of 3 views: each clip is seen about 5 times" in lines


def test_leaks_are_part_of_the_plan(options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "leaking"
    shutil.copytree(data, folder)
    shutil.copy(folder / "train" / "train1.avi", folder / "val" / "val1.avi")
    shown = plan(TrainConfig(**{**options, "data": folder}))
    assert [str(leak) for leak in shown.leaks] == ["1 identical file is in both train and val: val1.avi"]
    assert f"leak: {shown.leaks[0]}" in list(shown.lines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["empty"], "has no labels.json"),
        (["faulty"], "no such file"),
        (["unknown", "--dry-run"], "Write 0 or 1 for each clip in unknown/train/labels.json"),
        (["good", "--name", "taken"], "already exists"),
        (["good", "--resume", "good"], "not a checkpoint"),
        (["good", "--runs", "good/a.avi"], "cannot be written: Not a directory"),
    ],
)
def test_what_is_wrong_is_said_before_torch_is_loaded(tmp_path: Path, words: list[str], message: str) -> None:
    known, unknown = '{"a.avi": 1}', '{"a.avi": null}'
    for name, labels in (("empty", None), ("faulty", known), ("good", known), ("unknown/train", unknown)):
        (tmp_path / name).mkdir(parents=True)
        if labels:
            (tmp_path / name / "labels.json").write_text(labels)
    for name in ("good", "unknown/train"):
        (tmp_path / name / "a.avi").touch()
    (tmp_path / "runs" / "taken" / "model").mkdir(parents=True)
    code = (
        "import sys\nfrom grainscan.cli.app import app\ntry:\n    app()\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *words],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "2 False", done.stderr
    assert message in done.stderr and "hint:" in done.stderr


def test_the_schedule_of_a_small_and_a_large_data_set() -> None:
    schedule = Schedule(TrainConfig(Path("data"), epochs=10, batch_size=16), clips=100)

    def changed(clips: int = 100, processes: int = 1, **options: Any) -> Schedule:
        return Schedule(dataclasses.replace(schedule.config, **options), clips, processes)

    assert schedule.steps_per_epoch == 6.25 and schedule.steps == 63 and schedule.views == 63 * 16
    assert schedule.validation_interval == 20  # not each epoch, which would be every seven steps
    large = changed(clips=16_000, accumulate=2, processes=2)
    assert large.steps == 2500 and large.validation_interval == 250 and large.views_per_step == 64
    assert changed(eval_every=3).validation_interval == 3
    assert changed(max_steps=5).validation_interval == 5
    assert changed(views_per_clip=2).steps == 125
    assert changed(clips=20, epochs=None).steps == 13
    assert changed(clips=20, epochs=None, add_task="vignette").steps == 120
    assert changed(clips=20, add_task="vignette").steps == 13


@pytest.mark.parametrize(("every", "steps", "rows"), [(100, 10_000, 25), (7, 10_000, 7), (97, 20_000, 1), (1, 3, 1)])
def test_the_logging_interval_divides_the_validation_interval(every: int, steps: int, rows: int) -> None:
    config = TrainConfig(Path("data"), max_steps=steps, eval_every=every)
    assert Schedule(config, clips=1).logging_interval == rows


def test_memory_estimate_against_what_autograd_keeps() -> None:
    model = build("small", scratch=True)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(torch.rand(4, 8, 3, 64, 64))
    measured = sum(size for place, size in kept.items() if place not in parameters) / 4
    assert outputs.logits.requires_grad
    assert estimate.activation_bytes(model) == pytest.approx(measured, rel=0.3)
    tune(model, "adapters")
    assert estimate.trained_depth(model) == 0
    tune(model, "last-1")
    assert estimate.trained_depth(model) == 0.25


def test_flops_by_hand() -> None:
    """Of a model without energies: matrices forward once and backward twice, and attention's products."""
    model = tiny(energies=False)
    tokens, hidden, inner = 2 * 2 * 2 + 1, 32, 64
    matrices = 2 * 2 * tokens * (4 * hidden**2 + 2 * hidden * inner)  # of both layers
    attention = 2 * 4 * tokens**2 * hidden
    tubelets = 2 * (tokens - 1) * 2 * 16 * 16 * 3 * hidden
    head = 2 * (2 * hidden * 8 + 2 * hidden)  # the adapter's bottleneck, logit and strength
    assert count_flops(model, training=False) == matrices + attention + tubelets + head
    # Backward, each product gives two, except that the pixels need no gradient.
    assert count_flops(model) == pytest.approx(3 * (matrices + attention + head) + 2 * tubelets, rel=0.02)
    tune(model, "adapters")
    assert count_flops(model) == pytest.approx(matrices + attention + tubelets + 3 * head, abs=4 * hidden)
    assert not model.training and all(p.device.type == "cpu" and p.grad is None for p in model.parameters())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_checkpointing_costs_another_forward_pass_of_the_layers() -> None:
    model = tiny(energies=False)
    plain = count_flops(model)
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    layers = 2 * 2 * 9 * (4 * 32**2 + 2 * 32 * 64) + 2 * 4 * 9**2 * 32
    last = 2 * 2 * 9 * 64 * 32  # of each layer the last product, which nothing needs again
    assert count_flops(model) - plain == layers - last


def test_time_is_what_one_takes_times_how_many_there_are(options: dict[str, Any], tmp_path: Path) -> None:
    setup = prepare(TrainConfig(**{**options, "max_steps": 40, "eval_every": 10}))
    pace = Pace(learn=1.0, judge=0.1, cut=0.01, decode=2.0, views=12)
    found = estimate.estimate_time(setup, pace, preparing=3.0)
    assert found.preparing == 3.0
    assert found.decoding == pytest.approx(14 * 2.0 / processors())  # the clips of train and val
    assert found.training == pytest.approx(40 * 8 * 1.01, rel=0.01)
    assert found.validating == pytest.approx((4 + 1) * 6 * 4 * 0.11)  # with step 0; four views of each clip
    assert found.calibrating == pytest.approx(6 * (12 * 0.1 + 2.0 / processors()), abs=2)
    assert found.total == pytest.approx(sum(vars(found).values()))
    list(setup.cache.fill([setup.training.path(0)], workers=0))
    assert estimate.estimate_time(setup, pace).decoding == pytest.approx(13 * 2.0 / processors())
    blind = dataclasses.replace(setup, validation=None)
    assert estimate.estimate_time(blind, pace).validating == estimate.estimate_time(blind, pace).calibrating == 0


@pytest.mark.bench
@pytest.mark.parametrize("steps", [30, 200])
def test_the_estimate_is_within_a_factor_of_two(options: dict[str, Any], steps: int) -> None:
    options |= {"model": "small", "tasks": "graininess", "max_steps": steps, "batch_size": 16, "precision": "auto"}
    shown = plan(TrainConfig(**options))
    run = train(TrainConfig(**options))
    assert shown.seconds is not None
    print(shown.seconds, run.seconds)
    assert run.seconds / 2 < shown.seconds.total < run.seconds * 2


def test_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\nbugs\t: bf16\n")
    assert processor_flags(cpuinfo) == {"fpu", "avx2", "avx512_bf16"}
    cpuinfo.write_text("Features\t: fp asimd bf16\n")
    assert "bf16" in processor_flags(cpuinfo)
    assert processor_flags(tmp_path / "none") == frozenset()
    for flag, precision in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(machine_module, "processor_flags", lambda flag=flag: frozenset({flag}))
        assert find_machine("cpu", "auto").precision == precision
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert machine_module.choose_precision("cuda") == "fp16"
    assert find_machine("cpu", "fp32").precision == "fp32"
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        find_machine("cpu", "fp16")


@pytest.mark.usefixtures("no_export")
def test_a_resumed_run_keeps_the_precision_that_auto_chose(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options |= {"precision": "auto", "max_steps": 1}
    monkeypatch.setattr(machine_module, "processor_flags", lambda: frozenset({"amx_bf16"}))
    run = train(TrainConfig(**options))
    monkeypatch.setattr(machine_module, "processor_flags", lambda: frozenset())
    record = Record()
    train(TrainConfig(**{**options, "resume": "auto", "max_steps": 2}), progress=record)
    assert any("in bf16 on cpu" in line for line in record.said)
    assert tomllib.loads((run.directory / "config.toml").read_text())["train"]["precision"] == "bf16"
    assert "precision" not in caplog.text


def test_unknown_tasks_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="aliasing"):
        train(TrainConfig(**{**options, "tasks": "graininess,aliasing"}))


# ------------------------------------------------------------------------------------------------ curves


def test_curves_have_an_axis_per_quantity_and_show_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [
        {"step": 0, "val_loss": 0.5, "val_score": 0.8, "val_auroc_graininess": 0.8},
        {"step": 10, "loss": 0.4, "learning_rate": 1e-3, "grad_norm": 9.0},
        {"step": 20, "loss": 0.3, "val_loss": 0.4, "val_auroc_graininess": 0.9},
    ]
    figures: list[Any] = []
    save_figure = curves_module.save_figure

    def kept(figure: Any, path: Path) -> Path:
        figures.append(figure)
        return save_figure(figure, path)

    monkeypatch.setattr(curves_module, "save_figure", kept)
    draw_curves(tmp_path / "curves.png", history, ("graininess",), best_step=20)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    loss, auroc = figures[0].axes
    assert (loss.get_title(), auroc.get_title()) == ("Loss", "Validation AUROC")
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines["training"] == [[10, 0.4], [20, 0.3]] and lines["validation"] == [[0, 0.5], [20, 0.4]]
    assert [0, 0.8] in [line.get_xydata()[0].tolist() for line in auroc.lines if line.get_marker() == "o"]
    assert lines["weights kept (step 20)"][0][0] == 20
    draw_curves(tmp_path / "blind.png", [{"step": 1, "loss": 0.4}], ("graininess",))
    assert [axes.get_title() for axes in figures[1].axes] == ["Loss"]


# ------------------------------------------------------------------------------------------------ validation


def test_validation_figures_by_hand(tmp_path: Path) -> None:
    nan = np.nan
    labels = np.array([[1, 0], [0, nan], [1, 0], [0, 0]], np.float32)
    strength = np.array([[2, nan], [0, nan], [3, nan], [0, nan]], np.float32)
    names = ("a", "b", "c", "d")
    clips = ClipSet(tmp_path, ("graininess", "banding"), names, tmp_path, names, labels, strength)
    shares = [  # of two processes, out of order: clip, logits, strength, loss
        ([1, 3], [[0.5, 0.0], [-1.0, 0.0]], [[0.5, 0.0], [0.0, 0.0]], [0.2, 0.2]),
        ([0, 2], [[2.0, 0.0], [0.0, 0.0]], [[2.5, 0.0], [3.0, 0.0]], [0.6, 0.6]),
    ]
    found = Validation.gathered(clips, [tuple(map(np.array, share)) for share in shares])
    assert found.logits[:, 0].tolist() == [2.0, 0.5, 0.0, -1.0]
    figures = found.figures()
    assert figures["auroc_graininess"] == 0.75  # 3 of 4 pairs in order
    assert figures["strength_error_graininess"] == pytest.approx((0.5 + 0.5) / 4)
    assert figures["loss"] == pytest.approx(0.4)
    assert "auroc_banding" not in figures and "strength_error_banding" not in figures
    assert figures["score"] == pytest.approx(0.75, abs=1e-5)


def test_runs_are_remembered_by_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    assert last_run(here=tmp_path) is None
    remember_run(tmp_path / "run", tmp_path / "data", here=tmp_path)
    remember_run(tmp_path / "gone", tmp_path / "data", here=tmp_path / "elsewhere")
    found = last_run(here=tmp_path)
    assert found is not None and found.model == tmp_path / "run" / "model" and found.data == tmp_path / "data"
    assert last_run(here=tmp_path / "elsewhere") is None  # the run is not there any more
    last_run_module._state_file().write_text("{broken")
    assert last_run(here=tmp_path) is None
    code = "import sys; from grainscan.model.last_run import last_run; last_run(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.bench
def test_training_keeps_up_with_a_bare_loop(tmp_path: Path, data: Path) -> None:
    """`small` through `train` against the same model in a loop over one batch in memory: at least 0.9 of its speed."""
    steps, batch = 12, 32
    model = build("small", scratch=True).train()
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    pixels, labels = torch.rand(batch, 8, 3, 64, 64), torch.zeros(batch, 1)
    objective = Objective()

    def bare() -> float:
        for step in range(steps + 2):
            if step == 2:
                begun = time.perf_counter()
            outputs = model(pixels)
            objective(outputs.logits, outputs.strength, labels, labels).backward()
            optimiser.step()
            optimiser.zero_grad()
        return steps * batch / (time.perf_counter() - begun)

    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(16):
        write_clip(folder / f"{i}.avi", scene_block(frames=16, width=128, height=128, grain=5.0 * (i % 2), seed=i))
    (folder / "labels.json").write_text(json.dumps({f"{i}.avi": i % 2 for i in range(16)}))
    ratios = []
    for attempt in range(3):
        first = bare()
        clock = Record()
        config = TrainConfig(
            data=folder, scratch=True, max_steps=steps + 2, batch_size=batch, precision="fp32",
            runs=tmp_path / "runs", name=str(attempt), device="cpu",
        )  # fmt: skip
        train(config, progress=clock)
        ours = steps * batch / (clock.times[-1] - clock.times[1])
        ratios.append(ours / ((first + bare()) / 2))
    print(ratios)
    assert max(ratios) >= 0.9
    assert len(read_clips(folder)) == 16
