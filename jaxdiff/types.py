"""The types of jaxdiff: verbs on one example.

Everything that acts on an image acts on one image, with a scalar time and an explicit key; batches are `jax.vmap` at
the edge. Images in public are float32 in [0, 1], "height width channels"; diffusion networks see 2x - 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array, Bool, Float, Int, Key, ScalarLike

Image = Float[Array, "*shape"]
Images = Float[Array, "batch *shape"]
Logits = Float[Array, " classes"]
Label = Int[Array, ""]
Labels = Int[Array, " batch"]
Scalar = Float[Array, ""]
Time = ScalarLike
PRNGKey = Key[Array, ""]
PRNGKeys = Key[Array, " batch"]

Variables = Mapping[str, Any]

Net = Callable[[Image, Time], Image]  # (x_t, t) -> output; conditioning is closed over
Denoiser = Callable[[Image, Time], Image]  # (x_t, t) -> E[x0 | x_t]
Classifier = Callable[[Image, PRNGKey], Logits]  # deterministic classifiers ignore the key
Features = Callable[[Image], tuple[Float[Array, " features"], Logits]]  # what sample quality is measured by
Objective = Callable[[Logits, Array], Scalar]  # (logits, y); larger is worse for the defender
TargetedObjective = Callable[
    [Logits, Array, Array], Scalar
]  # (logits, y, target); larger is nearer to the target
# Larger is worse for the defender; a loss may add whether the attack has won there.
Loss = Callable[[Image, PRNGKey], Scalar | tuple[Scalar, Bool[Array, ""]]]
Ascent = Callable[[Loss, Image, PRNGKey], Image]
Attack = Callable[[Classifier, Image, Array, PRNGKey], Image]
Defense = Callable[[Image, PRNGKey], Image]
