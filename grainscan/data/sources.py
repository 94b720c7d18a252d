"""Which footage a clip was cut from, and whether two splits share a source or a file. Used by split, train and eval."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from grainscan.console import count, some
from grainscan.errors import ConfigError

_SCENE = re.compile(r"(.+?)_\d+x\d+_")


def scene_of(name: str) -> str | None:
    """The scene in a BVI-Artefact file name: the part before `_WIDTHxHEIGHT_`. None for other names."""
    match = _SCENE.match(name.rsplit("/", 1)[-1])
    return match[1] if match else None


def group_clips(names: Iterable[str], manifest: Mapping[str, Any] | None, group: str = "auto") -> dict[str, str]:
    """The source of each clip. Clips with the same source, and twins, are kept together.

    `auto` uses the manifest's source, else the scene in a BVI-Artefact name. A regular expression is searched for in
    the name; its first group (or the whole match) is the source. A clip without either is its own source.
    """
    entries: Mapping[str, Any] = (manifest or {}).get("clips", {})
    if group == "auto":
        sources = {name: (entries.get(name) or {}).get("source") or scene_of(name) or name for name in names}
        return _with_twins(sources, entries)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ConfigError(
            f"group is {group!r}, which is not a regular expression: {error}",
            hint="Use auto, or an expression whose first group is the source, such as '(.+)_c[0-9]+'.",
        ) from None
    return _with_twins({name: _searched(pattern, name) or name for name in names}, entries)


def _searched(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.search(name)
    return next(filter(None, (*match.groups()[:1], match[0])), None) if match else None


def _with_twins(sources: dict[str, str], entries: Mapping[str, Any]) -> dict[str, str]:
    """Merge the sources of clips that the manifest calls twins, whatever their names (union-find over sources)."""
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
    return {name: root(source) for name, source in sources.items()}


# --------------------------------------------------------------------------------------------------------- leaks


@dataclass(frozen=True)
class Side:
    """The clips of a split: the source of each by name (from `group_clips`), and their folder."""

    sources: Mapping[str, str]
    media: Path

    def paths(self) -> dict[str, Path]:
        return {name: self.media / name for name in self.sources}

    def known_sources(self) -> set[str]:
        """Without clips that are their own source: nothing is known about those."""
        return {source for name, source in self.sources.items() if source != name}


@dataclass(frozen=True)
class Leak:
    """What two splits share: sources, or files of the same content (by their names in the second)."""

    kind: Literal["source", "file"]
    splits: tuple[str, str]
    names: tuple[str, ...]

    def __str__(self) -> str:
        what = count(len(self.names), "source" if self.kind == "source" else "identical file")
        verb = "is" if len(self.names) == 1 else "are"
        return f"{what} {verb} in both {' and '.join(self.splits)}: {some(self.names, 5)}"


def leaks(splits: Mapping[str, Side]) -> tuple[Leak, ...]:
    """Every source and file that is in two of the splits, which makes figures on the second too good. Raises OSError.

    Two clips of the same name without a known source do not share one.
    """
    found = []
    for (first, one), (second, other) in combinations(splits.items(), 2):
        shared = one.known_sources() & other.known_sources()
        if shared:
            found.append(Leak("source", (first, second), tuple(sorted(shared))))
        same = tuple(_same_files(one.paths(), other.paths()))
        if same:
            found.append(Leak("file", (first, second), same))
    return tuple(found)


def _same_files(first: Mapping[str, Path], second: Mapping[str, Path]) -> Iterator[str]:
    """Names in `second` of files whose content is in `first`. Only files of equal size are read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in first.values():
        sizes[path.stat().st_size].append(path)

    @cache
    def digests(size: int) -> set[bytes]:
        return {_digest(path) for path in sizes[size]}

    for name, path in second.items():
        size = path.stat().st_size
        if size in sizes and _digest(path) in digests(size):
            yield name


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
