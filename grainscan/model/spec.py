"""What a model directory says about itself, read without torch.

`config.json` of a model directory is a VivitConfig with a block `grainscan`; that block is a `ModelSpec`. The scanner
needs nothing else beside `model.onnx`, so a prediction on a CPU never imports a training library.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grainscan.errors import ModelError, ModelNotFoundError
from grainscan.model.last_run import MODEL_FOLDER, last_run
from grainscan.views.crops import ViewSpec

EMBEDDED = {"small": "grainscan-s"}  # names of the models inside the package
DEFAULT_MODEL = "small"
LAST = "last"  # names the model of the last run here
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
DEFAULT_THRESHOLD = 0.5
BLOCK = "grainscan"
_MODELS = "Name a model directory, a run directory such as runs/NAME, `last` (the last run), or `small` (embedded)."


@dataclass(frozen=True)
class ModelSpec:
    """Tasks, sampling, normalisation, calibration and origin of a model.

    probability = sigmoid(a * logit + b) with (a, b) = calibration[task]; the label is probability >= threshold[task].
    `strength` maps a task to the unit of its strength; tasks without an entry have none.
    `aggregation` is the part of a file's views whose mean is the file's logit (1.0: all); the record of a task says
    whether they are the lowest or the highest.
    """

    name: str
    tasks: tuple[str, ...]
    view: ViewSpec = field(default_factory=ViewSpec)
    pooling: Literal["cls", "mean"] = "mean"
    energies: bool = False  # whether tokens hold the energies of the tubelets' wavelets and of their motion
    adapter: int = 64  # width of each task's bottleneck
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    aggregation: float = 1.0
    threshold: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, tuple[float, float]] = field(default_factory=dict)
    strength: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def threshold_of(self, task: str) -> float:
        return self.threshold.get(task, DEFAULT_THRESHOLD)

    def calibration_of(self, task: str) -> tuple[float, float]:
        return self.calibration.get(task, (1.0, 0.0))

    def with_(self, **changes: Any) -> ModelSpec:
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        block = asdict(self)
        block["view"] = self.view.to_dict()
        return block

    @classmethod
    def from_dict(cls, block: dict[str, Any]) -> ModelSpec:
        """Read the block; raises TypeError, KeyError or ValueError where it is not one."""
        known = dict(block)
        known["tasks"] = tuple(known["tasks"])
        known["view"] = ViewSpec.from_dict(known.get("view", {}))
        for key in ("mean", "std"):
            if key in known:
                known[key] = tuple(float(value) for value in known[key])
        known["calibration"] = {task: (float(a), float(b)) for task, (a, b) in known.get("calibration", {}).items()}
        return cls(**known)


def read_spec(directory: Path) -> ModelSpec:
    """The `grainscan` block of a model directory. Raises ModelError when there is none or it cannot be read."""
    path = directory / CONFIG_FILE
    hint = "Pass a directory that `grainscan train` wrote, or `small` for the embedded model."
    try:
        block = json.loads(path.read_text(encoding="utf-8"))[BLOCK]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}", hint=hint) from None
    except (KeyError, TypeError):
        raise ModelError(f"{path}: has no block {BLOCK!r}", hint=hint) from None
    try:
        return ModelSpec.from_dict(block)
    except (TypeError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: block {BLOCK!r} is not valid: {error}", hint=hint) from None


def find_model(name: str | None) -> Path:
    """The directory of a trained model. Raises ModelNotFoundError.

    None and `small` are the embedded model, `last` is that of the last training in the working directory, anything
    else is the path of a model directory or of a run.
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
