"""The encoders that `tables.py` and `levels.py` run: aomenc (Debian: aom-tools) and SvtAv1EncApp (svt-av1)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Block, Window, read_clip

FRAMES = 8  # of a window, as in `predict`
QUALITY = 12  # of both encoders, 0 to 63: what they lose is far below the grain


def need(*programs: str) -> None:
    """Exit if an encoder is missing."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        raise SystemExit(f"error: {' and '.join(missing)} not found\nhint: apt-get install aom-tools svt-av1")


def clean_clips(folder: Path, *, frames: int, width: int, height: int, skip: str = "") -> Iterable[tuple[str, Block]]:
    """The middle of 8-bit 4:2:0 clips that are long enough, by name."""
    skipped = tuple(filter(None, skip.split(",")))
    for path in sorted(folder.glob("*.mkv")):
        if skipped and path.name.startswith(skipped):
            continue
        block = read_clip(path, frames=frames)
        if block.frames == frames and block.format.name == "yuv420p":
            wide, high = min(block.width, width) // 16 * 16, min(block.height, height) // 16 * 16
            left, top = (block.width - wide) // 4 * 2, (block.height - high) // 4 * 2
            yield path.stem, block.crop(left, top, wide, high).copy()


def aomenc(block: Block, *options: str) -> Block:
    """The block as aomenc encodes and a decoder shows it, film grain included."""
    common = ("--passes=1", "--cpu-used=6", "--end-usage=q", f"--cq-level={QUALITY}", "--threads=2", "--ivf", "-q")
    return _coded(block, lambda source, target: ("aomenc", source, "-o", target, *common, *options))


def svt(block: Block, *options: str) -> Block:
    """The block as SvtAv1EncApp encodes and a decoder shows it, film grain included."""
    common = ("--preset", "8", "--crf", str(QUALITY), "--lp", "2", "--progress", "0")
    return _coded(block, lambda source, target: ("SvtAv1EncApp", "-i", source, "-b", target, *common, *options))


def _coded(block: Block, command) -> Block:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.y4m"), Path(folder, "target.ivf")
        write_y4m(source, block)
        words = command(str(source), str(target))
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode or not target.is_file():
            raise SystemExit(f"error: {' '.join(words)} failed\n{done.stderr or done.stdout}")
        return read_clip(target)


def write_y4m(path: Path, block: Block) -> None:
    """An uncompressed 8-bit 4:2:0 clip."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{block.width} H{block.height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(block.frames):
            file.write(b"FRAME\n" + b"".join(plane[number].tobytes() for plane in block.planes))


def windows(block: Block) -> Iterable[Window]:
    """The block in windows of FRAMES frames."""
    for start in range(0, block.frames - FRAMES + 1, FRAMES):
        pictures = tuple(tuple(plane[i] for plane in block.planes) for i in range(start, start + FRAMES))
        yield Window(start / 25, (start + FRAMES) / 25, block.format, pictures)


def statistics(block: Block, clean: Block, plane: int = 0) -> tuple[float, float]:
    """(standard deviation, autocorrelation at a lag of one pixel) of what a clip has that the clean one has not."""
    change: NDArray[np.float32] = block.planes[plane].astype(np.float32) - clean.planes[plane]
    change = change - change.mean(axis=(1, 2), keepdims=True)
    power = float(np.square(change).mean(dtype=np.float64))
    across = float((change[:, :, 1:] * change[:, :, :-1]).mean(dtype=np.float64))
    down = float((change[:, 1:] * change[:, :-1]).mean(dtype=np.float64))
    return power**0.5, (across + down) / 2 / max(power, 1e-9)
