"""What users name becomes a list of files: folders, globs, stdin, URLs, and names of every kind."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeClip
from scan_kit import plain, write_toy_model

from grainscan.errors import DependencyError, UsageError, VideoError
from grainscan.scan.inputs import collect, fetch, identify, is_url
from grainscan.scan.scanner import Scanner


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    for name in (
        "b.mp4",
        "a.avi",
        "notes.txt",
        "sub/c.MKV",
        "sub/deep/d.mov",
        ".hidden/e.avi",
        "sub/.f.avi",
        "x.avi/g.mp4",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(found: list[str], root: Path) -> list[str]:
    return [os.path.relpath(name, root) for name in found]


def test_a_folder_is_searched_to_its_depth_for_videos(library: Path) -> None:
    """Hidden names are left out, and a folder that is named like a video is a folder."""
    assert names(collect([library]), library) == ["a.avi", "b.mp4", "sub/c.MKV", "sub/deep/d.mov", "x.avi/g.mp4"]


def test_a_file_that_is_named_is_tried_whatever_its_name(library: Path) -> None:
    assert names(collect([library / "notes.txt", library / "a.avi"]), library) == ["a.avi", "notes.txt"]


def test_each_file_comes_once_and_sorted(library: Path) -> None:
    found = collect([library / "sub", library / "b.mp4", str(library / "sub" / ".." / "b.mp4"), library])
    assert names(found, library) == ["a.avi", "b.mp4", "sub/c.MKV", "sub/deep/d.mov", "x.avi/g.mp4"]


def test_globs_are_expanded(library: Path) -> None:
    assert names(collect([f"{library}/*.mp4"]), library) == ["b.mp4"]
    assert names(collect([f"{library}/**/*.m*"]), library) == ["b.mp4", "sub/deep/d.mov", "x.avi/g.mp4"]
    assert names(collect([f"{library}/*.txt"]), library) == ["notes.txt"]
    assert names(collect([f"{library}/s*"]), library) == ["sub/c.MKV", "sub/deep/d.mov"]


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "take [1].avi").touch()
    assert collect([tmp_path / "take [1].avi"]) == [str(tmp_path / "take [1].avi")]


def test_what_is_missing_stays_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "dangling.avi").symlink_to(tmp_path / "nowhere.avi")
    missing = [str(tmp_path / "*.mov"), str(tmp_path / "dangling.avi"), str(tmp_path / "no.avi")]
    assert collect(missing) == missing


def test_nothing_at_all_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no videos") as caught:
        collect([tmp_path])
    assert "named one by one" in caught.value.hint


def test_hints_fit_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file matches") as caught:
        collect([tmp_path / "*.mov", tmp_path / "**" / "*.mp4"])
    assert "pattern" in caught.value.hint
    with pytest.raises(UsageError, match="stdin names no files") as caught:
        collect(["-"], stdin=io.BytesIO(b"\n"))
    assert "a path per line" in caught.value.hint


def test_links_to_folders_are_followed_but_not_in_circles(library: Path, tmp_path: Path) -> None:
    (library / "sub" / "again").symlink_to(library)
    other = tmp_path / "other"
    other.mkdir()
    (other / "h.avi").touch()
    (library / "linked").symlink_to(other)
    found = names(collect([library]), library)
    assert found == ["a.avi", "b.mp4", "linked/h.avi", "sub/c.MKV", "sub/deep/d.mov", "x.avi/g.mp4"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_video_on_stdin_is_not_taken_for_paths(separator: bytes) -> None:
    with pytest.raises(UsageError, match="no list of paths") as caught:
        collect(["-"], stdin=io.BytesIO(b"ftypisom" + separator + b"/data/" + b"x" * 1001 + separator))
    assert "Write a video to a file first" in caught.value.hint


def test_urls_on_stdin_may_be_long() -> None:
    pytest.importorskip("fsspec")
    url = "memory://folder/a.avi?" + "k" * 1001
    assert collect(["-"], stdin=io.BytesIO(url.encode())) == [url]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_come_from_stdin(library: Path, separator: bytes) -> None:
    listed = separator.join(os.fsencode(name) for name in (library / "b.mp4", library / "sub", library / "gone.avi"))
    found = collect(["-", str(library / "a.avi")], stdin=io.BytesIO(listed + separator))
    assert names(found, library) == ["a.avi", "b.mp4", "gone.avi", "sub/c.MKV", "sub/deep/d.mov"]


STRANGE = [
    "with space.avi",
    "line\nfeed.avi",
    "café ☕ 🎬.avi",
    os.fsdecode(b"latin-\xe9\xff.avi"),
    "=cmd|' '!A0.avi",
    "<b>.avi",
    "-.avi",
]


def test_nul_separated_names_may_hold_newlines(tmp_path: Path) -> None:
    for name in STRANGE:
        (tmp_path / name).touch()
    listed = b"\0".join(os.fsencode(tmp_path / name) for name in STRANGE)
    assert collect(["-"], stdin=io.BytesIO(listed)) == sorted(str(tmp_path / name) for name in STRANGE)


@pytest.mark.parametrize("workers", [0, 2])
def test_names_of_every_kind_are_judged(tmp_path: Path, make_clip: MakeClip, workers: int) -> None:
    model = write_toy_model(tmp_path / "model")
    clip = make_clip("clip.avi")
    for name in STRANGE:
        (tmp_path / "strange" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "strange" / name).write_bytes(clip.read_bytes())
    with Scanner(model, workers=workers) as scanner:
        rows = list(scanner.scan(collect([tmp_path / "strange"])))
    assert [row["status"] for row in rows] == ["ok"] * len(STRANGE)
    assert [Path(row["path"]).name for row in rows] == sorted(STRANGE)


def test_relative_names_are_read_from_where_the_caller_stands(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_toy_model(tmp_path / "model")
    make_clip("one/a.avi")
    make_clip("two/b.avi")
    with Scanner(model, workers=1) as scanner:
        for folder, name in (("one", "a.avi"), ("two", "b.avi")):
            monkeypatch.chdir(tmp_path / folder)
            assert [row["path"] for row in scanner.scan(collect(["."])) if row["status"] == "ok"] == [name]


# --------------------------------------------------------------------------------------------------------------- URLs


def test_what_counts_as_a_url() -> None:
    assert is_url("s3://bucket/a.avi")
    assert is_url("memory://a.avi")
    assert not is_url("C://a.avi")
    assert not is_url("folder/a.avi")


@pytest.fixture
def bucket(make_clip: MakeClip) -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for number in range(3):
        system.pipe(
            f"/bucket/{number}.avi",
            make_clip(f"source{number}.avi", seed=number, level=(40, 90 * (number + 1) % 250)).read_bytes(),
        )
    system.pipe("/bucket/readme.txt", b"text")
    system.pipe("/bucket/sub/broken.avi", b"not a video")
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def test_urls_are_listed(bucket: str) -> None:
    files = [f"memory:///bucket/{number}.avi" for number in range(3)]
    assert collect([bucket]) == [*files, "memory:///bucket/sub/broken.avi"]
    assert collect([f"{bucket}/*.avi"]) == files
    assert collect([files[1], f"{bucket}/missing.avi"]) == [files[1], f"{bucket}/missing.avi"]


@pytest.mark.parametrize("workers", [0, 2])
def test_urls_are_judged_like_files(bucket: str, tmp_path: Path, workers: int) -> None:
    model = write_toy_model(tmp_path / "model")
    urls = [*collect([bucket]), "memory:///bucket/zzz.avi"]
    with Scanner(model, workers=workers) as scanner:
        rows = list(scanner.scan(urls))
        local = list(scanner.scan([tmp_path / f"source{number}.avi" for number in range(3)]))
    assert [row["path"] for row in rows] == urls
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error", "error"]
    assert [row["tasks"] for row in rows[:3]] == [row["tasks"] for row in local]
    assert rows[0]["file"]["size"] == (tmp_path / "source0.avi").stat().st_size
    assert rows[0]["file"]["mtime"]
    assert rows[3]["error"]["message"].startswith("memory:///bucket/sub/broken.avi: ")
    assert rows[4]["error"]["message"] == "memory:///bucket/zzz.avi: no such file"


def test_copies_are_removed(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    with Scanner(write_toy_model(tmp_path / "model"), workers=1) as scanner:
        assert sum(row["status"] == "ok" for row in scanner.scan(collect([bucket]))) == 3
    assert list(copies.iterdir()) == []


def test_local_file_urls_are_files(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip("a b.avi")
    assert collect([f"file://{path}"]) == [str(path)]


def test_identity_changes_with_the_file(bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "source0.avi"
    before = identify(str(path))
    os.utime(path, (1, 1))
    assert identify(str(path)) != before
    assert identify(str(tmp_path / "missing.avi")) is None
    assert identify("memory:///bucket/0.avi") == identify("memory:///bucket/0.avi") is not None
    assert identify("memory:///bucket/none.avi") is None


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DependencyError, match="fsspec"):
        collect(["s3://bucket/a.avi"])


def test_unknown_schemes_are_usage_errors() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="nonsense"):
        collect(["nonsense://bucket/a.avi"])


def test_a_fetch_that_fails_is_a_video_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")

    def refuse(*_: object) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.get_file", refuse)
    with pytest.raises(VideoError, match="access denied"):
        fetch("memory://bucket/a.avi", tmp_path, 0)


def test_plain_ignores_only_the_time() -> None:
    assert plain({"a": 1, "seconds": 3}) == {"a": 1}
