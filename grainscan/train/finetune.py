"""Whitening filters, frozen parts and low-rank updates (LoRA). Everything here changes a model in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from grainscan.errors import ConfigError, DataError, require
from grainscan.model.vivit import GrainscanViViT

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


def tune(model: GrainscanViViT, scope: str, rank: int = 0, *, kept: int = 0) -> LoraModel | None:
    """Choose the trainable parameters; returns the low-rank updates, if any.

    scope: `full`; `adapters`; `head`, only the logits and strengths; `last-N`, the last N layers and the adapters; or
        `picture`, the adapters of the picture's statistics. Their scale stays in any case.
    rank: rank of the low-rank updates of the backbone's attention and MLP; 0 for none. With updates, `full` means
        those, the adapters and the noise energies.
    kept: number of tasks, the first ones, whose adapters are not trained.

    Raises ConfigError for more layers than the model has, DependencyError without PEFT.
    """
    layers = model.backbone.layers
    learns_views = any(int(task) >= kept for task in model.adapters)  # else the backbone would get no gradient
    model.requires_grad_(scope == "full" and not rank and learns_views)
    if model.energies is not None:
        model.energies.requires_grad_(scope == "full" and learns_views)
    kinds = [] if model.picture is None else [model.picture.adapters]
    for adapters in kinds if scope == "picture" else [model.adapters, *kinds]:
        for task, adapter in adapters.items():
            adapter.requires_grad_(int(task) >= kept and scope != "head")
            for head in (adapter.logit, adapter.strength):
                head.requires_grad_(int(task) >= kept)
    if scope.startswith("last-") and learns_views:
        count = int(scope.removeprefix("last-"))
        if count > (depth := len(layers)):
            raise ConfigError(f"--tune {scope}: the model has {depth} layers", hint=f"Use last-1 to last-{depth}.")
        for module in (*layers[-count:], model.backbone.layernorm):
            module.requires_grad_(True)
    return add_lora(model, rank) if rank else None


def add_lora(model: GrainscanViViT, rank: int) -> LoraModel:
    """Add low-rank updates (Hu et al. 2021) to every attention and MLP matrix. Raises DependencyError without PEFT.

    `merge_and_unload` of the result adds the updates to the matrices and puts the plain layers back into `model`.
    """
    require("--lora", "peft")
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS))
    updates = LoraModel(model.backbone, lora, "default")
    for name, parameter in model.named_parameters():  # PEFT has frozen all of the backbone
        parameter.requires_grad_("lora_" in name or trained.get(name.replace(".base_layer", ""), False))
    return updates


def decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to biases, norms, the class token or embeddings."""
    return parameter.ndim >= 2 and not name.endswith(("cls_token", "position_embeddings"))


@torch.no_grad()
def whiten(
    model: GrainscanViViT, clips: Iterable[Tensor], *, reference: float = 1.0, floor: float = 1.0, seed: int = 0
) -> int:
    """Initialise the tubelet projection with whitening filters of clean footage; returns the number of tubelets seen.

    Grain is weak beside picture content; stock initialisation buries it, and training does not start. The inverse
    square root of the covariance of clean tubelets weights every direction equally, so that grain stands out where
    pictures have no energy (ZCA whitening, Bell and Sejnowski 1997). A random rotation spreads it over the units.

    clips: batches of clean views (n, frames, 3, size, size) in [0, 1].
    floor: noise floor in 8-bit codes, below which nothing is amplified.
    reference: LayerNorm divides each token by its magnitude, and would divide out the grain's energy if no part of the
        token had a constant size. The projection's bias is a random vector with this standard deviation (1.0: as large
        as a clean token); the position embeddings have a tenth of it.

    Raises DataError without clean views.
    """
    projection = model.vivit.embeddings.patch_embeddings.projection
    hidden, dimension = projection.weight.shape[0], projection.weight[0].numel()
    covariance, mean, count = _tubelet_statistics(model, clips, dimension)
    noise = floor / 255 / model.normalisation.std.double().mean().item()
    values, vectors = torch.linalg.eigh(covariance + noise**2 * torch.eye(dimension, dtype=torch.float64))
    root = vectors @ torch.diag(values.clamp_min(noise**2).rsqrt()) @ vectors.T
    random = torch.Generator().manual_seed(seed)
    square = torch.randn(dimension, dimension, generator=random, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q
    filters = rotation[torch.arange(hidden) % dimension] @ root
    anchor = reference * torch.randn(hidden, generator=random, dtype=torch.float64)
    projection.weight.copy_(filters.view_as(projection.weight))
    assert projection.bias is not None
    projection.bias.copy_(anchor - filters @ mean)
    positions = model.vivit.embeddings.position_embeddings
    positions.copy_(0.1 * reference * torch.randn(positions.shape, generator=random))
    model.vivit.embeddings.cls_token.copy_(reference * torch.randn(1, 1, hidden, generator=random))
    return count


def _tubelet_statistics(model: GrainscanViViT, clips: Iterable[Tensor], dimension: int) -> tuple[Tensor, Tensor, int]:
    """Covariance (d, d), mean (d,) and count of the normalised tubelets, d = 3 * depth * height * width."""
    total = torch.zeros(dimension, dtype=torch.float64)
    outer = torch.zeros(dimension, dimension, dtype=torch.float64)
    count = 0
    for views in clips:
        tubelets = _tubelets(model.normalisation(views), model.config.tubelet_size)
        total += tubelets.double().sum(dim=0)
        outer += (tubelets.T @ tubelets).double()
        count += len(tubelets)
    if count < 2:
        raise DataError("no clean views to whiten with", hint="--scratch needs clips whose labels are all 0.")
    mean = total / count
    return outer / count - torch.outer(mean, mean), mean, count


def _tubelets(pixels: Tensor, tubelet: Sequence[int]) -> Tensor:
    """(n, frames, 3, height, width) -> (tubelets, 3 * depth * height * width), in the order of a Conv3d kernel."""
    depth, height, width = tubelet
    n, frames, channels, rows, columns = pixels.shape
    grid = pixels.reshape(n, frames // depth, depth, channels, rows // height, height, columns // width, width)
    return grid.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(-1, channels * depth * height * width)
