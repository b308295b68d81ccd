"""Networks as products: functions of one example, bound to their weights, from a Flax module and its variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.diffusion import Kind, Process, denoiser
from jaxdiff.diffusion.learned import Trainable
from jaxdiff.diffusion.variance import Share, predicted_half, share_half
from jaxdiff.models import as_classifier, as_net, initialise
from jaxdiff.study.bound import Bound
from jaxdiff.study.parts import Later, is_part
from jaxdiff.train import TrainState
from jaxdiff.types import Denoiser, Image, Net, Time

CARRIED = "carried"  # in the model state of training: what a loss carries, and no network knows


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """A score network as the denoiser that it is, (x_t, t) -> E[x0 | x_t] in [-1, 1]; its process, which it offers to the part
    that it is named in; the network itself, (x_t, t) -> what it predicts, its `kind`; and what it is told beside.
    """

    process: Process
    kind: Kind
    whole: Callable[..., Net]  # what it is told -> (x_t, t) -> all that the network says
    learned: bool = False  # whether that is twice the channels: variances as well
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def net(self) -> Net:
        """(x_t, t) -> what it predicts."""
        net = self.whole(**self.told)
        return predicted_half(net) if self.learned else net

    @property
    def share(self) -> Share:
        """(x_t, t) -> v, the learned variances; ValueError if it has none."""
        if not self.learned:
            raise ValueError(
                "This score network has learned no variances: give it twice the out_channels, and the loss "
                "part(bound_losses.hybrid) or vlb."
            )
        return share_half(self.whole(**self.told))

    @property
    def denoise(self) -> Denoiser:
        """(x_t, t) -> E[x0 | x_t]."""
        return denoiser(self.process, self.kind, self.net)

    def given(self, **told: Any) -> "ScoreModel":
        """The same network, told such as y=3 beside the image; without, it is told nothing."""
        return replace(self, told={**self.told, **told})

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
    model: Any, process: Process | Trainable, kind: Kind, label: Later, learned: bool, variables: Any
) -> Bound:
    """The product of a score stage; `label` says what the network sees, such as `diffusion.time_label` of it, `learned` whether
    it has twice the channels of an image, for variances.
    """
    return Bound(partial(_score_model, model, process, kind, label, learned), variables)


def shown_by(label: Later, process: Process) -> Callable[[Net], Net]:
    """net -> the net that is shown what a part such as part(diffusion.time_label, scale=999.0) says; ValueError for another."""
    if not is_part(label.spec):
        raise ValueError(
            "A score network needs label as a part that says what it is shown, such as part(diffusion.time_label, scale=999.0) "
            f"or part(diffusion.preconditioned); got {label.spec!r:.80}."
        )
    return lambda net: label(net=net, process=process)


def final_variables(state: TrainState) -> dict[str, Any]:
    """What a training run is for: the parameters averaged with the largest decay, or the last ones if there are no averages,
    and what the network updates by itself.
    """
    params = state.ema[max(state.ema, key=float)] if state.ema else state.params
    return {"params": params, **{name: v for name, v in state.model_state.items() if name != CARRIED}}


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
    variables, out = shapes_of(model, inputs), output_shape(model, inputs)
    if out != wanted:
        raise ValueError(f"{who} has the output {list(out)}; for these data it is {list(wanted)}.")
    return variables


def check_score(model: Any, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], bool]:
    """(the variables of a score network as shapes, whether it has learned variances); ValueError unless its output is that of
    images, or has twice their channels.
    """
    *sides, channels = inputs[0].shape[1:]
    learned = output_shape(model, inputs) == (*sides, 2 * channels)
    wanted = (*sides, 2 * channels if learned else channels)
    return check_output("The score network", model, inputs, wanted), learned


def output_shape(model: Any, inputs: tuple[Any, ...]) -> tuple[int, ...]:
    """That of a network for one example."""
    variables = shapes_of(model, inputs)
    return jax.eval_shape(lambda v: model.apply(v, *inputs), variables).shape[1:]


LEARNED = "learned_process"  # among the parameters of a network whose process is learned beside it


def with_process(process: Process | Trainable, variables: Any) -> Process:
    """The process itself, or the one that these variables have learned; of shapes alone, as it is at first."""
    if isinstance(process, Process):
        return process
    params = variables["params"][LEARNED]
    shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
    return process.make(process.init(jax.random.key(0)) if shapes else params)


def _score_model(
    model: Any, process: Process | Trainable, kind: Kind, label: Later, learned: bool, variables: Any
) -> ScoreModel:
    process = with_process(process, variables)
    shown = shown_by(label, process)
    whole = lambda **told: shown(as_net(model, variables, **_batch_of_one(told)))
    denoiser(process, kind, whole())  # says now if it can be none
    return ScoreModel(process, kind, whole, learned)


def _batch_of_one(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value)[None] for name, value in told.items()}
