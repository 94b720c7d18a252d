"""Makers of odd files: seeded, and nothing binary is committed. One function per case.

`ODD[name](folder)` writes one file that is odd but valid, or broken in a particular way, and returns its path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Maker = Callable[[Path], Path]
ODD: dict[str, Maker] = {}


def odd(maker: Maker) -> Maker:
    """Register a maker under its own name."""
    ODD[maker.__name__] = maker
    return maker


# -------------------------------------------------------------------------------------------------------------- logs


def broken_rows() -> list[bytes]:
    """Lines that look like rows of a log and are none."""
    verdict = {"label": 1, "probability": 0.9, "threshold": 0.5}
    row: dict[str, Any] = {"schema": 1, "path": "a", "status": "ok", "model": "m", "tasks": {"graininess": verdict}}
    verdicts: list[Any] = [1, {}, {**verdict, "label": "1"}, {**verdict, "label": []}, {**verdict, "probability": "x"},
                           {**verdict, "probability": True}, {**verdict, "probability": float("nan")},
                           {**verdict, "probability": float("inf")}, {**verdict, "threshold": "x"}]  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {"path": 3}, {"path": None}, {"status": "fine"}, {"status": ["ok"]}, {"tasks": None}, {"tasks": []},
        {"windows": 4}, {"windows": [1]}, {"windows": [{"start": "0", "end": 1}]}, {"windows": [{"graininess": 1}]},
        {"file": [1]}, {"video": "h264"}, {"model": None}, {"status": "error"}, {"status": "error", "error": "bad"},
        {"status": "error", "error": {}}, *({"tasks": {"graininess": value}} for value in verdicts),
    ]  # fmt: skip
    lines = [json.dumps({**row, **change}).encode() for change in wrong]
    del row["tasks"]
    lines += [json.dumps(row).encode(), b'{"schema": 1, "path": "a", "status": "ok", "tasks": ' + b"[" * 100_000]
    lines += [b'{"schema": 1, "path": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001]
    lines += [json.dumps({**row, "tasks": {"g": {"label": 1, "probability": "?"}}}).replace('"?"', "1e999").encode()]
    return [line + b"\n" for line in lines]
