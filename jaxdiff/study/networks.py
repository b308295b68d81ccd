"""Networks as products: functions of one example, bound to their weights, from a Flax module and its variables."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.diffusion import Kind, Process, denoiser
from jaxdiff.models import as_classifier, as_net, initialise
from jaxdiff.study.bound import Bound
from jaxdiff.study.parts import Later, is_part
from jaxdiff.train import TrainState
from jaxdiff.types import Denoiser, Image, Net, Time


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A score network as the denoiser that it is, (x_t, t) -> E[x0 | x_t] in [-1, 1]; its process, which it offers to the part
    that it is named in; the network itself, (x_t, t) -> what it predicts, its `kind`.
    """

    process: Process
    denoise: Denoiser
    net: Net
    kind: Kind

    def __call__(self, x_t: Image, t: Time) -> Image:
        """E[x0 | x_t]."""
        return self.denoise(x_t, t)

    @property
    def offers(self) -> dict[str, Any]:
        """What solvers, grids and purifiers beside it need."""
        return {"process": self.process}


def bound_classifier(model: Any, variables: Any) -> Bound:
    """The product of a classifier stage: (x, key) -> logits."""
    return Bound(partial(as_classifier, model), variables)


def bound_score(
    model: Any, process: Process, kind: Kind, shown: Callable[[Net], Net], variables: Any
) -> Bound:
    """The product of a score stage; `shown` says what the network sees, such as `diffusion.time_label` of it."""
    return Bound(partial(_score_model, model, process, kind, shown), variables)


def shown_by(label: Later, process: Process) -> Callable[[Net], Net]:
    """net -> the net that is shown what a part such as part(diffusion.time_label, scale=999.0) says; ValueError for another."""
    if not is_part(label.spec):
        raise ValueError(
            "A score network needs label as a part that says what it is shown, such as part(diffusion.time_label, scale=999.0) "
            f"or part(diffusion.preconditioned); got {label.spec!r:.80}."
        )
    return lambda net: label(net=net, process=process)


def final_variables(state: TrainState) -> dict[str, Any]:
    """What a training run is for: the parameters averaged with the largest decay, or the last ones if there are no averages."""
    params = state.ema[max(state.ema, key=float)] if state.ema else state.params
    return {"params": params, **state.model_state}


def example_inputs(image_shape: tuple[int, ...], times: bool) -> tuple[Any, ...]:
    """A batch of one image, and perhaps of one time, for initialisation."""
    image = jnp.zeros((1, *image_shape))
    return (image, jnp.zeros(1)) if times else (image,)


def shapes_of(model: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The variables of a network as shapes, without computing them."""
    params, state = jax.eval_shape(lambda key: initialise(model, key, *inputs), jax.random.key(0))
    return {"params": params, **state}


def check_output(who: str, model: Any, inputs: tuple[Any, ...], wanted: tuple[int, ...]) -> dict[str, Any]:
    """The variables of a network as shapes; ValueError unless its output for one example has the shape `wanted`."""
    variables = shapes_of(model, inputs)
    out = jax.eval_shape(lambda v: model.apply(v, *inputs), variables)
    if out.shape != (1, *wanted):
        raise ValueError(f"{who} has the output {list(out.shape[1:])}; for these data it is {list(wanted)}.")
    return variables


def _score_model(
    model: Any, process: Process, kind: Kind, shown: Callable[[Net], Net], variables: Any
) -> ScoreModel:
    net = shown(as_net(model, variables))
    return ScoreModel(process, denoiser(process, kind, net), net, kind)
