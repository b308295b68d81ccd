"""Bad input to diffusion is refused in words."""

import pytest
import refusals
import refused_diffusion

told = refusals.fixture("diffusion/refused_diffusion.py")


@pytest.mark.parametrize("name", refused_diffusion.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_diffusion.ROWS, name)
