"""Bad input of `jaxdiff.defenses`: what is called, and words that the refusal holds."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.attacks import cross_entropy, kl, linf, pgd, untargeted
from jaxdiff.defenses import attackers_view, gradient_report, masking_battery, protocols, training

X = np.linspace(0.0, 1.0, 24, dtype=np.float32).reshape(2, 2, 2, 3)
Y = np.array([0, 1])
KEY, KEYS = jax.random.key(0), jax.random.split(jax.random.key(0), 2)
WEIGHTS = np.linspace(-1.0, 1.0, 36, dtype=np.float32).reshape(3, 12)
ATTACK = untargeted(pgd(linf(0.1), 0.05, 2), cross_entropy())
VOTE = protocols.majority(3)
INF, NAN = float("inf"), float("nan")


def clear(x, key):
    """A classifier of three classes."""
    return WEIGHTS @ x.ravel()


def batched(x, train):
    """The same for training."""
    return x.reshape(len(x), -1) @ WEIGHTS.T, {}


def shrink(x, key):
    """A defense."""
    return 0.5 * x


def judge(protocol=VOTE, classifier=clear, x=X[0], y=0, key=KEY):
    """`protocols.judge` of good input."""
    return protocols.judge(protocol, classifier, x, y, key)


def battery(classifier=clear, x=X, y=Y, key=KEY, radius=0.1, **more):
    """`masking_battery` of good input."""
    return masking_battery(
        classifier, x, y, key, radius, **{"steps": (1, 2), "restarts": 2, "draws": 2} | more
    )


def report(classifier=clear, defense=shrink, x=X, y=Y, key=KEY, **more):
    """`gradient_report` of good input."""
    return gradient_report(classifier, defense, x, y, key, **more)


LOSSES = {
    "standard": training.standard(),
    "madry": training.madry(ATTACK),
    "mixed": training.mixed(ATTACK),
    "trades": training.trades(untargeted(pgd(linf(0.1), 0.05, 2), kl())),
}


def loss(name, predict=batched, x=X, y=Y, keys=KEYS):
    """A training loss of good input."""
    return LOSSES[name](predict, x, y, keys)


# What every entry says of these; "one" for entries of one image, "many" for batches.
CLASSIFIERS = {
    "no classifier": (None, "function", "None"),
    "logits in place of a classifier": (np.ones(3, np.float32), "function", "array"),
    "a batched classifier": (lambda x, key: clear(x, key)[None], "model(x[None])[0]"),
    "an argmax": (lambda x, key: jnp.argmax(clear(x, key)), "not the class"),
    "a classifier without a key": (lambda x: clear(x, None), "classifier(image, key)"),
    "integer logits": (lambda x, key: jnp.arange(3), "int32"),
}
PIXELS = {
    "bytes": (np.uint8(255 * X), "uint8", "255"),
    "pixels to 255": (255 * X, "[0, 1]", "max 255", "divide by 255"),
    "integers": (np.ones_like(X, dtype=np.int32), "int32", "astype"),
    "an image of words": (["a", "b"], "arrays of numbers"),
    "no image": (None, "None"),
    "NaN": (np.full_like(X, NAN), "finite"),
    "infinity": (np.full_like(X, INF), "finite"),
}
SIGNED = {"signed images": (2.2 * X - 1.1, "min -1.1", "(images + 1) / 2")}
LABELS = {
    "a label that is no class": (Y + 2, "between 0 and 2", "got 3"),
    "a negative label": (Y - 1, "got -1"),
    "float labels": (Y.astype(np.float32), "integers", "float32"),
    "a label of words": (["0", "1"], "arrays of numbers"),
}
BATCH_LABELS = LABELS | {
    "labels from 1": (np.array([1, 3]), "y - 1"),
    "one-hot labels": (np.eye(3, dtype=int)[Y], "(2, 3)", "argmax(axis=1)"),
    "a column of labels": (Y[:, None], "(2, 1)", "y[:, 0]"),
    "too few labels": (Y[:1], "(2,)", "(1,)"),
    "unequal rows of labels": ([[0], [0, 1]], "arrays of numbers"),
}
NO_KEYS = {
    "a seed": (3, "jax.random", "3"),
    "a legacy key": (jax.random.PRNGKey(0), "jax.random", "uint32"),
    "no key": (None, "jax.random", "None"),
}


def rows(entry, **table):
    """{name: (a call of the entry with one bad argument, words, ...)} from tables of bad values of its arguments."""
    return {
        f"{name} for {entry.__name__}": (lambda a=argument, v=value: entry(**{a: v}), entry.__name__, *words)
        for argument, bad in table.items()
        for name, (value, *words) in bad.items()
    }


def named(name, call):
    """The call under the name that its errors begin with."""
    call.__name__ = name
    return call


def one(table):
    """The same of one image: the first of the batch."""
    return {
        name: (v if v is None or isinstance(v, list) else v[0], *words) for name, (v, *words) in table.items()
    }


PROTOCOL = {
    "no protocol": (None, "Protocol", "majority(5)"),
    "the name of a protocol": ("majority", "Protocol", "'majority'"),
    "a protocol that is not made": (protocols.one_shot, "Protocol", "majority(5)"),
}
NO_FUNCTION = {"no function": ("pgd", "function", "'pgd'"), "None": (None, "function", "None")}
NO_COUNT = {
    f"{value!r}": (value, "n as a whole number >= 1", repr(value))
    for value in (0, -2, 2.0, "3", True, None, INF)
}

JUDGE = rows(
    named("judge", judge),
    protocol=PROTOCOL,
    classifier=CLASSIFIERS,
    x=one(PIXELS | {"pixels to 255": (255 * X[::-1], "[0, 1]", "max 255", "divide by 255")})
    | one(SIGNED)
    | {"no pixels": (X[0, :0], "pixels")},
    y=one({"a label that is no class": (Y + 3, "between 0 and 2", "got 3")})
    | one({"a negative label": LABELS["a negative label"], "float labels": LABELS["float labels"]})
    | {"labels of a batch": (Y, "scalar", "(2,)"), "a one-hot label": (np.array([1, 0, 0]), "argmax()")},
    key=NO_KEYS | {"keys of a batch": (KEYS, "one random key")},
)
PROTOCOLS = {
    f"{make.__name__} of {name}": (lambda make=make, v=value: make(v), make.__name__, *words)
    for make in (protocols.average, protocols.worst_of, protocols.majority)
    for name, (value, *words) in NO_COUNT.items()
} | {
    "3 of 2": (lambda: protocols.at_least(3, 2), "1 <= k <= n", "k = 3", "n = 2"),
    "0 of 2": (lambda: protocols.at_least(0, 2), "at_least", "k", ">= 1", "0"),
    "half a vote": (lambda: protocols.at_least(0.5, 2), "at_least", "k", "whole", "0.5"),
    "votes of words": (lambda: protocols.at_least(1, "2"), "at_least", "n", "'2'"),
    "known randomness of a number": (
        lambda: protocols.known_randomness(3),
        "known_randomness",
        "majority(5)",
    ),
    "attacked without a protocol": (lambda: protocols.attacked(None, clear, KEY), "attacked", "Protocol"),
    "attacked without a classifier": (lambda: protocols.attacked(VOTE, 3, KEY), "attacked", "classifier"),
    "attacked with a seed": (lambda: protocols.attacked(VOTE, clear, 0), "attacked", "jax.random.key"),
    "known to nobody": (lambda: protocols.known_to(VOTE, None), "known_to", "attack", "None"),
    "an attack and its protocol exchanged": (
        lambda: protocols.known_to(ATTACK, VOTE),
        "known_to",
        "Protocol",
    ),
    "a final draw without a key": (
        lambda: protocols.final_draw(clear, X[0], 3),
        "final_draw",
        "jax.random.key",
    ),
    "standing of verdicts": (
        lambda: protocols.standing(VOTE, 1.0, 0.0, Y[0]),
        "standing",
        "judge(...)",
        "1.0",
    ),
    "standing of no protocol": (lambda: protocols.standing("vote", 1.0, 0.0, Y[0]), "standing", "Protocol"),
}

BATTERY = rows(
    named("masking_battery", battery),
    classifier=CLASSIFIERS | {"one class": (lambda x, key: clear(x, key)[:1], "two classes")},
    x=PIXELS
    | SIGNED
    | {"one flat image": (X.ravel(), "[B, ...]", "x[None]"), "none": (X[:0], "at least one image")},
    y=BATCH_LABELS,
    key=NO_KEYS,
    radius={
        f"a radius of {v!r}": (v, "radius", "(0, inf)", repr(v))
        for v in (0, -0.1, INF, NAN, "0.1", None, True)
    },
    white_box={"a white box that is an attack": (ATTACK, "white_box", "(radius, steps)")} | NO_FUNCTION,
    black_box={"a black box that makes none": (lambda radius: None, "black_box(radius)")} | NO_FUNCTION,
    steps={
        "a number of steps": (8, "growing numbers of steps", "8"),
        "one number of steps": ((8,), "growing numbers of steps", "(8,)"),
        "fewer and fewer steps": ((8, 1), "growing numbers of steps", "(8, 1)"),
        "the same steps": ((8, 8), "growing numbers of steps"),
        "no steps": ((0, 8), "steps[0]", ">= 1"),
        "steps of words": ("18", "growing numbers of steps"),
        "float steps": ((1.0, 8.0), "steps[0]", "whole"),
    },
    restarts={"one start": (1, "restarts", ">= 2"), "float starts": (2.5, "restarts", "whole")},
    draws={"one draw": (1, "draws", ">= 2"), "no draws": (None, "draws", "None")},
)

REPORT = rows(
    named("gradient_report", report),
    classifier=CLASSIFIERS,
    defense=NO_FUNCTION,
    x=PIXELS | SIGNED | {"none": (X[:0], "at least one image")},
    y=BATCH_LABELS,
    key=NO_KEYS,
    objective={"an objective by name": ("margin", "objective", "function")},
    modes={
        "a mode": ("bpda", "modes", "['bpda']"),
        "modes that are numbers": ([1], "modes", "list of names"),
    },
    directions={"no directions": (0, "directions", ">= 1"), "half directions": (0.5, "directions", "whole")},
)
TRAINING = {
    row: value
    for name in LOSSES
    for row, value in rows(
        named(name, lambda name=name, **bad: loss(name, **bad)),
        predict={
            "no network": (None, "predict", "function"),
            "classes in place of logits": (lambda x, train: (batched(x, train)[0].argmax(1), {}), "classes]", "int32"),
            "logits of one image": (lambda x, train: (batched(x, train)[0][0], {}), "predict", "[3]"),
            "logits alone": (lambda x, train: batched(x, train)[0], "predict", "model_state"),
            "integer logits": (lambda x, train: (batched(x, train)[0].astype(int), {}), "predict", "int32"),
        },
        x=PIXELS | {"flat": (X[0, 0, 0], "[B, ...]")} | ({} if name == "standard" else SIGNED),
        y=BATCH_LABELS,
        keys=NO_KEYS | {"one key": (KEY, "(2,)", "split"), "too few keys": (KEYS[:1], "(2,)", "split")},
    ).items()
} | {
    f"{make.__name__} with {name}": (lambda make=make, bad=bad: make(**{"attack": ATTACK} | bad), make.__name__, *words)
    for make, name, bad, *words in [
        (training.madry, "the name of an attack", {"attack": "pgd"}, "attack", "'pgd'"),
        (training.mixed, "no attack", {"attack": None}, "attack", "None"),
        (training.trades, "a threat", {"attack": 0.1}, "attack", "0.1"),
        *[
            (training.mixed, f"a share of {v!r}", {"clean_share": v}, "clean_share", "[0, 1]", repr(v))
            for v in (1.5, -0.1, NAN, "0.5", None, True)
        ],
        *[
            (training.trades, f"beta {v!r}", {"beta": v}, "beta", "[0, inf)", repr(v))
            for v in (-1.0, NAN, INF, "6", None)
        ],
    ]
} | {
    "an attack that returns a loss": (
        lambda: training.madry(lambda classifier, x, y, key: jnp.sum(x))(batched, X, Y, KEYS), "madry", "(2,)"),
    "an attack that returns what it knows": (
        lambda: training.trades(lambda classifier, x, y, key: (x, y))(batched, X, Y, KEYS), "trades", "tuple"),
}  # fmt: skip

VIEWS = {
    "a mode that is none": (lambda: report(modes=["bdpa"]), "Unknown gradient", "'bdpa'"),
    "a mode of a purifier": (lambda: report(modes=["adjoint"]), "Unknown gradient", "diffpure"),
    "an unknown view": (lambda: attackers_view(clear, shrink, "bdpa"), "'bdpa'", "exact", "bpda", "blind"),
    "a view of purifiers": (lambda: attackers_view(clear, shrink, "surrogate"), "surrogate_steps"),
}

ROWS = JUDGE | PROTOCOLS | BATTERY | REPORT | TRAINING | VIEWS
