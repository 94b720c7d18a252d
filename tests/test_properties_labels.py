"""labels.json and manifest.json: what is written is read back, and whatever is read ends in labels or in faults."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import property_kit  # noqa: F401 (loads the profile)
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grainscan.data.labels import (
    LABELS_FILE,
    name_fault,
    parse_labels,
    prevalence,
    read_labels,
    task_fault,
    task_names,
    write_labels,
)
from grainscan.data.manifest import MANIFEST_FILE, read_manifest, write_manifest
from grainscan.errors import LabelsError

characters = st.characters(exclude_categories=()) | st.sampled_from("./\\: -_a0")  # surrogates, too
names = st.text(characters, max_size=12) | st.from_regex(r"[a-z]{1,8}(/[a-z]{1,3})?\.avi", fullmatch=True)
tasks = st.from_regex(r"[a-z]{1,6}(_[a-z0-9]{1,4}){0,2}", fullmatch=True) | st.text(max_size=6)
labels = st.none() | st.integers(0, 1)
label_sets = st.dictionaries(names, st.dictionaries(tasks, labels, max_size=4), min_size=1, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | names | st.sampled_from((0, 1)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | tasks, inner, max_size=4),
    max_leaves=12,
)
blocks = st.fixed_dictionaries(
    {"noise_config": st.dictionaries(tasks, st.fixed_dictionaries({"active": labels}) | values, max_size=3)},
    optional={"output": values},
)
documents = st.dictionaries(names, labels | st.dictionaries(tasks, labels | values, max_size=3) | blocks | values)


def is_sound(name: str, entry: dict[str, Any]) -> bool:
    return not name_fault(name) and not any(task_fault(task) for task in entry)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


@given(label_sets)
@example({"ö 🎬.avi": {"graininess": 1}, "\udcff\udce9.avi": {"own_task": None}})
def test_what_is_written_is_read_back(clips: dict[str, dict[str, int | None]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / LABELS_FILE
        if not all(is_sound(name, entry) for name, entry in clips.items()):
            with pytest.raises(LabelsError) as caught:
                write_labels(folder, clips)
            assert caught.value.faults
            assert not path.exists()
            return
        write_labels(folder, clips)
        known = {name: {task: v for task, v in entry.items() if v is not None} for name, entry in clips.items()}
        assert parse_labels(path) == known
        assert list(json.loads(path.read_bytes())) == sorted(clips)


@given(documents.map(as_json) | values.map(as_json) | st.binary(max_size=60))
@example(b'{"a.avi": 1, "a.avi": 0}')
@example(b'{"a.avi": 1e999, "b.avi": NaN}')
@example(b"\xef\xbb\xbf{}")
@example(b'{"a.avi": ' + b"[" * 100_000)
def test_any_labels_file_is_labels_or_faults(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / LABELS_FILE
        path.write_bytes(content)
        try:
            clips = parse_labels(path)
        except LabelsError as error:
            assert error.hint
            assert str(error).isprintable() or "\n" in str(error)
            assert all(fault.isprintable() for fault in error.faults)
        else:
            assert clips
            assert all(is_sound(name, entry) for name, entry in clips.items())
            assert {label for entry in clips.values() for label in entry.values()} <= {0, 1}
        with pytest.raises(LabelsError):  # there is no clip
            read_labels(folder)


@given(
    values.map(as_json)
    | st.fixed_dictionaries({"schema": st.just(1) | values, "clips": documents | values}).map(as_json)
    | st.fixed_dictionaries(
        {
            "schema": st.just(1),
            "clips": st.dictionaries(
                names,
                st.fixed_dictionaries(
                    {},
                    optional={
                        "source": names | values,
                        "twin": names | values,
                        "strength": st.dictionaries(tasks, st.floats() | values, max_size=2) | values,
                    },
                ),
                max_size=4,
            ),
        }
    ).map(as_json)
)
def test_any_manifest_is_a_manifest_or_faults(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_FILE).write_bytes(content)
        try:
            manifest = read_manifest(folder)
        except LabelsError as error:
            assert error.hint
            return
        assert manifest is not None
        for name, entry in manifest["clips"].items():
            assert not name_fault(name)
            twin = entry.get("twin")
            assert twin is None or not name_fault(twin)
        write_manifest(folder, manifest)
        assert read_manifest(folder) == manifest


@given(label_sets)
def test_prevalence_counts_every_clip_once(clips: dict[str, dict[str, int | None]]) -> None:
    known = task_names(clips.values())
    assert len(set(known)) == len(known)
    for task, counts in prevalence(clips.values(), known).items():
        labels = [entry.get(task) for entry in clips.values()]
        assert (counts.negative, counts.positive, counts.unknown) == tuple(map(labels.count, (0, 1, None)))
        assert counts.negative + counts.positive > 0


@given(names)
def test_a_name_without_fault_stays_in_its_folder(name: str) -> None:
    if name_fault(name) is None:
        with TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            assert (root / name).resolve().is_relative_to(root)
            assert (root / name) != root
