"""What a training costs before it starts: arithmetic, memory and time.

FLOPs are counted by torch on tensors without values. Time is what a few views and clips take here and now, times how
many of them there will be; export and calibration, too.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainscan.data.cache import DecodedExcerpt, decode
from grainscan.data.dataset import ValidationViews, cut_block, random_cut, render
from grainscan.errors import DataError, VideoError
from grainscan.model.vivit import GrainscanViViT, count_parameters, grid_of
from grainscan.tasks import AUGMENTATIONS
from grainscan.train.setup import Setup
from grainscan.workers import processors

_LIBRARIES = 900_000_000  # bytes: Python, torch and transformers themselves
_TIMED_FLOPS = 2e10  # arithmetic that is timed at once; a single view may take more
_TIMED_CLIPS = 3
_STEP_SECONDS = 0.01  # of Trainer's own, per step
_SAVE_SECONDS = 0.3  # a checkpoint
_EXPORT_SECONDS = 4.0  # of any model
_EXPORT_LAYER_SECONDS = 1.0
_EXPORT_ENERGIES_SECONDS = 14.0  # of the noise features, whose graph is the largest
_SCANNER_SECONDS = 1.5  # until the calibration judges its first clip


@dataclass(frozen=True)
class Seconds:
    """Time by stage."""

    preparing: float = 0.0
    decoding: float = 0.0
    training: float = 0.0
    validating: float = 0.0
    exporting: float = 0.0
    calibrating: float = 0.0

    @property
    def total(self) -> float:
        return sum(vars(self).values())


# ---------------------------------------------------------------------------------------------------- arithmetic


class _Pass(nn.Module):
    """A forward pass and, where anything is trained, a backward pass of a model."""

    def __init__(self, model: GrainscanViViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: torch.Tensor) -> None:
        outputs = self.model(views)
        total = outputs.logits.sum() + outputs.strength.sum()
        if total.requires_grad:
            total.backward()


def count_flops(model: GrainscanViViT, *, training: bool = True) -> int:
    """Floating-point operations of one view: forward, and in `training` backward, checkpoints computed twice."""
    view, steps = model.spec.view, _Pass(model)
    tensors = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad and training)
        for name, tensor in (*steps.named_parameters(), *steps.named_buffers())
    }
    views = torch.empty(1, view.frames, 3, view.size, view.size, device="meta")
    with _mode(model, training=training), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(steps, tensors, (views,))
    return counter.get_total_flops()


@contextlib.contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode, for a while."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


# -------------------------------------------------------------------------------------------------------- memory


def estimate_memory(setup: Setup) -> int:
    """Bytes of one process: libraries; parameters, gradients and AdamW's two moments; activations of a micro-batch."""
    model = setup.model
    weights = 4 * count_parameters(model) + 12 * count_parameters(model, trainable=True)
    one = activation_bytes(model, half=setup.machine.precision != "fp32", checkpointing=setup.checkpointing)
    return _LIBRARIES + weights + setup.schedule.batch_size * one


def trained_depth(model: GrainscanViViT) -> float:
    """Part of the backbone that the backward pass runs through: 1 for all, 0 where only adapters are trained."""
    if any(p.requires_grad for p in model.backbone.embeddings.parameters()):
        return 1.0
    layers = list(model.backbone.layers)
    for index, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return (len(layers) - index) / len(layers)
    return 0.0


def activation_bytes(model: GrainscanViViT, *, half: bool = False, checkpointing: bool = False) -> int:
    """Memory that one view takes between its forward and backward pass.

    A layer keeps, for each token: its two normalised inputs and what they were normalised from, query, key, value, the
    attended values (8 times the hidden size) and both sides of the activation function (2 times the inner size); eager
    attention also the weights, tokens squared for each head. With checkpointing, one layer at a time and the inputs of
    the others. The view itself comes on top, twice (as read, and normalised).
    """
    config, size = model.config, 2 if half else 4
    tokens = math.prod(grid_of(config)) + 1
    layer = tokens * (8 * config.hidden_size + 2 * config.intermediate_size) * size
    if config._attn_implementation == "eager":
        layer += 2 * config.num_attention_heads * tokens**2 * size
    kept = config.num_hidden_layers * trained_depth(model)
    total = layer * kept
    if checkpointing and kept:
        total = layer + kept * tokens * config.hidden_size * size
    view = model.spec.view
    return int(max(total, layer) + 2 * 4 * view.frames * 3 * view.size**2)


# ---------------------------------------------------------------------------------------------------------- time


@dataclass(frozen=True)
class Pace:
    """Seconds that one of each takes here."""

    learn: float  # a view, forward and backward
    judge: float  # a view, forward
    cut: float  # a view from a decoded clip
    decode: float  # a clip
    views: int = 1  # that a file is judged by


def measure(setup: Setup, flops: int) -> Pace:
    """Time a few views and clips. Nothing is written; `flops` of a view decide how many views are timed at once."""
    decoding, cutting, windows = _time_clips(setup)
    count = max(1, min(setup.schedule.batch_size, int(_TIMED_FLOPS / max(1, flops))))
    view, device = setup.model.spec.view, torch.device(setup.machine.device)
    views = torch.rand(count, view.frames, 3, view.size, view.size, device=device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(setup.machine.precision)
    model = setup.model.to(device)

    def work(*, training: bool) -> Callable[[], None]:
        def once() -> None:
            with (
                _mode(model, training=training),
                torch.set_grad_enabled(training),
                torch.autocast(device.type, dtype, enabled=dtype is not None),
            ):
                _Pass(model)(views)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    learn, judge = (_seconds(work(training=training)) / count for training in (True, False))
    model.zero_grad(set_to_none=True)
    return Pace(learn, judge, cutting, decoding, round(windows * view.crops))


def _seconds(work: Callable[[], None]) -> float:
    """The median of three times that `work` takes, after a first one that warms up."""
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[1]


def _time_clips(setup: Setup) -> tuple[float, float, float]:
    """Means of a few clips: seconds to decode one, seconds to cut a view, windows. Zero where none can be decoded."""
    clips, view = setup.training, setup.cache.view
    decoding: list[float] = []
    cutting: list[float] = []
    windows: list[float] = []
    for index in np.linspace(0, len(clips) - 1, min(_TIMED_CLIPS, len(clips))).round().astype(int):
        begun = time.perf_counter()
        try:
            excerpt = DecodedExcerpt(decode(clips.path(int(index)), view))
        except (VideoError, DataError):
            continue
        decoding.append(time.perf_counter() - begun)
        cuts = [random_cut(excerpt, view, np.random.default_rng(i), augment=AUGMENTATIONS) for i in range(4)]
        begun = time.perf_counter()
        render([cut_block(excerpt, cut, view) for cut in cuts], cuts, view)
        cutting.append((time.perf_counter() - begun) / len(cuts))
        frames = sum(shape[0] for shape in excerpt.shapes)  # all of a short clip
        windows.append(min(view.windows, max(1, frames // view.frames)))
    decoded, cut, found = (sum(each) / max(1, len(each)) for each in (decoding, cutting, windows))
    return decoded, cut, found


def estimate_time(setup: Setup, pace: Pace, *, preparing: float = 0.0) -> Seconds:
    """How long the training will take in all, export and calibration included, on a machine that goes on as it does."""
    schedule, validation, loaders = setup.schedule, setup.validation, setup.machine.loaders
    processes, cores = schedule.processes, processors()
    views = schedule.steps * schedule.batch_size * schedule.accumulate  # of this process
    clips = [setup.training] if validation is None else [setup.training, validation]
    undecoded = sum(not setup.cache.holds(each.path(i)) for each in clips for i in range(len(each)))
    per_view = max(pace.learn, pace.cut / loaders) if loaders else pace.learn + pace.cut
    decoding = undecoded * pace.decode / cores
    if setup.cache.directory is None:
        per_view += pace.decode
        decoding = 0.0
    validations = math.ceil(schedule.steps / schedule.validation_interval)
    training = views * per_view + schedule.steps * _STEP_SECONDS + validations * _SAVE_SECONDS
    exporting = _EXPORT_SECONDS + _EXPORT_LAYER_SECONDS * setup.model.config.num_hidden_layers
    exporting += _EXPORT_ENERGIES_SECONDS * setup.model.spec.energies
    if validation is None:
        return Seconds(preparing, decoding, training, exporting=exporting)
    count = ValidationViews(validation, setup.cache).count
    once = len(validation) * count * (pace.judge + pace.cut) / processes
    judging = len(validation) * (pace.decode / cores + pace.views * pace.judge)
    return Seconds(
        preparing,
        decoding,
        training,
        validating=(validations + setup.scores_start) * once,
        exporting=exporting,
        calibrating=_SCANNER_SECONDS + judging,
    )
