"""What the tests of the scanner share: a model small enough to check by hand, and readers that misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from grainscan.model.spec import ModelSpec
from grainscan.scan.decode import decode
from grainscan.views.crops import ViewSpec

SMALL_VIEW = ViewSpec(frames=4, size=32, windows=2, crops=3)
SLOPE, OFFSET = np.array([[8.0, -4.0]], np.float32), np.array([[-4.0, 1.0]], np.float32)
STRENGTH = np.array([[2.0, 0.0]], np.float32)


def toy_spec(**changes: Any) -> ModelSpec:
    return ModelSpec(
        **{
            "name": "toy",
            "tasks": ("graininess", "banding"),
            "view": SMALL_VIEW,
            "strength": {"graininess": "codes"},
            **changes,
        }
    )


def write_toy_model(directory: Path, **changes: Any) -> Path:
    """A model directory. With m the mean of all values of a view: logits 8m - 4 and 1 - 4m, strength 2m and 0.

    More tasks than two have the outputs of the first two in turn.
    """
    spec = toy_spec(**changes)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"grainscan": spec.to_dict()}))
    onnx.save(toy_graph(spec.view, len(spec.tasks)), str(directory / "model.onnx"))
    return directory


def toy_graph(view: ViewSpec, tasks: int = 2) -> Any:
    constants = {
        "axes": np.array([1, 2, 3, 4]),
        "shape": np.array([-1, 1]),
        "slope": np.resize(SLOPE, (1, tasks)),
        "offset": np.resize(OFFSET, (1, tasks)),
        "unit": np.resize(STRENGTH, (1, tasks)),
    }
    nodes = [
        helper.make_node("ReduceMean", ["views", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logits"]),
        helper.make_node("Mul", ["column", "unit"], ["strength"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("views", TensorProto.FLOAT, ["n", view.frames, 3, view.size, view.size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", tasks]) for name in ("logits", "strength")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


LIES = {
    "lie-slot": b'{"content": {}, "slot": 999, "shape": [1], "dtype": "float32"}',
    "lie-size": b'{"content": {}, "slot": 0, "shape": [99999999], "dtype": "float32"}',
    "lie-shape": b'{"content": {"start": 0, "end": 1, "boxes": [[0, 0]], "baseline": {}},'
    b' "slot": 0, "shape": [1, 2], "dtype": "float32"}',
    "lie-type": b'{"content": {}, "slot": 0, "shape": [1], "dtype": "object"}',
    "lie-text": b'{"content": {}, "slot": "0", "shape": ["1"], "dtype": "float32"}',
    "lie-content": b'{"content": 7}',
    "lie-json": b"nonsense",
    "lie-deep": b"[" * 100_000,
    "lie-list": b"[1]",
    "lie-error": b'{"error": {"type": "os"}, "leaving": false}',
}


def plain(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from run to run."""
    return {key: value for key, value in result.items() if key != "seconds"}


def misbehave(request: dict[str, Any]) -> Iterator[Any]:
    """`decode` that does what the name of a file says: it stands for a decoder with faults."""
    name = Path(request["path"]).name
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("late-crash"):
        yield from decode(request)
        os.abort()
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("deaf"):  # a decoder in an uninterruptible wait
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(600)
    if name.startswith("hungry"):
        hoard = [np.empty(1 << 28, np.uint8) for _ in range(1 << 12)]
        raise AssertionError(len(hoard))
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("exit"):
        os._exit(7)
    if name.startswith("bug"):
        raise ZeroDivisionError("of its own")
    if name.startswith("lie"):
        for handle in range(
            3, 64
        ):  # whatever socket it may hold; not the memory, where an earlier file may be read yet
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(handle).st_mode):
                    os.write(handle, LIES[name.split(".")[0]] + b"\n")
        time.sleep(600)
    if name.startswith("shrink"):  # the memory that the parent reads
        for handle in range(3, 64):
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
    yield from decode(request)
