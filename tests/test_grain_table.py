"""Film-grain tables: parameters that reproduce the grain, a format that encoders read, and `predict --grain-table`."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeClip
from grain_kit import picture, smoothed, synthesise, window
from typer.testing import CliRunner

from grainscan.cli import app
from grainscan.errors import DataError
from grainscan.grain.character import Character, characterise
from grainscan.grain.film import LAG, film_grain, gain, neighbours, quantised, yule_walker
from grainscan.grain.sample import LAGS, sample
from grainscan.grain.table import Segment, read_table, table, write_table
from grainscan.video import Reader, read_windows
from grainscan.video.film_grain import FilmGrain, parse

KNOWN = FilmGrain(
    y=((0, 40), (100, 90), (200, 60)),
    cb=((0, 30), (255, 50)),
    cr=((0, 20),),
    coefficients_y=(0, 0, 0, 2, 0, 0, 0, 0, 0, 0, -8, 0, 0, 0, 0, 0, 4, 24, 4, 0, 0, 0, -8, 40),
    coefficients_cb=(*(0,) * 23, 20, 0),
    coefficients_cr=(0,) * 25,
    lag=3,
    coefficient_shift=7,
    scaling_shift=9,
)
aomenc = pytest.mark.skipif(shutil.which("aomenc") is None, reason="aomenc is not installed")


def characterised(luma: np.ndarray) -> Character:  # type: ignore[type-arg]
    one = sample(window(luma))
    assert one is not None
    found = characterise([one])
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------------- parameters


def test_yule_walker_recovers_known_coefficients() -> None:
    known = np.zeros(len(neighbours()))
    for place, value in {(0, -1): 0.4, (-1, 0): 0.3, (-1, 1): 0.1, (-2, 0): -0.1}.items():
        known[neighbours().index(place)] = value
    rng = np.random.default_rng(0)
    field = np.zeros((4, 160, 160))
    white = rng.standard_normal(field.shape)
    places = [(dy, dx, known[i]) for i, (dy, dx) in enumerate(neighbours()) if known[i]]
    for y in range(3, 160):
        for x in range(3, 157):
            field[:, y, x] = white[:, y, x] + sum(value * field[:, y + dy, x + dx] for dy, dx, value in places)
    inner = field[:, 16:, 16:-16]
    correlation = np.array([
        [np.mean(inner[:, dy:, max(dx, 0) : inner.shape[2] + min(dx, 0)]
                 * inner[:, : inner.shape[1] - dy, max(-dx, 0) : inner.shape[2] + min(-dx, 0)])
         for dx in range(1 - LAGS, LAGS)]
        for dy in range(LAGS)
    ])  # fmt: skip
    found = yule_walker(correlation / correlation[0, LAGS - 1])
    assert found == pytest.approx(known, abs=0.04)
    assert gain(found) == pytest.approx(inner.std() / white.std(), rel=0.03)


@pytest.mark.parametrize(("sigma", "size"), [(2.0, 0.0), (5.0, 1.2), (9.0, 2.2), (20.0, 1.0)])
def test_what_a_decoder_makes_of_the_parameters_has_the_same_strength_and_correlation(
    sigma: float, size: float
) -> None:
    rng = np.random.default_rng(3)
    luma = np.rint(picture(rng, width=384, height=224))
    white = rng.standard_normal(luma.shape)
    field = sigma * (0.6 + luma / 255) * (smoothed(white, size) if size else white)
    made = synthesise(film_grain(characterised(luma + field)), luma, rng) - luma
    assert made.std() == pytest.approx(field.std(), rel=0.08)
    assert lag_one(made) == pytest.approx(lag_one(field), abs=0.06)
    dark, bright = luma < 90, luma > 140
    assert made[bright].std() / made[dark].std() == pytest.approx(field[bright].std() / field[dark].std(), rel=0.12)


def lag_one(field: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.mean(field[:, :, 1:] * field[:, :, :-1]) / np.mean(field**2))


def test_parameters_stay_within_their_ranges() -> None:
    rng = np.random.default_rng(1)
    luma = np.full((8, 128, 160), 128.0)
    character = characterised(luma + 40 * smoothed(rng.standard_normal(luma.shape), 6))
    for strength in (0.01, 1.0, 10.0):
        grain = film_grain(replace(character, curves={"y": strength * character.curves["y"]}))
        assert all(0 <= scaling <= 255 for _, scaling in grain.y)
        assert all(-128 <= value <= 127 for value in grain.coefficients_y)
        assert 6 <= grain.coefficient_shift <= 9 and 8 <= grain.scaling_shift <= 11 and 0 <= grain.scale_shift <= 3
        assert (grain.cb, grain.cr) == ((), ())
    assert quantised(np.array([3.0, -3.0, 0.5]), 6) == (127, -128, 32)


# ------------------------------------------------------------------------------------------------------------ tables


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    other = FilmGrain(y=((0, 10),), seed=5, overlap=False, chroma_from_luma=True, offsets=(18, 54))
    segments = [Segment(0, 2.5, KNOWN), Segment(4, math.inf, other)]
    path = tmp_path / "grain.tbl"
    write_table(path, segments)
    assert read_table(path) == segments
    lines = path.read_text().splitlines()
    assert lines[:3] == ["filmgrn1", "E 0 25000000 1 7391 1", "\tp 3 7 0 9 0 1 128 192 256 128 192 256"]
    assert lines[3:6] == ["\tsY 3 0 40 100 90 200 60", "\tsCb 2 0 30 255 50", "\tsCr 1 0 20"]
    assert lines[9] == "E 40000000 9223372036854775807 1 5 1"


def test_entries_may_repeat_parameters_or_switch_grain_off(tmp_path: Path) -> None:
    path = tmp_path / "grain.tbl"
    path.write_text(table([Segment(0, 1, KNOWN)]) + "E 10000000 20000000 0 1 0\nE 20000000 30000000 1 9 0\n")
    assert read_table(path) == [Segment(0, 1, KNOWN), Segment(2, 3, KNOWN)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("filmgrn1", "filmgrn2"), "does not begin with filmgrn1"),
        (("\tp 3", "\tp 4"), "a lag of 4"),
        (("sY 3", "sX 3"), "sX stands where sY is expected"),
        (("sY 3", "sY 15"), "not within 0 and 14"),
        (("100 90", "0 90"), "the levels of sY do not ascend"),
        (("100 90", "100 ninety"), "entry 1"),
        (("\tcCr 0 0", "\tcCr 0"), "ends too early"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = tmp_path / "grain.tbl"
    path.write_text(table([Segment(0, 1, KNOWN)]).replace(*change))
    with pytest.raises(DataError, match=reason) as failure:
        read_table(path)
    assert str(path) in failure.value.message and failure.value.hint


def test_a_table_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.tbl").write_bytes(b"\xff\xfe")
    for name in ("a.tbl", "b.tbl"):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(tmp_path / name)


# ---------------------------------------------------------------------------------------------------- real encoders


def encoded(tmp_path: Path, grain: FilmGrain) -> Path:
    """A clip of 8 gray frames that aomenc encoded with a table."""
    source, target, path = tmp_path / "a.y4m", tmp_path / "a.ivf", tmp_path / "grain.tbl"
    frame = b"FRAME\n" + bytes([110]) * (128 * 128) + bytes([128]) * (2 * 64 * 64)
    source.write_bytes(b"YUV4MPEG2 W128 H128 F25:1 Ip A1:1 C420jpeg\n" + 8 * frame)
    write_table(path, [Segment(0, math.inf, grain)])
    options = ["--passes=1", "--cpu-used=8", "--lag-in-frames=0", "--ivf", "-q", f"--film-grain-table={path}"]
    subprocess.run(["aomenc", str(source), "-o", str(target), *options], check=True, capture_output=True)
    return target


@aomenc
def test_aomenc_reads_the_table_and_the_stream_says_so(tmp_path: Path) -> None:
    clip = encoded(tmp_path, KNOWN)
    with Reader(clip, synthesis=False) as reader:
        bare = next(iter(read_windows(reader, windows=1, frames=8)))
        assert reader.film_grain is not None and reader.film_grain.kind == "av1"
        carried = reader.film_grain.grain
    assert carried is not None and replace(carried, seed=KNOWN.seed) == KNOWN
    with Reader(clip) as reader:
        full = next(iter(read_windows(reader, windows=1, frames=8)))
        assert reader.film_grain is None
    found = sample(full)
    assert sample(bare) is None and found is not None
    character = characterise([found])
    assert character is not None
    unit = 32 * gain(np.array(KNOWN.coefficients_y) / 128) / 512
    assert character.strength == pytest.approx(unit * np.interp(110, *np.array(KNOWN.y).T), rel=0.08)


@aomenc
def test_a_result_names_the_metadata_of_the_stream(tmp_path: Path) -> None:
    clip = encoded(tmp_path, KNOWN)
    done = CliRunner().invoke(app, ["predict", str(clip), "--character", "--format", "json"])
    assert done.exit_code == 0, done.output
    grain = json.loads(done.stdout)["results"][0]["grain"]
    assert grain["metadata"]["kind"] == "av1"
    assert grain["metadata"]["film_grain"]["y"] == [list(point) for point in KNOWN.y]
    assert grain["metadata"]["strength"]["without"] == 0 < grain["metadata"]["strength"]["with"]


def test_bytes_of_another_library_are_not_guessed_at() -> None:
    assert parse(b"\0" * 400, 99).kind == parse(b"\0" * 8, 60).kind == parse(b"\0" * 400, 60).kind == "unknown"
    assert parse(b"\2" + b"\0" * 400, 60).kind == "h274"
    assert parse(b"\1" + b"\0" * 400, 60).grain == FilmGrain(
        y=(), coefficient_shift=0, scaling_shift=0, overlap=False, luma_weights=(128, 128), seed=0
    )


# ------------------------------------------------------------------------------------------------------------ predict


def test_predict_describes_grainy_files_and_writes_their_table(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("grainy.avi", width=256, height=192, frames=16, grain=9)
    path = tmp_path / "grain.tbl"
    options = ["predict", str(clip), "--grain-table", str(path)]
    done = CliRunner().invoke(app, [*options, "--format", "json", "--workers", "1"])
    assert done.exit_code == 0, done.output
    grain = json.loads(done.stdout)["results"][0]["grain"]
    assert grain["strength"] == pytest.approx(9, rel=0.06)
    assert grain["interval"][0] < 9 < grain["interval"][1]
    assert grain["size"] == {"horizontal": pytest.approx(1, abs=0.1), "vertical": pytest.approx(1, abs=0.1)}
    assert grain["pattern"] == "temporal" and 1 <= grain["film_grain_level"] <= 50
    assert [(each["start"], each["end"]) for each in grain["segments"]] == [(0, None)]
    (segment,) = read_table(path)
    assert segment.grain.lag == LAG and not segment.grain.cb
    shown = CliRunner().invoke(app, [*options, "-o", str(tmp_path / "rows.jsonl")])
    assert shown.exit_code == 0 and path.read_text() == table([segment])
    again = CliRunner().invoke(app, ["predict", str(clip), "--character"])
    assert "grain 9." in again.output and "--film-grain" in again.output


def test_a_finished_scan_still_gives_its_table(make_clip: MakeClip, tmp_path: Path) -> None:
    clip, path = make_clip("grainy.avi", width=256, height=192, frames=16, grain=9), tmp_path / "grain.tbl"
    options = ["predict", str(clip), "--grain-table", str(path), "-o", str(tmp_path / "rows.jsonl"), "--workers", "0"]
    assert CliRunner().invoke(app, options).exit_code == 0
    path.unlink()
    assert CliRunner().invoke(app, options).exit_code == 0
    assert read_table(path)


def test_a_grainy_file_without_measurable_grain_is_not_called_clean(make_clip: MakeClip, tmp_path: Path) -> None:
    still = make_clip("still.avi", width=128, height=128, frames=16, speed=0)
    options = ["--grain-table", str(tmp_path / "grain.tbl"), "--threshold", "graininess=0", "--workers", "0"]
    done = CliRunner().invoke(app, ["predict", str(still), *options])
    assert done.exit_code == 1 and "nothing in its luma changes from frame to frame" in " ".join(done.output.split())
    assert "not grainy" not in done.output


def test_a_table_needs_one_file_with_grain(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("clean.avi", width=128, height=128, frames=16)
    make_clip("other.avi", width=128, height=128, frames=16)
    path = tmp_path / "grain.tbl"
    two = CliRunner().invoke(app, ["predict", str(tmp_path), "--grain-table", str(path)])
    assert two.exit_code == 2 and "--grain-table describes one file, and there are 2" in two.output
    clean = CliRunner().invoke(app, ["predict", str(clip), "--grain-table", str(path), "--workers", "0"])
    assert clean.exit_code == 1 and "the file is not grainy" in clean.output
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    broken = CliRunner().invoke(app, ["predict", str(tmp_path / "broken.mp4"), "--grain-table", str(path)])
    assert broken.exit_code == 1
    nowhere = CliRunner().invoke(app, ["predict", str(clip), "--grain-table", str(tmp_path / "no" / "x.tbl")])
    assert nowhere.exit_code == 2 and "no such folder" in nowhere.output
    assert not path.exists()
