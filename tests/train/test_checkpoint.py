"""Checkpoints: exact, atomic, the last few, safe beside donation, and clear about another architecture."""

import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.train.checkpoint import Checkpoints, abstract, resume
from jaxdiff.train.optimizer import adam, sgd
from jaxdiff.train.state import init_state


def fresh(width=3, tx=None, dtype=jnp.float32, **more):
    params = {"layer": {"w": jnp.linspace(0.0, 1.0, 4 * width, dtype=dtype).reshape(4, width)}, **more}
    return init_state(
        params, tx or adam(1e-3, clip=1.0), (0.9, 0.999), {"batch_stats": {"mean": jnp.ones(2)}}
    )


def test_what_is_restored_is_what_was_saved(tmp_path):
    state = fresh()._replace(step=jnp.array(7, jnp.int32))
    with Checkpoints(tmp_path, metadata={"width": 3}) as checkpoints:
        assert checkpoints.restore(state) is None and checkpoints.metadata() is None
        checkpoints.save(7, state, {"epoch": 1, "position": [3, 4]})
    with Checkpoints(tmp_path) as checkpoints:
        restored, data = checkpoints.restore(abstract(state))
        assert checkpoints.latest == 7 and checkpoints.metadata() == {"width": 3}
    chex.assert_trees_all_equal_structs(restored, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, state)
    chex.assert_trees_all_equal(restored, state)
    assert data == {"epoch": 1, "position": [3, 4]}


def test_shapes_alone_are_enough_to_restore(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, fresh())
        restored, data = checkpoints.restore(jax.eval_shape(fresh))
    chex.assert_trees_all_equal(restored, fresh())
    assert data is None


def test_saving_is_safe_beside_donation(tmp_path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = {str(k): jnp.zeros(1 << 18) for k in range(4)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            tree = advance(tree)
            kept = float(tree["0"][0])
            checkpoints.save(step, init_state(tree, optax.identity())._replace(params=tree))
            for _ in range(5):
                tree = advance(tree)
            restored, _ = checkpoints.restore(init_state(tree, optax.identity()))
            for leaf in jax.tree.leaves(restored.params):
                np.testing.assert_array_equal(leaf, kept)


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_few_are_kept(tmp_path, keep):
    with Checkpoints(tmp_path, keep) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, fresh()._replace(step=jnp.array(step, jnp.int32)))
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == list(range(6 - keep, 6))
    with Checkpoints(tmp_path, keep) as checkpoints:
        assert checkpoints.restore(fresh())[0].step == 5


def test_a_step_already_saved_stays(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, fresh(), "first")
        checkpoints.save(3, fresh(), "second")
        assert checkpoints.restore(fresh())[1] == "first"


def test_a_step_half_written_is_ignored(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, fresh(), "whole")
    torn = tmp_path / "2.orbax-checkpoint-tmp" / "state"
    torn.mkdir(parents=True)
    (torn / "manifest.ocdbt").write_bytes(b"torn")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 1 and checkpoints.restore(fresh())[1] == "whole"
        checkpoints.save(2, fresh(), "again")
        assert checkpoints.latest == 2 and checkpoints.restore(fresh())[1] == "again"


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (lambda: fresh(5), r"params/layer/w is float32\[4, 3\] in the checkpoint, float32\[4, 5\] here"),
        (lambda: fresh(3, dtype=jnp.bfloat16), r"params/layer/w is float32\[4, 3\].*bfloat16\[4, 3\] here"),
        (lambda: fresh(b=jnp.ones(2)), r"params/b is missing in the checkpoint, float32\[2\] here"),
        (lambda: fresh(tx=sgd(0.1)), r"opt_state/\S+ is \S+ in the checkpoint"),
    ],
)
def test_another_architecture_is_an_error_that_names_the_leaf(tmp_path, other, match):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, fresh())
        with pytest.raises(ValueError, match=match) as error:
            checkpoints.restore(other())
        assert "step 4" in str(error.value) and "empty directory" in str(error.value)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(fresh()) is not None


def test_a_leaf_that_only_the_checkpoint_has_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, fresh(b=jnp.ones(2)))
        with pytest.raises(ValueError, match=r"/b is float32\[2\] in the checkpoint, missing here"):
            checkpoints.restore(fresh())


def test_a_relative_directory_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints("run/checkpoints") as checkpoints:
        checkpoints.save(1, fresh())
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["1"]


def test_resume_sets_state_and_data(tmp_path):
    class Stream:
        position = 0

        def set_state(self, position):
            self.position = position

    stream, state = Stream(), fresh()
    with Checkpoints(tmp_path) as checkpoints:
        assert resume(checkpoints, state, stream) is state and stream.position == 0
        checkpoints.save(2, state._replace(step=jnp.array(2, jnp.int32)), 17)
        assert resume(checkpoints, state, stream).step == 2 and stream.position == 17
