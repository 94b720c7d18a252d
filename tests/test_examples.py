"""The examples: the five scripts run as a user runs them; what builds and measures the embedded model, in parts."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import random
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import MakeClip
from rich.console import Console

from grainscan.data.labels import read_labels, write_labels
from grainscan.data.manifest import read_manifest, write_manifest
from grainscan.errors import VideoError
from grainscan.tasks import SYNTHESISED
from grainscan.video import Block, PixelFormat, read_clip, write_clip

EXAMPLES = Path(__file__).parents[1] / "examples"
EMBEDDED, GRAIN = EXAMPLES / "embedded", EXAMPLES / "grain"
SCRIPTS = {path.name: path for path in EXAMPLES.glob("*.py")}
CLIPS = sorted(map(str, EXAMPLES.glob("clips/*_*.*")))


def run_script(script: Path, *arguments: object, cwd: Path, **options: object) -> str:
    """What a script prints, run in a process and a folder of its own; options are environment variables."""
    path = os.pathsep.join([str(EXAMPLES.parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **{key: str(value) for key, value in options.items()}}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------------------------------------- scripts to copy from


def test_each_script_is_short_and_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"`python examples/(\w+\.py)", readme) == [
        "python_api.py",
        "scan_report.py",
        "fine_tune.py",
        "teach_task.py",
        "many_machines.py",
    ]
    assert set(re.findall(r"`python examples/(\w+\.py)", readme)) == set(SCRIPTS)
    for path in SCRIPTS.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_python_api(tmp_path: Path) -> None:
    said = run_script(SCRIPTS["python_api.py"], cwd=tmp_path)
    first, _, rest = said.partition("\n")
    assert re.fullmatch(r".*clean_leaves\.mp4: clean, confidence (0\.[5-9]\d|1\.00)", first)
    rows = re.findall(r"(clean|grainy)_\w+\.\w+: probability ([\d.]+) \(threshold ([\d.]+)\), strength ([\d.]+)", rest)
    assert len(rows) == len(CLIPS)
    for name, probability, threshold, strength in rows:
        assert (name == "grainy") == (float(probability) >= float(threshold))
        assert (name == "grainy") == (float(strength) > 1.5)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((EXAMPLES / "look_into_a_clip.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    (tmp_path / "clips").symlink_to(EXAMPLES / "clips")
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    open_before = plt.get_fignums()
    names: dict[str, Any] = {}
    try:
        for cell in cells:
            exec("".join(cell["source"]), names)
        own = (number for number in plt.get_fignums() if number not in open_before)
        over_time, film, half = (plt.figure(number).axes[0] for number in own)
        assert len(over_time.patches) == len(names["results"]) == len(CLIPS)
        assert len(film.patches) > 12 and film.get_title().startswith("grainy_film.mkv: strength")
        assert half.get_title().startswith("array 0: strength")
    finally:
        plt.close("all")
    views = [view for view in names["half"]["map"] if "graininess" in view]
    noisy = [view["graininess"] for view in views if view["x"] + view["size"] <= 160]
    clean = [view["graininess"] for view in views if view["x"] >= 160]
    assert min(noisy) > max(clean)
    assert names["results"]._repr_html_().count("grainy") >= 3


def test_a_script_says_what_it_could_not_judge(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    said = run_script(SCRIPTS["python_api.py"], "broken.mp4", CLIPS[0], cwd=tmp_path)
    assert said.count("broken.mp4") >= 2
    assert f"{CLIPS[0]}: probability" in said


def test_scan_report_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run_script(SCRIPTS["scan_report.py"], EXAMPLES / "clips", out, cwd=tmp_path)
    assert said.splitlines()[-1].startswith("3 of 6 files are grainy.")
    log = (out / "scan.jsonl").read_bytes()
    assert [json.loads(line)["path"] for line in log.splitlines()] == CLIPS
    (out / "report.html").unlink()
    run_script(SCRIPTS["scan_report.py"], EXAMPLES / "clips", out, cwd=tmp_path)
    assert (out / "scan.jsonl").read_bytes() == log  # nothing was judged again: the very seconds are the same
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(Path(path).name in page for path in CLIPS)
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        assert [row["path"] for row in csv.DictReader(file)] == CLIPS


@pytest.mark.slow
def test_fine_tune(tmp_path: Path) -> None:
    tiny = {"GRAINSCAN_PREP_CLIPS": 2, "GRAINSCAN_TRAIN_MAX_STEPS": 2, "GRAINSCAN_EVAL_BOOTSTRAP": 50}
    said = run_script(SCRIPTS["fine_tune.py"], cwd=tmp_path, **tiny)
    found = re.search(r"AUROC on (\d+) test clips: (\S+) \(the embedded model: (\S+)\)", said)
    assert found is not None
    work = tmp_path / "fine-tuned"
    assert int(found[1]) == len(read_labels(work / "data" / "test").clips)
    assert all(0 <= float(value) <= 1 for value in found.groups()[1:])
    assert (work / "runs" / "mine" / "model" / "model.onnx").is_file()


@pytest.mark.slow
def test_teach_task(tmp_path: Path) -> None:
    said = run_script(SCRIPTS["teach_task.py"], tmp_path / "work", cwd=tmp_path)
    clean, lined = (float(value) for value in re.findall(r"label [01]: probability of scan lines ([\d.]+)", said))
    assert clean < 0.5 < lined


# ------------------------------------------------------------------------------------------------ the embedded model


@pytest.mark.parametrize(
    "script",
    sorted([*EMBEDDED.glob("*.py"), *GRAIN.glob("*.py"), *EXAMPLES.glob("pages/*.py"), EXAMPLES / "clips" / "make.py"]),
    ids=lambda p: p.stem,
)
def test_each_script_of_the_embedded_model_can_be_loaded(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every name that it imports exists, and where it takes options it explains them."""
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    if "argparse" in script.read_text(encoding="utf-8"):
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_path(str(script), run_name="__main__")
        assert capsys.readouterr().out.startswith(f"usage: {script.name}")
    else:
        runpy.run_path(str(script))


def test_commands_in_the_readme_exist() -> None:
    for readme in (EXAMPLES / "README.md", EMBEDDED / "README.md", GRAIN / "README.md"):
        commands = re.findall(r"`python (examples/[\w/]+\.py)", readme.read_text(encoding="utf-8"))
        assert commands
        assert all((EXAMPLES.parent / command).is_file() for command in commands)


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    return importlib.import_module("common")


def test_a_set_is_written_and_read(common: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip("a.avi", width=32, height=32, frames=2)
    entries = {"a.avi": {"source": "a", "labels": {"graininess": 1}, "strength": {"graininess": 2.5}}}
    common.write_set(tmp_path, entries, script="embedded/x.py", seed=3, qps=[22])
    assert common.read_set(tmp_path, "x.py") == entries
    assert read_labels(tmp_path).clips == {"a.avi": {"graininess": 1}}
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest["seed"], manifest["options"]) == (3, {"made by": "examples/embedded/x.py", "qps": [22]})
    with pytest.raises(SystemExit, match=r"no manifest.json\nhint: run x.py"):
        common.read_set(tmp_path / "none", "x.py")


def test_what_cannot_be_made_is_left_out_with_a_warning(
    common: Any,
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(common, "ProcessPoolExecutor", ThreadPoolExecutor)
    good, bad = make_clip("a.avi", width=32, height=32, frames=2), tmp_path / "missing.avi"
    made = common.make_all(
        lambda path, _: {path.name: {"frames": read_clip(path).frames}}, [good, bad], tmp_path, workers=1
    )
    assert made == {"a.avi": {"frames": 2}}
    (warning,) = caplog.messages
    assert warning.startswith(f"{bad} is left out: ") and warning.count(str(bad)) == 1


def test_the_middle_lies_on_the_grid(common: Any, make_block: Any) -> None:
    block = make_block(frames=1, width=100, height=62)
    part = common.middle(block, 64, 1000, grid=8)
    assert (part.width, part.height) == (64, 56)
    assert np.array_equal(part.planes[0], block.planes[0][:, 2:58, 18:82])


def test_material_is_made_once_and_clean(common: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    material = importlib.import_module("material")
    monkeypatch.setattr(common, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(material, "FRAMES", {"scenes": 3, "held-out": 3})
    jobs = [job for job in material.plan([], None, 0) if job.kind == "clouds" and job.scene.endswith(("-00", "-test"))]
    assert [job.folder for job in jobs] == ["scenes", "held-out"]
    written = set()
    for _ in range(2):
        material.make(jobs[1:], tmp_path, 1, 0)
        (clip,) = common.read_set(tmp_path, "material.py")
        assert read_labels(tmp_path).clips == {clip: {"graininess": 0}}
        written.add((tmp_path / clip).stat().st_mtime_ns)
    assert len(written) == 1  # a clip that exists is kept
    block = read_clip(tmp_path / clip)
    assert block.frames == 3
    assert importlib.import_module("camera").residual(block.luma8() / np.float32(255)) < 0.4


def test_protocol_labels_by_what_survives(common: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    protocol, report = importlib.import_module("protocol"), importlib.import_module("protocol_report")
    scene = protocol.Scene("waves", make_clip("waves.mkv", width=96, height=64, frames=6), "photo", seed=0, frames=6)
    for qp in protocol.QPS:
        (tmp_path / f"qp{qp}").mkdir()
    made = protocol.make(scene, tmp_path)
    assert len(made) == len(protocol.QPS) * len(protocol.SIGMAS)
    assert all((tmp_path / name).is_file() for name in made)
    found = {(entry["qp"], entry["sigma"]): entry for entry in made.values()}
    assert {found[qp, 0]["labels"]["graininess"] for qp in protocol.QPS} == {0}
    assert found[22, 25]["labels"]["graininess"] == 1
    assert found[47, 5]["labels"]["graininess"] == 0  # the encoder has removed it
    for sigma in protocol.SIGMAS[1:]:
        left = [found[qp, sigma]["strength"]["graininess"] for qp in protocol.QPS]
        assert left == sorted(left, reverse=True)
    rows = {name: entry["strength"]["graininess"] for name, entry in made.items()}
    verdicts = {
        name: {"tasks": {"graininess": {"probability": min(1, s / 9), "strength": s}}} for name, s in rows.items()
    }
    figures = report.report([report._clip(made[name], verdicts[name]) for name in made])
    assert figures["qp"]["22"]["overall"]["auroc"] == 1
    assert figures["all"]["strength_spearman"] == pytest.approx(1)


def edges_and_a_sky(frames: int, *, width: int, height: int) -> Block:
    """Squares of two sizes that move over a gradient."""
    y, x = np.mgrid[:height, :width]
    pictures = []
    for moved in range(0, 3 * frames, 3):
        squares = ((x + moved) // 8 + y // 8) % 2 * 90.0 + ((x + moved) // 3 + y // 3) % 2 * 40
        pictures.append(np.where(y < height // 2, 90 + 60 * x / width, 60 + squares))
    chroma = np.full((frames, height // 2, width // 2), 128, np.uint8)
    return Block((np.stack(pictures).astype(np.uint8), chroma, chroma.copy()), PixelFormat.of("yuv420p"))


def test_protocol_of_ten_artifacts(common: Any, tmp_path: Path) -> None:
    protocol, ten = importlib.import_module("protocol"), importlib.import_module("protocol_ten")
    report, other = importlib.import_module("protocol_ten_report"), importlib.import_module("other_means")
    write_clip(tmp_path / "edges.mkv", edges_and_a_sky(6, width=96, height=64))
    scene = protocol.Scene("edges", tmp_path / "edges.mkv", "photo", seed=0, frames=6)
    block = protocol.read_scene(scene)
    variants = ten.plan(scene, block)
    assert variants.keys() == {"clean", *other.OTHERS, "mix2", "mix3", "mix4"}
    assert [one.artifact() for one in ten.plan(scene, block)["mix4"]] == [one.artifact() for one in variants["mix4"]]
    mixed = [one.task for number in ten.MIXES for one in variants[f"mix{number}"]]
    assert len(set(mixed)) == len(mixed) == sum(ten.MIXES)

    for qp in ten.QPS:
        (tmp_path / f"qp{qp}").mkdir()
    made = ten.make(scene, tmp_path)
    assert len(made) == len(ten.QPS) * len(variants)
    assert all(read_clip(tmp_path / name).frames == entry["frames"] for name, entry in made.items())
    found = {(entry["qp"], entry["variant"]): entry for entry in made.values()}
    assert set(found[32, "clean"]["labels"].values()) <= {0, None}
    for task in ("dark_scenes", "spatial_blur", "transmission_error", "black_screen"):
        assert found[32, task]["labels"][task] == 1
        assert found[32, task]["means"].keys() == {task}

    judged = set(other.OTHERS) - {"banding"}  # as by a model that does not know it
    verdicts = {
        name: {"tasks": {task: {"probability": entry["labels"][task] or 0.0, "label": 0} for task in judged}}
        for name, entry in made.items()
    }
    figures = report.report(made, verdicts)
    blur = figures["tasks"]["spatial_blur"]
    assert (blur["auroc"], blur["target"], blur["met"], blur["recall"]) == (1, 0.97, True, 0)
    assert blur["parts"]["QP 32"]["auroc"] == blur["parts"]["alone"]["auroc"] == 1
    assert figures["tasks"]["black_screen"]["target"] == 0.6
    assert figures["tasks"]["banding"]["met"] is figures["tasks"]["banding"]["auroc"] is None
    report.show(figures, Console(file=(shown := io.StringIO()), width=200))
    assert "spatial_blur" in shown.getvalue()


def test_other_means_do_what_they_say(common: Any) -> None:
    other = importlib.import_module("other_means")
    synth = importlib.import_module("grainscan.data.synth")
    recipe = importlib.import_module("grainscan.data.synth.recipe")
    block = edges_and_a_sky(8, width=128, height=96)
    rng = np.random.default_rng(0)
    for task, kind in other.OTHERS.items():
        branches = synth.twins.Branches(block, recipe.Surroundings())
        one = kind.draw(rng, width=block.width, height=block.height)
        assert one.task == task and one.span.low <= one.amount <= one.span.high
        changed = branches.after((one,))
        assert changed.format == block.format
        assert (changed.frames == block.frames) is one.combines
        assert changed.frames < block.frames or np.abs(changed.luma8() - block.luma8()).max() > 4
        assert branches.strength(synth.synthesiser(task), (one,)) > 0


@pytest.mark.slow
def test_filters_put_ten_artifacts_into_a_clip(common: Any, tmp_path: Path) -> None:
    filters = importlib.import_module("filters")
    write_clip(tmp_path / "a.mkv", edges_and_a_sky(30, width=160, height=96))
    pictures, rate = filters.read(tmp_path / "a.mkv")
    assert (pictures.shape, rate) == ((30, 144, 160), 25)
    (tmp_path / "set").mkdir()
    made = filters.make(tmp_path / "a.mkv", tmp_path / "set")
    tasks = {next((task for task, label in each["labels"].items() if label), None) for each in made.values()}
    assert tasks == {*SYNTHESISED, None}
    lengths = {name: read_clip(tmp_path / "set" / name).frames for name in made}
    assert {name for name, frames in lengths.items() if frames != 30} == {"a_frame_drop_1.mkv"}
    variants = {(each.task, each.strength): each for each in filters.variants(pictures, rate, random.Random(0))}
    changes = {key: filters.differences(each.pictures, pictures, 96) for key, each in variants.items()}
    assert (changes["graininess", 1] > 3).all() and (changes["graininess", 2] > changes["graininess", 1]).all()
    assert (changes["spatial_blur", 2] > changes["spatial_blur", 1]).all()
    assert ((changes["black_screen", 1] > 50).sum(), (changes["frame_drop", 2] > 5).sum()) == (8, 6)
    assert changes["transmission_error", 2][0] < 5 < changes["transmission_error", 2].max()

    rows = {name: {task: {"probability": label or 0.0, "label": 0} for task, label in each["labels"].items()}
            for name, each in made.items()}  # fmt: skip
    figures = filters.measure("banding", made, rows)
    assert (figures["auroc"], figures["clips"], figures["found"], figures["false_alarms"]) == (
        1,
        [17, 2],
        {1: 0, 2: 0},
        0,
    )
    (tmp_path / "short.mkv").write_bytes((tmp_path / "set" / "a_clean.mkv").read_bytes()[:3000])
    with pytest.raises(VideoError, match="short"):
        filters.read(tmp_path / "short.mkv")


def test_motion_of_a_clip_is_found(common: Any) -> None:
    other = importlib.import_module("other_means")
    picture = np.random.default_rng(0).normal(128, 40, (96, 128)).astype(np.float32)
    smooth = importlib.import_module("grainscan.data.synth.stack").blur(picture[None], 2.0)[0]
    moving = np.stack([np.roll(smooth, (2 * t, -4 * t), axis=(0, 1)) for t in range(6)])
    assert other.motion(moving) == pytest.approx((2, -4), abs=1)


@pytest.mark.slow
def test_an_example_clip_is_what_its_script_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "clips"))
    monkeypatch.syspath_prepend(str(EMBEDDED))
    script = importlib.import_module("make")
    (example,) = (example for example in script.EXAMPLES if example.name == "grainy_film.mkv")
    entry = script.make(example, tmp_path / example.name)
    expected = (read_manifest(EXAMPLES / "clips") or {})["clips"][example.name]
    assert entry.pop("strength")["graininess"] == pytest.approx(expected.pop("strength")["graininess"], rel=0.05)
    assert json.loads(json.dumps(entry)) == expected
    pictures = [read_clip(folder / example.name).luma8() for folder in (tmp_path, EXAMPLES / "clips")]
    assert np.abs(pictures[0] - pictures[1]).mean() < 1  # another version of the encoder may round otherwise


@pytest.fixture
def teach(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    return importlib.import_module("teach")


def correlation(field: np.ndarray[Any, Any], axis: int, lag: int) -> float:
    """Of samples `lag` apart along an axis."""
    first = np.take(field, range(field.shape[axis] - lag), axis=axis)
    second = np.take(field, range(lag, field.shape[axis]), axis=axis)
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_tape_noise_lies_along_the_line_and_nowhere_else(teach: Any) -> None:
    tape = teach.Tape(sigma=4.0, length=20.0, level=0.0, dropouts=0.0)
    noise = tape.field((6, 96, 256), np.random.default_rng(0))
    assert noise.std() == pytest.approx(4.0, rel=0.05)
    assert correlation(noise, 2, 5) > 0.7  # a streak
    assert correlation(noise, 2, 60) < 0.2
    assert abs(correlation(noise, 1, 1)) < 0.1  # the next line
    assert abs(correlation(noise, 0, 1)) < 0.1  # the next picture


def test_lines_waver_and_dropouts_have_tails(teach: Any) -> None:
    wavering = teach.Tape(0.0, 20.0, 2.0, 0.0).field((4, 64, 64), np.random.default_rng(1))
    assert np.ptp(wavering, axis=2).max() == 0
    assert wavering[:, :, 0].std() == pytest.approx(2.0, rel=0.2)
    comets = teach.Tape(0.0, 20.0, 0.0, 2.0).field((10, 64, 64), np.random.default_rng(2))
    heads = np.argwhere(comets > 50)
    assert len(heads) > 0
    assert (comets >= 0).all()
    assert (comets > 0).mean() < 0.05


def test_a_pair_is_encoded_alike_and_the_noise_survives(teach: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    scene = make_clip("scene.avi", width=160, height=112, frames=8)
    clean, noisy = teach.pair("scene", scene)
    entries = [teach.make(clip, tmp_path)[clip.name] for clip in (clean, noisy)]
    assert [entry["labels"] for entry in entries] == [{"graininess": 0}, {"graininess": 1}]
    assert {entry["source"] for entry in entries} == {"scene"}
    assert entries[0]["strength"] == {"graininess": 0.0}
    assert entries[1]["strength"]["graininess"] > 1.5
    pictures = [read_clip(tmp_path / clip.name).luma8().astype(float) for clip in (clean, noisy)]
    assert (pictures[1] - pictures[0]).std() > 1.5


def test_forty_scenes_are_taught_half_of_them_noisy(teach: Any, tmp_path: Path) -> None:
    found = [(f"scene{number}", tmp_path / f"{number}.mkv") for number in range(60)]
    chosen = teach.footage(found)
    assert len({clip.source for clip in chosen}) == teach.LABELLED
    assert sum(clip.noisy for clip in chosen) == teach.LABELLED // 2
    assert chosen == teach.footage(found[::-1])


def test_before_and_after_are_compared_on_the_same_clips(
    teach: Any, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"clip{number}.avi" for number in range(9)]
    labels = {name: {"graininess": number % 2} for number, name in enumerate(names[:8])} | {names[8]: {}}
    entries = {name: {"source": name, "labels": labels[name] or {"graininess": None}} for name in names}
    for name in names:
        make_clip(f"set/{name}", width=32, height=32, frames=2)
    write_labels(tmp_path / "set", {name: entry["labels"] for name, entry in entries.items()})
    write_manifest(tmp_path / "set", {"schema": 1, "clips": entries})
    said = {"small": [0.1, 0.9] * 2 + [0.9, 0.1] * 2, "taught": [0.1, 0.9] * 4}
    monkeypatch.setattr(teach, "judged", lambda folder, names, model: said[str(model)][: len(list(names))])
    found = teach.compared(tmp_path / "set", "taught")
    assert found["clips"] == len(read_labels(tmp_path / "set").clips) - 1
    assert (found["before"]["auroc"], found["after"]["auroc"], found["change"]["auroc"]) == (0.5, 1.0, 0.5)
    low, high = found["change"]["ci95"]
    assert low <= 0.5 <= high


def test_clips_are_judged_in_their_order_and_figures_shown(teach: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    names = ["b.avi", "a.avi"]
    for name, grain in zip(names, (0.0, 12.0), strict=True):
        make_clip(name, width=64, height=64, frames=8, grain=grain)
    clean, grainy = teach.judged(tmp_path, names, "small")
    assert clean < grainy
    figure = {"auroc": 0.5, "ci95": [0.25, 0.75]}
    found = {"clips": 8, "scenes": 4, "before": figure, "after": figure, "change": {"auroc": -0.01, "ci95": None}}
    console = Console(record=True, width=140, file=io.StringIO())
    cost = {"seconds": 90.0, "processor_seconds": 120.0}
    teach.show({"tape": {**found, "surviving": 2.5}, "old": found, "training": cost}, console)
    said = console.export_text()
    assert "tape noise (8 of 4)" in said
    assert "0.500 [0.250, 0.750]" in said
    assert "-0.010" in said
    assert "1.5 minutes, 2.0 of processor time" in said


@pytest.mark.slow
def test_the_benchmark_of_training_reports_every_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    benchmark = importlib.import_module("benchmark_training")
    monkeypatch.setattr(benchmark, "CLIPS", 4)
    monkeypatch.setenv("GRAINSCAN_CACHE_DIR", str(tmp_path / "cache"))  # put back afterwards
    output = tmp_path / "training.json"
    flags = ["--steps", "3", "--rounds", "2", "--batch-size", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *flags])
    benchmark.main()
    assert "train / bare loop" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert len(report["rounds"]) == 2
    for each in [*report["rounds"], report["median"]]:
        assert min(each["loader"], each["train"], each["bare"]) > 0
    for each in report["rounds"]:
        assert each["ratio"] == pytest.approx(each["train"] / each["bare"])


def test_a_report_takes_the_rows_of_its_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    monkeypatch.chdir(tmp_path)
    report = importlib.import_module("protocol_report")
    rows = [
        {"path": "here/qp22/a.mp4", "status": "ok"},
        {"path": str(tmp_path / "elsewhere" / "qp22" / "a.mp4"), "status": "ok"},
        {"path": str(tmp_path / "here" / "qp22" / "b.mp4"), "status": "error"},
    ]
    assert report.rows_of(Path("here"), rows) == {"qp22/a.mp4": rows[0]}
