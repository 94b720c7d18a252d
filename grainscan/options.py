"""Every option of the five commands as a frozen dataclass: the one table of defaults.

A value is looked up in this order, the later wins: the default below, the TOML file (`grainscan.toml` in the working
directory or `--config FILE`, one table a command), the environment (`GRAINSCAN_TRAIN_EPOCHS=3`), the flag.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from grainscan.errors import ConfigError

ShortPolicy = Literal["mirror", "wrap", "repeat", "error"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]
SmallPolicy = Literal["keep", "skip"]
OutputFormat = Literal["table", "json", "jsonl", "csv", "html"]


@dataclass(frozen=True)
class PrepConfig:
    """`grainscan prep SRC... DST`: raw footage to labelled clips."""

    sources: tuple[Path, ...]
    destination: Path
    clips: int = 4  # clips cut from each video
    frames: int = 16  # consecutive frames in a clip
    size: int = 128  # side of the square crop, native pixels
    labels: Path | None = None  # labels.json or CSV; default: beside the footage, else folder names
    balance: str | None = None  # task whose classes are made equally frequent
    limit: int | None = None  # clips of each class with balance, else clips in all
    synthesize: str | None = None  # task for which a twin with the artifact is written of each clean clip
    twins: int = 1  # synthesised twins of each clean clip
    small: SmallPolicy = "keep"  # videos smaller or shorter than a clip: taken whole, or not at all
    seed: int = 0
    workers: int = -1  # processes; -1: one per processor, 0: all in this process
    dry_run: bool = False

    def __post_init__(self) -> None:
        _positive(self, "clips", "frames", "size", "twins")
        _positive(self, "limit", allow_none=True)


@dataclass(frozen=True)
class SplitConfig:
    """`grainscan split DATA`: train, val and test without a source on two sides."""

    data: Path
    ratios: str = "70/15/15"
    group: str = "auto"  # auto, or a regular expression whose first group (or whole match) names the source
    seed: int = 0
    undo: bool = False  # put the clips back where they were
    dry_run: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """`grainscan train DATA`: fine-tune a ViViT with an adapter for each artifact."""

    data: Path
    model: str = "small"  # small, vivit-b, a model directory, or a hub name
    name: str | None = None  # of the run; default: model, date and time
    runs: Path = Path("runs")
    scratch: bool = False  # take the architecture alone; starts from whitening filters of the clean clips
    reference: float = 1.0  # scratch: constant part of each token, in deviations of a clean one
    tasks: str | None = None  # comma-separated; default: those of the labels
    frames: int | None = None  # of a view; default: the model's
    size: int | None = None  # of a view, pixels; default: the model's
    pooling: Literal["auto", "cls", "mean"] = "auto"
    tune: str = "full"  # full, adapters, head, last-N
    lora: int = 0  # rank; 0: none
    epochs: float = 10.0
    max_steps: int = 0  # optimiser steps; 0: by epochs
    batch_size: int = 16  # views a device and forward pass
    accumulate: int = 1
    lr: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.05  # part of the steps
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip_norm: float = 1.0
    loss: Literal["focal", "bce"] = "focal"
    focal_gamma: float = 2.0
    focal_alpha: str = "auto"  # auto: from the class counts; none; or a number in (0, 1)
    task_weights: str | None = None  # "graininess=1,banding=0.5"
    strength_weight: float = 0.5  # of the strength regression where strengths are known
    soft_labels: float = 0.0  # strength at which the target of bce is one half, where strengths are known; 0: labels
    balanced: bool = False  # class-balanced sampling
    augment: bool = True
    precision: Precision = "auto"
    device: DeviceName = "auto"
    workers: int = -1  # loader processes; 0: none; -1: by the device
    cache: bool = True  # keep decoded clips on disk between epochs
    cache_gb: float = 32.0  # disk space for decoded clips, all data sets together
    views_per_clip: int = 1  # drawn from a clip in an epoch
    gradient_checkpointing: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    compile: bool = False
    eval_every: int = 0  # steps; 0: each epoch
    patience: int = 0  # validations without a better AUROC before stopping; 0: never stop early
    keep: int = 2  # checkpoints kept
    resume: str | None = None  # "auto": the last checkpoint of the run; or a checkpoint directory
    seed: int = 0
    tensorboard: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        _positive(self, "batch_size", "accumulate", "views_per_clip", "keep", "epochs", "lr", "clip_norm", "cache_gb")
        _positive(self, "frames", "size", allow_none=True)
        if self.soft_labels and self.loss != "bce":
            raise ConfigError("soft-labels needs the loss bce", hint="Add --loss bce.")
        numbers = ("focal_gamma", "lora", "max_steps", "eval_every", "patience", "weight_decay", "strength_weight")
        for name in (*numbers, "soft_labels"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name.replace('_', '-')} is {getattr(self, name)}", hint="Use 0 or more.")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup is {self.warmup}", hint="It is a part of the steps: use 0 to 1, such as 0.05.")
        if self.focal_alpha not in ("auto", "none"):
            alpha = _convert(self.focal_alpha, float, "focal_alpha")
            if not 0 < alpha < 1:
                raise ConfigError(f"focal_alpha is {alpha}", hint="Use auto, none or a number between 0 and 1.")
        if self.tune not in ("full", "adapters", "head"):
            depth = self.tune.removeprefix("last-")
            if depth == self.tune or not depth.isdecimal() or int(depth) < 1:
                raise ConfigError(f"tune is {self.tune!r}", hint="Use full, adapters, head or last-N, such as last-4.")


@dataclass(frozen=True)
class ScanConfig:
    """How files are read and judged, shared by predict and eval."""

    model: str | None = None  # default: the model of the last run here, else the embedded one
    windows: int | None = None  # of a file; default: the model's
    crops: int | None = None  # of a window; default: the model's
    device: str = "auto"  # auto, or a name in scan.engine.ENGINES
    workers: int = -1  # decoding processes; -1: by the machine and the number of files, 0: in this process
    timeout: float = 60.0  # seconds for a file before its decoder is given up
    memory: float = 1.5  # GB that a worker may use; files that need more are error rows
    max_pixels: int = 8192 * 8192  # larger frames are refused: decompression bombs
    short: ShortPolicy = "mirror"  # clips shorter than a window


@dataclass(frozen=True)
class PredictConfig(ScanConfig):
    """`grainscan predict INPUT...`: a verdict on each file."""

    inputs: tuple[str, ...] = ()
    output: Path | None = None
    format: OutputFormat | None = None  # default: from the output's suffix, else table
    threshold: str | None = None  # "0.7" or "graininess=0.7,banding=0.4"
    fail_on: str | None = None
    maps: bool = False  # add the probability of each view to the results
    ray: str | None = None  # address of a Ray cluster; "local" starts one


@dataclass(frozen=True)
class EvalConfig(ScanConfig):
    """`grainscan eval [DATA] --split test`: figures against labels."""

    data: Path | None = None  # default: the data of the last run here
    split: str | None = None
    format: Literal["table", "json"] = "table"
    output: Path | None = None
    operating_point: str | None = None  # f1, precision=P or recall=R, chosen on the val split
    bootstrap: int = 1000
    compare: str | None = None  # a second model on the same clips
    plots: Path | None = None  # folder for ROC, PR and reliability pictures
    mistakes: int = 5  # shown
    seed: int = 0


Config = TypeVar("Config", PrepConfig, SplitConfig, TrainConfig, PredictConfig, EvalConfig)

DEFAULT_FILE = Path("grainscan.toml")
PREFIX = "GRAINSCAN"


def resolve(
    cls: type[Config],
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Merge defaults, TOML file, environment and flags (None: not given) into one configuration.

    Raises ConfigError for unknown keys and values of a wrong type, naming where they stand.
    """
    command = cls.__name__.removesuffix("Config").lower()
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in _file_values(file, command).items():
        if key not in hints:
            raise ConfigError(
                f"{file or DEFAULT_FILE}: [{command}] has no option {key!r}",
                hint=f"Known: {', '.join(sorted(hints))}",
            )
        values[key] = _convert(value, hints[key], f"{file or DEFAULT_FILE}: {command}.{key}")
    for key, hint in hints.items():
        variable = f"{PREFIX}_{command}_{key}".upper()
        if variable in environ:
            values[key] = _convert(environ[variable], hint, f"environment variable {variable}")
    for key, value in flags.items():
        if value is not None:
            values[key] = _convert(value, hints[key], f"option {key.replace('_', '-')}")
    return cls(**values)


def to_toml(config: Any, *, command: str) -> str:
    """The configuration as a TOML table that `--config` reads back. Options that are None are left out."""
    lines = [f"[{command}]"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            lines.append(f"{field.name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _file_values(file: Path | None, command: str) -> dict[str, Any]:
    import tomllib

    path = file or DEFAULT_FILE
    if file is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}", hint="The file must be TOML with a table a command."
        ) from None
    section = table.get(command, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {command} must be a table", hint=f"Write [{command}] on a line of its own.")
    return section


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type; strings are parsed, since environment variables are nothing else."""
    origin = typing.get_origin(hint)
    options = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(value, next(option for option in options if option is not type(None)), where)
    if origin is Literal:
        if value not in options:
            raise ConfigError(f"{where} is {value!r}", hint=f"Use one of: {', '.join(map(str, options))}.")
        return value
    if origin is tuple:
        items = value.split(os.pathsep) if isinstance(value, str) else value
        return tuple(_convert(item, options[0], where) for item in items)
    if hint is bool:
        return _to_bool(value, where)
    if hint in (int, float) and isinstance(value, bool):
        raise ConfigError(f"{where} is {value!r}", hint="A number is expected.")
    if hint is int and isinstance(value, float) and not value.is_integer():
        raise ConfigError(f"{where} is {value!r}", hint="A whole number is expected.")
    try:
        return hint(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} is {value!r}", hint=f"Expected a value of type {hint.__name__}.") from None


def _to_bool(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ConfigError(f"{where} is {value!r}", hint="Use true or false.")


def _positive(config: Any, *names: str, allow_none: bool = False) -> None:
    for name in names:
        value = getattr(config, name)
        if value is None and allow_none:
            continue
        if value <= 0:
            option = name.replace("_", "-")
            raise ConfigError(
                f"{option} is {value}, but must be greater than zero", hint="Leave it out for the default."
            )
