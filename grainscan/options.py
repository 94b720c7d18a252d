"""Every option of the five commands, once: a field that carries its default, its help and where the help lists it.

The command line is generated from these classes (`grainscan.cli.commands`). A value is looked up in this order, and
the later wins: the default below, the TOML file (`grainscan.toml` in the working directory or `--config FILE`, one
table per command), the environment (`GRAINSCAN_TRAIN_EPOCHS=3`), the flag.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from grainscan.errors import ConfigError

# ruff: noqa: RUF009 - `option` and `argument` are dataclasses.field with metadata

ShortPolicy = Literal["mirror", "wrap", "repeat", "error"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]
SmallPolicy = Literal["keep", "skip"]

# Sections of the help, in the order in which every command shows them, after its arguments and its common options.
LABELS, MODEL, DATA, OPTIMISATION, LOSS, RUN = "Labels and synthesis", "Model", "Data", "Optimisation", "Loss", "Run"
FIGURES, SAMPLING = "Figures", "Sampling and speed"
PANELS = (None, LABELS, MODEL, DATA, OPTIMISATION, LOSS, RUN, FIGURES, SAMPLING)

_KEY = "option"  # of a field's metadata


@dataclass(frozen=True)
class Option:
    """What the command line and the checks want to know of a field.

    `choices` are the values that it takes; `package.module:TABLE` among them stands for the keys of that table, which
    is imported when they are wanted. A number must be `least` or more, more than `above`, and less than `below`.
    """

    help: str
    flags: tuple[str, ...] = ()  # short ones
    panel: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    argument: bool = False  # given by its place; needed unless it is None by default
    least: float | None = None
    above: float | None = None
    below: float | None = None

    def range(self) -> str:
        """The numbers that are allowed, in words."""
        words = [f"{self.least:g} or more"] if self.least is not None else []
        words += [f"more than {self.above:g}"] if self.above is not None else []
        words += [f"less than {self.below:g}"] if self.below is not None else []
        return " and ".join(words) or "a finite number"

    def admits(self, value: float) -> bool:
        """Whether a number is allowed."""
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def expand(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Choices with the keys of a table in place of its `package.module:TABLE`."""
    found: dict[str, None] = {}
    for choice in choices:
        module, _, table = choice.partition(":")
        found |= dict.fromkeys(getattr(import_module(module), table) if table else [choice])
    return tuple(found)


def option(default: Any, help: str, *flags: str, **more: Any) -> Any:
    """A field with a default, given as `--its-name`."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, flags, **more)})


def argument(metavar: str, help: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is given by its place."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, metavar=metavar, argument=True)})


def option_of(field: dataclasses.Field[Any]) -> Option:
    """What `option` or `argument` said of a field."""
    found: Option = field.metadata[_KEY]
    return found


def flag_of(name: str) -> str:
    """A field's name as it is typed: `max_steps` as `--max-steps`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Options:
    """Base of the options of a command: numbers out of range are refused."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), option_of(field)
            if isinstance(value, int | float) and not about.admits(value):
                raise ConfigError(f"{flag_of(field.name)} is {value}", hint=f"Use {about.range()}.")


@dataclass(frozen=True)
class PrepConfig(Options):
    """`grainscan prep SRC... DST`: raw footage to labelled clips."""

    sources: tuple[Path, ...] = argument("SRC...", "Footage: files and folders.")
    destination: Path = argument("DST", "Folder for the clips.")
    clips: int = option(4, "Clips cut from each video.", above=0)
    frames: int = option(16, "Consecutive frames per clip.", above=0)
    size: int = option(128, "Side of the square cut from the picture, in native pixels.", above=0)
    small: SmallPolicy = option("keep", "Videos smaller or shorter than a clip: keep them whole, or skip them.")
    workers: int = option(-1, "Processes; -1: one per processor, 0: none, all in this process.", least=-1)
    seed: int = option(0, "Random seed.")
    dry_run: bool = option(False, "Print the plan and write nothing.")
    labels: Path | None = option(
        None, "labels.json or a CSV. Default: beside the footage, else folder names.", metavar="FILE", panel=LABELS
    )
    balance: str | None = option(
        None, "Keep as many clips with this artifact as without.", metavar="TASK", panel=LABELS
    )
    limit: int | None = option(None, "Most clips per class with --balance, else in all.", panel=LABELS, above=0)
    synthesize: str | None = option(
        None,
        "Add this artifact to a copy of each clean clip: a twin.",
        panel=LABELS,
        choices=("grainscan.tasks:SYNTHESISED",),
    )
    twins: int = option(1, "Synthesised twins per clean clip.", panel=LABELS, above=0)


@dataclass(frozen=True)
class SplitConfig(Options):
    """`grainscan split DATA`: train, val and test without a source on two sides."""

    data: Path = argument("DATA", "Folder with labels.json and its clips.")
    ratios: str = option("70/15/15", "Shares of train, val and test.", metavar="A/B/C")
    group: str = option(
        "auto",
        "How a clip's source is found: auto (manifest, name), or a regular expression (its first group, or all of it).",
        metavar="auto|REGEX",
    )
    seed: int = option(0, "Random seed.")
    undo: bool = option(False, "Put the clips back where they were.")
    dry_run: bool = option(False, "Print the plan and move nothing.")


@dataclass(frozen=True)
class TrainConfig(Options):
    """`grainscan train DATA`: fine-tune a ViViT with an adapter for each artifact."""

    data: Path = argument("DATA", "Folder with train/ and val/ (see split), or of labelled clips.")
    model: str = option(
        "small",
        "Where to start: small (embedded), a model or run directory, last (the last run here), vivit-b, or a hub name.",
        "-m",
    )
    tasks: str | None = option(None, "Artifacts to learn. Default: those of the labels.", metavar="A,B")
    name: str | None = option(None, "Run name. Default: model, date and time.", metavar="NAME")
    epochs: float = option(10.0, "Passes over the clips.", "-e", above=0)
    batch_size: int = option(16, "Views per device and forward pass.", "-b", above=0)
    lr: float = option(3e-4, "Peak learning rate.", above=0)
    device: DeviceName = option("auto", "Where to train.")
    resume: str | None = option(
        None, "Continue a run: auto from its last checkpoint, or from this one.", metavar="auto|DIR"
    )
    seed: int = option(0, "Random seed.")
    dry_run: bool = option(False, "Print the plan and the estimated cost, and train nothing.")

    tune: str = option("full", "Which weights are trained.", metavar="full|adapters|head|last-N", panel=MODEL)
    lora: int = option(
        0, "Rank of low-rank updates (LoRA) of attention and MLP; 0: none.", metavar="RANK", panel=MODEL, least=0
    )
    pooling: Literal["auto", "cls", "mean"] = option(
        "auto", "What the adapters see: the class token, or the mean of all tokens.", panel=MODEL
    )
    scratch: bool = option(
        False, "Take the model's shape but not its weights; start from whitening filters.", panel=MODEL
    )
    reference: float = option(
        1.0, "With --scratch: constant part of each token, in standard deviations of a clean one.", panel=MODEL
    )
    attention: Literal["sdpa", "eager"] = option("sdpa", "Attention implementation.", panel=MODEL)
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, more time.", panel=MODEL
    )
    compile: bool = option(False, "Compile the model with torch.compile.", panel=MODEL)

    frames: int | None = option(None, "Consecutive frames per view. Default: the model's.", panel=DATA, above=0)
    size: int | None = option(None, "Side of a view's square, in pixels. Default: the model's.", panel=DATA, above=0)
    views_per_clip: int = option(1, "Views drawn from each clip per epoch.", panel=DATA, above=0)
    augment: bool = option(
        True, "Augment views: flips, random crops, jitter in time, brightness and colour.", panel=DATA
    )
    balanced: bool = option(False, "Draw clips with and without the artifact equally often.", panel=DATA)
    workers: int = option(-1, "Loader processes; -1: automatic, 0: none.", panel=DATA, least=-1)
    cache: bool = option(True, "Keep decoded clips on disk between epochs.", panel=DATA)
    cache_gb: float = option(32.0, "Disk space for decoded clips of all data sets, in GB.", panel=DATA, above=0)

    max_steps: int = option(0, "Optimiser steps; 0: by --epochs.", panel=OPTIMISATION, least=0)
    accumulate: int = option(1, "Gradient-accumulation steps.", panel=OPTIMISATION, above=0)
    schedule: Literal["cosine", "linear", "constant"] = option(
        "cosine", "Learning-rate schedule after the warm-up.", panel=OPTIMISATION
    )
    warmup: float = option(0.05, "Warm-up, as a fraction of the steps.", panel=OPTIMISATION, least=0, below=1)
    weight_decay: float = option(
        0.05, "Weight decay of matrices; biases and norms have none.", panel=OPTIMISATION, least=0
    )
    clip_norm: float = option(1.0, "Gradient norm above which gradients are clipped.", panel=OPTIMISATION, above=0)
    precision: Precision = option("auto", "Numeric precision.", panel=OPTIMISATION)

    loss: Literal["focal", "bce"] = option("focal", "Classification loss.", panel=LOSS)
    focal_gamma: float = option(2.0, "Focus of the focal loss on hard clips; 0: none.", panel=LOSS, least=0)
    focal_alpha: str = option(
        "auto", "Weight of clips with the artifact; auto: from their number.", metavar="auto|none|A", panel=LOSS
    )
    task_weights: str | None = option(None, "Weights of the tasks in the loss.", metavar="A=1,B=0.5", panel=LOSS)
    strength_weight: float = option(0.5, "Weight of the strength regression.", panel=LOSS, least=0)
    soft_labels: float = option(
        0.0,
        "With --loss bce: strength at which a clip counts as half a positive; 0: labels as they are.",
        metavar="STRENGTH",
        panel=LOSS,
        least=0,
    )

    runs: Path = option(Path("runs"), "Folder of the runs.", metavar="DIR", panel=RUN)
    eval_every: int = option(0, "Steps between validations; 0: once per epoch.", panel=RUN, least=0)
    patience: int = option(0, "Validations without a better AUROC before stopping early; 0: never.", panel=RUN, least=0)
    keep: int = option(2, "Checkpoints kept.", panel=RUN, above=0)
    tensorboard: bool = option(False, "Write TensorBoard events (needs grainscan[tensorboard]).", panel=RUN)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft_labels and self.loss != "bce":
            raise ConfigError("--soft-labels needs the loss bce", hint="Add --loss bce.")
        if self.focal_alpha not in ("auto", "none"):
            alpha = _convert(self.focal_alpha, float, "--focal-alpha")
            if not 0 < alpha < 1:
                raise ConfigError(f"--focal-alpha is {alpha}", hint="Use auto, none or a number between 0 and 1.")
        if self.tune not in ("full", "adapters", "head"):
            depth = self.tune.removeprefix("last-")
            if depth == self.tune or not depth.isdecimal() or int(depth) < 1:
                raise ConfigError(
                    f"--tune is {self.tune!r}", hint="Use full, adapters, head or last-N, such as last-4."
                )


@dataclass(frozen=True)
class ScanConfig(Options):
    """How files are read and judged, shared by predict and eval."""

    model: str | None = option(
        None, "A model or run directory, last (the last run here), or small (embedded). Default: small.", "-m"
    )
    windows: int | None = option(
        None, "Windows per file: places in time. Default: the model's.", panel=SAMPLING, above=0
    )
    crops: int | None = option(
        None, "Crops per window: places in the picture. Default: the model's.", panel=SAMPLING, above=0
    )
    short: ShortPolicy = option("mirror", "How files shorter than a window are filled up.", panel=SAMPLING)
    device: str = option(
        "auto", "Where the model runs.", panel=SAMPLING, choices=("auto", "grainscan.scan.engine:ENGINES")
    )
    workers: int = option(-1, "Decoding processes; -1: automatic, 0: decode in this process.", panel=SAMPLING, least=-1)
    timeout: float = option(60.0, "Seconds per file before it is given up; 0: no limit.", panel=SAMPLING, least=0)
    memory: float = option(
        1.5, "Most memory per worker; a file that needs more gets an error row.", metavar="GB", panel=SAMPLING, above=0
    )
    max_pixels: int = option(
        8192 * 8192, "Most pixels per frame: larger ones may be decompression bombs.", panel=SAMPLING, above=0
    )


@dataclass(frozen=True)
class PredictConfig(ScanConfig):
    """`grainscan predict INPUT...`: a verdict on each file."""

    inputs: tuple[str, ...] = argument("INPUT...", "Files, folders, globs, URLs, or - for paths on stdin.", ())
    threshold: str | None = option(
        None, "Report the artifact from this probability on. Default: the model's.", "-t", metavar="P|TASK=P"
    )
    format: str | None = option(
        None,
        "Form of the results. Default: by the suffix of --output, else table.",
        "-f",
        choices=("grainscan.report.formats:FORMATS",),
    )
    output: Path | None = option(
        None, "File for the results; -: stdout. A .jsonl file is continued.", "-o", metavar="FILE"
    )
    overwrite: bool = option(False, "Replace results made with another model or other options.")
    fail_on: str | None = option(None, "Exit with 3 if a file has this artifact.", metavar="TASK")
    maps: bool = option(False, "Add per-view probabilities to the results: where in the picture.")
    ray: str | None = option(
        None, "Run on a Ray cluster (needs grainscan[ray]).", metavar="ADDRESS|local", panel=SAMPLING
    )


@dataclass(frozen=True)
class EvalConfig(ScanConfig):
    """`grainscan eval [DATA] --split test`: figures against labels."""

    data: Path | None = argument(
        "[DATA]", "Labelled folder, or one with splits. Default: that of the last run here.", None
    )
    model: str | None = option(
        None, "A model or run directory, last, or small (embedded). Default: the last run here, else small.", "-m"
    )
    split: str | None = option(None, "Which split of DATA.", "-s", metavar="train|val|test")
    compare: str | None = option(None, "A second model to judge the same clips.", metavar="MODEL")
    format: str | None = option(
        None,
        "Form of the report. Default: by the suffix of --output, else table.",
        "-f",
        choices=("grainscan.report.eval_tables:EVALUATION_FORMATS",),
    )
    output: Path | None = option(None, "File for the report; -: stdout.", "-o", metavar="FILE")
    plots: Path | None = option(None, "Folder for ROC, precision-recall and reliability plots.", metavar="DIR")
    operating_point: str | None = option(
        None,
        "Threshold chosen on the val split instead of the model's.",
        metavar="f1|precision=P|recall=R",
        panel=FIGURES,
    )
    bootstrap: int = option(1000, "Resamples behind the 95 % intervals; 0: none.", panel=FIGURES, least=0)
    mistakes: int = option(5, "Worst mistakes shown.", panel=FIGURES, least=0)
    seed: int = option(0, "Random seed of the resampling.", panel=FIGURES)


Config = TypeVar("Config", bound=Options)

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

    Raises ConfigError for unknown keys, values of a wrong type and missing arguments, naming where they come from.
    """
    command = command_of(cls)
    hints = typing.get_type_hints(cls)
    about = {field.name: option_of(field) for field in dataclasses.fields(cls)}
    given: list[tuple[str, Any, str]] = []
    for key, value in _file_values(file, command).items():
        if key not in about:
            raise ConfigError(
                f"{file or DEFAULT_FILE}: [{command}] has no option {key!r}", hint=f"Known: {', '.join(sorted(about))}."
            )
        given.append((key, value, f"{file or DEFAULT_FILE}: {command}.{key}"))
    variables = {key: f"{PREFIX}_{command}_{key}".upper() for key in about}
    given += [
        (key, environ[name], f"environment variable {name}") for key, name in variables.items() if name in environ
    ]
    given += [(key, value, flag_of(key)) for key, value in flags.items() if value not in (None, (), [])]
    values = {key: _convert(value, hints[key], where, expand(about[key].choices)) for key, value, where in given}
    for field in dataclasses.fields(cls):
        needed = about[field.name].argument and field.default is not None
        if needed and not values.get(field.name):
            places = " ".join(item.metavar or "" for item in about.values() if item.argument)
            missing = about[field.name].metavar
            raise ConfigError(f"{command} needs {missing}", hint=f"Usage: grainscan {command} {places}")
    return cls(**values)


def command_of(cls: type[Options]) -> str:
    """The name of a class's command."""
    return cls.__name__.removesuffix("Config").lower()


def to_toml(config: Options, *, command: str) -> str:
    """The configuration as a TOML table that `--config` reads back. Options that are None are left out."""
    import tomli_w

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return tomli_w.dumps({command: {key: plain(value) for key, value in values.items() if value is not None}})


def _file_values(file: Path | None, command: str) -> dict[str, Any]:
    import tomllib

    path = file or DEFAULT_FILE
    if file is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read: {error}", hint="The file must be TOML with one table per command."
        ) from None
    section = table.get(command, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {command} must be a table", hint=f"Write [{command}] on a line of its own.")
    return section


def _convert(value: Any, hint: Any, where: str, choices: tuple[str, ...] = ()) -> Any:
    """`value` as the annotated type; strings are parsed, since environment variables are nothing else."""
    origin = typing.get_origin(hint)
    options = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert(value, next(option for option in options if option is not type(None)), where, choices)
    choices = options if origin is Literal else choices
    if choices and value not in choices:
        raise ConfigError(f"{where} is {value!r}", hint=f"Use one of: {', '.join(map(str, choices))}.")
    if origin is Literal:
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
