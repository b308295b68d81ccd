"""Bad input to purifiers is refused in words."""

import pytest
import refusals
import refused_purifiers

told = refusals.fixture("defenses/refused_purifiers.py")


@pytest.mark.parametrize("name", refused_purifiers.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_purifiers.ROWS, name)
