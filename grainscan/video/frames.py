"""FFmpeg frames to native planes and back."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from grainscan.video.film_grain import Carried, parse
from grainscan.video.planes import Matrix, PixelFormat, parse_format, plain_name

SPACES: dict[Matrix, int] = {"bt709": 1, "bt601": 6, "bt2020": 9}  # FFmpeg's numbers, for writing
_MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_UNSPECIFIED = 2


def colour_note(form: PixelFormat) -> str:
    """How to read the samples of a file, as a comment in it: neither AVI nor FFV1 has a field for that."""
    return f"grainscan: {form.matrix}, {'full' if form.full_range else 'limited'} range"


_NOTES = {
    colour_note(PixelFormat.of("yuv420p", matrix=matrix, full_range=full)): (space, 1 + full)
    for matrix, space in SPACES.items()
    for full in (False, True)
}


def heed_note(note: str, frame: av.VideoFrame) -> None:
    """Mark a frame as a `colour_note` says, where its stream says nothing."""
    if note in _NOTES:
        space, colour_range = _NOTES[note]
        if int(frame.colorspace) == _UNSPECIFIED:
            frame.colorspace = space
        if int(frame.color_range) == 0:
            frame.color_range = colour_range


def film_grain_of(frame: av.VideoFrame) -> Carried | None:
    """The film-grain parameters that come with a frame of a decoder that exports them."""
    data: Any = frame.side_data.get("FILM_GRAIN_PARAMS")
    return None if data is None else parse(bytes(data), av.library_versions["libavutil"][0])


def _planar_name(form: av.VideoFormat) -> str:
    """The planar format nearest to a packed, big-endian, semi-planar or palettised one."""
    deep = _most_bits(form) > 8
    if form.is_rgb or form.has_palette or form.is_bayer:
        return "gbrp16le" if deep else "gbrp"
    if len([c for c in form.components if not c.is_alpha]) == 1:
        return "gray16le" if deep else "gray"
    depth = {10: "10le", 12: "12le"}.get(form.components[0].bits, "16le" if deep else "")
    half_width, half_height = form.chroma_width(64) < 64, form.chroma_height(64) < 64
    return ("yuv420p" if half_height else "yuv422p" if half_width else "yuv444p") + depth


def bit_depth(name: str) -> int:
    """The most bits per sample of the pixel format with this name; 8 if FFmpeg does not know it."""
    try:
        return _most_bits(av.VideoFormat(name))
    except ValueError:
        return 8


def _most_bits(form: av.VideoFormat) -> int:
    return int(max((component.bits for component in form.components), default=8))


def picture_of(frame: av.VideoFrame) -> tuple[tuple[NDArray[Any], ...], PixelFormat]:
    """The planes of a frame without alpha, and how to read them. RGB planes come as R, G, B."""
    name = frame.format.name
    # Without a mark, players assume BT.601 for standard definition and BT.709 above.
    matrix = _MATRICES.get(int(frame.colorspace)) or ("bt601" if frame.height <= 576 else "bt709")
    full_range = int(frame.color_range) == 2 or name.startswith("yuvj")
    planes = frame.planes
    if parse_format(plain_name(name)) is None or any(plane.line_size < 0 for plane in planes):
        frame = reformat(frame, format=_planar_name(frame.format))
        name, planes = frame.format.name, frame.planes
    form = PixelFormat.of(plain_name(name), matrix=matrix, full_range=full_range)
    arrays = tuple(plane_array(plane, form) for plane in planes[: form.planes])
    if form.layout == "rgb":  # FFmpeg stores G, B, R
        arrays = (arrays[2], arrays[0], arrays[1])
    return arrays, form


def reformat(frame: av.VideoFrame, **target: Any) -> av.VideoFrame:
    """The frame converted by swscale, in this thread.

    PyAV starts a thread per processor and frame, and keeps them while the converted frame lives: on a large machine, a
    clip needs more threads than there may be.
    """
    return frame.reformat(**target, threads=1)


def plane_array(plane: Any, form: PixelFormat) -> NDArray[Any]:
    samples = plane.line_size // np.dtype(form.dtype).itemsize
    flat = np.frombuffer(plane, dtype=form.dtype, count=plane.height * samples)
    return flat.reshape(plane.height, samples)[:, : plane.width]
