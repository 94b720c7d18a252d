"""The five commands in their order, on footage made here: what a new user does on the first day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MakeClip
from test_cli import plain, run

from grainscan import predict_video
from grainscan.scan.scanner import confidence_of


@pytest.mark.slow
def test_from_footage_to_a_verdict(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        make_clip(f"footage/scene{number}.avi", width=192, height=128, frames=24, seed=number, speed=number / 3)

    cut = ("--clips", 2, "--frames", 12, "--size", 96, "--workers", 1)
    run("prep", "footage", "data", "--synthesize", "graininess", *cut)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    twins = [clip for clip in manifest["clips"].values() if clip["synthesis"]]
    assert len(manifest["clips"]) == 40
    assert len(twins) >= 20

    run("split", "data", "--ratios", "60/20/20")
    folders = {part: tmp_path / "data" / part for part in ("train", "val", "test")}
    parts = {part: json.loads((folder / "labels.json").read_text()) for part, folder in folders.items()}
    assert sum(map(len, parts.values())) == 40
    assert all(parts.values())

    run("train", "data", "--max-steps", 2, "--batch-size", 4, "--name", "first", "--workers", 0)
    files = {path.name for path in (tmp_path / "runs" / "first").iterdir()}
    assert {"config.toml", "history.csv", "metrics.json", "model"} <= files
    model = {path.name for path in (tmp_path / "runs" / "first" / "model").iterdir()}
    assert model == {"config.json", "model.safetensors", "model.onnx", "README.md"}

    report = json.loads(run("eval", "--split", "test", "--format", "json", "--bootstrap", 50).stdout)
    known = [labels for labels in parts["test"].values() if labels.get("graininess") is not None]  # others lie between
    assert (report["schema"], report["split"], report["clips"], report["errors"]) == (1, "test", len(known), [])
    figures = report["tasks"]["graininess"]
    assert {"accuracy", "precision", "recall", "f1", "auroc", "average_precision", "brier", "ece"} <= set(figures)
    assert {"threshold", "prevalence", "confusion", "ci95", "baseline"} <= set(figures)
    assert "graininess" in plain(run("eval", "--split", "test", "--bootstrap", 50).output)

    row = json.loads(run("predict", "footage/scene0.avi", "--model", "runs/first", "-f", "jsonl").stdout)
    assert row["status"] == "ok"
    label, confidence = predict_video("footage/scene0.avi", model="runs/first")
    verdict = row["tasks"]["graininess"]
    assert label == verdict["label"]
    assert confidence == pytest.approx(confidence_of(verdict["probability"], verdict["threshold"]), abs=1e-4)
    last = json.loads(run("predict", "footage/scene0.avi", "--model", "last", "-f", "jsonl").stdout)
    assert last["model"] == row["model"] == "first"

    run("split", "data", "--undo")
    assert len(json.loads((tmp_path / "data" / "labels.json").read_text())) == 40
