"""From the options of `train` to the parts that a training is made of. Nothing is decoded or written here."""

from __future__ import annotations

import contextlib
import logging
import math
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from grainscan.data.cache import ClipCache, default_directory
from grainscan.data.dataset import ClipSet, class_weights, read_clips
from grainscan.errors import ConfigError, GrainscanError, require
from grainscan.model.build import build, quiet_transformers
from grainscan.model.export import quiet_loggers
from grainscan.model.spec import starting_spec
from grainscan.model.vivit import GrainscanViViT
from grainscan.options import TrainConfig, to_toml
from grainscan.tasks import task_of
from grainscan.train.check import find_roles, split_folders
from grainscan.train.finetune import tune
from grainscan.train.losses import Objective, alpha_from_counts
from grainscan.train.machine import Machine, find_machine
from grainscan.train.roles import Roles
from grainscan.train.run import RunFolder, find_run, is_main, world_size
from grainscan.train.schedule import Schedule

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

log = logging.getLogger(__name__)

# A resumed run may change these options without changing what is learnt.
_FREE_TO_CHANGE = frozenset(
    {"name", "runs", "resume", "workers", "cache", "cache_gb", "keep", "tensorboard", "dry_run", "device", "data"}
)


@dataclass(frozen=True, eq=False)
class Setup:
    """A training about to start."""

    config: TrainConfig  # with precision and learning rate resolved
    run: RunFolder
    model: GrainscanViViT
    lora: LoraModel | None
    training: ClipSet
    validation: ClipSet | None
    test: ClipSet | None  # checked for leaks, never trained on
    cache: ClipCache
    objective: Objective
    schedule: Schedule
    machine: Machine
    roles: Roles
    known: tuple[str, ...]  # learnt tasks that the model was trained for before
    left_out: tuple[str, ...] = ()  # clips that cannot be decoded

    @property
    def uses_views(self) -> bool:
        """Whether a task that is learnt is judged by views; else it is learnt from the picture's statistics alone."""
        return self.cache.wanted["views"]

    @property
    def scores_start(self) -> bool:
        """Whether to validate before the first step: there are clips, and the model knows some of the tasks."""
        return self.validation is not None and bool(self.known)


def prepare(config: TrainConfig) -> Setup:
    """Resolve the options: read the labels, build the model, count the steps.

    Raises ConfigError, LabelsError, DataError, ModelError, DependencyError.
    """
    roles = find_roles(config)
    training, validation, test = _read_splits(config, roles.learnt)
    run = find_run(config.runs, config.name, resume=config.resume, model=config.model)
    if config.resume and run.checkpoint is None and is_main():
        log.warning("nothing to resume in %s: a new training starts", run.path)
    started = {} if run.checkpoint is None else run.options()
    precision = started.get("precision", "auto") if config.precision == "auto" else config.precision
    machine = find_machine(config.device, precision, config.workers)
    config = replace(config, precision=machine.precision, lr=config.peak)
    if started:
        _compare_options(started, config, run)
    if config.tensorboard:
        require("--tensorboard", "tensorboard")
    start = None if config.scratch else starting_spec(config.model)
    known = () if start is None else tuple(task for task in start.tasks if task in roles.learnt)
    model = build(
        config.model,
        tasks=roles.tasks,
        kept=bool(roles.kept),
        frames=config.frames,
        size=config.size,
        pooling=config.pooling,
        scratch=config.scratch,
        attention=config.attention,
        seed=config.seed,
    )
    units = _strength_units(model.spec.strength, roles.kept, training)
    model.spec = model.spec.with_(measured=roles.measured, strength=units)
    scope = "adapters" if config.add_task and config.tune == "full" else config.tune
    lora = tune(model, scope, config.lora, kept=len(roles.kept))
    if config.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    return Setup(
        config=config,
        run=run,
        model=model,
        lora=lora,
        training=training,
        validation=validation,
        test=test,
        cache=ClipCache(
            default_directory() if config.cache else None,
            model.spec.view,
            views=config.tune != "picture" and any(map(model.spec.by_views, roles.learnt)),
            statistics=any(map(model.spec.by_statistics, roles.learnt)),
            limit=config.cache_gb * 1e9,
        ),
        objective=_objective(config, training),
        schedule=Schedule(config, len(training), world_size()),
        machine=machine,
        roles=roles,
        known=known,
    )


def _read_splits(config: TrainConfig, tasks: tuple[str, ...]) -> tuple[ClipSet, ClipSet | None, ClipSet | None]:
    """The clips of `train/` (or of the whole folder), `val/` and `test/`; None for a missing split."""
    train, val = split_folders(config.data)
    training = read_clips(train, tasks)
    if val is None:
        return training, None, None
    test = None
    with contextlib.suppress(GrainscanError):  # faulty test labels do not prevent a training
        test = read_clips(config.data / "test", training.tasks, partly=True)
    return training, read_clips(val, training.tasks, partly=True), test


def _compare_options(started: Mapping[str, Any], config: TrainConfig, run: RunFolder) -> None:
    """Warn about options that differ from those that the run was started with."""
    now = tomllib.loads(to_toml(config, command="train"))["train"]
    for key in sorted((started.keys() | now.keys()) - _FREE_TO_CHANGE):
        if started.get(key) != now.get(key):
            log.warning("%s: resumed with %s = %s, started with %s", run.path, key, now.get(key), started.get(key))


def _objective(config: TrainConfig, clips: ClipSet) -> Objective:
    """The loss of a run. Alpha `auto` comes from how often each class is drawn."""
    alpha: tuple[float, ...] | None = None
    if config.focal_alpha == "auto":
        weights = class_weights(clips.labels) if config.balanced else np.ones(len(clips))
        alpha = alpha_from_counts(np.stack([weights @ (clips.labels == label) for label in (0, 1)], axis=1))
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
    """Parse `TASK=0.5,OTHER=2` into one weight per task (default 1). Raises ConfigError."""
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
            hint = f"Write TASK=NUMBER; tasks: {', '.join(tasks)}."
            raise ConfigError(f"--task-weights: {part.strip()!r}", hint=hint)
        weights[task] = weight
    return tuple(weights.values())


def _strength_units(known: Mapping[str, str], kept: Sequence[str], clips: ClipSet) -> dict[str, str]:
    """Units of the tasks with a strength: those that the model had, and those with strengths in the manifest."""
    measured = np.isfinite(clips.strength).sum(axis=0).tolist()
    return {task: known[task] for task in kept if task in known} | {
        task: known.get(task) or task_of(task).unit or "as in the training data"
        for task, count in zip(clips.tasks, measured, strict=True)
        if task in known or count
    }


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence notices of libraries that are meant for their developers."""
    loggers = quiet_loggers("accelerate", "torch.distributed", "peft")
    with loggers, quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        yield
