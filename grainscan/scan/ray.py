"""The same scan on many machines: Ray Data's `map_batches` over actors, each of which holds a `Scanner`.

Actors get the names of files, not the files: every machine reads them from a shared file system or by URL. The model
travels with the job, so that only the machine that starts the scan needs it. An actor decodes in isolated processes, as
a scan on one machine does; the files of a machine that dies are judged again by the others. Results arrive in the order
of the files on the starting machine, in the same log, so that a scan on a cluster can be continued on a laptop.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grainscan.errors import DependencyError, GrainscanError, install
from grainscan.model.spec import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE, find_model
from grainscan.options import PredictConfig
from grainscan.results import Result
from grainscan.scan.inputs import is_url
from grainscan.scan.log import encode
from grainscan.scan.scanner import Scanner

LOCAL = "local"  # the same word for Ray: a new cluster on this machine
FILES_AT_ONCE = 16  # the unit of work: enough to keep an actor's workers busy, little enough to lose


def scan_on_ray(config: PredictConfig, paths: Sequence[str], **options: Any) -> Iterator[Result]:
    """A result for each file, in the order of the files, from the Ray cluster at `config.ray` (`local` starts one).

    `config.workers` is the number of decoding processes, and of processors, per actor (automatic: one); `options` are
    passed to `Scanner`. Raises DependencyError without Ray, GrainscanError when the cluster cannot be reached or fails.
    """
    if not paths:
        return
    ray = _connect(config.ray or LOCAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    workers = 1 if config.workers < 0 else config.workers
    processors = max(1, workers)
    places = [path if is_url(path) else str(Path(path).absolute()) for path in paths]
    items = [{"number": number, "place": os.fsencode(place)} for number, place in enumerate(places)]
    batches = -(-len(items) // FILES_AT_ONCE)
    room = int(ray.cluster_resources().get("CPU", 1)) // processors
    judged = ray.data.from_items(items, override_num_blocks=batches).map_batches(
        _Judge,
        batch_size=FILES_AT_ONCE,
        batch_format="numpy",
        fn_constructor_kwargs={
            "config": dataclasses.replace(config, inputs=(), output=None, workers=workers),
            "model": ray.put(_model_files(find_model(config.model))),
            "options": options,
        },
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(room, batches))),
        num_cpus=processors,
        num_gpus=1 if config.device == "cuda" else 0,
    )
    yield from _in_order(_received(judged, ray), list(paths), places)


def _connect(address: str) -> Any:
    """The module `ray`, connected. Raises DependencyError, GrainscanError."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise DependencyError("--ray needs Ray", hint=install("ray[data]")) from None
    for noisy in ("ray.data", "ray.data._internal"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise GrainscanError(
                f"no Ray cluster at {address}: {str(error).splitlines()[0]}",
                hint="Start one with `ray start --head`, or use --ray local.",
            ) from None
    return ray


def _model_files(directory: Path) -> dict[str, bytes]:
    names = (CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE)
    return {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}


class _Judge:
    """The actor: a scanner that lives as long as the job, with its own copy of the model."""

    def __init__(self, config: PredictConfig, model: Any, options: dict[str, Any]) -> None:
        import ray

        self._folder = tempfile.TemporaryDirectory(prefix="grainscan-model-")
        for name, content in ray.get(model).items():
            (Path(self._folder.name) / name).write_bytes(content)
        self._scanner = Scanner.from_config(dataclasses.replace(config, model=self._folder.name), **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        places = [os.fsdecode(place) for place in batch["place"]]
        # As bytes: Arrow's strings cannot hold names that are not UTF-8.
        return {"number": batch["number"], "result": [encode(result) for result in self._scanner.scan(places)]}


def _received(judged: Any, ray: Any) -> Iterator[tuple[int, Result]]:
    try:
        for batch in judged.iter_batches(batch_size=None, batch_format="numpy"):
            for number, result in zip(batch["number"], batch["result"], strict=True):
                yield int(number), json.loads(result)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
        raise GrainscanError(
            f"the cluster gave up: {reason}", hint="Run the same command again; with -o FILE.jsonl it continues."
        ) from error


def _in_order(results: Iterator[tuple[int, Result]], names: list[str], places: list[str]) -> Iterator[Result]:
    """Results in order of their numbers, under the names that the user gave."""
    due, early = 0, dict[int, Result]()
    for number, result in results:
        result["path"] = names[number]
        if result["status"] != "ok":
            result["error"]["message"] = result["error"]["message"].replace(places[number], names[number])
        early[number] = result
        while due in early:
            yield early.pop(due)
            due += 1
