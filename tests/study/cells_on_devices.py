"""Run by test_bits.py on some virtual devices: the rows of cells, whatever batch, order and devices, told as JSON."""

import json
import sys
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))

import jax.numpy as jnp  # noqa: E402
from study.tiny import cell_of, outcomes, victim_of  # noqa: E402

from jaxdiff.attacks import apgd, cross_entropy, linf, margin, pgd, untargeted  # noqa: E402
from jaxdiff.data import dataset  # noqa: E402
from jaxdiff.defenses import protocols  # noqa: E402
from jaxdiff.models import CNN, as_classifier  # noqa: E402

LINF = linf(0.1)
CELLS = {
    "apgd": cell_of(untargeted(apgd(LINF, 4), margin()), LINF, protocols.average(2)),
    "pgd": cell_of(untargeted(pgd(LINF, 0.03, 3), cross_entropy()), LINF),
}


def main(batch_size, reverse):
    model = CNN(channels=(8, 16))
    weights = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    victim = victim_of(weights, lambda w: as_classifier(model, w))
    rows = {}
    for name, cell in CELLS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows[name], _ = outcomes(
                dataset.digits("test"), Path(folder), victim, cell, 13, batch_size, 3, reverse
            )
    for cell in rows.values():
        for row in cell:
            del row["seconds"]
    print(json.dumps({name: {row["id"]: row for row in cell} for name, cell in rows.items()}))


if __name__ == "__main__":
    main(int(sys.argv[2]), sys.argv[3] == "reversed")
