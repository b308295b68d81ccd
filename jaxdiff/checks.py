"""What comes in from outside is checked here: images, labels, numbers, counts, names, functions.

Concrete values are checked and refused, with what was wrong, what was expected and what to do. Values that are traced (inside
`jit`, `vmap`, `grad`) have no value yet: their types and shapes are checked, and `believable` says, example by example, whether
an image and a label can be believed, so that what computes with them can mark its result as not finite.

Every check returns what it was given, as a JAX array where it is an array, so that numpy arrays never meet a traced index.
"""

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool


def traced(*values: Any) -> bool:
    """Whether a leaf of the values has no value here: it is traced, or lies on other hosts too."""
    return any(
        isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable)
        for leaf in jax.tree.leaves(values)
    )


def floats(who: str, x: Any, what: str = "Images") -> Array:
    """`x` as an array; ValueError unless it holds floating point numbers."""
    x = _array(who, x, what)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        remedy = "x.astype('float32') / 255" if x.dtype == np.uint8 else "x.astype('float32')"
        raise ValueError(f"{who}: {what} are floating point numbers; got {x.dtype}. Use {remedy}.")
    return x


def image(who: str, x: Any) -> Array:
    """One image (or anything in its place) as an array of floats; where it is concrete, finite and within [0, 1]."""
    x = floats(who, x)
    if not x.size:
        raise ValueError(f"{who}: an image has pixels; got shape {x.shape}.")
    return x if traced(x) else _in_box(who, x)


def images(who: str, x: Any) -> Array:
    """A batch of images [B, ...], B >= 0: floats; where they are concrete, finite and within [0, 1]."""
    x = floats(who, x)
    if x.ndim < 2:
        raise ValueError(
            f"{who} takes a batch [B, ...] of images; got shape {x.shape}. For one image use x[None]."
        )
    return x if traced(x) else _in_box(who, x)


def label(who: str, y: Any, classes: int | None = None) -> Array:
    """One label as an integer scalar; where it is concrete, at least 0 and below `classes` if that is known."""
    y = _integers(who, y)
    if y.ndim:
        one_hot = y.ndim == 1 and classes is not None and y.shape == (classes,)
        remedy = (
            "For a one-hot label use y.argmax()." if one_hot else "For a batch use jax.vmap, or `pooled`."
        )
        raise ValueError(f"{who}: the label of one image is a scalar; got shape {y.shape}. {remedy}")
    return y if traced(y) else _in_range(who, y, classes)


def labels(who: str, y: Any, batch: int, classes: int | None = None) -> Array:
    """Labels [batch] as integers; where they are concrete, at least 0 and below `classes` if that is known."""
    y = _integers(who, y)
    if y.shape != (batch,):
        remedy = "Give one integer for every image."
        if y.ndim == 2 and y.shape[0] == batch:
            remedy = "Use y[:, 0]." if y.shape[1] == 1 else "For one-hot labels use y.argmax(axis=1)."
        raise ValueError(
            f"{who}: the labels of {batch} images have shape ({batch},); got {y.shape}. {remedy}"
        )
    return y if traced(y) else _in_range(who, y, classes)


def key(who: str, k: Any) -> Array:
    """One typed random key; ValueError for anything else."""
    if not (isinstance(k, jax.Array) and jnp.issubdtype(k.dtype, jax.dtypes.prng_key) and k.ndim == 0):
        raise ValueError(f"{who} needs one random key; got {_shown(k)}. Use jax.random.key(0).")
    return k


def keys(who: str, k: Any, batch: int) -> Array:
    """Typed random keys [batch]; ValueError for anything else."""
    typed = isinstance(k, jax.Array) and jnp.issubdtype(k.dtype, jax.dtypes.prng_key)
    if not typed or k.shape != (batch,):
        raise ValueError(
            f"{who} needs a key for every image, shape ({batch},); got {_shown(k)}. Use jax.random.split(key, {batch})."
        )
    return k


def believable(x: Array, y: Array | None = None, classes: int = 0) -> Bool[Array, ""]:
    """Whether every pixel lies in [0, 1] and y, if it is a label (an integer scalar), is one of 0 .. classes - 1."""
    inside = jnp.all((x >= 0.0) & (x <= 1.0))
    if y is None or jnp.ndim(y) or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        return inside
    y = _wide_enough(jnp.asarray(y))
    return inside & (y >= 0) & (y < classes)


def number(who: str, interval: str, /, **values: Any) -> Any:
    """The value, or a tuple of several, as Python's numbers; ValueError unless all are numbers in `interval`.

    It is written as "[0, 1]", "(0, inf)" or "[0, inf]"; infinity is a member where the bracket beside it is square. What is
    returned takes the precision of what it meets, where a float64 of numpy would bring its own. A traced value comes back as
    it is: it is the caller's to check.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    found = []
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            found.append(value)
            continue
        plain = _plain_number(value)
        above = plain is not None and (plain >= low if interval[0] == "[" else plain > low)
        below = plain is not None and (plain <= high if interval[-1] == "]" else plain < high)
        if not (above and below):
            raise ValueError(f"{who} needs {name} as a number in {interval}; got {_shown(value)}.")
        found.append(plain)
    return found[0] if len(found) == 1 else tuple(found)


def count(who: str, /, least: int = 1, most: int | None = None, **values: Any) -> None:
    """ValueError unless every value is a whole number (no bool, no float) of at least `least` and at most `most`."""
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            limits = f">= {least}" if most is None else f"between {least} and {most}"
            raise ValueError(f"{who} needs {name} as a whole number {limits}; got {_shown(value)}.")


def known(who: str, names: Iterable[str], /, **values: Any) -> None:
    """ValueError, with the nearest name, unless every value is one of `names`."""
    names = sorted(names)
    for name, value in values.items():
        if not isinstance(value, str) or value not in names:
            raise ValueError(
                f"{who}: unknown {name} {_shown(value)}{nearest(str(value), names)} Known: {names}."
            )


def instance(who: str, kind: type | tuple[type, ...], like: str, /, **values: Any) -> None:
    """ValueError unless every value is of `kind`; `like` says in words what makes one, for example "ddim(process)"."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for name, value in values.items():
        if not isinstance(value, kind):
            wanted = " or ".join(k.__name__ for k in kinds)
            raise ValueError(f"{who} needs {name} as a {wanted}, such as {like}; got {_shown(value)}.")


def function(who: str, /, **values: Any) -> None:
    """ValueError unless every value can be called."""
    for name, value in values.items():
        if not callable(value):
            raise ValueError(f"{who} needs {name} as a function; got {_shown(value)}.")


def nearest(name: str, names: Collection[str]) -> str:
    """', did you mean ...?' for the nearest of `names`, or '.'."""
    folded = {n.lower(): n for n in reversed(list(names))}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f", did you mean {folded[close[0]]!r}?" if close else "."


def logits_of(who: str, classifier: Callable, x: Any, k: Any) -> int:
    """The number of classes of a classifier of one image; ValueError unless (image, key) gives one row of float logits."""
    function(who, classifier=classifier)
    try:
        out = jax.eval_shape(classifier, x, k)
    except TypeError as error:
        if "positional argument" in str(error):
            raise ValueError(f"{who}: a classifier is called as classifier(image, key): {error}.") from error
        raise
    shape, dtype = getattr(out, "shape", None), getattr(out, "dtype", None)
    if shape is None or len(shape) != 1 or not jnp.issubdtype(dtype, jnp.floating):
        remedy = (
            "Return the logits, not the class."
            if shape == ()
            else "For a batched model: lambda x, key: model(x[None])[0]."
        )
        told = f"{dtype}{list(shape)}" if shape is not None else _shown(out)
        raise ValueError(
            f"{who}: a classifier maps one image and a key to logits [classes]; got {told}. {remedy}"
        )
    return shape[0]


def _array(who: str, x: Any, what: str) -> Array:
    if isinstance(x, jax.Array):
        return x
    try:
        array = np.asarray(x)
    except ValueError:  # rows of unequal length
        array = np.empty((), object)
    if array.dtype.kind in "OSUMm":
        raise ValueError(f"{who}: {what} are arrays of numbers; got {_shown(x)}.")
    return jnp.asarray(array)


def _integers(who: str, y: Any) -> Array:
    y = _array(who, y, "labels")
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"{who}: labels are integers; got {y.dtype}. Use y.astype('int32').")
    return _wide_enough(y)


def _wide_enough(y: Array) -> Array:
    """Integers of 32 bits or more: in int8, 1 < 1000 is false, because 1000 is no number there."""
    return y.astype(jnp.int32) if y.dtype.itemsize < 4 else y


def _in_box(who: str, x: Array) -> Array:
    if not x.size:
        return x
    low, high = _extremes(x)
    if low >= 0.0 and high <= 1.0:
        return x
    raise ValueError(
        f"{who}: images lie in [0, 1]; got min {low:.6g}, max {high:.6g}. {range_remedy(low, high)}."
    )


def range_remedy(low: float, high: float) -> str:
    """What to do about pixels between `low` and `high`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "They must be finite: look for what made NaN or infinity"
    if low < -0.5:
        return "For [-1, 1] use (images + 1) / 2; for standardised data undo the normalisation"
    if high > 2 and low >= 0:
        return "For pixels in 0..255, divide by 255"
    return "If this is rounding, use images.clip(0, 1)"


def _extremes(x: Array) -> tuple[float, float]:
    """The least and the largest value; by numpy, for which a known array stays known while something else is traced."""
    values = np.asarray(x)
    return float(values.min()), float(values.max())


def _in_range(who: str, y: Array, classes: int | None) -> Array:
    if not y.size:
        return y
    low, high = map(int, _extremes(y))
    if low >= 0 and (classes is None or high < classes):
        return y
    limits = "at least 0" if classes is None else f"between 0 and {classes - 1}"
    remedy = (
        " Do they count from 1? Use y - 1." if classes is not None and (low, high) == (1, classes) else ""
    )
    raise ValueError(f"{who}: labels are {limits}; got {low if low < 0 else high}.{remedy}")


def _plain_number(value: Any) -> float | None:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)) and value.ndim == 0:
        return float(value) if jnp.issubdtype(value.dtype, jnp.number) else None
    return None


def _shown(value: Any) -> str:
    """A value in an error: short, with its type where that is what is wrong."""
    if isinstance(value, (jax.Array, np.ndarray)) and value.ndim:
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, str | bool | int | float | None.__class__):
        return repr(value)
    text = repr(value)
    text = f"{text[:60]}..." if len(text) > 60 else text
    return f"{type(value).__name__} {text}"


def pixels(who: str, shape: tuple[int, ...], least: int = 1) -> None:
    """ValueError unless the shape is that of one image "h w c" with at least `least` rows and columns."""
    if len(shape) == 3 and min(shape[:2]) >= least and shape[2] >= 1:
        return
    remedies = {
        1: "Reshape a flat vector to its image.",
        2: "For a grey image use x[..., None].",
        4: "For a batch use jax.vmap, or `pooled`.",
    }
    size = f" of at least {least} x {least} pixels" if least > 1 else ""
    told = f'{who} needs one image "h w c"{size}; got shape {tuple(shape)}.'
    raise ValueError(" ".join([told, *filter(None, [remedies.get(len(shape))])]))


def takes(who: str, like: str, arguments: int, /, **functions: Any) -> None:
    """ValueError unless every function can be called with `arguments` positional ones; `like` says how, as "(logits, y)"."""
    for name, value in functions.items():
        if not callable(value):
            raise ValueError(f"{who} needs {name} as a function of {like}; got {_shown(value)}.")
        try:
            inspect.signature(value).bind(*[None] * arguments)
        except TypeError as error:
            called = getattr(value, "__name__", repr(value))
            raise ValueError(
                f"{who} needs {name} as a function of {like}; got {called}, which does not take them ({error}). "
                f"Is it to be made first, as {called}()?"
            ) from error
        except ValueError:  # builtins without a signature
            continue


def batch(who: str, classifier: Callable, x: Any, y: Any, k: Any) -> tuple[Array, Array, Array]:
    """(images [B, ...], labels [B], key) for what runs over many images with one key; ValueError unless B >= 1 and all fit."""
    x, k = images(who, x), key(who, k)
    if not len(x):
        raise ValueError(f"{who} needs at least one image; got shape {x.shape}.")
    return x, labels(who, y, len(x), logits_of(who, classifier, x[0], k)), k
