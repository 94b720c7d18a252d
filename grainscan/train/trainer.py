"""The training loop: Hugging Face Trainer with our own draws, loss, validation by clips, and history.

Mixed precision, accumulation, processes, checkpoints and resumption are Trainer's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
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
from transformers.integrations import TensorBoardCallback

from grainscan.console import Progress
from grainscan.data.dataset import ClipSet, TrainingViews, ValidationViews, as_is
from grainscan.errors import ModelError
from grainscan.evaluate import metrics
from grainscan.files import replacing
from grainscan.model.vivit import ViewOutputs
from grainscan.train.finetune import decayed
from grainscan.train.machine import begin_loader
from grainscan.train.run import CHECKPOINTS, HISTORY, START, TENSORBOARD, is_main, world_size, write_history
from grainscan.train.setup import Setup

_MANY = 3  # more tasks than this are shown in short
_TIE_BREAK = 1e-6  # of the validation loss, subtracted from the score: among equal AUROCs the lower loss wins


def training_arguments(setup: Setup) -> TrainingArguments:
    """The options of Trainer. The data set is one long epoch of draws; see `grainscan.data.dataset`."""
    config, schedule, machine, validated = setup.config, setup.schedule, setup.machine, setup.validation is not None
    return TrainingArguments(
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.peak,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup,  # below 1: a fraction of all steps
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        max_grad_norm=config.clip_norm,
        seed=config.seed,
        save_total_limit=config.keep,
        report_to=["tensorboard"] if config.tensorboard else [],
        output_dir=str(setup.run.path / CHECKPOINTS),
        max_steps=schedule.steps,
        fp16=machine.precision == "fp16",
        bf16=machine.precision == "bf16",
        use_cpu=machine.device == "cpu",
        ddp_backend="gloo" if world_size() > 1 and machine.device == "cpu" else None,
        ddp_find_unused_parameters=False,
        optim="adamw_torch_fused",
        logging_strategy="steps",
        logging_steps=schedule.logging_interval,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validated else "no",
        eval_steps=schedule.validation_interval,
        eval_on_start=setup.scores_start and setup.run.checkpoint is None,
        save_strategy="steps",
        save_steps=schedule.validation_interval,
        load_best_model_at_end=validated,
        metric_for_best_model="eval_score" if validated else None,
        greater_is_better=True if validated else None,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels", "strength"],
        dataloader_num_workers=machine.loaders,
        dataloader_pin_memory=machine.device == "cuda",
    )


@dataclass(frozen=True)
class Outcome:
    """The step whose weights the model now has, and the validation figures before and after the training.

    `before` is for the starting model and the tasks that it knew, `after` for the best checkpoint.
    """

    step: int  # 0: the starting model was kept
    before: dict[str, float] | None
    after: dict[str, float] | None

    @property
    def kept(self) -> dict[str, float] | None:
        """The validation figures of the weights that were kept."""
        return self.after if self.step else self.before


class ViewTrainer(Trainer):
    """Trainer with our draws, our loss and validation by clips."""

    # Our loss is a mean over the views of a micro-batch, which Trainer must divide by the number of micro-batches. For
    # models that accept **kwargs it does so only with this flag.
    loss_is_scaled_for_ga = False

    def __init__(self, setup: Setup, progress: Progress) -> None:
        self.setup = setup
        self.progress = progress
        config, validation = setup.config, setup.validation
        callbacks: list[TrainerCallback] = [_Reporter(self)]
        if config.patience and validation is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.patience))
        draws: dict[str, Any] = {"seed": config.seed, "balanced": config.balanced, "augment": config.augment}
        super().__init__(
            model=setup.model,
            args=training_arguments(setup),
            train_dataset=TrainingViews(setup.training, setup.cache, draws=setup.schedule.views, **draws),
            eval_dataset=None if validation is None else ValidationViews(validation, setup.cache),
            data_collator=as_is,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)  # both print to stdout
        self.remove_callback(ProgressCallback)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                callback.logging_dir = str(setup.run.path / TENSORBOARD)

    def run(self) -> Outcome:
        """Train or resume, and leave the best weights in the model."""
        setup, start = self.setup, self.setup.run.path / CHECKPOINTS / START
        if self.args.eval_on_start and is_main():
            start.parent.mkdir(parents=True, exist_ok=True)
            with replacing(start) as temporary:
                save_file({key: value.contiguous() for key, value in setup.model.state_dict().items()}, temporary)
        self.train(resume_from_checkpoint=None if setup.run.checkpoint is None else str(setup.run.checkpoint))
        step = self.state.best_global_step or self.state.global_step
        before, after = self._logged(0), self._logged(step)
        fresh = set(setup.training.tasks).difference(setup.known)
        if before and fresh:  # not a candidate; its figures for those tasks, and so score and loss, mean nothing
            meaningless = {"score", "loss"} | {f"{key}_{task}" for key in ("auroc", "strength_error") for task in fresh}
            before = {key: value for key, value in before.items() if key not in meaningless}
        elif before and after and not after["score"] > before["score"] and start.is_file():
            setup.model.load_state_dict(load_file(start))
            step = 0
        return Outcome(step, before, after)

    def _logged(self, step: int) -> dict[str, float] | None:
        """The validation figures of a step, also of one before a resumption."""
        for entry in reversed(self.state.log_history):
            if entry["step"] == step and "eval_score" in entry:
                return {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
        return None

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader = self._loader(self.train_dataset, self.args.per_device_train_batch_size)
        return cast("DataLoader[Any]", self.accelerator.prepare(loader))

    def _loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=SequentialSampler(data),
            collate_fn=as_is,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=4 if self.args.dataloader_num_workers else None,
            worker_init_fn=begin_loader,
        )

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return [name for name, parameter in model.named_parameters() if decayed(name, parameter)]

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = self._learnt(model(inputs["views"], inputs["statistics"]))
        loss = self.setup.objective(*outputs, inputs["labels"], inputs["strength"])
        return (loss, outputs) if return_outputs else loss

    def _learnt(self, outputs: ViewOutputs) -> ViewOutputs:
        """The columns of the tasks that are learnt, which the clips are labelled for: they come after the kept ones."""
        first = len(self.setup.roles.kept)
        return ViewOutputs(outputs.logits[:, first:], outputs.strength[:, first:])

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validation figures with the prefix `eval_`; `eval_score` picks the best checkpoint."""
        if not self.state.global_step:
            self.progress.stage("validating")
        figures = {f"eval_{key}": value for key, value in self.validate().figures().items()}
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    @torch.no_grad()
    def validate(self) -> Validation:
        """Judge every validation clip by the mean over its views.

        Each process judges its share of the clips.
        """
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
                outputs = self._learnt(model(inputs["views"], inputs["statistics"]))
            loss = self.setup.objective(outputs.logits, outputs.strength, inputs["labels"], inputs["strength"])
            of_clip = [values.float().unflatten(0, (-1, data.count)).mean(dim=1).cpu().numpy() for values in outputs]
            owners = batch["clip"][:: data.count].cpu().numpy()
            shares.append((owners, *of_clip, np.full(len(owners), loss.item())))
        model.train(training)
        return Validation.gathered(clips, shares)

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows of history.csv, those before a resumption included."""
        return [row for entry in self.state.log_history if (row := self.row(entry))]

    def row(self, entry: dict[str, float]) -> dict[str, float] | None:
        """A row of history.csv from an entry of Trainer's log; None for its closing summary."""
        if "loss" not in entry and "eval_loss" not in entry:
            return None
        row = {"step": entry["step"], "epoch": round(entry["step"] / self.setup.schedule.steps_per_epoch, 4)}
        return row | {key.replace("eval_", "val_"): value for key, value in entry.items() if key not in row}


@dataclass(frozen=True, eq=False)
class Validation:
    """The model's logits and strengths (clips, tasks) for the validation clips, and the mean loss."""

    clips: ClipSet
    logits: NDArray[np.float32]
    strength: NDArray[np.float32]
    loss: float

    @classmethod
    def gathered(cls, clips: ClipSet, shares: Sequence[Any]) -> Validation:
        """Join (clip indices, logits, strength, losses) of the batches of all processes."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, shares)
            shares = [share for part in parts for share in part]
        index, logits, strength, loss = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        order = np.argsort(index, kind="stable")
        return cls(clips, logits[order], strength[order], float(loss.mean()))

    def figures(self) -> dict[str, float]:
        """score, loss, auroc_TASK and strength_error_TASK (mean absolute error of log2(1 + strength)).

        The score is the mean AUROC over the tasks, or minus the loss if no task has both classes.
        """
        found: dict[str, float] = {"loss": self.loss}
        for column, task in enumerate(self.clips.tasks):
            known = np.isfinite(self.clips.labels[:, column])
            area = metrics.auroc(self.clips.labels[known, column], self.logits[known, column])
            if area is not None:
                found[f"auroc_{task}"] = area
            error = np.abs(self.strength[:, column] - self.clips.strength[:, column])
            if np.isfinite(error).any():
                found[f"strength_error_{task}"] = float(np.nanmean(error))
        areas = [value for key, value in found.items() if key.startswith("auroc_")]
        score = float(np.mean(areas)) - _TIE_BREAK * self.loss if areas else -self.loss
        return {"score": score, **found}


class _Reporter(TrainerCallback):
    """Reports progress, keeps history.csv up to date, and stops the training at a loss that is not finite."""

    def __init__(self, trainer: ViewTrainer) -> None:
        self.trainer = trainer
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not args.eval_on_start:  # else after the first validation
            self._begin(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:
            self._begin(state)

    def _begin(self, state: Any) -> None:
        self.trainer.progress.stage("training", state.max_steps)
        if state.global_step:  # resumed
            run = self.trainer.setup.run.path
            self.trainer.progress.say(f"{run}: goes on from step {state.global_step:,} of {state.max_steps:,}")
            self.trainer.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.progress.advance(state.global_step, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        row = self.trainer.row({**(logs or {}), "step": state.global_step})
        if row is None:
            return
        if not math.isfinite(row.get("loss", 0.0)):
            hint = "Lower --lr, or train with --precision fp32."
            raise ModelError(f"the loss is {row['loss']} at step {state.global_step}", hint=hint)
        if "val_score" in row:
            self.trainer.progress.say(f"step {state.global_step:,}: validation {_in_words(row)}")
        else:
            self.note = _in_short(row)
            self.trainer.progress.advance(state.global_step, self.note)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            write_history(self.trainer.setup.run.path / HISTORY, self.trainer.history)


def _in_short(row: dict[str, float]) -> str:
    """`loss 0.132 · lr 5.0e-05`, which leaves room for the rest of a progress in 80 columns."""
    return f"loss {row['loss']:.3g} · lr {row['learning_rate']:.1e}"


def _in_words(row: dict[str, float]) -> str:
    """`loss 0.21, AUROC 0.93`, with the task if there are several; of many only the AUROC, rounded, after its mean."""
    areas = {key.removeprefix("val_auroc_"): value for key, value in row.items() if key.startswith("val_auroc_")}
    many = len(areas) > _MANY
    shown = []
    for key, value in row.items():
        if key in ("step", "epoch", "val_score") or (many and key.startswith(("val_auroc_", "val_strength_error_"))):
            continue
        name = key.removesuffix(f"_{next(iter(areas))}") if len(areas) == 1 else key
        name = name.removeprefix("val_").replace("auroc", "AUROC")
        shown.append(f"{name.replace('_', ' ')} {value:.4g}")
    if many:
        each = ", ".join(f"{task.replace('_', ' ')} {value:.2f}" for task, value in areas.items())
        shown.append(f"AUROC {np.mean(list(areas.values())):.4g} ({each})")
    return ", ".join(shown)
