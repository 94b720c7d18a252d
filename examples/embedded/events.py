"""Hide faults in a clip and look for them with `every=0`.

The clip has pans, moving things, static shots, cuts and fades. Into it go black stretches, freezes, dropped frames
(each is left out, repeated, or missing by its timestamp alone) and one burst of damaged packets. What is found is
printed beside what was hidden; the exit code is 1 if the two differ.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from grainscan import Scanner

TASKS = ("black_screen", "frame_drop", "transmission_error")
FPS = 25
GOP = 50  # frames between key frames, after which damage is gone
DROPS = ("left out", "repeated", "late")  # a dropped frame shows as a jump, as a repetition, or by its timestamp
ALL = {  # what is hidden by default
    "damage": (6,),  # packets in a row
    "black": (5, 12, 50),
    "freeze": (8, 25),
    **dict(zip(DROPS, ((1,) * 4, (1,) * 3, (1,) * 3), strict=True)),
}
APART = 15  # frames between a fault and a cut; twice that between two faults
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
                    bounced = np.abs((place + way * t) % (2 * height, 2 * width) - (height, width))
                    picture = _with_thing(picture, bounced, 60 + 35 * number_of)
            if kind == "fades":  # in from dark grey, and out to it
                gain = 0.12 + 0.88 * min(1.0, t / 20, (length - t) / 20)
            yield kind, 16 + (picture - 16) * gain
        done, number = done + length, number + 1


def hidden(seed: int, kinds: list[str], counts: dict[str, tuple[int, ...]]) -> list[Fault]:
    """Faults for a clip whose frames have these kinds of shots: where something moves, apart from cuts and each other.

    `counts` maps a kind of fault to the frames that each takes.
    """
    rng = np.random.default_rng([seed, len(kinds)])
    free = np.array([kind not in ("static", "fades") for kind in kinds])
    cuts = np.flatnonzero([a != b for a, b in itertools.pairwise(kinds)]) + 1
    for cut in (0, *cuts, len(kinds)):
        free[max(0, cut - APART) : cut + APART] = False
    faults = []
    wanted = [(kind, frames) for kind, each in counts.items() for frames in each]
    for kind, frames in sorted(wanted, key=lambda fault: -fault[1]):
        room = [at for at in np.flatnonzero(free) if free[at : at + frames].all() and at + frames < len(free)]
        if not room:
            raise SystemExit(f"no room for {kind} of {frames} frames: make the clip longer")
        at = int(rng.choice(room))
        faults.append(Fault(kind, at, frames))
        free[max(0, at - 2 * APART) : at + frames + 2 * APART] = False
    return sorted(faults, key=lambda fault: fault.at)


def make(
    path: Path,
    seconds: float,
    *,
    width: int = 640,
    height: int = 360,
    seed: int = 0,
    counts: dict[str, tuple[int, ...]] = ALL,
) -> list[Interval]:
    """Write the clip and return what is in it."""
    frames = round(seconds * FPS)
    kinds = [kind for kind, _ in shots(seed, frames, 4, 4)]
    faults = {fault.at: fault for fault in hidden(seed, kinds, counts)}
    noise = np.random.default_rng(seed).normal(0, 1.0, (16, height, width)).astype(np.float32)
    truth: list[Interval] = []
    damaged: set[int] = set()
    fault, left, at, held = Fault("", 0), 0, 0, noise[0]
    with av.open(str(path), "w") as container:
        sender = _Sender(container, width, height, damaged)
        for number, (_, luma) in enumerate(shots(seed, frames, width, height)):
            picture = luma + noise[number % len(noise)]
            if number in faults:
                fault, left = faults[number], faults[number].frames
                truth.append(Interval(fault.task, at / FPS, (at + left) / FPS))
            if left:
                left -= 1
                if fault.kind == "left out":
                    continue
                if fault.kind == "late":
                    at += 1
                    continue
                if fault.kind == "black":
                    picture = np.full_like(luma, 16)
                elif fault.kind == "damage":
                    damaged.add(at)
                else:
                    picture = held
            held = picture
            sender.send(at, picture)
            at += 1
        sender.end()
    return [each if each.task != "transmission_error" else _until_repaired(each, sender.keys) for each in truth]


def _until_repaired(burst: Interval, keys: list[int]) -> Interval:
    """Pictures predicted from a damaged one are damaged, too, up to the next key frame."""
    return Interval(burst.task, burst.start, min(key for key in keys if key / FPS >= burst.end) / FPS)


class _Sender:
    """Encodes pictures and mangles the packets of the damaged ones. `keys` are the times of the key frames."""

    def __init__(self, container: Any, width: int, height: int, damaged: set[int]) -> None:
        self.keys: list[int] = []
        self._container, self._damaged = container, damaged
        self._stream = container.add_stream("libx264", rate=FPS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "23", "g": str(GOP), "threads": "1"}

    def send(self, at: int, luma: np.ndarray[Any, Any]) -> None:
        frame = av.VideoFrame(luma.shape[1], luma.shape[0], "yuv420p")
        for plane in frame.planes:
            array = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            array[...] = np.clip(np.rint(luma), 0, 255) if plane.width == luma.shape[1] else 128
        frame.pts, frame.time_base = at, Fraction(1, FPS)
        self._mux(self._stream.encode(frame))

    def end(self) -> None:
        self._mux(self._stream.encode(None))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            at = round(packet.pts * packet.time_base * FPS)
            if packet.is_keyframe:
                self.keys.append(at)
            self._container.mux(self._mangled(packet) if at in self._damaged else packet)

    def _mangled(self, packet: Any) -> Any:
        data = np.frombuffer(bytes(packet), np.uint8).copy()
        start = min(len(data) - 1, 40)  # the header of the slice stays
        data[start:] = np.random.default_rng(len(data)).integers(0, 256, len(data) - start)
        broken = av.Packet(data.tobytes())
        for name in ("stream", "pts", "dts", "time_base", "duration", "is_keyframe"):
            setattr(broken, name, getattr(packet, name))
        return broken


# --------------------------------------------------------------------------------------------------------- the search


def search(path: Path, model: str | None = None) -> list[Interval]:
    """What `grainscan` finds in the clip."""
    with Scanner(model, every=0, tasks=TASKS) as scanner:
        events = scanner.predict(path)["events"]
    return [Interval(event["task"], event["start"], event["end"]) for event in events]


def compare(truth: list[Interval], found: list[Interval]) -> Iterator[tuple[Interval | None, Interval | None]]:
    """(hidden, found) in order of time; None where the other has no counterpart."""
    rest = list(found)
    pairs: list[tuple[Interval | None, Interval | None]] = []
    for each in truth:
        match = next((one for one in rest if one.agrees(each)), None)
        if match is not None:
            rest.remove(match)
        pairs.append((each, match))
    pairs += [(None, one) for one in rest]
    yield from sorted(pairs, key=lambda pair: (pair[0] or pair[1] or pairs[0][0]).start)  # type: ignore[union-attr]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="model directory; default: the embedded one")
    parser.add_argument("--keep", type=Path, help="write the clip here (.mkv) and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "clip.mkv"
        truth = make(path, 60 * options.minutes, seed=options.seed)
        pairs = list(compare(truth, search(path, options.model)))
    for hidden_one, found_one in pairs:
        print(f"{hidden_one or 'not hidden'!s:<45} {found_one or 'NOT FOUND'}")
    wrong = sum(None in pair for pair in pairs)
    print(f"{len(truth)} hidden, {wrong} missed or found in vain")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
