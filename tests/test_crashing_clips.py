"""A training on clips of which some end their decoder: each costs itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MakeClip
from test_model import tiny

from grainscan.data import cache
from grainscan.evaluate.calibrate import Calibrated
from grainscan.model.spec import read_spec
from grainscan.model.store import save
from grainscan.options import TrainConfig
from grainscan.train import fit


@pytest.mark.parametrize("cached", [True, False])
def test_a_clip_that_crashes_the_decoder_is_left_out_of_the_training(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "_STORE", "worker_kit:crashing_store")
    monkeypatch.setattr("grainscan.model.store.export_onnx", lambda model, path: 0.0)
    monkeypatch.setattr(fit, "calibrate", lambda directory, *_, **__: Calibrated(read_spec(directory), {}))
    for split, count in (("train", 6), ("val", 4)):
        names = [f"{split}{number}.avi" for number in range(count)] + [f"crash-{split}.avi"]
        for number, name in enumerate(names):
            make_clip(f"data/{split}/{name}", frames=6, width=40, height=40, grain=8 * (number % 2), seed=number)
        labels = {name: {"graininess": number % 2, "banding": 0} for number, name in enumerate(names)}
        (tmp_path / "data" / split / "labels.json").write_text(json.dumps(labels))
    save(tiny("graininess", "banding"), tmp_path / "tiny", onnx=False)
    run = fit.train(
        TrainConfig(tmp_path / "data", model=str(tmp_path / "tiny"), device="cpu", precision="fp32", batch_size=4,
                    max_steps=2, cache=cached)
    )  # fmt: skip
    assert caplog.text.count("its decoder crashed (SIGSEGV)") == 2
    assert "crash-train.avi" in caplog.text and "crash-val.avi" in caplog.text
    assert read_spec(run.model).provenance["clips"] == 6
    card = (run.directory / "README.md").read_text()
    assert "crash-train.avi" in card and "crash-val.avi" in card
