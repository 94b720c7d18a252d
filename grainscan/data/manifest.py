"""manifest.json: where each clip came from, what was done to it, and how strong its artifact is.

Like labels.json, it comes with data sets from elsewhere and is not trusted: no name in it may leave its folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grainscan.data.labels import ENCODER, format_object, json_path, load_object, name_fault, raise_faults, shown_value
from grainscan.files import write_text

MANIFEST_FILE = "manifest.json"
MANIFEST_SCHEMA = 1


def read_manifest(folder: str | os.PathLike[str], *, brief: bool = False) -> dict[str, Any] | None:
    """The manifest beside the labels, or None. Raises LabelsError with every fault at once.

    `brief` leaves out how each clip was synthesised, which is most of a large manifest.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        return None
    document, faults = load_object(path, drop=frozenset({"synthesis"}) if brief else frozenset())
    clips = document.get("clips")
    if document.get("schema") != MANIFEST_SCHEMA:
        faults.append(f"$.schema: {document.get('schema')!r} is not {MANIFEST_SCHEMA}, the only known version")
    if not isinstance(clips, dict):
        faults.append("$.clips: must be an object")
        clips = {}
    for name, entry in clips.items():
        faults += [f"$.clips{json_path(name)[1:]}{fault}" for fault in _manifest_faults(name, entry)]
    raise_faults(path, faults, hint="Correct or remove it; without a manifest, strengths and sources are unknown.")
    return document


def _manifest_faults(name: str, entry: Any) -> Iterator[str]:
    fault = name_fault(name)
    if fault:
        yield f": {fault}"
    if not isinstance(entry, dict):
        yield ": must be an object"
        return
    for key in ("source", "twin"):
        value = entry.get(key)
        if value is not None and not isinstance(value, str):
            yield f".{key}: {shown_value(value)} is not text"
        elif key == "twin" and value is not None and (fault := name_fault(value)):
            yield f".twin: {fault}"
    strength = entry.get("strength")
    if strength is not None and not isinstance(strength, dict):
        yield ".strength: must be an object"
        return
    for task, value in (strength or {}).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= sys.float_info.max):
            yield f"{json_path('strength', task)[1:]}: {shown_value(value)} is not a number of at least 0"


def write_manifest(folder: str | os.PathLike[str], manifest: Mapping[str, Any]) -> None:
    """Write manifest.json, one clip per line. Raises OutputError."""
    clips = manifest["clips"]
    head = "".join(
        f"  {ENCODER.encode(key)}: {ENCODER.encode(value)},\n" for key, value in manifest.items() if key != "clips"
    )
    body = format_object({name: clips[name] for name in sorted(clips)}, "  ")
    write_text(Path(folder) / MANIFEST_FILE, f'{{\n{head}  "clips": {body}\n}}\n')
