"""Which commit the code is, where it runs from a git checkout."""

import os
import subprocess
from pathlib import Path


def commit(file: str | Path = __file__) -> str | None:
    """The hash of the commit that `file` is checked out from, with "-dirty" if a tracked file has changed since.

    None where there is no git, or where git does not track the file (an installed package in the folder of another project).
    """
    path = Path(file).resolve()
    try:
        _git(path, "ls-files", "--error-unmatch", path.name)
        return _git(path, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None


def _git(path: Path, *arguments: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(path.parent), *arguments],
        env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # reads only
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=10,
        text=True,
    )
    return run.stdout.strip()
