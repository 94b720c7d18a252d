"""Makers of odd files: seeded, and nothing binary is committed. One function per case.

`ODD[name](folder)` writes one file that is odd but valid, or broken in a particular way, and returns its path.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from PIL import Image

from grainscan.video import Block, PixelFormat, write_clip

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
        {"map": [{"window": 0}]}, {"map": {}}, {"unreliable": "x"}, {"unreliable": [1]}, {"views": "4"},
        {"seconds": []},
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


# ------------------------------------------------------------------------------------------------------------ videos


def texture(frames: int, width: int, height: int, *, speed: float = 0.0, seed: int = 0) -> Block:
    """A clean, soft texture that moves by `speed` pixels per frame."""
    rng = np.random.default_rng(seed)
    wide = rng.uniform(50, 200, (height // 4 + 2, (width + int(abs(speed) * frames)) // 4 + 3))
    picture = np.asarray(Image.fromarray(wide.astype(np.uint8)).resize((wide.shape[1] * 4, wide.shape[0] * 4)))
    luma = np.stack([picture[:height, int(t * speed) : int(t * speed) + width] for t in range(frames)])
    chroma = np.full((frames, -(-height // 2), -(-width // 2)), 128, np.uint8)
    return Block((luma, chroma, chroma), PixelFormat.of("yuv420p"))


def interleaved(frames: int, width: int, height: int, *, speed: float) -> Block:
    """Two fields per frame, half a frame of movement apart."""
    fields = texture(2 * frames, width, height, speed=speed / 2)
    luma = fields.planes[0][::2].copy()
    luma[:, 1::2] = fields.planes[0][1::2, 1::2]
    chroma = fields.planes[1][::2]
    return Block((luma, chroma, chroma), fields.format)


def encode(
    path: Path,
    codec: str,
    pictures: Iterable[av.VideoFrame],
    *,
    format: str | None = None,
    sound: bool = False,
    first: int = 0,
    flags: int = 0,
) -> Path:
    """Pictures as a file of 25 frames per second, with silence beside them or not."""
    pictures = list(pictures)
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, pictures[0].format.name
        stream.gop_size = 12
        if flags:
            stream.codec_context.flags |= flags
        track = container.add_stream("mp2", rate=48000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number + first, Fraction(1, 25)
            container.mux(stream.encode(picture))
            if track is not None:
                container.mux(track.encode(silence(1920, (number + first) * 1920)))
        for each in (stream, track):
            if each is not None:
                container.mux(each.encode(None))
    return path


def silence(samples: int, pts: int = 0) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, pts, Fraction(1, 48000)
    return frame


def frames_of(block: Block, pix_fmt: str = "yuv420p") -> Iterator[av.VideoFrame]:
    for number in range(block.frames):
        frame = av.VideoFrame(block.width, block.height, "yuv420p")
        for plane, source in zip(frame.planes, block.planes, strict=True):
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : source.shape[2]] = source[number]
        yield frame if pix_fmt == "yuv420p" else frame.reformat(format=pix_fmt)


@odd
def sixteen_pixels(folder: Path) -> Path:
    write_clip(folder / "sixteen.avi", texture(16, 16, 16))
    return folder / "sixteen.avi"


@odd
def eighteen_rows(folder: Path) -> Path:
    write_clip(folder / "rows.avi", texture(16, 320, 18))
    return folder / "rows.avi"


@odd
def small_gif(folder: Path) -> Path:
    return encode(folder / "a.gif", "gif", frames_of(texture(12, 96, 64, speed=2), "rgb8"))


@odd
def palette(folder: Path) -> Path:
    return encode(folder / "palette.nut", "rawvideo", frames_of(texture(12, 96, 64, speed=2), "rgb8"))


@odd
def one_bit(folder: Path) -> Path:
    return encode(folder / "bits.nut", "rawvideo", frames_of(texture(12, 96, 64, speed=2), "monow"))


@odd
def combs(folder: Path) -> Path:
    """Interlaced, though the file does not say so."""
    write_clip(folder / "combs.avi", interleaved(16, 192, 128, speed=10))
    return folder / "combs.avi"


@odd
def fields(folder: Path) -> Path:
    """Interlaced, as the file says: MPEG-2 with field motion."""
    frames = frames_of(interleaved(24, 192, 128, speed=10))
    return encode(folder / "fields.mpg", "mpeg2video", frames, flags=Flags.interlaced_dct | Flags.interlaced_me)


@odd
def raw_dv(folder: Path) -> Path:
    return encode(folder / "raw.dv", "dvvideo", frames_of(texture(40, 720, 576, speed=2)), format="dv")


@odd
def late_stream(folder: Path) -> Path:
    """A transport stream in which sound begins when the header has long been read."""
    picture = texture(100, 320, 240, speed=7)
    silent = encode(folder / "silent.ts", "mpeg2video", frames_of(picture)).read_bytes()
    sound = encode(folder / "sound.ts", "mpeg2video", frames_of(picture), sound=True, first=100).read_bytes()
    path = folder / "late.ts"
    before, after = (size // len(silent) + 1 for size in (6_000_000, 3_000_000))  # FFmpeg looks at both ends of a file
    path.write_bytes(silent * before + sound + silent * after)
    return path


@odd
def edits_without_end(folder: Path) -> Path:
    """An MP4 of one group of pictures whose edit list jumps back and forth: every seek decodes it from its start."""
    path, frames = folder / "edits.mp4", 3000
    write_clip(path, texture(frames, 64, 48, speed=0.2), codec="h264", quality=30, gop=frames, speed=2)
    edits = [(40, i * 7919 % frames * 512, 65536) for i in range(1500)]
    path.write_bytes(with_edits(path.read_bytes(), edits))
    return path


def with_edits(movie: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """An MP4 whose first track has this edit list: (duration, media time, rate) each."""
    moov = movie.index(b"moov") - 4
    trak = movie.index(b"trak", moov) - 4
    start = movie.index(b"edts", trak) - 4
    size = struct.unpack_from(">I", movie, start)[0]
    elst = struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">IiI", *edit) for edit in edits)
    edts = struct.pack(">I4sI4s", len(elst) + 16, b"edts", len(elst) + 8, b"elst") + elst
    data = bytearray(movie)
    data[start : start + size] = edts
    for box in (moov, trak):
        struct.pack_into(">I", data, box, struct.unpack_from(">I", data, box)[0] + len(edts) - size)
    return bytes(data)


@odd
def cover_of_sound(folder: Path) -> Path:
    """Music with a picture of its cover, which FFmpeg shows as a video stream."""
    return _with_cover(folder / "cover.mp4", video=False)


@odd
def cover_of_a_video(folder: Path) -> Path:
    """A film with a poster, which comes first."""
    return _with_cover(folder / "poster.mp4", video=True)


def _with_cover(path: Path, *, video: bool) -> Path:
    poster = next(frames_of(texture(1, 128, 128), "yuvj420p"))
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 128, 128, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        second: Any = container.add_stream("h264" if video else "aac", rate=25 if video else 48000)
        if video:
            second.width, second.height, second.pix_fmt = 96, 64, "yuv420p"
        else:
            second.layout = "mono"
        poster.pts, poster.time_base = 0, Fraction(1, 1)
        container.mux([*cover.encode(poster), *cover.encode(None)])
        for frame in frames_of(texture(20, 96, 64, speed=1)) if video else (silence(1024, t * 1024) for t in range(50)):
            container.mux(second.encode(frame))
        container.mux(second.encode(None))
    return path


# ------------------------------------------------------------------------------------------------- healthy, no video


def sounds_and_pictures(folder: Path) -> list[Path]:
    """Whole files of other kinds."""
    paths = []
    for suffix, codec in (("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "flac"),
                          ("aac", "aac"), ("m4a", "aac"), ("aiff", "pcm_s16be")):  # fmt: skip
        paths.append(folder / f"sound.{suffix}")
        with av.open(str(paths[-1]), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            resampler = av.AudioResampler(stream.format or "s16", "mono", 48000)
            for number in range(20):
                for frame in resampler.resample(silence(1024, number * 1024)):
                    container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    luma = Image.fromarray(texture(1, 64, 48).planes[0][0]).convert("RGB")
    known = Image.registered_extensions()  # AVIF since Pillow 11.3
    for suffix in ("png", "jpg", "webp", "bmp", "tiff", "ico", "ppm", *(["avif"] if ".avif" in known else [])):
        paths.append(folder / f"picture.{suffix}")
        luma.save(paths[-1])
    return paths


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
