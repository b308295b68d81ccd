"""What goes wrong in a command, in words: one line for what jaxdiff itself says, a traceback for everything else."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jaxdiff

HINT = "(set JAXDIFF_TRACEBACK=1 for the traceback)"
HOME = str(Path(jaxdiff.__file__).parent) + os.sep
# Of the world, not of the program: what went wrong is said in one line, with what to do.
REMEDIES = {
    errno.ENOSPC: "Make room; the same command goes on from here.",
    errno.EDQUOT: "Make room; the same command goes on from here.",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Change its permissions, or choose a --workdir that you may write to.",
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "A --workdir is a folder, and so is all above it."
    ),
    errno.ENAMETOOLONG: "Choose a shorter --workdir.",
    errno.EIO: "The disk can not be read or written.",
    errno.ENOENT: "",
}


@contextmanager
def in_words() -> Iterator[None]:
    """Errors that jaxdiff raises, and of the disk, end the program with one line; others keep their traceback.

    Output degrades where a terminal lacks a letter.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        yield
    except (ValueError, FloatingPointError, OSError) as error:
        if os.environ.get("JAXDIFF_TRACEBACK") or not is_ours(error):
            raise
        sys.exit(f"error: {told(error)}\n{HINT}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")


def is_ours(error: Exception) -> bool:
    """Whether jaxdiff itself says what is wrong, or it is of the disk: one out of a user's function is shown whole."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in REMEDIES
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename.startswith(HOME)


def told(error: Exception) -> str:
    """The error in one line, with where it belongs."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: {error.filename or 'a file'}. {REMEDIES[error.errno]}".rstrip()
    notes = getattr(error, "__notes__", [])
    return f"{error} ({', '.join(notes)})" if notes else str(error)
