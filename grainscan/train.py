"""Fine-tuning: Hugging Face Trainer underneath, with our own data order, loss, validation and ending.

`train(config)` reads labelled clips, decodes them once into the cache, trains, keeps the weights of the best validation
AUROC, and leaves a run directory: `model/` (what every other command takes), `config.toml`, `history.csv`,
`metrics.json`, `curves.png`, `README.md` and `checkpoints/`. Several processes: `torchrun --nproc-per-node N -m
grainscan train ...`; `--batch-size` counts views a process, and the gradients are those of one with the whole batch.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from grainscan import metrics, runs
from grainscan.cache import ClipCache, default_directory
from grainscan.config import TrainConfig, to_toml
from grainscan.dataset import ClipSet, TrainingViews, ValidationViews, as_is, read_clips
from grainscan.errors import ConfigError, DataError, GrainscanError, ModelError, UsageError, VideoError
from grainscan.labels import LABELS_FILE, find_split
from grainscan.losses import Objective, alpha_from_counts
from grainscan.model import GrainscanViViT, build, count_parameters, model_card, quiet_transformers, save, whiten

log = logging.getLogger(__name__)

STRENGTH_UNITS = {"graininess": "8-bit luma codes (standard deviation)"}
_WHITENING_VIEWS = 2048
_LOGGED_ROWS = 400  # of a run's history, about


class Progress:
    """What happens during a training, for whoever wants to show it. Every method may be overridden; none has to be."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` clips are in the cache."""

    def begin(self, setup: Setup) -> None:
        """Training starts."""

    def step(self, step: int, total: int) -> None:
        """An optimiser step was made."""

    def row(self, row: dict[str, float]) -> None:
        """Figures for history.csv: loss and learning rate, or validation (keys starting with `val_`)."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True)
class Run:
    """A finished training."""

    name: str
    directory: Path
    model: Path  # model directory
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    seconds: float


@dataclass(frozen=True, eq=False)
class Setup:
    """A training about to start: everything that the configuration and the data resolve to."""

    config: TrainConfig
    name: str
    directory: Path
    precision: str  # fp32, fp16, bf16
    arguments: TrainingArguments
    model: GrainscanViViT
    training: ClipSet
    validation: ClipSet | None
    cache: ClipCache
    objective: Objective
    steps: int
    steps_per_epoch: float
    eval_every: int
    log_every: int
    resume: Path | None
    left_out: tuple[str, ...] = field(default=())  # clips that cannot be decoded

    @property
    def views_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulate * world_size()

    @property
    def main(self) -> bool:
        return self.arguments.process_index == 0


def train(config: TrainConfig, *, progress: Progress | None = None) -> Run:
    """Train and write the run directory. Raises ConfigError, LabelsError, DataError, ModelError, VideoError.

    `config.dry_run` is the caller's business: `plan.plan(config)` says what would be done.
    """
    progress = progress or Progress()
    begun = time.monotonic()
    with quiet_transformers(), _quiet_trainer():
        setup = prepare(config, progress)
        trainer = GrainTrainer(setup, progress)
        progress.begin(setup)
        trainer.train(resume_from_checkpoint=None if setup.resume is None else str(setup.resume))
        return finish(trainer, time.monotonic() - begun)


# --------------------------------------------------------------------------------------------------- preparation


def prepare(config: TrainConfig, progress: Progress) -> Setup:
    """Resolve a configuration: read the labels, build the model, fill the cache, count the steps."""
    train_folder, val_folder = split_folders(config.data)
    tasks = tuple(task.strip() for task in config.tasks.split(",")) if config.tasks else None
    training = read_clips(train_folder, tasks)
    validation = read_clips(val_folder, _known_tasks(val_folder, training.tasks)) if val_folder else None
    validation = _with_tasks(validation, training.tasks) if validation else None
    name, directory, resume = run_directory(config)
    torch.manual_seed(config.seed)
    model = build(
        config.model,
        tasks=training.tasks,
        frames=config.frames,
        size=config.size,
        pooling=config.pooling,
        scratch=config.scratch,
        attention=config.attention,
        seed=config.seed,
    )
    cache = ClipCache(
        default_directory() if config.cache else None, model.spec.view, limit=config.cache_gb * 1e9
    )
    directory.mkdir(parents=True, exist_ok=True)
    precision = choose_precision(config)
    steps, per_epoch = count_steps(config, len(training))
    eval_every = min(config.eval_every or math.ceil(per_epoch), steps)
    log_every = log_interval(eval_every, steps)
    arguments = _arguments(config, directory, precision, steps, eval_every, log_every, validation is not None)
    left_out: list[str] = []
    training = _decodable(training, cache, left_out, progress)
    validation = _decodable(validation, cache, left_out, progress) if validation else None
    _units(model, training)
    if config.scratch and resume is None:
        whiten(model, _clean_views(training, cache, config.seed), reference=config.reference, seed=config.seed)
    tune(model, config.tune, config.lora)
    if config.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if config.compile:
        model.compile()
    return Setup(
        config=config,
        name=name,
        directory=directory,
        precision=precision,
        arguments=arguments,
        model=model,
        training=training,
        validation=validation,
        cache=cache,
        objective=objective(config, training),
        steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=eval_every,
        log_every=log_every,
        resume=resume,
        left_out=tuple(left_out),
    )


def split_folders(data: Path) -> tuple[Path, Path | None]:
    """The folders with the labels to train on and to validate with (None where there are none)."""
    if (data / "train" / LABELS_FILE).is_file():
        val = data / "val"
        return data / "train", val if (val / LABELS_FILE).is_file() else None
    return find_split(data), None


def _known_tasks(folder: Path, tasks: tuple[str, ...]) -> tuple[str, ...] | None:
    from grainscan.labels import read_labels

    found = read_labels(folder).tasks
    return tuple(task for task in tasks if task in found) or None


def _with_tasks(clips: ClipSet, tasks: tuple[str, ...]) -> ClipSet:
    """The same clips with a column for each of `tasks`; what is not labelled is unknown."""
    labels = np.full((len(clips), len(tasks)), np.nan, dtype=np.float32)
    strength = labels.copy()
    for column, task in enumerate(tasks):
        if task in clips.tasks:
            labels[:, column] = clips.labels[:, clips.tasks.index(task)]
            strength[:, column] = clips.strength[:, clips.tasks.index(task)]
    return replace(clips, tasks=tasks, labels=labels, strength=strength)


def world_size() -> int:
    """Processes of this training, as torchrun tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_steps(config: TrainConfig, clips: int) -> tuple[int, float]:
    """(optimiser steps, steps an epoch). An epoch shows every clip `views_per_clip` times."""
    per_epoch = clips * config.views_per_clip / (config.batch_size * config.accumulate * world_size())
    return config.max_steps or max(1, math.ceil(config.epochs * per_epoch)), per_epoch


def log_interval(eval_every: int, steps: int) -> int:
    """Steps between rows of the history: divides the validation interval, so that no average spans a checkpoint."""
    wanted = max(1, min(eval_every, steps // _LOGGED_ROWS))
    return max(divisor for divisor in range(1, wanted + 1) if eval_every % divisor == 0)


def run_directory(config: TrainConfig) -> tuple[str, Path, Path | None]:
    """(name, directory, checkpoint to resume from). Raises ConfigError for a run that is there already."""
    name = config.name
    if config.resume and config.resume != "auto":
        checkpoint = Path(config.resume)
        if not (checkpoint / "trainer_state.json").is_file():
            raise ConfigError(
                f"--resume {checkpoint}: not a checkpoint", hint="Pass runs/NAME/checkpoints/checkpoint-N, or auto."
            )
        directory = checkpoint.absolute().parent.parent
        return directory.name, directory, checkpoint
    if config.resume == "auto":
        last = runs.last_run()
        directory = config.runs / name if name else last.directory if last else None
        if directory is None:
            raise ConfigError("--resume auto: nothing was trained here", hint="Name the run with --name NAME.")
        return directory.name, directory, last_checkpoint(directory)
    name = name or f"{Path(config.model).name}-{datetime.now():%Y%m%d-%H%M%S}"
    directory = config.runs / name
    if name in (".", "..") or Path(name).name != name:
        raise ConfigError(f"--name {name}: not a plain name", hint="It becomes a folder below --runs.")
    if directory.exists() and any(directory.iterdir()) and int(os.environ.get("RANK", "0")) == 0:
        raise ConfigError(f"{directory}: this run exists", hint="Choose another --name, or go on with --resume auto.")
    return name, directory, None


def last_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = (directory / runs.CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
    return max((path.parent for path in found), key=lambda path: int(path.name.split("-")[1]), default=None)


def choose_precision(config: TrainConfig) -> str:
    """fp32, fp16 or bf16. `auto`: on a GPU bf16 where it has it, else fp16; on a CPU bf16 where it is faster.

    Raises ConfigError for fp16 on a CPU, which has no loss scaling there.
    """
    cuda = uses_cuda(config)
    if config.precision == "auto":
        if cuda:
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if bf16_is_fast() else "fp32"
    if config.precision == "fp16" and not cuda:
        raise ConfigError("--precision fp16 needs a GPU", hint="Use auto, fp32 or bf16 on a CPU.")
    return config.precision


def uses_cuda(config: TrainConfig) -> bool:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no GPU here", hint="Use --device cpu, or auto.")
    return config.device != "cpu" and torch.cuda.is_available()


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bf16 matrices faster than fp32 ones. Those without the instructions take ten
    times longer, so a few milliseconds of trying are worth more than a list of processors."""
    a, b = torch.ones(1024, 256), torch.ones(256, 256)

    def seconds(x: torch.Tensor, y: torch.Tensor) -> float:
        best = math.inf
        for _ in range(4):
            begun = time.perf_counter()
            x @ y
            best = min(best, time.perf_counter() - begun)
        return best

    return seconds(a.bfloat16(), b.bfloat16()) < 0.8 * seconds(a, b)


def objective(config: TrainConfig, clips: ClipSet) -> Objective:
    """The loss of a run; focal alpha comes from the clips' counts, evened out where sampling is already balanced."""
    alpha: tuple[float, ...] | None = None
    if config.focal_alpha == "auto":
        alpha = (0.5,) * len(clips.tasks) if config.balanced else alpha_from_counts(clips.counts())
    elif config.focal_alpha != "none":
        alpha = (float(config.focal_alpha),) * len(clips.tasks)
    return Objective(
        kind=config.loss,
        gamma=config.focal_gamma,
        alpha=alpha,
        task_weight=task_weights(config.task_weights, clips.tasks),
        strength_weight=config.strength_weight,
        tasks=clips.tasks,
    )


def task_weights(text: str | None, tasks: tuple[str, ...]) -> tuple[float, ...] | None:
    """`graininess=1,banding=0.5` as a weight for each task (default 1). Raises ConfigError."""
    if text is None:
        return None
    weights = dict.fromkeys(tasks, 1.0)
    for part in text.split(","):
        task, _, value = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if task not in weights or not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(
                f"--task-weights {part.strip()!r}", hint=f"Write TASK=NUMBER; tasks: {', '.join(tasks)}."
            )
        weights[task] = weight
    return tuple(weights.values())


def _units(model: GrainscanViViT, clips: ClipSet) -> None:
    """Tasks whose strengths the manifest knows get a unit, and with it a strength in every result."""
    units = dict(model.spec.strength)
    for column, task in enumerate(clips.tasks):
        if np.isfinite(clips.strength[:, column]).any():
            units.setdefault(task, STRENGTH_UNITS.get(task, "as in the training data"))
    model.spec = model.spec.with_(strength={task: units[task] for task in clips.tasks if task in units})


def _decodable(clips: ClipSet, cache: ClipCache, left_out: list[str], progress: Progress) -> ClipSet:
    """Decode every clip into the cache; those that cannot be decoded are left out, with a warning each."""
    if cache.directory is None:
        return clips

    def fill(index: int) -> GrainscanError | None:
        try:
            cache.fill(clips.path(index))
        except VideoError as error:
            return error
        return None

    keep = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, error in enumerate(pool.map(fill, range(len(clips)))):
            if error is None:
                keep.append(index)
            else:
                log.warning("left out: %s", error.message)
                left_out.append(clips.names[index])
            progress.decoding(index + 1, len(clips))
    if not keep:
        raise DataError(f"{clips.folder}: no clip can be decoded", hint="Check one of them with `grainscan predict`.")
    return clips.subset(keep) if len(keep) < len(clips) else clips


def _clean_views(clips: ClipSet, cache: ClipCache, seed: int) -> Iterator[torch.Tensor]:
    """Batches of views without any of the artifacts."""
    clean = clips.subset(np.flatnonzero(np.nansum(clips.labels, axis=1) == 0).tolist())
    if not len(clean):
        raise DataError("no clean clips to start from", hint="--scratch needs clips whose labels are all 0.")
    views = TrainingViews(clean, cache, draws=_WHITENING_VIEWS, seed=seed, augment=False)
    for start in range(0, _WHITENING_VIEWS, 64):
        yield views.__getitems__(range(start, start + 64))["views"]


# -------------------------------------------------------------------------------------------- what is trained


def tune(model: GrainscanViViT, scope: str, lora: int = 0) -> None:
    """Choose the trainable parameters: full, adapters, head (logits and strengths), last-N (layers) and adapters.

    With `lora` the backbone's attention and MLP get low-rank updates of that rank, and `scope` full means those
    alone beside the adapters. Raises ConfigError for more layers than there are, DependencyError without PEFT.
    """
    layers = model.backbone.layers
    model.requires_grad_(scope == "full" and not lora)
    for adapter in model.adapters:
        adapter.requires_grad_(scope != "head")
        for head in (adapter.logit, adapter.strength):
            head.requires_grad_(True)
    if scope.startswith("last-"):
        count = int(scope.removeprefix("last-"))
        if count > len(layers):
            raise ConfigError(
                f"--tune {scope}: the model has {len(layers)} layers", hint=f"Use last-1 to last-{len(layers)}."
            )
        for module in (*layers[len(layers) - count :], model.backbone.layernorm):
            module.requires_grad_(True)
    if lora:
        add_lora(model, lora)


LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


def add_lora(model: GrainscanViViT, rank: int) -> None:
    """Low-rank updates (Hu et al. 2021) of every attention and MLP matrix. DependencyError without PEFT."""
    from grainscan.errors import DependencyError

    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise DependencyError("--lora needs PEFT", hint="Install it with: pip install 'grainscan[lora]'") from None
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS)), model.backbone
    )
    for name, parameter in model.named_parameters():  # PEFT froze the backbone, whatever was chosen before
        parameter.requires_grad_("lora_" in name or frozen.get(name.replace(".base_layer", ""), False))


def merge_lora(model: GrainscanViViT) -> None:
    """Add the updates to the matrices and put the plain layers back."""
    for module in list(model.backbone.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "get_base_layer") and hasattr(child, "merge"):
                child.merge()
                setattr(module, name, child.get_base_layer())
    model.requires_grad_(True)


def decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices: not for biases, norms, the class token or position embeddings."""
    return parameter.ndim >= 2 and not name.endswith(("cls_token", "position_embeddings"))


# ----------------------------------------------------------------------------------------------------- the loop


def _arguments(
    config: TrainConfig,
    directory: Path,
    precision: str,
    steps: int,
    eval_every: int,
    log_every: int,
    validated: bool,
) -> TrainingArguments:
    cpu = not uses_cuda(config)
    schedule = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    return TrainingArguments(
        output_dir=str(directory / runs.CHECKPOINTS),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulate,
        max_steps=steps,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup * steps),
        lr_scheduler_type=schedule,
        max_grad_norm=config.clip_norm,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=cpu,
        ddp_backend="gloo" if cpu and world_size() > 1 else None,
        ddp_find_unused_parameters=False,
        seed=config.seed,
        optim="adamw_torch",
        logging_strategy="steps",
        logging_steps=log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validated else "no",
        eval_steps=eval_every,
        save_strategy="steps",
        save_steps=eval_every,
        save_total_limit=config.keep,
        load_best_model_at_end=validated,
        metric_for_best_model="eval_score" if validated else None,
        greater_is_better=True if validated else None,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels", "strength"],
        dataloader_num_workers=loader_workers(config),
        dataloader_pin_memory=not cpu,
    )


def loader_workers(config: TrainConfig) -> int:
    """Processes that cut views: on a GPU they keep it fed, on a CPU they would take the training's processors."""
    if config.workers >= 0:
        return config.workers
    return min(8, max(1, (os.cpu_count() or 1) - 1)) if uses_cuda(config) else 0


class GrainTrainer(Trainer):
    """Trainer with our draws, our loss and validation by clips."""

    # Our loss is a plain mean over the views of a micro-batch; Trainer has to divide it by their number.
    loss_is_scaled_for_ga = False

    def __init__(self, setup: Setup, progress: Progress) -> None:
        self.setup = setup
        self.progress = progress
        clips, config = setup.training, setup.config
        data = TrainingViews(
            clips,
            setup.cache,
            draws=setup.steps * setup.views_per_step,
            seed=config.seed,
            balanced=config.balanced,
            augment=config.augment,
        )
        callbacks: list[TrainerCallback] = [_Reporter(self, progress)]
        if config.patience and setup.validation is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.patience))
        super().__init__(
            model=setup.model,
            args=setup.arguments,
            train_dataset=data,
            eval_dataset=None if setup.validation is None else ValidationViews(setup.validation, setup.cache),
            data_collator=as_is,
            callbacks=callbacks,
        )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader = self._loader(self.train_dataset, self.args.per_device_train_batch_size)
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def _loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        workers = self.args.dataloader_num_workers
        return DataLoader(
            data,
            batch_size=batch_size,
            sampler=SequentialSampler(data),
            collate_fn=as_is,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=4 if workers else None,
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
        """Figures of the validation clips, `eval_score` (mean AUROC of the tasks, or minus the loss) among them."""
        figures = {f"eval_{key}": value for key, value in self.validate().figures().items()}
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    @torch.no_grad()
    def validate(self) -> Validation:
        """Judge every validation clip: the mean over its views. Each process takes its share of the clips."""
        assert self.setup.validation is not None and self.eval_dataset is not None
        clips, data = self.setup.validation, cast(ValidationViews, self.eval_dataset)
        mine = torch.utils.data.Subset(data, range(self.args.process_index, len(clips), self.args.world_size))
        training = self.model.training
        self.model.eval()
        results = []
        for batch in self._loader(mine, max(1, 32 // data.count)):
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                outputs = self.model(inputs["views"])
            loss = self.setup.objective(outputs.logits, outputs.strength, inputs["labels"], inputs["strength"])
            shape = (-1, data.count, len(clips.tasks))
            results.append(
                (
                    batch["clip"].view(-1, data.count)[:, 0].cpu().numpy(),
                    outputs.logits.float().view(shape).mean(dim=1).cpu().numpy(),
                    outputs.strength.float().view(shape).mean(dim=1).cpu().numpy(),
                    np.full(len(batch["clip"]) // data.count, loss.item()),
                )
            )
        self.model.train(training)
        return Validation.gathered(clips, results)

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows of history.csv, those before a resumption included."""
        return [row for row in (history_row(entry, self.setup) for entry in self.state.log_history) if row]


@dataclass(frozen=True, eq=False)
class Validation:
    """What the model says of the validation clips: logits and strength (clips, tasks), loss of each clip's batch."""

    clips: ClipSet
    logits: NDArray[np.float32]
    strength: NDArray[np.float32]
    loss: float

    @classmethod
    def gathered(cls, clips: ClipSet, results: list[Any]) -> Validation:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, results)
            results = [result for share in shares for result in share]
        index, logits, strength, loss = (np.concatenate(parts) for parts in zip(*results, strict=True))
        order = np.argsort(index, kind="stable")
        return cls(clips, logits[order], strength[order], float(loss.mean()))

    def known(self, column: int) -> NDArray[np.bool_]:
        return np.isfinite(self.clips.labels[:, column])

    def figures(self) -> dict[str, float]:
        """loss, auroc_TASK, strength_error_TASK (mean absolute, in log2 steps), and the score that picks the best."""
        found: dict[str, float] = {"loss": self.loss}
        for column, task in enumerate(self.clips.tasks):
            known = self.known(column)
            area = metrics.auroc(self.clips.labels[known, column], self.logits[known, column]) if known.any() else None
            if area is not None:
                found[f"auroc_{task}"] = area
            error = np.abs(self.strength[:, column] - self.clips.strength[:, column])
            if np.isfinite(error).any():
                found[f"strength_error_{task}"] = float(np.nanmean(error))
        areas = [value for key, value in found.items() if key.startswith("auroc_")]
        return {"score": float(np.mean(areas)) if areas else -self.loss, **found}

    def calibration(self) -> dict[str, tuple[float, float]]:
        """Platt scaling of each task on the clips."""
        fits = {}
        for column, task in enumerate(self.clips.tasks):
            known = self.known(column)
            if len(np.unique(self.clips.labels[known, column])) == 2:
                fits[task] = metrics.fit_platt(self.clips.labels[known, column], self.logits[known, column])
        return fits


def history_row(entry: dict[str, float], setup: Setup) -> dict[str, float] | None:
    """A row of history.csv from an entry of Trainer's log; None for its closing summary."""
    if not any(key in entry for key in ("loss", "eval_loss")):
        return None
    row = {"step": entry["step"], "epoch": round(entry["step"] / setup.steps_per_epoch, 4)}
    row |= {
        key.replace("eval_", "val_"): value for key, value in entry.items() if key not in ("step", "epoch")
    }
    return row


class _Reporter(TrainerCallback):
    """Tells progress what happens, keeps history.csv and TensorBoard up to date, and stops at a loss of NaN."""

    def __init__(self, trainer: GrainTrainer, progress: Progress) -> None:
        self.trainer = trainer
        self.progress = progress
        self.board: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.setup.config.tensorboard and state.is_world_process_zero:
            self.board = tensorboard_writer(self.trainer.setup.directory)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.step(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        row = history_row({**(logs or {}), "step": state.global_step}, self.trainer.setup)
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


def tensorboard_writer(directory: Path) -> Any:
    from grainscan.errors import DependencyError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise DependencyError(
            "--tensorboard needs TensorBoard", hint="Install it with: pip install 'grainscan[tensorboard]'"
        ) from None
    return SummaryWriter(str(directory / "tensorboard"))


# ------------------------------------------------------------------------------------------------------- the end


def finish(trainer: GrainTrainer, seconds: float) -> Run:
    """Calibrate the best weights on the validation clips and write everything that a run leaves behind."""
    setup = trainer.setup
    model, config = setup.model, setup.config
    validation = None if setup.validation is None else trainer.validate()
    directory = setup.directory
    figures: dict[str, Any] = {"steps": trainer.state.global_step, "seconds": round(seconds, 1)}
    history = trainer.history
    if setup.main:
        model.cpu()
        merge_lora(model)
        if validation is not None:
            figures["validation"] = validation.figures()
            best = trainer.state.best_global_step
            figures["best_step"] = best
            model.spec = model.spec.with_(calibration=validation.calibration())
        model.spec = model.spec.with_(name=setup.name, provenance=provenance(setup, figures))
        save(model, directory / runs.MODEL_FOLDER, card=model_card(model))
        runs.write_text(directory / runs.CONFIG_NAME, to_toml(config, command="train"))
        runs.write_history(directory / runs.HISTORY_FILE, history)
        runs.write_json(directory / runs.METRICS_FILE, figures)
        runs.draw_curves(directory / runs.CURVES_FILE, history, model.spec.tasks)
        runs.remember_run(directory, config.data)
    return Run(setup.name, directory, directory / runs.MODEL_FOLDER, figures, history, seconds)


def provenance(setup: Setup, figures: dict[str, Any]) -> dict[str, Any]:
    """Where a model comes from, without anything about the machine or its paths."""
    from importlib.metadata import version

    from grainscan import __version__

    return {
        "grainscan": __version__,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "base": Path(setup.config.model).name,
        "data": setup.config.data.resolve().name,
        "clips": len(setup.training),
        "sources": len(set(setup.training.sources)),
        "steps": figures["steps"],
        "views": figures["steps"] * setup.views_per_step,
        "precision": setup.precision,
        "seed": setup.config.seed,
    }


@contextlib.contextmanager
def _quiet_trainer() -> Iterator[None]:
    """Notices of libraries that concern their developers."""
    names = ("accelerate", "torch.distributed", "peft")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


__all__ = ["Progress", "Run", "Setup", "count_parameters", "finish", "prepare", "train"]
