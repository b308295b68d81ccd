"""Run by test_bits.py on some virtual devices: the rows of cells, whatever batch, order and devices, told as JSON."""

import json
import sys
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))

import evaluation  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from jaxdiff.data import dataset  # noqa: E402
from jaxdiff.models import CNN, as_classifier  # noqa: E402

THREAT = {"name": "linf", "radius": 0.1}
CELLS = {
    "apgd": {
        "threat": THREAT,
        "ascent": {"name": "apgd", "steps": 4},
        "objective": {"name": "margin"},
        "judge": {"name": "average", "n": 2},
    },
    "pgd": {
        "threat": THREAT,
        "ascent": {"name": "pgd", "lr": 0.03, "steps": 3},
        "objective": {"name": "cross_entropy"},
    },
}


def main(batch_size, reverse):
    model = CNN(channels=(8, 16))
    weights = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    victim = evaluation.Victim("cnn", 10, weights, lambda w: as_classifier(model, w))
    config = ConfigDict({"seed": 0, "data": {"name": "digits"}})
    section = ConfigDict({"n": 13, "batch_size": batch_size, "slots": 3})
    with tempfile.TemporaryDirectory() as folder:
        setting = evaluation.Setting.of(config, section, "attack", dataset.digits("test"), Path(folder))
        if reverse:
            setting = setting._replace(ids=setting.ids[::-1])
        found = evaluation.Evaluation(victim, setting)
        rows = {name: found.run(name, cell)[0] for name, cell in CELLS.items()}
    for cell in rows.values():
        for row in cell:
            del row["seconds"]
    print(json.dumps({name: {row["id"]: row for row in cell} for name, cell in rows.items()}))


if __name__ == "__main__":
    main(int(sys.argv[2]), sys.argv[3] == "reversed")
