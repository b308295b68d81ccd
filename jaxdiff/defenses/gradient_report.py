"""What an attacker's gradient is worth, in numbers: each view of `attackers_view` against the exact gradient.

With g the exact gradient of the loss at an image, under one draw of the defense, and h that of a view under the same key:

    cosine          <g, h> / (|g| |h|)                                                              (1)
    relative error  |h - g| / |g|                                                                   (2)
    norm ratio      |h| / |g|                                                                       (3)
    sign agreement  share of pixels with sign(h) = sign(g): what L-infinity attacks use             (4)

The exact gradient itself is held against central differences of the loss L along random directions u with steps e u,

    d = (L(x + e u) - L(x - e u)) / (2 e),    error |d - <g, u>| / |<g, u>|,                        (5)

norms over the directions. e is the cube root of the precision, which balances rounding with truncation, and the pixels of u
are of order 1.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdiff import checks
from jaxdiff.attacks import cross_entropy
from jaxdiff.defenses.gradients import attackers_view, known_gradients
from jaxdiff.floats import wide
from jaxdiff.types import Classifier, Defense, Image, Images, Labels, Objective, PRNGKey, Scalar

Report = dict[str, dict[str, float]]
WHO = "gradient_report"
COLUMNS = ("cosine", "relative_error", "norm_ratio", "sign_agreement")


def gradient_report(
    classifier: Classifier,
    defense: Defense,
    x: Float[Array | np.ndarray, "..."],
    y: Int[Array | np.ndarray, "..."] | int | Sequence[int],
    key: PRNGKey,
    objective: Objective | None = None,
    modes: Sequence[str] | None = None,
    directions: int = 8,
) -> Report:
    """{mode: equations (1) to (4)} and {"finite_differences": {"relative_error": (5)}}, means over the images.

    An image whose exact gradient is 0 or not finite, or whose numbers are not, is left out of the means of that row; every row
    says so as "left_out" of "images".

    `x` is one image in [0, 1] with a scalar label `y`, or a batch with labels [batch]; image i draws from fold_in(key, i). The
    objective is the cross-entropy and `modes` is all that the defense knows, unless they are given. Differences are taken in
    the precision of the images: in bfloat16 or float16 (5) is rough. ValueError for unknown modes, images, labels.
    """
    checks.count(WHO, directions=directions)
    checks.function(WHO, classifier=classifier, defense=defense)
    objective = cross_entropy() if objective is None else objective
    checks.function(WHO, objective=objective)
    views = {m: attackers_view(classifier, defense, m) for m in ("exact", *_checked_modes(defense, modes))}
    x, y, key = _checked(views["exact"], x, y, key)

    def one(x: Image, y: Array, key: PRNGKey) -> tuple[Array, dict[str, dict[str, Scalar]]]:
        draw_key, direction_key = jax.random.split(key)
        losses = {m: lambda x, view=view: objective(view(x, draw_key), y) for m, view in views.items()}
        gradients = {m: jax.grad(loss)(x) for m, loss in losses.items()}
        us = jax.random.normal(direction_key, (directions, *x.shape), x.dtype)
        gradients = {m: wide(g) for m, g in gradients.items()}
        exact = gradients["exact"]
        rows = {m: compare(exact, h) for m, h in gradients.items()}
        error = _finite_difference_error(losses["exact"], x, exact, us)
        there = jnp.all(jnp.isfinite(exact)) & jnp.any(exact != 0.0)
        return there, rows | {"finite_differences": {"relative_error": error}}

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(x)))
    there, rows = jax.device_get(jax.jit(jax.vmap(one))(x, y, keys))
    return {name: _means(rows[name], there) for name in (*views, "finite_differences")}


def compare(exact: Image, other: Image) -> dict[str, Scalar]:
    """Equations (1) to (4): not finite for an exact gradient of 0; for another gradient of 0 the cosine is 0."""
    g, h = jnp.linalg.norm(exact.ravel()), jnp.linalg.norm(other.ravel())
    return {
        "cosine": jnp.vdot(exact, other) / (g * jnp.where(h == 0.0, 1.0, h)),
        "relative_error": jnp.linalg.norm((other - exact).ravel()) / g,
        "norm_ratio": h / g,
        "sign_agreement": jnp.mean(jnp.sign(exact) == jnp.sign(other), dtype=exact.dtype),
    }


def report_text(report: Report) -> str:
    """The report as sentences on the finite differences and on missing gradients, and a Markdown table, a row for each mode."""
    error, missing = report["finite_differences"]["relative_error"], report["exact"]["left_out"]
    trust = (
        "can be trusted" if error < 0.05 else "CANNOT be trusted, or the loss is too rough for differences"
    )
    lines = [
        f"The exact gradient differs from finite differences by {error:.2g} of its size: it {trust}.",
        "",
        "| gradient | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " | left out |",
        "|:--|" + "--:|" * (len(COLUMNS) + 1),
    ]
    if missing:
        count = f"{missing:.0f} of {report['exact']['images']:.0f} images have no gradient (0 or not finite)"
        lines[0] += f" {count}; the means leave them out."
    for mode in (m for m in report if m != "finite_differences"):
        row = report[mode]
        cells = [f"{row[name]:.4f}" for name in COLUMNS] + [f"{row['left_out']:.0f}"]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _checked_modes(defense: Defense, modes: Sequence[str] | None) -> list[str]:
    """The views beside the exact one, each once, in their order."""
    named = (
        isinstance(modes, Sequence) and not isinstance(modes, str) and all(isinstance(m, str) for m in modes)
    )
    if modes is not None and not named:
        raise ValueError(f"{WHO} needs modes as a list of names, such as ['bpda']; got {modes!r}.")
    return [m for m in dict.fromkeys(known_gradients(defense) if modes is None else modes) if m != "exact"]


def _checked(defended: Classifier, x: Any, y: Any, key: Any) -> tuple[Images, Labels, PRNGKey]:
    """A batch and the key; ValueError for what is no image, label or key, or where the defended classifier gives no logits."""
    key = checks.key(WHO, key)
    if not isinstance(y, Sequence) and jnp.ndim(y) == 0:
        x, y = checks.image(WHO, x)[None], checks.label(WHO, y)[None]
    x = checks.images(WHO, x)
    if not len(x):
        raise ValueError(f"{WHO} needs at least one image; got none.")
    classes = checks.logits_of(WHO, defended, x[0], key)
    return x, checks.labels(WHO, y, len(x), classes), key


def _means(row: dict[str, np.ndarray], there: np.ndarray) -> dict[str, float]:
    """The means over the images that have a gradient and finite numbers; NaN if there are none."""
    used = np.all([there, *(np.isfinite(values) for values in row.values())], axis=0)
    means = {name: float(values[used].mean()) if used.any() else np.nan for name, values in row.items()}
    return means | {"images": float(len(used)), "left_out": float((~used).sum())}


def _finite_difference_error(loss, x: Image, gradient: Image, us: Array) -> Scalar:
    """Equation (5) for directions us [n, *shape]."""
    e = float(np.cbrt(float(jnp.finfo(x.dtype).eps)))
    differences = jax.lax.map(lambda u: (loss(x + e * u) - loss(x - e * u)) / (2.0 * e), us)
    slopes = jax.vmap(lambda u: jnp.vdot(gradient, u))(us)
    return jnp.linalg.norm(differences - slopes) / jnp.linalg.norm(slopes)
