"""Bad input of attacks is refused in words."""

import pytest
import refusals
import refused_attacks

told = refusals.fixture("attacks/refused_attacks.py")


@pytest.mark.parametrize("name", refused_attacks.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_attacks.ROWS, name)
