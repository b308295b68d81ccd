"""Training: a state, a pure step, how it lands on devices, a loop with hooks, exact resumption."""

from jaxdiff.train import optimizer
from jaxdiff.train.checkpoint import Checkpoints, abstract, resume
from jaxdiff.train.hooks import checkpointing, every
from jaxdiff.train.loop import fit
from jaxdiff.train.placement import (
    data_mesh,
    jit_step,
    pmap_step,
    replicate,
    shared,
    split,
    spread,
    training_devices,
    unreplicate,
)
from jaxdiff.train.records import jsonl, progress
from jaxdiff.train.state import TrainState, init_state
from jaxdiff.train.step import make_step
from jaxdiff.train.writers import tensorboard, wandb

__all__ = [
    "Checkpoints",
    "TrainState",
    "abstract",
    "checkpointing",
    "data_mesh",
    "every",
    "fit",
    "init_state",
    "jit_step",
    "jsonl",
    "make_step",
    "optimizer",
    "pmap_step",
    "progress",
    "replicate",
    "resume",
    "shared",
    "split",
    "spread",
    "tensorboard",
    "training_devices",
    "unreplicate",
    "wandb",
]
