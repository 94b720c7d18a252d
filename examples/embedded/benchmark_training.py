"""How fast `train` is, compared with what bounds it.

    python examples/embedded/benchmark_training.py                  # the embedded model, all processors
    python examples/embedded/benchmark_training.py --size 64 --threads 1 --output training.json

Three rates, in views per second, all in every round and alternating, so that a busy machine slows them alike:

    loader     the views alone: cutting, turning and colouring, without a model
    train      the trainer of `grainscan train`, fed by that loader
    bare loop  forward, loss, backward, clipping and AdamW in plain PyTorch, over tensors that are already in memory

The ratio of train to bare loop is what the trainer and its loader cost; its median over the rounds counts. By the clock
it needs a quiet machine; by processor time (of this process: on a CPU, without loader processes) it hardly does. Clips
are made here, decoded beforehand into a temporary cache, and removed afterwards, as are the weights.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmark import footage
from rich.table import Table

from grainscan import console
from grainscan.console import Progress
from grainscan.data.cache import CACHE_VARIABLE
from grainscan.data.dataset import Batch
from grainscan.data.labels import write_labels
from grainscan.files import write_json
from grainscan.options import TrainConfig
from grainscan.train.setup import Setup, prepare, quiet_libraries
from grainscan.train.trainer import ViewTrainer
from grainscan.video import write_clip

CLIPS = 24
CLIP_FRAMES, CLIP_SIDE = 16, 128  # as `prep` cuts them
WARM_UP = 3  # steps before the clock starts
BATCHES = 8  # of the bare loop, one after another


@dataclass(frozen=True)
class Rate:
    """Views per second of wall-clock time, and per second of processor time."""

    wall: float
    processor: float


class Clock(Progress):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def advance(self, done: int, note: str = "") -> None:
        if done > len(self.times):  # a step may be told twice, with new figures
            self.times.append((time.perf_counter(), time.process_time()))

    def rate(self, views_per_step: int) -> Rate:
        """The rate of the steps after the warm-up."""
        views = (len(self.times) - WARM_UP) * views_per_step
        spent = (end - begun for begun, end in zip(self.times[WARM_UP - 1], self.times[-1], strict=True))
        return Rate(*(views / seconds for seconds in spent))


@dataclass(frozen=True)
class Round:
    loader: Rate
    train: Rate
    bare: Rate

    def figures(self) -> dict[str, float]:
        return {
            "loader": self.loader.wall,
            "train": self.train.wall,
            "bare": self.bare.wall,
            "ratio": self.train.wall / self.bare.wall,
            "processor_ratio": self.train.processor / self.bare.processor,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="as for `grainscan train`")
    parser.add_argument("--size", type=int, help="side of a view in pixels (default: the model's)")
    parser.add_argument("--batch-size", type=int, default=TrainConfig.batch_size, help="views per step")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--workers", type=int, default=-1, help="of the loader, as for `grainscan train`")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary, quiet_libraries():
        os.environ[CACHE_VARIABLE] = os.fspath(Path(temporary) / "cache")
        data = make_clips(Path(temporary) / "data")
        rounds = []
        for number in range(options.rounds):
            runs = Path(temporary) / "runs"
            rounds.append(measure(configuration(options, data, runs, f"round{number}"), bare_first=bool(number % 2)))
            print(f"round {number + 1}: {rounds[-1].figures()['ratio']:.3f}", file=sys.stderr, flush=True)
    report([each.figures() for each in rounds], options)


def make_clips(folder: Path) -> Path:
    """Labelled clips as `prep` writes them; of two classes, so that the loss is the usual one."""
    folder.mkdir()
    names = [f"clip{number:02d}.avi" for number in range(CLIPS)]
    for number, name in enumerate(names):
        write_clip(folder / name, footage(CLIP_SIDE, CLIP_SIDE, CLIP_FRAMES, seed=number), codec="ffv1")
    write_labels(folder, {name: {"graininess": number % 2} for number, name in enumerate(names)})
    return folder


def configuration(options: argparse.Namespace, data: Path, runs: Path, name: str) -> TrainConfig:
    steps = WARM_UP + options.steps
    return TrainConfig(
        data=data, model=options.model, size=options.size, batch_size=options.batch_size, device=options.device,
        precision=options.precision, workers=options.workers, max_steps=steps, eval_every=steps, runs=runs, name=name,
    )  # fmt: skip


def measure(config: TrainConfig, *, bare_first: bool) -> Round:
    """One round. What goes first changes from round to round."""
    clock = Clock()
    setup = prepare(config)
    for index in range(len(setup.training)):
        setup.cache.fill(setup.training.path(index))
    trainer = ViewTrainer(setup, clock)
    loader, batches = feed(trainer)
    bare = bare_loop(setup, batches) if bare_first else None
    trainer.train()
    return Round(loader, clock.rate(setup.schedule.views_per_step), bare or bare_loop(setup, batches))


def feed(trainer: ViewTrainer) -> tuple[Rate, list[Batch]]:
    """(the rate of the loader alone, its first batches)."""
    clock, batches = Clock(), []
    for number, batch in enumerate(trainer.get_train_dataloader(), 1):
        clock.advance(number)
        if len(batches) < BATCHES:
            batches.append(batch)
    return clock.rate(trainer.setup.schedule.views_per_step), batches


def bare_loop(setup: Setup, batches: list[Batch]) -> Rate:
    """The rate of the same steps over batches in memory."""
    model, config, steps = setup.model, setup.config, setup.schedule.steps
    device = torch.device(setup.machine.device)
    model.to(device).train()
    inside = [{name: values.to(device) for name, values in batch.items()} for batch in batches]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.peak, weight_decay=config.weight_decay, fused=True)
    clock = Clock()
    for step, batch in zip(range(steps), itertools.cycle(inside), strict=False):
        with torch.autocast(device.type, torch.bfloat16, enabled=setup.machine.precision == "bf16"):
            outputs = model(batch["views"])
            loss = setup.objective(outputs.logits, outputs.strength, batch["labels"], batch["strength"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda" and step in (WARM_UP - 1, steps - 1):
            torch.cuda.synchronize()  # what was asked of the GPU is done when the clock is read
        clock.advance(step + 1)
    return clock.rate(setup.schedule.views_per_step)


def report(rounds: list[dict[str, float]], options: argparse.Namespace) -> None:
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    threads = torch.get_num_threads()
    size = f"{options.size} pixels" if options.size else "the model's size"
    title = f"Views per second: {options.model}, {size}, batches of {options.batch_size}, {threads} threads"
    table = Table(title=title, caption=f"{len(rounds)} rounds of {options.steps} steps, {options.precision}")
    for name in ("round", "loader", "train", "bare loop", "train / bare loop", "by processor time"):
        table.add_column(name, justify="right")
    for number, each in enumerate(rounds, 1):
        table.add_row(str(number), *cells(each))
    table.add_section()
    table.add_row("median", *cells(medians))
    console.out().print(table)
    if options.output:
        asked = {name: value for name, value in vars(options).items() if name != "output"}
        figures = {"schema": 1, "options": asked | {"threads": threads}, "median": medians, "rounds": rounds}
        write_json(options.output, figures)


def cells(figures: dict[str, float]) -> list[str]:
    rates = [f"{figures[name]:,.1f}" for name in ("loader", "train", "bare")]
    return [*rates, *(f"{figures[name]:.3f}" for name in ("ratio", "processor_ratio"))]


if __name__ == "__main__":
    main()
