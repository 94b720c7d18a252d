"""The Python interface: `predict_video`, `Scanner`, and the errors that they raise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import MakeClip
from hypothesis import given
from hypothesis import strategies as st
from scan_kit import plain, write_toy_model

import grainscan
from grainscan import GrainscanError, ModelNotFoundError, Scanner, UsageError, VideoError, errors, predict_video
from grainscan.scan.scanner import confidence_of

PARTS = st.floats(0, 1)


@given(PARTS, PARTS)
def test_confidence_is_that_of_the_class_returned(probability: float, threshold: float) -> None:
    assert 0.5 <= confidence_of(probability, threshold) <= 1


@given(PARTS)
def test_confidence_is_the_probability_of_the_class_at_a_threshold_of_one_half(probability: float) -> None:
    assert confidence_of(probability, 0.5) == pytest.approx(max(probability, 1 - probability))


@given(st.floats(0.01, 0.99))
def test_confidence_is_one_half_at_the_threshold_and_one_at_the_ends(threshold: float) -> None:
    assert confidence_of(threshold, threshold) == 0.5
    assert confidence_of(0, threshold) == confidence_of(1, threshold) == pytest.approx(1)
    assert confidence_of((1 + threshold) / 2, threshold) == pytest.approx(0.75)
    assert confidence_of(threshold / 2, threshold) == pytest.approx(0.75)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
def test_predict_video_with_any_threshold(tmp_path: Path, make_clip: MakeClip, threshold: float) -> None:
    model, clip = write_toy_model(tmp_path / "model"), make_clip("a.avi", level=(100, 160))
    with Scanner(model, workers=0) as scanner:
        probability = scanner.predict(clip)["tasks"]["graininess"]["probability"]
    label, confidence = predict_video(clip, model=model, workers=0, thresholds={"graininess": threshold})
    assert label == (probability >= threshold)
    assert confidence == confidence_of(probability, threshold) >= 0.5


def test_predict_video_takes_the_embedded_model_wherever_it_is_called(make_clip: MakeClip) -> None:
    clip = make_clip("a.avi", width=160, height=128, frames=12, grain=14)
    with Scanner("small", workers=0) as scanner:
        verdict = scanner.predict(clip)["tasks"]["graininess"]
    assert predict_video(clip, workers=0) == (1, confidence_of(verdict["probability"], verdict["threshold"]))


@pytest.fixture
def library(make_clip: MakeClip, tmp_path: Path) -> Path:
    for name in ("c.avi", "a.avi", "sub/b.avi"):
        make_clip(f"library/{name}")
    (tmp_path / "library" / "notes.txt").write_text("not a video")
    return tmp_path / "library"


def test_a_string_is_one_path_and_means_what_it_means_on_the_command_line(library: Path, tmp_path: Path) -> None:
    with Scanner(write_toy_model(tmp_path / "model"), workers=0) as scanner:
        for one in (str(library / "a.avi"), library / "a.avi"):
            (row,) = scanner.scan(one)
            assert (row["path"], row["status"]) == (str(library / "a.avi"), "ok")
        whole = [str(library / name) for name in ("a.avi", "c.avi", "sub/b.avi")]
        assert [row["path"] for row in scanner.scan(library)] == whole
        assert [row["path"] for row in scanner.scan(f"{library}/**/*.avi")] == whole
        assert [plain(row) for row in scanner.scan([library / "a.avi"])] == [plain(scanner.predict(library / "a.avi"))]


def test_results_of_a_list_are_in_its_order(library: Path, tmp_path: Path) -> None:
    a, b, c = (str(library / name) for name in ("a.avi", "sub/b.avi", "c.avi"))
    with Scanner(write_toy_model(tmp_path / "model"), workers=0) as scanner:
        assert [row["path"] for row in scanner.scan([c, a, c])] == [c, a, c]
        assert [row["path"] for row in scanner.scan(iter([c, library, a]))] == [c, a, c, b, a]
        assert [row["path"] for row in scanner.scan([f"{library}/*.avi", b])] == [a, c, b]
        assert [row["status"] for row in scanner.scan([a, library / "gone.avi"])] == ["ok", "error"]
        assert list(scanner.scan([])) == []


def test_nothing_to_judge_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Scanner(write_toy_model(tmp_path / "model"), workers=0) as scanner:
        for nothing, said in ((tmp_path / "empty", "no videos in"), (f"{tmp_path}/*.mov", "no file matches")):
            with pytest.raises(UsageError, match=said):
                list(scanner.scan(nothing))


def test_predict_judges_one_file_and_refuses_a_folder_of_several(library: Path, tmp_path: Path) -> None:
    with Scanner(write_toy_model(tmp_path / "model")) as scanner, pytest.raises(VideoError, match="is a folder"):
        scanner.predict(library)


def test_a_missing_model_is_a_usage_error(tmp_path: Path) -> None:
    for name in (tmp_path / "nowhere", "last"):
        with pytest.raises(ModelNotFoundError) as caught:
            Scanner(name)
        assert caught.value.exit_code == UsageError.exit_code
        assert "small" in caught.value.hint


def test_every_error_can_be_imported_from_the_package() -> None:
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    raised = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert raised <= set(grainscan.__all__)
    for name in raised - {"Interrupted"}:
        assert issubclass(getattr(grainscan, name), GrainscanError)
