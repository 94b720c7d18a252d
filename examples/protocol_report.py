"""Figures on the protocol set by QP and sigma: `python examples/protocol_report.py DST [--model DIR]`.

Judges the clips that `protocol.py` wrote (or takes `--results FILE`, written by `grainscan predict DST --format jsonl`)
and prints, as a table and with `--output FILE` as JSON:

    AUROC    clips with grain of one sigma against the pristine ones of the same QP, whatever survived the encoder;
             with a 95 % interval from resampling scenes
    overall  the same with all sigmas together, and by the label of what survived
    strength Spearman's rank correlation with the surviving deviation
    ECE      expected calibration error of the probabilities against the labels by survival
    survives the median of the surviving deviation, 8-bit luma codes
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
from rich.console import Console
from rich.table import Table

from grainscan import Scanner
from grainscan.data.manifest import read_manifest
from grainscan.errors import GrainscanError
from grainscan.evaluate.bootstrap import auroc_interval
from grainscan.evaluate.metrics import auroc, ece, spearman

TASK = "graininess"


@dataclass(frozen=True)
class Clip:
    """A clip of the set and what the detector said of it."""

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
    parser.add_argument("--model", help="as of `grainscan predict`")
    parser.add_argument("--results", type=Path, help="judge nothing: read this JSONL of `grainscan predict`")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--workers", type=int, default=-1)
    options = parser.parse_args()
    console = Console(stderr=True)
    manifest = read_manifest(options.folder)
    if manifest is None:
        console.print(f"error: {options.folder} has no manifest.json; protocol.py writes it", style="red")
        return 2
    try:
        clips, failed = read_clips(options, manifest["clips"])
    except (GrainscanError, OSError, ValueError) as error:
        console.print(f"error: {error}", style="red")
        return 1
    for name in failed:
        console.print(f"not judged: {name}", style="yellow")
    figures = report(clips)
    show(figures, Console())
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def read_clips(options: argparse.Namespace, entries: dict[str, Any]) -> tuple[list[Clip], list[str]]:
    """What was judged, and the names of what was not."""
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
    """By name in the manifest, the rows of judged clips in `folder`: a log may hold those of other folders, too."""
    root = folder.resolve()
    judged = ((Path(row["path"]).resolve(), row) for row in rows if row["status"] == "ok")
    return {path.relative_to(root).as_posix(): row for path, row in judged if path.is_relative_to(root)}


def _clip(entry: dict[str, Any], row: dict[str, Any]) -> Clip:
    said = row["tasks"][TASK]
    return Clip(
        entry["source"], entry["qp"], entry["sigma"], entry["labels"].get(TASK), entry["strength"][TASK],
        said["probability"], said.get("strength"),
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
            **_put_in(pristine + grainy),
            "surviving": round(float(np.median([clip.surviving for clip in grainy])), 2),
            "labels": {str(label): sum(clip.label == label for clip in grainy) for label in (1, 0, None)},
        }
    return {
        "sigma": sigmas,
        "overall": _put_in(clips),
        "by_survival": {
            "auroc": auroc(labels, probabilities),
            "clips": len(labelled),
            "ece": ece(labels, probabilities),
        },
        "strength_spearman": _spearman(clips),
    }


def _put_in(clips: list[Clip]) -> dict[str, Any]:
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


def show(figures: dict[str, Any], console: Console) -> None:
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
    console.print(table)
    console.print("In parentheses: median deviation of the grain that survives, 8-bit luma codes.")
    console.print(f"Strength, Spearman at QP 22 and 32: {_text(figures['strength_spearman_qp22_qp32'])}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
