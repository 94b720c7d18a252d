"""Stratified division of whole groups of clips: plain arithmetic on counts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def stratify(
    sizes: NDArray[np.int64], counts: NDArray[np.int64], ratios: Iterable[float], seed: int
) -> NDArray[np.int64]:
    """Divide groups of clips so that each part holds its ratio of the clips and of every label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over whole groups: the rarest label first, its
    largest groups first, each to the part that lacks it most. Once no more groups remain than there are parts without
    the label (or without any clip), those parts come first, so that no part stays empty needlessly.

    sizes: (groups,) clips of each; counts: (groups, labels) clips with each label. Returns the part of each group.
    """
    share = np.array(list(ratios), dtype=np.float64)
    active = [int(part) for part in np.flatnonzero(share > 0)]
    wanted = share[:, None] * counts.sum(axis=0)  # (parts, labels) clips that each part lacks
    room = share * sizes.sum()  # (parts,) clips
    holds = np.zeros(wanted.shape, dtype=bool)
    empty = set(active)
    left = counts.sum(axis=0)  # (labels,) clips in open groups
    part_of = np.full(len(sizes), -1, dtype=np.int64)
    still_open = len(sizes)

    def place(group: int, label: int | None, members: int) -> None:
        """Assign a group, chosen for `label`, to a part. `members`: open groups with that label, this one included."""
        nonlocal left, still_open
        choices, lack = active, room
        if label is not None:
            lack = wanted[:, label]
            without = [part for part in active if not holds[part, label]]
            choices = without if without and members <= len(without) else active
        if still_open <= len(empty):
            choices = sorted(empty)
        part = max(choices, key=lambda part: (lack[part], room[part]))
        part_of[group] = part
        still_open -= 1
        empty.discard(part)
        holds[part] |= counts[group] > 0
        room[part] -= sizes[group]
        wanted[part] -= counts[group]
        left = left - counts[group]

    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        members = order[(part_of[order] < 0) & (counts[order, label] > 0)]
        members = members[np.argsort(-counts[members, label], kind="stable")]
        for position, group in enumerate(members):
            place(int(group), label, len(members) - position)
    for group in order[part_of[order] < 0]:  # clips without any known label
        place(int(group), None, len(sizes))
    return part_of
