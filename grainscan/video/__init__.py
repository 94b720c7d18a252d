"""Files in, native planes out. The only package that imports PyAV.

`probe` describes a file, `read_windows` seeks a few windows of consecutive frames, `read_clip` reads a short clip from
its start, `write_clip` and `recode` encode. Nothing here resizes or converts colour: pixels leave as the decoder made
them, in their own subsampling and bit depth, because grain lives in exactly those pixels.

A container is hostile input. Files are opened with the file protocol alone and only by demuxers that read one file;
playlists and concat scripts, whatever their suffix, are refused before they can name another file or host.
"""

from __future__ import annotations

from grainscan.video.planes import Block, PixelFormat, Window
from grainscan.video.reader import (
    VIDEO_SUFFIXES,
    Reader,
    VideoInfo,
    fill_indices,
    is_video_name,
    probe,
    read_clip,
    read_windows,
    verify,
)
from grainscan.video.writer import CODECS, Codec, recode, write_clip

__all__ = [
    "CODECS",
    "VIDEO_SUFFIXES",
    "Block",
    "Codec",
    "PixelFormat",
    "Reader",
    "VideoInfo",
    "Window",
    "fill_indices",
    "is_video_name",
    "probe",
    "read_clip",
    "read_windows",
    "recode",
    "verify",
    "write_clip",
]
