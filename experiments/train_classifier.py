"""Trains the classifier of a config, or with --section=adversarial_training the adversarially trained one.

python experiments/train_classifier.py --config=configs/digits.py --workdir=runs/digits
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from common import build_augment, load_data, need, run
from ml_collections import ConfigDict
from training import example_inputs, final_params, train

import jaxdiff.models
from jaxdiff.attacks import ascent, lost, objectives, threat, untargeted
from jaxdiff.build import build
from jaxdiff.data.stream import epoch
from jaxdiff.defenses import training as defenses
from jaxdiff.evaluate import proportion
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models import as_classifier
from jaxdiff.models.layers import example_rngs
from jaxdiff.train import data_mesh, spread
from jaxdiff.types import Attack, PRNGKeys

SECTION = flags.DEFINE_string(
    "section", "classifier", "Which classifier: classifier or adversarial_training."
)


def training_attack(spec: ConfigDict) -> Attack:
    """The attack of adversarial training."""
    limits = build(threat, spec.threat)
    return untargeted(build(ascent, spec.ascent, threat=limits), build(objectives, spec.objective))


def repeated(keys: PRNGKeys, rows: int) -> PRNGKeys:
    """Keys for `rows` rows that are the batch again and again (clean, then attacked): each row has its own."""
    copies = range(rows // len(keys))
    return jnp.concatenate([jax.vmap(jax.random.fold_in, (0, None))(keys, copy) for copy in copies])


def classifier_loss(section: ConfigDict, model: Any) -> Callable:
    """The (adversarial) classification loss of a batch, for `make_step`."""
    attack = training_attack(section.attack) if "attack" in section else None
    losses_of = build(defenses, section.loss, attack=attack)
    augmented = build_augment(section.augment)

    def loss(params: Any, model_state: Any, batch: dict, key: jax.Array) -> tuple:
        keys = example_keys(key, batch["id"])
        part = lambda name: jax.vmap(lambda k: purpose(k, name))(keys)
        updated = model_state

        def predict(x, train):
            nonlocal updated  # every loss calls it once with train=True, outside of any transformation
            variables = {"params": params, **model_state}
            if not train:
                return model.apply(variables, x, train=False)
            rngs = example_rngs(repeated(part("dropout"), len(x)))
            logits, updated = model.apply(variables, x, train=True, rngs=rngs, mutable=list(model_state))
            return logits

        x = jax.vmap(augmented)(batch["image"], part("augment"))
        per_example = losses_of(predict, x, batch["label"], part("attack"))
        return jnp.mean(per_example), ({}, updated)

    return loss


def train_classifier(config: ConfigDict, workdir: Path, name: str, line: int = 0) -> Any:
    """Trains, or finishes training, the classifier of section `name` in workdir/name; returns its variables."""
    section, data = config[name], load_data(config, "train")
    model = build(jaxdiff.models, section.model)
    state = train(
        name, section, config.seed, data, model, example_inputs(data, times=False), classifier_loss(section, model),
        workdir / name, line=line,
    )  # fmt: skip
    return {"params": final_params(section, state), **state.model_state}


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, and prints the accuracy on the test set."""
    if SECTION.value not in ("classifier", "adversarial_training"):
        raise ValueError(f"Unknown section {SECTION.value!r}. Known: ['adversarial_training', 'classifier'].")
    need(config, SECTION.value)
    variables = train_classifier(config, workdir, SECTION.value)
    model, test = build(jaxdiff.models, config[SECTION.value].model), load_data(config, "test")

    def is_right(variables, batch):
        classifier = as_classifier(model, variables)
        return jax.vmap(lambda x, y: ~lost(classifier(x), y))(*batch)

    judge, right = spread(is_right, data_mesh(), 64), []
    for batch in epoch(test, 64 * data_mesh().size):
        found = jax.device_get(judge(variables, (batch["image"], batch["label"])))
        right += found[batch["valid"]].tolist()
    accuracy, low, high, n = proportion(right)
    print(
        f"{SECTION.value}: test accuracy {100 * accuracy:.2f} % [{100 * low:.2f}, {100 * high:.2f}], n = {n}"
    )


if __name__ == "__main__":
    run(main)
