"""What a training runs on: device, precision, loader processes.

Chosen by the features of the hardware, never by timing it, so that every run on one machine decides alike.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from grainscan.errors import ConfigError, UsageError
from grainscan.options import DeviceName, Precision
from grainscan.workers import processors

_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # the last one is Arm, the others are x86
_MOST_LOADERS = 8

Arithmetic = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Machine:
    """The device, the precision, and the processes that read clips; 0: the training process does it itself."""

    device: Literal["cpu", "cuda"]
    precision: Arithmetic
    loaders: int  # processes that cut views
    decoders: int = 0  # processes that decode the clips beforehand


def find_machine(device: DeviceName, precision: Precision, workers: int = -1) -> Machine:
    """Resolve `auto` and -1 workers. Raises UsageError for a missing GPU, ConfigError for fp16 on a CPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
    found: Literal["cpu", "cuda"] = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    arithmetic = choose_precision(found) if precision == "auto" else precision
    if arithmetic == "fp16" and found == "cpu":  # its gradients need loss scaling, which torch has for GPUs only
        raise ConfigError("--precision fp16 needs a GPU", hint="Use auto, fp32 or bf16 on a CPU.")
    if workers >= 0:
        return Machine(found, arithmetic, workers, workers)
    # Loaders keep a GPU fed; on a CPU they would only compete with the training.
    loaders = min(_MOST_LOADERS, max(1, processors() - 1)) if found == "cuda" else 0
    decoders = -(-processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # the processes on one machine share it
    return Machine(found, arithmetic, loaders, decoders)


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
