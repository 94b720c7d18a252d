"""labels.json: read, validated as a whole, written atomically.

`read_labels` reads the labels of a folder, or raises one LabelsError that lists every fault with its JSON path. A
labels file comes with data sets from elsewhere and is not trusted: no name in it may leave its folder.

    {"a.avi": 1}                                                       graininess
    {"a.avi": {"graininess": 1, "banding": 0, "motion_blur": null}}    null or absent: unknown
    {"a.yuv": {"noise_config": {"graininess": {"active": true}, …}}}   as published with BVI-Artefact

The clips are beside the file, or in a folder `avi/` beside it (the layout of BVI-Artefact and MVAD).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from grainscan.console import count
from grainscan.errors import LabelsError
from grainscan.files import walk, write_text
from grainscan.tasks import DEFAULT_TASK, STANDARD
from grainscan.video import is_video_name

LABELS_FILE = "labels.json"
SPLIT_RECORD = ".split"  # folder in which `grainscan split` records what it did
MEDIA_FOLDER = "avi"  # of the BVI-Artefact layout
SPLITS = ("train", "val", "test")
STANDARD_TASKS = tuple(task.name for task in STANDARD)
_RESERVED = frozenset({"start", "end", "timecode"})  # keys of a result's windows, beside the task names
_TASK = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_CORRECT = "Correct these entries and try again."
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. ()-]*")
# In the test part of BVI-Artefact, the name of the output marks artifacts that noise_config leaves out.
_OUTPUT_MARKS = {task.name: task.published_mark for task in STANDARD if task.published_mark}

# POSIX file name relative to the folder -> {task: 0 or 1}; unknown tasks are absent
Labels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class LabelSet:
    """The labelled clips of a folder, sorted by name. `media` is the folder itself or the `avi/` in it."""

    folder: Path
    clips: Labels
    tasks: tuple[str, ...]  # those with at least one known label; standard ones first
    media: Path
    links: frozenset[str] = field(default=frozenset(), repr=False)  # clips reached through a symbolic link

    @cached_property
    def path(self) -> dict[str, Path]:
        return {name: self.media / name for name in self.clips}


@dataclass(frozen=True)
class Prevalence:
    """How often a task's label is 0, 1 or unknown."""

    negative: int = 0
    positive: int = 0
    unknown: int = 0


def read_labels(folder: str | os.PathLike[str]) -> LabelSet:
    """The labels of the clips in `folder`. Raises LabelsError with every fault at once.

    Faults are values other than 0, 1, true, false and null, task names that are not snake_case, repeated keys,
    names that leave the folder, labels without a file, and video files without a label.
    """
    folder = Path(folder)
    path = folder / LABELS_FILE
    if not path.exists():
        raise _unlabelled(folder)
    clips, faults = _parse(path)
    files, linked_folders, unlisted = _scan(folder)
    media = folder
    if (folder / MEDIA_FOLDER).is_dir() and not any(name in files for name in clips):
        media, prefix = folder / MEDIA_FOLDER, MEDIA_FOLDER + "/"
        files = {name[len(prefix) :]: link for name, link in files.items() if name.startswith(prefix)}
    root = os.path.realpath(folder)
    links = set()
    for name in clips:
        if name in files and not files[name]:
            continue
        if name not in files and not (linked_folders and os.path.isfile(media / name)):  # noqa: PTH113 (never raises)
            faults.append(f"{json_path(name)}: no such file")
        elif Path(os.path.realpath(media / name)).is_relative_to(root):
            links.add(name)
        else:
            faults.append(f"{json_path(name)}: leads out of the folder through a symbolic link")
    faults += [
        f"{json_path(name)}: this file has no label (write null if it is unknown)"
        for name in sorted(files)
        if name not in clips and is_video_name(name) and "/." not in "/" + name
    ]
    hint = f"Was a split interrupted? `grainscan split {folder}` completes it, --undo reverses it."
    raise_faults(path, faults + unlisted, hint=hint if (folder / SPLIT_RECORD).is_dir() else _CORRECT)
    return LabelSet(folder, dict(sorted(clips.items())), task_names(clips.values()), media, frozenset(links))


def parse_labels(path: str | os.PathLike[str]) -> Labels:
    """A labels file on its own; the clips are not checked. Raises LabelsError with every fault at once."""
    clips, faults = _parse(Path(path))
    raise_faults(Path(path), faults)
    return clips


def find_split(data: str | os.PathLike[str], split: str | None = None) -> Path:
    """The folder that holds the labels.json of a split, or (None) of data without splits.

    `data` may itself be the split. Raises LabelsError if there is no such split.
    """
    data = Path(data)
    if not data.is_dir():
        raise _unlabelled(data)
    present = [name for name in SPLITS if (data / name / LABELS_FILE).is_file()]
    own = (data / LABELS_FILE).is_file()
    if split is None:
        if own:
            return data
        if present:
            raise LabelsError(f"{data}: is split into {', '.join(present)}", hint="Choose one with --split.")
        raise _unlabelled(data)
    if name_fault(split) or "/" in split:
        raise LabelsError(f"{split!r} is not the name of a split", hint=f"Use one of: {', '.join(SPLITS)}.")
    if (data / split / LABELS_FILE).is_file():
        return data / split
    if own and data.resolve().name == split:
        return data
    if present:
        raise LabelsError(f"{data}: has no split {split!r}", hint=f"It has: {', '.join(present)}.")
    if own:
        raise LabelsError(f"{data}: is not split, so has no {split!r}", hint=f"Run `grainscan split {data}` first.")
    raise _unlabelled(data)


def _unlabelled(folder: Path) -> LabelsError:
    if not folder.is_dir():
        return LabelsError(f"{folder}: no such folder", hint=f"Name the folder with {LABELS_FILE}, or with splits.")
    return LabelsError(
        f"{folder}: has no {LABELS_FILE}",
        hint='Write one beside the clips, such as {"a.avi": 1, "b.avi": 0}, or make clips with `grainscan prep`.',
    )


def nothing_known(folder: Path, then: str) -> LabelsError:
    """The error for clips of which none has a known label. `then`: the command to run after labelling them."""
    return LabelsError(
        f"{folder / LABELS_FILE}: no clip has a known label",
        hint=f"Write 0 or 1 for each clip in {folder / LABELS_FILE} (null: unknown), then {then}.",
    )


def load_object(path: Path, *, drop: frozenset[str] = frozenset()) -> tuple[dict[str, Any], list[str]]:
    """The top-level object of a JSON file, without the keys in `drop`, and a fault for each repeated key.

    Raises LabelsError if the file cannot be read or is not a JSON object.
    """
    hint = f"It must be UTF-8 text; the README describes the format of {path.name}."
    if not path.is_file():  # reading a pipe would wait for ever
        raise LabelsError(f"{path}: no such file", hint=hint)
    text = read_utf8(path, hint)
    repeated = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        item = dict(pairs)
        if len(item) != len(pairs):
            item, repeated = _Repeated(pairs), True
        for key in drop:
            item.pop(key, None)
        return item

    try:
        document = json.loads(text, object_pairs_hook=collect)
    except RecursionError:
        raise LabelsError(f"{path}: is nested too deeply", hint=hint) from None
    except ValueError as error:
        raise LabelsError(f"{path}: is not JSON: {error}", hint=hint) from None
    if not isinstance(document, dict):
        raise LabelsError(f"{path}: $ must be an object, not {shown_value(document)}", hint=hint)
    return document, list(_repetitions(document, "$")) if repeated else []


def read_utf8(path: Path, hint: str) -> str:
    """A text file, without its byte-order mark. Raises LabelsError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LabelsError(f"{path}: cannot be read: {error.strerror or error}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path}: is not UTF-8 text (byte {error.start})", hint=hint) from None


class _Repeated(dict[str, Any]):
    """A JSON object with repeated keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


def _repetitions(item: Any, where: str) -> Iterator[str]:
    if isinstance(item, _Repeated):
        yield from (f"{where}{json_path(key)[1:]}: is given twice" for key in item.twice)
    if isinstance(item, dict):
        for key, value in item.items():
            yield from _repetitions(value, where + json_path(key)[1:])


def _parse(path: Path) -> tuple[Labels, list[str]]:
    document, faults = load_object(path)
    if not document:
        faults.append("$: names no clip")
    clips: Labels = {}
    checked: dict[str, str | None] = {}  # task names repeat in every entry
    for name, value in document.items():
        fault = name_fault(name)
        if fault:
            faults.append(f"{json_path(name)}: {fault}")
            continue
        if isinstance(value, dict) and isinstance(value.get("noise_config"), dict):
            name, value = _published(name, value)
        whole = not isinstance(value, dict)
        labels: dict[str, int] = {}
        for task, label in ((DEFAULT_TASK, value),) if whole else value.items():
            if task not in checked:
                checked[task] = task_fault(task)
            fault = checked[task] or _label_fault(label)
            if fault:
                faults.append(f"{json_path(name) if whole else json_path(name, task)}: {fault}")
            elif label is not None:
                labels[task] = int(label)
        if name in clips:
            faults.append(f"{json_path(name)}: is given twice")
        clips[name] = labels
    return clips, faults


def _published(name: str, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An entry of BVI-Artefact's own labels.json: named after the raw video, one block per task."""
    blocks = value["noise_config"]
    labels = {task: item.get("active") if isinstance(item, dict) else item for task, item in blocks.items()}
    output = value.get("output")
    if isinstance(output, str):
        for task, mark in _OUTPUT_MARKS.items():
            labels.setdefault(task, int(mark in output))
    return re.sub(r"\.yuv$", ".avi", name), labels


def _scan(folder: Path) -> tuple[dict[str, bool], bool, list[str]]:
    """The files below a folder (name to whether it is a link), whether there are links to folders, and faults.

    One walk, which does not enter linked folders: examining each of 100,000 files separately takes much longer.
    """
    files: dict[str, bool] = {}
    linked_folders = False
    faults = []

    def unreadable(path: str, error: OSError) -> None:
        faults.append(f"$: the folder {path} cannot be listed: {error.strerror or error}")

    start = len(os.path.join(folder, ""))  # noqa: PTH118
    for entry in walk(folder, links=False, hidden=True, failed=unreadable):
        with contextlib.suppress(OSError):  # a link that leads to itself
            if entry.is_file():
                files[entry.path[start:].replace(os.sep, "/")] = entry.is_symlink()
            else:
                linked_folders |= entry.is_dir()
    return files, linked_folders, faults


def name_fault(name: str) -> str | None:
    """What is wrong with the name of a clip, or None."""
    if _PLAIN_NAME.fullmatch(name):  # nearly all of them: 100,000 names must be read in a second
        return None
    if not name:
        return "the name is empty"
    if "\0" in name:
        return "the name contains a NUL"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "the name is not valid text"
    if name[0] in "/\\" or re.match(r"[A-Za-z]:[/\\]", name) or os.path.splitdrive(name)[0]:
        return "the name is absolute; it must be relative to the folder"
    if ".." in re.split(r"[/\\]", name):
        return "the name leaves the folder"
    parts = name.split("/")
    if "" in parts or "." in parts:
        return f"write the name as {json.dumps('/'.join(part for part in parts if part not in ('', '.')))}"
    return None


def task_fault(task: str) -> str | None:
    """What is wrong with the name of a task, or None."""
    if not _TASK.fullmatch(task):
        return f"a task name is snake_case, such as {DEFAULT_TASK} or film_scratches"
    if task in _RESERVED:
        return "this name is reserved for results; choose another"
    return None


def _label_fault(value: object) -> str | None:
    if value is None or (isinstance(value, bool | int | float) and value in (0, 1)):
        return None
    return f"{shown_value(value)} is not 0, 1, true, false or null"


def raise_faults(path: Path, faults: list[str], *, hint: str = _CORRECT) -> None:
    """Raise LabelsError if there are any faults."""
    if faults:
        raise LabelsError(f"{path}: {count(len(faults), 'fault')}", faults=faults, hint=hint)


def json_path(*keys: str) -> str:
    """The JSON path of a value, such as $["a.avi"].graininess; always printable."""
    return "$" + "".join(f".{key}" if _TASK.fullmatch(key) else f"[{shown_value(key)}]" for key in keys)


def shown_value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():  # control and surrogate characters must not reach a terminal
        text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def write_labels(folder: str | os.PathLike[str], clips: Mapping[str, Mapping[str, int | None]]) -> None:
    """Write labels.json in its second form, sorted, one clip per line. Raises LabelsError, OutputError."""
    path = Path(folder) / LABELS_FILE
    faults = []
    for name, labels in clips.items():
        if fault := name_fault(name):
            faults.append(f"{json_path(name)}: {fault}")
        for task, label in labels.items():
            if fault := task_fault(task) or _label_fault(label):
                faults.append(f"{json_path(name, task)}: {fault}")
    raise_faults(path, faults)
    write_text(path, format_object({name: dict(clips[name]) for name in sorted(clips)}, "") + "\n")


def format_object(items: Mapping[str, Any], indent: str) -> str:
    lines = ",\n".join(f"{indent}  {ENCODER.encode(key)}: {ENCODER.encode(value)}" for key, value in items.items())
    return f"{{\n{lines}\n{indent}}}" if lines else "{}"


def task_names(labels: Iterable[Mapping[str, int | None]]) -> tuple[str, ...]:
    """Tasks with a known label: standard ones in their order, then custom ones by name."""
    known = {task for entry in labels for task, label in entry.items() if label is not None}
    return (*(task for task in STANDARD_TASKS if task in known), *sorted(known.difference(STANDARD_TASKS)))


def prevalence(labels: Iterable[Mapping[str, int | None]], tasks: Iterable[str]) -> dict[str, Prevalence]:
    """How often each task's label is 0, 1 or unknown among the clips."""
    counts = {task: [0, 0, 0] for task in tasks}
    for entry in labels:
        for task, known in counts.items():
            label = entry.get(task)
            known[2 if label is None else label] += 1
    return {task: Prevalence(*count) for task, count in counts.items()}
