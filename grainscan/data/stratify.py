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
    parts = _Parts(sizes, counts, np.array(list(ratios), dtype=np.float64))
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    while (parts.left > 0).any():
        label = int(np.argmin(np.where(parts.left > 0, parts.left, np.iinfo(np.int64).max)))
        members = order[(parts.of_group[order] < 0) & (counts[order, label] > 0)]
        members = members[np.argsort(-counts[members, label], kind="stable")]
        for position, group in enumerate(members):
            parts.place(int(group), label, len(members) - position)
    for group in order[parts.of_group[order] < 0]:  # clips without any known label
        parts.place(int(group), None, len(sizes))
    return parts.of_group


class _Parts:
    """What each part has and still lacks while groups are assigned."""

    def __init__(self, sizes: NDArray[np.int64], counts: NDArray[np.int64], share: NDArray[np.float64]) -> None:
        self._sizes, self._counts = sizes, counts
        self._active = [int(part) for part in np.flatnonzero(share > 0)]
        self._wanted = share[:, None] * counts.sum(axis=0)  # (parts, labels) clips
        self._room = share * sizes.sum()  # (parts,) clips
        self._holds = np.zeros(self._wanted.shape, dtype=bool)
        self._empty = set(self._active)
        self._open = len(sizes)  # groups not yet assigned
        self.left = counts.sum(axis=0)  # (labels,) clips in those
        self.of_group = np.full(len(sizes), -1, dtype=np.int64)

    def place(self, group: int, label: int | None, members: int) -> None:
        """Assign a group, chosen for `label`, to a part. `members`: open groups with that label, this one included."""
        choices = self._active
        lack = self._room if label is None else self._wanted[:, label]
        if label is not None:
            without = [part for part in self._active if not self._holds[part, label]]
            choices = without if without and members <= len(without) else choices
        if self._open <= len(self._empty):
            choices = sorted(self._empty)
        part = max(choices, key=lambda part: (lack[part], self._room[part]))
        self.of_group[group] = part
        self._open -= 1
        self._empty.discard(part)
        self._holds[part] |= self._counts[group] > 0
        self._room[part] -= self._sizes[group]
        self._wanted[part] -= self._counts[group]
        self.left -= self._counts[group]
