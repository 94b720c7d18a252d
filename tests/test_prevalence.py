"""`--prevalence`: the share of files with an artifact. Probabilities follow it; labels and events stay."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeBlock, MakeClip
from scan_kit import plain, write_toy_model
from typer.testing import CliRunner

from grainscan.cli.app import app
from grainscan.data.labels import write_labels
from grainscan.errors import UsageError
from grainscan.evaluate.evaluation import evaluate
from grainscan.model.spec import find_model, read_spec
from grainscan.options import EvalConfig, PredictConfig
from grainscan.predict import predict
from grainscan.report.eval_tables import write_evaluation
from grainscan.results import fault_of
from grainscan.scan.prevalence import factor, move, moved, parse_prevalence
from grainscan.scan.scanner import Scanner, predict_video
from grainscan.video import write_clip

TASK, MEASURED, BARE = "graininess", "black_screen", "banding"
ASSUMED = {TASK: 0.6, MEASURED: 0.25}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(
        tmp_path / "model",
        measured=(MEASURED,),
        calibration={TASK: (2.0, 0.5), MEASURED: (1.0, 0.0)},
        threshold={TASK: 0.7, MEASURED: 0.8},
        prevalence=ASSUMED,
    )


@pytest.fixture
def clip(tmp_path: Path, make_block: MakeBlock) -> Path:
    """Brightness that wavers, so that probabilities do, and black frames in between."""
    block = make_block(frames=64, level=(60, 66))
    for first, level in ((8, 200), (16, 140), (24, 130), (32, 16), (40, 118), (48, 150)):
        block.planes[0][first : first + 8] = level
    write_clip(tmp_path / "a.avi", block)
    return tmp_path / "a.avi"


def logit(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))


def judged(model: Path, clip: Path, **options: Any) -> dict[str, Any]:
    with Scanner(model, workers=0, **options) as scanner:
        return plain(scanner.predict(clip))


# ------------------------------------------------------------------------------------------------------- arithmetic


def test_the_log_odds_are_shifted() -> None:
    by = factor(0.1, 0.6)
    for probability in (0.001, 0.3, 0.5, 0.999):
        assert logit(moved(probability, by)) == pytest.approx(logit(probability) + logit(0.1) - logit(0.6))
        assert moved(moved(probability, by), factor(0.6, 0.1)) == pytest.approx(probability)
    assert moved(0.6, by) == pytest.approx(0.1)  # what says nothing gets the prevalence
    assert (moved(0, by), moved(1, by), moved(-3, by), moved(1 / (1 - by), by)) == (0, 1, 0, 1)


def test_frequencies_are_met_where_the_artifact_is_rare() -> None:
    """Normal logits of two classes, for which the probability is exact at one half."""
    draw = np.random.default_rng(0)
    truth = draw.random(50_000) < 0.05
    score = draw.normal(np.where(truth, 1.0, -1.0))  # log-odds 2 * score
    before = 1 / (1 + np.exp(-2 * score))
    after = np.array([moved(each, factor(0.05, 0.5)) for each in before])
    assert before.mean() > 0.15 and after.mean() == pytest.approx(0.05, abs=0.004)
    likely = (after > 0.4) & (after < 0.6)
    assert truth[likely].mean() == pytest.approx(0.5, abs=0.06)


def test_the_flag_is_read() -> None:
    tasks = (TASK, BARE, MEASURED)
    assert parse_prevalence(None, tasks, ()) == {}
    assert parse_prevalence("0.1", tasks, ASSUMED) == {TASK: 0.1, MEASURED: 0.1}
    assert parse_prevalence("0.1, graininess = .02", tasks, ASSUMED) == {TASK: 0.02, MEASURED: 0.1}
    for wrong, message in {
        "much": "prevalence 'much' is not a number",
        "10": "prevalence 10 is not between 0.001 and 0.999",
        "nan": "prevalence nan is not between",
        f"{TASK}=0": "prevalence 0 is not between",
        "grainines=0.1": "prevalence of 'grainines': the model has no such task",
        f"{BARE}=0.1": "prevalence of 'banding': no record says",
    }.items():
        with pytest.raises(UsageError, match=message) as caught:
            parse_prevalence(wrong, tasks, ASSUMED)
        assert caught.value.hint
    with pytest.raises(UsageError, match=r"prevalence 0\.1: no record says which share"):
        parse_prevalence("0.1", tasks, ())


# ---------------------------------------------------------------------------------------------------------- scanning


@pytest.mark.parametrize("share", [0.004, 0.05, 0.6, 0.97])
def test_probabilities_move_and_labels_and_events_stay(model: Path, clip: Path, share: float) -> None:
    """Also where the margin of the events is wider than the new threshold is high."""
    options: dict[str, Any] = {"every": 0, "maps": True}
    before = judged(model, clip, **options)
    after = judged(model, clip, **options, prevalence={TASK: share, MEASURED: share})
    assert not fault_of(after)
    assert [before["tasks"][task]["prevalence"] for task in (TASK, MEASURED)] == [0.6, 0.25]
    for task, verdict in after["tasks"].items():
        old = before["tasks"][task]
        assert verdict["label"] == old["label"] and verdict.get("strength") == old.get("strength")
        if task == BARE:
            assert verdict == old
            continue
        by = factor(share, ASSUMED[task])
        assert verdict["prevalence"] == share
        for key in ("probability", "threshold"):
            assert verdict[key] == pytest.approx(moved(old[key], by), abs=1e-6)
    assert {task for task, verdict in after["tasks"].items() if verdict["label"]} >= {MEASURED}
    for key in ("windows", "map"):
        assert len(after[key]) == len(before[key]) > 1
        for new, old in zip(after[key], before[key], strict=True):
            assert new[TASK] == pytest.approx(moved(old[TASK], factor(share, 0.6)), abs=1e-6)
            assert new[BARE] == old[BARE]
    assert len({each["task"] for each in before["events"]}) > 1
    times = [[(each["task"], each["start"], each["end"]) for each in row["events"]] for row in (before, after)]
    assert times[0] == times[1]
    for new, old in zip(after["events"], before["events"], strict=True):
        by = factor(share, ASSUMED[new["task"]]) if new["task"] in ASSUMED else 1.0
        assert new["probability"] == pytest.approx(moved(old["probability"], by), abs=1e-6)


def test_the_prevalence_of_the_calibration_changes_nothing(model: Path, clip: Path) -> None:
    assert judged(model, clip, prevalence=ASSUMED) == judged(model, clip)


def test_a_threshold_is_in_the_new_probabilities(model: Path, clip: Path) -> None:
    shares = {TASK: 0.05, MEASURED: 0.01}
    tasks = judged(model, clip, prevalence=shares)["tasks"]
    for task in shares:
        for threshold in (tasks[task]["probability"] * 0.9, min(0.99, tasks[task]["probability"] * 1.1)):
            threshold = round(threshold, 6)
            verdict = judged(model, clip, prevalence=shares, thresholds={task: threshold})["tasks"][task]
            assert verdict["threshold"] == threshold
            assert verdict["label"] == (verdict["probability"] >= threshold)
    label, confidence = predict_video(clip, model=model, workers=0, prevalence=shares)
    assert label == tasks[TASK]["label"] and 0.5 <= confidence <= 1


def test_what_has_no_record_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no record says which share"):
        Scanner(model, prevalence={BARE: 0.1})
    with pytest.raises(UsageError, match="prevalence 1 is not between"):
        Scanner(model, prevalence={TASK: 1})
    old = write_toy_model(tmp_path / "old")
    for given in ("0.1", f"{TASK}=0.1"):
        done = CliRunner().invoke(app, ["predict", "a.avi", "--model", str(old), "--prevalence", given])
        said = " ".join(done.stderr.split())
        assert done.exit_code == 2 and "no record says which share of the clips of the calibration had it" in said
        assert "hint: A model that `grainscan train` calibrated on val clips records it" in said


@pytest.mark.parametrize(("given", "told"), [("0.1", True), (f"0.1,{TASK}=0.2", True), (f"{TASK}=0.1", False)])
def test_what_a_share_for_all_does_not_reach_is_said_once(model: Path, clip: Path, given: str, told: bool) -> None:
    note = f"--prevalence {given} leaves {BARE} as before: no record says which share of the clips of the calibration"
    labels = clip.parent / "labels.json"
    labels.write_text(json.dumps({clip.name: {TASK: 1, BARE: 0}}))
    for command in (["predict", str(clip)], ["eval", str(clip.parent), "--bootstrap", "0"]):
        words = [*command, "--model", str(model), "--prevalence", given, "--workers", "0", "-f", "json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0 and json.loads(done.stdout)
        assert " ".join(done.stderr.split()).count(note) == told
    alone = ["predict", str(clip), "--model", str(model), "--prevalence", given, "--tasks", TASK, "--workers", "0"]
    assert "--prevalence" not in CliRunner().invoke(app, alone).stderr


def test_the_embedded_model_has_a_record_of_all_that_was_calibrated() -> None:
    spec = read_spec(find_model("small"))
    assert set(spec.prevalence) == set(spec.calibration) == set(spec.judged) - {"frame_drop"}


# ------------------------------------------------------------------------------------------------------------- logs


@pytest.fixture
def config(model: Path, clip: Path, tmp_path: Path) -> PredictConfig:
    return PredictConfig(inputs=(str(clip),), model=str(model), workers=0, every=0, output=tmp_path / "scan.jsonl")


def rows_of(config: PredictConfig) -> list[dict[str, Any]]:
    stream = io.StringIO()
    predict(replace(config, output=None, format="jsonl"), stdout=stream)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_scan_is_not_continued_with_another_prevalence(config: PredictConfig) -> None:
    for given in (None, "0.1", f"0.1,{TASK}=0.2"):
        wanted = replace(config, prevalence=given)
        if given:
            with pytest.raises(UsageError, match="other options"):
                predict(wanted, stdout=io.StringIO())
        predict(replace(wanted, overwrite=True), stdout=io.StringIO())
        assert predict(wanted, stdout=io.StringIO()).skipped == 1
    assert config.output is not None
    tasks = json.loads(config.output.read_text())["tasks"]
    assert (tasks[TASK]["prevalence"], tasks[MEASURED]["prevalence"], "prevalence" in tasks[BARE]) == (0.2, 0.1, False)


def test_a_finished_scan_is_moved_without_decoding(config: PredictConfig, clip: Path) -> None:
    (direct,) = rows_of(replace(config, prevalence="0.02", threshold=f"{MEASURED}=0.3"))
    predict(replace(config, prevalence=f"{TASK}=0.4"), stdout=io.StringIO())
    clip.unlink()
    log = replace(config, inputs=(str(config.output),), model=None, every=None)
    (row,) = rows_of(replace(log, prevalence="0.02", threshold=f"{MEASURED}=0.3"))
    assert "settings" not in row  # no scan takes it for its own
    assert row["tasks"].keys() == direct["tasks"].keys()
    for task, verdict in row["tasks"].items():
        assert verdict == pytest.approx(direct["tasks"][task], abs=1e-5)
    for key in ("windows", "events"):
        for new, old in zip(row[key], direct[key], strict=True):
            assert {k: v for k, v in new.items() if k != "timecode"} == pytest.approx(
                {k: v for k, v in old.items() if k != "timecode"}, abs=1e-5
            )
    page = config.inputs[0] + ".html"
    predict(replace(log, prevalence="0.02", output=Path(page)), stdout=io.StringIO())
    assert "share of files with an artifact, set by hand" in Path(page).read_text()


def test_rows_without_a_record_are_refused(config: PredictConfig, tmp_path: Path) -> None:
    predict(config, stdout=io.StringIO())
    log = tmp_path / "scan.jsonl"
    row = json.loads(log.read_text())
    broken = tmp_path / "broken.jsonl"
    for wrong in (0, 1, "0.1", True):
        row["tasks"][TASK]["prevalence"] = wrong
        assert fault_of(row) == "its verdicts cannot be read"
    del row["tasks"][TASK]["prevalence"]
    broken.write_text(json.dumps({**row, "path": "b.avi"}) + "\n")
    both = replace(config, inputs=(str(log), str(broken)), every=None)
    with pytest.raises(UsageError, match="prevalence of 'graininess': no record says"):
        rows_of(replace(both, prevalence=f"{TASK}=0.1"))
    rows = rows_of(replace(both, prevalence="0.1"))
    assert [(each["tasks"][TASK].get("prevalence"), each["tasks"][MEASURED]["prevalence"]) for each in rows] == [
        (0.6, 0.1), (None, 0.1),
    ]  # fmt: skip
    row["tasks"][MEASURED]["probability"] = 7.0
    move(row, {MEASURED: 0.1})
    assert row["tasks"][MEASURED]["probability"] == 1


def test_a_page_says_which_prevalence_was_set(config: PredictConfig, tmp_path: Path) -> None:
    for given in (None, "0.1"):
        predict(replace(config, prevalence=given, output=tmp_path / "page.html", pictures=0), stdout=io.StringIO())
        text = (tmp_path / "page.html").read_text()
        assert ("share of files with an artifact, set by hand" in text) == (given is not None)
    assert "graininess 0.1, black screen 0.1" in text


# ------------------------------------------------------------------------------------------------------------- eval


def test_eval_measures_the_moved_probabilities(
    model: Path, make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = {"a.avi": (180, 220), "b.avi": (110, 120), "c.avi": (100, 110), "d.avi": (90, 100)}
    for name, level in levels.items():
        make_clip(f"data/{name}", level=level)
    write_labels(tmp_path / "data", {name: {TASK: int(name == "a.avi")} for name in levels})
    other = write_toy_model(tmp_path / "other")
    config = EvalConfig(data=tmp_path / "data", model=str(model), workers=0, bootstrap=0, compare=str(other))
    plain, rare = (evaluate(each) for each in (config, replace(config, prevalence="0.25")))
    old, new = plain.tasks[TASK], rare.tasks[TASK]
    assert (old.confusion, old.auroc) == (new.confusion, new.auroc)
    assert (old.prevalence, old.assumed_prevalence, new.assumed_prevalence) == (0.25, 0.6, 0.25)
    assert new.threshold == pytest.approx(moved(old.threshold, factor(0.25, 0.6)), abs=1e-6)
    assert old.ece is not None and new.ece is not None and old.brier is not None and new.brier is not None
    assert new.ece < old.ece and new.brier < old.brier
    write_evaluation(rare)
    assert "prevalence 0.25; the probabilities assume 0.25" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no record says"):
        evaluate(replace(config, model=str(other), compare=None, prevalence="0.2"))
