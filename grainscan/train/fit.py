"""Fine-tuning from labelled clips to a run folder.

`train(config)` reads the labels, decodes the clips into the cache, trains (`trainer`), keeps the weights with the best
validation AUROC, be they those of the start, and writes the files that `grainscan.train.run` lists. With several
processes (`torchrun --nproc-per-node N -m grainscan train ...`), `--batch-size` counts views per process, and the
gradients are those of one process with the whole batch.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainscan.console import Progress
from grainscan.data.cache import CACHE_VARIABLE, RESERVE
from grainscan.data.dataset import ClipSet, TrainingViews
from grainscan.errors import DataError, UnfitDataError
from grainscan.evaluate.calibrate import calibrate, write_spec
from grainscan.files import remove_unfinished, write_json, write_text
from grainscan.model.last_run import MODEL_FOLDER, remember_run
from grainscan.model.store import model_card, save
from grainscan.model.vivit import GrainscanViViT
from grainscan.options import TrainConfig, to_toml
from grainscan.train.card import card_body
from grainscan.train.curves import draw_curves
from grainscan.train.finetune import whiten
from grainscan.train.plan import Plan, describe
from grainscan.train.run import CARD, CONFIG, CURVES, HISTORY, METRICS, Run, is_main, world_size, write_history
from grainscan.train.setup import Setup, prepare, quiet_libraries
from grainscan.train.trainer import Outcome, ViewTrainer

log = logging.getLogger(__name__)

_WHITENING_VIEWS = 2048


def train(config: TrainConfig, *, progress: Progress | None = None) -> Run:
    """Train and write the run folder. Raises ConfigError, LabelsError, DataError, ModelError, VideoError.

    The stages: decoding, validating (the starting model), training, exporting, calibrating, writing the card.
    `plan(config)` describes the training beforehand.
    """
    progress = progress or Progress()
    begun = time.monotonic()
    with quiet_libraries():
        setup = prepare(config)
        if is_main():
            setup.run.path.mkdir(parents=True, exist_ok=True)
            remove_unfinished(setup.run.path.rglob("*"))
            write_text(setup.run.path / CONFIG, to_toml(setup.config, command="train"))
        setup = _decoded(setup, progress)
        if config.scratch and setup.run.checkpoint is None:
            whiten(setup.model, _clean_views(setup), reference=config.reference, seed=config.seed)
        if config.compile:
            setup.model.compile()
        plan = describe(setup)
        for line in plan.lines():
            progress.say(line)
        trainer = ViewTrainer(setup, progress)
        outcome = trainer.run()
        metrics = _metrics(plan, outcome, trainer.state.global_step, setup.validation)
        if is_main():
            _write(setup, plan, metrics, trainer.history, progress)
        seconds = time.monotonic() - begun
        metrics["seconds"] = round(seconds, 1)
        if is_main():
            write_json(setup.run.path / METRICS, metrics)
    return Run(setup.run.path.name, setup.run.path, setup.run.path / MODEL_FOLDER, metrics, trainer.history, seconds)


def _decoded(setup: Setup, progress: Progress) -> Setup:
    """Decode every clip into the cache; those that cannot be decoded are left out, each with a warning.

    Even without a cache every clip is decoded once, in an isolated process: none can crash the training later.
    """
    left_out: list[str] = []
    training = _decodable(setup.training, setup, left_out, progress)
    validation = None if setup.validation is None else _decodable(setup.validation, setup, left_out, progress)
    if setup.cache.full:
        log.warning(
            "%s: no room for all decoded clips (limit %.0f GB, and %.0f GB of the disk stay free): "
            "the rest is decoded each time, which is slower. "
            "Set %s to a folder on a larger disk, or raise --cache-gb.",
            setup.cache.directory,
            setup.cache.limit / 1e9,
            RESERVE / 1e9,
            CACHE_VARIABLE,
        )
    schedule = replace(setup.schedule, clips=len(training))
    return replace(setup, training=training, validation=validation, left_out=tuple(left_out), schedule=schedule)


def _decodable(clips: ClipSet, setup: Setup, left_out: list[str], progress: Progress) -> ClipSet:
    # Each process of a training starts at another clip, so that they do not decode the same ones at the same time.
    first = len(clips) * int(os.environ.get("RANK", "0")) // world_size()
    index = {clips.path(i): i for i in [*range(first, len(clips)), *range(first)]}
    unread = {}
    progress.stage("decoding", len(clips))
    for done, (path, error) in enumerate(setup.cache.fill(index, workers=setup.machine.decoders), start=1):
        if error is not None:
            unread[index[path]] = error
            log.warning("left out: %s", error.message)
        progress.advance(done)
    if len(unread) == len(clips):
        raise DataError(f"{clips.folder}: no clip can be decoded", hint=next(iter(unread.values())).message)
    left_out += [clips.names[i] for i in sorted(unread)]
    return clips.subset([i for i in range(len(clips)) if i not in unread]) if unread else clips


def _clean_views(setup: Setup) -> Iterator[torch.Tensor]:
    """Yield batches of views without any of the artifacts."""
    clips = setup.training
    clean = np.flatnonzero((clips.labels == 0).any(axis=1) & ~(clips.labels == 1).any(axis=1))
    if not len(clean):
        raise UnfitDataError(f"{clips.folder}: no clean clips", hint="--scratch needs clips whose labels are all 0.")
    clean_clips = clips.subset(clean.tolist())
    views = TrainingViews(clean_clips, setup.cache, draws=_WHITENING_VIEWS, seed=setup.config.seed, augment=False)
    for start in range(0, _WHITENING_VIEWS, 64):
        yield views.__getitems__(range(start, start + 64))["views"]


def _metrics(plan: Plan, outcome: Outcome, steps: int, validation: ClipSet | None) -> dict[str, Any]:
    """The content of metrics.json; `validation` holds the figures of the weights that were kept."""
    metrics: dict[str, Any] = {
        "steps": steps,
        "views": steps * plan.views_per_step,
        "seconds": 0.0,  # set at the end
        "gflops_per_view": round(plan.flops_per_view / 1e9, 3),
    }
    if validation is not None and outcome.kept is not None:
        metrics["best_step"] = outcome.step
        metrics["validation"] = {"clips": len(validation), **outcome.kept}
        metrics["before"], metrics["after"] = outcome.before, outcome.after
    return metrics


def _write(
    setup: Setup, plan: Plan, metrics: dict[str, Any], history: list[dict[str, float]], progress: Progress
) -> None:
    """Calibrate the weights on the validation clips and write the model, its card, the history and its curves."""
    folder = setup.run.path
    directory = folder / MODEL_FOLDER
    progress.stage("exporting")
    model = _plain(setup)
    config = _without_paths(setup.config)
    origin = _provenance(setup, config, metrics)
    spec = model.spec.with_(name=setup.run.path.name, provenance=origin)
    model.spec = spec.keeping(set(spec.judged).difference(setup.roles.learnt))
    save(model, directory)
    if setup.validation is not None:
        fitted = calibrate(
            directory,
            setup.validation.folder,
            tasks=setup.roles.fitted,
            device=setup.machine.device,
            progress=progress,
        )
        origin["experimental"] += fitted.experimental
        model.spec = fitted.spec.with_(provenance=origin)
        write_spec(directory, model.spec)
        metrics["calibration"] = {
            "clips": fitted.clips,
            "threshold": {task: fitted.spec.threshold_of(task) for task in fitted.clips},
            "auroc": fitted.auroc,
            "f1": fitted.f1,
        }
    progress.stage("writing the card")
    card = model_card(model, card_body(plan, to_toml(config, command="train"), metrics, origin))
    write_text(directory / CARD, card)
    write_history(folder / HISTORY, history)
    draw_curves(folder / CURVES, history, model.spec.tasks, best_step=metrics.get("best_step"))
    write_text(folder / CARD, f"{card}\n![Learning curves]({CURVES})\n")
    remember_run(folder, setup.config.data)


def _plain(setup: Setup) -> GrainscanViViT:
    """The trained weights in a model on the CPU, without low-rank updates, compilation or mixed precision."""
    trained = setup.model.cpu()
    if setup.lora is not None:
        setup.lora.merge_and_unload(progressbar=False)
    model = GrainscanViViT(trained.config, trained.spec)
    model.load_state_dict(trained.state_dict())
    return model.eval()


def _without_paths(config: TrainConfig) -> TrainConfig:
    """The options with names in place of paths, for a card that travels with the model."""
    return replace(
        config,
        data=Path(config.data.resolve().name),
        runs=Path(config.runs.name),
        resume=config.resume and Path(config.resume).name,
        model=Path(config.model).name,
    )


def _provenance(setup: Setup, config: TrainConfig, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a model was made from and with; nothing about the machine or its paths."""
    from grainscan import __version__

    inherited = setup.model.spec.provenance.get("experimental", [])
    untouched = {*setup.roles.kept, *setup.roles.measured}.difference(setup.roles.fitted)
    return {
        "grainscan": __version__,
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
        "base": config.model,
        "scratch": config.scratch,
        "data": str(config.data),
        "seed": config.seed,
        "clips": len(setup.training),
        "sources": len(set(setup.training.sources)),
        "steps": metrics["steps"],
        "views": metrics["views"],
        "precision": setup.machine.precision,
        "learnt": list(setup.roles.learnt),
        "experimental": [task for task in inherited if task in untouched],
    }
