"""Every wrong batch is named with what was found and what to do; a right one passes as an array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.data import check_images

GOOD = np.linspace(0, 1, 2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)

with np.errstate(invalid="ignore"):
    BAD = {
        "uint8": (GOOD.astype(np.uint8), ValueError, "uint8.*/ 255"),
        "float64": (GOOD.astype(np.float64), ValueError, r"float64.*astype\('float32'\)"),
        "float16": (GOOD.astype(np.float16), ValueError, r"float16.*astype\('float32'\)"),
        "one image": (GOOD[0], ValueError, r"\(4, 5, 3\).*images\[None\]"),
        "grey batch": (GOOD[..., 0], ValueError, r"\(2, 4, 5\).*images\[\.\.\., None\]"),
        "flat": (GOOD.reshape(2, 60), ValueError, r"\(2, 60\)"),
        "videos": (GOOD[None], ValueError, r"\(1, 2, 4, 5, 3\)"),
        "no pixels": (GOOD[:, :0], ValueError, r"\(2, 0, 5, 3\)"),
        "nchw": (GOOD.transpose(0, 3, 1, 2), ValueError, r"\(2, 3, 4, 5\).*transpose\(0, 2, 3, 1\)"),
        "bytes": (GOOD * 255, ValueError, "max 255.*divide by 255"),
        "signed": (GOOD * 2 - 1, ValueError, r"min -1.*\(images \+ 1\) / 2"),
        "normalised": ((GOOD - 0.5) / 0.2, ValueError, r"min -2.5, max 2.5.*undo the normalisation"),
        "rounded": (GOOD + np.float32(1e-3), ValueError, r"max 1.001.*clip\(0, 1\)"),
        "just below": (GOOD - np.float32(1e-3), ValueError, r"min -0.001.*clip\(0, 1\)"),
        "nan": (np.where(GOOD == 1, np.float32(np.nan), GOOD), ValueError, "nan.*finite"),
        "infinity": (np.where(GOOD == 1, np.float32(np.inf), GOOD), ValueError, "finite.*inf"),
    }


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("n", [0, 2])
def test_a_right_batch_is_returned_as_an_array(array, channels, n):
    images = check_images(array(GOOD[:n]), channels)
    assert isinstance(images, jax.Array)
    np.testing.assert_array_equal(images, GOOD[:n])


@pytest.mark.usefixtures("x64")  # else JAX would make float32 of float64
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_a_wrong_batch_is_explained(array, case):
    images, error, message = BAD[case]
    with pytest.raises(error, match=message):
        check_images(array(images))


def test_channels_are_checked_when_they_are_known():
    with pytest.raises(ValueError, match=r"\[B, H, W, 1\]; got \(2, 4, 5, 3\)"):
        check_images(GOOD, channels=1)
    with pytest.raises(ValueError, match="transpose"):
        check_images(np.zeros((2, 4, 5, 5), np.float32), channels=4)


def test_any_number_of_channels_passes_when_it_is_not_known():
    latents = np.zeros((2, 8, 8, 16), np.float32)
    assert check_images(latents).shape == latents.shape
