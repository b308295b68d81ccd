"""Every bad input of tests/models/refused_models.py is refused in words."""

import pytest
import refusals

from . import refused_models

told = refusals.fixture("models/refused_models.py")


@pytest.mark.parametrize("case", refused_models.ROWS)
def test_refused(told, case):
    refusals.check(told, refused_models.ROWS, case)
