"""What training minimises, on what it trains, and what it returns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxdiff import diffusion
from jaxdiff.attacks import cross_entropy, fgsm, kl, linf, pgd, untargeted
from jaxdiff.data import augment
from jaxdiff.defenses import training
from jaxdiff.diffusion import conditions, denoising, noise_levels, time_label, weights
from jaxdiff.keys import example_keys, purpose
from jaxdiff.models import initialise
from jaxdiff.models.preact import PreActResNet
from jaxdiff.study.networks import final_variables
from jaxdiff.study.tasks.classifier import repeated
from jaxdiff.study.tasks.classifier import training_loss as classifier_loss
from jaxdiff.study.tasks.score import Way, training_loss
from jaxdiff.train import TrainState, init_state, make_step, optimizer

VP = diffusion.VP()


class Exact:
    """A score network that knows the images: given scale and offset of `x0`, it predicts any kind without error."""

    def __init__(self, answer):
        self.answer = answer

    def apply(self, variables, x_t, label, train, rngs):
        assert train and variables["params"] == {}
        return jax.vmap(self.answer)(x_t, label / 999.0)


def score_loss(kind, answer, time=None, weight=None, model=None):
    """The loss of a model that answers `answer(x_t, t)`."""
    time, weight = time or noise_levels.uniform(1e-3), weight or weights.simple()
    way = Way(denoising(VP, kind, weight), noise_levels.adaptive(time), lambda net: time_label(net, 999.0))
    return training_loss(
        model or Exact(answer), lambda variables, arrays: way, conditions.nothing(), augment.none()
    )


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
    changes = {"time": noise_levels.uniform(0.1)}
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
    last = noise_levels.discrete(1)
    value, plain = (
        score_loss("eps", lambda x_t, t: 0 * x_t, last, weight)({}, {}, batch_of(0.5), key)[0]
        for weight in (weights.elbo(10), weights.simple())
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

    score_loss("eps", None, model=Spy())({}, {}, batch_of(0.3), key)
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


def loss_of(name, model, augmented=None, ascent=None):
    """The training loss of a classifier."""
    ascent = ascent or pgd(linf(0.2), 0.08, 5)
    objective = kl() if name == "trades" else cross_entropy()
    make = getattr(training, name)
    loss = make() if name == "standard" else make(untargeted(ascent, objective))
    return classifier_loss(model, loss, augmented or augment.none())


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
    loss = loss_of(name, model)
    _, (_, state) = jax.jit(loss)(params, state, batch_of(0.3), key)
    _, (_, state) = jax.jit(loss)(params, state, batch_of(0.3), key)
    assert state == {"batch_stats": {"calls": 2, "rows": 2 * rows}}


def test_the_loss_of_a_classifier_is_cross_entropy_on_images_in_0_1(key):
    model = Counting()
    params, state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    loss = loss_of("standard", model)
    value, _ = loss(params, state, batch_of(0.3), key)
    logits = 0.3 * np.arange(10.0)
    by_hand = np.mean([np.log(np.exp(logits).sum()) - logits[y] for y in range(6)])
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)


def test_augmentation_is_drawn_by_example(key):
    loss = loss_of("standard", model := Counting(), augment.noise(0.2))
    params, state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    loss = jax.jit(loss)
    whole = loss(params, state, batch_of(0.5), key)[0]
    parts = [
        loss(params, state, jax.tree.map(lambda x: x[i : i + 1], batch_of(0.5)), key)[0] for i in range(6)
    ]
    np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-5)
    plain, _ = loss_of("standard", model)(params, state, batch_of(0.5), key)
    assert abs(plain - whole) > 1e-3


@pytest.mark.parametrize("name", ["standard", "trades"])
def test_a_wide_resnet_with_dropout_trains(key, name):
    """Its masks are the examples', also where a loss shows clean and attacked images in one batch."""
    model = PreActResNet(4, (4,), 1, dropout=0.3, mean=(0.5,), std=(0.5,))  # a Wide ResNet's blocks
    params, model_state = initialise(model, key, jnp.zeros((1, 4, 4, 1)))
    tx = optimizer.sgd(0.1)
    loss = loss_of(name, model, ascent=fgsm(linf(0.2), 0.1))
    step = jax.jit(make_step(loss, tx, (0.5,)))
    state, metrics = step(init_state(params, tx, (0.5,), model_state), batch_of(0.3), key)
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    _, other = step(init_state(params, tx, (0.5,), model_state), batch_of(0.3, start=50), key)
    assert abs(other["loss"] - metrics["loss"]) > 1e-3  # the same images with other ids
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.model_state, model_state)
    assert min(jax.tree.leaves(changed)) > 0


def test_every_copy_of_an_example_has_its_own_mask(key):
    keys = jax.random.split(key, 3)
    data = jax.random.key_data(repeated(keys, 6))
    assert len({tuple(row) for row in np.asarray(data).tolist()}) == 6
    np.testing.assert_array_equal(data[:3], jax.random.key_data(repeated(keys, 3)))


@pytest.mark.parametrize(
    ("decays", "best"), [((0.9, 0.9999, 0.99), "0.9999"), ((1e-5, 0.5), "0.5"), ((0.5,), "0.5"), ((), None)]
)
def test_the_average_with_the_largest_decay_is_evaluated(decays, best):
    state = init_state({"w": jnp.zeros(1)}, optax.sgd(0.1), decays)
    state = state._replace(ema={name: {"w": jnp.full(1, float(name))} for name in state.ema})
    chosen = final_variables(state._replace(model_state={"seen": 3}))
    np.testing.assert_allclose(chosen["params"]["w"], float(best or 0.0))
    assert chosen["seen"] == 3


def test_what_a_run_is_for_is_the_average_that_looks_back_farthest():
    """Without averages it is the last parameters."""
    state = TrainState(
        jnp.int32(3), {"w": 1.0}, {d: {"w": float(d)} for d in ("0.9", "0.999", "0.99")}, (), {"stats": 5}
    )
    assert final_variables(state) == {"params": {"w": 0.999}, "stats": 5}
    assert final_variables(state._replace(ema={})) == {"params": {"w": 1.0}, "stats": 5}
