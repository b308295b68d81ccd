"""Damaged checkpoints: whatever happens to whichever file, what is restored is what was saved, or it is an error in words."""

import os
import resource
import shutil
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rows import slow_but

from jaxdiff.train.checkpoint import Checkpoints, resume
from jaxdiff.train.state import init_state

# What Orbax has begun to read, and the damage has broken off, complains when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def fresh(step):
    """A state whose largest leaf is a file of its own: numbers that do not compress."""
    big = jax.random.normal(jax.random.key(step), (40, 40))
    state = init_state({"big": big, "small": jnp.full(3, step)}, optax.sgd(0.1, 0.9), (0.9,), {"m": big[0]})
    return state._replace(step=jnp.array(step, jnp.int32), ema={"0.9": {"big": big + 1, "small": big[0]}})


def again(directory):
    """The checkpoints of a run that is started again."""
    return Checkpoints(directory, metadata={"width": 3})


def filled(directory, steps=(1, 2)):
    with again(directory) as checkpoints:
        for step in steps:
            checkpoints.save(step, fresh(step), {"position": 10 * step})
    return directory


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def copy(saved, tmp_path):
    """A new copy of the saved steps 1 and 2 at each call."""

    def make():
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        return shutil.copytree(saved, tmp_path / "copy")

    return make


def restored(directory):
    """(step, warnings) of what a new process would restore, which is checked against what was saved."""
    with warnings.catch_warnings(record=True) as caught, Checkpoints(directory) as checkpoints:
        warnings.simplefilter("always")
        assert checkpoints.metadata() == {"width": 3} and checkpoints.latest in (1, 2, 3, 15)
        state, data = checkpoints.restore(fresh(0))
        step = int(state.step)
        chex.assert_trees_all_equal(state, fresh(step))
        assert data == {"position": 10 * step} and checkpoints.metadata() == {"width": 3}
        assert checkpoints.latest == step
    told = [str(w.message) for w in caught]
    return step, [text for text in told if "was never awaited" not in text]  # Orbax's, of what it broke off


def flipped(fraction):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[int(fraction * (len(data) - 1))] ^= 0x10
        path.write_bytes(data)

    return flip


def garble(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def number_files(directory, step):
    """The files that hold the large arrays."""
    return [p for p in (directory / str(step) / "state").rglob("d/*") if p.stat().st_size > 4000]


def flip_numbers(directory, step, fraction=0.5):
    for path in number_files(directory, step):
        flipped(fraction)(path)


DAMAGES = {
    "first byte": flipped(0.0),
    "a byte": flipped(0.37),
    "middle byte": flipped(0.5),
    "last byte": flipped(1.0),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbled": garble,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", slow_but(DAMAGES, "middle byte"))
def test_whatever_file_is_damaged_what_is_restored_was_saved(saved, copy, damage):
    noticed = set()
    for path in sorted(p.relative_to(saved) for p in (saved / "2").rglob("*") if p.is_file()):
        directory = copy()
        DAMAGES[damage](directory / path)
        step, told = restored(directory)
        if step == 1:
            noticed.add(path)
            assert len(told) == 1 and f"step 2 in {directory} is damaged" in told[0]
        else:  # Orbax does without this file
            assert step == 2 and told == []
    assert saved.joinpath("2", "facts", "metadata").relative_to(saved) in noticed
    if damage not in ("first byte", "last byte"):  # which need not be numbers
        assert noticed & {p.relative_to(saved) for p in number_files(saved, 2)}


def test_the_damaged_leaf_is_named(copy):
    """Compressed numbers do not notice a flip by themselves: only the digest does."""
    found = set()
    for fraction in np.linspace(0.1, 0.9, 4):
        directory = copy()
        flip_numbers(directory, 2, fraction)
        _, told = restored(directory)
        for text in told:
            if "are not those that were saved" in text:
                named = text.split("the numbers of ")[1].split(" are not")[0]
                found |= set(named.split(", "))
    assert found and found <= {"params/big", "ema/0.9/big", "opt_state/0/trace/big"}


@pytest.mark.parametrize("stray", slow_but(["folder", "file", "junk"], "junk"))
def test_a_stray_step_is_passed_over(copy, stray):
    directory = copy()
    if stray == "file":
        (directory / "9").write_text("")
    else:
        (directory / "9").mkdir()
    if stray == "junk":
        (directory / "9" / "state").mkdir()
        (directory / "9" / "notes.txt").write_text("mine")
    step, told = restored(directory)
    assert step == 2 and all("step 9" in t for t in told) and (stray == "file" or len(told) == 1)


def test_training_goes_on_after_a_damaged_step(copy):
    directory = copy()
    flip_numbers(directory, 2)
    with pytest.warns(UserWarning, match="step 2 in .* is damaged"), again(directory) as checkpoints:
        assert checkpoints.restore(fresh(0))[0].step == 1
        checkpoints.save(2, fresh(2), {"position": 20})
        checkpoints.wait()
        assert checkpoints.latest == 2
        checkpoints.save(3, fresh(3), {"position": 30})
    assert sorted(os.listdir(directory)) == ["2", "3", "damaged-2"]
    assert restored(directory) == (3, [])
    flip_numbers(directory, 3)
    assert restored(directory)[0] == 2


@pytest.mark.slow
def test_a_second_damaged_step_is_set_aside_beside_the_first(copy):
    directory = copy()
    for _ in range(2):
        flip_numbers(directory, 2)
        with pytest.warns(UserWarning, match="damaged"), again(directory) as checkpoints:
            checkpoints.restore(fresh(0))
            checkpoints.save(2, fresh(2), {"position": 20})
    assert sorted(os.listdir(directory)) == ["1", "2", "damaged-2", "damaged-2-2"]


def test_steps_before_a_damaged_one_are_saved(tmp_path):
    """Step 20 is damaged, so training is at 10 again: 15 must be kept, though 20 is later."""
    directory = filled(tmp_path, (10, 20))
    (directory / "20" / "facts" / "metadata").write_text("")
    with pytest.warns(UserWarning, match="step 20"), again(directory) as checkpoints:
        assert checkpoints.latest == 10
        checkpoints.save(15, fresh(15), {"position": 150})
    assert restored(directory) == (15, [])


def test_if_none_is_intact_one_error_says_so(copy):
    directory = copy()
    flip_numbers(directory, 2)
    (directory / "1" / "facts" / "metadata").write_text("{}")
    with pytest.warns(UserWarning, match="damaged"), Checkpoints(directory) as checkpoints:
        with pytest.raises(ValueError, match=r"All checkpoints in .* are damaged") as error:
            checkpoints.restore(fresh(0))
        assert "step 1: its facts" in str(error.value) and "step 2: " in str(error.value)
        assert checkpoints.latest is None and checkpoints.metadata() is None


def test_an_earlier_step_of_another_run_is_an_error(copy):
    with Checkpoints(copy()) as checkpoints, pytest.raises(ValueError, match="holds step 2 of another run"):
        checkpoints.save(1, fresh(1))


def test_the_position_in_the_data_is_that_of_the_older_step(copy):
    class Stream:
        def set_state(self, state):
            self.state = state

    directory, stream = copy(), Stream()
    flip_numbers(directory, 2)
    with pytest.warns(UserWarning, match="damaged"), Checkpoints(directory) as checkpoints:
        state = resume(checkpoints, fresh(0), stream)
    assert state.step == 1 and stream.state == {"position": 10}
    chex.assert_trees_all_equal(state.ema, fresh(1).ema)


def test_a_flipped_position_is_not_believed(copy):
    directory = copy()
    path = directory / "2" / "facts" / "metadata"
    text = path.read_text()
    assert '"position": 20' in text
    path.write_text(text.replace('"position": 20', '"position": 21'))
    assert restored(directory)[0] == 1


def test_a_checkpoint_without_digests_is_restored_with_a_warning(tmp_path):
    """As older versions wrote them; another architecture is still told."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path) as manager:
        facts = {"data": {"position": 40}, "metadata": {}}
        args = ocp.args.Composite(state=ocp.args.StandardSave(fresh(4)), facts=ocp.args.JsonSave(facts))
        manager.save(4, args=args)
    with pytest.warns(UserWarning, match="step 4 .* has no digests"), Checkpoints(tmp_path) as checkpoints:
        state, data = checkpoints.restore(fresh(0))
        chex.assert_trees_all_equal(state, fresh(4))
        assert data == {"position": 40}
        other = init_state({"big": jnp.zeros(3), "small": jnp.zeros(3)}, optax.sgd(0.1, 0.9), (0.9,))
        with pytest.raises(ValueError, match="another architecture"):
            checkpoints.restore(other)


def test_a_full_disk_is_told_and_leaves_the_step_before(tmp_path):
    """A limit on the size of files stands in for the disk."""
    directory, limits = filled(tmp_path, (1,)), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
        with pytest.raises(ValueError, match="could not be written"), again(directory) as checkpoints:
            checkpoints.save(2, fresh(2), {"position": 20})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert restored(directory) == (1, [])
