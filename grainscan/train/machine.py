"""What a training runs on: device, precision, loader processes.

Chosen by the features of the hardware, never by timing it, so that every run on one machine decides alike.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from grainscan.errors import ConfigError, UsageError
from grainscan.options import DeviceName, Precision
from grainscan.workers import processors

_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # the last one is Arm, the others are x86
_MOST_LOADERS = 8
_SOCKET_PATH = 103  # bytes that the path of a socket may have on macOS; on Linux it is 107
_SOCKET_NAME = 32  # what multiprocessing adds to the temporary folder: /pymp-xxxxxxxx/listener-xxxxxxxx

Arithmetic = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Machine:
    """The device, the precision, and the processes that read clips; 0: the training process does it itself."""

    device: Literal["cpu", "cuda"]
    precision: Arithmetic
    loaders: int  # processes that cut views
    decoders: int = 0  # processes that decode the clips beforehand


def find_machine(device: DeviceName, precision: Precision, workers: int = -1) -> Machine:
    """Resolve `auto` and -1 workers.

    Raises UsageError for a missing GPU and if loaders have no folder for their sockets, ConfigError for fp16 on a CPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
    found: Literal["cpu", "cuda"] = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    arithmetic = choose_precision(found) if precision == "auto" else precision
    if arithmetic == "fp16" and found == "cpu":  # its gradients need loss scaling, which torch has for GPUs only
        raise ConfigError("--precision fp16 needs a GPU", hint="Use auto, fp32 or bf16 on a CPU.")
    loaders = decoders = workers
    if workers < 0:
        # Loaders keep a GPU fed; on a CPU they would only compete with the training.
        loaders = min(_MOST_LOADERS, max(1, processors() - 1)) if found == "cuda" else 0
        decoders = -(-processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # processes on one machine share it
    if loaders:
        socket_folder()
    return Machine(found, arithmetic, loaders, decoders)


def begin_loader(number: int) -> None:
    """In loader process `number`, before its first batch: let it make sockets where their paths are short enough.

    torch passes tensors from process to process through sockets in the temporary folder. With a longer path it loses
    every batch, and the training would wait for the first one forever.
    """
    tempfile.tempdir = os.environ["TMPDIR"] = socket_folder()  # the latter for torch's own helper program on macOS


def socket_folder() -> str:
    """The temporary folder, or another one if its path is too long for sockets. Raises UsageError if none will do."""
    usual = tempfile.gettempdir()
    if not hasattr(socket, "AF_UNIX"):  # Windows, where tensors are passed without sockets
        return usual
    for folder in (usual, "/tmp", "/var/tmp"):
        if len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_PATH and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UsageError(
        f"loader processes cannot make their sockets: the path of the temporary folder is too long: {usual}",
        hint=f"Set TMPDIR to a folder with at most {_SOCKET_PATH - _SOCKET_NAME} characters, or use --workers 0.",
    )


def choose_precision(device: str) -> Arithmetic:
    """Resolve `auto`: bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 on a CPU."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if processor_flags() & _BF16_FLAGS else "fp32"


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instruction sets of this processor; empty where the system does not list them."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, words = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return frozenset(words.split())
    return frozenset()
