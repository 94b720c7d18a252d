"""Figures on the protocol set by QP and sigma: `python examples/embedded/protocol_report.py DST [--model DIR]`.

Judges the clips that `protocol.py` wrote (or takes `--results FILE`, written by `grainscan predict DST -o FILE.jsonl`)
and prints, as a table and with `--output FILE` as JSON:

    AUROC    clips with grain of one sigma against the pristine ones of the same QP, whatever survived the encoder;
             with a 95 % interval from resampling scenes
    overall  the same with all sigmas together, and by the label of what survived
    strength Spearman's rank correlation with the surviving standard deviation
    ECE      expected calibration error: how far probabilities are from frequencies, labels by survival
    survives the median of the surviving standard deviation, 8-bit luma codes
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import TASK, Entry, read_set
from rich.console import Console
from rich.table import Table

from grainscan import Scanner, console
from grainscan.errors import GrainscanError
from grainscan.evaluate.bootstrap import auroc_interval
from grainscan.evaluate.metrics import auroc, ece, spearman
from grainscan.files import write_json


@dataclass(frozen=True)
class Clip:
    """A clip of the set and the verdict on it."""

    source: str
    qp: int
    sigma: int
    label: int | None  # by what survives
    surviving: float
    probability: float
    strength: float | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DST")
    parser.add_argument("--model", help="as for `grainscan predict`")
    parser.add_argument("--results", type=Path, help="judge nothing, read this JSONL of `grainscan predict`")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--workers", type=int, default=-1, help="as for `grainscan predict`")
    options = parser.parse_args()
    entries = read_set(options.folder, "python examples/embedded/protocol.py DST")
    try:
        clips, failed = read_clips(options, entries)
    except (GrainscanError, OSError, ValueError) as error:
        console.err().print(f"error: {error}", style="red")
        return 1
    for name in failed:
        console.err().print(f"not judged: {name}", style="yellow")
    figures = report(clips)
    show(figures, console.out())
    if options.output:
        write_json(options.output, figures)
    return 1 if failed else 0


def read_clips(options: argparse.Namespace, entries: dict[str, Entry]) -> tuple[list[Clip], list[str]]:
    """(the judged clips, the names of those that could not be judged)."""
    names = sorted(entries)
    if options.results:
        rows = read_rows(options.results)
    else:
        with Scanner(options.model, workers=options.workers) as scanner:
            rows = list(scanner.scan(options.folder / name for name in names))
    judged = rows_of(options.folder, rows)
    clips = [_clip(entries[name], judged[name]) for name in names if name in judged]
    return clips, [name for name in names if name not in judged]


def read_rows(results: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL of `grainscan predict`."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines() if line.strip()]


def rows_of(folder: Path, rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of the judged clips in `folder` by name in the manifest; a log may also hold rows of other folders."""
    root = folder.resolve()
    judged = ((Path(row["path"]).resolve(), row) for row in rows if row["status"] == "ok")
    return {path.relative_to(root).as_posix(): row for path, row in judged if path.is_relative_to(root)}


def _clip(entry: Entry, row: dict[str, Any]) -> Clip:
    verdict = row["tasks"][TASK]
    return Clip(
        entry["source"], entry["qp"], entry["sigma"], entry["labels"].get(TASK), entry["strength"][TASK],
        verdict["probability"], verdict.get("strength"),
    )  # fmt: skip


def report(clips: list[Clip]) -> dict[str, Any]:
    """All figures. A figure that is undefined, such as an AUROC of one class, is None."""
    figures: dict[str, Any] = {"schema": 1, "clips": len(clips), "scenes": len({clip.source for clip in clips})}
    qps = sorted({clip.qp for clip in clips})
    figures["qp"] = {str(qp): _figures([clip for clip in clips if clip.qp == qp]) for qp in qps}
    figures["all"] = _figures(clips)
    figures["strength_spearman_qp22_qp32"] = _spearman([clip for clip in clips if clip.qp < 40])
    return figures


def _figures(clips: list[Clip]) -> dict[str, Any]:
    labelled = [clip for clip in clips if clip.label is not None]
    labels = np.array([clip.label for clip in labelled], dtype=int)
    probabilities = _array(labelled, lambda clip: clip.probability)
    pristine = [clip for clip in clips if not clip.sigma]
    sigmas = {}
    for sigma in sorted({clip.sigma for clip in clips} - {0}):
        grainy = [clip for clip in clips if clip.sigma == sigma]
        sigmas[str(sigma)] = {
            **_against_pristine(pristine + grainy),
            "surviving": round(float(np.median([clip.surviving for clip in grainy])), 2),
            "labels": {str(label): sum(clip.label == label for clip in grainy) for label in (1, 0, None)},
        }
    return {
        "sigma": sigmas,
        "overall": _against_pristine(clips),
        "by_survival": {
            "auroc": auroc(labels, probabilities),
            "clips": len(labelled),
            "ece": ece(labels, probabilities),
        },
        "strength_spearman": _spearman(clips),
    }


def _against_pristine(clips: list[Clip]) -> dict[str, Any]:
    labels = np.array([bool(clip.sigma) for clip in clips], dtype=int)
    probabilities = _array(clips, lambda clip: clip.probability)
    interval = auroc_interval(labels, probabilities, groups=[clip.source for clip in clips])
    return {"auroc": auroc(labels, probabilities), "ci95": interval}


def _spearman(clips: list[Clip]) -> float | None:
    known = [clip for clip in clips if clip.strength is not None]
    estimates = _array(known, lambda clip: float(clip.strength or 0))
    return spearman(_array(known, lambda clip: clip.surviving), estimates) if known else None


def _array(clips: Iterable[Clip], value: Callable[[Clip], float]) -> np.ndarray:
    return np.array([value(clip) for clip in clips], dtype=np.float64)


def show(figures: dict[str, Any], terminal: Console) -> None:
    what = f"{figures['clips']} clips of {figures['scenes']} scenes"
    table = Table(title=f"{what}: AUROC against pristine, by grain put in")
    table.add_column("HEVC")
    sigmas = list(figures["all"]["sigma"])
    for sigma in sigmas:
        table.add_column(f"sigma {sigma}", justify="right")
    for name in ("overall", "by survival", "strength", "ECE"):
        table.add_column(name, justify="right")
    rows = {f"QP {qp}": part for qp, part in figures["qp"].items()} | {"all": figures["all"]}
    for name, part in rows.items():
        shown = (part["sigma"][sigma] for sigma in sigmas)
        cells = [f"{_text(item['auroc'])} ({item['surviving']:.1f})" for item in shown]
        survival = part["by_survival"]
        ends = (part["overall"]["auroc"], survival["auroc"], part["strength_spearman"], survival["ece"])
        table.add_row(name, *cells, *(_text(value) for value in ends))
    terminal.print(table)
    terminal.print("In parentheses: median standard deviation of the grain that survives, 8-bit luma codes.")
    terminal.print(f"Strength, Spearman at QP 22 and 32: {_text(figures['strength_spearman_qp22_qp32'])}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
