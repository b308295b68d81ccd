"""Every bad spec of tests/experiments/refused_classifiers.py is refused in words."""

import pytest
import refusals
import refused_classifiers

told = refusals.fixture("experiments/refused_classifiers.py")


@pytest.mark.parametrize("case", refused_classifiers.ROWS)
def test_refused(told, case):
    refusals.check(told, refused_classifiers.ROWS, case)
