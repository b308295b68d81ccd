"""Bad input of the defenses is refused in words, before anything is computed."""

import pytest
import refusals
import refused_defenses

told = refusals.fixture("defenses/refused_defenses.py")


@pytest.mark.parametrize("name", refused_defenses.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_defenses.ROWS, name)
