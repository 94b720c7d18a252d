"""What a training will cost: arithmetic, memory and time.

torch counts FLOPs on tensors without values. A few views and clips are timed here and now and multiplied by how many
there will be.
"""

from __future__ import annotations

import contextlib
import math
import time
import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainscan.data.cache import decode
from grainscan.data.dataset import ValidationViews, cut_block, random_cut, render
from grainscan.errors import DataError, VideoError
from grainscan.model.vivit import GrainscanViViT, count_parameters, grid_of
from grainscan.tasks import AUGMENTATIONS
from grainscan.train.setup import Setup
from grainscan.workers import processors

_LIBRARIES = 900_000_000  # bytes, for Python, torch and transformers
_TIMED_FLOPS = 2e10  # per timed batch; a single view may need more
_TIMED_CLIPS = 3
_STEP_SECONDS = 0.01  # Trainer's overhead per step
_SAVE_SECONDS = 0.3  # per checkpoint
_EXPORT_SECONDS = 4.0  # for any model
_EXPORT_LAYER_SECONDS = 1.0  # more per layer
_EXPORT_ENERGIES_SECONDS = 14.0  # more for the noise features, whose graph is the largest
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


class _Pass(nn.Module):
    """A forward pass and, where gradients are needed, a backward pass of a model."""

    def __init__(self, model: GrainscanViViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: torch.Tensor | None, statistics: torch.Tensor) -> None:
        total = sum(output.sum() for output in self.model(views, statistics))
        if total.requires_grad:
            total.backward()


def count_flops(model: GrainscanViViT, *, training: bool = True, views: bool = True) -> int:
    """Floating-point operations per view: forward and, for `training`, backward and recomputed activations.

    Without `views`, those for the statistics of a picture alone.
    """
    view, steps = model.spec.view, _Pass(model)
    tensors = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad and training)
        for name, tensor in (*steps.named_parameters(), *steps.named_buffers())
    }
    seen = torch.empty(1, view.frames, 3, view.size, view.size, device="meta") if views else None
    statistics = torch.empty(1, model.spec.statistics, device="meta")
    with _mode(model, training=training), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(steps, tensors, (seen, statistics))
    return counter.get_total_flops()


@contextlib.contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def estimate_memory(setup: Setup) -> int:
    """Bytes per process: libraries; weights, gradients and AdamW's two moments; activations of a forward pass."""
    model, config = setup.model, setup.config
    weights = 4 * count_parameters(model) + 12 * count_parameters(model, trainable=True)
    half = setup.machine.precision != "fp32"
    one = activation_bytes(model, half=half, checkpointing=config.gradient_checkpointing)
    return _LIBRARIES + weights + config.batch_size * one


def trained_depth(model: GrainscanViViT) -> float:
    """Fraction of the backbone's layers in the backward pass: 1 for all, 0 where only adapters are trained."""
    layers = model.backbone.layers
    for index, part in enumerate((model.backbone.embeddings, *layers)):
        if any(parameter.requires_grad for parameter in part.parameters()):
            return (len(layers) - max(0, index - 1)) / len(layers)
    return 0.0


def activation_bytes(model: GrainscanViViT, *, half: bool = False, checkpointing: bool = False) -> int:
    """Bytes per view that autograd keeps between the forward and the backward pass.

    A layer keeps, per token: its two normalised inputs and what they were normalised from, query, key, value and the
    attended values (8 times the hidden size), and both sides of the activation function (2 times the inner size);
    eager attention also keeps its weights, tokens squared per head. With checkpointing, one layer's activations and
    the inputs of all layers. The view itself is kept twice, as read and normalised.
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


@dataclass(frozen=True)
class Pace:
    """Seconds that things take on this machine."""

    learn: float  # per view, forward and backward
    judge: float  # per view, forward
    cut: float  # per view, from a decoded clip
    decode: float  # per clip
    views: int = 1  # per file when it is judged


def measure(setup: Setup, flops: int) -> Pace:
    """Time a few views and clips; writes nothing. `flops` per view decide how many views are timed at once."""
    decoding, cutting, windows = _time_clips(setup)
    count = max(1, min(setup.config.batch_size, int(_TIMED_FLOPS / flops)))
    view, device = setup.model.spec.view, torch.device(setup.machine.device)
    views = torch.rand(count, view.frames, 3, view.size, view.size, device=device) if setup.uses_views else None
    statistics = torch.rand(count, setup.model.spec.statistics, device=device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(setup.machine.precision)
    model = setup.model.to(device)

    def work() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            _Pass(model)(views, statistics)
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = []
    for training in (True, False):
        with _mode(model, training=training), torch.set_grad_enabled(training):
            times = timeit.repeat(work, number=1, repeat=4)
        seconds.append(median(times[1:]) / count)  # the first one warms up
    model.zero_grad(set_to_none=True)
    learn, judge = seconds
    return Pace(learn, judge, cutting, decoding, round(windows * view.crops))


def _time_clips(setup: Setup) -> tuple[float, float, float]:
    """Means over a few clips: seconds to decode one, seconds to cut a view, windows. Zeros if none can be decoded."""
    clips, view = setup.training, setup.cache.view
    found = []
    for index in np.linspace(0, len(clips) - 1, min(_TIMED_CLIPS, len(clips))).round().astype(int):
        begun = time.perf_counter()
        try:
            excerpt = decode(clips.path(int(index)), view, **setup.cache.wanted)
        except (VideoError, DataError):
            continue
        decoding = time.perf_counter() - begun
        windows, cutting = float(len(excerpt.statistics)), 0.0
        if setup.uses_views:
            cuts = [random_cut(excerpt, view, np.random.default_rng(i), augment=AUGMENTATIONS) for i in range(4)]
            begun = time.perf_counter()
            render([cut_block(excerpt, cut, view) for cut in cuts], cuts, view)
            cutting = (time.perf_counter() - begun) / len(cuts)
            windows = sum(shape[0] for shape in excerpt.shapes) // view.frames  # of a short clip: all
        found.append((decoding, cutting, min(view.windows, max(1, windows))))
    decoding, cutting, windows = np.mean(found, axis=0).tolist() if found else (0.0, 0.0, 0.0)
    return decoding, cutting, windows


def estimate_time(setup: Setup, pace: Pace, *, preparing: float = 0.0) -> Seconds:
    """How long the training will take at this pace, export and calibration included."""
    schedule, validation, loaders = setup.schedule, setup.validation, setup.machine.loaders
    processes, cores = schedule.processes, processors()
    views = schedule.views / processes
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
    validating = calibrating = 0.0
    if validation is not None:
        count = ValidationViews(validation, setup.cache).count
        once = len(validation) * count * (pace.judge + pace.cut) / processes
        validating = (validations + setup.scores_start) * once
        calibrating = _SCANNER_SECONDS + len(validation) * (pace.decode / cores + pace.views * pace.judge)
    return Seconds(preparing, decoding, training, validating, exporting, calibrating)
