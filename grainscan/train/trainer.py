"""The training loop: Hugging Face Trainer with our own draws, loss, validation by clips, and history.

`train` prepares a `Setup` and hands it over; what Trainer is good at (mixed precision, accumulation, processes,
checkpoints, resumption) stays its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler, Subset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from grainscan.data.cache import ClipCache
from grainscan.data.dataset import ClipSet, TrainingViews, ValidationViews, as_is
from grainscan.errors import DependencyError, ModelError
from grainscan.evaluate import metrics
from grainscan.model.vivit import GrainscanViViT
from grainscan.options import TrainConfig
from grainscan.train import run as runs
from grainscan.train.finetune import decayed
from grainscan.train.losses import Objective

_TIE_BREAK = 1e-6  # of the validation loss, taken off the score: among equal AUROCs the surer model wins


@dataclass(frozen=True, eq=False)
class Setup:
    """A training about to start: everything that the configuration and the data resolve to."""

    config: TrainConfig
    name: str
    directory: Path
    precision: str  # fp32, fp16, bf16
    cuda: bool
    model: GrainscanViViT
    training: ClipSet
    validation: ClipSet | None
    cache: ClipCache
    objective: Objective
    steps: int  # of the optimiser
    steps_per_epoch: float
    eval_every: int
    log_every: int
    workers: int  # processes of the loader
    resume: Path | None = None  # checkpoint
    left_out: tuple[str, ...] = ()  # clips that cannot be decoded

    @property
    def views_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulate * world_size()


def world_size() -> int:
    """Processes of this training, as torchrun tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes the run."""
    return int(os.environ.get("RANK", "0")) == 0


def training_arguments(setup: Setup) -> TrainingArguments:
    """The options of Trainer. The data set is one long epoch of draws; see `dataset`."""
    config, validated = setup.config, setup.validation is not None
    return TrainingArguments(
        output_dir=str(setup.directory / runs.CHECKPOINTS),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        max_steps=setup.steps,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup * setup.steps),
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        max_grad_norm=config.clip_norm,
        fp16=setup.precision == "fp16",
        bf16=setup.precision == "bf16",
        use_cpu=not setup.cuda,
        ddp_backend="gloo" if world_size() > 1 and not setup.cuda else None,
        ddp_find_unused_parameters=False,
        seed=config.seed,
        optim="adamw_torch_fused",
        logging_strategy="steps",
        logging_steps=setup.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validated else "no",
        eval_steps=setup.eval_every,
        save_strategy="steps",
        save_steps=setup.eval_every,
        save_total_limit=config.keep,
        load_best_model_at_end=validated,
        metric_for_best_model="eval_score" if validated else None,
        greater_is_better=True if validated else None,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels", "strength"],
        dataloader_num_workers=setup.workers,
        dataloader_pin_memory=setup.cuda,
    )


class GrainTrainer(Trainer):
    """Trainer with our draws, our loss and validation by clips."""

    # Our loss is a mean over the views of a micro-batch. Trainer must divide it by the number of micro-batches, which
    # it leaves out for models that accept **kwargs unless told so.
    loss_is_scaled_for_ga = False

    def __init__(self, setup: Setup, progress: runs.Progress) -> None:
        self.setup = setup
        config, validation = setup.config, setup.validation
        callbacks: list[TrainerCallback] = [_Reporter(self, progress)]
        if config.patience and validation is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.patience))
        super().__init__(
            model=setup.model,
            args=training_arguments(setup),
            train_dataset=TrainingViews(
                setup.training,
                setup.cache,
                draws=setup.steps * setup.views_per_step,
                seed=config.seed,
                balanced=config.balanced,
                augment=config.augment,
            ),
            eval_dataset=None if validation is None else ValidationViews(validation, setup.cache),
            data_collator=as_is,
            callbacks=callbacks,
        )
        for callback in (PrinterCallback, ProgressCallback):  # they print to stdout
            self.remove_callback(callback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader = self._loader(self.train_dataset, self.args.per_device_train_batch_size)
        return cast("DataLoader[Any]", self.accelerator.prepare(loader))

    def _loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=SequentialSampler(data),
            collate_fn=as_is,
            num_workers=self.setup.workers,
            pin_memory=self.setup.cuda,
            prefetch_factor=4 if self.setup.workers else None,
        )

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return [name for name, parameter in model.named_parameters() if decayed(name, parameter)]

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(inputs["views"])
        loss = self.setup.objective(outputs.logits, outputs.strength, inputs["labels"], inputs["strength"])
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Figures of the validation clips with the prefix `eval_`; `eval_score` picks the best checkpoint."""
        figures = {f"eval_{key}": value for key, value in self.validate().figures().items()}
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    @torch.no_grad()
    def validate(self) -> Validation:
        """Judge every validation clip: the mean over its views. Each process takes its share of the clips."""
        assert self.setup.validation is not None
        clips, data = self.setup.validation, cast(ValidationViews, self.eval_dataset)
        mine = Subset(data, range(self.args.process_index, len(clips), self.args.world_size))
        model = self.setup.model
        training = model.training
        model.eval()
        shares = []
        for batch in self._loader(mine, max(1, self.args.per_device_train_batch_size // data.count)):
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager(), self.autocast_smart_context_manager():
                outputs = model(inputs["views"])
            loss = self.setup.objective(outputs.logits, outputs.strength, inputs["labels"], inputs["strength"])
            of_clip = [values.float().unflatten(0, (-1, data.count)).mean(dim=1).cpu().numpy() for values in outputs]
            owners = batch["clip"][:: data.count].cpu().numpy()
            shares.append((owners, *of_clip, np.full(len(owners), loss.item())))
        model.train(training)
        return Validation.gathered(clips, shares)

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows of history.csv, those before a resumption included."""
        rows = (history_row(entry, self.setup.steps_per_epoch) for entry in self.state.log_history)
        return [row for row in rows if row]


@dataclass(frozen=True, eq=False)
class Validation:
    """What the model says of the validation clips: logits and strength (clips, tasks), and the mean loss."""

    clips: ClipSet
    logits: NDArray[np.float32]
    strength: NDArray[np.float32]
    loss: float

    @classmethod
    def gathered(cls, clips: ClipSet, shares: Sequence[Any]) -> Validation:
        """From (clip indices, logits, strength, losses) of batches, in whichever process they were judged."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, shares)
            shares = [share for part in parts for share in part]
        index, logits, strength, loss = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        order = np.argsort(index, kind="stable")
        return cls(clips, logits[order], strength[order], float(loss.mean()))

    def figures(self) -> dict[str, float]:
        """score, loss, auroc_TASK and strength_error_TASK (mean absolute difference of log2(1 + strength)).

        The score is the mean AUROC of the tasks; where no task has both classes, it is minus the loss.
        """
        found: dict[str, float] = {"loss": self.loss}
        for column, task in enumerate(self.clips.tasks):
            truth, logits = self.known(column)
            area = metrics.auroc(truth, logits) if len(truth) else None
            if area is not None:
                found[f"auroc_{task}"] = area
            error = np.abs(self.strength[:, column] - self.clips.strength[:, column])
            if np.isfinite(error).any():
                found[f"strength_error_{task}"] = float(np.nanmean(error))
        areas = [value for key, value in found.items() if key.startswith("auroc_")]
        score = float(np.mean(areas)) - _TIE_BREAK * self.loss if areas else -self.loss
        return {"score": score, **found}

    def known(self, column: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Labels and logits of the clips whose label for a task is known."""
        known = np.isfinite(self.clips.labels[:, column])
        return self.clips.labels[known, column], self.logits[known, column]


def history_row(entry: dict[str, float], steps_per_epoch: float) -> dict[str, float] | None:
    """A row of history.csv from an entry of Trainer's log; None for its closing summary."""
    if "loss" not in entry and "eval_loss" not in entry:
        return None
    figures = {key: value for key, value in entry.items() if key not in ("step", "epoch")}
    row = {"step": entry["step"], "epoch": round(entry["step"] / steps_per_epoch, 4)}
    return row | {key.replace("eval_", "val_"): value for key, value in figures.items()}


class _Reporter(TrainerCallback):
    """Tells progress what happens, keeps history.csv and TensorBoard up to date, stops at a loss that is not finite."""

    def __init__(self, trainer: GrainTrainer, progress: runs.Progress) -> None:
        self.trainer = trainer
        self.progress = progress
        self.board: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.setup.config.tensorboard and state.is_world_process_zero:
            self.board = _tensorboard(self.trainer.setup.directory)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.step(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        row = history_row({**(logs or {}), "step": state.global_step}, self.trainer.setup.steps_per_epoch)
        if row is None:
            return
        if not math.isfinite(row.get("loss", 0.0)):
            raise ModelError(
                f"the loss is {row['loss']} at step {state.global_step}",
                hint="Lower --lr, or train with --precision fp32.",
            )
        self.progress.row(row)
        if self.board is not None:
            for key, value in row.items():
                if key not in ("step", "epoch"):
                    self.board.add_scalar(key.replace("val_", "validation/"), value, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            runs.write_history(self.trainer.setup.directory / runs.HISTORY_FILE, self.trainer.history)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.board is not None:
            self.board.close()


def _tensorboard(directory: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise DependencyError(
            "--tensorboard needs TensorBoard", hint="Install it with: pip install 'grainscan[tensorboard]'"
        ) from None
    return SummaryWriter(str(directory / "tensorboard"))
