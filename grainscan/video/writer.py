"""Encode into a file, or through a codec and back in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from grainscan.errors import DataError
from grainscan.files import replacing
from grainscan.video.damage import DAMAGEABLE, Damage
from grainscan.video.damage import damage as damaged
from grainscan.video.frames import SPACES, colour_note, plane_array, reformat
from grainscan.video.planes import Block, PixelFormat, parse_format, plain_name

Planes = list[NDArray[Any]]  # of a picture


@dataclass(frozen=True)
class Codec:
    """An encoder and its scale of quality, of which the range from `best` to `worst` is used."""

    encoder: str
    formats: tuple[str, ...]
    scale: str  # qp, crf, qscale, profile, or "" for lossless
    best: int = 0
    worst: int = 0


CODECS: dict[str, Codec] = {
    "h264": Codec(
        "libx264",
        ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"),
        "qp", 16, 45,
    ),
    "hevc": Codec(
        "libx265",
        ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le"),
        "qp", 16, 47,
    ),
    "vp9": Codec("libvpx-vp9", ("yuv420p", "yuv422p", "yuv444p"), "crf", 12, 60),
    "av1": Codec("libsvtav1", ("yuv420p", "yuv420p10le"), "crf", 12, 60),
    "mpeg2": Codec("mpeg2video", ("yuv420p", "yuv422p"), "qscale", 2, 24),
    "mpeg4": Codec("mpeg4", ("yuv420p",), "qscale", 2, 24),
    "mjpeg": Codec("mjpeg", ("yuvj420p", "yuvj422p", "yuvj444p"), "qscale", 2, 20),
    "prores": Codec("prores_ks", ("yuv422p10le", "yuv444p10le"), "profile", 3, 0),
    "ffv1": Codec(
        "ffv1",
        ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "gray", "yuv420p10le", "yuv422p10le",
         "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le", "gray10le", "gray12le", "gray16le", "yuv420p9le",
         "yuv422p9le", "yuv444p9le", "yuv420p16le", "yuv422p16le", "yuv444p16le", "gbrp9le", "gbrp10le", "gbrp12le",
         "gbrp14le", "gbrp16le", "bgr0", "yuv420p14le", "yuv422p14le", "yuv444p14le"),
        "",
    ),
}  # fmt: skip
_DECODERS = {"av1": "libdav1d"}  # FFmpeg's own AV1 decoder needs hardware
_SLICES = 8  # of a frame that is to be damaged; MPEG-2 has one in each row of macroblocks


def recode(
    block: Block,
    codec: str,
    quality: int | None = None,
    *,
    fps: Fraction = Fraction(25),
    gop: int | None = None,
    speed: int = 1,
    damage: Damage | None = None,
) -> Block:
    """Encode and decode a block in memory; the result has as many frames and the same format.

    `quality` is on the codec's own scale (see CODECS), `gop` the key frame interval in frames, `speed` 0 (the encoder's
    default effort) to 2 (fastest). With `damage`, the stream is cut into slices and damaged on its way to the decoder,
    which hides what it can: its pictures are taken as they come, the one before is repeated for each that is missing.
    Raises DataError when the codec is unknown, refuses the picture, or cannot be damaged, or if nothing can be decoded.
    """
    if block.format.layout == "gray" and codec != "ffv1":
        coloured = recode(_with_chroma(block), codec, quality, fps=fps, gop=gop, speed=speed, damage=damage)
        return Block(coloured.planes[:1], block.format)
    if damage is not None and codec not in DAMAGEABLE:
        raise DataError(f"{codec} streams cannot be damaged", hint=f"Use one of: {', '.join(DAMAGEABLE)}.")
    encoder: Any = av.CodecContext.create(_codec(codec).encoder, "w")
    try:
        _open(encoder, block, codec, quality, fps=fps, gop=gop, speed=speed, slices=1 if damage is None else _SLICES)
        packets = [packet for frame in _to_frames(block, encoder.pix_fmt) for packet in encoder.encode(frame)]
        packets += encoder.encode(None)
        decoder: Any = av.CodecContext.create(_DECODERS.get(codec, encoder.codec.canonical_name), "r")
        decoder.thread_count = 1
        decoder.width, decoder.height, decoder.pix_fmt = block.width, block.height, encoder.pix_fmt
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        if damage is not None:
            shown = _decode_damaged(decoder, packets, codec, damage, block)
            return _to_block(_filled(shown, block.frames, codec), block.format)
        decoded = [frame for packet in packets for frame in decoder.decode(packet)]
        decoded += decoder.decode(None)
        if len(decoded) != block.frames:
            raise DataError(f"{codec} returned {len(decoded)} frames for {block.frames}")
        decoded.sort(key=lambda frame: frame.pts or 0)
        return _to_block([_planes(frame, block.format) for frame in decoded], block.format)
    except (av.error.FFmpegError, ValueError) as error:
        raise DataError(f"{codec} cannot encode {block.width}x{block.height} {block.format.name}: {error}") from None


def _decode_damaged(
    decoder: Any, packets: Sequence[Any], codec: str, damage: Damage, block: Block
) -> dict[int | None, Planes]:
    """What a decoder shows of a damaged stream, with its own concealment of errors, by time.

    As players do, each frame is given back before the next is decoded: where a decoder writes nothing, it shows what
    was in that memory before, parts of earlier pictures. With all frames kept, it would be black.
    """
    decoder.options = {"flags": "+output_corrupt", "flags2": "+showall"}
    shown: dict[int | None, Planes] = {}

    def decode(packet: Any) -> None:
        with contextlib.suppress(av.error.FFmpegError):  # the frame is lost
            for frame in decoder.decode(packet):
                if (frame.width, frame.height) == (block.width, block.height):
                    shown[frame.pts] = [plane.copy() for plane in _planes(frame, block.format)]

    for packet, data in zip(packets, damaged([bytes(packet) for packet in packets], codec, damage), strict=True):
        if not data:
            continue
        arrived = av.Packet(len(data))  # its own memory, padded with zeros: decoders of damaged data read beyond it
        arrived.update(data)
        arrived.pts, arrived.dts, arrived.time_base = packet.pts, packet.dts, packet.time_base
        decode(arrived)
    decode(None)
    return shown


def _filled(shown: Mapping[int | None, Planes], frames: int, codec: str) -> list[Planes]:
    """A picture for each of so many frames: for a missing one, the one before it is shown again."""
    found = [number for number in range(frames) if number in shown]
    if not found:
        raise DataError(f"nothing can be decoded of a damaged {codec} stream")
    last, pictures = shown[found[0]], []
    for number in range(frames):
        last = shown.get(number, last)
        pictures.append(last)
    return pictures


def _planes(frame: av.VideoFrame, form: PixelFormat) -> Planes:
    """The planes of a frame in a format. Codecs that work in another one: back through swscale."""
    if plain_name(frame.format.name) != form.name:
        # The mark of full range alone changes no plane, but swscale would stretch a full range to a limited one.
        if frame.format.name != plain_name(frame.format.name):
            frame = _relabelled(frame, plain_name(frame.format.name))
        frame.color_range = 0  # unspecified, so that codes are kept whatever their range
        frame = _converted(frame, form.name, form)
    return [plane_array(plane, form) for plane in frame.planes]


def _to_block(pictures: Sequence[Planes], form: PixelFormat) -> Block:
    planes = [np.stack(planes) for planes in zip(*pictures, strict=False)][: form.planes]
    if form.layout == "rgb":
        planes = [planes[2], planes[0], planes[1]]
    return Block(tuple(planes), form)


def write_clip(
    path: str | os.PathLike[str],
    block: Block,
    *,
    fps: Fraction = Fraction(25),
    codec: str = "ffv1",
    quality: int | None = None,
    gop: int | None = None,
    speed: int = 0,
) -> None:
    """Encode a block into a file, whose suffix names the container and which appears only when it is complete.

    Lossless by default; options as in `recode`. Raises DataError when the codec refuses, OSError when the disk does.
    """
    target = Path(path)
    encoder = _codec(codec).encoder
    if block.format.layout == "gray" and codec != "ffv1":
        block = _with_chroma(block)
    try:
        with replacing(target, durable=False) as temporary, av.open(f"file:{temporary}", "w") as container:
            stream: Any = container.add_stream(encoder, rate=fps)
            _open(stream.codec_context, block, codec, quality, fps=fps, gop=gop, speed=speed)
            if container.format.name == "avi":
                container.metadata["comment"] = colour_note(block.format)
            for frame in _to_frames(block, stream.codec_context.pix_fmt):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise DataError(f"{target}: {codec} cannot write {block.format.name}: {error}") from None


def _codec(name: str) -> Codec:
    if name not in CODECS:
        raise DataError(f"{name} is not a codec", hint=f"Use one of: {', '.join(CODECS)}.")
    return CODECS[name]


def _open(
    context: Any,
    block: Block,
    codec: str,
    quality: int | None,
    *,
    fps: Fraction,
    gop: int | None,
    speed: int,
    slices: int = 1,
) -> None:
    """Configure an encoder for a block and open it. `slices` of a frame are only for H.264 and HEVC."""
    about = CODECS[codec]
    os.environ.setdefault("SVT_LOG", "1")  # else that encoder writes its configuration to stderr
    if quality is None and about.scale:
        quality = (about.best + about.worst) // 2
    context.width, context.height = block.width, block.height
    context.pix_fmt = _encodable(block.format, about)
    context.framerate = fps
    context.time_base = 1 / fps
    context.thread_count = 1
    if gop is not None:
        context.gop_size = gop
    context.color_range = _range_code(block.format)
    context.colorspace = SPACES[block.format.matrix]
    options: dict[str, str] = {}
    if codec == "h264":
        # The QP of x264 starts at an origin that depends on the bit depth, that of x265 at the one for 8 bits.
        deep = 6 * (10 - 8) if context.pix_fmt.endswith("10le") else 0
        options = {"qp": str((quality or 0) + deep), "preset": ("medium", "veryfast", "ultrafast")[speed]}
        if slices > 1:
            options["slices"] = str(slices)
    elif codec == "hevc":
        options = {
            "preset": ("medium", "veryfast", "ultrafast")[speed],
            "x265-params": f"qp={quality}:log-level=none:frame-threads=1"
            # Its slices are empty unless rows of blocks are encoded in a pool.
            + (":pools=none" if slices == 1 else f":pools=1:wpp=1:slices={slices}")
            + (f":keyint={gop}:min-keyint={gop}" if gop else ""),
        }
    elif codec == "vp9":
        options = {"crf": str(quality), "b": "0", "deadline": ("good", "realtime", "realtime")[speed],
                   "cpu-used": ("2", "6", "8")[speed]}  # fmt: skip
    elif codec == "av1":
        options = {"crf": str(quality), "preset": ("8", "11", "13")[speed], "svtav1-params": "lp=1"}
    elif about.scale == "qscale":  # a fixed quantiser: global_quality would have to be set on every frame
        options = {"qmin": str(quality), "qmax": str(quality)}
    elif about.scale == "profile":
        options = {"profile": str(quality)}
    elif codec == "ffv1":
        options = {"level": "3", "slicecrc": "0"}
    context.options = options
    context.open(strict=False)
    if codec == "av1":
        _leave_real_time()


def _leave_real_time() -> None:
    """Restore the normal scheduling of all threads of this process.

    SVT-AV1 requests real-time priority for itself and for the thread that calls it, and gets it as root (in any
    container): nothing else would run on the machine until it is done.
    """
    if not hasattr(os, "sched_setscheduler"):
        return
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _range_code(form: PixelFormat) -> int:
    """FFmpeg's number for the range: 2 full, 1 limited. RGB reaches lossy codecs as YUV of limited range."""
    return 2 if form.full_range and form.layout != "rgb" else 1


def _with_chroma(block: Block) -> Block:
    """A gray block as 4:2:0 with neutral chroma: few codecs know gray, and swscale assumes full range for it."""
    depth = min(block.format.depth, 12)
    form = PixelFormat.of("yuv420p" if depth == 8 else f"yuv420p{depth}le", full_range=block.format.full_range)
    luma = block.planes[0] >> (block.format.depth - depth)
    chroma = np.full((block.frames, -(-block.height // 2), -(-block.width // 2)), 1 << (depth - 1), dtype=form.dtype)
    return Block((luma, chroma, chroma), form)


def _encodable(form: PixelFormat, codec: Codec) -> str:
    """The encoder's pixel format that preserves most of `form`."""
    for name in codec.formats:
        if plain_name(name) == form.name:
            return name
    if form.layout == "rgb":
        if codec.encoder == "ffv1":  # it has no planar 8-bit RGB; the packed form holds the same codes
            return "bgr0" if form.depth == 8 else "gbrp16le"
        form = PixelFormat.of("yuv444p" if form.depth == 8 else "yuv444p10le")

    def distance(candidate: str) -> tuple[int, int, int]:
        layout, depth, sub_w, sub_h = parse_format(plain_name(candidate)) or ("yuv", 8, 1, 1)
        chroma = abs(sub_w - form.sub_w) + abs(sub_h - form.sub_h) + (layout == "gray") * (form.layout != "gray") * 9
        return (max(0, form.depth - depth), chroma, max(0, depth - form.depth))

    return min(codec.formats, key=distance)


def _to_frames(block: Block, pix_fmt: str) -> Iterator[av.VideoFrame]:
    """Frames of a block for an encoder that works in `pix_fmt`."""
    order: Sequence[int] = (1, 2, 0) if block.format.layout == "rgb" else range(len(block.planes))
    same = plain_name(pix_fmt) == block.format.name
    for number in range(block.frames):
        frame = av.VideoFrame(block.width, block.height, pix_fmt if same else block.format.name)
        for plane, source in zip(frame.planes, order, strict=False):
            plane_array(plane, block.format)[...] = block.planes[source][number]
        if not same:
            converted = _converted(frame, plain_name(pix_fmt), block.format)
            frame = converted if pix_fmt == plain_name(pix_fmt) else _relabelled(converted, pix_fmt)
        frame.color_range = _range_code(block.format)
        frame.pts = number
        yield frame


def _converted(frame: av.VideoFrame, name: str, form: PixelFormat) -> av.VideoFrame:
    """The frame in another format by swscale, with one matrix both ways: its defaults differ by direction."""
    space = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}[form.matrix]
    return reformat(frame, format=name, src_colorspace=space, dst_colorspace=space)


def _relabelled(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The same codes under the name of another format with the same planes."""
    copy = av.VideoFrame(frame.width, frame.height, name)
    form = PixelFormat.of(plain_name(name))
    for target, source in zip(copy.planes, frame.planes, strict=True):
        plane_array(target, form)[...] = plane_array(source, form)
    copy.pts = frame.pts
    return copy
