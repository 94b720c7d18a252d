"""Which clips to cut from which source, decided before anything is cut. Plain arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from grainscan.data.words import counted
from grainscan.errors import DataError
from grainscan.options import PrepConfig
from grainscan.tasks import task_of


@dataclass(frozen=True)
class Wanted:
    """A clip of a source, and how many synthesised twins it gets."""

    source: str
    clip: int
    twins: int = 0


def digest(*parts: object) -> int:
    """A number that depends on all parts and nothing else: the seed of every random choice."""
    text = "\0".join(str(part) for part in parts).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")


def select(available: Mapping[str, int], labels: Mapping[str, Mapping[str, int]], config: PrepConfig) -> list[Wanted]:
    """Choose among the clips that each source can give, first clips first, sources in a seeded order.

    Without `balance`: all, or as many as `limit` allows, twins included. With it: as many clips with the artifact as
    without (at most `limit` of each), all with known labels. Synthesised twins make up for missing footage with the
    artifact, spread evenly over the clean clips. Raises DataError when a class is empty.
    """
    queue = sorted(
        (
            (clip, digest(config.seed, name, clip, "order"), name)
            for name, count in available.items()
            for clip in range(count)
        )
    )
    clips = [(name, clip) for clip, _, name in queue]
    if config.balance is None:
        return _limited(clips, labels, config)
    task = config.balance
    clean = [item for item in clips if labels.get(item[0], {}).get(task) == 0]
    affected = [item for item in clips if labels.get(item[0], {}).get(task) == 1]
    each = min(len(clean), len(affected) + _twins(config) * len(clean), config.limit or len(clips))
    if not each:
        raise DataError(
            f"no balanced subset: {counted(len(affected), 'clip')} with {task} 1 and {len(clean)} with 0",
            hint=_remedy(task) if clean else f"Label footage without {task_of(task).title} as well.",
        )
    needed = max(0, each - len(affected))
    chosen = [
        Wanted(name, clip, needed // each + (number < needed % each))
        for number, (name, clip) in enumerate(clean[:each])
    ]
    return chosen + [Wanted(name, clip) for name, clip in affected[:each]]


def _remedy(task: str) -> str:
    return f"Label more footage, or add --synthesize {task}." if task_of(task).synthesiser else "Label more footage."


def _limited(clips: list[tuple[str, int]], labels: Mapping[str, Mapping[str, int]], config: PrepConfig) -> list[Wanted]:
    chosen = []
    left = config.limit
    for name, clip in clips:
        clean = config.synthesize is not None and labels.get(name, {}).get(config.synthesize) == 0
        twins = _twins(config) if clean else 0
        if left is not None:
            if left <= 0:
                break
            twins = min(twins, left - 1)
            left -= 1 + twins
        chosen.append(Wanted(name, clip, twins))
    return chosen


def _twins(config: PrepConfig) -> int:
    return config.twins if config.synthesize else 0


def surplus(labels: Mapping[str, int | None]) -> set[str]:
    """Clips to leave out so that as many have label 1 as 0: unknown ones, and the last of the larger class."""
    classes = [[name for name, label in labels.items() if label == value] for value in (0, 1)]
    keep = min(len(members) for members in classes)
    kept = {name for members in classes for name in members[:keep]}
    return set(labels) - kept
