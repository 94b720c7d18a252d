"""Evaluation through the real scanner, with a toy model that takes brightness for grain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Seen, scene_block
from scan_kit import write_toy_model

from grainscan.errors import DataError, LabelsError, ModelError, OutputError, UsageError
from grainscan.evaluate import figures, metrics, plots
from grainscan.evaluate.evaluation import evaluate
from grainscan.evaluate.judging import Judged, Sample
from grainscan.evaluate.thresholds import ChosenPoint, OperatingPoint, operate, to_logits
from grainscan.model.last_run import remember_run
from grainscan.options import EvalConfig
from grainscan.scan.scanner import Scanner
from grainscan.video import write_clip
from grainscan.views.estimators import ESTIMATORS

# name: (lowest and highest luma, graininess). The toy model calls bright clips grainy, so d_dark is missed.
CLIPS = {
    "a_bright.avi": ((190, 220), 1),
    "b_bright.avi": ((170, 200), 1),
    "c_dark.avi": ((40, 70), 0),
    "d_dark.avi": ((60, 90), 1),
    "e_middling.avi": ((100, 106), 0),
}


def write_folder(folder: Path, clips: dict[str, tuple[tuple[int, int], int]] = CLIPS, **manifest: Any) -> Path:
    folder.mkdir(parents=True)
    for number, (name, (level, label)) in enumerate(clips.items()):
        block = scene_block(frames=8, width=96, height=64, level=level, grain=8.0 * label, seed=number)
        write_clip(folder / name, block)
    (folder / "labels.json").write_text(json.dumps({name: {"graininess": label} for name, (_, label) in clips.items()}))
    if manifest:
        (folder / "manifest.json").write_text(json.dumps({"schema": 1, "clips": manifest}))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_toy_model(tmp_path / "toy"))


@pytest.fixture
def config(tmp_path: Path, model: str) -> EvalConfig:
    return EvalConfig(
        model=model, data=write_folder(tmp_path / "data" / "test"), workers=0, device="cpu", bootstrap=50, mistakes=2
    )


def test_report_keeps_the_contract(config: EvalConfig) -> None:
    report = evaluate(config).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["schema"] == 1 and report["split"] == "test" and report["clips"] == 5 and report["errors"] == []
    assert report["model"] == "toy" and list(report["tasks"]) == ["graininess"]
    block = report["tasks"]["graininess"]
    for key in (*metrics.FIGURES, "threshold", "prevalence", "confusion", "ci95", "baseline"):
        assert key in block
    assert block["confusion"] == [[2, 0], [1, 2]]
    assert block["recall"] == pytest.approx(2 / 3) and block["precision"] == 1 and block["prevalence"] == 0.6
    assert block["auroc"] == pytest.approx(5 / 6)  # d_dark outranks c_dark, not e_middling
    assert set(block["ci95"]) == set(metrics.FIGURES) and block["ci95"]["accuracy"][0] < 0.8
    assert [mistake["name"] for mistake in block["mistakes"]] == ["d_dark.avi"]
    assert sum(row["clips"] for row in block["reliability"]) == 5
    assert "sources" not in block and "strength" not in block and "compare" not in report


def test_figures_are_those_of_predict(config: EvalConfig) -> None:
    with Scanner(config.model, workers=0) as scanner:
        results = list(scanner.scan(str(config.data / name) for name in CLIPS))
    probabilities = [result["tasks"]["graininess"]["probability"] for result in results]
    expected = metrics.scores([label for _, label in CLIPS.values()], probabilities, 0.5)
    block = evaluate(config).tasks["graininess"]
    assert {key: getattr(block, key) for key in expected} == expected


def test_baselines_are_measured_beside_the_model(config: EvalConfig) -> None:
    baseline = evaluate(config).tasks["graininess"].baseline
    assert set(baseline.all) == set(ESTIMATORS)
    assert baseline.name == "temporal" and baseline.auroc == baseline.all["temporal"]
    assert baseline.auroc == 1.0  # the grain is real, whatever the brightness
    assert baseline.strongest.auroc == max(baseline.all.values())
    assert len(baseline.ci95["auroc"]) == 2


def test_a_clip_that_cannot_be_decoded_leaves_the_figures(config: EvalConfig) -> None:
    (config.data / "d_dark.avi").write_bytes(b"not a video")
    report = evaluate(config)
    assert report.clips == 4
    assert report.tasks["graininess"].recall == 1.0
    (error,) = report.errors
    assert error["name"] == "d_dark.avi" and error["type"] == "VideoError" and error["message"] and "hint" in error


def test_no_clip_can_be_decoded(config: EvalConfig) -> None:
    for name in CLIPS:
        (config.data / name).write_bytes(b"")
    report = evaluate(config)
    assert report.clips == 0 and len(report.errors) == 5
    assert report.tasks["graininess"].auroc is None and report.tasks["graininess"].baseline is None


def test_unknown_labels_take_no_part(config: EvalConfig) -> None:
    labels = {name: {"graininess": label} for name, (_, label) in CLIPS.items()}
    labels["d_dark.avi"] = {"graininess": None, "banding": 1, "aliasing": 0}
    labels["c_dark.avi"] = {"graininess": None, "aliasing": 1}
    (config.data / "labels.json").write_text(json.dumps(labels))
    report = evaluate(config)
    assert report.clips == 4  # c_dark has no label for what the model judges
    assert report.tasks["graininess"].clips == 3 and report.tasks["banding"].clips == 1
    assert report.tasks["banding"].auroc is None and report.tasks["banding"].baseline is None
    assert report.not_judged == ["aliasing"]


def test_model_and_labels_without_a_common_task(config: EvalConfig) -> None:
    (config.data / "labels.json").write_text(json.dumps({name: {"aliasing": 0} for name in CLIPS}))
    with pytest.raises(DataError, match="no label") as caught:
        evaluate(config)
    assert "aliasing" in caught.value.hint


def test_manifest_gives_strength_and_sources(tmp_path: Path, model: str) -> None:
    entries = {
        "a_bright.avi": {"source": "one", "strength": {"graininess": 8.0}},
        "b_bright.avi": {"source": "two", "strength": {"graininess": 7.0}},
        "c_dark.avi": {"source": "one", "strength": {"graininess": 0.0}},
        "d_dark.avi": {"source": "two", "strength": {"graininess": None}},
        "e_middling.avi": {"source": "three"},
    }
    data = write_folder(tmp_path / "data", **entries)
    report = evaluate(EvalConfig(model=model, data=data, workers=0, bootstrap=50))
    assert report.split == "data"
    block = report.tasks["graininess"]
    assert block.strength.clips == 3 and block.strength.spearman == pytest.approx(1.0)
    assert block.strength.median_error > 0
    assert list(block.sources) == ["two", "three", "one"]  # the only mistake is of two; then by Brier score
    assert block.sources["two"].accuracy == 0.5 and block.sources["two"].auroc is None
    one = block.sources["one"]
    assert (one.clips, one.positives, one.accuracy, one.auroc) == (2, 1, 1.0, 1.0)
    assert block.mistakes[0].source == "two"


def test_operating_point_comes_from_val(tmp_path: Path, config: EvalConfig) -> None:
    val = {"v1.avi": ((190, 220), 1), "v2.avi": ((60, 90), 1), "v3.avi": ((20, 40), 0), "v4.avi": ((18, 30), 0)}
    write_folder(tmp_path / "data" / "val", val)
    config = replace(config, data=tmp_path / "data", split="test", operating_point="recall=0.9")
    block = evaluate(config).tasks["graininess"]
    with Scanner(config.model, workers=0) as scanner:
        probability = {
            name: scanner.predict(tmp_path / "data" / "val" / name)["tasks"]["graininess"]["probability"]
            for name in val
        }
    assert block.threshold == pytest.approx((probability["v2.avi"] + probability["v3.avi"]) / 2)
    assert block.recall == 1.0
    assert block.operating_point == ChosenPoint("recall=0.9", "val", 4)
    assert block.calibration.temperature > 0 and block.calibration.split == "val"


def test_a_task_whose_operating_point_is_out_of_reach_keeps_its_threshold(
    tmp_path: Path, config: EvalConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / "data" / "val", {name: CLIPS[name] for name in ("a_bright.avi", "c_dark.avi")})
    for split in ("val", "test"):
        path = tmp_path / "data" / split / "labels.json"
        labels = {name: {**known, "banding": 0} for name, known in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(labels))
    report = evaluate(replace(config, data=tmp_path / "data", split="test", operating_point="f1"))
    assert report.tasks["banding"].threshold == 0.5 and report.tasks["banding"].operating_point is None
    assert report.tasks["graininess"].operating_point.name == "f1"
    assert "banding on val" in caplog.text


def test_operating_point_without_val(config: EvalConfig) -> None:
    with pytest.raises(LabelsError, match="val"):
        evaluate(replace(config, operating_point="f1"))


def test_operating_point_out_of_reach_names_the_task() -> None:
    sample = Sample("banding", ["a", "b"], np.array([0, 1]), np.array([0.9, 0.1]), np.zeros(2, bool), None)
    with pytest.raises(DataError, match="banding on val"):
        operate(OperatingPoint("precision", 0.9), sample)


def test_compare_with_another_model(tmp_path: Path, config: EvalConfig) -> None:
    other = write_toy_model(tmp_path / "other", name="other", tasks=("banding", "graininess"), strength={})
    report = evaluate(replace(config, compare=str(other), plots=tmp_path / "plots"))
    block = report.compare.tasks["graininess"]
    assert report.compare.model == "other" and block.clips == 5
    assert block.auroc == [pytest.approx(5 / 6), pytest.approx(1 / 6)]  # its graininess falls with brightness
    assert block.difference == pytest.approx(2 / 3)
    assert len(block.ci95) == 2 and 0 < block.p_value <= 1
    with pytest.raises(ModelError):
        evaluate(replace(config, compare="nowhere"))


def test_plots(tmp_path: Path, config: EvalConfig) -> None:
    report = evaluate(replace(config, plots=tmp_path / "deep" / "plots"))
    names = [f"graininess_{kind}.png" for kind in ("roc", "pr", "reliability")]
    assert [Path(path).name for path in report.plots] == names
    assert sorted(path.name for path in (tmp_path / "deep" / "plots").iterdir()) == sorted(names)
    for path in report.plots:
        assert Path(path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_long_names_are_folded_and_stay_inside_the_picture(tmp_path: Path) -> None:
    truth, name = np.array([0, 1, 0, 1]), "a_model_trained_on_" + "everything_" * 9 + "$v2$"
    scores = {name: np.array([0.1, 0.9, 0.6, 0.4]), "baseline temporal": np.array([0.2, 0.3, 0.4, 0.5])}
    for draw in (plots._roc, plots._pr):
        figure = draw("a_task_of_the_users_own_with_a_name_of_two_lines", truth, scores, 0.5)
        plots.save_figure(figure, tmp_path / "a.png")
        figure.canvas.draw()  # at the resolution of the figure, in which extents are measured
        for artist in (figure.legends[0], figure.axes[0].title):
            box = artist.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_a_folder_for_plots_that_cannot_be_made_is_refused_before_the_work(config: EvalConfig) -> None:
    seen: list[tuple[int, int, str]] = []
    with pytest.raises(OutputError, match=r"labels\.json"):
        evaluate(
            replace(config, plots=config.data / "labels.json" / "plots"), progress=lambda *message: seen.append(message)
        )
    assert not seen


def test_progress_counts_the_clips(config: EvalConfig) -> None:
    seen = Seen()
    evaluate(config, progress=seen)
    assert seen.stages == [("toy on test", 5)]
    assert [done for _, done, _ in seen.steps] == [1, 2, 3, 4, 5]


def test_model_and_data_of_the_last_run(tmp_path: Path, config: EvalConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no data"):
        evaluate(replace(config, data=None, model=None))
    write_toy_model(tmp_path / "runs" / "first" / "model", name="trained")
    remember_run(tmp_path / "runs" / "first", tmp_path / "data")
    report = evaluate(EvalConfig(split="test", workers=0, bootstrap=0))
    assert report.model == "trained" and report.clips == 5
    assert all(interval is None for interval in report.tasks["graininess"].ci95.values())
    assert evaluate(replace(config, data=None, split="test")).model == "toy"


def test_mistakes_are_the_farthest_and_no_more_than_asked() -> None:
    sample = Sample(
        "graininess", list("abcd"), np.array([0, 0, 1, 1]), np.array([0.6, 0.9, 0.2, 0.8]), np.zeros(4, bool), None
    )
    assert [row.name for row in figures._mistakes(sample, 0.5, 2)] == ["b", "c"]
    assert [row.name for row in figures._mistakes(sample, 0.5, 9)] == ["b", "c", "a"]


def test_logits_of_rounded_probabilities_are_finite() -> None:
    assert to_logits(np.array([0.0, 0.5, 1.0])) == pytest.approx([-13.815, 0, 13.815], abs=1e-3)


def test_clips_of_another_folder_are_not_mixed_up() -> None:
    judged = Judged("toy", ("graininess",), {"graininess": 0.5})
    judged.record("a", {"status": "error", "path": "x/a", "error": {"type": "VideoError", "message": "m", "hint": ""}})
    assert judged.errors == [{"name": "a", "path": "x/a", "type": "VideoError", "message": "m", "hint": ""}]
    assert not judged.probability
