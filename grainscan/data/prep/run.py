"""The whole of `grainscan prep`: plan, cut, resume, and write labels.json and manifest.json.

While it runs, DST/.prep/ holds the plan and one journal of finished clips per source. After an interruption, the same
call continues from there; any other call into that folder is refused. labels.json is written last, so that a folder
that has one is complete.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from grainscan import __version__
from grainscan.console import Progress, count, some
from grainscan.data.labels import LABELS_FILE, Prevalence, prevalence, task_fault, task_names, write_labels
from grainscan.data.manifest import MANIFEST_FILE, MANIFEST_SCHEMA, read_manifest, write_manifest
from grainscan.data.prep.cutting import Cut, Entry, Job, put_in, recall
from grainscan.data.prep.footage import Examined, Skipped, Source, find_footage, reason_of
from grainscan.data.prep.labelling import Labelling, label_footage
from grainscan.data.prep.selection import Wanted, select, surplus
from grainscan.errors import ConfigError, DataError, OutputError, UnfitDataError, UnfitOutputError, VideoError, require
from grainscan.files import check_folder, remove_unfinished, unwritable, write_text
from grainscan.options import PrepConfig
from grainscan.results import Report
from grainscan.tasks import DEFAULT_TASK, task_of
from grainscan.workers import MEMORY, spread

WORK_FOLDER = ".prep"
PLAN_FILE = "plan.json"
_EXAMINE, _CUT = "grainscan.data.prep.footage:examine_request", "grainscan.data.prep.cutting:cut_request"
_SHOWN = 3  # faults in an error
_State = Literal["planned", "written", "unchanged"]


@dataclass(frozen=True)
class PrepReport(Report):
    """What was written, or would be written (dry run)."""

    destination: Path
    state: _State  # unchanged: everything was there already
    videos: int  # from which clips were cut
    clips: dict[str, dict[str, int | None]]  # labels by name; expected ones for planned twins
    prevalence: dict[str, Prevalence]  # by task
    skipped: tuple[Skipped, ...] = ()  # files that do not decode, clips that could not be made
    notes: tuple[str, ...] = ()  # where labels came from, what was inferred, what was left out
    next_steps: tuple[str, ...] = ()  # what to do next, best alternative first


def prepare(config: PrepConfig, *, progress: Progress | None = None) -> PrepReport:
    """Cut labelled clips from footage into `config.destination`.

    Videos without a known label are left out, unless none has one. A file that does not decode is listed in the report
    and the manifest. Raises UsageError for a wrong request, labels or footage that it does not suit or a destination
    that holds something else, DependencyError without scipy, DataError if no video can be decoded, OutputError if the
    destination cannot be written.
    """
    _check(config)
    progress = progress or Progress()
    sources, skipped = find_footage(config.sources, apart_from=config.destination)
    labelling = label_footage(sources, config)
    options = _options(config, sources, labelling)
    finished = _finished(config.destination, options)
    if finished is not None:
        return finished
    if labelling.labels:
        sources = [source for source in sources if source.name in labelling.labels]
    examined = _examined_before(config.destination, options) or _examine(sources, config, progress)
    skipped += [Skipped(name, about.reason) for name, about in examined.items() if about.reason]
    notes = [*labelling.notes]
    wanted = select(_available(examined, config, notes), labelling.labels, config)
    if not wanted:
        faults = "; ".join(f"{item.file}: {item.reason}" for item in skipped[:_SHOWN])
        kind = DataError if skipped else UnfitDataError
        raise kind(
            "no clip can be cut from this footage" + (f" ({faults})" if faults else ""),
            hint="Check the files, or --size, --frames and --small.",
        )
    jobs = _jobs(wanted, sources, examined, labelling, config)
    folder = config.destination
    if config.dry_run:
        return _report(folder, "planned", _expected(jobs), skipped, notes)
    try:
        (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    footage = {name: asdict(about) for name, about in examined.items()}
    write_text(folder / WORK_FOLDER / PLAN_FILE, json.dumps({"options": options, "footage": footage}))
    entries = _kept(_cut(jobs, config, progress, skipped, notes), wanted, jobs, config, notes)
    if not entries:
        raise DataError("no clip could be made", hint="; ".join(item.reason for item in skipped[:_SHOWN]))
    manifest = {"schema": MANIFEST_SCHEMA, "grainscan": __version__, "seed": config.seed, "options": options}
    manifest |= {"notes": notes, "skipped": [asdict(item) for item in skipped], "clips": entries}
    _finish(folder, jobs, manifest)
    return _report(folder, "written", entries, skipped, notes)


def _check(config: PrepConfig) -> None:
    """Refuse what cannot work before any footage is touched."""
    if config.synthesize is not None:
        require("prep --synthesize", "scipy")
    if config.balance is not None:
        if fault := task_fault(config.balance):
            raise ConfigError(f"balance is {config.balance!r}: {fault}")
        if config.synthesize is not None and config.synthesised != (config.balance,):
            raise ConfigError(
                f"clips synthesised for {', '.join(config.synthesised)} cannot be balanced by {config.balance}",
                hint="Balance by the only task that is synthesised, or leave out --balance.",
            )
    folder = config.destination
    if folder.exists() and not folder.is_dir():
        raise UnfitOutputError(f"{folder}: is a file", hint="Name a folder for the clips.")
    check_folder(folder)
    ours = (folder / WORK_FOLDER / PLAN_FILE, folder / MANIFEST_FILE)
    taken = folder.is_dir() and any(item.name != WORK_FOLDER for item in folder.iterdir())
    if taken and not any(path.is_file() for path in ours):
        raise UnfitOutputError(f"{folder}: is not empty", hint="Name a new folder, so that nothing there is touched.")


def _options(config: PrepConfig, sources: Sequence[Source], labelling: Labelling) -> dict[str, Any]:
    """Everything that the result depends on; `footage` is a digest of the footage and its labels."""
    known = asdict(config)
    for key in ("destination", "workers", "dry_run"):
        del known[key]
    state = [(source.name, source.size, source.changed, labelling.labels.get(source.name)) for source in sources]
    footage = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    return {
        **known,
        "sources": [*map(str, config.sources)],
        "labels": config.labels and str(config.labels),
        "footage": footage,
    }


def _finished(folder: Path, options: dict[str, Any]) -> PrepReport | None:
    """The report of a folder that the same call has already filled. Raises UnfitOutputError if another call did."""
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = read_manifest(folder, brief=True) or {}
    if manifest.get("options") != options:
        raise _other(folder)
    if not all((folder / name).is_file() for name in [LABELS_FILE, *manifest["clips"]]):
        return None
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    skipped = [Skipped(**item) for item in manifest["skipped"]]
    return _report(folder, "unchanged", manifest["clips"], skipped, manifest["notes"])


def _examined_before(folder: Path, options: dict[str, Any]) -> dict[str, Examined] | None:
    """What an interrupted run knew about the footage. Raises OutputError, also if it had other options."""
    path = folder / WORK_FOLDER / PLAN_FILE
    if not path.is_file():
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["options"] != options:
            raise _other(folder)
        return {name: Examined(**about) for name, about in plan["footage"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"{path}: cannot be read", hint=f"Remove {folder} and start again.") from None


def _other(folder: Path) -> UnfitOutputError:
    return UnfitOutputError(
        f"{folder}: holds clips of other footage or other options",
        hint="Repeat the earlier command to continue it, or name a new folder.",
    )


def _examine(sources: Sequence[Source], config: PrepConfig, progress: Progress) -> dict[str, Examined]:
    paths = {str(source.path): source.name for source in sources}
    examined = {}
    progress.stage("verifying", len(paths))
    requests = ((path, path) for path in paths)
    for path, about in spread(_EXAMINE, requests, workers=config.workers, parse=lambda about: Examined(**about)):
        examined[paths[path]] = Examined(reason=reason_of(path, about)) if isinstance(about, VideoError) else about
        progress.advance(len(examined))
    return dict(sorted(examined.items()))


def _available(examined: Mapping[str, Examined], config: PrepConfig, notes: list[str]) -> dict[str, int]:
    """How many clips each source has room for. Small ones are named in a note, and kept or left out."""
    available = {}
    small = []
    for name, about in examined.items():
        if about.reason:
            continue
        if min(about.width, about.height) < config.size or about.frames < config.frames:
            small.append(name)
            if config.small == "skip":
                continue
        windows = max(1, about.frames // config.frames)
        one_place = about.width <= config.size and about.height <= config.size
        available[name] = min(config.clips, windows) if one_place else config.clips
    if small:
        done = "left out" if config.small == "skip" else "used whole"
        notes.append(f"{count(len(small), 'video')} smaller or shorter than a clip, {done}: {some(small)}")
    return available


def _jobs(
    wanted: Sequence[Wanted],
    sources: Sequence[Source],
    examined: Mapping[str, Examined],
    labelling: Labelling,
    config: PrepConfig,
) -> list[Job]:
    clips: dict[str, dict[int, int]] = {}
    for item in wanted:
        clips.setdefault(item.source, {})[item.clip] = item.twins
    return [
        Job(
            path=str(source.path),
            name=source.name,
            stem=source.stem,
            examined=examined[source.name],
            labels=labelling.labels.get(source.name, {}),
            clips=clips[source.name],
            windows=config.clips,
            frames=config.frames,
            size=config.size,
            tasks=config.synthesised,
            seed=config.seed,
            destination=str(config.destination),
            journal=str(config.destination / WORK_FOLDER / f"{source.stem}.jsonl"),
        )
        for source in sources
        if source.name in clips
    ]


def _expected(jobs: Sequence[Job]) -> dict[str, Entry]:
    """What the report needs of the entries that a run would write, if every artifact survives."""
    expected: dict[str, Entry] = {}
    for job in jobs:
        for clip, twins in job.clips.items():
            for number in range(twins + 1):
                several = number > 0 and len(job.tasks) > 1  # which of them, is drawn later
                labels = {task: None if several else min(number, 1) for task in job.tasks} if twins else job.labels
                expected[job.clip_name(clip, number)] = {"file": job.name, "labels": {**labels}}
    return expected


def _cut(
    jobs: Sequence[Job], config: PrepConfig, progress: Progress, skipped: list[Skipped], notes: list[str]
) -> dict[str, Entry]:
    """Run the jobs. Returns the manifest's entries by clip; faults and missing clips are added to the lists."""
    entries: dict[str, Entry] = {}
    failed: dict[str, str] = {}
    done, missing = 0, 0
    progress.stage("cutting", sum(len(job.clips) for job in jobs))
    by_path = {job.path: job for job in jobs}
    results = spread(
        _CUT,
        ((path, asdict(job)) for path, job in by_path.items()),
        workers=config.workers,
        preload=["grainscan.data.synth"] if config.synthesize else [],
        memory=MEMORY + max(job.memory for job in jobs),
        parse=lambda result: Cut(**result),
    )
    try:
        for path, result in results:
            job = by_path[path]
            if isinstance(result, VideoError):
                result = Cut(recall(job)[0], {job.name: reason_of(path, result)})
            entries |= result.entries
            failed |= result.failed
            missing += result.missing
            done += len(job.clips)
            progress.advance(done)
    finally:
        results.close()
        if config.destination.is_dir():
            remove_unfinished(config.destination.iterdir())
    skipped += [Skipped(clip, reason) for clip, reason in sorted(failed.items())]
    if missing:
        notes.append(f"{count(missing, 'clip')} fewer than asked for: short or small videos have no room for more")
    return entries


def _kept(
    entries: dict[str, Entry], wanted: Sequence[Wanted], jobs: Sequence[Job], config: PrepConfig, notes: list[str]
) -> dict[str, Entry]:
    """The entries that keep the balance, now that the labels of the twins are known. The last wanted are left out."""
    by_name = {job.name: job for job in jobs}
    names = [(by_name[item.source].clip_name(item.clip, n), n) for item in wanted for n in range(item.twins + 1)]
    twins = [entries[name] for name, n in names if n > 0 and name in entries]
    if faint := [task for entry in twins for task in put_in(entry) if entry["labels"][task] != 1]:
        if len(config.synthesised) == 1:
            title = task_of(faint[0]).title
            notes.append(f"{count(len(faint), 'twin')} not labelled 1: encoding left too little {title}")
        else:
            notes.append(f"{count(len(faint), 'artifact')} put in and not labelled 1: too little is left of them")
    entries = {name: entries[name] for name, _ in names if name in entries}
    if config.balance is not None:
        extra = surplus({name: entry["labels"].get(config.balance) for name, entry in entries.items()})
        if extra:
            notes.append(f"{count(len(extra), 'clip')} left out again to keep {config.balance} balanced")
        entries = {name: entry for name, entry in entries.items() if name not in extra}
    return {
        name: {**entry, "twin": entry["twin"] if entry["twin"] in entries else None} for name, entry in entries.items()
    }


def _finish(folder: Path, jobs: Sequence[Job], manifest: dict[str, Any]) -> None:
    """Remove clips that are not wanted after all, and write the manifest and, last, the labels."""
    entries = manifest["clips"]
    for name in {name for job in jobs for name in job.names()}.difference(entries):
        (folder / name).unlink(missing_ok=True)
    write_manifest(folder, manifest)
    write_labels(folder, {name: entry["labels"] for name, entry in entries.items()})
    shutil.rmtree(folder / WORK_FOLDER)


def _report(
    folder: Path, state: _State, entries: Mapping[str, Entry], skipped: Iterable[Skipped], notes: Iterable[str]
) -> PrepReport:
    videos = len({entry["file"] for entry in entries.values()})
    clips = {name: entry["labels"] for name, entry in sorted(entries.items())}
    counts = prevalence(clips.values(), task_names(clips.values()))
    steps = () if state == "planned" else _next_steps(folder, labelled=bool(counts))
    return PrepReport(folder, state, videos, clips, counts, tuple(skipped), tuple(notes), steps)


def _next_steps(folder: Path, *, labelled: bool) -> tuple[str, ...]:
    data = shlex.quote(str(folder))
    if labelled:
        return (f"grainscan split {data}",)
    return (
        f"write 0 or 1 for each clip in {folder / LABELS_FILE}, then grainscan split {data}",
        f"grainscan predict {data}",
        f"prepare the footage again into a new folder with --synthesize {DEFAULT_TASK}",
    )
