"""The check that shows which way an attack by flow moves what is in an image."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.attacks import run_with_flow
from jaxdiff.attacks.stepwise import Stepwise
from jaxdiff.evaluate import flow_figure
from jaxdiff.keys import example_keys
from jaxdiff.types import Classifier, Images, Labels, PRNGKey


def flows(
    attack: Stepwise,
    classifier: Classifier,
    images: Images,
    labels: Labels,
    key: PRNGKey,
    folder: Path,
    label_names: Sequence[str],
) -> str:
    """Draws the flows that an attack such as `attacks.stadv` finds, and says how many images fall and how far pixels go.

    ValueError for an attack that does not move pixels.
    """
    keys = example_keys(key, jnp.arange(len(images)))
    found, flow = jax.jit(jax.vmap(lambda *one: run_with_flow(attack, classifier, *one)))(
        images, labels, keys
    )
    logits = jax.jit(jax.vmap(classifier))(found.x, keys)
    seen = np.asarray(jnp.argmax(logits, axis=1))
    told = [f"{label_names[y]}, seen as {label_names[z]}" for y, z in zip(labels, seen, strict=True)]
    flow_figure(images, found.x, flow, folder / "flows.png", told, "Which way pixels have gone")
    height, width = images.shape[1:3]
    moved = np.hypot(*np.moveaxis(np.asarray(flow) * [width / 2, height / 2], -1, 0)).max(axis=(1, 2))
    return (
        f"{np.sum(seen != np.asarray(labels))} of {len(images)} images fall. The pixel of each that goes farthest goes "
        f"{np.median(moved):.2g} pixels in the median, {moved.max():.2g} at most."
    )
