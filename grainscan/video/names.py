"""Which names are those of video files."""

from __future__ import annotations

import os

VIDEO_SUFFIXES = frozenset([
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".av1", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".gxf",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
    ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
])  # fmt: skip


def is_video_name(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix is one that video files carry."""
    return os.path.splitext(os.fspath(path))[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122 (hot over whole libraries)
