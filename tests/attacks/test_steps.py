"""Attacks step by step: every iterate is that of the paper's equations, worked out with numpy on a linear model."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import slow_but
from scipy.special import ndtr

from jaxdiff.attacks import apgd, apgd_l1, boundary, carlini_wagner, ddn, hop_skip_jump, l1, l2, linf
from jaxdiff.attacks.queries.square import square_l2, square_linf
from jaxdiff.attacks.stepwise import start

KEY = jax.random.key(5)
X = np.array([0.45, 0.6, 0.3, 0.55, 0.5, 0.7])
W = np.array([[1.0, -2.0, 0.5, 1.5, -0.5, 0.25], [-0.5, 1.0, 1.5, -1.0, 2.0, -1.5]])
GAP = W[1] - W[0]  # of the margin of class 1 over class 0
HIGH = float(GAP @ X) + 0.35  # how far the margin has to go


def _margin(x):
    """z_1 - z_0: below 0 at X, where the label is 0."""
    return GAP @ x - HIGH


def _classifier(x, key):
    return jnp.asarray(W, x.dtype) @ x - jnp.array([0.0, HIGH], x.dtype)


def _iterates(attack, y=0):
    """The states after 0, 1, ... steps."""
    problem = (_classifier, jnp.asarray(X, jnp.float32), jnp.asarray(y), KEY)
    step = jax.jit(lambda state, i: attack.step(problem, state, i))
    state = attack.init(problem)
    yield state
    for i in range(attack.steps):
        state = step(state, jnp.asarray(i))
        yield state


def _unit(v):
    return v / np.linalg.norm(v)


def _close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


DDN = [
    (levels, norm, targeted)
    for targeted in (False, True)
    for levels, norm in ((None, 0.3), (32, 0.2), (None, 9.0))
]


@pytest.mark.parametrize(("levels", "init_norm", "targeted"), slow_but(DDN, *DDN[:3], (32, 0.2, True)))
def test_ddn(levels, init_norm, targeted):
    """x + eps d / |d|, eps times 1 -+ gamma by the answer at x_k, a step of lr_k along the unit gradient, from delta = 0."""
    gamma, steps = 0.2, 7
    attack = ddn(steps, gamma, init_norm, levels, targeted)
    states = _iterates(attack, y=int(targeted))
    next(states)
    x, eps = X, init_norm
    farthest = np.linalg.norm(np.maximum(X, 1 - X))
    seen = []
    for k, state in enumerate(states):
        won = _margin(x) > 0
        seen.append(won)
        # Both ways the cross-entropy rises along the margin of class 1.
        lr = 0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2
        d = x - X + lr * _unit(GAP)
        eps = min(eps * (1 - gamma if won else 1 + gamma), farthest)
        x = np.clip(X + eps * _unit(d), 0, 1)
        x = x if levels is None else np.round(x * (levels - 1)) / (levels - 1)
        _close(state[0], x)
        _close(state[1], eps)
    assert k == steps - 1 and {True, False} == set(seen)


@pytest.mark.parametrize("confidence", slow_but([0.0, 0.6], 0.6))
def test_carlini_wagner(confidence):
    """Adam on w, from w(x) and with no memory for each of the constants; |x' - x|^2 and not its root; c by bisection."""
    search, steps, lr, first = 4, 5, 0.1, 0.5
    states = _iterates(carlini_wagner(search, steps, lr, first, confidence))
    next(states)
    c, lower, upper = first, 0.0, np.inf
    for _ in range(search):
        w = np.arctanh((2 * X - 1) * 0.999999)
        m, v, found = np.zeros(6), np.zeros(6), False
        for i in range(steps):
            x = (np.tanh(w) + 1) / 2
            gradient = 2 * (x - X) - c * GAP * (confidence - _margin(x) > 0)
            gradient = gradient * (1 - np.tanh(w) ** 2) / 2
            found = found or _margin(x) > confidence
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            w = w - lr * (m / (1 - 0.9 ** (i + 1))) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8)
            state = next(states)
            _close(state.w, w)
            _close(state.c, c)
            assert bool(state.found) == found
        lower, upper = (lower, c) if found else (c, upper)
        c = 10 * c if np.isinf(upper) else (lower + upper) / 2
    assert next(states, None) is None


class _Decisions:
    """What the decision-based attacks have in common, by hand: the noise of a step, the start, the way to the boundary."""

    def __init__(self, norm, m):
        self.m, self.linf, self.near, self.low = m, norm == "linf", X, 0.0

    def noise(self, i):
        key = jax.random.split(jax.random.fold_in(KEY, i))[0]
        return np.asarray(jax.random.normal(key, (self.m, 6), jnp.float32), np.float64)

    def norm(self, v):
        return np.max(np.abs(v)) if self.linf else np.linalg.norm(v)

    def begin(self, noise):
        """True once there is a misclassified image among x and noise."""
        images = np.concatenate([X[None], ndtr(noise[1:])])
        fooled = [image for image in images if _margin(image) > 0]
        if fooled:
            self.near = min(fooled, key=lambda image: self.norm(image - X))
        return bool(fooled)

    def narrow(self):
        """One of m + 1 parts of the way from `low` to `near` remains."""
        away, high = self.near - X, self.norm(self.near - X)
        radii = [self.low + (high - self.low) * (k + 1) / (self.m + 1) for k in range(self.m)]
        cut = (lambda r: np.clip(away, -r, r)) if self.linf else (lambda r: away * r / high)
        for before, radius in zip([self.low, *radii], [*radii, None], strict=True):
            if radius is None or _margin(X + cut(radius)) > 0:
                self.low = before
                self.near = self.near if radius is None else X + cut(radius)
                return

    def rounds(self):
        return math.ceil(math.log(36) / math.log(self.m + 1) - 1e-9)  # to d^-2 of the way


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump(norm):
    """Start, bisection, estimate with its baseline, and a jump of |x_t - x| / sqrt(t) halved until it is misclassified."""
    m, n_0 = 4, 10
    by_hand = _Decisions(norm, m)
    ball = {"l2": l2, "linf": linf}[norm]
    states = (carry[0] for carry in _iterates(hop_skip_jump(ball, np.inf, m * 40, n_0, m)))
    next(states)
    i = 0

    def check():
        nonlocal i
        _close(next(states).near, by_hand.near)
        i += 1

    while not by_hand.begin(by_hand.noise(i)):
        check()
    check()
    for t in (1, 2, 3):
        for _ in range(by_hand.rounds()):
            by_hand.narrow()
            check()
        answers, directions = [], []
        probe = by_hand.norm(by_hand.near - X) / 6
        for _ in range(math.ceil(n_0 * math.sqrt(t) / m)):
            u = by_hand.noise(i)
            u /= np.linalg.norm(u, axis=1, keepdims=True)
            images = np.clip(by_hand.near + probe * u, 0, 1)
            answers += [1.0 if _margin(image) > 0 else -1.0 for image in images]
            directions += list((images - by_hand.near) / probe)
            check()
        phi = np.array(answers)
        assert {-1.0, 1.0} == set(answers)
        g = (phi - phi.mean()) @ np.array(directions)
        direction = np.sign(g) if norm == "linf" else _unit(g)
        xi, fell = by_hand.norm(by_hand.near - X) / math.sqrt(t), False
        while not fell:
            for _ in range(m):
                candidate = np.clip(by_hand.near + xi * direction, 0, 1)
                xi /= 2
                if not fell and _margin(candidate) > 0:
                    by_hand.near, fell = candidate, True
            by_hand.low = 0.0
            check()
    assert i <= 40


def test_boundary():
    """Sideways on the sphere around x, then inwards; lengths times e^(share - 1/2) and e^(share - 1/4)."""
    m, sideways, inwards = 6, 0.4, 0.2
    by_hand = _Decisions("l2", m)
    attack = boundary(l2, np.inf, m * 30, m, sideways=sideways, inwards=inwards)
    states = (carry[0] for carry in _iterates(attack))
    next(states)
    i = 0
    while not by_hand.begin(by_hand.noise(i)):
        next(states)
        i += 1
    _close(next(states).near, by_hand.near)
    i += 1
    for _ in range(by_hand.rounds()):
        by_hand.narrow()
        _close(next(states).near, by_hand.near)
        i += 1
    moved = 0
    for i, state in enumerate(states, i):  # noqa: B020
        away = by_hand.near - X
        r = np.linalg.norm(away)
        sphere, nearer = [], []
        for eta in by_hand.noise(i)[: m // 2]:
            eta = _unit(eta - (eta @ away) / r**2 * away)
            step = X + (away + sideways * r * eta) / math.sqrt(1 + sideways**2)
            sphere.append(np.clip(step, 0, 1))
            nearer.append(np.clip(X + (1 - inwards) * (step - X), 0, 1))
        kept = [_margin(image) > 0 for image in nearer]
        if any(kept):
            by_hand.near, moved = nearer[kept.index(True)], moved + 1
        sideways = min(sideways * math.exp(np.mean([_margin(image) > 0 for image in sphere]) - 0.5), 1.0)
        inwards = min(inwards * math.exp(np.mean(kept) - 0.25), 1.0)
        _close(state.near, by_hand.near)
        _close([state.sideways, state.inwards], [sideways, inwards])
    assert i == 29 and 3 <= moved < 20


def test_apgd_begins_with_a_step_of_the_diameter():
    """z = P(delta + 2 radius g / |g|); the first step goes all the way, the second with a = 3/4 and a quarter of the last."""
    radius, x = 0.2, jnp.full(6, 0.5)
    w = jnp.asarray([[3.0, 1.0, 0.5, -1.0, 2.0, 0.1], [-1.0, 2.0, 0.5, 1.0, 0.3, -2.0]])
    loss = lambda x, key: jnp.sum(jnp.sin(3 * w @ x))
    attack = apgd(l2(radius), 30)
    state = attack.init((loss, x, KEY))
    step = jax.jit(lambda state, i: attack.step((loss, x, KEY), state, i))
    project = lambda delta: delta * min(1.0, radius / np.linalg.norm(delta))
    deltas = []
    for i in range(3):
        state = step(state, jnp.asarray(i))
        deltas.append((np.asarray(state.at.delta, np.float64), np.asarray(state.at.gradient, np.float64)))
    (d0, g0), (d1, g1), (d2, _) = deltas
    assert np.linalg.norm(d0) == pytest.approx(radius, rel=1e-5)  # the start lies on the sphere
    _close(d1, project(d0 + 2 * radius * _unit(g0)))
    z = project(d1 + 2 * radius * _unit(g1))
    _close(d2, project(d1 + 0.75 * (z - d1) + 0.25 * (d1 - d0)))


# After these queries the window gets smaller; sides of 32 x 32 at p = 0.8: the nearest integer to sqrt(p_i) 32, by hand.
CHANGES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
SIDES = {
    "linf": (29, 20, 14, 10, 7, 5, 4, 3, 2, 1),
    "l2": (29, 21, 15, 11, 7, 5, 5, 3, 3, 3),  # odd, and 3 at least
}


@pytest.mark.parametrize("name", SIDES)
def test_sides_of_square_on_both_sides_of_every_change(name):
    x = jnp.full((32, 32, 1), 0.5)
    attack = {"linf": square_linf, "l2": square_l2}[name](0.1, 10_000)
    problem = (lambda x, key: jnp.sum(x) * 0.0, x, KEY)
    # A start that was never evaluated loses against any proposal, and holds no second window.
    one = lambda i: attack.step(problem, start(x), i).x != x
    at = [1, *[i for change in CHANGES for i in (change, change + 1)], 9999]
    changed = np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(at)))[..., 0]
    rows, columns = np.any(changed, axis=2).sum(axis=1), np.any(changed, axis=1).sum(axis=1)
    expected = [side for side in SIDES[name] for _ in (0, 1)]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(columns, expected)
    assert np.all(changed.sum(axis=(1, 2)) == rows * columns)


def test_apgd_l1():
    """Steps of eta along the sign on a share kappa of the pixels; both anew by how many pixels the highest point changes."""
    radius, n, d = 0.5, 75, 20
    rng = np.random.default_rng(4)
    x, w = jnp.asarray(rng.uniform(0.3, 0.7, d), jnp.float32), rng.normal(size=(3, d))
    loss = lambda x, key: jnp.sum(jnp.sin(4 * jnp.asarray(w, x.dtype) @ x))
    value, gradient = jax.jit(lambda x: loss(x, None)), jax.jit(jax.grad(lambda x: loss(x, None)))
    project = jax.jit(lambda delta: l1(radius).project(delta, x))
    attack = apgd_l1(radius, n, large_radius=False)
    state = attack.init((loss, x, KEY))
    step = jax.jit(lambda state, i: attack.step((loss, x, KEY), state, i))
    at = lambda delta: (float(value(x + delta)), delta)
    state = step(state, jnp.asarray(0))
    height, delta = highest = at(state.at.delta)
    kappa, eta, before, rules = 0.2, radius, d, set()
    for i in range(1, n + 1):
        g = np.asarray(gradient(x + delta))
        k = d - math.floor((1 - kappa) * d + 1e-6)
        s = np.where(np.abs(g) >= np.sort(np.abs(g))[-max(k, 1)], np.sign(g), 0)
        delta = project(jnp.asarray(delta + eta * s / np.sum(np.abs(s)), jnp.float32))
        height, _ = at(delta)
        highest = max(highest, (height, delta), key=lambda point: point[0])
        state = step(state, jnp.asarray(i))
        if i % 3 == 0:  # .04 of the steps
            changed = int(np.sum(np.asarray(x + highest[1] != x)))
            sparser = changed < 0.95 * before
            rules.add((sparser, highest[1] is delta))
            kappa, before = changed / (1.5 * d), changed
            eta, delta = (radius, highest[1]) if sparser else (max(eta / 1.5, radius / 10), delta)
        _close(state.at.delta, delta)
        _close([state.length, state.memory.share, state.memory.changed], [eta, kappa, before])
    assert {(True, False), (False, False), (False, True)} <= rules and eta == radius / 10
