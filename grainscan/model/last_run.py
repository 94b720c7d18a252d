"""The last training run of each working directory, for `eval` and `--model last`. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grainscan.errors import OutputError
from grainscan.files import write_json

MODEL_FOLDER = "model"
STATE_FILE = "last-runs.json"
_REMEMBERED = 500  # working directories


@dataclass(frozen=True)
class LastRun:
    """The last training of a working directory."""

    directory: Path
    data: Path

    @property
    def model(self) -> Path:
        return self.directory / MODEL_FOLDER


def remember_run(directory: Path, data: Path, *, here: Path | None = None) -> None:
    """Record in the user's state directory that this run, on this data, was the last of a working directory."""
    key = str((here or Path.cwd()).absolute())
    entries = _remembered()
    entries.pop(key, None)  # the latest comes last
    entries[key] = {"run": str(directory.absolute()), "data": str(data.absolute())}
    kept = dict(list(entries.items())[-_REMEMBERED:])
    path = _state_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    except (OSError, OutputError) as error:
        hint = "Set XDG_STATE_HOME to a writable folder."
        raise OutputError(f"the last run cannot be recorded: {error}", hint=hint) from None


def last_run(*, here: Path | None = None) -> LastRun | None:
    """The last run of a working directory (default: the current one); None if there is none or it is gone."""
    entry = _remembered().get(str((here or Path.cwd()).absolute()))
    if not isinstance(entry, dict) or not isinstance(entry.get("run"), str) or not isinstance(entry.get("data"), str):
        return None
    run = LastRun(Path(entry["run"]), Path(entry["data"]))
    return run if run.directory.is_dir() else None


def _state_file() -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir("grainscan", appauthor=False)) / STATE_FILE


def _remembered() -> dict[str, Any]:
    try:
        entries = json.loads(_state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
