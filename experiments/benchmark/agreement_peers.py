"""foolbox's and ART's side of the agreement: least norms and one pixel, on the PyTorch network of the benchmark."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from benchmark_peers import Flat, nchw, nhwc
from torch import nn


def nearest(network: nn.Module, name: str, settings: Mapping[str, Any], x: Any, y: Any) -> np.ndarray:
    """The images that foolbox's attack of this name ends with."""
    import foolbox

    device = torch.device("cpu")
    model = foolbox.PyTorchModel(Flat(network).eval(), bounds=(0, 1), device=device)
    attack = getattr(foolbox.attacks, name)(**settings)
    return nhwc(attack.run(model, nchw(x, device).contiguous(), torch.from_numpy(np.array(y, np.int64))))


def one_pixel(network: nn.Module, x: Any, y: Any, generations: int) -> np.ndarray:
    """ART's one-pixel attack by differential evolution, 400 members a generation."""
    from art.attacks.evasion import PixelAttack
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        nn.Sequential(Flat(network), nn.Softmax(1)).eval(),
        nn.CrossEntropyLoss(),
        (3, *x.shape[1:3]),
        10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    np.random.seed(0)  # noqa: NPY002 it draws from the global generator
    attack = PixelAttack(classifier, th=1, es=1, max_iter=generations)  # es = 1 is differential evolution
    images = np.ascontiguousarray(np.transpose(x, (0, 3, 1, 2)))
    return np.transpose(attack.generate(images, np.asarray(y)), (0, 2, 3, 1))
