"""Bad input is refused in words: the runner of tables ROWS = {name: (call, words, ...)}.

The default tests check types with beartype, which would speak first. So the calls of a table run in a process of their own,
as a user's would:

    # tests/attacks/refused_attacks.py
    ROWS = {"a radius of 8": (lambda: attacks.linf(8.0), "radius", "8/255")}

    # tests/attacks/test_refused_attacks.py
    import pytest, refusals, refused_attacks
    told = refusals.fixture("attacks/refused_attacks.py")
    @pytest.mark.parametrize("name", refused_attacks.ROWS)
    def test_refused(told, name): refusals.check(told, refused_attacks.ROWS, name)

Of a table of calls that are accepted a test reads `told[name] == ["", repr]`, with the repr of what the call returns.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def fixture(path):
    """A fixture {name: what the call said} of the table at `path`, relative to this folder."""

    @pytest.fixture(scope="module")
    def told():
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])
        }
        run = subprocess.run(
            [sys.executable, __file__, str(HERE / path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        return json.loads(run.stdout.splitlines()[-1])

    return told


def check(told, rows, name):
    """The call was refused with a ValueError (or FileNotFoundError) of ours, in words that hold all of those of its row."""
    kind, message = told[name]
    assert kind in ("ValueError", "FileNotFoundError"), f"{kind}: {message}"
    for words in rows[name][1:]:
        assert words in message, f"{words!r} is not in {message!r}"


def said(call):
    """[type, message] of what a call raised; ["", its result] if it was accepted."""
    try:
        return ["", repr(call())[:200]]
    except Exception as error:
        return [type(error).__name__, str(error)]


def main(path):
    spec = importlib.util.spec_from_file_location("table", path)
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    print(json.dumps({name: said(row[0]) for name, row in table.ROWS.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
