"""Model directories: config.json, model.safetensors, model.onnx and a model card; written whole, read strictly."""

from __future__ import annotations

import glob
import json
import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import VivitConfig

from grainscan.errors import ModelError
from grainscan.files import write_text
from grainscan.model.export import export_onnx
from grainscan.model.spec import BLOCK, CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE, read_spec
from grainscan.model.vivit import GrainscanViViT, count_parameters

CARD_FILE = "README.md"


def save(
    model: GrainscanViViT, directory: Path, *, card: str | None = None, onnx: bool = True, half: bool = False
) -> None:
    """Write a model directory, complete or not at all.

    `half` rounds the model's parameters to 16-bit floats; both files then store them as such. What it has measured of
    its material (buffers) stays exact. Raises ModelError if the exported model does not agree with torch.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*.tmp"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        _write_config(model, temporary)
        weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        if half:
            learnt = {key for key, _ in model.named_parameters()}
            weights = {key: value.half() if key in learnt else value for key, value in weights.items()}
            model.load_state_dict(weights)
        save_file(weights, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        (temporary / WEIGHTS_FILE).chmod(0o644)  # safetensors writes files that only their owner may read
        if onnx:
            export_onnx(model, temporary / ONNX_FILE)
        (temporary / CARD_FILE).write_text(card or model_card(model), encoding="utf-8")
        _replace_directory(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_config(model: GrainscanViViT, directory: Path) -> None:
    """Write config.json: the VivitConfig with the block `grainscan`."""
    tasks = model.spec.tasks
    values = model.config.to_dict() | {
        "architectures": [type(model).__name__],
        "dtype": "float32",
        "id2label": dict(enumerate(tasks)),
        "label2id": {task: index for index, task in enumerate(tasks)},
        "problem_type": "multi_label_classification",  # else transformers treats a single label as a regression
        BLOCK: model.spec.to_dict(),
    }
    values.pop("_name_or_path", None)
    write_text(directory / CONFIG_FILE, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _replace_directory(new: Path, old: Path) -> None:
    """Rename `new` to `old`, which moves aside first: a non-empty directory cannot be replaced in one step."""
    aside = old.with_name(f".{old.name}.{os.getpid()}.old")
    try:
        if old.exists():
            old.rename(aside)
        new.rename(old)
    finally:
        if aside.exists() and not old.exists():
            aside.rename(old)
        shutil.rmtree(aside, ignore_errors=True)


def load(directory: Path, *, attention: str = "sdpa") -> GrainscanViViT:
    """Read a model directory. Raises ModelError if it is incomplete or its weights do not fit its configuration."""
    spec = read_spec(directory)
    hint = "The directory is damaged: copy it again, or train again."
    try:
        values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        values.pop(BLOCK)
        model = GrainscanViViT(VivitConfig(**values), spec, attention=attention)
        state = load_file(directory / WEIGHTS_FILE)
    except Exception as error:  # safetensors and the strict configuration raise types of their own
        raise ModelError(f"{directory}: cannot be loaded: {error}", hint=hint) from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{directory}: {WEIGHTS_FILE} does not fit {CONFIG_FILE}: {reason}", hint=hint) from None
    return model.eval()


def model_card(model: GrainscanViViT, body: str = "") -> str:
    """README.md of a model directory: front matter for the Hugging Face hub, a description, and `body`."""
    spec, config = model.spec, model.config
    tubelet = "x".join(map(str, config.tubelet_size))
    units = {task: f", strength in {unit}" for task, unit in spec.strength.items()}
    formulas = dict.fromkeys(spec.measured, ", by a formula, beside the network")
    tasks = "\n".join(f"- `{task}`{formulas.get(task, units.get(task, ''))}" for task in spec.judged)
    statistics = f", and `statistics` (n, {spec.statistics}) of the whole picture" if spec.statistics else ""
    return f"""---
library_name: grainscan
pipeline_tag: video-classification
tags: [grainscan, vivit, video-quality]
---

# {spec.name}

A ViViT ({count_parameters(model) / 1e6:.1f} M parameters, {config.num_hidden_layers} layers of {config.hidden_size}, \
tubelets of {tubelet}, tokens pooled by `{spec.pooling}`) with one adapter per task: a small trained layer with its \
own probability and strength.
It judges views, crops of {spec.view.size}x{spec.view.size} pixels at native resolution from \
{spec.view.frames} consecutive frames.

Tasks:

{tasks}

```sh
grainscan predict VIDEO... --model DIRECTORY
```

`model.onnx` maps `views` (n, {spec.view.frames}, 3, {spec.view.size}, {spec.view.size}), RGB in [0, 1]{statistics}, \
to `logits` and `strength` (n, {len(spec.tasks)}), the strength as log2(1 + strength).
A video's probability is sigmoid(a * logit + b), where logit is the mean over the views that decide; a, b, the \
fraction of the views and the thresholds are in `config.json`.
{body}"""
