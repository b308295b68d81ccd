"""Threats, ascents, combinations and entries refuse bad input in words."""

import pytest
import refusals
import refused_entries

told = refusals.fixture("attacks/refused_entries.py")


@pytest.mark.parametrize("name", refused_entries.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_entries.ROWS, name)
