"""Networks that others have trained, as stages: the weights of a file, whose content counts and not its place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import data, diffusion, models
from jaxdiff.models import CNN, UNet
from jaxdiff.study import in_order, part, planned, run, study, tasks

UNET = {"channels": 4, "multipliers": (1,), "blocks": 1, "attention": (), "dropout": 0.0}


def cnn_from_npz(arrays):
    """A converter of a user's own."""
    tree = {}
    for path, value in arrays.items():
        inner = tree
        *parents, last = path.split("/")
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = jnp.asarray(value)
    return tree


def unet_from_npz(arrays, model):
    """One that asks for the model."""
    assert isinstance(model, UNet)
    return cnn_from_npz(arrays)


def save(path, variables):
    flat = {
        "/".join(str(k.key) for k in keys): np.asarray(v)
        for keys, v in jax.tree_util.tree_leaves_with_path(variables)
    }
    np.savez(path, **flat)


def config(**stages):
    return study(seed=0, data=part(data.dataset.digits), stages=stages)


def classifier(weights, **more):
    model = part(models.CNN, channels=(4,), mean=(0.3,), std=(0.4,))
    return part(tasks.converted, model=model, weights=weights, converter=f"{__name__}.cnn_from_npz", **more)


@pytest.fixture
def weights(tmp_path):
    model = CNN((4,), mean=(0.3,), std=(0.4,))
    variables = model.init(jax.random.key(5), jnp.zeros((1, 8, 8, 1)))
    save(tmp_path / "cnn.npz", variables)
    return model, variables


def test_a_converted_classifier_is_the_one_of_the_file(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_WEIGHTS", str(tmp_path))
    found = run(config(a=classifier("$MY_WEIGHTS/cnn.npz")), tmp_path / "runs")["a"]()
    model, variables = weights
    image = jnp.full((8, 8, 1), 0.25)
    np.testing.assert_allclose(found(image, None), model.apply(variables, image[None])[0], rtol=1e-6)


def test_a_converted_score_network_is_a_denoiser(tmp_path):
    model = UNet(**UNET)
    variables = model.init(jax.random.key(5), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))
    save(tmp_path / "unet.npz", variables)
    stage = part(
        tasks.converted_score, model=part(models.UNet, **UNET), process=part(diffusion.VP), kind="x0",
        label=part(diffusion.time_label, scale=999.0), weights=str(tmp_path / "unet.npz"),
        converter=f"{__name__}.unet_from_npz",
    )  # fmt: skip
    found = run(config(a=stage), tmp_path / "runs")["a"]()
    x_t = jnp.full((8, 8, 1), 0.25)
    expected = model.apply(variables, x_t[None], jnp.full(1, 999.0 * 0.5))[0]
    np.testing.assert_allclose(found(x_t, 0.5), expected, rtol=1e-5, atol=1e-6)
    assert found.offers == {"process": found.process} and found.kind == "x0"


WRONG = {
    "an environment variable": (lambda path: "$NOT_SET_AT_ALL/a.npz", {}, "NOT_SET_AT_ALL, which is not set"),
    "no file": (lambda path: str(path / "no.npz"), {}, "no weights at"),
    "another file": (lambda path: str(path / "cnn.npz"), {"sha256": "00ff"}, "another file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_such_file_is_said_at_planning(weights, tmp_path, name):
    place, more, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        planned(config(a=classifier(place(tmp_path), **more)))


def test_weights_of_another_model_are_refused(weights, tmp_path):
    model = part(models.CNN, channels=(5,), mean=(0.3,), std=(0.4,))
    stage = part(
        tasks.converted, model=model, weights=str(tmp_path / "cnn.npz"), converter=f"{__name__}.cnn_from_npz"
    )
    with pytest.raises(ValueError, match="do not belong to the model"):
        planned(config(a=stage))


def test_stages_of_converted_networks_have_digests(weights, tmp_path):
    stages = {"a": classifier(str(tmp_path / "cnn.npz"))}
    assert in_order(stages)["a"].digest == in_order(stages)["a"].digest
