"""A model directory is input: whatever its config.json holds, the answer is a model or an error with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scan_kit import toy_spec, write_toy_model

from grainscan.errors import ModelError
from grainscan.model.spec import ModelSpec, faults_of, find_model, read_spec
from grainscan.scan.scanner import Scanner

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 1e9, 10**400, float("nan"), float("inf"), "", "x", "\0", [], [1], {}, {"a": 1},
    "x" * 999,
)  # fmt: skip


def full() -> dict[str, Any]:
    block = toy_spec(
        threshold={"graininess": 0.5, "banding": 0.25},
        calibration={"graininess": (1.0, 0.5)},
        prevalence={"graininess": 0.5},
        provenance={"steps": 3},
    ).to_dict()
    return json.loads(json.dumps(block))  # type: ignore[no-any-return]


def write(folder: Path, block: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"grainscan": block}))
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def changed(block: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    block = copy.deepcopy(block)
    inner = block
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return block


def test_what_we_write_is_valid(tmp_path: Path) -> None:
    assert list(faults_of(full())) == []
    assert read_spec(write(tmp_path / "m", full())).to_dict() == ModelSpec.from_dict(full()).to_dict()
    assert read_spec(find_model("small")).tasks


@pytest.mark.parametrize("place", list(places(full())), ids=lambda path: ".".join(map(str, path)) or "all")
def test_any_wrong_value_anywhere_is_a_model_error_or_a_model(tmp_path: Path, place: tuple[Any, ...]) -> None:
    refused = 0
    for value in VALUES:
        directory = write(tmp_path / "m", changed(full(), place, value))
        try:
            spec = read_spec(directory)
        except ModelError as error:
            refused += 1
            assert "$.grainscan" in error.message
            assert error.hint
        else:
            assert json.dumps(spec.to_dict(), allow_nan=place[:1] == ("provenance",))
    assert refused >= (0 if place[:1] == ("provenance",) and len(place) > 1 else 8)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    block = full()
    block["tasks"] = ["graininess", "graininess", "Motion Blur", "start"]
    block["threshold"]["graininess"] = float("nan")
    block["view"].update(frames=0, size=2.5, windos=3)
    block["mean"] = [0.5, 0.5]
    block["std"][1] = 0
    block["pooling"] = "max"
    del block["name"]
    with pytest.raises(ModelError) as caught:
        read_spec(write(tmp_path / "m", block))
    for fault in (
        "$.grainscan.name: is missing", "$.grainscan.tasks[1]: graininess is named twice",
        '$.grainscan.tasks[2]: is "Motion Blur"', '$.grainscan.tasks[3]: is "start"',
        "$.grainscan.threshold.graininess: is NaN, not a number from 0 to 1", "$.grainscan.view.frames: is 0",
        "$.grainscan.view.size: is 2.5, not a whole number", "$.grainscan.view.windos: is unknown",
        "$.grainscan.mean: is not a list of 3 values", "$.grainscan.std[1]: is 0", '$.grainscan.pooling: is "max"',
    ):  # fmt: skip
        assert fault in caught.value.message


def test_what_belongs_to_no_task_and_what_costs_too_much_is_refused(tmp_path: Path) -> None:
    block = full()
    block["calibration"]["blur"] = [1, 0]
    block["prevalence"]["blur"] = 0.5
    block["view"].update(crops=1000, size=1024)
    with pytest.raises(ModelError) as caught:
        read_spec(write(tmp_path / "m", block))
    for key in ("calibration", "prevalence"):
        assert f"{key}.blur: the model has no such task" in caught.value.message
    assert "view: a window has 4,194,304,000 pixels" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"grainscan": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (b'{"grainscan": ' + b"1" * 5000 + b"}", "cannot be read"),
        (b" " * (1 << 25), "larger than"),
        (b"[]", "has no block"),
        (b"null", "has no block"),
        (b"{}", "has no block"),
    ],
    ids=range(9),
)
def test_files_that_hold_no_block(tmp_path: Path, text: bytes, message: str) -> None:
    model = write_toy_model(tmp_path / "m")
    (model / "config.json").write_bytes(text)
    with pytest.raises(ModelError, match=message):
        Scanner(model)
