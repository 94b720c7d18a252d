"""What a training is going to do: a configuration resolved into a `Setup`, and `plan`, which only tells.

Nothing is decoded or written here. `train` goes on from the same `Setup`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
import tomllib
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainscan.data.cache import ClipCache, default_directory
from grainscan.data.dataset import ClipSet, read_clips
from grainscan.data.labels import LABELS_FILE, find_split
from grainscan.errors import ConfigError, UsageError
from grainscan.model.build import build, quiet_transformers
from grainscan.model.last_run import last_run
from grainscan.options import TrainConfig, to_toml
from grainscan.tasks import task_of
from grainscan.train import run as runs
from grainscan.train.estimate import summary
from grainscan.train.finetune import tune
from grainscan.train.losses import Objective, alpha_from_counts
from grainscan.train.run import Progress
from grainscan.train.trainer import Setup, is_main, world_size
from grainscan.workers import processors

log = logging.getLogger(__name__)

_LOGGED_ROWS = 400  # of a run's history, about
# Options that may differ between a run and its resumption without changing what is learnt.
_FREE_TO_CHANGE = frozenset(
    {"name", "runs", "resume", "workers", "cache", "cache_gb", "keep", "tensorboard", "dry_run", "device", "data"}
)


def plan(config: TrainConfig) -> dict[str, Any]:
    """What `train(config)` would do: configuration, data, leaks, parameters, memory and time. Writes nothing."""
    with quiet_libraries():
        return summary(prepare(config, Progress()))


def prepare(config: TrainConfig, progress: Progress) -> Setup:
    """Resolve a configuration: read the labels, build the model, count the steps. Nothing is decoded or written."""
    training, validation = read_splits(config)
    name, directory, resume = run_directory(config)
    if resume is not None:
        _compare_options(config, directory)
    model = build(
        config.model,
        tasks=training.tasks,
        frames=config.frames,
        size=config.size,
        pooling=config.pooling,
        scratch=config.scratch,
        attention=config.attention,
        seed=config.seed,
    )
    model.spec = model.spec.with_(strength=strength_units(model.spec.strength, training))
    tune(model, config.tune, config.lora)
    if config.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    cuda = uses_cuda(config)
    precision = choose_precision(config, cuda)
    if config.precision == "auto":
        progress.note(f"precision {precision}: the fastest of this {'GPU' if cuda else 'processor'}")
    if validation is None:
        progress.note("no val split: the last weights are kept, and nothing is calibrated")
    steps, per_epoch = count_steps(config, len(training))
    eval_every = min(config.eval_every or math.ceil(per_epoch), steps)
    return Setup(
        config=config,
        name=name,
        directory=directory,
        precision=precision,
        cuda=cuda,
        model=model,
        training=training,
        validation=validation,
        cache=ClipCache(default_directory() if config.cache else None, model.spec.view, limit=config.cache_gb * 1e9),
        objective=objective(config, training),
        steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=eval_every,
        log_every=log_interval(eval_every, steps),
        workers=loader_workers(config, cuda),
        resume=resume,
    )


def read_splits(config: TrainConfig) -> tuple[ClipSet, ClipSet | None]:
    """The clips of `train/` and of `val/` (None without one); a folder that is not split is trained on as a whole."""
    tasks = tuple(task.strip() for task in config.tasks.split(",")) if config.tasks else None
    if not (config.data / "train" / LABELS_FILE).is_file():
        return read_clips(find_split(config.data), tasks), None
    training = read_clips(config.data / "train", tasks)
    val = config.data / "val"
    if not (val / LABELS_FILE).is_file():
        return training, None
    return training, read_clips(val, training.tasks, partly=True)


def count_steps(config: TrainConfig, clips: int) -> tuple[int, float]:
    """(optimiser steps, steps an epoch). An epoch shows every clip `views_per_clip` times."""
    per_epoch = clips * config.views_per_clip / (config.batch_size * config.accumulate * world_size())
    return config.max_steps or max(1, math.ceil(config.epochs * per_epoch)), per_epoch


def log_interval(eval_every: int, steps: int) -> int:
    """Steps between rows of the history: divides the validation interval, so that no average spans a checkpoint."""
    wanted = max(1, min(eval_every, steps // _LOGGED_ROWS))
    return max(divisor for divisor in range(1, wanted + 1) if eval_every % divisor == 0)


def run_directory(config: TrainConfig) -> tuple[str, Path, Path | None]:
    """(name, directory, checkpoint to resume from). Raises ConfigError for a run that is there already."""
    if config.resume == "auto":
        last = None if config.name else last_run()
        if not config.name and last is None:
            raise ConfigError("--resume auto: nothing was trained here", hint="Name the run with --name NAME.")
        directory = config.runs / config.name if config.name else last.directory  # type: ignore[union-attr]
        return directory.name, directory, last_checkpoint(directory)
    if config.resume:
        checkpoint = Path(config.resume)
        if not (checkpoint / "trainer_state.json").is_file():
            raise ConfigError(
                f"--resume {checkpoint}: not a checkpoint", hint="Pass runs/NAME/checkpoints/checkpoint-N, or auto."
            )
        directory = checkpoint.absolute().parent.parent
        return directory.name, directory, checkpoint
    if not config.name and world_size() > 1:
        raise ConfigError("a training of several processes needs a name", hint="Pass --name NAME.")
    name = config.name or f"{Path(config.model).name}-{datetime.now():%Y%m%d-%H%M%S}"
    directory = config.runs / name
    if name in (".", "..") or Path(name).name != name:
        raise ConfigError(f"--name {name}: not a plain name", hint="It becomes a folder below --runs.")
    if is_main() and directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(f"{directory}: this run exists", hint="Choose another --name, or go on with --resume auto.")
    return name, directory, None


def last_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint of a run (Trainer writes trainer_state.json last)."""
    found = (directory / runs.CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
    return max((path.parent for path in found), key=lambda path: int(path.name.split("-")[1]), default=None)


def _compare_options(config: TrainConfig, directory: Path) -> None:
    """Warn of options that differ from those that the run was started with."""
    try:
        started = tomllib.loads((directory / runs.CONFIG_NAME).read_text(encoding="utf-8"))["train"]
    except (OSError, KeyError, ValueError):
        return
    now = tomllib.loads(to_toml(config, command="train"))["train"]
    for key in sorted((started.keys() | now.keys()) - _FREE_TO_CHANGE):
        if started.get(key) != now.get(key):
            log.warning("%s: resumed with %s = %s, started with %s", directory, key, now.get(key), started.get(key))


def uses_cuda(config: TrainConfig) -> bool:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
    return config.device != "cpu" and torch.cuda.is_available()


def choose_precision(config: TrainConfig, cuda: bool) -> str:
    """fp32, fp16 or bf16. `auto`: on a GPU bf16 where it has it, else fp16; on a CPU bf16 where it is faster.

    Raises ConfigError for fp16 on a CPU: loss scaling needs a GPU.
    """
    if config.precision == "auto":
        if cuda:
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if bf16_is_fast() else "fp32"
    if config.precision == "fp16" and not cuda:
        raise ConfigError("--precision fp16 needs a GPU", hint="Use auto, fp32 or bf16 on a CPU.")
    return config.precision


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bf16 matrices faster than fp32 ones. Those without the instructions take ten
    times longer, so a few milliseconds of trying say more than a list of processors."""
    a, b = torch.ones(1024, 256), torch.ones(256, 256)

    def seconds(x: torch.Tensor, y: torch.Tensor) -> float:
        best = math.inf
        for _ in range(4):
            begun = time.perf_counter()
            x @ y
            best = min(best, time.perf_counter() - begun)
        return best

    return seconds(a.bfloat16(), b.bfloat16()) < 0.8 * seconds(a, b)


def loader_workers(config: TrainConfig, cuda: bool) -> int:
    """Processes that cut views: on a GPU enough to keep it fed, on a CPU none, since they would take its time."""
    if config.workers >= 0:
        return config.workers
    return min(8, max(1, processors() - 1)) if cuda else 0


def objective(config: TrainConfig, clips: ClipSet) -> Objective:
    """The loss of a run. Alpha `auto` comes from the counts, and is even where sampling balances the classes."""
    alpha: tuple[float, ...] | None = None
    if config.focal_alpha == "auto":
        alpha = (0.5,) * len(clips.tasks) if config.balanced else alpha_from_counts(clips.counts())
    elif config.focal_alpha != "none":
        alpha = (float(config.focal_alpha),) * len(clips.tasks)
    return Objective(
        kind=config.loss,
        gamma=config.focal_gamma,
        alpha=alpha,
        task_weight=task_weights(config.task_weights, clips.tasks),
        strength_weight=config.strength_weight,
        soft=config.soft_labels,
    )


def task_weights(text: str | None, tasks: tuple[str, ...]) -> tuple[float, ...] | None:
    """`graininess=1,banding=0.5` as a weight for each task (default 1). Raises ConfigError."""
    if text is None:
        return None
    weights = dict.fromkeys(tasks, 1.0)
    for part in text.split(","):
        task, _, value = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if task not in weights or not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(
                f"--task-weights: {part.strip()!r}", hint=f"Write TASK=NUMBER; tasks: {', '.join(tasks)}."
            )
        weights[task] = weight
    return tuple(weights.values())


def strength_units(known: dict[str, str], clips: ClipSet) -> dict[str, str]:
    """Units of the tasks that have a strength: those that the model had, and those that the manifest measures."""
    units = {}
    for column, task in enumerate(clips.tasks):
        if task in known:
            units[task] = known[task]
        elif np.isfinite(clips.strength[:, column]).any():
            units[task] = task_of(task).unit or "as in the training data"
    return units


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without notices of libraries that concern their developers, not whoever trains."""
    names = ("accelerate", "torch.distributed", "peft")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
