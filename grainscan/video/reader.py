"""Open, probe and read files."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from grainscan.errors import VideoError, timed_out
from grainscan.video.film_grain import Carried
from grainscan.video.frames import film_grain_of, heed_note, picture_of
from grainscan.video.planes import Block, PixelFormat

log = logging.getLogger(__name__)

# Demuxers that read only the file they are given. hls, dash, concat, image2, imf and their like open others.
_DEMUXERS = (
    "3gp,amv,apng,asf,asf_o,av1,avi,avs2,avs3,bink,cavsvideo,dirac,dv,ea,evc,film_cpk,flic,flv,gif,gxf,h261,h263,h264,"
    "hevc,ivf,ivr,live_flv,lvf,lxf,m4v,matroska,mjpeg,mjpeg_2000,mov,mp4,mpeg,mpegts,mpegvideo,mv,mxf,nsv,nut,nuv,obu,"
    "ogg,pva,rm,roq,smjpeg,thp,vc1,vc1test,vivo,vvc,webm,wtv,xmv,yuv4mpegpipe"
)
_BROKEN_PACKETS = 64  # undecodable packets in a row before a stream is given up
_SEEK_BY_DTS = ("mpegts", "mpeg")  # without an index, these seek by decoding time
_PACKETS_TO_KEY = 1200  # demuxed after a seek in search of a key frame: MPEG-TS lands between them
_FASTEST = 1000  # frames per second; some demuxers report the ticks of their clock as the average rate
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
_KINDS = {  # the first bytes of healthy files of other kinds
    "sound": rb"RIFF....WAVE|ID3|\xff[\xe2-\xff]|fLaC|FORM....AIF|\.snd|MThd|#!AMR|caff|MAC |wvpk|\x0bw|OggS",
    "a picture": rb"\x89PNG|\xff\xd8\xff|BM....\0\0\0\0|II[*+]\0|MM\0[*+]|RIFF....WEBP|....ftyp(?:heic|heix|mif1|avif)"
    rb"|8BPS|\0\0\x01\0|v/1\x01|SDPX|XPDS|P[1-6]\s|\0\0\0\x0cjP|\xff\x0a|<svg",
    "text": rb"(?!YUV4MPEG2)[\t\n\r\x20-\x7e]+\Z",
}


@dataclass(frozen=True)
class VideoInfo:
    """A video stream as its container describes it."""

    container: str
    codec: str
    width: int
    height: int
    fps: Fraction | None
    duration: float | None  # seconds
    frames: int | None
    pix_fmt: str

    def as_dict(self) -> dict[str, Any]:
        """The `video` object of a result."""
        return {
            "width": self.width,
            "height": self.height,
            "fps": None if self.fps is None else round(float(self.fps), 3),
            "duration": None if self.duration is None else round(self.duration, 3),
            "codec": self.codec or None,
            "pix_fmt": self.pix_fmt,
        }


class Key(NamedTuple):
    """A key frame: its presentation time and the time to seek to it (stream time base)."""

    pts: int
    seek: int


class Reader:
    """An open file: its description and its decoder. Use as a context manager; raises VideoError throughout.

    `timeout` (seconds, 0: none) bounds the time from opening to the last frame: edit lists and broken indexes can make
    a decoder start over endlessly; `proceed` grants as much time again. `ahead` lets the threads decode frames ahead of
    the one that is wanted, which serves a file that is read from end to end. Without `synthesis`, the film grain that a
    stream describes is left out.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int = 1,
        max_pixels: int | None = None,
        timeout: float = 0.0,
        ahead: bool = False,
        synthesis: bool = True,
    ) -> None:
        self.path = os.fspath(path)
        self.interlaced = False  # whether the decoder has called a frame interlaced since the last seek
        self.undecodable = 0  # packets that the decoder refused
        self.film_grain: Carried | None = None  # parameters in the stream, found while reading without synthesis
        self._synthesis = synthesis
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout if timeout else math.inf
        if os.path.isdir(self.path):  # noqa: PTH112
            if not os.access(self.path, os.R_OK | os.X_OK):
                raise self._error("is a folder that cannot be listed", "Make it readable for this user.")
            raise self._error("is a folder, not a video", "Name the files in it, or scan the folder.")
        self._threads = threads
        self.ahead = ahead
        self._identity = _identify(self.path)
        self._open()
        try:
            self.info = self._describe()
            self._check_size(self.info.width, self.info.height)
            if self.info.container == "mov" and (error := _of_another_kind(self.path)):  # HEIC, AVIF
                raise error
        except VideoError:
            self._container.close()
            raise

    def _open(self) -> None:
        with self._faults("cannot be opened"):
            self._container = self._container_of(self._max_pixels)
        # The cover of an audio file is no video, and FFmpeg aborts when it is sought.
        videos = [stream for stream in self._container.streams.video if not stream.disposition & _COVER]
        if not videos:
            self._container.close()
            raise self._error("is not a video: it has no video stream", "Audio and data files cannot be judged.")
        self._stream = videos[0]
        self._begun = False  # whether anything has been read
        self._note = self._container.metadata.get("comment", "")
        context: Any = self._stream.codec_context  # None for codecs that FFmpeg does not know
        if context is None:
            self._container.close()
            raise self._error("its video codec is unknown", "Convert it with a tool that knows the codec.")
        for stream in self._container.streams:  # the demuxer drops everything but the one video stream
            if stream.index != self._stream.index:
                stream.discard = Discard.all
        self._context = context
        # Frame threads decode ahead of the window, which costs more than it gains on eight frames.
        self._context.thread_type = "AUTO" if self.ahead else "SLICE"
        self._context.thread_count = self._threads
        if not self._synthesis:  # a decoder that hands out the parameters leaves their use to its caller
            self._context.options = {"export_side_data": "film_grain"}

    def _container_of(self, max_pixels: int | None) -> Any:
        options = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
        if max_pixels is not None:
            options["max_pixels"] = str(max_pixels)
        # The prefix keeps names such as `concat:a|b` or `http://…` from being taken for a protocol.
        return av.open(f"file:{self.path}", options=options, metadata_errors="replace", timeout=self._timeout or None)

    def restart(self) -> None:
        """Go back to the first frame by opening the file again, which also works for streams that cannot seek."""
        if self._begun:
            self._container.close()
            self._open()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Frames from the current position on. Packets that cannot be decoded are skipped."""
        broken = 0
        for packet in self._packets():
            try:
                decoded = self._context.decode(packet)
            except MemoryError:  # not the packet's fault: the verdict would depend on what else is in memory
                raise
            except (av.error.FFmpegError, ValueError) as error:
                broken += 1
                self.undecodable += 1
                log.debug("%s: packet at %s: %s", self.path, packet and packet.pts, error)
                if broken > _BROKEN_PACKETS:
                    return
                continue
            for frame in decoded:
                broken = 0
                self._check_size(frame.width, frame.height)
                self.interlaced |= frame.interlaced_frame
                heed_note(self._note, frame)
                if not self._synthesis and self.film_grain is None:
                    self.film_grain = film_grain_of(frame)
                yield frame

    def _packets(self) -> Iterator[av.Packet | None]:
        """Packets from the current position on; None at the end, which flushes the decoder."""
        self._begun = True
        packets = self._container.demux(self._stream)
        while True:
            self._check_time()
            try:
                with self._faults("cannot be read"):
                    packet = next(packets, None)
            except IndexError:  # by PyAV at the end of a file with a stream that its header does not announce
                packet = None
            except VideoError as error:
                self._check_time()
                log.debug("%s", error.message)
                return
            if packet is None or (not packet.size and packet.dts is None):
                yield None
                return
            if packet.size:  # a dropped frame of an AVI has none, and would end the decoder
                yield packet

    def proceed(self) -> None:
        """Restart the clock of `timeout`."""
        if self._timeout:
            self._deadline = time.monotonic() + self._timeout

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise timed_out(self.path, self._timeout)

    def seek(self, pts: int) -> None:
        """Seek to the key frame at or before `pts` (stream time base)."""
        self.interlaced, self._begun = False, True
        with self._faults("cannot seek"):
            self._container.seek(pts, stream=self._stream, backward=True)

    def key_frame_before(self, seconds: float) -> Key | None:
        """The key frame that a seek to `seconds` finds, if any."""
        try:
            self.seek(self._start + int(seconds / self._time_base))
            for count, packet in enumerate(self._packets()):
                if packet is None or count > _PACKETS_TO_KEY:
                    break
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None and packet.is_keyframe:
                    by_dts = self.info.container in _SEEK_BY_DTS and packet.dts is not None
                    return Key(int(stamp), int(packet.dts or 0) if by_dts else int(stamp))
        except VideoError as error:
            self._check_time()
            log.debug("%s: no key frame before %.2f s: %s", self.path, seconds, error)
        return None

    def seconds(self, pts: int) -> float:
        """Presentation time since the start of the stream."""
        return max(0.0, self.span(pts - self._start))

    def span(self, ticks: int) -> float:
        """Seconds in a number of ticks of the stream's clock."""
        base = self._time_base
        return ticks * base.numerator / base.denominator

    @property
    def _start(self) -> int:
        return self._stream.start_time or 0

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, av.time_base)

    def _describe(self) -> VideoInfo:
        stream, context = self._stream, self._context
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        fps = next((rate for rate in rates if rate <= _FASTEST), rates[0] if rates else None)
        duration: float | None = None
        if stream.duration:
            duration = float(stream.duration * self._time_base)
        elif self._container.duration:
            duration = self._container.duration / av.time_base
        elif fps and stream.frames:
            duration = float(stream.frames / fps)
        return VideoInfo(
            container=self._container.format.name.split(",")[0],
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            fps=Fraction(fps) if fps else None,
            duration=duration if duration and duration > 0 else None,
            frames=stream.frames or None,
            pix_fmt=context.pix_fmt or "unknown",
        )

    def _check_size(self, width: int, height: int) -> None:
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise self._error(
                f"frames of {width}x{height} exceed the limit of {self._max_pixels} pixels",
                "Raise --max-pixels if you trust the file.",
            )

    def explain_nothing(self) -> VideoError:
        """Why no frame could be decoded."""
        if self._max_pixels is not None and not self.info.width:  # FFmpeg forgets sizes above its limit
            with self._faults("cannot be read"), self._container_of(None) as container:
                context = container.streams[self._stream.index].codec_context
                self._check_size(context.width, context.height)
        return self._changed() or self._error(
            "no frame could be decoded", "The file is empty, truncated before its first picture, or encrypted."
        )

    def _changed(self) -> VideoError | None:
        """The error for a file that is no longer the one that was opened."""
        now = _identify(self.path)
        if now is None or self._identity is None or now == self._identity:
            return None
        return self._error("has changed while it was read", "Scan it again when it has been written completely.")

    def _error(self, what: str, hint: str) -> VideoError:
        return VideoError(f"{self.path}: {what}", hint=hint)

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise self._error("no such file", "Check the name; a dangling link looks the same.") from None
        except PermissionError:
            raise self._error("permission denied", "Make the file readable for this user.") from None
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            self._check_time()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise (
                self._changed()
                or _of_another_kind(self.path)
                or self._error(
                    f"{what}: {reason}", "The file is damaged, incomplete, or not a video that FFmpeg reads on its own."
                )
            ) from None


def _identify(path: str) -> tuple[int, ...] | None:
    """Device, inode, size in bytes and time of change: at least one changes with a file's content."""
    try:
        status = os.stat(path)  # noqa: PTH116 (names of any bytes)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _of_another_kind(path: str) -> VideoError | None:
    """The error for sound, a picture or text, which are no video, but not damaged either; and for an empty file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            start = file.read(64)
    except (OSError, ValueError):
        return None
    if not start:
        return VideoError(f"{path}: is empty", hint="Copy or download it again, or leave it out.")
    for kind, pattern in _KINDS.items():
        if re.match(pattern, start, re.DOTALL):
            return VideoError(f"{path}: is not a video but {kind}", hint="Only videos can be judged; leave it out.")
    return None


def probe(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> VideoInfo:
    """Describe the first video stream of a file, from its first frame where that can be decoded. Raises VideoError."""
    with Reader(path, max_pixels=max_pixels) as reader:
        frame = next(reader.frames(), None)
        if frame is None:
            return reader.info
        return replace(reader.info, width=frame.width, height=frame.height, pix_fmt=frame.format.name)


def read_clip(path: str | os.PathLike[str], *, start: int = 0, frames: int | None = None) -> Block:
    """Consecutive frames of a clip from frame number `start` on, by default all of them. Raises VideoError.

    Reads sequentially: meant for clips of a few seconds. Stops where the picture size or format changes.
    """
    with Reader(path) as reader:
        pictures: list[tuple[NDArray[Any], ...]] = []
        form: PixelFormat | None = None
        for number, frame in enumerate(reader.frames()):
            if number < start:
                continue
            picture, current = picture_of(frame)
            if pictures and (current != form or picture[0].shape != pictures[0][0].shape):
                break
            form = current
            pictures.append(picture)
            if frames is not None and len(pictures) >= frames:
                break
        if not pictures or form is None:
            raise reader.explain_nothing()
        return Block(tuple(np.stack(planes) for planes in zip(*pictures, strict=True)), form)
