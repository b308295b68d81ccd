"""Networks: batch-first Flax modules, and the functions that lift them to one example.

`__all__` holds what a config may name; the rest is imported by name.
"""

from jaxdiff.models.cnn import CNN
from jaxdiff.models.convert import inception_from_torch as inception_from_torch
from jaxdiff.models.convert import load_npz as load_npz
from jaxdiff.models.convert import load_weights as load_weights
from jaxdiff.models.convert import resnet_cifar_from_torch as resnet_cifar_from_torch
from jaxdiff.models.convert import unet_from_diffusers as unet_from_diffusers
from jaxdiff.models.inception import InceptionV3
from jaxdiff.models.lift import as_classifier as as_classifier
from jaxdiff.models.lift import as_net as as_net
from jaxdiff.models.lift import count as count
from jaxdiff.models.lift import features
from jaxdiff.models.lift import initialise as initialise
from jaxdiff.models.preact import PreActResNet18, WideResNet
from jaxdiff.models.resnet import ResNet50, ResNetCIFAR
from jaxdiff.models.unet import UNet

__all__ = [
    "CNN",
    "InceptionV3",
    "PreActResNet18",
    "ResNet50",
    "ResNetCIFAR",
    "UNet",
    "WideResNet",
    "features",
]
