"""The network: a ViViT backbone with one small adapter per artifact.

The backbone is the stock `VivitModel`: its weights are interchangeable with published checkpoints. Adapters, pooling
and input normalisation are ours and part of the model, so no caller can get them wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import VivitConfig, VivitModel

from grainscan.model.noise_features import BANDS, Energies
from grainscan.model.spec import ModelSpec
from grainscan.model.structure_features import Structure
from grainscan.tasks import SCALES

_FUSED_GELU = {"gelu_fast": "gelu_pytorch_tanh"}  # the same function, but one kernel instead of eight


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


class Bottleneck(nn.Module):
    """Parallel adapter of a layer (He et al. 2022): a residual from each token and the mean of all, zero at first."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.down = nn.Linear(2 * hidden, width)
        self.up = nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, hidden) -> the same shape."""
        tokens = self.norm(tokens)
        mean = tokens.mean(dim=1, keepdim=True).expand_as(tokens)
        return self.up(F.gelu(self.down(torch.cat([tokens, mean], dim=-1)), approximate="tanh"))


class Scaled(nn.Module):
    """What the backbone has for views of other scales than native, and what native views never see.

    An embedding of the scale, a projection of the tubelets and their structure features are added to the tokens, and a
    bottleneck to each layer; a summary of the structure features is added to the pooled token. So other artifacts can
    be learnt without a change of what native views give.
    """

    def __init__(self, config: VivitConfig, width: int, *, energies: bool) -> None:
        super().__init__()
        hidden, tubelet = config.hidden_size, config.tubelet_size
        square = (tubelet[1], tubelet[2])
        self.scale = nn.Embedding(len(SCALES), hidden)
        self.depth = tubelet[0]  # frames, which are channels of the projection: faster than a 3-D convolution
        self.projection = nn.Conv2d(3 * self.depth, hidden, square, stride=square, bias=False)
        self.structure = Structure(hidden, tubelet, bands=BANDS if energies else 0)
        self.bottlenecks = nn.ModuleList(Bottleneck(hidden, width) for _ in range(config.num_hidden_layers))
        nn.init.normal_(self.scale.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=0.02)

    def forward(self, views: Tensor, scales: Tensor, bands: Tensor | None) -> tuple[Tensor, Tensor]:
        """(n, 1 + tubelets, hidden), added to the tokens, and (n, hidden), added to the pooled one.

        The class token has the embedding of the scale alone. `bands` are the wavelet energies of the tubelets, if the
        model measures them.
        """
        n, frames, channels, height, width = views.shape
        stacked = views.reshape(n * frames // self.depth, self.depth * channels, height, width)
        projected = self.projection(2 * stacked - 1).flatten(2).transpose(1, 2)
        structure, summary = self.structure(views, bands)
        tokens = F.pad(projected.reshape(n, -1, projected.shape[-1]) + structure, (0, 0, 1, 0))
        return tokens + self.scale(scales)[:, None], summary


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
    `spec.bottleneck`, the model also judges views of other scales (see `Scaled`). The backbone's weights have the
    prefix `vivit.`, so that `VivitModel.from_pretrained` can read our directories.
    """

    def __init__(self, config: VivitConfig, spec: ModelSpec, *, attention: str = "sdpa") -> None:
        super().__init__()
        config.hidden_act = _FUSED_GELU.get(config.hidden_act, config.hidden_act)
        config._attn_implementation = attention
        self.spec = spec
        self.normalisation = Normalisation(spec.mean, spec.std)
        self.vivit = VivitModel(config, add_pooling_layer=False)
        self.energies = Energies(config.hidden_size, config.tubelet_size) if spec.energies else None
        self.scaled = Scaled(config, spec.bottleneck, energies=spec.energies) if spec.bottleneck else None
        self.adapters = nn.ModuleList(TaskAdapter(config.hidden_size, spec.adapter) for _ in spec.tasks)

    @property
    def backbone(self) -> VivitModel:
        return self.vivit

    @property
    def config(self) -> VivitConfig:
        return self.vivit.config

    def forward(self, views: Tensor, scales: Tensor | None = None) -> ViewOutputs:
        """views (n, frames, 3, size, size), RGB in [0, 1], scales int64 (n,), None: all native -> ViewOutputs."""
        scaled = None if scales is None else self.scaled
        tokens = self.vivit.embeddings(self.normalisation(views))  # (n, 1 + positions, hidden)
        if scaled is None or scales is None:
            other = tokens.new_zeros(1)
        else:
            other = (scales > 0).to(tokens.dtype)[:, None, None]
        if self.energies is not None and not _none_native(scales, self.training):
            # None for the class token, nor for views of other scales, which have features of their own.
            tokens = tokens + (1 - other) * F.pad(self.energies(views), (0, 0, 1, 0))
        if scaled is not None and scales is not None:
            bands = None if self.energies is None else self.energies.measured(views)
            added, summary = scaled(views, scales, bands)
            tokens = tokens + other * added
        for number, layer in enumerate(self.vivit.layers):
            residual = None if scaled is None else other * scaled.bottlenecks[number](tokens)
            tokens = layer(tokens, None)
            tokens = tokens if residual is None else tokens + residual
        tokens = self.vivit.layernorm(tokens)
        pooled = tokens[:, 0] if self.spec.pooling == "cls" else tokens[:, 1:].mean(dim=1)
        if scaled is not None:
            pooled = pooled + other[:, 0] * summary
        logits, strengths = zip(*(adapter(pooled) for adapter in self.adapters), strict=True)
        return ViewOutputs(torch.cat(logits, dim=1), torch.cat(strengths, dim=1))


def _none_native(scales: Tensor | None, training: bool) -> bool:
    """Whether a batch of a training has no native view, so that their features need not be computed."""
    return training and scales is not None and not scales.is_meta and bool((scales > 0).all())


def grid_of(config: VivitConfig) -> tuple[int, int, int]:
    """The number of tubelets along time, height and width."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    tubelet = config.tubelet_size
    return config.num_frames // tubelet[0], height // tubelet[1], width // tubelet[2]


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
