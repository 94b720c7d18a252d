"""`--min-strength`: from which strength on an artifact counts. The label follows it, the probability stays."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip
from scan_kit import toy_spec, write_toy_model
from test_report import written

from grainscan.data.labels import write_labels
from grainscan.errors import ConfigError, UsageError
from grainscan.evaluate.evaluation import evaluate
from grainscan.options import EvalConfig, PredictConfig
from grainscan.predict import predict
from grainscan.report.findings import stretches
from grainscan.report.page import _Data
from grainscan.report.selection import margin
from grainscan.results import fault_of
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import aggregate, parse_strengths
from grainscan.scan.scanner import Scanner

TASK = "graininess"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "model")


@pytest.fixture
def clip(make_clip: MakeClip) -> Path:
    return make_clip("a.avi", level=(160, 220))  # bright, which the toy model takes for grain of strength 1 to 2


def verdict(strength: float, least: float) -> dict[str, Any]:
    outputs = Outputs(np.full((2, 2), 3, np.float32), np.full((2, 2), np.log2(1 + strength)))
    return dict(aggregate(outputs, toy_spec(), min_strength={TASK: least})[TASK])


def test_a_weak_artifact_is_likely_and_does_not_count() -> None:
    assert verdict(1.9, 2)["label"] == 0
    assert verdict(2.0, 2)["label"] == 1
    assert verdict(1.9, 2)["probability"] == verdict(2.0, 2)["probability"] > 0.9
    assert verdict(1.9, 2)["min_strength"] == 2


def test_the_flag_is_read() -> None:
    assert parse_strengths(" graininess=2, banding = 0.5") == {TASK: 2.0, "banding": 0.5}
    assert parse_strengths(None) == {}
    for wrong in ("2", "graininess", "graininess=much", "graininess=-1", "graininess=nan", "=2"):
        with pytest.raises(UsageError, match="minimum strength"):
            parse_strengths(wrong)


def test_a_wrong_flag_says_what_is_wrong() -> None:
    for wrong in ("2", "graininess"):
        with pytest.raises(UsageError, match="names no task"):
            parse_strengths(wrong)
    for value in ("-1", "much", "nan", ""):
        with pytest.raises(UsageError, match=f"minimum strength of 'graininess' is '{value}'") as caught:
            parse_strengths(f"graininess={value}")
        assert "at least 0" in caught.value.hint


def test_tasks_without_a_strength_are_refused(model: Path, clip: Path) -> None:
    for task in ("banding", "dust"):
        with pytest.raises(UsageError, match="no strength is measured") as caught:
            Scanner(model, min_strength={task: 1.0})
        assert TASK in caught.value.hint
        config = PredictConfig(inputs=(str(clip),), model=str(model), workers=0, min_strength=f"{task}=1")
        with pytest.raises(UsageError, match="no strength is measured"):
            predict(config, stdout=io.StringIO())
    with pytest.raises(UsageError, match="no strength is measured"):
        Scanner(model, tasks=["banding"], min_strength={TASK: 1.0})


def test_a_scan_and_its_log_are_relabelled(model: Path, clip: Path, tmp_path: Path) -> None:
    plain = PredictConfig(
        inputs=(str(clip),), model=str(model), workers=0, output=tmp_path / "scan.jsonl", fail_on=TASK, tasks=TASK
    )
    strict = replace(plain, output=tmp_path / "strict.jsonl", min_strength=f"{TASK}=50")
    codes = [predict(config, stdout=io.StringIO()).exit_code(config.fail_on) for config in (plain, strict)]
    assert codes == [3, 0]
    again = replace(plain, inputs=(str(tmp_path / "scan.jsonl"),), output=None, min_strength=f"{TASK}=50")
    (row,) = predict(again, stdout=io.StringIO()).rows
    assert row["tasks"][TASK]["label"] == 0
    assert row["tasks"][TASK]["min_strength"] == 50
    looser = replace(again, inputs=(str(tmp_path / "strict.jsonl"),), min_strength=f"{TASK}=0")
    (row,) = predict(looser, stdout=io.StringIO()).rows
    assert row["tasks"][TASK]["label"] == 1


def test_it_is_part_of_the_fingerprint(model: Path) -> None:
    marks = {Scanner(model, min_strength=least).fingerprint for least in (None, {TASK: 1.0}, {TASK: 2.0})}
    assert len(marks) == 3


def test_reports_follow_the_label(model: Path, clip: Path) -> None:
    with Scanner(model, workers=0, min_strength={TASK: 50}) as scanner:
        row = scanner.predict(clip)
    assert row["tasks"][TASK]["probability"] > row["tasks"][TASK]["threshold"]
    assert margin(row["tasks"][TASK]) == 0 and not stretches(row, [TASK])
    assert not fault_of(row)
    (file,) = _Data([row], [TASK], {}).to_dict()["files"]
    assert file["x"] == [0] and "l" not in file
    del row["tasks"][TASK]["strength"]
    assert fault_of(row)


def test_the_table_says_why_a_likely_artifact_does_not_count(model: Path, clip: Path) -> None:
    with Scanner(model, workers=0, min_strength={TASK: 50}) as scanner:
        row = scanner.predict(clip)
    block = row["tasks"][TASK]
    block["strength"] = 49.98
    text = written([row], "table")
    assert f"graininess {block['probability']:.2f} (49.9)" in text  # not 50.0, which would count
    assert "minimum strength: graininess 50; --min-strength sets others" in text and "thresholds" not in text
    alone = written([row], "table", tasks=[TASK])
    assert " 49.9 " in alone and "minimum strength: graininess 50; " in alone
    block["probability"] = 0.3  # unlikely, too
    assert "minimum strength" not in written([row], "table")


def test_eval_counts_weak_clips_as_clean(model: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    for name, level in (("a.avi", (160, 220)), ("b.avi", (20, 40))):
        make_clip(f"data/{name}", level=level)
    write_labels(tmp_path / "data", {"a.avi": {TASK: 1}, "b.avi": {TASK: 0}})
    config = EvalConfig(data=tmp_path / "data", model=str(model), workers=0, bootstrap=20, tasks=TASK)
    plain, strict = (evaluate(each).tasks[TASK] for each in (config, replace(config, min_strength=f"{TASK}=50")))
    assert (plain.confusion, strict.confusion) == ([[1, 0], [0, 1]], [[1, 0], [1, 0]])
    assert (plain.accuracy, strict.accuracy, strict.recall) == (1, 0.5, 0)
    assert plain.auroc == strict.auroc == 1
    assert [mistake.name for mistake in strict.mistakes] == ["a.avi"]
    assert (strict.to_dict()["min_strength"], "min_strength" in plain.to_dict()) == (50, False)
    with pytest.raises(ConfigError, match="does not go with"):
        replace(config, min_strength=f"{TASK}=2", operating_point="f1")
