"""Hide faults in a clip and look for them: `python examples/events.py [--minutes 10] [--keep clip.mkv]`.

The clip has pans, moving things, static shots, cuts and fades. Into it go black stretches, freezes, dropped frames (each
left out, repeated, or missing by its timestamp) and one burst of damaged packets. `grainscan predict --every 0` looks at
every frame; what it finds is printed beside what was hidden, and the exit code is 1 if the two differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

import grainscan

FPS = 25
DROPS = ("left out", "repeated", "late")  # a dropped frame shows as a jump, as a repetition, or by its timestamp
BURST = 6  # damaged packets in a row
TOLERANCE = 2  # frames by which start and end may differ


@dataclass(frozen=True)
class Fault:
    """Something hidden at frame `at` of the source, before frames are dropped."""

    kind: str  # black, freeze, damage, or one of DROPS
    at: int
    frames: int = 1

    @property
    def task(self) -> str:
        return {"black": "black_screen", "damage": "transmission_error"}.get(self.kind, "frame_drop")


@dataclass(frozen=True)
class Interval:
    """Where an artifact is, seconds."""

    task: str
    start: float
    end: float

    def agrees(self, other: Interval) -> bool:
        close = (abs(self.start - other.start), abs(self.end - other.end))
        return self.task == other.task and max(close) <= (TOLERANCE + 0.5) / FPS

    def __str__(self) -> str:
        return f"{self.task:<19} {self.start:8.3f} to {self.end:8.3f} s"


# ------------------------------------------------------------------------------------------------------- the footage


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray[Any, Any]:
    """Soft and fine structure with the falling spectrum of natural pictures, float32 in 30 to 210."""
    picture = np.zeros((height, width), np.float32)
    for octave in range(3, 8):
        step = 1 << (8 - octave)
        rough = rng.standard_normal((height // step + 2, width // step + 2)).astype(np.float32)
        rows, columns = np.arange(height) / step, np.arange(width) / step
        top, left = rows.astype(int), columns.astype(int)
        down, right = (rows - top)[:, None].astype(np.float32), (columns - left)[None].astype(np.float32)
        upper = rough[top][:, left] * (1 - right) + rough[top][:, left + 1] * right
        lower = rough[top + 1][:, left] * (1 - right) + rough[top + 1][:, left + 1] * right
        picture += (upper * (1 - down) + lower * down) * step**0.9
    picture -= picture.min()
    return 30 + picture * (180 / picture.max())


def _sampled(
    big: np.ndarray[Any, Any], y: float, x: float, height: int, width: int, scale: float = 1.0
) -> np.ndarray[Any, Any]:
    """A part of a picture by bilinear interpolation, so that slow motion is smooth."""
    if scale == 1.0:
        top, left, down, right = int(y), int(x), y % 1, x % 1
        part = big[top : top + height + 1, left : left + width + 1]
        part = part[:-1] * (1 - down) + part[1:] * down
        return part[:, :-1] * (1 - right) + part[:, 1:] * right
    rows, columns = np.arange(height) * scale, np.arange(width) * scale
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top).astype(np.float32)[:, None], (columns - left).astype(np.float32)[None]
    part = big[top] * (1 - down) + big[top + 1] * down
    return part[:, left] * (1 - right) + part[:, left + 1] * right


def _with_thing(picture: np.ndarray[Any, Any], place: np.ndarray[Any, Any], level: float) -> np.ndarray[Any, Any]:
    """The picture with a soft disc in front of it."""
    height, width = picture.shape
    y, x = np.arange(height)[:, None] - place[0], np.arange(width)[None] - place[1]
    cover = np.clip((height / 6 - np.hypot(y, x)) / 3, 0, 1).astype(np.float32)
    return picture * (1 - cover) + level * cover


def shots(seed: int, frames: int, width: int, height: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """(kind of shot, luma (height, width) float32) of each frame. Kinds take turns; a cut lies between two shots."""
    kinds = ("pan", "things", "static", "fades", "tilt", "zoom")
    done = number = 0
    while done < frames:
        rng = np.random.default_rng([seed, number])
        kind, length = kinds[number % len(kinds)], int(rng.integers(4 * FPS, 8 * FPS))
        length = min(length, frames - done)
        big = _texture(rng, height * 3, width * 3)
        speed = rng.uniform(1.5, 4.0) * width / 640
        places = rng.uniform(0.2, 0.8, (5, 2)) * (height, width)
        ways = speed * np.array([(np.sin(angle), np.cos(angle)) for angle in rng.uniform(0, 6.28, 5)])
        for t in range(length):
            gain = 1.0
            if kind == "zoom":
                scale = 1.0 + 0.6 * t / length
                picture = _sampled(big, 0.0, 0.0, height, width, scale)
            else:
                x = speed * t if kind in ("pan", "fades") else 0.0
                y = speed * t if kind == "tilt" else 0.0
                picture = _sampled(big, y, x, height, width)
            if kind == "things":
                for number_of, (place, way) in enumerate(zip(places, ways, strict=True)):
                    picture = _with_thing(picture, place + way * t, 60 + 35 * number_of)
            if kind == "fades":  # in from dark grey, and out to it
                gain = 0.12 + 0.88 * min(1.0, t / 20, (length - t) / 20)
            yield kind, 16 + (picture - 16) * gain
        done, number = done + length, number + 1


def hidden(rng: np.random.Generator, kinds: list[str]) -> list[Fault]:
    """The faults of a clip whose frames have these kinds of shots: where something moves, well apart from cuts."""
    stretches = (0.2, 0.5, 2.0)
    wanted = [("damage", BURST), *(("black", round(s * FPS)) for s in stretches), *(("freeze", n) for n in (25, 8))]
    wanted += [(DROPS[i % 3], 1) for i in range(10)]
    free = np.array([kind not in ("static", "fades") for kind in kinds])
    cuts = np.flatnonzero([a != b for a, b in zip(kinds, kinds[1:], strict=False)]) + 1
    for cut in (0, *cuts, len(kinds)):
        free[max(0, cut - 15) : cut + 15] = False
    faults = []
    for kind, count in wanted:
        room = [at for at in np.flatnonzero(free) if free[at : at + count + 15].all()]
        at = int(rng.choice(room))
        faults.append(Fault(kind, at, count))
        free[max(0, at - 30) : at + count + 30] = False
    return sorted(faults, key=lambda fault: fault.at)


def make(path: Path, seconds: float, *, width: int = 640, height: int = 360, seed: int = 0) -> list[Interval]:
    """Write the clip and return what is in it."""
    frames = round(seconds * FPS)
    kinds = [kind for kind, _ in shots(seed, frames, 4, 4)]
    faults = {fault.at: fault for fault in hidden(np.random.default_rng(seed + 1), kinds)}
    truth: list[Interval] = []
    times: list[int] = []  # of the frames in the file
    noise = np.random.default_rng(seed + 2).normal(0, 1.0, (16, height, width)).astype(np.float32)
    damaged: set[int] = set()
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.options = {"preset": "veryfast", "crf": "23", "g": "50"}
        frame = av.VideoFrame(width, height, "yuv420p")
        at, fault, left, held = 0, None, 0, None
        for number, (_, luma) in enumerate(shots(seed, frames, width, height)):
            if number in faults:
                fault = faults[number]
                left = fault.frames
                if fault.kind == "left out":
                    truth.append(Interval(fault.task, at / FPS, (at + 1) / FPS))
                    left = 0
                    continue
                truth.append(Interval(fault.task, at / FPS, (at + left) / FPS))
            if left:
                left -= 1
                if fault.kind == "late":
                    at += 1
                    continue
                if fault.kind == "black":
                    luma = np.full_like(luma, 16)
                elif fault.kind in ("freeze", "repeated"):
                    luma = held
                elif fault.kind == "damage":
                    damaged.add(at)
            else:
                luma = luma + noise[number % 16]
                held = luma
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, values in zip(frame.planes, (luma, None, None), strict=True):
                array = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
                array[...] = 128 if values is None else np.clip(np.rint(values), 0, 255)
            frame.pts, frame.time_base = at, Fraction(1, FPS)
            at += 1
            for packet in stream.encode(frame):
                container.mux(_sent(packet, damaged, stream))
        for packet in stream.encode(None):
            container.mux(_sent(packet, damaged, stream))
    return truth


def _sent(packet: Any, damaged: set[int], stream: Any) -> Any:
    """The packet as it arrives: with wrong bytes if its picture is to be damaged."""
    if round(packet.pts * packet.time_base * FPS) not in damaged:
        return packet
    data = np.frombuffer(bytes(packet), np.uint8).copy()
    rng = np.random.default_rng(len(data))
    start = min(len(data) - 1, 40)
    data[start:] = rng.integers(0, 256, len(data) - start)
    broken = av.Packet(data.tobytes())
    broken.stream, broken.pts, broken.dts, broken.time_base = stream, packet.pts, packet.dts, packet.time_base
    broken.duration, broken.is_keyframe = packet.duration, packet.is_keyframe
    return broken
