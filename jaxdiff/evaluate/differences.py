"""What was added to an image, and how that looks: blue below zero, red above."""

import numpy as np

from jaxdiff.evaluate.canvas import mark_broken


def signed_colours(values: np.ndarray, bound: float) -> np.ndarray:
    """[n, h, w] in [-bound, bound] as RGB bytes of a diverging map: blue below zero, white at zero, red above; magenta where
    they are not finite.
    """
    from matplotlib import colormaps

    finite = np.isfinite(values)
    unit = 0.5 + np.where(finite, values, 0.0) / (2 * bound) if bound > 0 else np.full_like(values, 0.5)
    return mark_broken(np.round(255 * colormaps["RdBu_r"](unit)[..., :3]).astype(np.uint8), finite)


def difference(clean: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, float]:
    """[n, h, w]: what was added, the mean over channels; and the largest of its finite absolute values, 0 if there is none."""
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, and is drawn as such
        delta = (changed - clean).mean(-1)
    return delta, float(np.abs(delta[np.isfinite(delta)]).max(initial=0.0))
