"""Files in, verdicts out: the one path of `predict` and `eval`.

Workers decode and crop (`grainscan.workers`), an engine judges the views of many files in turn (`engine`), and
`pooling` turns its outputs for a file's views into the file's verdict. A file that cannot be judged becomes an error
row; nothing in a file can end the scan.

    with Scanner() as scanner:
        for result in scanner.scan(collect(["footage"])):
            print(result["path"], result["status"])
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import ConfigError, GrainscanError, ModelError, UsageError, VideoError
from grainscan.grain.describe import TASK, grain_of
from grainscan.model.spec import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE, find_model, read_spec
from grainscan.options import ScanConfig, ShortPolicy, names_in
from grainscan.results import SCHEMA, TIMECODE, Result, timecode
from grainscan.scan import DECODING, decode
from grainscan.scan.decode import Job, Piece, read_pieces
from grainscan.scan.engine import Engine, Outputs, check_device, load_engine
from grainscan.scan.events import REPORTED, covered, find_events
from grainscan.scan.inputs import File, Item, Supply, identify, item_of, items_of, local_copy, name_of
from grainscan.scan.measured import Measured
from grainscan.scan.pooling import aggregate, check_strengths, parse_strengths, probability
from grainscan.scan.prevalence import check_prevalence, factor, move, moved, parse_prevalence, written
from grainscan.video import Pictures
from grainscan.video.doubts import Doubts
from grainscan.views.measures import Frames
from grainscan.workers import Ended, Message, Pool, describe, limited, processors, unexpected, worker_count

Input = str | os.PathLike[str] | NDArray[Any] | BinaryIO
FPS = 25.0  # frames per second of arrays, if nothing else is said

_LEAST_MEMORY = 0.2  # GB
_LARGE = 2_000_000  # bytes of a file that is worth several workers: they take a moment to start
_FEWER = 3  # one in so many views of a window suffices where windows follow one another


@dataclass
class _File:
    """A file that is being judged."""

    path: str
    began: float
    identity: dict[str, Any] | None  # size and time of change before it was opened
    source: str = ""  # what was opened: the path, or a local copy
    video: dict[str, Any] = field(default_factory=dict)  # the object of that name in the result
    doubts: Doubts = field(default_factory=Doubts)
    pieces: list[tuple[Piece, Outputs]] = field(default_factory=list)
    running: int = 0  # pieces that the model has not judged yet
    parts: int = 1  # in which it is read
    left: int = 1  # of them: more comes from their decoders
    error: GrainscanError | None = None

    def take(self, piece: Piece, outputs: Outputs) -> None:
        """Take what the model says about a piece, and about those for which it holds."""
        here = ((each, piece.boxes) for each in (piece, *piece.then))
        self.pieces += [(replace(each, views=_NOTHING, boxes=boxes, then=()), outputs) for each, boxes in here]

    def describe(self, content: dict[str, Any]) -> None:
        """Take what a decoder says about the file, or about its part."""
        about = dict(content)
        self.doubts += Doubts.from_dict(about.pop("doubts"))
        self.video |= about


def error_row(path: str, error: GrainscanError, *, source: str = "") -> Result:
    """The result for a file that could not be judged; `source` is the local copy that the error may name."""
    record = describe(error)
    if source:
        record["message"] = record["message"].replace(source, path)
    return {"schema": SCHEMA, "path": path, "status": "error", "error": record}


class Scanner:
    """Judges files with one model.

    workers: decoding processes; -1: by the machine and the number of files; 0: none, so that everything happens in this
        process, and a file that crashes the decoder crashes it, too.
    every: seconds: one window in each stretch of the file, and the events that they show; 0: every frame is looked at,
        in a third of the views per window. Where windows follow one another, the model looks at all of the picture once
        a second and where it changes; in between, what it found holds while the picture is as calm and as fine.
    timeout: seconds per file, or with `every` without progress in it; 0: no limit. Without workers it includes the
        model, and cannot end a decoder that never returns.
    memory: GB per worker, and without workers for this process; a file that needs more is an error row. Linux only.
    thresholds: by task, instead of the model's own.
    prevalence: by task, the share of the files that have the artifact: probabilities follow it and the model's own
        thresholds move along, so that labels and events stay. The other thresholds are in the new probabilities.
    min_strength: by task, in the unit of its strength: below it the label is 0, and the probability stays.
    baseline: add the values of the classical estimators.
    character: add the character of the grain of grainy files.
    maps: add the probabilities of every view.
    tasks: names of those to judge, of the model's, or a text with commas; views that none needs are not looked at.
    observe: called with the path of a file and the model's outputs for its views.
    reader: name of a function that the workers run instead of `decode.decode`, for tests.

    Raises ModelError when there is no such model, ConfigError for impossible options.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        workers: int = -1,
        windows: int | None = None,
        crops: int | None = None,
        every: float | None = None,
        timeout: float = ScanConfig.timeout,
        memory: float = ScanConfig.memory,
        max_pixels: int = ScanConfig.max_pixels,
        short: ShortPolicy = "mirror",
        thresholds: Mapping[str, float] | None = None,
        prevalence: Mapping[str, float] | None = None,
        min_strength: Mapping[str, float] | None = None,
        baseline: bool = False,
        character: bool = False,
        maps: bool = False,
        tasks: Iterable[str] | None = None,
        observe: Callable[[str, Outputs], object] | None = None,
        reader: str = decode.FUNCTION,
    ) -> None:
        worker_count(workers)
        check_device(device)
        if not memory >= _LEAST_MEMORY:
            raise ConfigError(f"memory is {memory:g} GB", hint=f"A worker needs at least {_LEAST_MEMORY} GB.")
        for name, value in (("windows", windows), ("crops", crops), ("max_pixels", max_pixels)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}", hint="Use a number that is at least 1.")
        if timeout < 0:
            raise ConfigError(f"timeout is {timeout:g} seconds", hint="Use a number of seconds; 0 for no limit.")
        if every is not None and not 0 <= every < math.inf:
            raise ConfigError(f"every is {every:g}", hint="Use a number of seconds; 0 for every frame.")
        if every is not None and windows is not None:
            raise ConfigError("windows and every exclude each other", hint="Leave one of them out.")
        self.directory = find_model(None if model is None else str(model))
        self.spec = read_spec(self.directory)
        view = self.spec.view
        if every == 0:
            view = replace(view, crops=-(-view.crops // _FEWER))
        view = replace(view, windows=windows or view.windows, crops=crops or view.crops)
        self.tasks = self._chosen(tasks)
        learnt = [task for task in self.tasks if task in self.spec.tasks]
        if not any(map(self.spec.by_views, learnt)):
            view = replace(view, crops=1)  # an engine wants views, and the statistics come with them
        measured = any(task in self.spec.measured or (every is not None and task == REPORTED) for task in self.tasks)
        self.job = Job(
            view,
            any(map(self.spec.by_statistics, learnt)),
            short,
            max_pixels,
            timeout=timeout,
            memory=memory * 1e9,
            baseline=baseline,
            every=every,
            measured=measured,
            character=character,
        )
        self.thresholds = dict(thresholds or {})
        self.prevalence = dict(prevalence or {})
        check_prevalence(self.prevalence, self.spec.prevalence)
        self._factors = {task: factor(share, self.spec.prevalence[task]) for task, share in self.prevalence.items()}
        self._calibrated = {  # the thresholds that are given, in the probabilities before they are moved
            task: moved(value, 1 / self._factors[task]) if task in self._factors else value
            for task, value in self.thresholds.items()
        }
        self.min_strength = dict(min_strength or {})
        check_strengths(self.min_strength, [task for task in self.tasks if task in self.spec.strength])
        self._maps = maps
        self._observe = observe
        self._device = device
        self._workers = workers
        self._reader = reader
        self._pool: Pool | None = None

    @classmethod
    def from_config(cls, config: ScanConfig, **options: Any) -> Scanner:
        """A scanner with the options that predict and eval share, and others, which come first."""
        shared = {each.name: getattr(config, each.name) for each in fields(ScanConfig)}
        shared["tasks"] = None if config.tasks is None else names_in(config.tasks)
        shared["min_strength"] = parse_strengths(config.min_strength)
        if config.prevalence is not None:
            spec = read_spec(find_model(config.model))
            shared["prevalence"] = parse_prevalence(config.prevalence, spec.judged, spec.prevalence)
        return cls(**{**shared, **options})

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. The scanner can still be used."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _chosen(self, tasks: Iterable[str] | None) -> tuple[str, ...]:
        """The tasks to judge, in the model's order. Raises UsageError for one that the model lacks."""
        wanted = self.spec.judged if tasks is None else names_in(tasks) if isinstance(tasks, str) else tuple(tasks)
        unknown = [task for task in wanted if task not in self.spec.judged]
        if unknown or not wanted:
            raise UsageError(
                f"{self.spec.name} has no task {unknown[0]!r}" if unknown else "no task is to be judged",
                hint=f"It has: {', '.join(self.spec.judged)}.",
            )
        return tuple(task for task in self.spec.judged if task in wanted)

    def threshold_of(self, task: str) -> float:
        """The probability, at the prevalence asked for, from which on a task counts as found."""
        own = self.spec.threshold_of(task)
        return self.thresholds.get(task, written(own, self._factors[task]) if task in self._factors else own)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies the model's files and all options that change results: a log with another one is not continued."""
        digest = hashlib.sha256()
        for name in (CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE):
            file = self.directory / name
            if file.is_file():
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        free = ("threads", "timeout", "memory")
        job = {key: value for key, value in asdict(self.job).items() if key not in free}
        digest.update(
            json.dumps(
                [job, self.thresholds, self.prevalence, self.min_strength, self._maps, self.tasks], sort_keys=True
            ).encode()
        )
        return digest.hexdigest()[:12]

    @functools.cached_property
    def engine(self) -> Engine:
        """The loaded model."""
        return load_engine(self.directory, self._device)

    def predict(self, path: Input, *, fps: float = FPS) -> Result:
        """The result for one path, array or open file, as in `scan`. Raises VideoError when it cannot be judged."""
        (result,) = self._scan([item_of(path, fps)])
        if result["status"] == "error":
            raise VideoError(result["error"]["message"], hint=result["error"]["hint"])
        return result

    def scan(self, paths: Input | Iterable[Input], *, fps: float = FPS) -> Iterator[Result]:
        """A result for each file; files that cannot be judged have error rows.

        A single path may be a file, folder, glob or URL as on the command line: its videos are sorted, each once, and
        UsageError is raised when there are none. Several paths have their results in order of the paths; folders and
        globs among them are replaced by their videos.

        Clips in memory are arrays of RGB frames (frames, height, width, 3), uint8, uint16 (full range) or float from 0
        to 1, which are rounded to 16 bits. They are judged in this process, without a copy of the whole, whatever
        `workers` is. The path in the result is `array 0`, by the place among the inputs, and times count frames at
        `fps` per second. Files that are open as binary are read from where they stand into a temporary file. UsageError
        is raised for other inputs.
        """
        yield from self._scan(items_of(paths, fps))

    def job_with(self, workers: int) -> Job:
        """The job for so many workers: decoders that read files from end to end use the processors that are left."""
        if self.job.every != 0:
            return self.job
        return replace(self.job, threads=1 + max(1, processors() // workers))  # one always waits to be fed

    @property
    def _divides(self) -> bool:
        """Whether workers may divide a file: its windows are few and far apart."""
        return self.job.every is None

    def parts_of(self, path: str, workers: int) -> int:
        """In how many parts a file is read, given so many workers for it."""
        try:
            large = os.stat(path).st_size >= _LARGE  # noqa: PTH116 (names of any bytes)
        except (OSError, ValueError):
            return 1
        return max(1, min(workers, self.job.view.windows)) if self._divides and large else 1

    def _scan(self, items: Iterable[Item]) -> Iterator[Result]:
        for held, group in itertools.groupby(items, key=lambda item: isinstance(item, Pictures)):
            if held:
                yield from map(self._judge_here, group)
                continue
            files = [item for item in group if not isinstance(item, Pictures)]
            parts = self.job.view.windows if self._divides else 1
            workers = worker_count(self._workers, parts * len(files))
            yield from self._scan_with(workers, files) if workers else map(self._judge_here, files)

    # -- in this process

    def _judge_here(self, item: Item) -> Result:
        file = _File(name_of(item), time.monotonic(), identify(item))
        try:
            if isinstance(item, Pictures):
                self._judge_pieces(file, read_pieces(item, self.job))
            else:
                with local_copy(item) as file.source:
                    pieces = read_pieces(file.source, self.job_with(1), timeout=self.job.timeout)
                    self._judge_pieces(file, limited(pieces, self.job.memory))
        except GrainscanError as error:
            file.error = error
        except Exception as error:
            file.error = unexpected(file.path, error, self.job.memory)
        return self._result(file)

    def _judge_pieces(self, file: _File, pieces: Iterable[dict[str, Any] | Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Piece):
                file.take(piece, self.engine(piece.views, piece.of_each_view(self.spec.statistics)))
            else:
                file.describe(piece)

    # -- with workers

    def _scan_with(self, workers: int, files: list[File]) -> Iterator[Result]:
        if self._pool is None or self._pool.size != workers:
            self.close()
            self._pool = Pool(
                workers,
                self._reader,
                timeout=self.job.timeout,
                memory=self.job.memory,
                array_bytes=self.job.array_bytes,
                preload=DECODING,
                parse=functools.partial(decode.parse, job=self.job),
            )
        try:
            yield from _Run(self, self._pool, files).results()
        except BaseException:  # also when the consumer stops early: leave no half-done work behind
            self.close()
            raise

    # -- results

    def _result(self, file: _File) -> Result:
        if file.error is not None:
            return error_row(file.path, file.error, source=file.source)
        # Pieces arrive in any order, and windows of broken files may start at the same time.
        file.pieces.sort(key=lambda item: (item[0].start, item[0].end, item[0].boxes, item[1].logits.tolist()))
        outputs = Outputs.joined([outputs for _, outputs in file.pieces])
        if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.strength).all()):
            fault = ModelError(
                f"{file.path}: the model returns numbers that are not finite", hint="Its weights are damaged."
            )
            return error_row(file.path, fault)
        if self._observe is not None:
            self._observe(file.path, outputs)
        carried, bare = (file.video.pop(key, None) for key in ("carried", "bare"))
        measured = self._measured(file)
        windows = [self._window(piece, outputs) for piece, outputs in file.pieces]
        if measured is not None:
            ends = itertools.accumulate(len(piece.frames or ()) for piece, _ in file.pieces)
            for window, (first, end) in zip(windows, itertools.pairwise([0, *ends]), strict=True):
                window |= measured.probabilities(slice(first, end))
        result: Result = {
            "schema": SCHEMA,
            "path": file.path,
            "status": "ok",
            "tasks": aggregate(outputs, self.spec, self._calibrated, self.tasks, self.min_strength),
            "windows": windows,
            "video": file.video,
            "model": self.spec.name,
            "views": sum({id(part): len(part.logits) for _, part in file.pieces}.values()),
            "seconds": round(time.monotonic() - file.began, 3),
        }
        if measured is not None:
            result["tasks"].update(measured.verdicts(self._calibrated))
        if self.job.every is not None:
            stretches = covered(windows, self.job.every, file.video.get("duration") or 0.0)
            result["events"] = find_events(windows, stretches, measured, self.spec, self._calibrated, self.tasks)
            if measured is not None and REPORTED in self.tasks and measured.frames.damaged.any():
                threshold = self._calibrated.get(REPORTED, self.spec.threshold_of(REPORTED))
                result["tasks"][REPORTED] = {"label": 1, "probability": 1.0, "threshold": threshold}
        if unreliable := file.doubts.reasons():
            result["unreliable"] = unreliable
        if file.identity is not None:
            result["file"] = file.identity
        if self.job.baseline:
            values = [piece.baseline for piece, _ in file.pieces]
            result["baseline"] = {name: float(np.median([each[name] for each in values])) for name in values[0]}
        if self.job.character:
            samples = [piece.grain for piece, _ in file.pieces]
            pairs = list(zip(result["windows"], samples, strict=True))
            if grain := grain_of(pairs, result["tasks"].get(TASK), carried, bare or ()):
                result["grain"] = grain
        if self._maps:
            maps = (self._map(number, *piece) for number, piece in enumerate(file.pieces))
            result["map"] = list(itertools.chain.from_iterable(maps))
        for task in self.spec.prevalence.keys() & result["tasks"].keys():
            result["tasks"][task]["prevalence"] = self.spec.prevalence[task]
        for task in set(self.spec.experimental) & result["tasks"].keys():
            result["tasks"][task]["experimental"] = True
        move(result, self.prevalence)
        for part in (*result["windows"], *result.get("events", ())):
            if code := timecode(part["start"], file.video.get("fps")):
                part[TIMECODE] = code
        return result

    def _measured(self, file: _File) -> Measured | None:
        if not (parts := [piece.frames for piece, _ in file.pieces if piece.frames is not None]):
            return None
        frames = Frames.join(parts)
        whole = self.job.every == 0 or frames.fill(file.video.get("duration"))
        return Measured(frames, self.spec, self.tasks, whole=whole)

    def _window(self, piece: Piece, outputs: Outputs) -> dict[str, Any]:
        return {"start": round(piece.start, 3), "end": round(piece.end, 3), **self._probabilities(outputs, self.tasks)}

    def _map(self, number: int, piece: Piece, outputs: Outputs) -> Iterator[dict[str, float]]:
        """The probabilities of each view of a window, with the square of the frame that it shows, in pixels.

        Statistics of the picture do not say where, so a view has the tasks that are judged by views.
        """
        tasks = [task for task in self.tasks if self.spec.by_views(task)]
        if tasks:
            for row, (x, y) in enumerate(piece.boxes):
                place = {"window": number, "x": x, "y": y, "size": self.spec.view.size}
                yield {**place, **self._probabilities(outputs.part(slice(row, row + 1)), tasks)}

    def _probabilities(self, outputs: Outputs, tasks: Collection[str]) -> dict[str, float]:
        """By task, for some views."""
        return {
            task: round(probability(outputs.logits[:, column], task, self.spec), 6)
            for column, task in enumerate(self.spec.tasks)
            if task in tasks
        }


def predict_video(
    path: Input, *, model: str | Path | None = None, task: str | None = None, **options: Any
) -> tuple[int, float]:
    """(predicted class, confidence) for one path, array or open file, as in `Scanner.scan`.

    Class 1 if it has the artifact, else 0, and how certain that is.

    The confidence is 0.5 for a probability at the threshold, between the classes, and grows with the distance from it,
    up to 1 for a probability of 1 (class 1) or 0 (class 0): see `confidence_of`. With a threshold of 0.5 it is the
    probability of the class. `model` is the embedded one and `task` the model's first by default; `options` are those
    of `Scanner`. Raises VideoError when the file cannot be judged, UsageError for a task that the model lacks,
    ModelError.
    """
    with Scanner(model, **options) as scanner:
        name = task or scanner.spec.tasks[0]
        if name not in scanner.spec.tasks:
            raise UsageError(
                f"{scanner.spec.name} has no task {name!r}", hint=f"It has: {', '.join(scanner.spec.tasks)}."
            )
        verdict = scanner.predict(path)["tasks"][name]
    return verdict["label"], confidence_of(verdict["probability"], verdict["threshold"])


def confidence_of(probability: float, threshold: float) -> float:
    """How certain a verdict is, 0.5 to 1: linear in the probability on both sides of the threshold, where it is 0.5."""
    side = 1.0 - threshold if probability >= threshold else threshold
    return 0.5 + 0.5 * abs(probability - threshold) / side if side else 0.5


_NOTHING = np.empty(0, np.float32)


class _Run:
    """One call of `Scanner.scan` with workers: feed them, batch their pieces, keep the order of the files."""

    def __init__(self, scanner: Scanner, pool: Pool, names: list[File]) -> None:
        self._scanner = scanner
        self._pool = pool
        self._names = names
        self._supply = Supply(names, ahead=pool.size + 2, ready=pool.wake)
        self._job = asdict(scanner.job_with(pool.size))
        self._files: dict[int, _File] = {}
        self._parts: deque[tuple[int, int]] = deque()  # files and parts of them that no worker has yet
        self._waiting: deque[Message] = deque()
        self._running: dict[Future[Outputs], list[Message]] = {}

    def results(self) -> Iterator[Result]:
        due, done = 0, dict[int, Result]()
        with self._supply:
            self._feed()  # decoding starts while the model is being loaded
            engine = self._scanner.engine
            with ThreadPoolExecutor(engine.lanes, thread_name_prefix="grainscan") as lanes:
                while due < len(self._names):
                    for event in self._pool.wait():
                        self._take(event)
                    self._gather()
                    self._infer(engine, lanes)
                    for key in [key for key, file in self._files.items() if not file.left and not file.running]:
                        if not self._anew(key):
                            done[key] = self._finish(key)
                    self._feed()
                    while due in done:
                        yield done.pop(due)
                        due += 1

    def _feed(self) -> None:
        while self._pool.idle:
            if not self._parts and not self._open_next():
                return
            if self._parts:
                key, part = self._parts.popleft()
                file = self._files[key]
                request = {"path": file.source, "job": self._job, "share": (part, file.parts)}
                self._pool.submit(key, request, name=file.source)

    def _open_next(self) -> bool:
        """Take up the next file; False if there is none yet."""
        if (item := self._supply.take()) is None:
            return False
        key, source = item
        file = _File(name_of(self._names[key]), time.monotonic(), identify(self._names[key]))
        self._files[key] = file
        if isinstance(source, str):
            file.source = source
            self._divide(key, self._scanner.parts_of(source, self._pool.size // len(self._names)))
        else:
            file.left, file.error = 0, source
            self._pool.wake()
        return True

    def _divide(self, key: int, parts: int) -> None:
        file = self._files[key]
        file.parts = file.left = parts
        self._parts.extend((key, part) for part in range(parts))

    def _anew(self, key: int) -> bool:
        """Whether a file is read once more: in parts no window of it was found."""
        file = self._files[key]
        if file.parts == 1 or file.pieces or file.error is not None:
            return False
        file.video, file.doubts = {}, Doubts()
        self._divide(key, 1)
        return True

    def _finish(self, key: int) -> Result:
        file = self._files.pop(key)
        if file.source not in ("", file.path):  # a copy
            Path(file.source).unlink(missing_ok=True)
        return self._scanner._result(file)

    def _take(self, event: Message | Ended) -> None:
        file = self._files[event.key]
        if isinstance(event, Ended):
            file.left, file.error = file.left - 1, file.error or event.error
        elif isinstance(event.content, Piece):
            file.running += 1
            self._waiting.append(event)
        else:
            file.describe(event.content)

    def _infer(self, engine: Engine, lanes: ThreadPoolExecutor) -> None:
        """Give every free lane a batch. A single piece is passed as it is."""
        while self._waiting and len(self._running) < engine.lanes:
            batch = [self._waiting.popleft()]
            size = len(batch[0].content.views)
            while self._waiting and size + len(self._waiting[0].content.views) <= engine.batch:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].content.views)
            arrays = [message.content.views for message in batch]
            statistics = np.concatenate([message.content.of_each_view(engine.spec.statistics) for message in batch])
            future = lanes.submit(engine, arrays[0] if len(batch) == 1 else np.concatenate(arrays), statistics)
            self._running[future] = batch
            future.add_done_callback(lambda _: self._pool.wake())

    def _gather(self) -> None:
        """Hand outputs to their files, and let the workers send more."""
        for future in [future for future in self._running if future.done()]:
            start, error = 0, future.exception()
            for message in self._running.pop(future):
                stop = start + len(message.content.views)
                file = self._files[message.key]
                if error is None:
                    file.take(message.content, future.result().part(slice(start, stop)))
                else:
                    file.error = unexpected(file.path, error, self._scanner.job.memory)
                file.running -= 1
                self._pool.release(message)
                start = stop
