"""Every bad input of `refused_evaluate` is refused in its words."""

import pytest
import refusals
import refused_evaluate

told = refusals.fixture("evaluate/refused_evaluate.py")


@pytest.mark.parametrize("name", refused_evaluate.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_evaluate.ROWS, name)
