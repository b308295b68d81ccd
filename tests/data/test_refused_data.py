"""Every bad input of tests/data/refused_data.py is refused in words."""

import pytest
import refusals
import refused_data

told = refusals.fixture("data/refused_data.py")


@pytest.mark.parametrize("case", refused_data.ROWS)
def test_refused(told, case):
    refusals.check(told, refused_data.ROWS, case)
