"""What is no image is refused in words, by all that takes one."""

import pytest
import refusals
import refused_images

told = refusals.fixture("attacks/refused_images.py")


@pytest.mark.parametrize("name", refused_images.ROWS)
def test_refused(told, name):
    refusals.check(told, refused_images.ROWS, name)
