"""A labelled folder into train/, val/ and test/, with no source in two of them.

    DATA/labels.json, a.avi, b.avi  ->  DATA/train/{labels.json, manifest.json, a.avi}, DATA/val/…, DATA/test/…

`stratify` decides. Moving survives an interruption at any moment: the whole plan is in DATA/.split/journal.json before
the first file moves, every step can be repeated, and running the command again completes it. That folder also keeps the
original labels.json and manifest.json, so that --undo can restore them. The data may come from elsewhere: a symbolic
link among these files is refused before anything is read or written.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from grainscan import __version__
from grainscan.console import count, some
from grainscan.data.labels import (
    LABELS_FILE,
    MEDIA_FOLDER,
    SPLIT_RECORD,
    SPLITS,
    Labels,
    Prevalence,
    name_fault,
    nothing_known,
    parse_labels,
    prevalence,
    read_labels,
    task_names,
    write_labels,
)
from grainscan.data.manifest import MANIFEST_FILE, MANIFEST_SCHEMA, read_manifest, write_manifest
from grainscan.data.sources import group_clips
from grainscan.data.stratify import stratify
from grainscan.errors import ConfigError, DataError, UnfitDataError
from grainscan.files import remove_unfinished, write_text
from grainscan.options import SplitConfig
from grainscan.results import Report

JOURNAL = "journal.json"


@dataclass(frozen=True)
class SplitPart:
    """One of train, val and test."""

    name: str
    clips: int
    sources: int
    prevalence: dict[str, Prevalence]  # by task


@dataclass(frozen=True)
class SplitReport(Report):
    """What was done, or would be done (dry run)."""

    data: Path
    state: Literal["planned", "split", "undone"]
    tasks: tuple[str, ...]
    parts: tuple[SplitPart, ...]  # empty if undone
    assignment: dict[str, str]  # clip -> split (if undone, the former one)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Journal:
    """The record of a split, complete before anything moves."""

    state: Literal["moving", "done", "undoing"]
    options: dict[str, Any]
    media: str  # folder of the clips within the data folder: "" or "avi"
    clips: dict[str, str]  # clip -> split
    sources: dict[str, str]  # clip -> source, if a regular expression was given


def split(config: SplitConfig) -> SplitReport:
    """Split `config.data`, complete an interrupted split, or undo one.

    Raises LabelsError or ConfigError for a wrong request, UnfitDataError if the data cannot be split as asked,
    DataError if a clip cannot be moved or the record of a split is damaged.
    """
    ratios = parse_ratios(config.ratios)
    _refuse_links(config.data)
    journal = _read_journal(config.data)
    if config.undo:
        return _undo(config.data, journal, dry_run=config.dry_run)
    if journal is not None and journal.state == "undoing":
        if config.dry_run:
            raise UnfitDataError(f"{config.data}: a split is half undone", hint="Complete that first with --undo.")
        _undo(config.data, journal, dry_run=False)
        journal = None
    options = {"ratios": [round(ratio, 9) for ratio in ratios], "group": config.group, "seed": config.seed}
    notes: list[str] = []
    if journal is None:
        journal, notes = _plan(config, ratios, options)
    elif journal.options != options:
        used = ", ".join(f"{key} {value}" for key, value in journal.options.items())
        raise UnfitDataError(
            f"{config.data}: was split with other options ({used})",
            hint=f"Undo that first: grainscan split {config.data} --undo",
        )
    clips, manifest = _originals(config.data)
    if not config.dry_run and journal.state != "done":
        _carry_out(config.data, journal, clips, manifest)
    return _report(config, journal, clips, manifest, notes)


def parse_ratios(text: str) -> tuple[float, float, float]:
    """`70/15/15` or `0.7/0.15/0.15` as fractions for train, val and test. Raises ConfigError."""
    hint = "Give train, val and test as percentages, such as 70/15/15, or 80/20/0 for no test split."
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise ConfigError(f"ratios are {text!r}, not three numbers", hint=hint) from None
    total = train + val + test
    if not math.isfinite(total) or min(train, val, test) < 0:
        raise ConfigError(f"ratios are {text!r}, but must not be negative or infinite", hint=hint)
    if not (math.isclose(total, 100, abs_tol=0.01) or math.isclose(total, 1, abs_tol=1e-4)):
        raise ConfigError(f"ratios are {text!r} and add up to {total:g}, not 100", hint=hint)
    return train / total, val / total, test / total


def _plan(config: SplitConfig, ratios: tuple[float, ...], options: dict[str, Any]) -> tuple[_Journal, list[str]]:
    """Read, check and assign the clips. Nothing is written."""
    data = config.data
    if not (data / LABELS_FILE).is_file() and any((data / part / LABELS_FILE).is_file() for part in SPLITS):
        raise UnfitDataError(f"{data}: is split already", hint="To split again, move the clips back into one folder.")
    labels = read_labels(data)
    if not labels.tasks:
        raise nothing_known(data, f"grainscan split {shlex.quote(str(data))}")
    manifest = read_manifest(data, brief=True)
    if labels.links:
        raise UnfitDataError(
            f"{data}: symbolic links cannot be split: {some(labels.links)}",
            hint="Replace them with the files they point to.",
        )
    for part in SPLITS:
        if os.path.lexists(data / part):
            raise UnfitDataError(
                f"{data / part}: already exists", hint="Move it elsewhere, or remove it if it is empty."
            )
    sources = group_clips(labels.clips, manifest, config.group)
    notes = []
    if config.group != "auto":
        missed = [name for name, source in sources.items() if source == name]
        if len(missed) == len(sources):
            raise ConfigError(f"group {config.group!r} matches no clip", hint=f"The names look like {some(missed)}.")
        if missed:
            notes.append(f"{count(len(missed), 'clip')} not matched by --group, each its own source: {some(missed)}")
    names = sorted(set(sources.values()))
    needed = sum(ratio > 0 for ratio in ratios)
    if len(names) < needed:
        raise UnfitDataError(
            f"{data}: {count(len(names), 'source')} cannot fill {needed} splits",
            hint="Add footage, ask for fewer splits (80/20/0), or name the sources with --group.",
        )
    row = {source: number for number, source in enumerate(names)}
    column = {task: 2 * number for number, task in enumerate(labels.tasks)}
    sizes = np.zeros(len(names), dtype=np.int64)
    counts = np.zeros((len(names), 2 * len(labels.tasks)), dtype=np.int64)
    for name, source in sources.items():
        sizes[row[source]] += 1
        for task, label in labels.clips[name].items():
            counts[row[source], column[task] + label] += 1
    part_of = stratify(sizes, counts, ratios, config.seed)
    clips = {name: SPLITS[part_of[row[source]]] for name, source in sources.items()}
    named = {} if config.group == "auto" else sources
    media = "" if labels.media == labels.folder else labels.media.name
    return _Journal("moving", options, media, clips, named), notes


# ------------------------------------------------------------------------------------------------ carrying it out


def _carry_out(data: Path, journal: _Journal, clips: Labels, manifest: dict[str, Any] | None) -> None:
    """Move the clips. Every step can be repeated: after an interruption the same call completes what is missing."""
    folders = _Folders(data, journal)
    folders.prepare(data / SPLIT_RECORD)
    _write_journal(data, journal)
    for name, part in journal.clips.items():
        folders.move(data / journal.media / name, data / part / journal.media / name)
    entries: dict[str, Any] = dict((manifest or {}).get("clips", {}))
    for name, source in journal.sources.items():
        entries[name] = {"source": source, **entries.get(name, {})}
    head = manifest or {"schema": MANIFEST_SCHEMA, "grainscan": __version__}
    for part, names in _members(journal):
        write_labels(data / part, {name: clips[name] for name in names})
        if entries:
            write_manifest(data / part, {**head, "clips": {name: entries[name] for name in names if name in entries}})
    for file in (LABELS_FILE, MANIFEST_FILE):
        if (data / file).exists():
            (data / file).replace(data / SPLIT_RECORD / file)
    _remove_empty(data, {data / journal.media / name for name in journal.clips})
    _write_journal(data, replace(journal, state="done"))


def _members(journal: _Journal) -> Iterator[tuple[str, list[str]]]:
    """Each split that has clips, and their names."""
    for part in SPLITS:
        if names := [name for name, own in journal.clips.items() if own == part]:
            yield part, names


def _undo(data: Path, journal: _Journal | None, *, dry_run: bool) -> SplitReport:
    """Put every clip back, then labels.json and manifest.json as they were, with corrections made since."""
    if journal is None:
        raise UnfitDataError(
            f"{data}: has no record of a split to undo", hint=f"The record would be in {SPLIT_RECORD}/."
        )
    notes = []
    merged = _corrections(data, journal) if journal.state == "done" else None
    if merged is not None:
        notes.append("labels were corrected since the split; labels.json keeps the corrections")
    if not dry_run:
        folders = _Folders(data, journal)
        if merged is not None:
            write_labels(data / SPLIT_RECORD, merged)
        _write_journal(data, replace(journal, state="undoing"))
        notes += _take_back(data, journal, folders)
    return SplitReport(data, "undone", (), (), journal.clips, tuple(notes))


def _take_back(data: Path, journal: _Journal, folders: _Folders) -> list[str]:
    lost = []
    for name, part in journal.clips.items():
        home = data / journal.media / name
        places = [data / other / journal.media / name for other in (part, *SPLITS)]
        where = next((place for place in places if place.exists()), None)
        if where is not None:
            folders.move(where, home)
        elif not home.exists():
            lost.append(name)
    for part in SPLITS:
        for file in (LABELS_FILE, MANIFEST_FILE):
            (data / part / file).unlink(missing_ok=True)
        _remove_empty(data, {data / part / journal.media / name for name in journal.clips})
    for file in (LABELS_FILE, MANIFEST_FILE):
        if (data / SPLIT_RECORD / file).exists():
            (data / SPLIT_RECORD / file).replace(data / file)
    (data / SPLIT_RECORD / JOURNAL).unlink()
    _remove_empty(data, {data / SPLIT_RECORD / JOURNAL})
    kept = [part for part in SPLITS if (data / part).exists()]
    notes = [f"{part}/ holds files that the split did not put there" for part in kept]
    return notes + ([f"{count(len(lost), 'clip')} missing: {some(lost)}"] if lost else [])


def _corrections(data: Path, journal: _Journal) -> Labels | None:
    """All current labels if any was edited since the split, else None.

    Raises UnfitDataError for clips that were added to a split: they have no place to go back to.
    """
    original = parse_labels(data / SPLIT_RECORD / LABELS_FILE)
    current: Labels = {}
    for part in SPLITS:
        if (data / part / LABELS_FILE).is_file():
            current |= parse_labels(data / part / LABELS_FILE)
    added = sorted(set(current) - set(journal.clips))
    if added:
        raise UnfitDataError(
            f"{data}: clips were added since the split: {some(added)}",
            hint="Move them and their labels elsewhere first.",
        )
    return current if current and current != original else None


class _Folders:
    """Moves files within the data folder.

    Before anything moves, a folder that leads out of it or that this user may not change raises UnfitDataError.
    """

    def __init__(self, data: Path, journal: _Journal) -> None:
        self._data = Path(os.path.realpath(data))
        self._made: set[Path] = set()
        self._check(data)
        for folder in {os.path.dirname(name) for name in journal.clips}:  # noqa: PTH120 (fast)
            for part in ("", *SPLITS):
                self._check(data / part / journal.media / folder)

    def _check(self, folder: Path) -> None:
        if not Path(os.path.realpath(folder)).is_relative_to(self._data):
            raise UnfitDataError(
                f"{folder}: leads out of {self._data}", hint="Replace the symbolic link with a folder."
            )
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            hint = "Clips are moved out of their folders: get permission to write there, or split a copy of the data."
            raise UnfitDataError(f"{folder}: no permission to change this folder", hint=hint)

    def move(self, source: Path, target: Path) -> None:
        """Rename, unless already done. Raises DataError if the target is another file."""
        try:
            self.prepare(target.parent)
            if not os.path.lexists(source):
                return
            self.prepare(source.parent)
            if os.path.lexists(target):
                raise DataError(f"{target}: already exists", hint=f"{source} belongs there: move that file elsewhere.")
            source.rename(target)
        except OSError as error:
            reason = error.strerror or error
            hint = "Nothing is lost: the same command continues from here, and --undo reverses it."
            raise DataError(f"{source}: cannot be moved to {target}: {reason}", hint=hint) from None

    def prepare(self, folder: Path) -> None:
        """Create a folder after checking that it is within the data."""
        if folder not in self._made:
            self._check(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)


def _remove_empty(data: Path, files: set[Path]) -> None:
    """Remove the folders of moved files, and their parents, if they are empty."""
    folders = {folder for file in files for folder in file.parents if folder != data and data in folder.parents}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if not folder.is_dir():
            continue
        remove_unfinished(folder.iterdir())
        if not any(folder.iterdir()):
            folder.rmdir()


# ---------------------------------------------------------------------------------------------------- the record


def _refuse_links(data: Path) -> None:
    """Raise UnfitDataError for a symbolic link among what a split writes, replaces or removes."""
    folders = [data / name for name in (SPLIT_RECORD, *SPLITS)]
    files = [folder / name for folder in (data, *folders) for name in (LABELS_FILE, MANIFEST_FILE)]
    for path in (*folders, *files, data / SPLIT_RECORD / JOURNAL):
        if path.is_symlink():
            raise UnfitDataError(f"{path}: is a symbolic link", hint="Replace it with what it points to.")


def _read_journal(data: Path) -> _Journal | None:
    """The record of an earlier split, or None. It may come with the data, so its names are not trusted."""
    path = data / SPLIT_RECORD / JOURNAL
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        journal = _Journal(**{key: record[key] for key in ("state", "options", "media", "clips", "sources")})
        sound = (
            journal.state in ("moving", "done", "undoing")
            and journal.media in ("", MEDIA_FOLDER)
            and isinstance(journal.options, dict)
            and all(part in SPLITS and not name_fault(name) for name, part in journal.clips.items())
            and all(isinstance(source, str) for source in journal.sources.values())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise DataError(f"{path}: is not a record of a split", hint="Remove it if there is no split to undo.")
    return journal


def _write_journal(data: Path, journal: _Journal) -> None:
    write_text(data / SPLIT_RECORD / JOURNAL, json.dumps(asdict(journal), indent=1) + "\n")


def _originals(data: Path) -> tuple[Labels, dict[str, Any] | None]:
    """labels.json and manifest.json as they were before the split, wherever they are by now."""
    home = data if (data / LABELS_FILE).is_file() else data / SPLIT_RECORD
    clips = parse_labels(home / LABELS_FILE)
    manifest = read_manifest(data) or (read_manifest(data / SPLIT_RECORD) if home != data else None)
    return clips, manifest


def _report(
    config: SplitConfig, journal: _Journal, clips: Labels, manifest: dict[str, Any] | None, notes: Iterable[str]
) -> SplitReport:
    tasks = task_names(clips.values())
    sources = group_clips(clips, manifest, config.group)
    parts = tuple(
        SplitPart(
            part, len(names), len({sources[name] for name in names}), prevalence((clips[name] for name in names), tasks)
        )
        for part, names in _members(journal)
    )
    state: Literal["planned", "split"] = "planned" if config.dry_run and journal.state == "moving" else "split"
    return SplitReport(config.data, state, tasks, parts, journal.clips, tuple(notes))
