"""A batch of views in, logits and strengths out. ONNX Runtime on a CPU, torch on a GPU; nothing else knows which.

Engines map views, float32 (n, frames, 3, size, size), RGB in [0, 1], and the statistics of the picture of each view,
float32 (n, count), to `Outputs`. Nothing here imports torch unless the machine has a GPU: `import torch` alone takes
longer than judging a file on a CPU. A new engine is a class with the attributes of `Engine`, and a line in `ENGINES`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grainscan.errors import ConfigError, DependencyError, ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from grainscan.model.spec import ModelSpec

    Views = NDArray[np.float32]
    Statistics = NDArray[np.float32]

_VIEWS, _STATISTICS, _OUTPUTS = "views", "statistics", ("logits", "strength")


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a model for n views, float32 (n, tasks) each; strength is log2(1 + strength)."""

    logits: NDArray[np.float32]
    strength: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[Outputs]) -> Outputs:
        """Those of several windows."""
        import numpy as np

        arrays = zip(*((part.logits, part.strength) for part in parts), strict=True)
        return cls(*map(np.concatenate, arrays))

    def part(self, rows: slice) -> Outputs:
        """Those of some of the views."""
        return Outputs(self.logits[rows], self.strength[rows])


class Engine(Protocol):
    """A loaded model.

    `lanes` calls may run at the same time, each best with up to `batch` views. Loading raises ModelError for a
    directory that is not a model, UsageError or DependencyError on a machine that lacks what the engine needs.
    """

    spec: ModelSpec
    lanes: int
    batch: int

    def __init__(self, directory: Path) -> None: ...

    @staticmethod
    def available() -> bool:
        """Whether this machine has what the engine needs. Fast where it does not."""
        ...

    def __call__(self, views: Views, statistics: Statistics) -> Outputs: ...


class OnnxEngine:
    """model.onnx through ONNX Runtime on the CPU.

    A call uses `threads` threads, one by default: concurrent calls use the processors better than one call that has to
    be divided, and threads that spin while they wait would take time from the decoders. Memory is returned after each
    call instead of being kept in an arena as large as the largest batch.
    """

    batch = 24  # views; larger batches are not faster on a processor

    def __init__(self, directory: Path, *, threads: int = 1) -> None:
        import onnxruntime as ort

        from grainscan.model.spec import ONNX_FILE, read_spec
        from grainscan.workers import processors

        self.spec = read_spec(directory)
        self.lanes = max(1, processors() // threads)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        path = directory / ONNX_FILE
        if not path.is_file():
            raise ModelError(
                f"{path}: no such file", hint="Train the model again, or export it with `grainscan train`."
            )
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault, without a common base
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"{path}: ONNX Runtime cannot load it: {reason}",
                hint="The file is damaged or needs a newer onnxruntime.",
            ) from None
        self._check(path)

    @staticmethod
    def available() -> bool:
        return True

    def __call__(self, views: Views, statistics: Statistics) -> Outputs:
        inputs = {_VIEWS: views, _STATISTICS: statistics} if self.spec.statistics else {_VIEWS: views}
        logits, strength = self._session.run(list(_OUTPUTS), inputs)
        return Outputs(logits, strength)

    def _check(self, path: Path) -> None:
        """Refuse a graph whose inputs are not the views of config.json, or whose outputs are not one per task."""
        inputs = {node.name: node.shape for node in self._session.get_inputs()}
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        view = self.spec.view
        needed = {_VIEWS, _STATISTICS} if self.spec.statistics else {_VIEWS}
        if set(inputs) != needed or not outputs.keys() >= set(_OUTPUTS):
            raise ModelError(
                f"{path}: has the inputs {sorted(inputs)} and the outputs {sorted(outputs)}",
                hint=f"This one needs the inputs {sorted(needed)} and the outputs {sorted(_OUTPUTS)}.",
            )
        hint = "config.json and model.onnx belong to different models."
        if not _fits(inputs[_VIEWS], ["n", view.frames, 3, view.size, view.size]):
            expected = [view.frames, 3, view.size, view.size]
            raise ModelError(
                f"{path}: expects views of {inputs[_VIEWS][1:]}, but config.json says {expected}", hint=hint
            )
        count = len(self.spec.tasks)
        for name in _OUTPUTS:
            if not _fits(outputs[name], ["n", count]):
                raise ModelError(
                    f"{path}: returns {name} of {outputs[name][1:]}, but config.json names {count} tasks", hint=hint
                )


def _fits(shape: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether a shape of a graph, in which a name is any number, allows the expected one."""
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(have == want for have, want in pairs if isinstance(have, int))


class TorchEngine:
    """model.safetensors through torch, for GPUs. In float32: results agree with the CPU up to rounding."""

    lanes = 1
    batch = 256

    def __init__(self, directory: Path) -> None:
        if importlib.util.find_spec("torch") is None:
            raise DependencyError("device cuda needs torch", hint="Install torch, or use --device cpu.")
        import torch

        if not torch.cuda.is_available():
            raise UsageError("device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
        from grainscan.model import store

        self._torch = torch
        self._model = store.load(directory).to("cuda")
        self.spec = self._model.spec

    @staticmethod
    def available() -> bool:
        if not _may_have_cuda():
            return False
        import torch

        return bool(torch.cuda.is_available())

    def __call__(self, views: Views, statistics: Statistics) -> Outputs:
        inputs = (self._torch.from_numpy(array).to("cuda") for array in (views, statistics))
        with self._torch.inference_mode():
            output: Any = self._model(*inputs)
        return Outputs(output.logits.float().cpu().numpy(), output.strength.float().cpu().numpy())


# By device, the preferred first: `auto` is the first that this machine has.
ENGINES: dict[str, type[Engine]] = {"cuda": TorchEngine, "cpu": OnnxEngine}


def check_device(device: str) -> None:
    """Raise ConfigError for a device without an engine."""
    if device != "auto" and device not in ENGINES:
        raise ConfigError(f"device is {device!r}", hint=f"Use one of: {', '.join(['auto', *ENGINES])}.")


def load_engine(directory: Path, device: str = "auto") -> Engine:
    """The engine of a device for a model directory; `auto` is the first in `ENGINES` that is available.

    Raises ModelError for a directory that is not a model, UsageError or DependencyError for a device that is missing.
    """
    check_device(device)
    if device == "auto":
        device = next(name for name, engine in ENGINES.items() if engine.available())
    return ENGINES[device](directory)


def _may_have_cuda() -> bool:
    """Whether asking torch is worth its import: a driver is loaded, not hidden, and torch is installed."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    devices = any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))
    return devices and importlib.util.find_spec("torch") is not None
