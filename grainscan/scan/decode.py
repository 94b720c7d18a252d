"""From a file to the views that the model judges: what the worker processes of a scan do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import VideoError
from grainscan.files import is_stream
from grainscan.grain.sample import Sample, sample
from grainscan.options import ScanConfig, ShortPolicy
from grainscan.scan import DECODER
from grainscan.video import Pictures, Window
from grainscan.video.doubts import Doubts
from grainscan.video.film_grain import Carried
from grainscan.views.crops import ViewSpec, active_area, crop_views
from grainscan.views.measures import Frames, Meter, window_cells
from grainscan.views.statistics import COUNT, describe
from grainscan.views.watch import Look, Watch
from grainscan.workers import alive

if TYPE_CHECKING:
    from grainscan.video import Reader

FUNCTION = f"{DECODER}:decode"  # for `workers.Pool`
_NOTHING = np.empty(0, np.float32)
_GRAIN_CODECS = ("av1", "h264", "hevc", "vvc")  # whose streams may describe grain for the decoder to make


@dataclass(frozen=True)
class Job:
    """How every file of a scan is read."""

    view: ViewSpec = field(default_factory=ViewSpec)
    statistics: bool = False  # whether the model reads statistics of the picture
    short: ShortPolicy = "mirror"
    max_pixels: int | None = None
    threads: int = 1  # of the decoder
    timeout: float = ScanConfig.timeout  # seconds per file; 0: no limit
    memory: float = ScanConfig.memory * 1e9  # bytes that a worker may use
    baseline: bool = False
    every: float | None = None  # seconds: one window in each stretch; 0: every frame; None: `view.windows` in all
    measured: bool = False  # whether every decoded frame is measured
    character: bool = False  # measure the grain of every window

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """What `dataclasses.asdict` made a dictionary of."""
        return cls(**{**values, "view": ViewSpec.from_dict(values["view"])})

    @property
    def array_bytes(self) -> int:
        """Size of the largest array of views."""
        return 4 * self.view.crops * self.view.frames * 3 * self.view.size**2


@dataclass(frozen=True, eq=False)
class Piece:
    """The views of one window, float32 (n, frames, 3, size, size), and the corner of each.

    `statistics` are those of its picture, float32 (count,), empty if they are not wanted, and `frames` the measures of
    its frames and of those that were decoded on the way to it, or behind the last window. `then` are windows after it
    which were not looked at, since its views and statistics hold for them; they have none of their own.
    """

    views: NDArray[np.float32]
    statistics: NDArray[np.float32]
    start: float  # seconds
    end: float
    boxes: list[tuple[int, int]]
    baseline: dict[str, float] = field(default_factory=dict)
    frames: Frames | None = None
    grain: Sample | None = None
    then: tuple[Piece, ...] = ()

    def of_each_view(self, count: int) -> NDArray[np.float32]:
        """The statistics once for each view, (n, count); zeros for a model that reads them where nobody wants them."""
        row = self.statistics if len(self.statistics) == count else np.zeros(count, np.float32)
        return np.tile(row, (len(self.boxes), 1))


def read_pieces(
    source: str | Pictures, job: Job, *, share: tuple[int, int] = (0, 1), timeout: float = 0.0
) -> Iterator[dict[str, Any] | Piece]:
    """The views of a file, or of a clip in memory, window by window, then its `video` object, with its `doubts`.

    `share` (number, of how many) are the windows of one of several workers that divide a file: see `read_windows`.

    `timeout` (seconds) is for callers that nobody else can end. All frames of a film may take hours: with `every` it is
    the time without progress, where progress is a window later than any before. Raises VideoError, MemoryError.
    """
    with _opened(source, job, timeout) as reader:
        doubts = Doubts.of(reader.info.codec, reader.info.pix_fmt)
        look = _Look(job, doubts)
        pieces = _looked_at(reader, look, job, share)
        yield from pieces if job.every is None else _held_back(pieces, look)
        carried = {}
        if job.character and isinstance(source, str) and share[0] == 0:
            carried = _carried(source, job, reader.info.codec, timeout)
        yield {**reader.info.as_dict(), "doubts": asdict(doubts), **carried}


def _looked_at(reader: Reader, look: _Look, job: Job, share: tuple[int, int]) -> Iterator[Piece]:
    """A piece for each window."""
    from grainscan.video import read_windows

    reached = -math.inf
    sampling: Any = {"windows": job.view.windows, "every": job.every, "frames": job.view.frames, "short": job.short}
    for window in read_windows(reader, share=share, passed=job.measured, **sampling):
        if job.every is not None and window.end > reached:
            reached = window.end
            reader.proceed()
            alive()
        piece = look.at(window)
        del window  # its frames are freed before others are decoded
        if piece is not None:
            yield piece
        del piece


def _held_back(pieces: Iterable[Piece], look: _Look) -> Iterator[Piece]:
    """Each piece that was looked at, as soon as all is known that belongs to it.

    These are the windows after it that were not, and behind the last one the measures of frames without a window.
    """
    last: Piece | None = None
    for piece in pieces:
        if last is None:
            last = piece
        elif piece.boxes:
            yield last
            last = piece
        else:
            last = replace(last, then=(*last.then, piece))
    if last is not None:
        yield look.completed(last)


class _Look:
    """At the windows of a file, in order. Those that the `Watch` leaves out have neither views nor statistics."""

    def __init__(self, job: Job, doubts: Doubts) -> None:
        self._job, self._doubts = job, doubts
        self._watch = Watch(job.view.size) if job.every == 0 else None
        self._meter = Meter() if job.measured else None
        self._passed: list[Frames] = []  # since the last window
        self._statistics = _NOTHING

    def at(self, window: Window) -> Piece | None:
        """None for passed frames: their measures come with those of the next window."""
        job = self._job
        if window.passed and self._meter:
            self._passed.append(self._meter.measure(window))
            return None
        cells = window_cells(window) if self._watch or self._meter or job.statistics else None
        frames = Frames.join([*self._passed, self._meter.measure(window, cells)]) if self._meter else None
        self._passed = []
        baseline: dict[str, float] = {}
        if job.baseline:
            from grainscan.views.estimators import measure

            baseline = measure(window)
        grain = sample(window) if job.character else None
        look: Look = "all" if self._watch is None or cells is None else self._watch.look(window, cells)
        if look == "nothing":
            return Piece(_NOTHING, _NOTHING, window.start, window.end, [], baseline, frames, grain)
        self._doubts.look(window, size=job.view.size)
        area = active_area(window)
        views, boxes = crop_views(window, job.view, area)
        if job.statistics:
            held = self._statistics if look == "changes" else None
            self._statistics = describe(window, area, cells=cells, held=held)
        if self._watch is not None:
            self._watch.seen(window, boxes)
        return Piece(views, self._statistics, window.start, window.end, boxes, baseline, frames, grain)

    def completed(self, last: Piece) -> Piece:
        """The last piece of a file with the measures of the frames behind it."""
        return replace(last, frames=Frames.join([last.frames, *self._passed])) if last.frames is not None else last


def _opened(source: str | Pictures, job: Job, timeout: float) -> Reader:
    if isinstance(source, Pictures):
        from grainscan.video.arrays import ArrayReader

        return ArrayReader(source)
    from grainscan.video import Reader

    _refuse_devices(source)
    ahead = job.every == 0
    return Reader(source, threads=job.threads, max_pixels=job.max_pixels, timeout=timeout, ahead=ahead)


def _carried(path: str, job: Job, codec: str, timeout: float) -> dict[str, Any]:
    """`carried`, what the stream says about its grain, and `bare`, samples of windows without what that adds."""
    from grainscan.video import Reader, read_windows

    if codec not in _GRAIN_CODECS:
        return {}
    carried: Carried | None = None
    bare: list[dict[str, Any]] = []
    with Reader(path, threads=job.threads, max_pixels=job.max_pixels, timeout=timeout, synthesis=False) as reader:
        for window in read_windows(reader, windows=job.view.windows, frames=job.view.frames, short=job.short):
            if (carried := reader.film_grain) is None:
                return {}
            found = sample(window)
            bare += [found.to_dict()] if found else []
    return {"carried": asdict(carried), "bare": bare} if carried else {}


def decode(request: dict[str, Any]) -> Iterator[Any]:
    """`read_pieces` as messages; `request` holds the path, the job and the share."""
    number, count = request["share"]
    for item in read_pieces(request["path"], Job.from_dict(request["job"]), share=(number, count)):
        yield (_content(item), item.views) if isinstance(item, Piece) else item


def _content(piece: Piece) -> dict[str, Any]:
    """A piece as JSON, but for its views."""
    return {
        "start": piece.start,
        "end": piece.end,
        "boxes": piece.boxes,
        "baseline": piece.baseline,
        "statistics": piece.statistics.tobytes().hex(),  # 787 numbers in decimals take as long as their crops
        "frames": piece.frames and piece.frames.rows(),
        "grain": piece.grain and piece.grain.to_dict(),
        "then": [_content(each) for each in piece.then],
    }


def parse(content: Any, views: Any, job: Job) -> dict[str, Any] | Piece:
    """The item of `read_pieces` in a message of `decode`. Raises ValueError, TypeError or LookupError."""
    if views is None:
        bare = [Sample.from_dict(each).to_dict() for each in content.get("bare", ())]
        return {**content, "bare": bare, "doubts": asdict(Doubts.from_dict(content["doubts"]))}
    piece = _piece(content, views, job)
    shape = (len(piece.boxes), job.view.frames, 3, job.view.size, job.view.size)
    if (
        not piece.boxes
        or views.shape != shape
        or views.dtype != np.float32
        or piece.statistics.shape != ((COUNT,) if job.statistics else (0,))
        or not np.isfinite(piece.statistics).all()
    ):
        raise ValueError("these are not the views of a window")
    return replace(piece, then=tuple(_piece(each, _NOTHING, job) for each in content["then"]))


def _piece(content: Any, views: Any, job: Job) -> Piece:
    """A piece without its `then`."""
    start, end = float(content["start"]), float(content["end"])
    boxes = [(int(x), int(y)) for x, y in content["boxes"]]
    baseline = {str(name): float(value) for name, value in content["baseline"].items()}
    frames = Frames.of(content["frames"]) if job.measured else None
    if not math.isfinite(start + end) or (frames is not None and not len(frames)):
        raise ValueError("these are not the measures of a window")
    grain = Sample.from_dict(content["grain"]) if content.get("grain") else None
    statistics = np.frombuffer(bytes.fromhex(content["statistics"]), np.float32)
    return Piece(views, statistics, start, end, boxes, baseline, frames, grain)


def _refuse_devices(path: str) -> None:
    """Pipes and devices might be waited for forever."""
    if is_stream(Path(path)):
        raise VideoError(f"{path}: is not a regular file", hint="Write the stream to a file first.")
