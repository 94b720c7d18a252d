"""Are ten artifacts found in your own clips? `python examples/embedded/filters.py SRC DST [--model DIR]`.

SRC is a folder of clean clips. Up to 48 frames of each, from its start, are written to DST as they are and with one
artifact each, most of them weak and strong, by FFmpeg's filters and encoders, which share nothing with grainscan's own
synthesis:

    SOURCE_clean.mkv, SOURCE_banding_1.mkv, SOURCE_banding_2.mkv, …, labels.json, manifest.json

    graininess          noise=alls=8:allf=t; 18
    blockiness          x264 at CRF 38 without deblocking; MPEG-4 at its coarsest
    banding             lutyuv: levels 10 codes apart; 20
    spatial_blur        gblur=sigma=1.5; 3
    motion_blur         tmix=frames=6 where that changes the picture by 2 codes; dblur=radius=9 at some angle
    aliasing            scale to a half by the nearest pixel, and back; to a third, and back by lines
    dark_scenes         lutyuv: 0.14 of the luma above black
    black_screen        8 black frames
    frame_drop          3 frames missing; one shown 6 times more, each where the picture moves by a code
    transmission_error  bytes of 2 packets of an H.264 stream replaced, where that is seen; of 8

All others are encoded with x264 at CRF 20. Then the clips are judged. The table says, of every artifact: the AUROC
against all clips without it, with a 95 % interval from resampling sources, and against the clean ones; the share that
is found at the threshold, weak and strong; and the share of clean clips that is called. What the sources have by
themselves (a dark scene, a cartoon that repeats its frames) counts as clean, and so as a false alarm.
"""

from __future__ import annotations

import argparse
import itertools
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from common import Entry, make_all, read_set, write_set
from numpy.typing import NDArray
from rich.table import Table

from grainscan import Scanner, console
from grainscan.errors import VideoError
from grainscan.evaluate.bootstrap import auroc_interval
from grainscan.evaluate.metrics import auroc
from grainscan.files import write_json
from grainscan.scan.inputs import collect
from grainscan.tasks import SYNTHESISED

FRAMES, FEWEST = 48, 24
LARGEST = 1300  # pixels across: larger clips take long
CLOCK = Fraction(1, 1000)
MOVES, CHANGES = 1.0, 2.0  # 8-bit codes (RMS): less motion hides a missing frame, less change is not seen
DARK = "lutyuv=y='16+(val-16)*0.14':u='128+(val-128)*0.3':v='128+(val-128)*0.3'"
STEPS = "lutyuv=y='floor(val/{0})*{0}+{1}':u='floor(val/{1})*{1}+{1}/2':v='floor(val/{1})*{1}+{1}/2'"

Pictures = NDArray[np.uint8]  # (frames, height * 3 / 2, width): planar 4:2:0


@dataclass(frozen=True, eq=False)
class Variant:
    """A clip with one artifact, or (None) without."""

    task: str | None
    strength: int  # 1 weak, 2 strong
    pictures: Pictures
    visible: bool = True
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "20", "preset": "veryfast"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("folder", type=Path, metavar="DST")
    parser.add_argument("--most", type=int, default=60, help="clips of SRC that are used, by name (default: 60)")
    parser.add_argument("--model", help="as for `grainscan predict`")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="as for `grainscan predict`")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    if not (options.folder / "labels.json").exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        clips = make_all(
            make,
            [Path(name) for name in collect([options.source])[: options.most]],
            options.folder,
            workers=options.workers,
        )
        write_set(options.folder, clips, script="embedded/filters.py")
    entries = read_set(options.folder, "this script with an empty DST")
    with Scanner(options.model, every=options.every, workers=options.workers) as scanner:
        rows = {Path(row["path"]).name: row["tasks"] for row in scanner.scan(options.folder / name for name in entries)}
    figures = {task: measure(task, entries, rows) for task in SYNTHESISED}
    show(figures, len({entry["source"] for entry in entries.values()}), len(entries))
    if options.output:
        write_json(options.output, figures)
    return 0


# -------------------------------------------------------------------------------------------------------------- making


def make(path: Path, folder: Path) -> dict[str, Entry]:
    """Write the clips of a source; their entries in the manifest by name. Raises VideoError, DataError."""
    rng = random.Random(zlib.crc32(path.name.encode()))
    pictures, rate = read(path)
    made: dict[str, Entry] = {}
    for variant in variants(pictures, rate, rng):
        strength = f"_{variant.strength}" if variant.task else ""
        name = f"{path.stem}_{variant.task or 'clean'}{strength}.mkv"
        write(folder / name, variant, rate)
        labels: dict[str, int | None] = dict.fromkeys(SYNTHESISED, 0)
        if variant.task:
            labels[variant.task] = 1 if variant.visible else None
        made[name] = {"source": path.name, "strength_class": variant.strength, "labels": labels}
    return made


def read(path: Path) -> tuple[Pictures, Fraction]:
    """Pictures from the start of a file, in 4:2:0 at 8 bits, and their rate."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.width > LARGEST:
                raise VideoError(f"{path}: wider than {LARGEST} pixels")
            rate = stream.average_rate if stream.average_rate and 5 < stream.average_rate <= 120 else Fraction(25)
            found = []
            for frame in container.decode(stream):
                width, height = frame.width // 2 * 2, frame.height // 2 * 2
                found.append(frame.reformat(width, height, "yuv420p", threads=1).to_ndarray())
                if len(found) == FRAMES:
                    break
    except (av.error.FFmpegError, IndexError) as error:
        raise VideoError(f"{path}: {getattr(error, 'strerror', 'has no pictures')}") from error
    if len(found) < FEWEST or len({picture.shape for picture in found}) > 1:
        raise VideoError(f"{path}: too short, or of changing size")
    return np.stack(found), rate.limit_denominator(1001)


def variants(pictures: Pictures, rate: Fraction, rng: random.Random) -> Iterator[Variant]:
    height, width = pictures.shape[1] // 3 * 2, pictures.shape[2]

    through = partial(filtered, pictures)
    back = f"scale={width}:{height}"
    yield Variant(None, 0, pictures)
    for number, amount in enumerate((8, 18), 1):
        yield Variant("graininess", number, through(f"noise=alls={amount}:allf=t"))
    coarse = {"crf": "38", "preset": "veryfast", "x264-params": "no-deblock=1"}
    yield Variant("blockiness", 1, pictures, options=coarse)
    yield Variant("blockiness", 2, pictures, codec="mpeg4", options={"qmin": "24", "qmax": "31", "b": "50000"})
    for number, apart in enumerate((10, 20), 1):
        yield Variant("banding", number, through(STEPS.format(apart, apart // 2)))
    for number, sigma in enumerate((1.5, 3), 1):
        yield Variant("spatial_blur", number, through(f"gblur=sigma={sigma}"))
    mixed = through("tmix=frames=6")
    yield Variant("motion_blur", 1, mixed, visible=bool(np.median(differences(mixed, pictures, height)) >= CHANGES))
    yield Variant("motion_blur", 2, through(f"dblur=angle={rng.choice((0, 30, 90, 150))}:radius=9"))
    half, third = (f"scale={width // n * 2}:{height // n * 2}:flags=neighbor" for n in (4, 6))
    yield Variant("aliasing", 1, through(half, f"{back}:flags=neighbor"))
    yield Variant("aliasing", 2, through(third, f"{back}:flags=bilinear"))
    yield Variant("dark_scenes", 1, through(DARK))
    at = [rng.randrange(len(pictures) // 4, len(pictures) // 2) for _ in range(3)]
    black = pictures.copy()
    black[at[0] : at[0] + 8] = filtered(pictures[:1], "lutyuv=y=16:u=128:v=128")
    yield Variant("black_screen", 1, black)
    step = differences(pictures[1:], pictures[:-1], height)
    moves = [bool(np.median(step[place - 3 : place + 6]) >= MOVES) for place in at]
    yield Variant("frame_drop", 1, np.delete(pictures, np.s_[at[1] : at[1] + 3], axis=0), visible=moves[1])
    frozen = pictures.copy()
    frozen[at[2] : at[2] + 6] = pictures[at[2] - 1]
    yield Variant("frame_drop", 2, frozen, visible=moves[2])
    for number, packets in enumerate((2, 8), 1):
        shown = damaged(pictures, rate, packets, rng)
        seen = float(differences(shown, pictures, height).max()) >= CHANGES
        yield Variant("transmission_error", number, shown, visible=seen)


def differences(pictures: Pictures, others: Pictures, height: int) -> NDArray[np.float32]:
    """RMS of each picture's luma from another, (frames,), 8-bit codes."""
    count = min(len(pictures), len(others))
    change = pictures[:count, :height].astype(np.float32) - others[:count, :height]
    return np.sqrt(np.square(change).mean(axis=(1, 2)))


def filtered(pictures: Pictures, *filters: str) -> Pictures:
    """The pictures that a chain of FFmpeg's filters makes of these."""
    height, width = pictures.shape[1] // 3 * 2, pictures.shape[2]
    graph = av.filter.Graph()
    chain = [graph.add("buffer", f"video_size={width}x{height}:pix_fmt=yuv420p:time_base={CLOCK}:pixel_aspect=1/1")]
    chain += [graph.add(*each.split("=", 1)) for each in filters]
    chain.append(graph.add("buffersink"))
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    found: list[NDArray[np.uint8]] = []

    def drain() -> None:
        while True:
            try:
                frame: Any = chain[-1].pull()
                found.append(frame.reformat(format="yuv420p", threads=1).to_ndarray())
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    for frame in frames_of(pictures, CLOCK):
        chain[0].push(frame)
        drain()
    chain[0].push(None)
    drain()
    return np.stack(found)


def frames_of(pictures: Pictures, clock: Fraction) -> Iterator[av.VideoFrame]:
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts, frame.time_base = number, clock
        yield frame


def write(path: Path, variant: Variant, rate: Fraction) -> None:
    part = path.with_name(f".{path.name}")
    height, width = variant.pictures.shape[1] // 3 * 2, variant.pictures.shape[2]
    try:
        with av.open(str(part), "w", format="matroska") as container:
            stream: Any = container.add_stream(variant.codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {**variant.options, "threads": "1"}
            for frame in frames_of(variant.pictures, 1 / rate):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        part.replace(path)
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def damaged(pictures: Pictures, rate: Fraction, packets: int, rng: random.Random) -> Pictures:
    """What a decoder shows of an H.264 stream in which some packets have lost some of their bytes."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = pictures.shape[2], pictures.shape[1] // 3 * 2, "yuv420p"
    encoder.time_base = 1 / rate
    encoder.options = {"crf": "22", "preset": "veryfast", "slices": "4", "bframes": "0", "threads": "1"}
    stream = [bytes(packet) for frame in (*frames_of(pictures, 1 / rate), None) for packet in encoder.encode(frame)]
    hit = set(rng.sample(range(len(stream) // 4, len(stream) * 3 // 4), packets))
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.options = {"err_detect": "ignore_err"}  # damaged frames are shown, not left out
    shown: list[NDArray[np.uint8]] = []
    for number, content in enumerate([*stream, None]):
        packet = None
        if content is not None:
            data = bytearray(content)
            for _ in range(4 if number in hit else 0):
                first = rng.randrange(len(data) // 4, len(data))
                data[first : first + 30] = rng.randbytes(min(30, len(data) - first))
            packet = av.Packet(bytes(data))
        try:
            shown += [frame.reformat(format="yuv420p", threads=1).to_ndarray() for frame in decoder.decode(packet)]
        except av.error.FFmpegError:
            continue  # the frame is missing
    return np.stack(shown)


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(task: str, entries: dict[str, Entry], rows: dict[str, Any]) -> dict[str, Any]:
    """The figures of one task."""
    known = [(rows[name][task], entry) for name, entry in entries.items() if entry["labels"][task] is not None]
    clean = [pair for pair in known if not any(pair[1]["labels"].values()) and not pair[1]["strength_class"]]
    there = [pair for pair in known if pair[1]["labels"][task]]

    def ranked(pairs: Sequence[tuple[Any, Entry]]) -> tuple[list[int], list[float]]:
        return [entry["labels"][task] for _, entry in pairs], [verdict["probability"] for verdict, _ in pairs]

    def called(pairs: Sequence[tuple[Any, Entry]]) -> float | None:
        return float(np.mean([verdict["label"] for verdict, _ in pairs])) if pairs else None

    return {
        "auroc": auroc(*ranked(known)),
        "ci95": auroc_interval(*ranked(known), groups=[entry["source"] for _, entry in known]),
        "against_clean": auroc(*ranked([*there, *clean])),
        "clips": [len(known) - len(there), len(there)],
        "found": {number: called([pair for pair in there if pair[1]["strength_class"] == number]) for number in (1, 2)},
        "false_alarms": called(clean),
    }


def show(figures: dict[str, Any], sources: int, clips: int) -> None:
    table = Table(title=f"{clips} clips of {sources} sources: AUROC by task")
    for name in ("task", "with / without", "AUROC", "95 %", "against clean", "found: weak", "strong", "clean, called"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, row in figures.items():
        low, high = row["ci95"] or (float("nan"),) * 2
        shares = (*row["found"].values(), row["false_alarms"])
        table.add_row(
            task,
            f"{row['clips'][1]} / {row['clips'][0]}",
            *("-" if value is None else f"{value:.3f}" for value in (row["auroc"],)),
            f"{low:.2f}-{high:.2f}",
            *("-" if value is None else f"{value:.3f}" for value in (row["against_clean"],)),
            *("-" if value is None else f"{value:.0%}" for value in shares),
        )
    console.out().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
