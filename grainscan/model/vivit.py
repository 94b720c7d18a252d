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

from grainscan.model.noise_features import Energies
from grainscan.model.spec import ModelSpec

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

    With `spec.energies`, the noise features of `Energies` are added to the tokens of the tubelets. The backbone's
    weights have the prefix `vivit.`, so that `VivitModel.from_pretrained` can read our directories.
    """

    def __init__(self, config: VivitConfig, spec: ModelSpec, *, attention: str = "sdpa") -> None:
        super().__init__()
        config.hidden_act = _FUSED_GELU.get(config.hidden_act, config.hidden_act)
        config._attn_implementation = attention
        self.spec = spec
        self.normalisation = Normalisation(spec.mean, spec.std)
        self.vivit = VivitModel(config, add_pooling_layer=False)
        self.energies = Energies(config.hidden_size, config.tubelet_size) if spec.energies else None
        self.adapters = nn.ModuleList(TaskAdapter(config.hidden_size, spec.adapter) for _ in spec.tasks)

    @property
    def backbone(self) -> VivitModel:
        return self.vivit

    @property
    def config(self) -> VivitConfig:
        return self.vivit.config

    def forward(self, views: Tensor) -> ViewOutputs:
        """views (n, frames, 3, size, size), RGB in [0, 1] -> ViewOutputs."""
        tokens = self.vivit.embeddings(self.normalisation(views))  # (n, 1 + positions, hidden)
        if self.energies is not None:
            tokens = tokens + F.pad(self.energies(views), (0, 0, 1, 0))  # none for the class token
        for layer in self.vivit.layers:
            tokens = layer(tokens, None)
        tokens = self.vivit.layernorm(tokens)
        pooled = tokens[:, 0] if self.spec.pooling == "cls" else tokens[:, 1:].mean(dim=1)
        logits, strengths = zip(*(adapter(pooled) for adapter in self.adapters), strict=True)
        return ViewOutputs(torch.cat(logits, dim=1), torch.cat(strengths, dim=1))


def grid_of(config: VivitConfig) -> tuple[int, int, int]:
    """The number of tubelets along time, height and width."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    tubelet = config.tubelet_size
    return config.num_frames // tubelet[0], height // tubelet[1], width // tubelet[2]


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
