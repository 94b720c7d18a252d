"""What a clip was cut from, and whether one source appears in two splits. One meaning for split, train and eval."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grainscan.data.labels import LABELS_FILE, SPLITS, parse_labels
from grainscan.data.manifest import read_manifest
from grainscan.errors import ConfigError

_SCENE = re.compile(r"(.+?)_\d+x\d+_")


def scene_of(name: str) -> str | None:
    """The scene in a file name of BVI-Artefact: the part before `_WIDTHxHEIGHT_`. None for other names."""
    match = _SCENE.match(name.rsplit("/", 1)[-1])
    return match[1] if match else None


def source_of(name: str, manifest: Mapping[str, Any] | None) -> str:
    """What a clip was cut from: the manifest's source, else the scene in its name, else the name itself."""
    entry = (manifest or {}).get("clips", {}).get(name) or {}
    return str(entry.get("source") or scene_of(name) or name)


def leaks(data: str | os.PathLike[str], group: str = "auto") -> dict[str, tuple[str, ...]]:
    """Sources that stand in more than one of the existing splits of `data`, with those splits."""
    found: dict[str, list[str]] = {}
    for part in SPLITS:
        folder = Path(data) / part
        if (folder / LABELS_FILE).is_file():
            names = parse_labels(folder / LABELS_FILE)
            sources = group_clips(names, read_manifest(folder, brief=True), group)
            for source in {source for name, source in sources.items() if source != name}:
                found.setdefault(source, []).append(part)
    return {source: tuple(parts) for source, parts in sorted(found.items()) if len(parts) > 1}


# ------------------------------------------------------------------------------------------------- the decision


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
