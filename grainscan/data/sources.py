"""What a clip was cut from, and whether two splits share a source or a file. One meaning for split, train and eval."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from grainscan.errors import ConfigError

_NAMED = 5  # in a message
_SCENE = re.compile(r"(.+?)_\d+x\d+_")


def scene_of(name: str) -> str | None:
    """The scene in a file name of BVI-Artefact: the part before `_WIDTHxHEIGHT_`. None for other names."""
    match = _SCENE.match(name.rsplit("/", 1)[-1])
    return match[1] if match else None


def group_clips(names: Iterable[str], manifest: Mapping[str, Any] | None, group: str = "auto") -> dict[str, str]:
    """The source of each clip. Clips with the same source are never divided, nor is a clip from its twin.

    `auto` takes the manifest's source, else the scene in a BVI-Artefact name. A regular expression is searched in the
    name; its first group (or the whole match) is the source. A clip without either is a source of its own, its name.
    """
    entries: Mapping[str, Any] = (manifest or {}).get("clips", {})
    if group == "auto":
        sources = {name: (entries.get(name) or {}).get("source") or scene_of(name) or name for name in names}
    else:
        pattern = _pattern(group)
        sources = {name: _searched(pattern, name) or name for name in names}
    return _with_twins(sources, entries)


def _pattern(group: str) -> re.Pattern[str]:
    try:
        return re.compile(group)
    except re.error as error:
        raise ConfigError(
            f"group is {group!r}, which is no regular expression: {error}",
            hint="Use auto, or an expression whose first group names the source, such as '(.+)_c[0-9]+'.",
        ) from None


def _searched(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.search(name)
    if match is None:
        return None
    return (match[1] if pattern.groups and match[1] else match[0]) or None


def _with_twins(sources: dict[str, str], entries: Mapping[str, Any]) -> dict[str, str]:
    """One source for clips that the manifest calls twins, whatever their names say (union-find over sources)."""
    parent: dict[str, str] = {}

    def root(source: str) -> str:
        while source in parent:
            source = parent[source]
        return source

    for name, entry in entries.items():
        twin = entry.get("twin")
        if twin in sources and name in sources and root(sources[name]) != root(sources[twin]):
            first, second = sorted((root(sources[name]), root(sources[twin])))
            parent[second] = first
    return {name: root(source) for name, source in sources.items()} if parent else sources


# --------------------------------------------------------------------------------------------------------- leaks


@dataclass(frozen=True)
class Side:
    """The clips of a split: the source of each (by `group_clips`) and its file, by name."""

    sources: Mapping[str, str]
    paths: Mapping[str, Path]


@dataclass(frozen=True)
class Leak:
    """What two splits share: sources, or files of the same content (by their names in the second)."""

    kind: Literal["source", "file"]
    splits: tuple[str, str]
    names: tuple[str, ...]

    def __str__(self) -> str:
        count, rest = len(self.names), len(self.names) - _NAMED
        what = {"source": "source", "file": "identical file"}[self.kind] + ("s" if count > 1 else "")
        verb = "are" if count > 1 else "is"
        more = f" and {rest} more" if rest > 0 else ""
        return f"{count} {what} {verb} in both {' and '.join(self.splits)}: {', '.join(self.names[:_NAMED])}{more}"


def leaks(splits: Mapping[str, Side]) -> tuple[Leak, ...]:
    """Whatever is in two of the splits: figures on the second are then too good. Raises OSError for a missing file.

    A clip that is its own source, since nothing is known about it, shares its source with no clip of the same name.
    """
    found = []
    for (first, one), (second, other) in combinations(splits.items(), 2):
        shared = _named_sources(one) & _named_sources(other)
        if shared:
            found.append(Leak("source", (first, second), tuple(sorted(shared))))
        same = tuple(_same_files(one.paths, other.paths))
        if same:
            found.append(Leak("file", (first, second), same))
    return tuple(found)


def _named_sources(side: Side) -> set[str]:
    return {source for name, source in side.sources.items() if source != name}


def _same_files(first: Mapping[str, Path], second: Mapping[str, Path]) -> Iterator[str]:
    """Names in `second` of files that are byte for byte in `first`. Only files of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in first.values():
        sizes[path.stat().st_size].append(path)
    digests: dict[int, set[bytes]] = {}
    for name, path in second.items():
        size = path.stat().st_size
        if size in sizes:
            if size not in digests:
                digests[size] = {_digest(each) for each in sizes[size]}
            if _digest(path) in digests[size]:
                yield name


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
