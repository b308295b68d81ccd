"""The stage that trains a classifier, adversarially or not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.attacks import cross_entropy, lost
from jaxdiff.data import augment as augments
from jaxdiff.data.dataset import Dataset
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models.layers import example_rngs
from jaxdiff.study.networks import bound_classifier, check_output, example_inputs
from jaxdiff.study.study import Plan
from jaxdiff.study.tasks.splits import validation_part
from jaxdiff.study.training import Problem, Training, check_trained, trained


def classifier(
    data: Callable[[str], Dataset],
    model: Any,
    train: Training,
    loss: Callable,
    augment: Sequence[Callable] = (),
) -> Plan:
    """A classifier trained on "train" by a loss of `defenses.training`, such as `standard` or `madry` with an attack.

    If the data have a validation part, its loss (cross-entropy on clean images) and accuracy are measured. The product is a
    classifier of one image.
    """
    dataset = data("train")
    inputs = example_inputs(dataset.image_shape, times=False)
    variables = check_output("The classifier", model, inputs, (dataset.num_classes,))

    def measure(variables: Any, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        logits = model.apply(variables, batch["image"])
        right = ~jax.vmap(lost)(logits, batch["label"])
        return {
            "loss": jax.vmap(cross_entropy())(logits, batch["label"]),
            "accuracy": right.astype(logits.dtype),
        }

    augmented = augments.compose(*augment)
    problem = Problem(
        model, inputs, dataset, training_loss(model, loss, augmented), validation_part(data), measure
    )
    check_trained(train, problem)
    bound = lambda variables: bound_classifier(model, variables)
    return Plan(bound(variables), lambda run: bound(trained(run, train, problem)))


def training_loss(model: Any, loss: Callable, augmented: Callable) -> Callable:
    """The mean (adversarial) loss of a batch, for `make_step`; every example draws its own augmentation, attack and dropout."""

    def of_batch(params: Any, model_state: Any, batch: Mapping, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])
        part = lambda name: jax.vmap(lambda k: purpose(k, name))(keys)

        def predict(x, train):
            given = {"params": params, **model_state}
            if not train:
                return model.apply(given, x, train=False), model_state
            rngs = example_rngs(repeated(part("dropout"), len(x)))
            return model.apply(given, x, train=True, rngs=rngs, mutable=list(model_state))

        x = jax.vmap(augmented)(batch["image"], part("augment"))
        losses, updated = loss(predict, x, batch["label"], part("attack"))
        return jnp.mean(losses), ({}, updated)

    return of_batch


def repeated(keys: jax.Array, rows: int) -> jax.Array:
    """Keys for `rows` rows that are the batch again and again (clean, then attacked): each row has its own."""
    copies = range(rows // len(keys))
    return jnp.concatenate([jax.vmap(jax.random.fold_in, (0, None))(keys, copy) for copy in copies])
