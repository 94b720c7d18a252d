"""Files in, native planes out. The only package that imports PyAV.

`probe` describes a file, `read_windows` seeks to a few windows of consecutive frames, `read_clip` reads a short clip
from its start, `write_clip` and `recode` encode. Nothing here resizes or converts colour: pixels leave as they were
decoded, in their own subsampling and bit depth, because grain lives in exactly those pixels.

A container is hostile input. Files are opened with the file protocol alone, and only by demuxers that read one file;
playlists and concat scripts, whatever their suffix, are refused before they can name another file or host.

PyAV is imported by the first name that needs it: the process that hands files to decoding processes needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grainscan.lazy import imported
from grainscan.video.damage import DAMAGEABLE, Damage, DamageKind
from grainscan.video.names import VIDEO_SUFFIXES, is_video_name
from grainscan.video.planes import Block, Pictures, PixelFormat, Stamp, Window

if TYPE_CHECKING:
    from grainscan.video.doubts import Doubts
    from grainscan.video.reader import Reader, VideoInfo, probe, read_clip
    from grainscan.video.windows import fill_indices, read_windows
    from grainscan.video.writer import CODECS, Codec, recode, write_clip

__all__ = [
    "CODECS",
    "DAMAGEABLE",
    "VIDEO_SUFFIXES",
    "Block",
    "Codec",
    "Damage",
    "DamageKind",
    "Doubts",
    "Pictures",
    "PixelFormat",
    "Reader",
    "Stamp",
    "VideoInfo",
    "Window",
    "fill_indices",
    "is_video_name",
    "probe",
    "read_clip",
    "read_windows",
    "recode",
    "write_clip",
]

_HOMES = {
    **dict.fromkeys(("CODECS", "Codec", "recode", "write_clip"), "writer"),
    **dict.fromkeys(("fill_indices", "read_windows"), "windows"),
    "Doubts": "doubts",
}


def __getattr__(name: str) -> Any:
    return imported(__name__, __all__, name, _HOMES.get(name, "reader"))
