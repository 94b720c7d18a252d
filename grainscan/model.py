"""The network: a ViViT backbone with one small adapter for each artifact.

Stands between `dataset` and `train`, and ends as the directory that `engine` runs. The backbone is the stock
`VivitModel`, so its weights are interchangeable with published checkpoints; adapters, pooling and the input
normalisation are ours and live inside the model, where no caller can get them wrong.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import os
import shutil
import socket
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import VivitConfig, VivitModel
from transformers.utils import logging as transformers_logging

from grainscan.energies import Energies
from grainscan.errors import ConfigError, ModelError
from grainscan.files import write_text
from grainscan.spec import (
    BLOCK,
    CONFIG_FILE,
    EMBEDDED,
    ONNX_FILE,
    WEIGHTS_FILE,
    ModelSpec,
    find_model,
    read_spec,
)
from grainscan.views import ViewSpec

log = logging.getLogger(__name__)

HUB_NAMES = {"vivit-b": "google/vivit-b-16x2-kinetics400"}
SMALL: dict[str, Any] = {
    "tubelet_size": [2, 16, 16],
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}
CARD_FILE = "README.md"
PARITY_TOLERANCE = 1e-4  # largest difference between torch and ONNX Runtime, relative to logits beyond 1
_PARITY_PIXELS = 2_000_000  # compared: three small views, one large one
_FUSED_GELU = {"gelu_fast": "gelu_pytorch_tanh"}  # the same function, but one kernel instead of eight


class ViewOutputs(NamedTuple):
    """What the model says of n views: logits (n, tasks), and strength (n, tasks) as log2(1 + strength)."""

    logits: Tensor
    strength: Tensor


class TaskAdapter(nn.Module):
    """Residual bottleneck on the pooled token, with a logit and a strength of its own.

    It starts as the identity (its last layer is zero), so a fresh adapter is a linear probe of the backbone.
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
    """RGB in [0, 1] to what the backbone was trained on, (x - mean) / std for each channel."""

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
    """ViViT over views of RGB in [0, 1], one adapter a task (in the order of `spec.tasks`).

    With `spec.energies` the tokens of the tubelets hold the energies of their wavelets and of their motion, too
    (`energies`). The backbone is stored under the prefix `vivit.`, so that `VivitModel.from_pretrained` reads our
    directories.
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


# --- building -------------------------------------------------------------------------------------------------------


def build(
    name: str,
    *,
    tasks: Sequence[str] | None = None,
    frames: int | None = None,
    size: int | None = None,
    pooling: str = "auto",
    scratch: bool = False,
    attention: str = "sdpa",
    seed: int = 0,
) -> GrainscanViViT:
    """A model to train from: `small`, `vivit-b`, a model or run directory, a Hugging Face directory or a hub name.

    `tasks`, `frames`, `size` and `pooling` change what the source says; adapters of tasks that it knows are kept,
    others start fresh, and position embeddings are interpolated. `scratch` takes the architecture without the weights.
    Raises ModelError when the source cannot be had, ConfigError when frames or size do not fit the tubelets.
    """
    torch.manual_seed(seed)
    if name == "small" and scratch:
        spec = ModelSpec(name="small", tasks=tuple(tasks or ("graininess",)), energies=True)
        model = GrainscanViViT(_small_config(spec.view), spec, attention=attention)
    elif _is_ours(name):
        model = load(find_model(name), attention=attention)
    else:
        model = _from_pretrained(name, tuple(tasks or ("graininess",)), attention)
    spec = model.spec.with_(
        tasks=tuple(tasks) if tasks else model.spec.tasks,
        view=_resized(model.spec.view, frames, size),
        pooling=model.spec.pooling if pooling == "auto" else pooling,
    )
    config = _config_for(model.config, spec)
    if spec == model.spec and (not scratch or name == "small"):
        return model
    rebuilt = GrainscanViViT(config, spec, attention=attention)
    if not scratch:
        rebuilt.load_state_dict(_adapted(model, rebuilt))
    return rebuilt


def _small_config(view: ViewSpec) -> VivitConfig:
    return VivitConfig(image_size=view.size, num_frames=view.frames, hidden_act="gelu_pytorch_tanh", **SMALL)


def _is_ours(name: str) -> bool:
    """Whether `name` is an embedded model or a directory with a `grainscan` block (or a run that holds one)."""
    if name in EMBEDDED:
        return True
    for directory in (Path(name) / "model", Path(name)):
        with contextlib.suppress(OSError, ValueError):
            return BLOCK in json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    return False


def _resized(view: ViewSpec, frames: int | None, size: int | None) -> ViewSpec:
    return ViewSpec.from_dict({**view.to_dict(), "frames": frames or view.frames, "size": size or view.size})


def _config_for(config: VivitConfig, spec: ModelSpec) -> VivitConfig:
    """The same architecture for views of another length or size.

    Raises ConfigError where tubelets do not tile them, and where they are too small for `Energies`.
    """
    view = spec.view
    depth, height, width = config.tubelet_size
    if view.frames % depth or view.size % height or view.size % width:
        raise ConfigError(
            f"views of {view.frames} frames of {view.size}x{view.size} cannot be cut into tubelets of "
            f"{depth} frames of {height}x{width}",
            hint=f"Choose --frames as a multiple of {depth} and --size as a multiple of {math.lcm(height, width)}.",
        )
    if spec.energies and not Energies.fits(config.tubelet_size, view.size):
        raise ConfigError(
            f"views of {view.size}x{view.size} are too small to look for motion in them",
            hint=f"Choose a larger multiple of {math.lcm(height, width)} as --size.",
        )
    values = config.to_dict()
    values.update(image_size=view.size, num_frames=view.frames)
    return VivitConfig(**values)


def _adapted(source: GrainscanViViT, target: GrainscanViViT) -> dict[str, Tensor]:
    """The source's weights for the target's view size and tasks; the target's own where the source knows nothing."""
    state = target.state_dict()
    for key, value in source.state_dict().items():
        if key.startswith(("vivit.", "energies.")):
            state[key] = value
    positions = "vivit.embeddings.position_embeddings"
    state[positions] = interpolate_positions(state[positions], grid_of(source.config), grid_of(target.config))
    for index, task in enumerate(target.spec.tasks):
        if task in source.spec.tasks:
            adapter = source.adapters[source.spec.tasks.index(task)]
            state.update({f"adapters.{index}.{key}": value for key, value in adapter.state_dict().items()})
    return state


def grid_of(config: VivitConfig) -> tuple[int, int, int]:
    """Positions of the tubelets along time, height and width."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    tubelet = config.tubelet_size
    return config.num_frames // tubelet[0], height // tubelet[1], width // tubelet[2]


def interpolate_positions(positions: Tensor, old: tuple[int, int, int], new: tuple[int, int, int]) -> Tensor:
    """Position embeddings (1, 1 + t*h*w, hidden) for another grid, trilinear along time, height and width.

    The class token's embedding stands first and is left alone. Cell centres are aligned, as for pictures.
    (The stock `interpolate_pos_encoding` takes the positions for one square picture and mixes time with space.)
    """
    if old == new:
        return positions
    token, cells = positions[:, :1], positions[:, 1:]
    volume = cells.transpose(1, 2).reshape(1, -1, *old).float()
    volume = F.interpolate(volume, size=new, mode="trilinear", align_corners=False)
    cells = volume.flatten(2).transpose(1, 2).to(positions.dtype)
    return torch.cat([token, cells], dim=1).contiguous()


def _from_pretrained(name: str, tasks: tuple[str, ...], attention: str) -> GrainscanViViT:
    """A ViViT backbone of a Hugging Face directory, the local hub cache, or the hub; its classifier is dropped."""
    source = HUB_NAMES.get(name, name)
    config = _first_that_works(name, lambda local: VivitConfig.from_pretrained(source, local_files_only=local))
    if config.model_type != "vivit":
        raise ModelError(f"{name}: is a {config.model_type!r} model", hint="Only ViViT models (model_type vivit) fit.")
    backbone = _first_that_works(
        name,
        lambda local: VivitModel.from_pretrained(
            source,
            add_pooling_layer=False,
            attn_implementation=attention,
            dtype=torch.float32,
            local_files_only=local,
        ),
    )
    size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
    spec = ModelSpec(
        name=Path(source).name,
        tasks=tasks,
        view=_resized(ViewSpec(), config.num_frames, size),
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
    """`read(local_files_only)`: first without the network, then with it. Raises ModelError with the last reason."""
    attempts = (True,) if Path(name).is_dir() or not _hub_reachable() else (True, False)
    reason: Exception = OSError("not tried")
    with quiet_transformers():
        for local in attempts:
            try:
                return read(local)
            except (
                OSError,
                ValueError,
                RuntimeError,
                KeyError,
                TypeError,
            ) as error:  # the hub's errors derive from these
                reason = error
    first_line = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    if Path(name).is_dir():
        hint = f"A ViViT directory needs a {CONFIG_FILE} of model_type vivit and {WEIGHTS_FILE} that belongs to it."
    else:
        hint = (
            "Fetch it once on a machine with access (`hf download "
            f"{HUB_NAMES.get(name, name)} --local-dir DIR`) and pass --model DIR; or use --model small."
        )
    raise ModelError(f"{name}: cannot be loaded: {first_line}", hint=hint)


def _hub_reachable() -> bool:
    """Whether asking the hub makes sense; its client would retry for half a minute on a machine without a network."""
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
    """No progress bars and no reports of unused weights on stderr: what is dropped is dropped on purpose."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


# --- saving and loading ---------------------------------------------------------------------------------------------


def save(
    model: GrainscanViViT, directory: Path, *, card: str | None = None, onnx: bool = True, half: bool = False
) -> None:
    """Write a model directory: config.json, model.safetensors, model.onnx, README.md. Complete or not at all.

    `half` rounds the model's weights to 16-bit floats and stores them so; the ONNX file holds the same values in 32
    bits. Raises ModelError when the exported model does not agree with torch.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_config(model, temporary)
        weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        if half:
            weights = {key: value.half() for key, value in weights.items()}
            model.load_state_dict(weights)
        save_file(weights, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        (temporary / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it readable for its owner alone
        if onnx:
            export_onnx(model, temporary / ONNX_FILE)
        (temporary / CARD_FILE).write_text(card or model_card(model), encoding="utf-8")
        _replace_directory(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_config(model: GrainscanViViT, directory: Path) -> None:
    """config.json of a model directory: the VivitConfig and the block `grainscan`."""
    values = model.config.to_dict()
    tasks = model.spec.tasks
    values.update(
        architectures=[type(model).__name__],
        dtype="float32",
        id2label=dict(enumerate(tasks)),
        label2id={task: index for index, task in enumerate(tasks)},
        problem_type="multi_label_classification",  # transformers takes a single label for a regression otherwise
    )
    values.pop("_name_or_path", None)
    values[BLOCK] = model.spec.to_dict()
    write_text(directory / CONFIG_FILE, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _replace_directory(new: Path, old: Path) -> None:
    """Rename `new` to `old`; what stood there moves aside first, since a full directory cannot be replaced at once."""
    aside = old.with_name(f".{old.name}.{os.getpid()}.old")
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def load(directory: Path, *, attention: str = "sdpa") -> GrainscanViViT:
    """Read a model directory. Raises ModelError where it is incomplete or its weights do not fit its configuration."""
    directory = Path(directory)
    spec = read_spec(directory)
    hint = "The directory is damaged; copy it again or train anew."
    try:
        values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        values.pop(BLOCK)
        model = GrainscanViViT(VivitConfig(**values), spec, attention=attention)
        state = load_file(directory / WEIGHTS_FILE)
    except Exception as error:  # safetensors and the strict configuration raise types of their own
        raise ModelError(f"{directory}: cannot be loaded: {error}", hint=hint) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{directory}: {WEIGHTS_FILE} does not fit {CONFIG_FILE}: {reason}", hint=hint) from None
    return model.eval()


def export_onnx(model: GrainscanViViT, path: Path) -> float:
    """Write the model as one ONNX file with a free batch size; returns its largest difference from torch.

    Input `views` (n, frames, 3, size, size), outputs `logits` and `strength` (n, tasks). Raises ModelError when the
    file does not compute the same.
    """
    view = model.spec.view
    training, device = model.training, next(model.parameters()).device
    model.eval().cpu()
    random = torch.Generator().manual_seed(0)
    example = torch.rand(2, view.frames, 3, view.size, view.size, generator=random)
    try:
        with warnings.catch_warnings(), _quiet_export():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, none of them the reader's
            program = torch.onnx.export(
                _for_inference(model),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["views"],
                output_names=["logits", "strength"],
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=65536)},),
                external_data=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
        count = max(1, min(3, _PARITY_PIXELS // (view.frames * view.size**2)))
        difference = _parity(model, path, torch.cat([example, example.flip(1)])[:count])
    finally:
        model.train(training).to(device)
    if not difference <= PARITY_TOLERANCE:
        raise ModelError(
            f"{path}: the exported model differs from torch by {difference:.1e}",
            hint="Please report this with the versions that `grainscan --version` prints.",
        )
    log.debug("exported %s, largest difference from torch %.1e", path, difference)
    return difference


class _Tubelets(nn.Module):
    """The projection of tubelets as it is fastest in ONNX Runtime: the same numbers, with fewer passes over the pixels.

    The normalisation is part of the filters. The frames of a tubelet are channels of a two-dimensional convolution,
    since one in three dimensions wants time and colour exchanged in memory first.
    """

    @torch.no_grad()
    def __init__(self, model: GrainscanViViT) -> None:
        super().__init__()
        projection = model.vivit.embeddings.patch_embeddings.projection
        assert projection.bias is not None
        channels = (1, 3, 1, 1, 1)
        weight = projection.weight / model.normalisation.std.view(channels)
        self.depth, self.size = model.config.tubelet_size[0], tuple(model.config.tubelet_size[1:])
        self.weight = nn.Parameter(weight.transpose(1, 2).flatten(1, 2))
        self.bias = nn.Parameter(
            projection.bias - (weight * model.normalisation.mean.view(channels)).sum(dim=(1, 2, 3, 4))
        )

    def forward(self, views: Tensor) -> Tensor:
        n, frames, channels, height, width = views.shape
        stacked = views.reshape(n * frames // self.depth, self.depth * channels, height, width)
        tokens = F.conv2d(stacked, self.weight, self.bias, stride=self.size).flatten(2).transpose(1, 2)
        return tokens.reshape(n, -1, tokens.shape[-1])


def _for_inference(model: GrainscanViViT) -> GrainscanViViT:
    """A copy that takes views as they are; see `_Tubelets`."""
    fast = copy.deepcopy(model)
    fast.vivit.embeddings.patch_embeddings = _Tubelets(model)  # type: ignore[assignment]
    fast.normalisation = nn.Identity()  # type: ignore[assignment]
    return fast


@torch.no_grad()
def _parity(model: GrainscanViViT, path: Path, views: Tensor) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(["logits", "strength"], {"views": views.numpy()})
    expected = model(views)
    pairs = zip(expected, map(torch.from_numpy, found), strict=True)
    return max(((a - b).abs() / a.abs().clamp_min(1)).max().item() for a, b in pairs)


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """The exporter and the optimiser behind it log at warning level what they do by design."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def model_card(model: GrainscanViViT, body: str = "") -> str:
    """README.md of a model directory, with the front matter that the Hugging Face hub reads."""
    spec, config = model.spec, model.config
    tubelet = "x".join(map(str, config.tubelet_size))
    tasks = "\n".join(f"- `{task}`" + _strength_note(spec, task) for task in spec.tasks)
    return f"""---
library_name: grainscan
pipeline_tag: video-classification
tags: [grainscan, vivit, video-quality]
---

# {spec.name}

A ViViT ({count_parameters(model) / 1e6:.1f} M parameters, {config.num_hidden_layers} layers of {config.hidden_size}, \
tubelets of {tubelet}) with one adapter for each task, pooled by `{spec.pooling}`.
It judges views of {spec.view.frames} consecutive frames, {spec.view.size}x{spec.view.size} pixels at native resolution.

Tasks:

{tasks}

```sh
grainscan predict VIDEO... --model DIRECTORY
```

`model.onnx` takes `views` (n, {spec.view.frames}, 3, {spec.view.size}, {spec.view.size}), RGB in [0, 1], and gives \
`logits` and `strength` (n, {len(spec.tasks)}).
Probability is sigmoid(a * logit + b), (a, b) and the thresholds in `config.json`.
{body}"""


def _strength_note(spec: ModelSpec, task: str) -> str:
    return f", strength in {spec.strength[task]}" if task in spec.strength else ""
