"""The one walk through folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from grainscan.files import identity, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("top/b.avi", "top/a.avi", "top/sub/c.avi", "top/.git/d.avi", "top/.e.avi", "other/f.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "top" / "sub" / "up").symlink_to(tmp_path / "top")
    (tmp_path / "top" / "itself").symlink_to("itself")
    return tmp_path / "top"


def names(folder: Path, **options: Any) -> list[str]:
    return [os.path.relpath(entry.path, folder) for entry in walk(folder, **options)]


def test_links_are_followed_and_no_folder_is_entered_twice(folder: Path) -> None:
    assert names(folder) == ["a.avi", "b.avi", "itself", "link/f.avi", "sub/c.avi"]
    assert names(folder, seen={identity((folder / "sub").stat())}) == ["a.avi", "b.avi", "itself", "link/f.avi"]


def test_links_are_given_as_they_are_on_request(folder: Path) -> None:
    assert names(folder, links=False) == ["a.avi", "b.avi", "itself", "link", "sub/c.avi", "sub/up"]


def test_hidden_names_are_left_out_unless_asked_for(folder: Path) -> None:
    assert set(names(folder, hidden=True)) - set(names(folder)) == {".e.avi", ".git/d.avi"}


def test_folders_that_cannot_be_listed_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = os.scandir

    def locked(path: str) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", locked)
    failed: list[tuple[str, str | None]] = []
    found = names(folder, failed=lambda path, error: failed.append((path, error.strerror)))
    assert found == ["a.avi", "b.avi", "itself", "link/f.avi"]
    assert failed == [(str(folder / "sub"), "Permission denied")]
