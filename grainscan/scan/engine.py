"""A batch of views in, logits and strengths out. ONNX Runtime on a CPU, torch on a GPU; nothing else knows which.

Both engines are called with float32 (n, frames, 3, size, size), RGB in [0, 1], and answer with `Outputs`. Nothing here
imports torch unless the machine has a GPU: `import torch` alone takes longer than judging a file on a CPU.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import DependencyError, ModelError, UsageError
from grainscan.model.spec import CONFIG_FILE, ONNX_FILE, ModelSpec, read_spec
from grainscan.options import DeviceName

Views = NDArray[np.float32]

_INPUT, _OUTPUTS = "views", ("logits", "strength")


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model says of n views. Both float32 (n, tasks); strength is log2(1 + strength)."""

    logits: NDArray[np.float32]
    strength: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.logits)


class Engine(Protocol):
    """A loaded model.

    `lanes` calls may run at the same time, and each is at its best with up to `batch` views.
    """

    spec: ModelSpec
    lanes: int
    batch: int

    def __call__(self, views: Views) -> Outputs: ...


class OnnxEngine:
    """model.onnx through ONNX Runtime on the CPU.

    A call uses `threads` threads, one by default: calls from several threads at once use the processors better than one
    call that has to be divided, and a pool that spins while it waits would take its time from the decoders. Memory is
    returned after each call instead of being kept in an arena of the largest batch ever seen.
    """

    batch = 24  # views; larger batches are not faster on a processor

    def __init__(self, directory: Path, *, threads: int = 1) -> None:
        import onnxruntime as ort

        self.spec = read_spec(directory)
        self.lanes = max(1, cpus() // threads)
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
            raise ModelError(
                f"{path}: ONNX Runtime cannot load it: {_first_line(error)}",
                hint="The file is damaged or needs a newer onnxruntime.",
            ) from None
        self._check(path)

    def __call__(self, views: Views) -> Outputs:
        logits, strength = self._session.run(list(_OUTPUTS), {_INPUT: views})
        return Outputs(logits, strength)

    def _check(self, path: Path) -> None:
        """The graph must take the views of the model's own specification."""
        inputs = {node.name: node.shape for node in self._session.get_inputs()}
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        view = self.spec.view
        if set(inputs) != {_INPUT} or not outputs.keys() >= set(_OUTPUTS):
            raise ModelError(
                f"{path}: takes {sorted(inputs)} and gives {sorted(outputs)}",
                hint=f"A model takes {_INPUT!r} and gives {' and '.join(map(repr, _OUTPUTS))}.",
            )
        hint = f"{CONFIG_FILE} and {ONNX_FILE} are not of the same model."
        if not _fits(inputs[_INPUT], ["n", view.frames, 3, view.size, view.size]):
            expected = [view.frames, 3, view.size, view.size]
            raise ModelError(
                f"{path}: takes views of {inputs[_INPUT][1:]}, but {CONFIG_FILE} says {expected}", hint=hint
            )
        count = len(self.spec.tasks)
        for name in _OUTPUTS:
            if not _fits(outputs[name], ["n", count]):
                raise ModelError(
                    f"{path}: gives {name} of {outputs[name][1:]}, but {CONFIG_FILE} names {count} tasks", hint=hint
                )


def _fits(shape: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether a shape of a graph, in which names stand for any number, allows the one that is expected."""
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(have == want for have, want in pairs if isinstance(have, int))


class TorchEngine:
    """model.safetensors through torch, for GPUs. float32: results agree with the CPU to rounding."""

    lanes = 1
    batch = 256

    def __init__(self, directory: Path, *, device: str = "cuda") -> None:
        import torch

        from grainscan.model import store

        self.spec = read_spec(directory)
        self._torch = torch
        self._device = torch.device(device)
        self._model = store.load(directory).to(self._device)

    def __call__(self, views: Views) -> Outputs:
        with self._torch.inference_mode():
            output: Any = self._model(self._torch.from_numpy(views).to(self._device))
        return Outputs(output.logits.float().cpu().numpy(), output.strength.float().cpu().numpy())


def load_engine(directory: Path, device: DeviceName = "auto") -> Engine:
    """The fastest engine of this machine for a model directory; `auto` takes a GPU where there is one.

    Raises ModelError for a directory that is not a model, UsageError for `cuda` without a GPU.
    """
    if device == "cpu" or (device == "auto" and not _may_have_cuda()):
        return OnnxEngine(directory)
    if importlib.util.find_spec("torch") is None:
        raise DependencyError("device cuda needs torch", hint="Install torch, or use --device cpu.")
    import torch

    if torch.cuda.is_available():
        return TorchEngine(directory)
    if device == "cuda":
        raise UsageError("device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
    return OnnxEngine(directory)


def cpus() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _may_have_cuda() -> bool:
    """Whether asking torch is worth its import: a driver is loaded, not hidden, and torch is installed."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    devices = any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))
    return devices and importlib.util.find_spec("torch") is not None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
