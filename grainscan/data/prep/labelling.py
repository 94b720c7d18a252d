"""The labels of footage: from a labels.json, from a CSV, or from the names of folders.

Without --labels, each file takes them from the nearest labels.json (or labels.csv), in its folder or above it, up to
the folder that was named. Where there is none, a folder named after a task or with an adjective of its record
(`banding/`, `banded/`) means 1, and `clean/` or `pristine/` mean 0 for every task that other folders name or that the
command asks for.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grainscan.data.labels import LABELS_FILE, MEDIA_FOLDER, parse_labels, raise_faults, task_fault
from grainscan.data.prep.footage import Source
from grainscan.data.words import counted, some
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
    """Known labels by source name, and `notes` on where they came from. Sources without a known label are absent."""

    labels: dict[str, Known] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def label_footage(sources: Sequence[Source], config: PrepConfig) -> Labelling:
    """The labels of the sources. Raises LabelsError for a faulty labels file, or for --labels that match nothing."""
    found = Labelling()
    if config.labels is not None:
        _apply(config.labels, sources, found)
        if not found.labels:
            raise LabelsError(
                f"{config.labels}: none of its names matches the footage ({counted(len(sources), 'video')})",
                hint="Names are paths from the folder of the labels, or from that of the footage.",
            )
    else:
        nearest = _Nearest()
        groups: dict[Path | None, list[Source]] = {}
        for source in sources:
            groups.setdefault(nearest.of(source), []).append(source)
        for file, group in groups.items():
            if file is not None:
                _apply(file, group, found)
        _from_folders(groups.get(None, []), config, found)
    _assume_clean(sources, config, found)
    found.labels = {name: labels for name, labels in found.labels.items() if labels}
    unlabelled = [source.name for source in sources if source.name not in found.labels]
    if unlabelled and found.labels:
        found.notes.append(f"{counted(len(unlabelled), 'video')} without a label, left out: {some(unlabelled, _SHOWN)}")
    elif unlabelled:
        found.notes.append("no video has a label, so that the clips have none")
    return found


def _assume_clean(sources: Sequence[Source], config: PrepConfig, found: Labelling) -> None:
    """Footage for --synthesize without a single label for the task is clean: that is what synthesis needs."""
    task = config.synthesize
    if task is None or any(task in labels for labels in found.labels.values()):
        return
    for source in sources:
        found.labels.setdefault(source.name, {})[task] = 0
    found.notes.append(f"no label for {task}: {counted(len(sources), 'video')} taken as clean (--synthesize)")


class _Nearest:
    """The labels file of a source: in its folder, or in the nearest one above it, up to its root."""

    def __init__(self) -> None:
        self._known: dict[Path, Path | None] = {}

    def of(self, source: Source) -> Path | None:
        return self._search(source.path.parent, source.root)

    def _search(self, folder: Path, root: Path) -> Path | None:
        if folder not in self._known:
            here = (folder / name for name in (LABELS_FILE, CSV_FILE))
            file = next((path for path in here if path.is_file()), None)
            above = root in folder.parents
            self._known[folder] = self._search(folder.parent, root) if file is None and above else file
        return self._known[folder]


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
    found.notes.append(f"labels of {counted(len(used), 'video')} from {file}")
    unused = [key for key in table if key not in used]
    if unused:
        found.notes.append(f"{counted(len(unused), 'name')} in {file} without a video: {some(unused)}")


def _keys(source: Source, folder: Path, shared: Counter[str]) -> Iterable[str]:
    """What a labels file may call a source, the surest name first. A bare name counts if only one file has it."""
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
    """A table with a column `file` (or path, name, …) and one column per task, with 0, 1, true, false or nothing in it.

    Raises LabelsError with all faults at once, by line and column.
    """
    hint = f"The first line names the columns, such as: file,{DEFAULT_TASK},{STANDARD[1].name}"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LabelsError(f"{path}: cannot be read: {error.strerror or error}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path}: is not UTF-8 text (byte {error.start})", hint=hint) from None
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
        if number != naming and (fault := _column_fault(title, header))
    ]
    table: dict[str, dict[str, int | None]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            faults.append(f"line {number}: has {counted(len(row), 'column')}, the header {len(header)}")
            continue
        name = row[naming].strip().replace("\\", "/").removeprefix("./")
        if not name or name in table:
            faults.append(f"line {number}: " + ("names no file" if not name else f"names {name!r} again"))
        table[name] = {}
        for title, cell in zip(header, row, strict=True):
            value = cell.strip().lower()
            if title != header[naming] and value not in _VALUES:
                faults.append(f"line {number}, column {title}: {cell.strip()[:40]!r} is not 0, 1, true, false or empty")
            elif title != header[naming]:
                table[name][title] = _VALUES[value]
    raise_faults(path, faults, hint=hint)
    return table


def _column_fault(title: str, header: list[str]) -> str | None:
    return "given twice" if header.count(title) > 1 else task_fault(title)


def _from_folders(sources: Sequence[Source], config: PrepConfig, found: Labelling) -> None:
    """Labels from the names of the folders between the root, included, and the file; the innermost decides."""
    asked = {task for task in (config.balance, config.synthesize) if task}
    meaning = _meanings({*(task.name for task in STANDARD), *asked})
    folders = {source.name: _folders(source) for source in sources}
    named = {task for parts in folders.values() for part in parts for task in meaning(part)}
    clean = named | asked or {DEFAULT_TASK}
    counts: Counter[tuple[str, str, int]] = Counter()
    for name, parts in folders.items():
        labels: Known = {}
        for part in parts:
            said = dict.fromkeys(clean, 0) if part in CLEAN_FOLDERS else meaning(part)
            labels |= said
            counts.update((part, task, label) for task, label in said.items())
        if labels:
            found.labels[name] = labels
    found.notes += [
        f"folder {part}/ means {task} {label} ({counted(videos, 'video')})"
        for (part, task, label), videos in sorted(counts.items())
    ]


def _folders(source: Source) -> list[str]:
    inside = _below(source.path.parent, source.root)
    parts = [source.root.absolute().name, *(inside.split("/") if inside not in ("", ".") else [])]
    return [re.sub(r"[\s-]+", "_", part.strip().lower()) for part in parts]


def _meanings(tasks: set[str]) -> Callable[[str], Known]:
    """A function from the name of a folder to the labels that it means."""
    words = {task: task for task in tasks} | ADJECTIVES

    def meaning(part: str) -> Known:
        if part in words:
            return {words[part]: 1}
        bare = re.sub(r"^(no|not|non)_", "", part)
        return {words[bare]: 0} if bare != part and bare in words else {}

    return meaning
