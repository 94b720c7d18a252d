"""The labels of footage: from a labels.json, from a CSV, or from the names of folders.

Without --labels, the nearest labels.json (or labels.csv) applies to each file: the one in its folder or above it, up to
the folder that the user named. If there is none, a folder named after a task or with an adjective of its record
(`banding/`, `banded/`) means 1, and `clean/` or `pristine/` means 0 for every task that another folder or the command
names.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grainscan.console import count, some
from grainscan.data.labels import LABELS_FILE, MEDIA_FOLDER, parse_labels, raise_faults, read_utf8, task_fault
from grainscan.data.prep.footage import Source
from grainscan.errors import LabelsError
from grainscan.options import PrepConfig
from grainscan.tasks import DEFAULT_TASK, STANDARD

CSV_FILE = "labels.csv"
NAME_COLUMNS = ("file", "path", "name", "filename", "video", "clip")
CLEAN_FOLDERS = frozenset({"clean", "pristine"})
ADJECTIVES = {word: task.name for task in STANDARD for word in task.folders}
_VALUES = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_SHOWN = 10  # unlabelled videos named in a note

Known = dict[str, int]  # task -> 0 or 1


@dataclass
class Labelling:
    """Known labels by source name, and notes on where they came from. Sources without a known label are absent."""

    labels: dict[str, Known] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def label_footage(sources: Sequence[Source], config: PrepConfig) -> Labelling:
    """The labels of the sources. Raises LabelsError for a faulty labels file, or if --labels matches no source."""
    found = Labelling()
    if config.labels is not None:
        _apply(config.labels, sources, found)
        if not found.labels:
            raise LabelsError(
                f"{config.labels}: none of its names matches the footage ({count(len(sources), 'video')})",
                hint="Names are paths relative to the folder of the labels, or to that of the footage.",
            )
    else:
        nearest: dict[Path, Path | None] = {}
        groups: dict[Path | None, list[Source]] = {}
        for source in sources:
            groups.setdefault(_nearest(source.path.parent, source.root, nearest), []).append(source)
        for file, group in groups.items():
            if file is not None:
                _apply(file, group, found)
        _from_folders(groups.get(None, []), config, found)
    _assume_clean(sources, config, found)
    found.labels = {name: labels for name, labels in found.labels.items() if labels}
    unlabelled = [source.name for source in sources if source.name not in found.labels]
    if unlabelled and found.labels:
        found.notes.append(f"{count(len(unlabelled), 'video')} without a label, left out: {some(unlabelled, _SHOWN)}")
    elif unlabelled:
        found.notes.append("no video has a label, so the clips have none")
    return found


def _assume_clean(sources: Sequence[Source], config: PrepConfig, found: Labelling) -> None:
    """A task of --synthesize for which no footage has a label: all of it is taken as clean, which synthesis needs."""
    assumed = [task for task in config.synthesised if not any(task in labels for labels in found.labels.values())]
    if not assumed:
        return
    for source in sources:
        found.labels.setdefault(source.name, {}).update(dict.fromkeys(assumed, 0))
    found.notes.append(
        f"no label for {', '.join(assumed)}: {count(len(sources), 'video')} taken as clean (--synthesize)"
    )


def _nearest(folder: Path, root: Path, known: dict[Path, Path | None]) -> Path | None:
    """The labels file in a folder, or in the nearest one above it up to `root`."""
    if folder not in known:
        here = (folder / name for name in (LABELS_FILE, CSV_FILE))
        file = next((path for path in here if path.is_file()), None)
        known[folder] = _nearest(folder.parent, root, known) if file is None and root in folder.parents else file
    return known[folder]


def _apply(file: Path, sources: Sequence[Source], found: Labelling) -> None:
    table: Mapping[str, Mapping[str, int | None]] = (
        parse_labels(file) if file.suffix.lower() == ".json" else read_csv(file)
    )
    shared = Counter(source.path.name for source in sources)
    used = set()
    for source in sources:
        key = next((key for key in _keys(source, file.parent, shared) if key in table), None)
        if key is not None:
            used.add(key)
            found.labels[source.name] = {task: label for task, label in table[key].items() if label is not None}
    found.notes.append(f"labels of {count(len(used), 'video')} from {file}")
    unused = [key for key in table if key not in used]
    if unused:
        found.notes.append(f"{count(len(unused), 'name')} in {file} without a video: {some(unused)}")


def _keys(source: Source, folder: Path, shared: Counter[str]) -> Iterable[str]:
    """Names of a source in a labels file, the surest first. A bare file name counts if only one file has it."""
    names = [
        _below(source.path, folder),
        source.name,
        _below(source.path, source.root),
        source.path.absolute().as_posix(),
    ]
    if shared[source.path.name] == 1:
        names.append(source.path.name)
    for name in names:
        if name:
            yield name
            yield name.removeprefix(MEDIA_FOLDER + "/")
    yield from (name.removesuffix(source.path.suffix) for name in names if name)


def _below(path: Path, folder: Path) -> str:
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))  # noqa: PTH100 (links keep their names)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""


def read_csv(path: Path) -> dict[str, dict[str, int | None]]:
    """Labels from a table with a column `file` (or path, name, …) and one column per task: 0, 1, true, false or empty.

    Raises LabelsError with all faults at once, by line and column.
    """
    hint = f"The first line names the columns, such as: file,{DEFAULT_TASK},{STANDARD[1].name}"
    text = read_utf8(path, hint)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise LabelsError(f"{path}: is not CSV: {error}", hint=hint) from None
    header = [re.sub(r"[\s-]+", "_", title.strip().lower()) for title in rows[0]] if rows else []
    naming = next((header.index(title) for title in NAME_COLUMNS if title in header), None)
    if naming is None:
        raise LabelsError(f"{path}: line 1 has no column for the file ({', '.join(NAME_COLUMNS)})", hint=hint)
    faults = [
        f"line 1, column {number + 1}: {title!r}: {fault}"
        for number, title in enumerate(header)
        if number != naming and (fault := "given twice" if header.count(title) > 1 else task_fault(title))
    ]
    table: dict[str, dict[str, int | None]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            faults.append(f"line {number}: has {count(len(row), 'column')}, the header {len(header)}")
            continue
        name = row[naming].strip().replace("\\", "/").removeprefix("./")
        if not name or name in table:
            faults.append(f"line {number}: " + ("names no file" if not name else f"names {name!r} again"))
        table[name] = {}
        for title, cell in zip(header, row, strict=True):
            if title == header[naming]:
                continue
            value = cell.strip().lower()
            if value in _VALUES:
                table[name][title] = _VALUES[value]
            else:
                faults.append(f"line {number}, column {title}: {cell.strip()[:40]!r} is not 0, 1, true, false or empty")
    raise_faults(path, faults, hint=hint)
    return table


def _from_folders(sources: Sequence[Source], config: PrepConfig, found: Labelling) -> None:
    """Labels from the names of folders, from the root (included) down to the file; the innermost decides."""
    asked = {*([config.balance] if config.balance else []), *config.synthesised}
    words = {task: task for task in (*(task.name for task in STANDARD), *asked)} | ADJECTIVES
    folders = {source.name: _folders(source) for source in sources}
    named = {task for parts in folders.values() for part in parts for task in _meaning(part, words)}
    clean = named | asked or {DEFAULT_TASK}
    counts: Counter[tuple[str, str, int]] = Counter()
    for name, parts in folders.items():
        labels: Known = {}
        for part in parts:
            meant = dict.fromkeys(clean, 0) if part in CLEAN_FOLDERS else _meaning(part, words)
            labels |= meant
            counts.update((part, task, label) for task, label in meant.items())
        if labels:
            found.labels[name] = labels
    found.notes += [
        f"folder {part}/ means {task} {label} ({count(videos, 'video')})"
        for (part, task, label), videos in sorted(counts.items())
    ]


def _folders(source: Source) -> list[str]:
    inside = _below(source.path.parent, source.root)
    parts = [source.root.absolute().name, *(inside.split("/") if inside not in ("", ".") else [])]
    return [re.sub(r"[\s-]+", "_", part.strip().lower()) for part in parts]


def _meaning(part: str, words: Mapping[str, str]) -> Known:
    """The label that the name of a folder means. `words`: names and adjectives of tasks."""
    bare = part if part in words else re.sub(r"^(no|not|non)_", "", part)
    return {words[bare]: int(bare == part)} if bare in words else {}
