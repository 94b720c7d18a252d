"""The specification of a model, read without torch.

`config.json` of a model directory is a VivitConfig with a block `grainscan`; that block is a `ModelSpec`. The scanner
needs only it and `model.onnx`, so predicting on a CPU imports no training library.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grainscan.errors import ModelError, ModelNotFoundError
from grainscan.model.last_run import MODEL_FOLDER, last_run
from grainscan.tasks import MEASURED, task_of
from grainscan.views.crops import ViewSpec
from grainscan.views.statistics import COUNT

EMBEDDED = {"small": "grainscan-s"}  # names of the models inside the package
DEFAULT_MODEL = "small"
LAST = "last"  # name of the model of the last run here
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
DEFAULT_THRESHOLD = 0.5
BLOCK = "grainscan"
TASK_NAME = r"(?!(?:start|end|timecode)$)[a-z][a-z0-9_]{0,99}"
_LARGEST_CONFIG = 1 << 24  # bytes
_MOST_PIXELS = 1 << 25  # in a window's views: 400 MB of float32 RGB
_MODELS = "Name a model directory, a run directory such as runs/NAME, `last` (the last run), or `small` (embedded)."


@dataclass(frozen=True)
class ModelSpec:
    """Tasks, sampling, normalisation, calibration and origin of a model.

    probability = sigmoid(a * logit + b) with (a, b) = calibration[task]; the label is probability >= threshold[task].
    `strength` maps a task to the unit of its strength; tasks without an entry have no strength.
    `aggregation` maps a task to the fraction of its views whose mean is the file's logit (without an entry: all); they
    are the lowest or the highest ones, according to the task's record. `measured` are the tasks that the model judges
    by a formula: they have no output of the network, but threshold and calibration like any other. `prevalence` is the
    share of the clips with the artifact among those that a task was calibrated on, which its probabilities assume; a
    task without an entry was not calibrated, or before this was recorded.
    """

    name: str
    tasks: tuple[str, ...]
    view: ViewSpec = field(default_factory=ViewSpec)
    pooling: Literal["cls", "mean"] = "mean"
    energies: bool = False  # whether the noise features of `noise_features.Energies` are added to the tokens
    statistics: int = 0  # numbers of `grainscan.views.statistics` that the adapters read; 0: none
    adapter: int = 64  # width of each task's bottleneck
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    measured: tuple[str, ...] = ()
    aggregation: dict[str, float] = field(default_factory=dict)
    threshold: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    prevalence: dict[str, float] = field(default_factory=dict)
    strength: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def experimental(self) -> tuple[str, ...]:
        """The tasks that the model is not yet good at, as its maker noted in the provenance."""
        marked = self.provenance.get("experimental", ())
        return tuple(task for task in self.judged if task in marked) if isinstance(marked, list | tuple) else ()

    @property
    def judged(self) -> tuple[str, ...]:
        """Every task of a result: those of the network, then the measured ones."""
        return (*self.tasks, *self.measured)

    def threshold_of(self, task: str) -> float:
        return self.threshold.get(task, DEFAULT_THRESHOLD)

    def calibration_of(self, task: str) -> tuple[float, float]:
        return self.calibration.get(task, (1.0, 0.0))

    def aggregation_of(self, task: str) -> float:
        return self.aggregation.get(task, 1.0)

    def by_views(self, task: str) -> bool:
        """Whether the network judges a task by views."""
        return task_of(task).views or not self.statistics

    def by_statistics(self, task: str) -> bool:
        """Whether it judges a task by statistics of the picture; by both, if by views, too."""
        return bool(self.statistics) and task_of(task).statistics

    def with_(self, **changes: Any) -> ModelSpec:
        return replace(self, **changes)

    def keeping(self, tasks: Collection[str]) -> ModelSpec:
        """With the aggregation, calibration, threshold and prevalence of these tasks only."""
        fitted = ("aggregation", "calibration", "threshold", "prevalence")
        return self.with_(**{key: {t: v for t, v in getattr(self, key).items() if t in tasks} for key in fitted})

    def to_dict(self) -> dict[str, Any]:
        block = asdict(self)
        block["view"] = self.view.to_dict()
        return block

    @classmethod
    def from_dict(cls, block: dict[str, Any]) -> ModelSpec:
        """Read a block without faults (see `faults_of`)."""
        known = dict(block)
        known["tasks"] = tuple(known["tasks"])
        known["view"] = ViewSpec.from_dict(known.get("view", {}))
        for key in ("mean", "std"):
            if key in known:
                known[key] = tuple(float(value) for value in known[key])
        known["measured"] = tuple(known.get("measured", ()))
        if not isinstance(known.get("aggregation", {}), dict):  # a number for all, as models of version 0.1 have it
            known["aggregation"] = dict.fromkeys(known["tasks"], float(known["aggregation"]))
        known["calibration"] = {task: (float(a), float(b)) for task, (a, b) in known.get("calibration", {}).items()}
        return cls(**known)


def read_spec(directory: Path) -> ModelSpec:
    """The `grainscan` block of a model directory. Raises ModelError if it is missing or invalid."""
    path = directory / CONFIG_FILE
    hint = "Pass a directory that `grainscan train` wrote, or `small` for the embedded model."
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_CONFIG + 1)
        if len(text) > _LARGEST_CONFIG:
            raise ValueError(f"it is larger than {_LARGEST_CONFIG:,} bytes")
        values = json.loads(text)
    except RecursionError:
        raise ModelError(f"{path}: cannot be read: it is nested too deeply", hint=hint) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}", hint=hint) from None
    if not isinstance(values, dict) or BLOCK not in values:
        raise ModelError(f"{path}: has no block {BLOCK!r}", hint=hint)
    faults = list(faults_of(values[BLOCK]))
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:_FAULTS_SHOWN])
        more = f"\n  and {len(faults) - _FAULTS_SHOWN:,} more" if len(faults) > _FAULTS_SHOWN else ""
        raise ModelError(f"{path}: block {BLOCK!r} is not valid:{shown}{more}", hint=hint)
    return ModelSpec.from_dict(values[BLOCK])


def find_model(name: str | None) -> Path:
    """The directory of a trained model. Raises ModelNotFoundError.

    None and `small`: the embedded model; `last`: that of the last training in the working directory; anything else is
    the path of a model or run directory.
    """
    name = name or DEFAULT_MODEL
    if name == LAST:
        run = last_run()
        if run is None:
            raise ModelNotFoundError("--model last: nothing was trained in this folder", hint=_MODELS)
        directory = run.model
    elif name in EMBEDDED:
        directory = Path(__file__).parents[1] / "models" / EMBEDDED[name]
    else:
        directory = Path(name)
    if (directory / MODEL_FOLDER / CONFIG_FILE).is_file():  # a run directory
        directory = directory / MODEL_FOLDER
    if not (directory / CONFIG_FILE).is_file():
        raise ModelNotFoundError(f"{directory}: no model there ({CONFIG_FILE} is missing)", hint=_MODELS)
    return directory


def starting_spec(name: str) -> ModelSpec | None:
    """The specification of a model to train from; None for a bare backbone, local or on the hub.

    Raises ModelError if it cannot be read.
    """
    if name in EMBEDDED or any(_has_block(folder / CONFIG_FILE) for folder in (Path(name) / MODEL_FOLDER, Path(name))):
        return read_spec(find_model(name))
    return None


def _has_block(config: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return BLOCK in json.loads(config.read_text(encoding="utf-8"))
    return False


# ------------------------------------------------------------------------------------------------------- the schema

_FAULTS_SHOWN = 20
_Check = Callable[[Any, str], Iterator[str]]  # (value, JSON path) -> faults


def faults_of(block: Any) -> Iterator[str]:
    """Yield every fault of a `grainscan` block with its JSON path.

    Unknown keys are faults: they may change the meaning of the outputs, and a verdict must not be wrong silently.
    """
    faults = list(_SCHEMA(block, f"$.{BLOCK}"))
    yield from faults
    if faults:
        return
    judged = {*block["tasks"], *block.get("measured", ())}
    for key in ("threshold", "calibration", "prevalence", "strength", "aggregation"):
        values = block.get(key, {})
        unknown = values.keys() - judged if isinstance(values, dict) else ()
        yield from (f"$.{BLOCK}.{key}.{task}: the model has no such task" for task in sorted(unknown))
    view = ViewSpec.from_dict(block.get("view", {}))
    pixels = view.crops * view.frames * view.size**2
    if pixels > _MOST_PIXELS:
        yield f"$.{BLOCK}.view: a window has {pixels:,} pixels (views x frames x size x size), at most {_MOST_PIXELS:,}"


def _is(right: Callable[[Any], bool], what: str) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not right(value):
            yield f"{path}: is {_short(value)}, not {what}"

    return check


def _number(low: float, high: float, *, whole: bool = False) -> _Check:
    def right(value: Any) -> bool:
        return isinstance(value, int if whole else int | float) and not isinstance(value, bool) and low <= value <= high

    return _is(right, f"a{' whole' if whole else ''} number from {low:g} to {high:g}")


def _text(pattern: str, what: str) -> _Check:
    return _is(lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None, what)


def _list(each: _Check, least: int, most: int) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            yield f"{path}: is not a list of {least if least == most else f'{least} to {most}'} values"
            return
        for number, item in enumerate(value):
            yield from each(item, f"{path}[{number}]")
            if isinstance(item, str) and item in value[:number]:
                yield f"{path}[{number}]: {item} is named twice"

    return check


def _unknown(value: Any, path: str) -> Iterator[str]:
    yield f"{path}: is unknown; the model may need a newer grainscan"


def _object(keys: Mapping[str, _Check], required: tuple[str, ...] = (), others: _Check = _unknown) -> _Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: is not an object"
            return
        yield from (f"{path}.{key}: is missing" for key in required if key not in value)
        for key, item in value.items():
            yield from keys.get(key, others)(item, f"{path}.{_short(key)[1:-1]}")

    return check


def _map(each: _Check) -> _Check:
    return _object({}, others=each)


def _either(one: _Check, many: _Check) -> _Check:
    return lambda value, path: (many if isinstance(value, dict) else one)(value, path)


def _short(value: Any) -> str:
    text = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


_NAME = _text(r".{1,200}", "a text of 1 to 200 characters")
_SCHEMA = _object(
    {
        "name": _NAME,
        "tasks": _list(_text(TASK_NAME, "the name of a task"), 1, 100),
        "view": _object(
            {
                "frames": _number(1, 256, whole=True),
                "size": _number(8, 1024, whole=True),
                "windows": _number(1, 1000, whole=True),
                "crops": _number(1, 1000, whole=True),
                "flat": _number(0, 1),
            }
        ),
        "pooling": _text("cls|mean", '"cls" or "mean"'),
        "energies": _is(lambda value: isinstance(value, bool), "true or false"),
        "statistics": _is(lambda value: value in (0, COUNT) and not isinstance(value, bool), f"0 or {COUNT}"),
        "adapter": _number(1, 65536, whole=True),
        "mean": _list(_number(-1000, 1000), 3, 3),
        "std": _list(_number(1e-6, 1000), 3, 3),
        "measured": _list(_is(lambda value: value in MEASURED, f"one of {', '.join(MEASURED)}"), 0, len(MEASURED)),
        "aggregation": _either(_number(1e-6, 1), _map(_number(1e-6, 1))),
        "threshold": _map(_number(0, 1)),
        "calibration": _map(_list(_number(-1e6, 1e6), 2, 2)),
        "prevalence": _map(_number(1e-6, 1 - 1e-6)),
        "strength": _map(_NAME),
        "provenance": _is(lambda value: isinstance(value, dict), "an object"),
    },
    required=("name", "tasks"),
)
