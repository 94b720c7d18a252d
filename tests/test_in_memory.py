"""From Python: clips in memory, open files, and results that notebooks show."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip, scene_block
from scan_kit import plain, write_toy_model

from grainscan import DependencyError, Results, Scanner, UsageError, VideoError, predict_video
from grainscan.scan.decode import Job, Piece, read_pieces
from grainscan.video import Pictures, write_clip
from grainscan.views.crops import ViewSpec

TASK = "graininess"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "model")


def rgb(kind: str = "uint8", frames: int = 30) -> np.ndarray[Any, Any]:
    """A scene (frames, 64, 96, 3)."""
    pix_fmt = "gbrp" if kind == "uint8" else "gbrp16le"
    array = np.stack(scene_block(frames, 96, 64, pix_fmt=pix_fmt, grain=4).planes, axis=-1)
    return (array / 65535).astype(kind) if kind.startswith("float") else array


def without_place(row: Any) -> dict[str, Any]:
    kept = {key: value for key, value in plain(row).items() if key not in ("path", "file")}
    return kept | {"video": {key: value for key, value in row["video"].items() if key not in ("codec", "pix_fmt")}}


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_no_pixel_changes(kind: str) -> None:
    array, job = rgb(kind, frames=9), Job(ViewSpec(frames=4, size=32, windows=1, crops=2))
    piece, video = read_pieces(Pictures.of("array 0", array, 25), job)
    assert isinstance(piece, Piece) and isinstance(video, dict)
    first = round(piece.start * 25)
    top = 255 if kind == "uint8" else 65535 if kind == "uint16" else 1
    for (x, y), view in zip(piece.boxes, piece.views, strict=True):
        cut = array[first : first + 4, y : y + 32, x : x + 32].transpose(0, 3, 1, 2) / top
        assert np.abs(view - cut).max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"every": 0.4}, {"every": 0}, {"maps": True, "baseline": True}])
def test_an_array_is_judged_as_the_file_that_holds_it(model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    block = scene_block(30, 96, 64, pix_fmt="gbrp", grain=4)
    write_clip(tmp_path / "a.avi", block, fps=Fraction(24), gop=1)
    with Scanner(model, workers=0, **options) as scanner:
        from_file = scanner.predict(tmp_path / "a.avi")
        from_array = scanner.predict(np.stack(block.planes, axis=-1), fps=24)
    assert without_place(from_array) == without_place(from_file)
    assert (from_array["path"], from_array["video"]["codec"]) == ("array 0", None)
    assert "file" not in from_array and json.dumps(from_array)


def test_arrays_files_and_paths_in_one_scan(model: Path, make_clip: MakeClip) -> None:
    path = make_clip("a.avi", width=96, height=64)
    with Scanner(model, workers=2) as scanner, path.open("rb") as opened:
        rows = list(
            scanner.scan([rgb(), path, opened, io.BytesIO(path.read_bytes()), io.BytesIO(b"no"), rgb("uint16")])
        )
    assert [row["path"] for row in rows] == ["array 0", str(path), str(path), "file 3", "file 4", "array 5"]
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["error", "ok"]
    assert without_place(rows[1]) == without_place(rows[2]) == without_place(rows[3])
    assert rows[4]["error"]["message"].startswith("file 4: ")


def test_an_open_file_leaves_nothing_behind(
    model: Path, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, spool = make_clip("a.avi"), tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    closed = io.BytesIO(b"")
    closed.close()
    for workers in (0, 1):
        with Scanner(model, workers=workers) as scanner:
            assert scanner.predict(io.BytesIO(path.read_bytes()))["status"] == "ok"
            with pytest.raises(VideoError, match="file 0: cannot be read"):
                scanner.predict(closed)
        assert not list(spool.iterdir())
    assert predict_video(io.BytesIO(path.read_bytes()), model=model) == predict_video(path, model=model)
    assert predict_video(rgb(), model=model)[0] in (0, 1)


def test_what_is_no_clip_is_said(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("text")
    clip = rgb()
    wrong = {
        "shape": (clip[0], clip[..., 0], clip[:0], np.zeros((2, 8, 8, 4), np.uint8)),
        "int64": (clip.astype(np.int64),),
        "not between 0 and 1": (clip.astype(np.float32), np.full((1, 8, 8, 3), np.nan)),
        "type int": (5, [5]),
        "type NoneType": ([None],),
    }
    with Scanner(model, workers=0) as scanner:
        for said, inputs in wrong.items():
            for each in inputs:
                with pytest.raises(UsageError, match=said) as caught:
                    list(scanner.scan(each))
                assert "(frames, height, width, 3)" in caught.value.hint
        with pytest.raises(UsageError, match="frames per second"):
            scanner.predict(clip, fps=0)
        with text.open() as opened, pytest.raises(UsageError, match="as text"):
            scanner.predict(opened)


def test_arrays_of_names_are_names(model: Path, make_clip: MakeClip) -> None:
    paths = [str(make_clip(name)) for name in ("b.avi", "a.avi")]
    with Scanner(model, workers=0) as scanner:
        assert [row["path"] for row in scanner.scan(np.array(paths))] == paths


def test_arrays_come_one_by_one(model: Path) -> None:
    made = []

    def clips() -> Any:
        for number in range(3):
            made.append(number)
            yield rgb(frames=4)

    with Scanner(model, workers=0) as scanner:
        next(scanner.scan(clips()))
    assert len(made) < 3


# ------------------------------------------------------------------------------------------------------- in a notebook


@pytest.fixture
def results(model: Path, make_clip: MakeClip, tmp_path: Path) -> Results:
    paths = [make_clip("<b>.avi", level=(160, 220)), make_clip("dark.avi", level=(20, 40)), tmp_path / "gone.avi"]
    with Scanner(model, workers=0, tasks=[TASK]) as scanner:
        return Results(scanner.scan(paths))


def test_results_show_themselves(results: Results) -> None:
    page = results._repr_html_()
    assert page.count("<tr>") == 4
    assert "&lt;b&gt;.avi" in page and "<b>" not in page
    assert all(text in page for text in ("grainy", "clean", "error: no such file", "128×96 ffv1 25 fps"))
    many = Results([results[0]] * 70)._repr_html_()
    assert many.count("<tr>") == 61 and "and 10 more" in many
    assert Results()._repr_html_().count("<tr>") == 1


def test_results_become_a_frame(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = ModuleType("pandas")
    pandas.DataFrame = lambda rows, columns: (rows, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    rows, columns = results.to_frame()
    assert [row[f"{TASK}_label"] for row in rows] == [1, 0, None]
    assert all(list(row) == columns for row in rows)
    assert rows[2]["error_type"] == "VideoError"


def test_a_frame_has_the_grain_that_results_describe(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = ModuleType("pandas")
    pandas.DataFrame = lambda rows, columns: (rows, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert not any(column.startswith("grain_") for column in results.to_frame()[1])
    described = Results([results[0] | {"grain": {"strength": 4.2, "film_grain_level": 42}}, *results[1:]])
    rows, columns = described.to_frame()
    assert [(row["grain_strength"], row["grain_film_grain_level"]) for row in rows[:2]] == [(4.2, 42), (None, None)]
    assert all(list(row) == columns for row in rows)


def test_pandas_itself(results: Results) -> None:
    pytest.importorskip("pandas")
    frame = results.to_frame()
    assert frame.shape[0] == 3
    assert frame[f"{TASK}_strength"].notna().tolist() == [True, True, False]
    assert results[:0] == [] and Results().to_frame().empty


def test_without_pandas_it_is_said(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DependencyError, match="pandas") as caught:
        results.to_frame()
    assert caught.value.hint == "Run `pip install pandas`."
