"""Packages whose names are imported only when they are used."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def imported(package: str, names: Collection[str], name: str, home: str) -> Any:
    """One of a package's `names` from its module `home`, for `__getattr__`. Raises AttributeError for any other."""
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{package}.{home}"), name)
