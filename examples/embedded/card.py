"""Write measured figures into the embedded model's card: `python examples/embedded/card.py DST --protocol P.json …`.

    grainscan predict DST --model small -o P.jsonl
    python examples/embedded/protocol_report.py DST --results P.jsonl --output P.json
    grainscan eval CLIPS --model small --format json -o R.json               # clips judged by eye, if there are any
    python examples/embedded/card.py DST --protocol P.json --results P.jsonl --real R.json
    python examples/embedded/protocol_ten_report.py TEN --output T.json      # the other artifacts: `protocol_ten.py`
    python examples/embedded/card.py --ten T.json

DST is the protocol set (`protocol.py`). Nothing is judged here: every figure is taken from these files. The picture of
failures shows the computed scenes, which are our own, that the model ranks worst.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import TASK, Entry, read_set
from matplotlib.figure import Figure
from protocol_report import read_rows, rows_of

from grainscan.files import replacing, write_text
from grainscan.model.spec import find_model
from grainscan.video import Reader, read_windows
from grainscan.views.colour import to_rgb

BEGIN, END = "<!-- measured: examples/embedded/card.py -->", "<!-- end of measured -->"
BEGIN_TEN, END_TEN = "<!-- measured: examples/embedded/card.py --ten -->", "<!-- end of measured, ten -->"
OURS = "made-"  # how the names of computed scenes begin
CROP = (160, 120)  # pixels; shown at twice the size
SHOWN = 3  # of each kind of failure
PICTURE = "failures.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="DST", help="the protocol set")
    parser.add_argument("--protocol", type=Path, help="written by protocol_report.py --output")
    parser.add_argument("--results", type=Path, help="written by grainscan predict -o P.jsonl")
    parser.add_argument("--ten", type=Path, help="written by protocol_ten_report.py --output")
    parser.add_argument("--real", type=Path, help="written by grainscan eval --format json")
    options = parser.parse_args()
    directory = find_model("small")
    if options.ten:
        lines = ten_table(json.loads(options.ten.read_text(encoding="utf-8")))
        write_between(directory / "README.md", [BEGIN_TEN, "", *lines, "", END_TEN], BEGIN_TEN, END_TEN)
    if not options.folder:
        return
    if not options.protocol or not options.results:
        parser.error("DST needs --protocol and --results")
    entries = read_set(options.folder, "python examples/embedded/protocol.py DST")
    lines = [BEGIN, "", *protocol_table(json.loads(options.protocol.read_text(encoding="utf-8")))]
    if options.real:
        lines += real_table(json.loads(options.real.read_text(encoding="utf-8")))
    lines += failures(options.folder, entries, read_rows(options.results), directory / PICTURE)
    write_between(directory / "README.md", [*lines, "", END])
    print(f"{directory / 'README.md'}, {PICTURE}")


def protocol_table(figures: dict[str, Any]) -> list[str]:
    """The figures of `protocol_report.py` as Markdown."""
    sigmas = list(figures["all"]["sigma"])
    lines = [
        "## Known grain through HEVC",
        "",
        f"{figures['clips']} clips of {figures['scenes']} scenes that training never saw "
        "(`examples/embedded/protocol.py`).",
        "AUROC of the clips with grain of one sigma against the pristine ones of the same QP; in parentheses, the",
        "median standard deviation, in 8-bit luma codes, that the encoder left of it. By survival: clips with at least",
        "1.5 codes left against those with less than 0.6. `python examples/embedded/protocol_report.py DST`",
        "",
        "| | "
        + " | ".join(f"sigma {sigma}" for sigma in sigmas)
        + " | all sigmas | by survival | ECE | strength, Spearman |",
        "|" + "---|" * (len(sigmas) + 5),
    ]
    parts = {f"QP {qp}": part for qp, part in figures["qp"].items()} | {"all": figures["all"]}
    for name, part in parts.items():
        cells = [f"{number(part['sigma'][s]['auroc'])} ({part['sigma'][s]['surviving']:.1f})" for s in sigmas]
        survival = part["by_survival"]
        ends = (part["overall"]["auroc"], survival["auroc"], survival["ece"], part["strength_spearman"])
        lines.append("| " + " | ".join([name, *cells, *map(number, ends)]) + " |")
    both = number(figures["strength_spearman_qp22_qp32"])
    return [*lines, "", f"Strength at QP 22 and 32 together: Spearman {both} against the true surviving strength.", ""]


def ten_table(figures: dict[str, Any]) -> list[str]:
    """The figures of `protocol_ten_report.py` as Markdown."""
    lines = [
        "## Ten artifacts through HEVC",
        "",
        f"{figures['clips']} clips of {figures['scenes']} scenes that training never saw, QP 32 and 47, artifacts",
        "alone and combined, about half of them made by means that the synthesis does not use",
        "(`examples/embedded/protocol_ten.py DST --limit 480`). MVAD is the published figure on BVI-Artefact",
        "(Feng et al. 2024), another set: a yardstick, not a comparison.",
        "`python examples/embedded/protocol_ten_report.py DST`",
        "",
        "| artifact | with, without | AUROC, 95 % interval | MVAD | target | met |",
        "|---|---|---|---|---|---|",
    ]
    for task, found in figures["tasks"].items():
        without, having = found["clips"]
        interval = "–" if found["ci95"] is None else "[{:.2f}, {:.2f}]".format(*found["ci95"])
        met = "yes" if found["met"] else "no"
        counts = f"{having}, {without}"
        cells = (f"`{task}`", counts, f"{number(found['auroc'])} {interval}", found["published"], found["target"], met)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def real_table(report: dict[str, Any]) -> list[str]:
    """The figures of `eval` on clips judged by eye as Markdown."""
    block = report["tasks"][TASK]
    (tn, fp), (fn, tp) = block["confusion"]
    low, high = block["ci95"]["auroc"]
    baseline = block["baseline"]
    return [
        "## Real clips judged by eye",
        "",
        f"{report['clips']} clips, {fn + tp} of them grainy; their licences keep them out of the repository. "
        "`grainscan eval CLIPS --format json`",
        "",
        "| | |",
        "|---|---|",
        f"| AUROC, 95 % interval | {block['auroc']:.3f} [{low:.2f}, {high:.2f}] |",
        f"| classical detector chosen beforehand, {baseline['name']} | {baseline['auroc']:.3f} |",
        f"| strongest classical detector on these very clips, {baseline['strongest']['name']} | "
        f"{baseline['strongest']['auroc']:.3f} |",
        f"| expected calibration error | {block['ece']:.3f} |",
        f"| at the threshold {block['threshold']:.3g} | {tp} of {fn + tp} grainy clips found, "
        f"{fp} false alarms on {tn + fp} clean ones |",
        "",
    ]


def failures(folder: Path, entries: dict[str, Entry], rows: list[dict[str, Any]], picture: Path) -> list[str]:
    """Draw the computed scenes that are ranked worst, clean ones above grainy ones; Markdown that shows the picture."""
    judged = {name: row["tasks"][TASK]["probability"] for name, row in rows_of(folder, rows).items()}
    known = [
        (judged[name], name, entry)
        for name, entry in entries.items()
        if name in judged and entry["source"].startswith(OURS) and TASK in entry["labels"]
    ]
    clean = sorted((item for item in known if item[2]["labels"][TASK] == 0), key=lambda item: -item[0])
    grainy = sorted((item for item in known if item[2]["labels"][TASK] == 1), key=lambda item: item[0])
    columns = []
    for group, title in ((clean, "clean"), (grainy, "grainy")):
        different: dict[str, tuple[float, str, Any]] = {}
        for item in group:
            different.setdefault(item[2]["source"], item)
        columns.append((title, list(different.values())[:SHOWN]))
    figure = Figure(figsize=(SHOWN * CROP[0] * 2 / 100, 2 * (CROP[1] * 2 + 28) / 100), dpi=100)
    axes = figure.subplots(2, SHOWN, squeeze=False)
    for line, (title, items) in zip(axes, columns, strict=True):
        for axis, (probability, name, entry) in zip(line, items, strict=False):
            axis.imshow(middle(folder / name), interpolation="nearest")
            scene = entry["source"].removeprefix(OURS).removesuffix("-test")
            axis.set_title(f"{scene}, QP {entry['qp']}, {title}: probability {probability:.2f}", fontsize=8)
        for axis in line:
            axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 0.94, 0.01, 0.12)
    with replacing(picture) as temporary:
        figure.savefig(temporary)
    return [
        "## Known failures",
        "",
        "Of the computed scenes of that set: the clean clips with the highest probability and the grainy ones with the",
        "lowest, a part of a frame at twice its size.",
        "",
        f"![The clean and the grainy clips ranked worst]({PICTURE})",
    ]


def middle(path: Path) -> np.ndarray:
    """The middle of a clip's first frame, (height, width, 3)."""
    with Reader(str(path)) as reader:
        window = next(iter(read_windows(reader, windows=1, frames=1)))
    width, height = min(CROP[0], window.width), min(CROP[1], window.height)
    block = window.block((window.width - width) // 4 * 2, (window.height - height) // 4 * 2, width, height)
    return to_rgb(block)[0].transpose(1, 2, 0)


def write_between(path: Path, lines: list[str], begin: str = BEGIN, end: str = END) -> None:
    """Replace the lines from `begin` to `end`, or insert them before the figures of the training."""
    text = path.read_text(encoding="utf-8")
    if begin in text:
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
    else:
        head, tail = text.split("## Figures", 1)
        tail = "\n\n## Figures" + tail
    write_text(path, head + "\n".join(lines) + tail)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
