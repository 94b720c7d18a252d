"""Which clips to cut from which source: plain arithmetic, before anything is cut."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from grainscan.console import count
from grainscan.errors import UnfitDataError
from grainscan.options import PrepConfig
from grainscan.tasks import task_of


@dataclass(frozen=True)
class Wanted:
    """A clip of a source, and how many synthesised twins it gets."""

    source: str
    clip: int
    twins: int = 0


def digest(*parts: object) -> int:
    """A number that depends on the parts alone: the seed of every random choice."""
    text = "\0".join(str(part) for part in parts).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")


def select(available: Mapping[str, int], labels: Mapping[str, Mapping[str, int]], config: PrepConfig) -> list[Wanted]:
    """Choose among the clips that each source has room for: first clips first, sources in a seeded order.

    Without `balance`: all, or as many as `limit` allows, twins included. With it: as many clips with the artifact as
    without (at most `limit` of each), all with known labels. Synthesised twins make up for missing footage with the
    artifact, spread evenly over the clean clips. Raises UnfitDataError if a class is empty.
    """
    queue = sorted(
        (clip, digest(config.seed, name, clip, "order"), name)
        for name, number in available.items()
        for clip in range(number)
    )
    clips = [(name, clip) for clip, _, name in queue]
    twins = config.twins if config.synthesize else 0
    if config.balance is None:
        asked = config.synthesised
        clean_sources = {name for name, known in labels.items() if all(known.get(task) == 0 for task in asked)}
        return _limited([Wanted(name, clip, twins if name in clean_sources else 0) for name, clip in clips], config)
    task = config.balance
    clean = [item for item in clips if labels.get(item[0], {}).get(task) == 0]
    affected = [item for item in clips if labels.get(item[0], {}).get(task) == 1]
    each = min(len(clean), len(affected) + twins * len(clean), config.limit or len(clips))
    if not each:
        synthesis = f", or add --synthesize {task}" if task_of(task).synthesiser else ""
        missing = f"Label footage without {task_of(task).title} as well."
        raise UnfitDataError(
            f"no balanced subset: {count(len(affected), 'clip')} with {task} 1 and {len(clean)} with 0",
            hint=f"Label more footage{synthesis}." if clean else missing,
        )
    needed = max(0, each - len(affected))
    chosen = [
        Wanted(name, clip, needed // each + (number < needed % each))
        for number, (name, clip) in enumerate(clean[:each])
    ]
    return chosen + [Wanted(name, clip) for name, clip in affected[:each]]


def _limited(clips: list[Wanted], config: PrepConfig) -> list[Wanted]:
    """The first clips, as many as `limit` allows; the last may get fewer twins."""
    if config.limit is None:
        return clips
    chosen = []
    left = config.limit
    for clip in clips:
        if left <= 0:
            break
        chosen.append(replace(clip, twins=min(clip.twins, left - 1)))
        left -= 1 + chosen[-1].twins
    return chosen


def surplus(labels: Mapping[str, int | None]) -> set[str]:
    """Clips to leave out so that both labels are equally frequent: unknown ones, and the last of the larger class."""
    classes = [[name for name, label in labels.items() if label == value] for value in (0, 1)]
    keep = min(len(members) for members in classes)
    kept = {name for members in classes for name in members[:keep]}
    return set(labels) - kept
