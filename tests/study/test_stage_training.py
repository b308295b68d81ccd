"""Training as stages: everything from the stage's own key, made once, gone on with after a kill, continued where it can be."""

import json

import jax
import numpy as np
import pytest
from rows import slow_but
from study import trained
from study.trained import classifier, config, samples, score, training

import jaxdiff.study.training as stage
from jaxdiff import diffusion, models, train
from jaxdiff.data import dataset
from jaxdiff.data.splits import parts
from jaxdiff.study import part, planned, run
from jaxdiff.study.held_out import HeldOut
from jaxdiff.study.longer import first_difference
from jaxdiff.train import optimizer
from jaxdiff.train.jsonl import read_jsonl


def arrays(product):
    return jax.tree.leaves(jax.device_get(product.arrays))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def counted(monkeypatch):
    """The steps that are made from now on."""
    made, step = [], stage.jit_step

    def counting(*arguments):
        compiled = step(*arguments)
        return lambda state, batch, key: (
            made.append(sorted(batch["id"].tolist())),
            compiled(state, batch, key),
        )[1]

    monkeypatch.setattr(stage, "jit_step", counting)
    return made


def folder_of(workdir, name):
    return (workdir / name).resolve()


@pytest.mark.slow
def test_what_is_finished_is_given_and_not_trained(tmp_path, monkeypatch):
    study_config = config(a=classifier(), score=score())
    first = run(study_config, tmp_path)
    made = counted(monkeypatch)
    monkeypatch.setattr(stage, "stream", None)  # nor is any data read
    logged = config(a=classifier(train=training(log_every=3, keep=1, checkpoint_every=7)), score=score())
    again = run(logged, tmp_path)
    assert not made and equal(first["a"], again["a"]) and equal(first["score"], again["score"])


def test_equal_networks_of_other_names_begin_and_go_otherwise(tmp_path, monkeypatch):
    made = counted(monkeypatch)
    products = run(config(a=classifier(), b=classifier()), tmp_path)
    assert not equal(products["a"], products["b"]) and made[:4] != made[4:]
    still = classifier(train=training(1, part(train.optimizer.adam, lr=1e-30), ema_decays=()))
    begun = run(config(a=still, b=still), tmp_path)
    pairs = zip(arrays(begun["a"]), arrays(begun["b"]), strict=True)
    assert not all(np.allclose(x, y, atol=1e-6) for x, y in pairs)  # nor do they begin alike
    other = run(config(seed=1, a=classifier()), tmp_path)
    assert not equal(products["a"], other["a"])
    assert equal(products["a"], run(config(a=classifier()), tmp_path / "elsewhere")["a"])


@pytest.mark.parametrize("at", slow_but([1, 3], 3))
def test_a_killed_run_goes_on_and_ends_alike(tmp_path, monkeypatch, at):
    """Whatever it had logged, each step is in its log once."""
    whole = run(config(a=classifier(train=training(6, checkpoint_every=2))), tmp_path / "whole")["a"]

    def dying(*arguments):
        compiled, done = train.jit_step(*arguments), []

        def step(state, batch, key):
            if len(done) == at:
                raise KeyboardInterrupt
            done.append(1)
            return compiled(state, batch, key)

        return step

    study_config = config(a=classifier(train=training(6, checkpoint_every=2)))
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(stage, "jit_step", dying)
            run(study_config, tmp_path / "killed")
    assert equal(whole, run(study_config, tmp_path / "killed")["a"])
    steps = [row["step"] for row in read_jsonl(folder_of(tmp_path / "killed", "a") / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, monkeypatch, capsys):
    whole = run(config(a=classifier(train=training(6))), tmp_path / "whole")["a"]
    short = run(config(a=classifier(train=training(4))), tmp_path / "grown")["a"]
    made = counted(monkeypatch)
    grown = run(config(a=classifier(train=training(6))), tmp_path / "grown")["a"]
    assert len(made) == 2 and "a: goes on from step 4 of a-" in capsys.readouterr().out
    assert equal(whole, grown) and not equal(short, grown)
    assert (
        equal(short, run(config(a=classifier(train=training(4))), tmp_path / "grown")["a"]) and len(made) == 2
    )
    log = folder_of(tmp_path / "grown", "a").parent
    rows = [read_jsonl(f / "metrics.jsonl") for f in log.glob("a-*")]
    assert sorted(len(r) for r in rows) == [4, 6]


@pytest.mark.slow
def test_one_that_would_have_gone_otherwise_is_trained_from_the_start(tmp_path, monkeypatch, capsys):
    cosine = part(train.optimizer.adam, lr=1e-2, schedule="cosine")
    run(config(a=classifier(train=training(4, cosine))), tmp_path)
    run(config(b=classifier()), tmp_path)
    made = counted(monkeypatch)
    run(config(a=classifier(train=training(6, cosine))), tmp_path)
    told = capsys.readouterr().out
    assert len(made) == 6 and "not continued from the 4 steps" in told and "differs at step 2" in told
    made.clear()
    run(config(a=classifier(train=training(6, batch_size=4))), tmp_path)  # another batch size is another run
    assert len(made) == 6 and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("schedule", "warmup", "differs"),
    [("constant", 0, None), ("constant", 3, None), ("cosine", 0, 2), ("cosine", 3, 5)],
)
def test_learning_rates_are_compared_step_by_step(schedule, warmup, differs):
    make = lambda total: optimizer.sgd(0.1, momentum=0.9, warmup=warmup, schedule=schedule, total=total)
    assert first_difference(make(8), make(12), 8) == differs
    assert first_difference(make(8), make(8), 8) is None


def test_the_held_out_part_is_measured_and_never_trained_on(tmp_path, monkeypatch):
    made = counted(monkeypatch)
    study_config = config(a=classifier(train=training(4, evaluate_every=2)), validation=0.2)
    product = run(study_config, tmp_path)["a"]
    folder = folder_of(tmp_path, "a")
    records = json.loads((folder / "results.json").read_text())
    held_out = dataset.digits("validation", validation=0.2)
    batch = held_out.fetch(np.arange(len(held_out)))
    logits = np.asarray(jax.vmap(product(), (0, None))(batch["image"], None), np.float64)
    right = float(np.mean(logits.argmax(1) == batch["label"]))
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), batch["label"]]
    found = {record["metric"]: record for record in records}
    assert found["accuracy"]["value"] == pytest.approx(right)
    assert found["loss"]["value"] == pytest.approx(loss.mean(), rel=1e-4)
    assert {r["step"] for r in records} == {4} and {r["n"] for r in records} == {len(held_out)}
    assert [row["step"] for row in read_jsonl(folder / "validation.jsonl")] == [2, 4]
    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "measure", lambda *_: pytest.fail("measured again"))
        run(study_config, tmp_path)
    left, held = parts(1437, 0.2)
    images = dataset.digits("train").fetch(held)["image"]
    np.testing.assert_array_equal(images, batch["image"])
    assert max(max(ids) for ids in made) < len(left)


@pytest.mark.slow
def test_the_held_out_denoising_loss_is_that_of_the_averaged_network(tmp_path):
    """At the same times and noise, so that runs can be compared: another log changes nothing."""
    a = run(config(score=score()), tmp_path / "a")["score"]
    run(config(score=score(train=training(evaluate_every=1))), tmp_path / "b")
    told = [json.loads((folder_of(tmp_path / d, "score") / "results.json").read_text()) for d in "ab"]
    assert told[0] == told[1] and told[0][0]["metric"] == "loss" and 0.5 < told[0][0]["value"] < 2.0
    assert len(read_jsonl(folder_of(tmp_path / "b", "score") / "validation.jsonl")) == 4
    assert arrays(a)


def test_without_a_validation_part_nothing_is_held_out(tmp_path):
    run(config(a=classifier(), validation=0), tmp_path)
    assert not (folder_of(tmp_path, "a") / "results.json").exists()


@pytest.mark.slow
def test_samples_are_drawn_once_and_another_solver_trains_nothing(tmp_path, monkeypatch):
    run(config(score=score(), samples=samples()), tmp_path)
    first = folder_of(tmp_path, "samples")
    images = np.load(first / "samples.npy")
    assert (
        images.shape == (3, 8, 8, 1)
        and (first / "samples.png").exists()
        and (first / "trajectory.png").exists()
    )
    made = counted(monkeypatch)
    run(config(score=score(), samples=samples(solver=part(diffusion.ddpm), n=5)), tmp_path)
    second = np.load(folder_of(tmp_path, "samples") / "samples.npy")
    assert not made and second.shape == (5, 8, 8, 1) and not np.array_equal(second[:3], images)
    more = run(config(score=score(), samples=samples(n=5)), tmp_path) and folder_of(tmp_path, "samples")
    np.testing.assert_allclose(np.load(more / "samples.npy")[:3], images, atol=1e-5)


WRONG = {
    "steps": ({"steps": 0}, "steps as a whole number >= 1; got 0"),
    "keep": ({"keep": 0}, "keep as a whole number >= 1; got 0"),
    "log_every": ({"log_every": 1.5}, "log_every as a whole number"),
    "warmup": ({"ema_warmup": "ramps"}, "did you mean 'ramp'"),
    "decay": ({"ema_decays": (1.0,)}, "decay"),
    "accumulate": ({"accumulate": 3}, "multiple of accumulate; got 8 and 3"),
    "writer": ({"writers": ("tensorbord",)}, "did you mean 'tensorboard'"),
    "optimizer": (
        {"optimizer": part(train.optimizer.adam, lr=1e-2, warmup=9, schedule="cosine")},
        "total > warmup=9",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_are_refused_before_anything_is_made(tmp_path, name):
    change, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        run(config(a=classifier(), b=classifier(train=training(**change))), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_networks_that_do_not_fit_the_data_are_refused(tmp_path):
    few = part(models.CNN, channels=(4,), classes=3, mean=(0.3,), std=(0.4,))
    with pytest.raises(ValueError, match=r"has the output \[3\]; for these data it is \[10\]"):
        planned(config(a=classifier(model=few)))
    with pytest.raises(ValueError, match="kind 'epsilon'"):
        planned(config(score=score(kind="epsilon")))


def test_a_short_training_on_real_digits_is_accurate(tmp_path):
    cnn = part(models.CNN, channels=(16, 32), mean=(0.3,), std=(0.4,))
    study_config = config(a=trained.classifier(model=cnn, train=training(100, batch_size=64)), validation=0)
    product = run(study_config, tmp_path)["a"]
    test = dataset.digits("test")
    batch = test.fetch(np.arange(len(test)))
    logits = jax.jit(lambda arrays, x: jax.vmap(product.make(arrays), (0, None))(x, None))(
        product.arrays, batch["image"]
    )
    assert np.mean(np.argmax(logits, 1) == batch["label"]) > 0.8
