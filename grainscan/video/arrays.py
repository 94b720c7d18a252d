"""Arrays as if they were open files: each frame is a key frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.video.frame import PictureType

from grainscan.video.frames import plane_array
from grainscan.video.planes import Pictures
from grainscan.video.reader import Key, Reader, VideoInfo


class ArrayReader(Reader):
    """A clip in memory. Only the frames that are wanted are copied, one by one; their codes are not changed."""

    def __init__(self, pictures: Pictures) -> None:
        self.path = pictures.name
        self.interlaced, self.undecodable, self.film_grain = False, 0, None
        self._timeout, self.ahead = 0.0, False  # nothing to wait for
        self._pictures = pictures
        self._next = 0
        count, height, width, _ = pictures.frames.shape
        self.info = VideoInfo(
            container="",
            codec="",
            width=width,
            height=height,
            fps=pictures.fps,
            duration=float(count / pictures.fps),
            frames=count,
            pix_fmt=pictures.format.name,
        )

    def __exit__(self, *exception: object) -> None:
        pass

    def restart(self) -> None:
        self._next = 0

    def seek(self, pts: int) -> None:
        self._next = pts

    def key_frame_before(self, seconds: float) -> Key:
        number = min(int(seconds / self._time_base), len(self._pictures.frames) - 1)
        return Key(number, number)

    def frames(self) -> Iterator[av.VideoFrame]:
        form = self._pictures.format
        for number in range(self._next, len(self._pictures.frames)):
            red, green, blue = self._pictures.planes(number)
            frame = av.VideoFrame(self.info.width, self.info.height, form.name)
            for plane, codes in zip(frame.planes, (green, blue, red), strict=True):
                plane_array(plane, form)[...] = codes
            frame.pts = number
            frame.pict_type = PictureType.I
            yield frame

    @property
    def _start(self) -> int:
        return 0

    @property
    def _time_base(self) -> Fraction:
        return 1 / self._pictures.fps
