"""Paths that people give: checked, and expanded, before anything is trained or written."""

import os
from pathlib import Path
from typing import Any


def folder(who: str, path: Any) -> Path:
    """`path` with "~" expanded, a folder or one that can be made; ValueError in words for anything else."""
    path = _path(who, "a folder", path)
    for place in (path, *path.parents):
        if place.is_dir():
            return path
        if place.exists() or place.is_symlink():
            raise ValueError(
                f"{who} needs the folder {str(path)!r}, but {str(place)!r} is a file: choose another place."
            )
    return path


def file(who: str, path: Any) -> Path:
    """`path` with "~" expanded, a file or one that can be made; ValueError in words for anything else."""
    path = _path(who, "a file", path)
    if path.is_dir():
        raise ValueError(
            f"{who} writes the file {str(path)!r}, but that is a folder: give a name inside it, "
            f"{str(path / 'name')!r}."
        )
    folder(who, path.parent)
    return path


def writable(who: str, path: Path) -> Path:
    """`path` again, a file or a folder; ValueError unless it, or the folder it will be made in, can be written to."""
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise ValueError(
            f"{who} writes to {str(path)!r}, but {str(existing)!r} is read-only: choose another place, or "
            "change its permissions."
        )
    return path


def _path(who: str, what: str, path: Any) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{who} needs the path of {what}; got {path!r}.")
    return Path(os.path.abspath(os.path.expanduser(text)))
