"""Calibration on whole files, with views whose logits are written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_kit import write_toy_model

from grainscan.data.labels import write_labels
from grainscan.evaluate import calibrate as module
from grainscan.evaluate.calibrate import FRACTIONS, calibrate
from grainscan.model.spec import read_spec
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import calibrated, probability
from grainscan.tasks import MEASURED

Views = list[float]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calibrates a toy model on clips given as name -> (labels, logits of the views for graininess and banding)."""

    def run(
        clips: Mapping[str, tuple[dict[str, int], Views | None]],
        tasks: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> Any:
        class Told:
            """A scanner that observes what the test wrote; None is a clip that cannot be decoded."""

            def __init__(self, model: Path, *, device: str, observe: Any) -> None:
                self._observe, self._spec = observe, read_spec(model)

            def __enter__(self) -> Told:
                return self

            def __exit__(self, *exception: object) -> None:
                pass

            def scan(self, paths: Any) -> Iterator[dict[str, Any]]:
                for path in paths:
                    views = clips[Path(path).name][1]
                    if views is None:
                        yield {"path": path, "status": "error"}
                        continue
                    logits = np.repeat(np.array(views, np.float32)[:, None], 2, axis=1)
                    self._observe(path, Outputs(logits, np.zeros_like(logits)))
                    measured = {task: {"probability": calibrated(views[0], task, self._spec)} for task in MEASURED}
                    yield {"path": path, "status": "ok", "tasks": measured}

        monkeypatch.setattr(module, "Scanner", Told)
        folder = tmp_path / "clips"
        folder.mkdir()
        for name in clips:
            (folder / name).touch()
        write_labels(folder, {name: labels for name, (labels, _) in clips.items()})
        before = {
            "calibration": {"graininess": (9.0, 9.0)},
            "threshold": {"graininess": 0.9},
            "aggregation": {"graininess": 0.25},
            "prevalence": {"graininess": 0.75},
        }
        return calibrate(write_toy_model(tmp_path / "model", **before | changes), folder, tasks=tasks)

    return run


def grainy(label: int, *views: float) -> tuple[dict[str, int], Views]:
    return {"graininess": label}, list(views)


SEPARABLE = {
    **{f"clean{i}.avi": grainy(0, -3 - i, -2, -2, -2) for i in range(4)},
    **{f"grain{i}.avi": grainy(1, 3 + i, 2, 2, 2) for i in range(4)},
}


def test_separable_clips_are_all_labelled_right(fit: Any, tmp_path: Path) -> None:
    spec = fit(SEPARABLE).spec
    for name, (labels, views) in SEPARABLE.items():
        logits = np.array(views, np.float32)
        found = probability(logits, "graininess", spec) >= spec.threshold_of("graininess")
        assert found == labels["graininess"], name
    assert spec.calibration["graininess"][0] > 0 and spec.prevalence == {"graininess": 0.5}
    assert read_spec(tmp_path / "model") == spec


def test_the_fraction_is_the_one_whose_views_tell_the_classes_apart(fit: Any) -> None:
    """Only the lowest view of four tells: the highest ones are texture, which any clip may have."""
    noise = np.random.default_rng(3).uniform(5, 60, size=(12, 3))
    clips = {f"{i:02}.avi": grainy(i % 2, 1.0 if i % 2 else -1.0, *noise[i]) for i in range(12)}
    assert fit(clips).spec.aggregation_of("graininess") == 0.25 == min(FRACTIONS)


def test_the_fraction_may_be_all_views(fit: Any) -> None:
    """Here the lowest views are noise, and only the mean of all of them tells."""
    noise = np.random.default_rng(3).uniform(-60, -5, size=(12, 3))
    clips = {}
    for i in range(12):
        mean = 1.0 if i % 2 else -1.0
        clips[f"{i:02}.avi"] = grainy(i % 2, *noise[i], 4 * mean - noise[i].sum())
    assert fit(clips).spec.aggregation_of("graininess") == 1.0


def test_a_single_class_keeps_the_identity_and_one_half(fit: Any) -> None:
    fitted = fit({f"{i}.avi": grainy(1, i, i, i) for i in range(5)})
    assert fitted.spec.calibration_of("graininess") == (1.0, 0.0)
    assert fitted.spec.threshold_of("graininess") == 0.5 and fitted.spec.prevalence == {}
    assert fitted.clips == {"graininess": 5, "banding": 0}
    assert fitted.auroc == {"graininess": None, "banding": None} and fitted.experimental == ()


def test_only_the_tasks_that_are_asked_for_are_fitted(fit: Any) -> None:
    spec = fit({name: ({"banding": 1 - labels["graininess"]}, views) for name, (labels, views) in SEPARABLE.items()})
    assert spec.clips == {"graininess": 0, "banding": 8}
    assert spec.auroc["banding"] == 0 and spec.experimental == ("banding",)  # the toy's logits rank the other way
    assert spec.spec.prevalence == {}  # so they are not calibrated


def test_the_others_keep_what_they_have(fit: Any) -> None:
    clips = {name: (labels | {"banding": labels["graininess"]}, views) for name, (labels, views) in SEPARABLE.items()}
    fitted = fit(clips, ("banding",))
    assert fitted.clips == {"banding": 8} and fitted.auroc == fitted.f1 == {"banding": 1.0}
    spec = fitted.spec
    assert spec.calibration["graininess"] == (9.0, 9.0) and spec.threshold["graininess"] == 0.9
    assert spec.aggregation["graininess"] == 0.25 and spec.calibration["banding"] != (1.0, 0.0)
    assert spec.prevalence == {"graininess": 0.75, "banding": 0.5}


def test_a_measured_task_is_calibrated_on_the_scores_of_files(fit: Any) -> None:
    """Its former calibration plays no part; without both classes it stays."""
    clips = {f"{i}.avi": ({"black_screen": int(i > 3), "frame_drop": 1}, [float(i)]) for i in range(8)}
    old = {"black_screen": (50.0, 1.0), "frame_drop": (2.0, 1.0)}
    fitted = fit(
        clips, ("black_screen", "frame_drop"), measured=("black_screen", "frame_drop"),
        calibration=old, threshold={"frame_drop": 0.7}, aggregation={}, prevalence={"frame_drop": 0.1},
    )  # fmt: skip
    a, b = fitted.spec.calibration["black_screen"]
    assert 3 < -b / a < 4 and fitted.auroc["black_screen"] == 1.0  # undecided between the classes
    assert calibrated(3.0, "black_screen", fitted.spec) < fitted.spec.threshold["black_screen"]
    assert fitted.spec.calibration["frame_drop"] == (2.0, 1.0) and fitted.spec.threshold["frame_drop"] == 0.7
    assert "black_screen" not in fitted.spec.aggregation
    assert fitted.spec.prevalence == {"black_screen": 0.5, "frame_drop": 0.1}


def test_a_measured_task_whose_scores_say_nothing_keeps_what_it_has(fit: Any) -> None:
    clips = {f"{i}.avi": ({"black_screen": i % 2}, [-8.0]) for i in range(8)}
    old = {
        "calibration": {"black_screen": (0.9, 0.1)},
        "threshold": {"black_screen": 0.6},
        "aggregation": {},
        "prevalence": {"black_screen": 0.3},
    }
    fitted = fit(clips, ("black_screen",), measured=("black_screen",), **old)
    assert fitted.spec.calibration == old["calibration"] and fitted.spec.threshold == old["threshold"]
    assert fitted.spec.prevalence == old["prevalence"]
    assert fitted.experimental == ("black_screen",)


def test_unknown_labels_and_broken_clips_take_no_part(fit: Any) -> None:
    more: dict[str, Any] = {"unknown.avi": ({"banding": 1}, [1.0, 1.0]), "broken.avi": ({"graininess": 1}, None)}
    assert fit({**SEPARABLE, **more}).clips == {"graininess": 8, "banding": 1}


def test_only_the_configuration_changes_and_as_a_whole(fit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    moves = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moves.append((self.parent, Path(target).name, json.loads(self.read_text())["grainscan"]["name"]))
        return replace(self, target)

    model = tmp_path / "model"
    graph = write_toy_model(model).joinpath("model.onnx").read_bytes()
    (model / "README.md").write_text("card")
    fit(SEPARABLE)
    assert (model / "README.md").read_text() == "card" and (model / "model.onnx").read_bytes() == graph
    assert sorted(path.name for path in model.iterdir()) == ["README.md", "config.json", "model.onnx"]

    values = json.loads((model / "config.json").read_text()) | {"hidden_size": 7}
    (model / "config.json").write_text(json.dumps(values))
    monkeypatch.setattr(Path, "replace", watched)
    module.write_spec(model, read_spec(model))
    assert moves == [(model, "config.json", "toy")]
    assert json.loads((model / "config.json").read_text())["hidden_size"] == 7
