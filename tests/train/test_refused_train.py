"""Everything of jaxdiff.train refuses bad input in words, before anything is trained or written."""

import pytest
import refusals
import refused_train

told = refusals.fixture("train/refused_train.py")


@pytest.mark.parametrize("name", refused_train.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_train.ROWS, name)
