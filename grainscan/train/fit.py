"""Fine-tuning from labelled clips to a run directory.

`train(config)` reads the labels, decodes the clips once into the cache, trains (`trainer`), takes the weights of the
best validation AUROC, and leaves `model/` (what every other command takes), `config.toml`, `history.csv`,
`metrics.json`, `curves.png`, `README.md` and `checkpoints/`. For several processes: `torchrun --nproc-per-node N -m
grainscan train ...`; `--batch-size` counts views a process, and the gradients are those of one with the whole batch.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainscan.data.cache import CACHE_VARIABLE, RESERVE, ClipCache
from grainscan.data.dataset import ClipSet, TrainingViews
from grainscan.errors import DataError
from grainscan.evaluate.calibrate import calibrate
from grainscan.files import write_json, write_text
from grainscan.model.last_run import MODEL_FOLDER, remember_run
from grainscan.model.store import model_card, save
from grainscan.model.vivit import GrainscanViViT
from grainscan.options import TrainConfig, to_toml
from grainscan.train import run as runs
from grainscan.train.estimate import summary, training_flops
from grainscan.train.finetune import merge_lora, whiten
from grainscan.train.run import Progress, Run
from grainscan.train.setup import count_steps, log_interval, prepare, quiet_libraries
from grainscan.train.trainer import GrainTrainer, Setup, Validation, is_main, world_size
from grainscan.workers import processors

log = logging.getLogger(__name__)

_WHITENING_VIEWS = 2048


def train(config: TrainConfig, *, progress: Progress | None = None) -> Run:
    """Train and write the run directory. Raises ConfigError, LabelsError, DataError, ModelError, VideoError.

    `config.dry_run` is the caller's business: `plan(config)` says what would be done, and does nothing.
    """
    progress = progress or Progress()
    begun = time.monotonic()
    with quiet_libraries():
        setup = prepare(config, progress)
        if is_main():
            setup.directory.mkdir(parents=True, exist_ok=True)
            write_text(setup.directory / runs.CONFIG_NAME, to_toml(config, command="train"))
        setup = _decoded(setup, progress)
        if config.scratch and setup.resume is None:
            clean = _clean_views(setup.training, setup.cache, config.seed)
            whiten(setup.model, clean, reference=config.reference, seed=config.seed)
        if config.compile:
            setup.model.compile()
        told = summary(setup)
        progress.begin(told)
        trainer = GrainTrainer(setup, progress)
        trainer.train(resume_from_checkpoint=None if setup.resume is None else str(setup.resume))
        return finish(trainer, told, time.monotonic() - begun)


def _decoded(setup: Setup, progress: Progress) -> Setup:
    """Decode every clip into the cache; what cannot be decoded is left out of the training, with a warning each.

    Without a cache they are decoded once all the same: in isolated processes, where no clip can end the training.
    """
    left_out: list[str] = []
    workers = setup.config.workers
    training = _decodable(setup.training, setup.cache, left_out, progress, workers)
    steps, per_epoch = count_steps(setup.config, len(training))
    eval_every = min(setup.config.eval_every or math.ceil(per_epoch), steps)
    if setup.validation is not None:
        setup = replace(setup, validation=_decodable(setup.validation, setup.cache, left_out, progress, workers))
    if setup.cache.full:
        log.warning(
            "%s: no room for all decoded clips (limit %.0f GB, and %.0f GB of the disk are left free): "
            "the others are decoded each time, which is slower. "
            "Set %s to a folder on a larger disk, or raise --cache-gb.",
            setup.cache.directory,
            setup.cache.limit / 1e9,
            RESERVE / 1e9,
            CACHE_VARIABLE,
        )
    return replace(
        setup,
        training=training,
        steps=steps,
        steps_per_epoch=per_epoch,
        eval_every=eval_every,
        log_every=log_interval(eval_every, steps),
        left_out=tuple(left_out),
    )


def _decodable(clips: ClipSet, cache: ClipCache, left_out: list[str], progress: Progress, workers: int) -> ClipSet:
    # Processes of one training start at different clips, so that they do not decode the same ones at the same time.
    first = len(clips) * int(os.environ.get("RANK", "0")) // world_size()
    index = {clips.path(i): i for i in [*range(first, len(clips)), *range(first)]}
    if workers < 0:  # they share the processors
        workers = -(-processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    unread = {}
    for done, (path, error) in enumerate(cache.fill(index, workers=workers), start=1):
        if error is not None:
            unread[index[path]] = error
            log.warning("left out: %s", error.message)
        progress.decoding(done, len(clips))
    if len(unread) == len(clips):
        raise DataError(f"{clips.folder}: no clip can be decoded", hint=next(iter(unread.values())).message)
    left_out += [clips.names[i] for i in sorted(unread)]
    return clips.subset([i for i in range(len(clips)) if i not in unread]) if unread else clips


def _clean_views(clips: ClipSet, cache: ClipCache, seed: int) -> Iterator[torch.Tensor]:
    """Batches of views without any of the artifacts."""
    clean = np.flatnonzero((clips.labels == 0).any(axis=1) & ~(clips.labels == 1).any(axis=1))
    if not len(clean):
        raise DataError(f"{clips.folder}: no clean clips", hint="--scratch needs clips whose labels are all 0.")
    views = TrainingViews(clips.subset(clean.tolist()), cache, draws=_WHITENING_VIEWS, seed=seed, augment=False)
    for start in range(0, _WHITENING_VIEWS, 64):
        yield views.__getitems__(range(start, start + 64))["views"]


# ------------------------------------------------------------------------------------------------------- the end


def finish(trainer: GrainTrainer, told: dict[str, Any], seconds: float) -> Run:
    """Calibrate the best weights on the validation clips and write everything that a run leaves behind.

    `told` is the summary from before the training: afterwards, low-rank updates are merged and nothing is frozen.
    """
    setup, history = trainer.setup, trainer.history
    validation = None if setup.validation is None else trainer.validate()
    figures = _figures(trainer, validation, seconds)
    directory = setup.directory
    if is_main():
        model = _plain(setup.model)
        model.spec = model.spec.with_(
            name=setup.name, aggregation=1.0, calibration={}, threshold={}, provenance=provenance(setup, figures)
        )
        save(model, directory / MODEL_FOLDER)
        if setup.validation is not None:
            fitted = calibrate(directory / MODEL_FOLDER, setup.validation.folder)
            model.spec = fitted.spec
            figures["calibration"] = {"clips": fitted.clips, "threshold": fitted.spec.threshold}
        shown = {**told, "config": to_toml(public(setup.config), command="train")}
        card = model_card(model, runs.card_body(shown, figures, model.spec.provenance))
        write_text(directory / MODEL_FOLDER / runs.CARD_FILE, card)
        runs.write_history(directory / runs.HISTORY_FILE, history)
        write_json(directory / runs.METRICS_FILE, figures)
        runs.draw_curves(directory / runs.CURVES_FILE, history, model.spec.tasks)
        write_text(directory / runs.CARD_FILE, f"{card}\n![Learning curves]({runs.CURVES_FILE})\n")
        remember_run(directory, setup.config.data)
    return Run(setup.name, directory, directory / MODEL_FOLDER, figures, history, seconds)


def _figures(trainer: GrainTrainer, validation: Validation | None, seconds: float) -> dict[str, Any]:
    setup, steps = trainer.setup, trainer.state.global_step
    figures: dict[str, Any] = {
        "steps": steps,
        "views": steps * setup.views_per_step,
        "seconds": round(seconds, 1),
        "gflops_per_view": round(training_flops(setup.model) / 1e9, 3),
    }
    if validation is not None:
        figures["best_step"] = trainer.state.best_global_step or steps
        figures["validation"] = {"clips": len(validation.clips), **validation.figures()}
    return figures


def _plain(trained: GrainscanViViT) -> GrainscanViViT:
    """The trained weights in a model without low-rank updates, compilation, mixed precision or a device."""
    trained.cpu()
    merge_lora(trained)
    model = GrainscanViViT(trained.config, trained.spec)
    model.load_state_dict(trained.state_dict())
    return model.eval()


def public(config: TrainConfig) -> TrainConfig:
    """The configuration with names in place of paths, for cards that travel with a model."""
    resume = None if config.resume is None else Path(config.resume).name
    plain = replace(config, data=Path(config.data.resolve().name), runs=Path(config.runs.name), resume=resume)
    return replace(plain, model=Path(config.model).name)


def provenance(setup: Setup, figures: dict[str, Any]) -> dict[str, Any]:
    """Where a model comes from, without anything about the machine or its paths."""
    from grainscan import __version__

    return {
        "grainscan": __version__,
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
        "base": Path(setup.config.model).name,
        "scratch": setup.config.scratch,
        "data": setup.config.data.resolve().name,
        "clips": len(setup.training),
        "sources": len(set(setup.training.sources)),
        "steps": figures["steps"],
        "views": figures["views"],
        "precision": setup.precision,
        "seed": setup.config.seed,
    }
