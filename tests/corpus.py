"""Makers of odd files: seeded, and nothing binary is committed. One function per case.

`ODD[name](folder)` writes one file that is odd but valid, or broken in a particular way, and returns its path.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

Maker = Callable[[Path], Path]
ODD: dict[str, Maker] = {}


def odd(maker: Maker) -> Maker:
    """Register a maker under its own name."""
    ODD[maker.__name__] = maker
    return maker


# ------------------------------------------------------------------------------------------------------------ memory


def encoded(path: Path, width: int, height: int, frames: int, pix_fmt: str, references: int) -> Path:
    """HEVC whose decoder has to keep `references` pictures."""
    options = f"ref={references}:bframes=0:keyint=64:allow-non-conformance=1:log-level=none"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = {"preset": "ultrafast", "x265-params": options}
        for number in range(frames):
            frame = av.VideoFrame(width, height, pix_fmt)
            deep = pix_fmt.endswith("10le")
            for index, plane in enumerate(frame.planes):
                level = (90 if index == 0 else 128) + (number if index == 0 else 0)
                kind = np.uint16 if deep else np.uint8
                plane.update(np.full(plane.buffer_size // (1 + deep), level << 2 * deep, kind).tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def gif(path: Path, width: int, height: int, frames: int) -> Path:
    """Pictures of one colour: a few hundred bytes of LZW for a megapixel."""
    picture = _one_colour(width * height)
    data = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x81, 0, 0) + bytes([90] * 3 + [200] * 3 + [10] * 6)
    for _ in range(frames):
        data += b"\x21\xf9\x04\x00\x04\x00\x00\x00" + struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + picture
    path.write_bytes(data + b";")
    return path


def _one_colour(pixels: int) -> bytes:
    """GIF's LZW of that many zeros: each code stands for one pixel more than the code before."""
    packed, bits, held = bytearray(), 0, 0

    def put(code: int, width: int) -> None:
        nonlocal bits, held
        bits |= code << held
        held += width
        while held >= 8:
            packed.append(bits & 255)
            bits >>= 8
            held -= 8

    width = 3
    while pixels > 0:
        put(4, width)  # clear
        width, following, run = 3, 6, 2
        put(0, width)
        pixels -= 1
        while pixels > 0 and following < 4095:
            code, length = (following, run) if run <= pixels else (0, 1)
            put(code, width)
            pixels, run, following = pixels - length, run + 1, following + 1
            if following == 1 << width and width < 12:
                width += 1
    put(5, width)  # end
    packed.append(bits & 255)
    blocks = (packed[start : start + 255] for start in range(0, len(packed), 255))
    return b"\x02" + b"".join(bytes([len(block)]) + bytes(block) for block in blocks) + b"\x00"


def compressed_header(path: Path, size: int) -> Path:
    """A QuickTime file whose header is compressed, and says that it has `size` bytes."""
    stream = zlib.compress(bytes(1000))
    body = _atom(b"dcom", b"zlib") + _atom(b"cmvd", struct.pack(">I", size) + stream)
    path.write_bytes(_atom(b"ftyp", b"qt  \x00\x00\x00\x00qt  ") + _atom(b"moov", _atom(b"cmov", body)))
    return path


def _atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


@odd
def hevc_8k_16_references(folder: Path) -> Path:
    """1.3 GB in a decoder."""
    return encoded(folder / "hevc_8k_16_references.mkv", 7680, 4320, 24, "yuv420p", 16)


@odd
def hevc_8k_16_references_10_bits(folder: Path) -> Path:
    """2.1 GB in a decoder."""
    return encoded(folder / "hevc_8k_16_references_10_bits.mkv", 7680, 4320, 24, "yuv420p10le", 16)


@odd
def gif_8k(folder: Path) -> Path:
    """50 KB of file, and 1.1 GB for one window."""
    return gif(folder / "gif_8k.gif", 7680, 4320, 10)


@odd
def huge_compressed_header(folder: Path) -> Path:
    """700 bytes that ask for 2.1 GB before there is a picture."""
    return compressed_header(folder / "huge_compressed_header.mov", 0x7FFFFFFF)
