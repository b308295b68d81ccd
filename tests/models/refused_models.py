"""Bad input of networks, lifts and converters."""

import pickle
import sys
import tempfile
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).parent))
from state_dicts import resnet8

from jaxdiff import models
from jaxdiff.build import build
from jaxdiff.models import layouts
from jaxdiff.models.convert import fill
from jaxdiff.models.layers import GroupNorm, time_embedding
from jaxdiff.models.resnet import Bottleneck, ResNet

KEY = jax.random.key(0)
FOLDER = Path(tempfile.mkdtemp())
X = np.zeros((2, 8, 8, 3), np.float32)
NETS = {
    "CNN": {"channels": (4,), "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "ResNetCIFAR": {"depth": 8},
    "ResNet50": {},
    "PreActResNet18": {},
    "WideResNet": {"depth": 10, "width": 1},
}


def made(name, **changes):
    return lambda: build(models, {"name": name} | NETS[name] | changes)


def called(name, x):
    return lambda: jax.eval_shape(made(name)().init_with_output, KEY, x)


def file(name, content):
    path = FOLDER / name
    path.write_bytes(content)
    return path


def zipped(name, **members):
    with zipfile.ZipFile(FOLDER / name, "w") as archive:
        for member, content in members.items():
            archive.writestr(member.replace("_", "/"), content)
    return FOLDER / name


def good_npz():
    path = FOLDER / "good.npz"
    np.savez(path, a=np.arange(1000.0))
    return path.read_bytes()


np.savez(FOLDER / "objects.npz", a=np.array([{}], object))
np.savez(FOLDER / "bfloat16.npz", **{k: np.asarray(jnp.asarray(v, jnp.bfloat16)) for k, v in resnet8()[1].items()})  # fmt: skip
np.save(FOLDER / "one.npy", np.arange(3.0))
(FOLDER / "folder.npz").mkdir()
TORN, FLIPPED = good_npz(), bytearray(good_npz())
FLIPPED[4000] ^= 1


def loaded(path):
    return lambda: models.load_npz(path)


def converted(**changes):
    """ResNet-8 with some arrays changed by functions; None takes one away."""

    def call():
        arrays = dict(resnet8()[1])
        for key, change in changes.items():
            key = key.replace("_", ".").replace("running.", "running_")
            arrays[key] = change and change(np.array(arrays.get(key)))
        return models.resnet_cifar_from_torch({k: v for k, v in arrays.items() if v is not None})

    return call


def at(value):
    def change(w):
        w.flat[1] = value
        return w

    return change


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="fc")(x.reshape(len(x), -1))


def filled(weight, **declared):
    arrays = {"fc.kernel": weight, "fc.bias": np.zeros(3)}
    return lambda: fill(
        Net(), (X,), arrays, lambda p: ".".join(p[1:]), {k.replace("_", "."): v for k, v in declared.items()}
    )


W = np.zeros((3, 192), np.float32)
CNN = models.CNN((4,), groups=0)
PARAMS = {"params": {}}
UNET = models.UNet(8, (1,), 1, ())

ROWS = {
    # what a network is made with
    **{f"{n}: no classes": (made(n, classes=0), "classes", ">= 2", "got 0") for n in NETS},
    **{f"{n}: one class": (made(n, classes=1), "classes", ">= 2", "got 1") for n in NETS},
    **{f"{n}: negative classes": (made(n, classes=-10), "classes", "-10") for n in NETS},
    **{f"{n}: classes as words": (made(n, classes="ten"), "classes", "whole number", "'ten'") for n in NETS},
    **{f"{n}: classes as float": (made(n, classes=10.0), "classes", "whole number", "10.0") for n in NETS},
    **{f"{n}: classes None": (made(n, classes=None), "classes", "None") for n in NETS},
    **{f"{n}: no dtype": (made(n, dtype="floaty"), "bfloat16", "'floaty'") for n in NETS},
    **{f"{n}: integer dtype": (made(n, dtype="int32"), "floating point", "int32") for n in NETS},
    **{f"{n}: dtype a number": (made(n, dtype=16), "floating point", "16") for n in NETS},
    **{f"{n}: nan mean": (made(n, mean=(0.5, float("nan"), 0.5)), "mean[1]", "nan") for n in NETS},
    **{f"{n}: infinite std": (made(n, std=(1.0, 1.0, float("inf"))), "std[2]", "inf") for n in NETS},
    **{f"{n}: zero std": (made(n, std=(0.0, 1.0, 1.0)), "std[0]", "(0, inf)", "0.0") for n in NETS},
    **{f"{n}: negative std": (made(n, std=(1.0, -1.0, 1.0)), "std[1]", "-1.0") for n in NETS},
    **{f"{n}: lengths": (made(n, mean=(0.5,)), "one mean and one std per channel") for n in NETS},
    **{f"{n}: mean a number": (made(n, mean=0.5), "mean", "0.5") for n in NETS},
    **{f"{n}: mean of words": (made(n, mean=("a", "b", "c")), "mean", "'a'") for n in NETS},
    **{f"{n}: no mean": (made(n, mean=(), std=()), "one mean and one std per channel") for n in NETS},
    **{f"{n}: mean None": (made(n, mean=None), "mean", "None") for n in NETS},
    "no channels": (made("CNN", channels=()), "channels", "sequence", "()"),
    "zero channels": (made("CNN", channels=(8, 0)), "channels[1]", ">= 1", "got 0"),
    "float channels": (made("CNN", channels=(8.0,)), "channels", "8.0"),
    "channels a number": (made("CNN", channels=8), "channels", "sequence", "8"),
    "channels a word": (lambda: models.CNN("abc"), "channels", "sequence", "'abc'"),
    "negative groups": (made("CNN", groups=-1), "groups", ">= 0", "-1"),
    "float groups": (made("CNN", groups=2.0), "groups", "2.0"),
    "unknown activation": (made("CNN", activation="rleu"), "activation", "did you mean 'relu'"),
    "no activation": (made("CNN", activation=None), "activation", "None"),
    "activation a function": (lambda: models.CNN((4,), activation=nn.relu), "activation", "Known"),
    "depth that does not fit": (made("ResNetCIFAR", depth=18), "6 n + 2", "18"),
    "depth zero": (made("ResNetCIFAR", depth=0), "depth", "got 0"),
    "depth a float": (made("ResNetCIFAR", depth=20.0), "depth", "20.0"),
    "depth a word": (lambda: models.ResNetCIFAR("20"), "depth", "'20'"),
    "axis a number": (lambda: models.ResNetCIFAR(8, axis_name=3), "axis_name", "3"),
    "unknown stem": (made("ResNet50", stem="imagnet"), "stem", "did you mean 'imagenet'"),
    "no stem": (made("ResNet50", stem=None), "stem", "None"),
    "widths and depths": (lambda: ResNet(Bottleneck, (4, 8), (1,)), "one width and one depth", "(4, 8)"),
    "zero depths": (lambda: ResNet(Bottleneck, (4,), (0,)), "depths[0]", "got 0"),
    "narrower shortcut A": (
        lambda: models.resnet.BasicBlock(2).init(KEY, jnp.zeros((1, 4, 4, 3))),
        "Shortcut A",
        "2",
        "3",
    ),
    "no groups": (lambda: GroupNorm(0).init(KEY, jnp.zeros((1, 4, 4, 3))), "groups", "got 0"),
    "groups a word": (lambda: GroupNorm("8").init(KEY, jnp.zeros((1, 4, 4, 3))), "groups", "'8'"),
    "a scalar time": (lambda: time_embedding(3.0, 8), "[batch]", "()", "jnp.full"),
    "odd features": (lambda: time_embedding(jnp.zeros(1), 7), "even", "7"),
    "features a float": (lambda: time_embedding(jnp.zeros(1), 8.0), "features", "8.0"),
    "WideResNet: a word for the depth": (lambda: models.WideResNet("28"), "depth", "'28'"),
    "WideResNet: a depth that does not fit": (made("WideResNet", depth=20), "6 n + 4", "20"),
    "WideResNet: no width": (made("WideResNet", width=0), "width", "got 0"),
    "WideResNet: all dropped": (made("WideResNet", dropout=1.0), "dropout", "[0, 1)", "1.0"),
    "WideResNet: negative dropout": (made("WideResNet", dropout=-0.1), "dropout", "-0.1"),
    "WideResNet: dropout nan": (made("WideResNet", dropout=float("nan")), "dropout", "nan"),
    "UNet: no channels": (lambda: models.UNet(0), "channels", "got 0"),
    "UNet: odd channels": (lambda: models.UNet(7), "even", "7"),
    "UNet: no levels": (lambda: models.UNet(8, ()), "multipliers", "()"),
    "UNet: a zero level": (lambda: models.UNet(8, (1, 0)), "multipliers[1]", "got 0"),
    "UNet: levels as a number": (lambda: models.UNet(8, 2), "multipliers", "2"),
    "UNet: no blocks": (lambda: models.UNet(8, blocks=0), "blocks", "got 0"),
    "UNet: attention, a number": (lambda: models.UNet(8, attention=16), "attention", "16"),
    "UNet: attention at a word": (lambda: models.UNet(8, attention=("16",)), "attention[0]", "'16'"),
    "UNet: no heads": (lambda: models.UNet(8, heads=0), "heads", "got 0"),
    "UNet: no groups": (lambda: models.UNet(8, groups=0), "groups", "got 0"),
    "UNet: all dropped": (lambda: models.UNet(8, dropout=1), "dropout", "got 1"),
    "UNet: nothing out": (lambda: models.UNet(8, out_channels=0), "out_channels", "got 0"),
    "UNet: no dtype": (lambda: models.UNet(8, dtype="floaty"), "'floaty'"),
    "UNet: one time": (lambda: UNET.init(KEY, X, jnp.zeros(1)), "each of the 2 images", "(1,)"),
    "UNet: a scalar time": (lambda: UNET.init(KEY, X, jnp.zeros(())), "each of the 2 images", "()"),
    "UNet: bytes": (lambda: UNET.init(KEY, X.astype(np.uint8), jnp.zeros(2)), "uint8", "/ 255"),
    "UNet: flat": (lambda: UNET.init(KEY, X.reshape(2, -1), jnp.zeros(2)), "(2, 192)", "reshape"),
    # what a network is called with
    **{f"{n}: uint8": (called(n, X.astype(np.uint8)), "uint8", "/ 255") for n in NETS},
    **{f"{n}: integers": (called(n, X.astype(np.int32)), "int32", "astype") for n in NETS},
    **{f"{n}: flat": (called(n, X.reshape(2, -1)), "(2, 192)", "reshape(batch, height") for n in NETS},
    **{f"{n}: one image": (called(n, X[0]), "(8, 8, 3)", "lift it") for n in NETS},
    **{f"{n}: NCHW": (called(n, X.transpose(0, 3, 1, 2)), "8 channels", "transpose(0, 2, 3, 1)") for n in NETS},
    **{f"{n}: grey": (called(n, X[..., :1]), "1 channels", "per channel") for n in NETS},
    **{f"{n}: no pixels": (called(n, X[:, :0]), "(2, 0, 8, 3)") for n in NETS},
    **{f"{n}: words": (lambda n=n: made(n)().init(KEY, "images"), "arrays of numbers", "'images'") for n in NETS},
    **{f"{n}: nothing": (lambda n=n: made(n)().init(KEY, None), "arrays of numbers", "None") for n in NETS},
    "training on nothing": (
        lambda: models.ResNetCIFAR(8).init(KEY, X[:0], True),
        "empty batch has no statistics",
    ),
    # what is lifted
    "a batch to a lifted network": (
        lambda: jax.eval_shape(models.as_classifier(CNN, CNN.init(KEY, X[..., :1])), X[..., :1], KEY),
        "(1, 2, 8, 8, 1)",
        "jax.vmap",
    ),
    "a flat vector to a lifted network": (
        lambda: models.as_classifier(CNN, CNN.init(KEY, X[..., :1]))(np.zeros(64, np.float32), KEY),
        "(1, 64)",
        "reshape",
    ),
    "bytes to a lifted network": (
        lambda: models.as_classifier(CNN, PARAMS)(np.zeros((8, 8, 1), np.uint8), KEY),
        "uint8",
        "/ 255",
    ),
    "params for variables": (lambda: models.as_classifier(CNN, {"conv0": {}}), "{'params'", "conv0"),
    "no variables": (lambda: models.as_net(CNN, None), "{'params'", "None"),
    "no model": (lambda: models.as_net(PARAMS, CNN), "model", "Module", "CNN()"),
    "a class for a model": (lambda: models.as_classifier(models.CNN, PARAMS), "model", "Module"),
    "initialise: a seed": (lambda: models.initialise(CNN, 0, X), "key", "jax.random.key"),
    "initialise: no model": (lambda: models.initialise("CNN", KEY, X), "model", "'CNN'"),
    # files of weights
    "no file": (loaded(FOLDER / "nowhere.npz"), "nowhere.npz"),
    "no file at home": (loaded("~/nowhere/at/all.npz"), "No weights", str(Path.home())),
    "a folder": (loaded(FOLDER / "folder.npz"), "folder.npz", "folder"),
    "an empty path": (loaded(""), "folder"),
    "no path": (loaded(None), "path", "None"),
    "an empty file": (loaded(file("empty.npz", b"")), "empty.npz", "np.savez"),
    "a torn file": (loaded(file("torn.npz", TORN[:3000])), "torn.npz", "np.savez"),
    "a flipped byte": (loaded(file("flipped.npz", bytes(FLIPPED))), "flipped.npz", "CRC"),
    "text": (loaded(file("text.npz", "Gewichte für später".encode("latin-1"))), "text.npz", "np.savez"),
    "a pickle": (loaded(file("pickle.npz", pickle.dumps({"a": 1}))), "pickle.npz", "np.savez"),
    "pickled objects": (loaded(FOLDER / "objects.npz"), "objects.npz", "np.savez"),
    "one array": (loaded(FOLDER / "one.npy"), "one.npy", "np.savez"),
    "a file of PyTorch": (loaded(zipped("model.pth", model_data="x", model_version="3")), "model.pth", "np.savez"),
    # state dicts
    "no state dict": (lambda: models.resnet_cifar_from_torch(W), "state dict", "load_npz"),
    "empty": (lambda: models.resnet_cifar_from_torch({}), "another architecture", "missing"),
    "missing": (converted(layer2_0_conv1_weight=None), "missing ['layer2.0.conv1.weight'] (1 in all)"),
    "unexpected": (converted(fc_weight=lambda w: np.zeros((10, 64))), "unexpected ['fc.weight']"),
    "another shape": (converted(conv1_weight=lambda w: w[:, :1]), "'conv1.weight'", "(3, 3, 1, 16)", "(3, 3, 3, 16)"),
    "another rank": (converted(conv1_weight=lambda w: w.ravel()), "'conv1.weight'", "[432]"),
    "a linear layer transposed": (converted(linear_weight=lambda w: w.T), "'linear.weight'", "(10, 64)", "(64, 10)"),
    "channels last": (converted(conv1_weight=lambda w: w.transpose(2, 3, 1, 0)), "'conv1.weight'"),
    "a nan": (converted(layer1_0_conv1_weight=at(np.nan)), "'layer1.0.conv1.weight'", "1 of 2304", "not finite"),
    "an infinity": (converted(linear_bias=at(-np.inf)), "'linear.bias'", "1 of 10"),
    "too large for float32": (converted(linear_bias=lambda w: 1e300 * w.astype(np.float64)), "not finite in float32"),
    "negative variance": (converted(bn1_running_var=at(-0.5)), "'bn1.running_var'", "variances", "-0.5"),
    "integers": (converted(linear_weight=lambda w: w.astype(np.int64)), "'linear.weight'", "int64"),
    "complex": (converted(linear_weight=lambda w: w.astype(np.complex64)), "'linear.weight'", "complex64"),
    "words": (converted(linear_bias=lambda w: w.astype(str)), "'linear.bias'", "<U"),
    "raw bytes of bfloat16": (
        lambda: models.resnet_cifar_from_torch(models.load_npz(FOLDER / "bfloat16.npz")),
        "raw bytes",
        "bfloat16",
        "float()",
    ),
    "two models": (
        lambda: models.resnet_cifar_from_torch(resnet8()[1] | {"module.linear.bias": np.zeros(10)}),
        "with and without 'module.'",
    ),
    "no UNet": (lambda: models.unet_from_diffusers({}, CNN), "UNet", "CNN"),
    "a size of words": (lambda: models.unet_from_diffusers({}, models.UNet(8, (1,)), "32"), "size", "'32'"),
    # layouts
    "flattened and not declared": (filled(W), "'fc.kernel'", "not known", "flattened(height, width, channels)"),
    "declared for another shape": (filled(W, fc_kernel=layouts.flattened(8, 8, 4)), "'fc.kernel'", "[8, 8, 4]", "256"),
    "declared for no key": (filled(W, fc_kernle=layouts.linear), "'fc.kernle'", "did you mean 'fc.kernel'"),
    "declared wrongly": (filled(W, fc_kernel=layouts.same, fc_bias=layouts.same), "(3, 192)", "(192, 3)"),
    "a shape for a layout": (filled(W, fc_kernel=(8, 8, 3)), "'fc.kernel'", "function"),
    "shapes for a module": (lambda: fill({"params": {}}, (X,), {}, ".".join), "module", "Module"),
    "an image for inputs": (lambda: fill(Net(), X, {}, ".".join), "inputs", "float32[2, 8, 8, 3]"),
    "no name": (lambda: fill(Net(), (X,), {}, None), "name", "function"),
    "a shape for layouts": (lambda: fill(Net(), (X,), {}, ".".join, (8, 8, 3)), "layouts", "flattened"),
    "one name for two": (
        lambda: fill(Net(), (X,), {"w": W}, lambda p: "w"),
        "'w' was given to 2 leaves",
    ),
}  # fmt: skip
