"""The network: a ViViT backbone with one small adapter per artifact.

The backbone is the stock `VivitModel`: its weights are interchangeable with published checkpoints. Adapters, pooling
and input normalisation are ours and part of the model, so no caller can get them wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import VivitConfig, VivitModel

from grainscan.model.noise_features import Energies
from grainscan.model.spec import ModelSpec

_FUSED_GELU = {"gelu_fast": "gelu_pytorch_tanh"}  # the same function, but one kernel instead of eight
_LEAST_DEVIATION = 1e-3  # of a statistic that hardly varies
_MOST_DEVIATIONS = 4.0
_INTERVALS = 16  # between quantiles of a statistic
_OUTERMOST = 0.002  # share of the material below the lowest quantile, and above the highest
_LEAST_APART = 1e-9  # quantiles that are equal but for rounding
_UNSEEN, _UNUSED = 0.2, 0.4  # shares that a training leaves out


class ViewOutputs(NamedTuple):
    """Outputs for n views: logits (n, tasks), and strength (n, tasks) as log2(1 + strength)."""

    logits: Tensor
    strength: Tensor


class TaskAdapter(nn.Module):
    """Residual bottleneck on the pooled token, with its own logit and strength.

    It starts as the identity (its last layer is zero), so a new adapter is a linear probe of the backbone.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        self.logit = nn.Linear(hidden, 1)
        self.strength = nn.Linear(hidden, 1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        for head in (self.logit, self.strength):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n, hidden) -> logit (n, 1), strength (n, 1)."""
        token = self.norm(pooled)
        token = token + self.up(F.gelu(self.down(token)))
        return self.logit(token), self.strength(token)


class Scale(nn.Module):
    """Statistics of a picture as numbers that an adapter can read, each twice: by its size, and by its rank.

    By size: brought to mean 0 and deviation 1 of the material on which the adapters were first trained, and limited, so
    that a picture unlike all of it does not count more than the strangest of it. Most statistics are close to zero in
    most pictures, and far from it in a few: there the size says nothing of the many. So also by the share of the
    material that has less (linear between 17 quantiles), from -2 to 2.
    """

    mean: Tensor
    deviation: Tensor
    knots: Tensor  # quantiles of each statistic, but for the highest
    steepness: Tensor  # 1 / (distance from each quantile to the next); 0 where they are equal

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))
        self.register_buffer("knots", torch.zeros(_INTERVALS, count))
        self.register_buffer("steepness", torch.zeros(_INTERVALS, count))

    @torch.no_grad()
    def fit(self, statistics: Tensor) -> None:
        """Take the scale from the statistics (n, count) of material to train on."""
        self.mean.copy_(statistics.double().mean(dim=0))
        self.deviation.copy_(statistics.double().std(dim=0).clamp_min(_LEAST_DEVIATION))
        ranks = torch.linspace(_OUTERMOST, 1 - _OUTERMOST, _INTERVALS + 1) * (len(statistics) - 1)
        quantiles = statistics.sort(dim=0).values[ranks.round().long()]
        apart = quantiles.diff(dim=0)
        self.knots.copy_(quantiles[:-1])
        self.steepness.copy_(torch.where(apart > _LEAST_APART, 1 / apart, 0.0))

    def forward(self, statistics: Tensor) -> Tensor:
        """(n, count) -> (n, 2 * count)."""
        size = ((statistics - self.mean) / self.deviation).clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        passed = ((statistics[:, None] - self.knots) * self.steepness).clamp(0, 1).sum(dim=1)
        return torch.cat([size, 4 * passed / _INTERVALS - 2], dim=1)


class Picture(nn.Module):
    """For each task that has one, an adapter of the statistics of a picture (`grainscan.views.statistics`).

    Each task has weights of its own, so that one more task changes none of the others.
    """

    def __init__(self, tasks: Iterable[int], count: int, width: int) -> None:
        """tasks: the numbers of those that have an adapter; count: of the statistics."""
        super().__init__()
        self.scale = Scale(count)
        self.adapters = nn.ModuleDict({str(task): PictureAdapter(2 * count, width) for task in tasks})

    def forward(self, statistics: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """(n, count) -> by task, logit (n, 1) and strength (n, 1)."""
        scaled = self.scale(statistics)
        return {int(task): adapter(scaled) for task, adapter in self.adapters.items()}


class PictureAdapter(nn.Module):
    """From the scaled statistics of a picture to a task's logit and strength, through one hidden layer."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(count, width)
        self.logit = nn.Linear(width, 1)
        self.strength = nn.Linear(width, 1)
        self.unseen = nn.Dropout(_UNSEEN)  # of the statistics: many say nearly the same
        self.unused = nn.Dropout(_UNUSED)

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """(n, count) -> logit (n, 1), strength (n, 1)."""
        hidden = self.unused(F.gelu(self.down(self.unseen(statistics)), approximate="tanh"))
        return self.logit(hidden), self.strength(hidden)


class Normalisation(nn.Module):
    """From RGB in [0, 1] to the backbone's input: (x - mean) / std per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        shape = (1, 1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        return (views - self.mean) / self.std


class GrainscanViViT(nn.Module):
    """ViViT over views of RGB in [0, 1], with one adapter per task, in the order of `spec.tasks`.

    With `spec.energies`, the noise features of `Energies` are added to the tokens of the tubelets. With
    `spec.statistics`, the model also reads the statistics of the picture; the specification says which tasks it judges
    by them, by views, or by the sum of both. The backbone's weights have the prefix `vivit.`, so that
    `VivitModel.from_pretrained` can read our directories.
    """

    def __init__(self, config: VivitConfig, spec: ModelSpec, *, attention: str = "sdpa") -> None:
        super().__init__()
        config.hidden_act = _FUSED_GELU.get(config.hidden_act, config.hidden_act)
        config._attn_implementation = attention
        self.spec = spec
        self.normalisation = Normalisation(spec.mean, spec.std)
        self.vivit = VivitModel(config, add_pooling_layer=False)
        self.energies = Energies(config.hidden_size, config.tubelet_size) if spec.energies else None
        numbers = range(len(spec.tasks))
        self.adapters = nn.ModuleDict(
            {str(i): TaskAdapter(config.hidden_size, spec.adapter) for i in numbers if spec.by_views(spec.tasks[i])}
        )
        seen = [i for i in numbers if spec.by_statistics(spec.tasks[i])]
        self.picture = Picture(seen, spec.statistics, spec.adapter) if spec.statistics else None

    @property
    def backbone(self) -> VivitModel:
        return self.vivit

    @property
    def config(self) -> VivitConfig:
        return self.vivit.config

    def forward(self, views: Tensor | None, statistics: Tensor | None = None) -> ViewOutputs:
        """views (n, frames, 3, size, size), RGB in [0, 1], statistics (n, count) -> ViewOutputs.

        Without views, tasks that need them have the outputs of the picture alone, or zeros: for a training of nothing
        else.
        """
        found: dict[int, list[tuple[Tensor, Tensor]]] = {i: [] for i in range(len(self.spec.tasks))}
        if views is not None and self.adapters:
            pooled = self.pool(views)
            for task, adapter in self.adapters.items():
                found[int(task)].append(adapter(pooled))
        if self.picture is not None:
            assert statistics is not None
            # Half precision would round away what tells a little from nothing.
            with torch.autocast("cuda" if statistics.is_cuda else "cpu", enabled=False):
                for number, pair in self.picture(statistics.float()).items():
                    found[number].append(pair)
        given = statistics if views is None else views
        assert given is not None
        nothing = given.new_zeros(given.shape[0], 1)
        columns = [
            [sum(parts[1:], start=parts[0]) for parts in zip(*pairs, strict=True)] or [nothing, nothing]
            for pairs in found.values()
        ]
        logits, strengths = zip(*columns, strict=True)
        return ViewOutputs(torch.cat(logits, dim=1), torch.cat(strengths, dim=1))

    def pool(self, views: Tensor) -> Tensor:
        """views (n, frames, 3, size, size) -> the pooled token (n, hidden)."""
        tokens = self.vivit.embeddings(self.normalisation(views))  # (n, 1 + positions, hidden)
        if self.energies is not None:
            tokens = tokens + F.pad(self.energies(views), (0, 0, 1, 0))  # none for the class token
        for layer in self.vivit.layers:
            tokens = layer(tokens, None)
        tokens = self.vivit.layernorm(tokens)
        return tokens[:, 0] if self.spec.pooling == "cls" else tokens[:, 1:].mean(dim=1)


def grid_of(config: VivitConfig) -> tuple[int, int, int]:
    """The number of tubelets along time, height and width."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    tubelet = config.tubelet_size
    return config.num_frames // tubelet[0], height // tubelet[1], width // tubelet[2]


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
