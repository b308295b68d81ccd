"""Run as a script: a cell that kills itself (-9) in its third batch. Arguments: folder, where."""

import os
import signal
import sys
from pathlib import Path

import linear_cell

from jaxdiff.evaluate import Ledger, ledger_path, run_cell


def recorded(folder):
    """The attack, with the ids of every batch written to a file before it starts."""

    def attack(batch):
        with open(Path(folder) / "attacked.txt", "a") as file:
            print(*sorted({int(i) for i in batch["id"]}), file=file)
        return linear_cell.attack(batch)

    return attack


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def half(path, data):
    with open(path, "ab") as file:
        file.write(data[: len(data) // 2])
    die()


def third(deadly, harmless):
    calls = []

    def function(*arguments):
        calls.append(None)
        return (deadly if len(calls) == 3 else harmless)(*arguments)

    return function


def main(folder, where):
    import jaxdiff.evaluate.ledger as ledger

    attack = recorded(folder)
    if where == "attack":
        harmless = attack
        attack = third(lambda batch: die(harmless(batch)), harmless)
    elif where == "before the rows":
        ledger.append_bytes = third(die, ledger.append_bytes)
    else:
        ledger.append_bytes = third(half, ledger.append_bytes)
    cell = Ledger.open(ledger_path(folder, "none", "step"), "f")
    run_cell(cell, range(linear_cell.N), linear_cell.fetch, attack, 4, keep=10)


if __name__ == "__main__":
    main(*sys.argv[1:])
