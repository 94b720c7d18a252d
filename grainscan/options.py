"""The options of the five commands: one field each, with its default, its help and the section that lists it.

The command line is generated from these classes by `grainscan.cli.commands`. The flag overrides the environment
(`GRAINSCAN_TRAIN_EPOCHS=3`), which overrides the TOML file (`grainscan.toml` in the working directory or
`--config FILE`, one table per command), which overrides the default below.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from grainscan.errors import ConfigError
from grainscan.tasks import SYNTHESISED, task_of

# ruff: noqa: RUF009 - `option` and `argument` are dataclasses.field with metadata

ShortPolicy = Literal["mirror", "wrap", "repeat", "error"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
DeviceName = Literal["auto", "cpu", "cuda"]

# Sections of the help, in the order in which every command shows them after its arguments and common options.
LABELS, MODEL, DATA, OPTIMISATION, LOSS, RUN = "Labels and synthesis", "Model", "Data", "Optimisation", "Loss", "Run"
FIGURES, SAMPLING = "Figures", "Sampling and speed"
PANELS = (None, LABELS, MODEL, DATA, OPTIMISATION, LOSS, RUN, FIGURES, SAMPLING)

_KEY = "option"  # of a field's metadata


@dataclass(frozen=True)
class Option:
    """How the command line shows a field, and which values it accepts.

    `package.module:TABLE` among the `choices` means the keys of that table, which is imported only when needed.
    A number must be at least `least`, greater than `above` and less than `below`.
    """

    help: str
    flags: tuple[str, ...] = ()  # short ones
    panel: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    argument: bool = False  # positional; required unless its default is None
    least: float | None = None
    above: float | None = None
    below: float | None = None

    def range(self) -> str:
        """The accepted numbers in words."""
        limits = {"at least": self.least, "more than": self.above, "less than": self.below}
        words = [f"{name} {limit:g}" for name, limit in limits.items() if limit is not None]
        return "a number that is " + " and ".join(words) if words else "a finite number"

    def accepts(self, value: float) -> bool:
        """Whether a number is finite and within the limits."""
        least, above, below = self.least, self.above, self.below
        inside = (least is None or value >= least) and (above is None or value > above)
        return inside and math.isfinite(value) and (below is None or value < below)


def expand(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The choices, each `package.module:TABLE` replaced by the keys of that table."""
    found: dict[str, None] = {}
    for choice in choices:
        module, _, table = choice.partition(":")
        found |= dict.fromkeys(getattr(import_module(module), table) if table else [choice])
    return tuple(found)


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in a list that is separated by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())) if text else ()


def option(default: Any, help: str, *flags: str, **more: Any) -> Any:
    """A field set by a flag of its name."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, flags, **more)})


def argument(metavar: str, help: str, default: Any = dataclasses.MISSING) -> Any:
    """A field set by a positional argument."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, metavar=metavar, argument=True)})


def option_of(field: dataclasses.Field[Any]) -> Option:
    """The `Option` of a field."""
    return typing.cast(Option, field.metadata[_KEY])


def flag_of(name: str) -> str:
    """The flag of a field: `--max-steps` for `max_steps`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Options:
    """Base of the options of a command. Raises ConfigError for a number out of range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), option_of(field)
            if isinstance(value, int | float) and not about.accepts(value):
                raise ConfigError(f"{flag_of(field.name)} is {value}", hint=f"Use {about.range()}.")


@dataclass(frozen=True)
class PrepConfig(Options):
    """`grainscan prep SRC... DST`: cut raw footage into labelled clips."""

    sources: tuple[Path, ...] = argument("SRC...", "Footage: files and folders.")
    destination: Path = argument("DST", "Folder to write the clips to.")
    clips: int = option(4, "Clips per video.", above=0)
    frames: int = option(16, "Consecutive frames per clip.", above=0)
    size: int = option(128, "Side of the square cut from the picture, in native pixels.", above=0)
    small: Literal["keep", "skip"] = option("keep", "Videos smaller or shorter than a clip: keep whole or skip.")
    workers: int = option(-1, "Worker processes; -1: one per processor, 0: work in this process.", least=-1)
    seed: int = option(0, "Random seed.")
    dry_run: bool = option(False, "Print the plan and write nothing.")
    labels: Path | None = option(
        None,
        "labels.json or CSV file. Default: labels.json beside the footage, else folder names.",
        metavar="FILE",
        panel=LABELS,
    )
    balance: str | None = option(None, "Keep as many clips with the artifact as without.", metavar="TASK", panel=LABELS)
    limit: int | None = option(None, "Maximum clips: per class with --balance, else in all.", panel=LABELS, above=0)
    synthesize: str | None = option(
        None,
        "Add this artifact, or some of several, to a copy of each clean clip.",
        metavar="TASK|A,B|all",
        panel=LABELS,
    )
    twins: int = option(1, "Copies per clean clip with --synthesize.", panel=LABELS, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [task for task in self.synthesised if not task_of(task).synthesiser]
        if unknown or (self.synthesize is not None and not self.synthesised):
            fault = f"{unknown[0]!r} cannot be synthesised" if unknown else "no artifact"
            raise ConfigError(
                f"--synthesize is {self.synthesize!r}: {fault}",
                hint=f"Use all, or some of {', '.join(SYNTHESISED)}, separated by commas.",
            )

    @property
    def synthesised(self) -> tuple[str, ...]:
        """The tasks that `synthesize` names, each once, in its order; those of the table for `all`."""
        return SYNTHESISED if self.synthesize == "all" else names_in(self.synthesize)


@dataclass(frozen=True)
class SplitConfig(Options):
    """`grainscan split DATA`: train, val and test that share no source."""

    data: Path = argument("DATA", "Folder with labels.json and its clips.")
    ratios: str = option("70/15/15", "Shares of train, val and test.", metavar="A/B/C")
    group: str = option(
        "auto",
        "How to find a clip's source. auto: by manifest.json, else by name; REGEX: its first group, else its match.",
        metavar="auto|REGEX",
    )
    seed: int = option(0, "Random seed.")
    undo: bool = option(False, "Move the clips back to where they were.")
    dry_run: bool = option(False, "Print the plan and move nothing.")


_LR, _ADDED_LR = 3e-4, 1e-2  # peak learning rates: of a trained model, and of an adapter that starts from nothing
EPOCHS, ADDED_STEPS = 10, 120  # passes over the clips; steps at least for such an adapter


@dataclass(frozen=True)
class TrainConfig(Options):
    """`grainscan train DATA`: fine-tune a ViViT with an adapter per artifact."""

    data: Path = argument("DATA", "Folder with train/ and val/ (see split), or with labelled clips.")
    model: str = option(
        "small",
        "Start from small (embedded), a model or run directory, last (this folder's last run), vivit-b or a hub name.",
        "-m",
        metavar="MODEL",
    )
    tasks: str | None = option(None, "Artifacts of the new model. Default: all that are labelled.", metavar="A,B")
    add_task: str | None = option(
        None, "Teach MODEL this artifact, too, and change nothing else in it.", metavar="NAME|A,B"
    )
    name: str | None = option(None, "Run name. Default: model, date and time.", metavar="NAME")
    epochs: float | None = option(
        None,
        f"Passes over the training clips. Default: {EPOCHS}; with --add-task at least {ADDED_STEPS} steps.",
        "-e",
        metavar="X",
        above=0,
    )
    batch_size: int = option(16, "Views per device and forward pass.", "-b", above=0)
    lr: float | None = option(
        None, f"Peak learning rate. Default: {_LR:g}; with --add-task {_ADDED_LR:g}.", metavar="X", above=0
    )
    device: DeviceName = option("auto", "Device to use.")
    resume: str | None = option(None, "Continue a run from this checkpoint; auto: its last one.", metavar="auto|DIR")
    seed: int = option(0, "Random seed.")
    dry_run: bool = option(False, "Print the plan with estimated time and memory, and train nothing.")

    tune: str = option("full", "Weights to train.", metavar="full|adapters|head|picture|last-N", panel=MODEL)
    lora: int = option(
        0, "Rank of low-rank updates (LoRA) of attention and MLP; 0: none.", metavar="RANK", panel=MODEL, least=0
    )
    pooling: Literal["auto", "cls", "mean"] = option(
        "auto", "Input of the adapters: the class token, or the mean of all tokens.", panel=MODEL
    )
    scratch: bool = option(False, "Start from whitening filters instead of the model's weights.", panel=MODEL)
    reference: float = option(
        1.0, "With --scratch: constant part of each token, in standard deviations of a clean one.", panel=MODEL
    )
    attention: Literal["sdpa", "eager"] = option("sdpa", "Attention implementation.", panel=MODEL)
    gradient_checkpointing: bool = option(False, "Save memory by recomputing activations; slower.", panel=MODEL)
    compile: bool = option(False, "Compile the model with torch.compile.", panel=MODEL)

    frames: int | None = option(None, "Consecutive frames per view. Default: the model's.", panel=DATA, above=0)
    size: int | None = option(None, "Side of a view's square, in pixels. Default: the model's.", panel=DATA, above=0)
    views_per_clip: int = option(1, "Views drawn from each clip per epoch.", panel=DATA, above=0)
    augment: bool = option(True, "Augment views: flips, crops, and jitter in time, brightness and colour.", panel=DATA)
    balanced: bool = option(False, "Draw clips with and without the artifact equally often.", panel=DATA)
    workers: int = option(-1, "Loader processes; -1: automatic, 0: load in this process.", panel=DATA, least=-1)
    cache: bool = option(True, "Keep decoded clips on disk between epochs.", panel=DATA)
    cache_gb: float = option(32.0, "Size of the cache, for all data sets together, in GB.", panel=DATA, above=0)

    max_steps: int = option(0, "Optimiser steps; 0: as many as --epochs needs.", panel=OPTIMISATION, least=0)
    accumulate: int = option(1, "Gradient-accumulation steps.", panel=OPTIMISATION, above=0)
    schedule: Literal["cosine", "linear", "constant"] = option(
        "cosine", "Learning-rate schedule after the warm-up.", panel=OPTIMISATION
    )
    warmup: float = option(0.05, "Warm-up, as a fraction of the steps.", panel=OPTIMISATION, least=0, below=1)
    weight_decay: float = option(0.05, "Weight decay; none for biases and norms.", panel=OPTIMISATION, least=0)
    clip_norm: float = option(1.0, "Maximum gradient norm; larger gradients are clipped.", panel=OPTIMISATION, above=0)
    precision: Precision = option("auto", "Numeric precision.", panel=OPTIMISATION)

    loss: Literal["focal", "bce"] = option("focal", "Classification loss.", panel=LOSS)
    focal_gamma: float = option(2.0, "Focus of the focal loss on hard clips; 0: none.", panel=LOSS, least=0)
    focal_alpha: str = option("auto", "Weight of positive clips; auto: by share.", metavar="auto|none|A", panel=LOSS)
    task_weights: str | None = option(None, "Weight of each task in the loss.", metavar="A=1,B=0.5", panel=LOSS)
    strength_weight: float = option(0.5, "Weight of the strength regression.", panel=LOSS, least=0)
    soft_labels: float = option(
        0.0,
        "With --loss bce: strength at which a clip counts as half positive; 0: off.",
        metavar="STRENGTH",
        panel=LOSS,
        least=0,
    )

    runs: Path = option(Path("runs"), "Folder of the runs.", metavar="DIR", panel=RUN)
    eval_every: int = option(0, "Steps between validations; 0: once per epoch, at least 20 apart.", panel=RUN, least=0)
    patience: int = option(0, "Stop after this many validations without a better AUROC; 0: never.", panel=RUN, least=0)
    keep: int = option(2, "Checkpoints to keep.", panel=RUN, above=0)
    tensorboard: bool = option(False, "Write TensorBoard events (needs the package tensorboard).", panel=RUN)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft_labels and self.loss != "bce":
            raise ConfigError("--soft-labels needs --loss bce", hint="Add --loss bce.")
        if self.focal_alpha not in ("auto", "none"):
            alpha = _convert(self.focal_alpha, float, "--focal-alpha")
            if not 0 < alpha < 1:
                raise ConfigError(f"--focal-alpha is {alpha}", hint="Use auto, none or a number between 0 and 1.")
        if not re.fullmatch("full|adapters|head|picture|last-0*[1-9][0-9]*", self.tune):
            hint = "Use full, adapters, head, picture or last-N, such as last-4."
            raise ConfigError(f"--tune is {self.tune!r}", hint=hint)
        self._check_kept()

    @property
    def peak(self) -> float:
        """The peak learning rate."""
        return self.lr or (_LR if self.add_task is None else _ADDED_LR)

    def _check_kept(self) -> None:
        """Raise ConfigError for options that would change what --add-task or --tune picture keeps."""
        flag = "--add-task" if self.add_task is not None else "--tune picture" if self.tune == "picture" else None
        if flag is None:
            return
        changes: dict[str, object] = {
            "--scratch": self.scratch,
            "--lora": self.lora,
            "--frames": self.frames,
            "--size": self.size,
            "--pooling": self.pooling != "auto",
        }
        if self.add_task is not None:
            changes["--tasks"] = self.tasks
            changes[f"--tune {self.tune}"] = self.tune not in ("full", "adapters", "head")
            if not self.add_task.strip(", "):
                raise ConfigError("--add-task names no task", hint="Write --add-task NAME, in snake_case.")
        for other, given in changes.items():
            if given:
                hint = f"Leave out {other}: {flag} keeps the rest of the model as it is."
                raise ConfigError(f"{other} does not go with {flag}", hint=hint)


@dataclass(frozen=True)
class ScanConfig(Options):
    """How files are sampled and judged; shared by predict and eval."""

    model: str | None = option(
        None,
        "Model or run directory, last (this folder's last run), or small (embedded). Default: small.",
        "-m",
        metavar="MODEL",
    )
    tasks: str | None = option(None, "Artifacts to judge. Default: all that the model knows.", metavar="A,B")
    prevalence: str | None = option(
        None,
        "Share of the files that have an artifact: probabilities follow it, labels stay. Default: as in calibration.",
        metavar="P|TASK=P",
    )
    min_strength: str | None = option(
        None, "Strength from which an artifact counts as found, in its unit: graininess=2.", metavar="TASK=S"
    )
    windows: int | None = option(None, "Windows per file, in time. Default: the model's.", panel=SAMPLING, above=0)
    every: float | None = option(
        None,
        "One window in each stretch of this length, and events: where an artifact lasts; 0: look at every frame.",
        metavar="SECONDS",
        panel=SAMPLING,
        least=0,
    )
    crops: int | None = option(None, "Crops per window, in space. Default: the model's.", panel=SAMPLING, above=0)
    short: ShortPolicy = option("mirror", "How to extend files shorter than a window.", panel=SAMPLING)
    device: str = option("auto", "Device to use.", panel=SAMPLING, choices=("auto", "grainscan.scan.engine:ENGINES"))
    workers: int = option(-1, "Decoding processes; -1: automatic, 0: decode in this process.", panel=SAMPLING, least=-1)
    timeout: float = option(
        60.0, "Seconds per file, or without progress in it (--every); 0: no limit.", panel=SAMPLING, least=0
    )
    memory: float = option(1.5, "Memory limit per worker; files beyond it fail.", metavar="GB", panel=SAMPLING, above=0)
    max_pixels: int = option(8192 * 8192, "Pixel limit per frame against decompression bombs.", panel=SAMPLING, above=0)


@dataclass(frozen=True)
class PredictConfig(ScanConfig):
    """`grainscan predict INPUT...`: a verdict on each file."""

    inputs: tuple[str, ...] = argument(
        "INPUT...",
        "Files, folders, globs, URLs, or - to read paths from stdin. A .jsonl file: the rows of a finished scan.",
        (),
    )
    threshold: str | None = option(
        None, "Probability from which an artifact counts as found. Default: the model's.", "-t", metavar="P|TASK=P"
    )
    format: str | None = option(
        None,
        "Output format. Default: by the suffix of --output, else table.",
        "-f",
        choices=("grainscan.report.formats:FORMATS",),
    )
    output: Path | None = option(
        None, "Write the results to this file; -: stdout. A .jsonl file is continued.", "-o", metavar="FILE"
    )
    sort: str | None = option(
        None, "Order of the results. Default: path; on a page: worst.", metavar="path|worst|strength|length|TASK"
    )
    only: str | None = option(None, "Leave out files that do not have this artifact.", metavar="any|TASK")
    pictures: int | None = option(
        None, "Files that a page shows pictures of, the worst first. Default: 200; of a finished scan: 0.", least=0
    )
    overwrite: bool = option(False, "Replace results made with another model or other options.")
    fail_on: str | None = option(None, "Exit with code 3 if a file has one of these artifacts.", metavar="any|A,B")
    maps: bool = option(False, "Add the probability of each view, to show where in the picture the artifact is.")
    character: bool = option(
        False, "Describe the grain of grainy files: strength by luma and colour, size, film-grain parameters."
    )
    grain_table: Path | None = option(
        None, "Write a film-grain table of the one input, for aomenc, SVT-AV1 (2.0 or later) and rav1e.", metavar="FILE"
    )
    ray: str | None = option(
        None, "Use a Ray cluster (needs the package ray).", metavar="ADDRESS|local", panel=SAMPLING
    )


@dataclass(frozen=True)
class EvalConfig(ScanConfig):
    """`grainscan eval [DATA] --split test`: accuracy on labelled clips."""

    data: Path | None = argument("[DATA]", "Folder with labelled clips or with splits. Default: the last run's.", None)
    model: str | None = option(
        None,
        "Model or run directory, last, or small (embedded). Default: the last run, else small.",
        "-m",
        metavar="MODEL",
    )
    split: str | None = option(None, "Split of DATA to evaluate on.", "-s", metavar="train|val|test")
    compare: str | None = option(None, "Second model to compare on the same clips.", metavar="MODEL")
    format: str | None = option(
        None,
        "Output format. Default: by the suffix of --output, else table.",
        "-f",
        choices=("grainscan.report.eval_tables:EVALUATION_FORMATS",),
    )
    output: Path | None = option(None, "Write the report to this file; -: stdout.", "-o", metavar="FILE")
    plots: Path | None = option(None, "Folder for ROC, precision-recall and reliability plots.", metavar="DIR")
    operating_point: str | None = option(
        None,
        "Threshold chosen on the val split. Default: the model's.",
        metavar="f1|precision=P|recall=R",
        panel=FIGURES,
    )
    bootstrap: int = option(1000, "Resamples for the 95 % intervals; 0: none.", panel=FIGURES, least=0)
    mistakes: int = option(5, "Worst mistakes to list.", panel=FIGURES, least=0)
    seed: int = option(0, "Random seed of the resampling.", panel=FIGURES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operating_point is not None and self.min_strength is not None:
            raise ConfigError(
                "--operating-point does not go with --min-strength",
                hint="Leave one of them out.",
            )


Config = TypeVar("Config", bound=Options)

DEFAULT_FILE = Path("grainscan.toml")
PREFIX = "GRAINSCAN"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def resolve(
    cls: type[Config], flags: Mapping[str, Any], *, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Config:
    """Merge defaults, TOML file, environment and flags (None: not given) into one configuration.

    Raises ConfigError, naming the source, for unknown keys, values of a wrong type and missing arguments.
    """
    command = command_of(cls)
    hints = typing.get_type_hints(cls)
    about = {field.name: option_of(field) for field in dataclasses.fields(cls)}
    given: list[tuple[str, Any, str]] = []
    path = file or DEFAULT_FILE
    for key, value in _file_values(path, command).items() if file or path.is_file() else ():
        if key not in about:
            raise ConfigError(
                f"{path}: [{command}] has no option {key!r}", hint=f"Use one of: {', '.join(sorted(about))}."
            )
        given.append((key, value, f"{path}: {command}.{key}"))
    variables = {key: f"{PREFIX}_{command}_{key}".upper() for key in about}
    given += [
        (key, environ[name], f"environment variable {name}") for key, name in variables.items() if name in environ
    ]
    given += [(key, value, flag_of(key)) for key, value in flags.items() if value not in (None, (), [])]
    values = {key: _convert(value, hints[key], where, expand(about[key].choices)) for key, value, where in given}
    for field in dataclasses.fields(cls):
        if about[field.name].argument and field.default is not None and not values.get(field.name):
            usage = " ".join(["grainscan", command, *(str(item.metavar) for item in about.values() if item.argument)])
            raise ConfigError(f"{command} needs {about[field.name].metavar}", hint=f"Usage: {usage}")
    return cls(**values)


def command_of(cls: type[Options]) -> str:
    """The name of a class's command."""
    return cls.__name__.removesuffix("Config").lower()


def to_toml(config: Options, *, command: str) -> str:
    """The configuration as a TOML table that `--config` reads back. Options that are None are left out."""
    import tomli_w

    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            plain = list(map(str, value)) if isinstance(value, tuple) else value
            values[field.name] = str(plain) if isinstance(plain, Path) else plain
    return tomli_w.dumps({command: values})


def _file_values(path: Path, command: str) -> dict[str, Any]:
    import tomllib

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


def required(hint: Any) -> Any:
    """A type hint without `| None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _convert(value: Any, hint: Any, where: str, choices: tuple[str, ...] = ()) -> Any:
    """`value` as the annotated type; environment variables and flags are strings to parse."""
    hint = required(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    choices = inner if origin is Literal else choices
    if choices and value not in choices:
        raise ConfigError(f"{where} is {value!r}", hint=f"Use one of: {', '.join(map(str, choices))}.")
    if origin is Literal:
        return value
    if origin is tuple:
        items = value.split(os.pathsep) if isinstance(value, str) else value
        return tuple(_convert(item, inner[0], where) for item in items)
    if hint is bool:
        text = str(value).strip().lower()
        if text not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{where} is {value!r}", hint="Use true or false.")
        return text in _TRUE
    wanted = {int: "whole number", float: "number"}.get(hint, "text")
    try:
        if hint in (int, float) and isinstance(value, bool):
            raise ValueError
        if hint is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return hint(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{where} is {value!r}", hint=f"Use a {wanted}.") from None
