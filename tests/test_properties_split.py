"""Splits of any data set: no source on two sides, no side empty, nothing lost, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import property_kit  # noqa: F401 (loads the profile)
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_split import sides, tree

from grainscan.data.labels import SPLITS, parse_labels, read_labels, write_labels
from grainscan.data.manifest import read_manifest, write_manifest
from grainscan.data.sources import group_clips, leaks
from grainscan.data.split import parse_ratios, split
from grainscan.data.stratify import stratify
from grainscan.errors import DataError, LabelsError
from grainscan.options import SplitConfig

ratios = st.tuples(*[st.integers(0, 100)] * 3).filter(any).map(lambda parts: np.array(parts) / sum(parts))
seeds = st.integers(0, 2**31)


@st.composite
def groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, counts of each label) of groups with up to three tasks, some labels unknown."""
    number, tasks = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(seeds))
    sizes = rng.integers(1, draw(st.integers(2, 12)), number)
    counts = np.zeros((number, 2 * tasks), dtype=np.int64)
    for task in range(tasks):
        known = rng.binomial(sizes, rng.random())
        counts[:, 2 * task] = rng.binomial(known, rng.random())
        counts[:, 2 * task + 1] = known - counts[:, 2 * task]
    return sizes, counts


@given(groups(), ratios, seeds)
def test_every_group_gets_a_part_that_is_wanted_and_none_is_left_empty(
    drawn: tuple[np.ndarray, np.ndarray], share: np.ndarray, seed: int
) -> None:
    sizes, counts = drawn
    part = stratify(sizes, counts, share, seed)
    wanted = set(np.flatnonzero(share > 0))
    assert part.shape == sizes.shape
    assert set(part) <= wanted
    assert len(set(part)) == min(len(wanted), len(sizes))
    np.testing.assert_array_equal(stratify(sizes, counts, share, seed), part)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=60), ratios, seeds)
def test_shares_are_kept_within_what_whole_groups_allow(
    drawn: list[tuple[int, int]], share: np.ndarray, seed: int
) -> None:
    """Groups of one label each (or of none): no part takes more of a label than its share and one group beyond."""
    sizes = np.array([size for size, _ in drawn])
    label = np.array([label for _, label in drawn])
    counts = np.where(label[:, None] == np.arange(2), sizes[:, None], 0)
    part = stratify(sizes, counts, share, seed)
    for column in counts.T:
        taken = np.array([column[part == number].sum() for number in range(3)])
        assert (taken <= share * column.sum() + column.max()).all()
    taken = np.array([sizes[part == number].sum() for number in range(3)])
    slack = sum(sizes[label == kind].max(initial=0) for kind in range(3))
    assert (taken <= share * sizes.sum() + slack).all()


@given(st.integers(0, 100), st.integers(0, 100))
def test_percentages_and_fractions_say_the_same(train: int, val: int) -> None:
    assume(train + val <= 100)
    percent = (train, val, 100 - train - val)
    whole, parts = ("/".join(map(str, numbers)) for numbers in (percent, (part / 100 for part in percent)))
    assert parse_ratios(whole) == pytest.approx([part / 100 for part in percent])
    assert parse_ratios(parts) == pytest.approx(parse_ratios(whole))


@dataclass(frozen=True)
class DataSet:
    labels: dict[str, dict[str, int | None]]
    entries: dict[str, dict[str, Any]]  # of the manifest
    avi: bool  # in the layout of BVI-Artefact

    def write(self, folder: Path) -> None:
        media = folder / "avi" if self.avi else folder
        for name in self.labels:
            (media / name).parent.mkdir(parents=True, exist_ok=True)
            (media / name).write_text(name)
        write_labels(folder, self.labels)
        if self.entries:
            write_manifest(folder, {"schema": 1, "grainscan": "0", "clips": self.entries})


@st.composite
def data_sets(draw: st.DrawFn) -> DataSet:
    """Clips with sources and twins in the manifest, with scenes in their names, or with neither."""
    label = st.none() | st.integers(0, 1)
    labels: dict[str, dict[str, int | None]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(("{}.avi", "sub/{}.mp4", "Scene{}_64x64_a.avi"))).format(number)
        labels[name] = {"graininess": draw(label), "own_task": draw(label)}
        known = draw(st.sampled_from(("source", "twin", "nothing")))
        if known == "source":
            entries[name] = {"source": f"reel {draw(st.integers(0, 4))}"}
        elif known == "twin" and len(labels) > 1:
            entries[name] = {"twin": draw(st.sampled_from(sorted(set(labels) - {name})))}
    return DataSet(labels, entries, draw(st.booleans()))


@settings(max_examples=max(10, settings.default.max_examples // 4))
@given(data_sets(), st.sampled_from(("70/15/15", "50/25/25", "80/20/0", "0/0/100")), st.integers(0, 99))
def test_a_split_divides_no_source_and_undo_takes_all_of_it_back(data: DataSet, shares: str, seed: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        data.write(folder)
        before = tree(folder)
        sources = group_clips(data.labels, read_manifest(folder))
        config = SplitConfig(folder, ratios=shares, seed=seed)
        if all(label is None for labels in data.labels.values() for label in labels.values()):
            with pytest.raises(LabelsError, match="no clip has a known label"):
                split(config)
            assert tree(folder) == before
            return
        if len(set(sources.values())) < sum(share > 0 for share in parse_ratios(shares)):
            with pytest.raises(DataError, match="cannot fill"):
                split(config)
            assert tree(folder) == before
            return
        planned = split(SplitConfig(folder, ratios=shares, seed=seed, dry_run=True))
        assert tree(folder) == before
        done = split(config)
        assert done.assignment == planned.assignment
        assert leaks(sides(folder)) == ()
        places: dict[str, set[str]] = {}
        found: dict[str, dict[str, int]] = {}
        for part in SPLITS:
            if (folder / part).is_dir():
                found |= read_labels(folder / part).clips  # every clip is there, and has its label
                for clip in parse_labels(folder / part / "labels.json"):
                    places.setdefault(sources[clip], set()).add(part)
        assert all(len(parts) == 1 for parts in places.values())
        assert found == {
            clip: {task: value for task, value in entry.items() if value is not None}
            for clip, entry in data.labels.items()
        }
        assert split(config).assignment == done.assignment  # again: nothing to do
        split(SplitConfig(folder, undo=True))
        assert tree(folder) == before
