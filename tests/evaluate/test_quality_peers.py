"""Metrics and the Inception network against torch-fidelity, on random features, images and weights."""

import sys
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest

from jaxdiff import models
from jaxdiff.evaluate.quality import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    neighbours,
)

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
MISSING = ("torchvision", "torchvision.models", "torchvision.transforms", "torchvision.datasets",
           "torchvision.transforms.functional", "requests")  # fmt: skip


@pytest.fixture(scope="module")
def fidelity():
    """torch-fidelity without torchvision, whose wheels do not fit every PyTorch: only its data sets need that."""
    absent = {name: MagicMock() for name in MISSING if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield pytest.importorskip("torch_fidelity")
    finally:
        for name in absent:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(16, 16))
    return rng.normal(size=(400, 16)) @ mix, rng.normal(size=(300, 16)) @ mix * 1.1 + 0.2


def test_frechet(fidelity, features):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    theirs = [fid_features_to_statistics(torch.tensor(x)) for x in features]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    np.testing.assert_allclose(frechet_distance(*map(Moments.of, features)), expected, rtol=1e-6)


def test_kernel(fidelity, features):
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = (x[:300] for x in features)
    told = {"kid_subsets": 2, "kid_subset_size": 300, "kid_degree": 3, "kid_gamma": None, "kid_coef0": 1}
    expected = kid_features_to_metric(torch.tensor(a), torch.tensor(b), **told, rng_seed=0, verbose=False)
    np.testing.assert_allclose(kernel_distance(a, b), [expected["kernel_inception_distance_mean"]], rtol=1e-6)


def test_score(fidelity, features):
    from torch_fidelity.metric_isc import isc_features_to_metric

    expected = isc_features_to_metric(torch.tensor(features[0]), splits=10, shuffle=False)
    np.testing.assert_allclose(
        inception_score(features[0], 10).mean(), expected["inception_score_mean"], rtol=1e-6
    )


def test_precision_and_recall(fidelity, features):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, generated = features
    expected = prc_features_to_metric(
        torch.tensor(generated), torch.tensor(real), prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )  # fmt: skip
    found = neighbours(real, generated, 3)
    np.testing.assert_allclose([found.precision, found.recall], [expected["precision"], expected["recall"]])


def test_inception(fidelity, tmp_path, monkeypatch):
    """The same random weights, through a file of theirs; features and logits of odd sizes of images."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    torch.manual_seed(0)
    monkeypatch.setattr(Theirs, "load_state_dict", lambda self, weights: None)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: None)
    net = Theirs("mine", ["2048", "logits_unbiased"], str(tmp_path))
    monkeypatch.undo()
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.normal_(0.0, 0.1).add_(1.0 if name.endswith("bn.weight") else 0.0)
    torch.save(net.state_dict(), tmp_path / "inception.pth")
    variables = models.inception_from_torch(models.load_weights(tmp_path / "inception.pth"))
    see = jax.jit(jax.vmap(models.features(models.as_classifier(models.InceptionV3(), variables))))
    for side in (32, 45):
        images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), np.uint8)
        with torch.no_grad():
            theirs = net(torch.tensor(images.transpose(0, 3, 1, 2)))
        for ours, expected in zip(see(images / np.float32(255)), theirs, strict=True):
            np.testing.assert_allclose(
                ours, expected.numpy(), rtol=2e-4, atol=2e-5 * float(expected.abs().max())
            )
