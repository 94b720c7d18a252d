"""`grainscan prep` as a whole: plan, cut, resume, and what is written beside the clips.

While it runs, DST/.prep/ holds the plan and one journal of finished clips per source. The same call after an
interruption continues from there; any other call into the same folder is refused. labels.json and manifest.json are
written last, so that a folder with a labels.json is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from grainscan import __version__
from grainscan.data.labels import LABELS_FILE, Prevalence, prevalence, task_fault, task_names, write_labels
from grainscan.data.manifest import MANIFEST_FILE, MANIFEST_SCHEMA, read_manifest, write_manifest
from grainscan.data.prep.crew import spread
from grainscan.data.prep.cutting import Cut, Entry, Job, cut, recall
from grainscan.data.prep.footage import Examined, Skipped, Source, examine, find_footage
from grainscan.data.prep.labelling import Labelling, label_footage
from grainscan.data.prep.selection import Wanted, select, surplus
from grainscan.data.words import counted, some
from grainscan.errors import ConfigError, DataError, OutputError
from grainscan.files import TEMPORARY, write_text
from grainscan.options import PrepConfig
from grainscan.results import Report
from grainscan.tasks import synthesised, task_of

WORK_FOLDER = ".prep"
PLAN_FILE = "plan.json"
_CRASHED = "the decoder crashed, or hung"
_SHOWN = 3  # faults in an error

Progress = Callable[[int, int, str], object]  # done, total, what


@dataclass(frozen=True)
class PrepReport(Report):
    """What was written, or would be (dry run). `state`: planned, written, or unchanged (everything was there already).

    `skipped` are the faults: files that do not decode, clips that could not be made. `notes` say the rest in words:
    where labels came from, what was inferred, what was left out. `next_steps`: what to do now, alternatives in order.
    """

    destination: Path
    state: Literal["planned", "written", "unchanged"]
    videos: int  # that clips come from
    clips: dict[str, dict[str, int | None]]  # labels by name; of planned twins, those expected
    prevalence: dict[str, Prevalence]  # by task
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


def prepare(config: PrepConfig, *, progress: Progress | None = None) -> PrepReport:
    """Cut labelled clips from footage into `config.destination`.

    Videos without a known label are left out, unless none has one. A file that does not decode is listed in the report
    and the manifest and never raises. Raises ConfigError, UsageError and LabelsError for a wrong request, DataError
    when no clip can be made of the footage, OutputError when the destination holds something else or cannot be written.
    """
    _check(config)
    tell = progress or (lambda done, total, what: None)
    sources, skipped = find_footage(config.sources, apart_from=config.destination)
    labelling = label_footage(sources, config)
    options = _options(config, sources, labelling)
    finished = _finished(config.destination, options)
    if finished is not None:
        return finished
    if labelling.labels:
        sources = [source for source in sources if source.name in labelling.labels]
    examined = _examined_before(config.destination, options) or _examine(sources, config, tell)
    skipped += [Skipped(name, about.reason) for name, about in examined.items() if about.reason]
    notes = [*labelling.notes]
    wanted = select(_available(examined, config, notes), labelling.labels, config)
    if not wanted:
        faults = "; ".join(f"{item.file}: {item.reason}" for item in skipped[:_SHOWN])
        raise DataError(
            "no clip can be cut from this footage" + (f" ({faults})" if faults else ""),
            hint="Check the files, or --size, --frames and --small.",
        )
    jobs = _jobs(wanted, sources, examined, labelling, config)
    folder = config.destination
    if config.dry_run:
        return _report(folder, "planned", len(jobs), _expected(jobs), skipped, notes)
    _begin(folder, options, examined)
    entries = _cut(jobs, config, tell, skipped, notes)
    twins = {name for job in jobs for name in job.names(1)}
    entries = _kept(_in_order(wanted, jobs, entries), twins, config, notes)
    if not entries:
        raise DataError("no clip could be made", hint="; ".join(item.reason for item in skipped[:_SHOWN]))
    manifest = {"schema": MANIFEST_SCHEMA, "grainscan": __version__, "seed": config.seed, "options": options}
    manifest |= {"notes": notes, "skipped": [asdict(item) for item in skipped], "clips": entries}
    _finish(folder, jobs, manifest)
    labels = {name: entry["labels"] for name, entry in entries.items()}
    return _report(folder, "written", _videos(entries), labels, skipped, notes)


def _check(config: PrepConfig) -> None:
    """Refuse what cannot work before any footage is touched."""
    if config.synthesize is not None:
        from grainscan.data.synth import synthesiser

        synthesiser(config.synthesize)
    if config.balance is not None:
        if fault := task_fault(config.balance):
            raise ConfigError(f"balance is {config.balance!r}: {fault}")
        if config.synthesize not in (None, config.balance):
            raise ConfigError(
                f"clips synthesised for {config.synthesize} cannot be balanced by {config.balance}",
                hint="Their other labels are unknown. Balance by the same task, or synthesise in a second folder.",
            )
    folder = config.destination
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file", hint="Name a folder for the clips.")
    ours = (folder / WORK_FOLDER / PLAN_FILE, folder / MANIFEST_FILE)
    taken = folder.is_dir() and any(item.name != WORK_FOLDER for item in folder.iterdir())
    if taken and not any(path.is_file() for path in ours):
        raise OutputError(f"{folder}: is not empty", hint="Name a new folder, so that nothing there is touched.")


def _options(config: PrepConfig, sources: Sequence[Source], labelling: Labelling) -> dict[str, Any]:
    """All that the result depends on; `footage` is a digest of the footage and its labels."""
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
    """The report of a folder that the same call has filled before. Raises OutputError when another call has."""
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = read_manifest(folder, brief=True) or {}
    if manifest.get("options") != options:
        raise _other(folder)
    if not all((folder / name).is_file() for name in [LABELS_FILE, *manifest["clips"]]):
        return None
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    entries = manifest["clips"]
    skipped = [Skipped(**item) for item in manifest["skipped"]]
    labels = {name: entry["labels"] for name, entry in entries.items()}
    return _report(folder, "unchanged", _videos(entries), labels, skipped, manifest["notes"])


def _examined_before(folder: Path, options: dict[str, Any]) -> dict[str, Examined] | None:
    """What an interrupted run knew about the footage. Raises OutputError when it had other options."""
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


def _other(folder: Path) -> OutputError:
    return OutputError(
        f"{folder}: holds clips of other footage or other options",
        hint="Repeat the earlier command to continue it, or name a new folder.",
    )


def _examine(sources: Sequence[Source], config: PrepConfig, tell: Progress) -> dict[str, Examined]:
    """Decode every source."""
    paths = {str(source.path): source.name for source in sources}
    examined = {}
    for path, about in spread(examine, paths, workers=config.workers):
        examined[paths[path]] = about or Examined(reason=_CRASHED)
        tell(len(examined), len(paths), "verifying")
    return dict(sorted(examined.items()))


def _available(examined: Mapping[str, Examined], config: PrepConfig, notes: list[str]) -> dict[str, int]:
    """How many clips each source can give. Small sources are kept or left out, and named, as `small` says."""
    available = {}
    small = []
    for name, about in examined.items():
        if about.reason:
            continue
        narrow, low, short = about.width < config.size, about.height < config.size, about.frames < config.frames
        if narrow or low or short:
            small.append(name)
            if config.small == "skip":
                continue
        windows = max(1, about.frames // config.frames)
        one_place = about.width <= config.size and about.height <= config.size
        available[name] = min(config.clips, windows) if one_place else config.clips
    if small:
        done = "left out" if config.small == "skip" else "used whole"
        notes.append(f"{counted(len(small), 'video')} smaller or shorter than a clip, {done}: {some(small)}")
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
            task=config.synthesize,
            seed=config.seed,
            destination=str(config.destination),
            journal=str(config.destination / WORK_FOLDER / f"{source.stem}.jsonl"),
        )
        for source in sources
        if source.name in clips
    ]


def _expected(jobs: Sequence[Job]) -> dict[str, dict[str, int | None]]:
    """The labels that a run would write, if every twin's artifact survives."""
    expected: dict[str, dict[str, int | None]] = {}
    for job in jobs:
        for clip, twins in job.clips.items():
            for number in range(twins + 1):
                labels = {job.task: min(number, 1)} if twins and job.task else job.labels
                expected[job.clip_name(clip, number)] = {**labels}
    return expected


def _begin(folder: Path, options: dict[str, Any], examined: Mapping[str, Examined]) -> None:
    try:
        (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be created: {error.strerror or error}", hint="Name a folder that can be written."
        ) from None
    footage = {name: asdict(about) for name, about in examined.items()}
    write_text(folder / WORK_FOLDER / PLAN_FILE, json.dumps({"options": options, "footage": footage}))


def _cut(
    jobs: Sequence[Job], config: PrepConfig, tell: Progress, skipped: list[Skipped], notes: list[str]
) -> dict[str, Entry]:
    """Run the jobs. The manifest's entries by clip; faults and what is missing are added to the lists."""
    entries: dict[str, Entry] = {}
    failed: dict[str, str] = {}
    done, total, missing = 0, sum(len(job.clips) for job in jobs), 0
    for job, result in spread(cut, jobs, workers=config.workers):
        if result is None:
            result = Cut(recall(job), {job.name: _CRASHED})
        entries |= result.entries
        failed |= result.failed
        missing += result.missing
        done += len(job.clips)
        tell(done, total, "cutting")
    skipped += [Skipped(clip, reason) for clip, reason in sorted(failed.items())]
    if missing:
        notes.append(f"{counted(missing, 'clip')} fewer than asked for: short or small videos have no place for more")
    return entries


def _in_order(wanted: Sequence[Wanted], jobs: Sequence[Job], entries: dict[str, Entry]) -> dict[str, Entry]:
    """The entries in the order of selection, the last of which are left out first."""
    by_name = {job.name: job for job in jobs}
    names = (by_name[item.source].clip_name(item.clip, n) for item in wanted for n in range(item.twins + 1))
    return {name: entries[name] for name in names if name in entries}


def _kept(entries: dict[str, Entry], twins: set[str], config: PrepConfig, notes: list[str]) -> dict[str, Entry]:
    """The entries without those that upset the balance, now that the labels of the twins are known."""
    if config.synthesize:
        faint = sum(entries[name]["labels"][config.synthesize] != 1 for name in twins & entries.keys())
        if faint:
            what = task_of(config.synthesize).title
            notes.append(f"{counted(faint, 'twin')} not labelled 1: encoding left too little {what}")
    if config.balance is not None:
        extra = surplus({name: entry["labels"].get(config.balance) for name, entry in entries.items()})
        if extra:
            notes.append(f"{counted(len(extra), 'clip')} left out again to keep {config.balance} balanced")
        entries = {name: entry for name, entry in entries.items() if name not in extra}
    return {
        name: {**entry, "twin": entry["twin"] if entry["twin"] in entries else None} for name, entry in entries.items()
    }


def _finish(folder: Path, jobs: Sequence[Job], manifest: dict[str, Any]) -> None:
    """Remove clips that are not wanted after all and what a killed worker left; labels.json is written last."""
    entries = manifest["clips"]
    for name in {name for job in jobs for name in job.names()}.difference(entries):
        (folder / name).unlink(missing_ok=True)
    for left in folder.glob(TEMPORARY + "*"):
        left.unlink()
    write_manifest(folder, manifest)
    write_labels(folder, {name: entry["labels"] for name, entry in entries.items()})
    shutil.rmtree(folder / WORK_FOLDER)


def _videos(entries: Mapping[str, Entry]) -> int:
    return len({entry["file"] for entry in entries.values()})


def _report(
    folder: Path,
    state: Literal["planned", "written", "unchanged"],
    videos: int,
    clips: Mapping[str, dict[str, int | None]],
    skipped: Iterable[Skipped],
    notes: Iterable[str],
) -> PrepReport:
    clips = dict(sorted(clips.items()))
    counts = prevalence(clips.values(), task_names(clips.values()))
    steps = () if state == "planned" else _next_steps(folder, labelled=bool(counts))
    return PrepReport(folder, state, videos, clips, counts, tuple(skipped), tuple(notes), steps)


def _next_steps(folder: Path, *, labelled: bool) -> tuple[str, ...]:
    if labelled:
        return (f"grainscan split {folder}",)
    return (
        f"write 0 or 1 for each clip in {folder / LABELS_FILE}, then grainscan split {folder}",
        f"grainscan predict {folder}",
        *(f"prepare the footage again into a new folder with --synthesize {task}" for task in synthesised()),
    )
