"""A model to train from: embedded, published or a directory, adapted to the requested tasks and views."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import VivitConfig, VivitModel
from transformers.utils import logging as transformers_logging

from grainscan.errors import ConfigError, ModelError
from grainscan.model.noise_features import Energies
from grainscan.model.spec import CONFIG_FILE, WEIGHTS_FILE, ModelSpec, find_model, starting_spec
from grainscan.model.store import load
from grainscan.model.vivit import GrainscanViViT, grid_of
from grainscan.tasks import DEFAULT_TASK, task_of
from grainscan.views.crops import ViewSpec

HUB_NAMES = {"vivit-b": "google/vivit-b-16x2-kinetics400"}
SMALL: dict[str, Any] = {
    "tubelet_size": [2, 16, 16],
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}


def build(
    name: str,
    *,
    tasks: Sequence[str] | None = None,
    kept: bool = False,
    frames: int | None = None,
    size: int | None = None,
    pooling: str = "auto",
    scratch: bool = False,
    attention: str = "sdpa",
    seed: int = 0,
) -> GrainscanViViT:
    """A model to train from: `small`, `vivit-b`, a model or run directory, a Hugging Face directory or a hub name.

    `tasks`, `frames`, `size` and `pooling` override those of the source: adapters of tasks that it knows are kept,
    others are new, and position embeddings are interpolated. With `kept`, some of the source's tasks must judge as
    before: the views stay what they are. `scratch` keeps the architecture but not the weights.
    Raises ModelError if the source cannot be loaded, ConfigError if frames or size do not fit the tubelets.
    """
    torch.manual_seed(seed)
    wanted = tuple(tasks or (DEFAULT_TASK,))
    if name == "small" and scratch:
        spec = ModelSpec(name="small", tasks=wanted, energies=True)
        config = VivitConfig(
            image_size=spec.view.size, num_frames=spec.view.frames, hidden_act="gelu_pytorch_tanh", **SMALL
        )
        model = GrainscanViViT(config, spec, attention=attention)
    elif starting_spec(name) is not None:
        model = load(find_model(name), attention=attention)
        wanted = tuple(tasks or model.spec.tasks)
    else:
        model = _from_pretrained(name, wanted, attention)
    spec = model.spec.with_(
        tasks=wanted,
        view=model.spec.view if kept else _resized(model.spec.view, frames, size, wanted),
        pooling=model.spec.pooling if pooling == "auto" else pooling,
        statistics=model.spec.statistics if any(task_of(task).statistics for task in wanted) else 0,
    )
    config = _config_for(model.config, spec)
    if spec == model.spec and (not scratch or name == "small"):
        return model
    rebuilt = GrainscanViViT(config, spec, attention=attention)
    if not scratch:
        rebuilt.load_state_dict(_adapted(model, rebuilt))
    return rebuilt


def _resized(view: ViewSpec, frames: int | None, size: int | None, tasks: Sequence[str]) -> ViewSpec:
    """The view with another length and size, and the mean share of flat crops that the tasks' records ask for."""
    flat = sum(task_of(task).flat_crops for task in tasks) / len(tasks)
    return replace(view, frames=frames or view.frames, size=size or view.size, flat=flat)


def _config_for(config: VivitConfig, spec: ModelSpec) -> VivitConfig:
    """The same architecture for views of another length or size.

    Raises ConfigError if tubelets do not tile them or they are too small for `Energies`.
    """
    view = spec.view
    depth, height, width = config.tubelet_size
    step = math.lcm(height, width)
    if view.frames % depth or view.size % height or view.size % width:
        shape, tubelet = (
            f"{view.frames} frames of {view.size}x{view.size} pixels",
            f"{depth} frames of {height}x{width}",
        )
        hint = f"Choose --frames as a multiple of {depth} and --size as a multiple of {step}."
        raise ConfigError(f"views of {shape} cannot be divided into tubelets of {tubelet}", hint=hint)
    if spec.energies and not Energies.fits(config.tubelet_size, view.size):
        hint = f"Choose a larger --size, a multiple of {step}."
        raise ConfigError(f"views of {view.size}x{view.size} pixels are too small to measure motion", hint=hint)
    return VivitConfig(**{**config.to_dict(), "image_size": view.size, "num_frames": view.frames})


def _adapted(source: GrainscanViViT, target: GrainscanViViT) -> dict[str, Tensor]:
    """The source's weights for the target's view size and tasks; the target's own for what the source lacks."""
    state = target.state_dict()
    for key, value in source.state_dict().items():
        if key in state and key.startswith(("vivit.", "energies.", "picture.scale.")):
            state[key] = value
    positions = "vivit.embeddings.position_embeddings"
    state[positions] = interpolate_positions(state[positions], grid_of(source.config), grid_of(target.config))
    for index, task in enumerate(target.spec.tasks):
        if task in source.spec.tasks:
            before = source.spec.tasks.index(task)
            for adapters in ("adapters", "picture.adapters"):
                old, new = f"{adapters}.{before}.", f"{adapters}.{index}."
                known = [key for key in source.state_dict() if key.startswith(old)]
                state.update({new + key.removeprefix(old): source.state_dict()[key] for key in known})
    return state


def interpolate_positions(positions: Tensor, old: tuple[int, int, int], new: tuple[int, int, int]) -> Tensor:
    """Position embeddings (1, 1 + t*h*w, hidden) for another grid, trilinear along time, height and width.

    The class token's embedding comes first and is unchanged. Cell centres are aligned, as for pictures.
    (The stock `interpolate_pos_encoding` treats the positions as one square picture and mixes time with space.)
    """
    if old == new:
        return positions
    token, cells = positions[:, :1], positions[:, 1:]
    volume = cells.transpose(1, 2).reshape(1, -1, *old).float()
    volume = F.interpolate(volume, size=new, mode="trilinear", align_corners=False)
    cells = volume.flatten(2).transpose(1, 2).to(positions.dtype)
    return torch.cat([token, cells], dim=1).contiguous()


def _from_pretrained(name: str, tasks: tuple[str, ...], attention: str) -> GrainscanViViT:
    """A ViViT backbone from a Hugging Face directory, the local hub cache, or the hub, without its classifier."""
    source = HUB_NAMES.get(name, name)
    config = _first_that_works(name, lambda local: VivitConfig.from_pretrained(source, local_files_only=local))
    if config.model_type != "vivit":
        raise ModelError(f"{name}: is a {config.model_type!r} model", hint="Use a ViViT model (model_type vivit).")
    backbone = _first_that_works(
        name,
        lambda local: VivitModel.from_pretrained(
            source, add_pooling_layer=False, attn_implementation=attention, dtype=torch.float32, local_files_only=local
        ),
    )
    size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
    spec = ModelSpec(
        name=Path(source).name,
        tasks=tasks,
        view=_resized(ViewSpec(), config.num_frames, size, tasks),
        pooling="cls",
        energies=Energies.fits(config.tubelet_size, size),
        provenance={"backbone": source if name in HUB_NAMES else Path(source).name},
    )
    model = GrainscanViViT(config, spec, attention=attention)
    if model.energies is not None:
        model.energies.silence()
    model.vivit.load_state_dict(backbone.state_dict())
    return model


def _first_that_works(name: str, read: Any) -> Any:
    """`read(local_files_only)`, first without the network, then with it. Raises ModelError with the last reason."""
    attempts = (True,) if Path(name).is_dir() or not _hub_reachable() else (True, False)
    reason: Exception = OSError("not tried")
    with quiet_transformers():
        for local in attempts:
            try:
                return read(local)
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:  # bases of the hub's errors
                reason = error
    first_line = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    if Path(name).is_dir():
        hint = f"A ViViT directory needs a {CONFIG_FILE} of model_type vivit and a matching {WEIGHTS_FILE}."
    else:
        download = f"hf download {HUB_NAMES.get(name, name)} --local-dir DIR"
        hint = f"Run `{download}` on a machine with access and pass --model DIR; or use --model small."
    raise ModelError(f"{name}: cannot be loaded: {first_line}", hint=hint)


def _hub_reachable() -> bool:
    """Whether the hub's name resolves: without a network, its client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if address.scheme in getproxies() or "all" in getproxies():
        return True  # the proxy resolves the name
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence progress bars and warnings of unused weights, which are dropped on purpose here."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
