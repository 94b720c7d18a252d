"""What a training will do: for `grainscan train --dry-run`, the lines before a training, and the model card."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from grainscan.console import count
from grainscan.data.dataset import ClipSet
from grainscan.data.labels import Prevalence
from grainscan.data.sources import Leak, leaks
from grainscan.model.vivit import count_parameters
from grainscan.options import TrainConfig, to_toml
from grainscan.results import Report
from grainscan.train.estimate import Seconds, count_flops, estimate_memory, estimate_time, measure
from grainscan.train.roles import Roles
from grainscan.train.setup import Setup, prepare, quiet_libraries


@dataclass(frozen=True)
class SplitSummary:
    """The clips of a split, and what is known about them for each task."""

    clips: int
    sources: int
    prevalence: dict[str, Prevalence]
    strengths: dict[str, int]  # clips with a known strength


@dataclass(frozen=True)
class Plan(Report):
    """A training before it starts. `seconds` is estimated for a dry run only."""

    name: str
    config: str  # TOML
    roles: Roles
    view: tuple[int, int]  # frames, pixels along a side
    parameters: int
    trainable: int
    splits: dict[str, SplitSummary]
    leaks: tuple[Leak, ...]
    left_out: tuple[str, ...]  # clips that cannot be decoded
    device: str
    precision: str
    steps: int
    views_per_step: int
    validation_interval: int | None  # steps; None without validation clips
    flops_per_view: int  # forward and backward
    memory: int  # bytes per process
    seconds: Seconds | None = None

    def lines(self) -> Iterator[str]:
        """The plan in words."""
        frames, size = self.view
        views = f"views of {frames} frames of {size}x{size} pixels"
        yield f"run {self.name}: {', '.join(self.roles.learnt)} on {views}, in {self.precision} on {self.device}"
        if self.roles.kept:
            yield f"kept as they are, labels or not: {', '.join(self.roles.kept)}"
        calibrated = [task for task in self.roles.measured if task in self.roles.fitted and "val" in self.splits]
        others = [task for task in self.roles.measured if task not in calibrated]
        if others:
            yield f"measured, not learnt: {', '.join(others)}"
        if calibrated:
            yield f"measured, and calibrated on the labels: {', '.join(calibrated)}"
        yield f"{self.trainable:,} of {self.parameters:,} parameters are trained"
        for name, split in self.splits.items():
            yield f"{name}: {count(split.clips, 'clip')} from {count(split.sources, 'source')}"
        times = self.steps * self.views_per_step / self.splits["train"].clips
        some = f"{min(times, 1):.0%} of the clips are seen"
        seen = f"each clip is seen about {times:.0f} times" if times >= 1.5 else some
        yield f"{count(self.steps, 'step')} of {count(self.views_per_step, 'view')}: {seen}"
        if self.validation_interval is None:
            yield "no val split: the last weights are kept, and nothing is calibrated"
        for leak in self.leaks:
            yield f"leak: {leak}"


def plan(config: TrainConfig) -> Plan:
    """What `train(config)` would do and cost. Writes nothing. Raises what `prepare` raises."""
    with quiet_libraries():
        begun = time.monotonic()
        setup = prepare(config)
        preparing = time.monotonic() - begun
        found = describe(setup)
        seconds = estimate_time(setup, measure(setup, found.flops_per_view), preparing=preparing)
        return replace(found, seconds=seconds)


def describe(setup: Setup) -> Plan:
    """The plan of a training without the estimated time."""
    schedule, model = setup.schedule, setup.model
    splits = {"train": setup.training, "val": setup.validation, "test": setup.test}
    present = {name: clips for name, clips in splits.items() if clips is not None}
    return Plan(
        name=setup.run.path.name,
        config=to_toml(setup.config, command="train"),
        roles=setup.roles,
        view=(model.spec.view.frames, model.spec.view.size),
        parameters=count_parameters(model),
        trainable=count_parameters(model, trainable=True),
        splits={name: _summary(clips) for name, clips in present.items()},
        leaks=leaks({name: clips.side() for name, clips in present.items()}),
        left_out=setup.left_out,
        device=setup.machine.device,
        precision=setup.machine.precision,
        steps=schedule.steps,
        views_per_step=schedule.views_per_step,
        validation_interval=None if setup.validation is None else schedule.validation_interval,
        flops_per_view=count_flops(model, views=setup.uses_views),
        memory=estimate_memory(setup),
    )


def _summary(clips: ClipSet) -> SplitSummary:
    counts = zip(clips.tasks, clips.counts().tolist(), strict=True)
    prevalence = {task: Prevalence(zeros, ones, len(clips) - zeros - ones) for task, (zeros, ones) in counts}
    strengths = np.isfinite(clips.strength).sum(axis=0).tolist()
    return SplitSummary(len(clips), len(set(clips.sources)), prevalence, dict(zip(clips.tasks, strengths, strict=True)))
