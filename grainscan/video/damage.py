"""Transmission errors as data: which parts of an encoded stream are lost on the way to the decoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DamageKind = Literal["frame", "slice", "tail", "cut", "flip"]
DAMAGEABLE = ("h264", "hevc", "mpeg2", "mpeg4")

_START = re.compile(rb"\x00\x00\x01")
_LOST_FLIPS = 0.004  # bits flipped per byte at an amount of 1: a few in each kilobyte


@dataclass(frozen=True)
class Damage:
    """What is lost of a stream, from the share `first` of its frames on, in as many frames as `frames` says.

    kind: `frame` loses whole frames, `slice` a run of slices, `tail` the end of a frame, `cut` bytes from its middle,
    as lost transport packets do, and `flip` inverts single bits. `amount` in (0, 1] is the share of a frame's slices,
    bytes or errors. Parameter sets and headers of sequences always arrive, as broadcasters repeat them.
    """

    kind: DamageKind
    first: float = 0.0
    frames: int = 1
    amount: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("frame", "slice", "tail", "cut", "flip"):
            raise ValueError(f"{self.kind} is not a kind of damage")
        if not (0 <= self.first < 1 and self.frames >= 1 and 0 < self.amount <= 1):
            raise ValueError("damage needs first in [0, 1), at least one frame, and an amount in (0, 1]")


def damage(packets: Sequence[bytes], codec: str, about: Damage) -> list[bytes]:
    """The packets, a frame each, as they arrive; b"" for a lost frame."""
    rng = np.random.default_rng(about.seed)
    first = int(about.first * len(packets))
    if about.kind == "frame" and first == 0 and len(packets) > about.frames:
        first = 1  # the first picture lost is a late start, not an error
    arrived = list(packets)
    for number in range(first, min(first + about.frames, len(packets))):
        arrived[number] = _hit(packets[number], codec, about, rng)
    return arrived


def _hit(packet: bytes, codec: str, about: Damage, rng: np.random.Generator) -> bytes:
    if about.kind == "frame":
        return b""
    slices = _slices(packet, codec)
    if not slices:
        return packet
    if about.kind == "slice" and len(slices) > 1:
        count = max(1, min(len(slices) - 1, round(about.amount * len(slices))))
        start = int(rng.integers(len(slices) - count + 1))
        end = slices[start + count] if start + count < len(slices) else len(packet)
        return packet[: slices[start]] + packet[end:]
    head = slices[0] + 8  # start code and the header of the first slice
    size = len(packet) - head
    if size < 2:
        return packet
    lost = max(1, round(about.amount * size))
    if about.kind == "flip":
        data = np.frombuffer(packet, np.uint8).copy()
        hits = head + rng.integers(size, size=max(1, round(_LOST_FLIPS * about.amount * size)))
        data[hits] ^= (1 << rng.integers(8, size=hits.size)).astype(np.uint8)
        return data.tobytes()
    if about.kind == "cut":
        start = head + int(rng.integers(size - lost + 1))
        return packet[:start] + packet[start + lost :]
    return packet[: len(packet) - lost]  # the tail, or a frame in a single slice


def _slices(packet: bytes, codec: str) -> list[int]:
    """Where the slices of a frame start in its packet (MPEG-4: the frame itself, whose parts have no start codes)."""
    starts = [match.start() for match in _START.finditer(packet) if match.end() < len(packet)]
    return [start for start in starts if _is_slice(packet[start + 3], codec)]


def _is_slice(code: int, codec: str) -> bool:
    if codec == "h264":
        return (code & 31) in (1, 5)
    if codec == "hevc":
        return (code >> 1) & 63 < 32
    return 1 <= code <= 0xAF if codec == "mpeg2" else code == 0xB6
