"""What a training would do, before it does it: `grainscan train --dry-run`, and the figures of a run's card.

The data (clips, sources, prevalence, leaks between splits), the parameters, and an estimate of memory and time. The
arithmetic is that of a pre-norm transformer; the speed of the machine is measured with one matrix product.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainscan.data.dataset import ClipSet, read_clips
from grainscan.errors import GrainscanError
from grainscan.model.vivit import GrainscanViViT, count_parameters, grid_of
from grainscan.options import to_toml
from grainscan.train.trainer import Setup

EFFICIENCY = 0.6  # of the speed of a large matrix product, which a whole training step reaches
_LIBRARIES = 900_000_000  # bytes: Python, torch and transformers themselves
_LEAKS_NAMED = 5


@dataclass(frozen=True)
class Estimate:
    """Memory in bytes, arithmetic in floating-point operations, time in seconds."""

    weights: int  # parameters, gradients and AdamW's two moments, fp32
    activations: int  # kept for the backward pass of one micro-batch
    flops_per_view: float  # forward and backward
    seconds: float  # of the whole training, without validation

    @property
    def memory(self) -> int:
        return _LIBRARIES + self.weights + self.activations


def summary(setup: Setup) -> dict[str, Any]:
    """Everything that a dry run prints, as plain values."""
    estimate = estimate_cost(setup)
    return {
        "name": setup.name,
        "config": to_toml(setup.config, command="train"),
        "model": {
            "parameters": count_parameters(setup.model),
            "trainable": count_parameters(setup.model, trainable=True),
            "views": f"{setup.model.spec.view.frames} x {setup.model.spec.view.size} x {setup.model.spec.view.size}",
            "tasks": list(setup.model.spec.tasks),
        },
        "data": describe_data(splits_of(setup)),
        "left_out": list(setup.left_out),
        "device": "cuda" if setup.cuda else "cpu",
        "precision": setup.precision,
        "steps": setup.steps,
        "steps_per_epoch": round(setup.steps_per_epoch, 2),
        "views_per_step": setup.views_per_step,
        "validate_every": setup.eval_every if setup.validation is not None else None,
        "estimate": {
            "memory_gb": round(estimate.memory / 1e9, 4),
            "weights_gb": round(estimate.weights / 1e9, 4),
            "activations_gb": round(estimate.activations / 1e9, 4),
            "gflops_per_view": round(estimate.flops_per_view / 1e9, 2),
            "seconds": round(estimate.seconds),
        },
    }


def splits_of(setup: Setup) -> dict[str, ClipSet]:
    """The clips of the training, and those of `test/` beside them: looked at for leaks, never trained on."""
    found = {"train": setup.training}
    if setup.validation is not None:
        found["val"] = setup.validation
        with contextlib.suppress(GrainscanError):  # a fault in the test labels is no reason not to train
            found["test"] = read_clips(setup.config.data / "test", setup.training.tasks, partly=True)
    return found


# ---------------------------------------------------------------------------------------------------------- data


def describe_data(splits: Mapping[str, ClipSet]) -> dict[str, Any]:
    """Clips, sources and labels of each split, and what leaks from one into another."""
    return {
        "splits": {name: describe_clips(clips) for name, clips in splits.items()},
        "leaks": leaks(splits),
    }


def describe_clips(clips: ClipSet) -> dict[str, Any]:
    tasks = {}
    for column, task in enumerate(clips.tasks):
        negative, positive = (int(count) for count in clips.counts()[column])
        known = negative + positive
        tasks[task] = {
            "negative": negative,
            "positive": positive,
            "unknown": len(clips) - known,
            "prevalence": round(positive / known, 4) if known else None,
            "strengths": int(np.isfinite(clips.strength[:, column]).sum()),
        }
    return {"clips": len(clips), "sources": len(set(clips.sources)), "tasks": tasks}


def leaks(splits: Mapping[str, ClipSet]) -> list[str]:
    """Sources and files that stand in two splits, in words: figures on the second split are then too good."""
    found = []
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = sorted(set(splits[first].sources) & set(splits[second].sources))
            if both:
                found.append(f"{len(both)} sources in {first} and {second}: {_some(both)}")
            same = _same_files(splits[first], splits[second])
            if same:
                found.append(f"{len(same)} files of the same content in {first} and {second}: {_some(same)}")
    return found


def _some(names: list[str]) -> str:
    rest = len(names) - _LEAKS_NAMED
    return ", ".join(names[:_LEAKS_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _same_files(first: ClipSet, second: ClipSet) -> list[str]:
    """Names in `second` of files that are byte for byte in `first`. Only files of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for index in range(len(first)):
        sizes[first.path(index).stat().st_size].append(first.path(index))
    found = []
    for index in range(len(second)):
        path = second.path(index)
        candidates = sizes.get(path.stat().st_size, [])
        if candidates and _digest(path) in {_digest(candidate) for candidate in candidates}:
            found.append(second.names[index])
    return found


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


# ---------------------------------------------------------------------------------------------------------- cost


def estimate_cost(setup: Setup) -> Estimate:
    flops = training_flops(setup.model, checkpointing=setup.config.gradient_checkpointing)
    views = setup.steps * setup.config.batch_size * setup.config.accumulate  # of one process
    return Estimate(
        weights=weight_bytes(setup.model),
        activations=setup.config.batch_size
        * activation_bytes(
            setup.model,
            half=setup.precision != "fp32",
            checkpointing=setup.config.gradient_checkpointing,
            eager=setup.config.attention == "eager",
        ),
        flops_per_view=flops,
        seconds=views * flops / (EFFICIENCY * matmul_speed(setup)),
    )


def weight_bytes(model: GrainscanViViT) -> int:
    """Parameters, and for the trainable ones gradients and two moments, 4 bytes each."""
    return 4 * count_parameters(model) + 12 * count_parameters(model, trainable=True)


def tokens_of(model: GrainscanViViT) -> int:
    return math.prod(grid_of(model.config)) + 1


def forward_flops(model: GrainscanViViT) -> float:
    """Multiplications and additions of the forward pass of a view: the matrices, and attention's two products."""
    config, tokens = model.config, tokens_of(model)
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * tokens**2 * hidden
    embedding = 2 * tokens * model.backbone.embeddings.patch_embeddings.projection.weight.numel()
    return float(config.num_hidden_layers * layer + embedding)


def training_flops(model: GrainscanViViT, *, checkpointing: bool = False) -> float:
    """Forward and backward of a view. The backward pass goes down to the lowest trainable part, at twice the cost."""
    forward, part = forward_flops(model), trained_depth(model)
    return forward * (1 + (2 + checkpointing) * part)


def trained_depth(model: GrainscanViViT) -> float:
    """Part of the backbone that the backward pass runs through: 1 for all, 0 where only adapters are trained."""
    if any(p.requires_grad for p in model.backbone.embeddings.parameters()):
        return 1.0
    layers = list(model.backbone.layers)
    for index, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return (len(layers) - index) / len(layers)
    return 0.0


def activation_bytes(
    model: GrainscanViViT, *, half: bool = False, checkpointing: bool = False, eager: bool = False
) -> int:
    """Memory that one view takes between its forward and backward pass.

    A layer keeps, for each token: its two normalised inputs and what they were normalised from, query, key, value, the
    attended values (8 times the hidden size) and both sides of the activation function (2 times the inner size); eager
    attention also the weights, tokens squared for each head. With checkpointing, one layer at a time and the inputs of
    the others. The view itself stands beside that, twice (as read, and normalised).
    """
    config, tokens, size = model.config, tokens_of(model), 2 if half else 4
    layer = tokens * (8 * config.hidden_size + 2 * config.intermediate_size) * size
    if eager:
        layer += 2 * config.num_attention_heads * tokens**2 * size
    kept = config.num_hidden_layers * trained_depth(model)
    total = layer * kept
    if checkpointing and kept:
        total = layer + kept * tokens * config.hidden_size * size
    view = model.spec.view
    return int(max(total, layer) + 2 * 4 * view.frames * 3 * view.size**2)


def matmul_speed(setup: Setup) -> float:
    """Floating-point operations a second of a matrix product like those of the model, on the device of the training."""
    device = torch.device("cuda" if setup.cuda else "cpu")
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[setup.precision]
    rows, hidden = 4096 if setup.cuda else 1024, setup.model.config.hidden_size
    a = torch.ones(rows, hidden, dtype=dtype, device=device)
    b = torch.ones(hidden, 4 * hidden, dtype=dtype, device=device)
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        a @ b
        if setup.cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * rows * hidden * 4 * hidden / best
