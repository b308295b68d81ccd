"""Adversarial patches (Brown et al. 2017): one picture that, put anywhere, at any size and angle, decides what is seen.

A placement t puts a patch p with its mask m into an image x by inverse mapping: the pixel (i, j) of the image looks at

    (a, b) = R(-angle) ((i, j) - centre) / scale + middle of p,    A(p, x, t) = (1 - m_t) x + (m p)_t,            (1)

with m_t, (m p)_t read between the pixels of m and m p, zero outside. The patch is trained over images and placements,

    max_p  E_{x, t} objective(f(A(p, x, t)), y) - penalty(p),    p in [0, 1],                                    (2)

with penalties that let it be printed (Sharif et al. 2016, Thys et al. 2019), TV and NPS below.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, ScalarLike

from jaxdiff import checks
from jaxdiff.attacks.ascents.directions import check_direction
from jaxdiff.attacks.objectives import cross_entropy, targeted_cross_entropy
from jaxdiff.attacks.stepwise import finite
from jaxdiff.attacks.threats.flow import bilinear
from jaxdiff.floats import wide_dtype
from jaxdiff.types import Attack, Classifier, Images, Label, Labels, Logits, Objective, PRNGKey, Scalar

__all__ = [
    "Placement",
    "apply_patch",
    "circle_mask",
    "force_class",
    "hide_label",
    "non_printability",
    "patch_step",
    "place",
    "printable_colours",
    "random_placement",
    "square_mask",
    "total_variation",
    "train_patch",
]

Patch = Float[Array, "ph pw pc"]
Mask = Float[Array, "mh mw"]


class Placement(NamedTuple):
    """Where a patch lies: its middle in pixels (from the centre of the image's upper left pixel), its scale in image pixels per
    pixel of the patch, and its angle in radians, counterclockwise.
    """

    row: ScalarLike
    column: ScalarLike
    scale: ScalarLike = 1.0
    angle: ScalarLike = 0.0


Draw = Callable[[PRNGKey, tuple[int, ...], tuple[int, ...]], Placement]


def place(x: Float[Array, "h w c"], patch: Patch, mask: Mask, placement: Placement) -> Float[Array, "h w c"]:
    """Equation (1). Pixels that the mask does not reach stay as they are bit for bit; linear in the patch; x keeps its dtype.

    ValueError for a placement whose scale is not positive or whose numbers are not finite, and for a mask of another size.
    """
    x, patch = checks.image("place", x), checks.image("place's patch", patch)
    mask = checked_mask("place", mask)
    checks.pixels("place", x.shape)
    checks.pixels("place's patch", patch.shape)
    checks.instance("place", Placement, "Placement(row, column)", placement=placement)
    checks.number("place", "(-inf, inf)", row=placement.row, column=placement.column, angle=placement.angle)
    checks.number("place", "(0, inf)", scale=placement.scale)
    if patch.shape[2] != x.shape[2] or mask.shape != patch.shape[:2]:
        raise ValueError(
            f"A patch has the channels of the image and a mask of its own height and width; "
            f"got image {x.shape}, patch {patch.shape}, mask {mask.shape}."
        )
    dtype = wide_dtype(x.dtype)
    row, column, scale, angle = (jnp.asarray(value, dtype) for value in placement)
    i = jax.lax.broadcasted_iota(dtype, x.shape[:2], 0) - row
    j = jax.lax.broadcasted_iota(dtype, x.shape[:2], 1) - column
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    a = cos * i + sin * j + (patch.shape[0] - 1) / 2
    b = cos * j - sin * i + (patch.shape[1] - 1) / 2
    layers = jnp.concatenate([patch * mask[..., None], mask[..., None]], axis=-1)
    seen = bilinear(layers, a, b)
    cover = seen[..., -1:]
    return jnp.where(cover > 0.0, ((1.0 - cover) * x + seen[..., :-1]).astype(x.dtype), x)


def random_placement(scale: tuple[float | int, float | int] = (1.0, 1.0), angle: float | int = 0.0) -> Draw:
    """(key, image shape, patch shape) -> a `Placement`: scale uniform in its range, angle in [-angle, angle], and the middle
    wherever the turned rectangle lies within the image; in the middle of the image along a side that it does not fit.
    """
    if np.shape(scale) != (2,):
        raise ValueError(f"random_placement needs scale = (smallest, largest), two numbers; got {scale!r}.")
    smallest, largest = scale
    smallest, largest = checks.number(
        "random_placement's scale", "(0, inf)", smallest=smallest, largest=largest
    )
    angle = checks.number("random_placement, in radians,", "[0, inf)", angle=angle)
    if smallest > largest:
        raise ValueError(f"random_placement needs scale = (smallest, largest), in that order; got {scale}.")

    def draw(key, image, patch):
        row_key, column_key, scale_key, angle_key = jax.random.split(key, 4)
        size = jax.random.uniform(scale_key, (), jnp.float32, smallest, largest)
        turn = jax.random.uniform(angle_key, (), jnp.float32, -angle, angle)
        cos, sin = jnp.abs(jnp.cos(turn)), jnp.abs(jnp.sin(turn))
        height, width = size * (cos * patch[0] + sin * patch[1]), size * (sin * patch[0] + cos * patch[1])
        row = _uniform(row_key, image[0], height)
        return Placement(row, _uniform(column_key, image[1], width), size, turn)

    return draw


def _uniform(key, side, length):
    """The middle of something `length` pixels long, uniform on a side of the image."""
    room = jnp.maximum(side - length, 0.0) / 2
    return (side - 1) / 2 + room * jax.random.uniform(key, (), jnp.float32, -1.0, 1.0)


def square_mask(size: int) -> Mask:
    """The mask of a square patch, size x size."""
    checks.count("square_mask", size=size)
    return jnp.ones((size, size), jnp.float32)


def circle_mask(size: int) -> Mask:
    """The mask of a round patch: the pixels of size x size whose centres lie in the inscribed circle."""
    checks.count("circle_mask", size=size)
    from_middle = jnp.square(jnp.arange(size) - (size - 1) / 2)
    return jnp.where(from_middle[:, None] + from_middle[None] <= (size / 2) ** 2, 1.0, 0.0).astype(
        jnp.float32
    )


def force_class(target: ScalarLike) -> Objective:
    """log softmax(logits)_target: the patch makes everything the class `target`."""
    target, towards = checks.label("force_class's target", target), targeted_cross_entropy()

    def objective(logits: Logits, y: Label) -> Scalar:
        checks.label("force_class's target", target, len(logits))
        return towards(logits, y, target)

    return objective


def hide_label() -> Objective:
    """-log softmax(logits)_y: the patch takes its label from every image."""
    return cross_entropy()


def patch_step(
    objective: Objective,
    mask: Mask,
    draw: Draw,
    tx: optax.GradientTransformation,
    penalty: Callable[[Patch], Scalar] | None = None,
) -> Callable[..., tuple[Patch, Any, Scalar]]:
    """One step of (2), pure: (classifier, patch, tx state, images [B, ...], labels [B], key) -> (patch, tx state, loss).

    `tx` minimises, as optax does. Every image gets a placement of its own; a gradient that is not finite counts as 0.
    """
    checks.takes("patch_step", "(logits, y)", 2, objective=objective)
    checks.takes("patch_step", "(key, image shape, patch shape)", 3, draw=draw)
    check_direction("patch_step", tx)
    if penalty is not None:
        checks.takes("patch_step", "(patch)", 1, penalty=penalty)
    mask = checked_mask("patch_step", mask)

    def step(classifier: Classifier, patch: Patch, state: Any, images: Images, labels: Labels, key: PRNGKey):
        images, labels, key = checks.batch("patch_step", classifier, images, labels, key)
        patch = checks.image("patch_step's patch", patch)
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(len(images)))

        def loss(patch):
            def one(x, y, key):
                draw_key, classifier_key = jax.random.split(key)
                patched = place(x, patch, mask, draw(draw_key, x.shape, patch.shape))
                return objective(classifier(patched, classifier_key), y)

            value = -jnp.mean(jax.vmap(one)(images, labels, keys))
            return value if penalty is None else value + penalty(patch)

        value, gradient = jax.value_and_grad(loss)(patch)
        update, state = tx.update(finite(gradient), state, patch)
        return jnp.clip(patch + update, 0.0, 1.0), state, value

    return step


def train_patch(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    key: PRNGKey,
    objective: Objective,
    mask: Mask,
    draw: Draw,
    steps: int = 500,
    batch: int = 16,
    lr: ScalarLike = 0.02,
    penalty: Callable[[Patch], Scalar] | None = None,
) -> tuple[Patch, Float[Array, " steps"]]:
    """(patch, losses): `steps` of Adam from a grey patch, each on `batch` images drawn with replacement from all `images`.

    The patch has the dtype of the images, float32 at least. ValueError for arguments that do not fit each other.
    """
    images, labels, key = checks.batch("train_patch", classifier, images, labels, key)
    checks.pixels("train_patch", images.shape[1:])
    checks.count("train_patch", steps=steps, batch=batch)
    lr = checks.number("train_patch", "[0, inf)", lr=lr)
    mask, tx = checked_mask("train_patch", mask), optax.adam(lr)
    step = patch_step(objective, mask, draw, tx, penalty)

    def scanned(carry, i):
        choice_key, step_key = jax.random.split(jax.random.fold_in(key, i))
        chosen = jax.random.randint(choice_key, (batch,), 0, len(images))
        *carry, value = step(classifier, *carry, images[chosen], labels[chosen], step_key)
        return tuple(carry), value.astype(patch.dtype)

    patch = jnp.full((*mask.shape, images.shape[-1]), 0.5, wide_dtype(images.dtype))
    (patch, _), losses = jax.lax.scan(scanned, (patch, tx.init(patch)), jnp.arange(steps))
    return patch, losses


def apply_patch(patch: Patch, mask: Mask, draw: Draw) -> Attack:
    """The attack that puts the patch somewhere into the image, whatever the classifier."""
    patch, mask = checks.image("apply_patch", patch), checked_mask("apply_patch", mask)
    checks.takes("apply_patch", "(key, image shape, patch shape)", 3, draw=draw)

    def attack(classifier, x, y, key):
        x = checks.image("apply_patch", x)
        checks.pixels("apply_patch", x.shape)
        return place(x, patch, mask, draw(key, x.shape, patch.shape))

    return attack


def total_variation(patch: Patch) -> Scalar:
    """sum_{i,j} sqrt(|p_{i+1,j} - p_{i,j}|^2 + |p_{i,j+1} - p_{i,j}|^2) (Sharif et al. 2016), with | | over the channels."""
    patch = checks.image("total_variation", patch)
    checks.pixels("total_variation", patch.shape)
    padded = jnp.pad(patch, ((0, 1), (0, 1), (0, 0)), mode="edge")
    down, right = padded[1:, :-1] - patch, padded[:-1, 1:] - patch
    return jnp.sum(_root(jnp.sum(jnp.square(down) + jnp.square(right), axis=-1)))


def non_printability(patch: Patch, colours: Float[Array, "n pc"] | None = None) -> Scalar:
    """sum_p min_q |p - q| over the pixels p and the printable colours q, `printable_colours()` by default (Thys et al. 2019).

    Sharif et al. 2016 take the product in place of the minimum: the same zeros, but it fades with the number of colours.
    """
    patch = checks.image("non_printability", patch)
    checks.pixels("non_printability", patch.shape)
    colours = printable_colours() if colours is None else checks.image("non_printability's colours", colours)
    colours = colours.astype(patch.dtype)
    if colours.ndim != 2 or colours.shape[-1] != patch.shape[-1]:
        raise ValueError(
            f"Colours are [n, channels of the patch]; got {colours.shape} and a patch {patch.shape}. "
            "Give `colours` of your own."
        )
    squares = jnp.sum(jnp.square(patch[:, :, None] - colours[None, None]), axis=-1)
    return jnp.sum(_root(jnp.min(squares, axis=-1)))


def printable_colours() -> Float[Array, "27 3"]:
    """What cyan, magenta and yellow ink give on white paper, each at a coverage of 0, 1/2 or 1.

    A rough model (a full ink lets through the shares of red, green and blue below; inks multiply): measure your own printer.
    """
    inks = jnp.array([[0.10, 0.60, 0.85], [0.80, 0.12, 0.50], [0.95, 0.85, 0.10]])
    coverage = jnp.stack(jnp.meshgrid(*3 * [jnp.array([0.0, 0.5, 1.0])], indexing="ij"), axis=-1).reshape(
        27, 3, 1
    )
    return 0.95 * jnp.prod(1.0 - coverage * (1.0 - inks[None]), axis=1)


def checked_mask(name: str, mask: Mask) -> Mask:
    """The mask as an array; ValueError unless it is one of two axes, with values in [0, 1]."""
    mask = checks.image(f"{name}'s mask", mask)
    if mask.ndim != 2:
        raise ValueError(
            f"{name} needs a mask [height, width], such as square_mask(8); got shape {mask.shape}."
        )
    return mask


def _root(square: Array) -> Array:
    """The square root, with gradient 0 at 0."""
    positive = square > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
