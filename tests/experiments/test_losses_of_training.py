"""What training minimises, on what it trains, and what it returns."""

import copy
from pathlib import Path
from types import SimpleNamespace

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import train_classifier
import train_score
import training
from flax import linen as nn
from test_configs import load

from jaxdiff.data import dataset
from jaxdiff.diffusion import process
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models import CNN, as_classifier, initialise
from jaxdiff.models.preact import PreActResNet
from jaxdiff.train import init_state, make_step, optimizer

VP, LABEL = process.VP(), {"scale": 999.0, "offset": 0.0}


class Exact:
    """A score network that knows the images: given scale and offset of `x0`, it predicts any kind without error."""

    def __init__(self, answer):
        self.answer = answer

    def apply(self, variables, x_t, label, train, rngs):
        assert train and set(variables) == {"params"}
        return jax.vmap(self.answer)(x_t, label / 999.0)


def score_config(**changes):
    config = load("digits").unlock()
    for name, value in changes.items():
        config.score[name] = value  # a part as a whole
    return config


def score_loss(kind, answer, **changes):
    """The loss of a model that answers `answer(x_t, t)`."""
    score = common.Score(Exact(answer), VP, kind, LABEL)
    return train_score.score_loss(score_config(kind=kind, **changes), score)


def batch_of(image, n=6, start=0):
    return {"image": jnp.full((n, 4, 4, 1), image), "id": start + jnp.arange(n), "label": jnp.arange(n) % 10}


def exact(kind, x0):
    """What the process says, written out for an image `x0` in [-1, 1]."""

    def answer(x_t, t):
        noise = (x_t - VP.alpha(t) * x0) / VP.sigma(t)
        return {
            "eps": noise,
            "x0": jnp.full_like(x_t, x0),
            "v": VP.alpha(t) * noise - VP.sigma(t) * x0,
        }[kind]

    return answer


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_loss_of_an_exact_denoiser_is_zero(key, kind):
    """Of images 0.8, which the network sees as 2 x 0.8 - 1 = 0.6, and as nothing else."""
    changes = {"time": {"name": "uniform_time", "t_min": 0.1}}
    value, (_, state) = score_loss(kind, exact(kind, 0.6), **changes)({}, {"kept": 1}, batch_of(0.8), key)
    assert value < 1e-9 and state == {"kept": 1}
    wrong, _ = score_loss(kind, exact(kind, 0.8), **changes)({}, {}, batch_of(0.8), key)
    assert wrong > 1e-4


def test_the_loss_of_the_mean_is_the_variance(key):
    """Kind x0: a network that always says m loses (2 x - 1 - m)^2, the mean over pixels and examples."""
    images = jax.random.uniform(key, (6, 4, 4, 1))
    batch = batch_of(0.0) | {"image": images}
    value, _ = score_loss("x0", lambda x_t, t: jnp.full_like(x_t, 0.25))({}, {}, batch, key)
    np.testing.assert_allclose(value, np.mean((2 * np.asarray(images, np.float64) - 1.25) ** 2), rtol=1e-5)


def test_the_weight_of_the_config_multiplies_the_loss(key):
    """elbo in 10 steps, upper variance, at t = 1, the only time: T/2 (1 - ratio) (alpha_s / alpha_t)^2, s = 0.9."""
    last = {"name": "discrete_time", "steps": 1}
    weighted = score_config(time=last, weight={"name": "elbo", "steps": 10})
    value, plain = (
        train_score.score_loss(config, common.Score(Exact(lambda x_t, t: 0 * x_t), VP, "eps", LABEL))(
            {}, {}, batch_of(0.5), key
        )[0]
        for config in (weighted, score_config(time=last))
    )
    alpha, sigma = (np.array([float(f(t)) for t in (1.0, 0.9)]) for f in (VP.alpha, VP.sigma))
    ratio = (alpha[0] / sigma[0]) ** 2 / (alpha[1] / sigma[1]) ** 2
    np.testing.assert_allclose(value / plain, 5 * (1 - ratio) * (alpha[1] / alpha[0]) ** 2, rtol=1e-3)


def test_every_example_and_every_step_has_its_own_randomness(key):
    """The loss of a batch is the mean over its examples, each drawing by its id; another key is another loss."""
    loss = jax.jit(score_loss("eps", lambda x_t, t: jnp.sin(3 * x_t) + t))
    whole = loss({}, {}, batch_of(0.3), key)[0]
    parts = [loss({}, {}, batch_of(0.3, 1, i), key)[0] for i in range(6)]
    np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-5)
    assert len({float(p) for p in parts}) == 6
    assert abs(loss({}, {}, batch_of(0.3), jax.random.key(1))[0] - whole) > 1e-3


def test_time_noise_augmentation_and_dropout_are_drawn_apart(key):
    """Of one example the keys of the four purposes differ."""
    seen = {}

    class Spy:
        def apply(self, variables, x_t, label, train, rngs):
            seen["dropout"] = rngs["dropout"].rng
            return x_t

    score = common.Score(Spy(), VP, "eps", LABEL)
    train_score.score_loss(score_config(), score)({}, {}, batch_of(0.3), key)
    keys = example_keys(key, jnp.arange(6))
    for name in ("dropout", "time", "noise", "augment"):
        apart = jax.vmap(lambda k: purpose(k, name))(keys)
        same = np.array_equal(jax.random.key_data(seen["dropout"]), jax.random.key_data(apart))
        assert same == (name == "dropout")


class Counting(nn.Module):
    """Logits w x[0, 0]; counts its training calls in the batch statistics, and the images it saw in them."""

    @nn.compact
    def __call__(self, x, train=False):
        weights = self.param("w", lambda key: jnp.arange(10.0))
        calls = self.variable("batch_stats", "calls", lambda: jnp.zeros(()))
        rows = self.variable("batch_stats", "rows", lambda: jnp.zeros(()))
        if train and not self.is_initializing():
            calls.value += 1
            rows.value += len(x)
        return weights[None] * x[:, 0, 0, :1]


def classifier_section(loss="standard", augment=()):
    section = copy.deepcopy(load("digits").adversarial_training).unlock()
    section.augment, section.loss = augment, {"name": loss}
    if loss == "standard":
        del section.attack
    elif loss == "trades":
        section.attack.objective = {"name": "kl"}
    return section


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("standard", 6),
        ("madry", 6),
        pytest.param("mixed", 12, marks=pytest.mark.slow),
        ("trades", 12),
    ],
)
def test_batch_statistics_are_updated_once_and_not_by_the_attack(key, name, rows):
    model = Counting()
    params, state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    loss = train_classifier.classifier_loss(classifier_section(name), model)
    _, (_, state) = jax.jit(loss)(params, state, batch_of(0.3), key)
    _, (_, state) = jax.jit(loss)(params, state, batch_of(0.3), key)
    assert state == {"batch_stats": {"calls": 2, "rows": 2 * rows}}


def test_the_loss_of_a_classifier_is_cross_entropy_on_images_in_0_1(key):
    model = Counting()
    params, state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    loss = train_classifier.classifier_loss(classifier_section(), model)
    value, _ = loss(params, state, batch_of(0.3), key)
    logits = 0.3 * np.arange(10.0)
    by_hand = np.mean([np.log(np.exp(logits).sum()) - logits[y] for y in range(6)])
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)


def test_augmentation_is_drawn_by_example(key):
    loss = train_classifier.classifier_loss(
        classifier_section(augment=({"name": "noise", "std": 0.2},)), model := Counting()
    )
    params, state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    loss = jax.jit(loss)
    whole = loss(params, state, batch_of(0.5), key)[0]
    parts = [
        loss(params, state, jax.tree.map(lambda x: x[i : i + 1], batch_of(0.5)), key)[0] for i in range(6)
    ]
    np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-5)
    plain, _ = train_classifier.classifier_loss(classifier_section(), model)(
        params, state, batch_of(0.5), key
    )
    assert abs(plain - whole) > 1e-3


@pytest.mark.parametrize("name", ["standard", "trades"])
def test_a_wide_resnet_with_dropout_trains(key, name):
    """Its masks are the examples', also where a loss shows clean and attacked images in one batch."""
    model = PreActResNet(4, (4,), 1, dropout=0.3, mean=(0.5,), std=(0.5,))  # a Wide ResNet's blocks
    params, model_state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    tx = optimizer.sgd(0.1)
    section = classifier_section(name)
    if name != "standard":
        section.attack.ascent = {"name": "fgsm", "lr": 0.1}
    step = jax.jit(make_step(train_classifier.classifier_loss(section, model), tx, (0.5,)))
    state, metrics = step(init_state(params, tx, (0.5,), model_state), batch_of(0.3), key)
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    _, other = step(init_state(params, tx, (0.5,), model_state), batch_of(0.3, start=50), key)
    assert abs(other["loss"] - metrics["loss"]) > 1e-3  # the same images with other ids
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.model_state, model_state)
    assert min(jax.tree.leaves(changed)) > 0


def test_every_copy_of_an_example_has_its_own_mask(key):
    keys = jax.random.split(key, 3)
    data = jax.random.key_data(train_classifier.repeated(keys, 6))
    assert len({tuple(row) for row in np.asarray(data).tolist()}) == 6
    np.testing.assert_array_equal(data[:3], jax.random.key_data(train_classifier.repeated(keys, 3)))


@pytest.mark.parametrize(
    ("decays", "best"), [((0.9, 0.9999, 0.99), "0.9999"), ((1e-5, 0.5), "0.5"), ((0.5,), "0.5"), ((), None)]
)
def test_the_average_with_the_largest_decay_is_evaluated(decays, best):
    state = init_state({"w": jnp.zeros(1)}, optax.sgd(0.1), decays)
    state = state._replace(ema={name: {"w": jnp.full(1, float(name))} for name in state.ema})
    chosen = training.final_params(SimpleNamespace(), state)
    np.testing.assert_allclose(chosen["w"], float(best or 0.0))


@pytest.mark.parametrize("name", ["score", "classifier"])
def test_training_reads_the_train_split_alone(tmp_path, monkeypatch, name):
    """Every batch holds records of "train" under their ids, and nothing else is loaded."""
    loaded, seen = [], []

    def load_data(config, split):
        loaded.append(split)
        return common.load_data(config, split)

    def fit(step, state, batches, *rest):
        seen.extend(next(batches) for _ in range(30))
        return state

    module = train_score if name == "score" else train_classifier
    monkeypatch.setattr(module, "load_data", load_data)
    monkeypatch.setattr(training, "fit", fit)
    tx = optimizer.sgd(0.1)
    monkeypatch.setattr(training, "start_state", lambda *_: (init_state({"w": jnp.zeros(1)}, tx), tx))
    config = load("digits", "smoke")
    arguments = (config, tmp_path) if name == "score" else (config, tmp_path, "classifier")
    getattr(module, f"train_{name}")(*arguments)
    assert loaded == ["train"]
    train, test = dataset.digits("train"), dataset.digits("test")
    for batch in seen:
        np.testing.assert_array_equal(batch["image"], train.fetch(batch["id"])["image"])
        np.testing.assert_array_equal(batch["label"], train.fetch(batch["id"])["label"])
    held_out = {image.tobytes() for image in test.fetch(np.arange(len(test)))["image"]}
    drawn = {image.tobytes() for batch in seen for image in batch["image"]}
    assert len(drawn) > 100 and not drawn & held_out


def test_the_seed_decides_everything_and_the_name_the_keys(tmp_path, monkeypatch):
    """Two seeds have other parameters, batches and keys; two networks of one seed have other keys."""

    def begun(seed, name, folder):
        def fit(step, state, batches, total, hooks, key):
            ids = np.concatenate([next(batches)["id"] for _ in range(3)])
            return [np.asarray(state.params["conv0"]["kernel"]), ids, np.asarray(jax.random.key_data(key))]

        monkeypatch.setattr(training, "fit", fit)
        section, data = load("digits").classifier, dataset.digits("train")
        model, inputs = CNN((4,), mean=(0.3,), std=(0.4,)), training.example_inputs(data, False)
        return training.train(name, section, seed, data, model, inputs, print, tmp_path / folder)

    first, again = begun(0, "score", "a"), begun(0, "score", "b")
    seed, name = begun(1, "score", "c"), begun(0, "classifier", "d")
    same = [
        [np.array_equal(a, b) for a, b in zip(first, other, strict=True)] for other in (again, seed, name)
    ]
    assert same == [[True] * 3, [False] * 3, [True, True, False]]


def test_the_schedule_ends_with_the_run():
    """A cosine over `train.steps`: the update after the last step would be zero, and the one before it not."""
    section = load("digits").unlock().classifier
    section.train.steps, section.optimizer.warmup = 4, 0
    model = CNN((4,), mean=(0.3,), std=(0.4,))
    state, tx = training.start_state(section, model, (jnp.zeros((1, 8, 8, 1)),), 0)
    sizes, opt_state = [], state.opt_state
    for _ in range(5):
        updates, opt_state = tx.update(state.params, opt_state, state.params)
        sizes.append(float(optax.tree.norm(updates)))
    assert min(sizes[:4]) > 0 and sizes[4] == 0


def test_a_short_training_on_real_digits_is_accurate(tmp_path):
    """The raw parameters and both averages, of which one looks back further than the run."""
    config = load("digits").unlock()
    section = config.classifier
    section.model = {"name": "CNN", "channels": (16, 32), "mean": (0.3,), "std": (0.4,)}
    section.augment, section.optimizer = (), {"name": "adam", "lr": 1e-2}
    section.train.update(steps=100, batch_size=64, ema_decays=(0.9, 0.9999), checkpoint_every=100)
    data, model = dataset.digits("train"), CNN((16, 32), mean=(0.3,), std=(0.4,))
    loss = train_classifier.classifier_loss(section, model)
    arguments = (
        "classifier",
        section,
        0,
        data,
        model,
        training.example_inputs(data, False),
        loss,
        Path(tmp_path),
    )
    with pytest.warns(UserWarning, match=r"0\.9999 looks back over 10000 steps, and the run has 100"):
        state = training.train(*arguments)
    test = dataset.digits("test")
    test = test.fetch(np.arange(len(test)))

    @jax.jit
    def accuracy(params):
        classify = jax.vmap(as_classifier(model, {"params": params}), (0, None))
        return jnp.mean(jnp.argmax(classify(test["image"], None), -1) == test["label"])

    found = [float(accuracy(params)) for params in (state.params, *state.ema.values())]
    assert min(found) > 0.8, found  # without a correction the last would be as good as a guess
    again = training.train(*arguments)  # finished: restored, not trained
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps as a whole number >= 1; got 0"),
        ({"checkpoint_every": -5}, "checkpoint_every as a whole number >= 1; got -5"),
        ({"keep": None}, "keep as a whole number >= 1; got None"),
        ({"log_every": 1.5}, "log_every as a whole number"),
        ({"ema_warmup": "ramps"}, "did you mean 'ramp'"),
        ({}, "needs 'steps'"),
    ],
)
def test_settings_are_refused_before_anything_is_trained(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(training, "resume", lambda checkpoints, state, batches: state)
    section = copy.deepcopy(load("digits").classifier).unlock()
    with section.train.ignore_type():
        section.train.update(change)
    if not change:
        del section.train.steps
    data, model = dataset.digits("train"), Counting()
    inputs = (jnp.zeros((1, 8, 8, 1)),)
    with pytest.raises(ValueError, match=words):
        training.train("classifier", section, 0, data, model, inputs, print, Path(tmp_path))
