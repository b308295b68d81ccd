"""How cells are judged: a victory counts whoever saw it, both images meet the same draws, shares are averaged, NaN is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import luck
from study.linear_stage import climb
from study.tiny import cell_of, linear, means, place_of, rows_of, setting_of, victim_of

from jaxdiff import attacks
from jaxdiff.attacks import deepfool, l2, lost, margin, pgd, untargeted
from jaxdiff.attacks.stepwise import Stepwise, improve, start
from jaxdiff.data import dataset
from jaxdiff.defenses import protocols
from jaxdiff.evaluate import Ledger, outcome, proportion, run_cell, summarise, worst_case
from jaxdiff.evaluate.summary import robust
from jaxdiff.study import Later, part, tasks
from jaxdiff.study.table.check import checked
from jaxdiff.study.table.run import Evaluation

IDENTITY = lambda classifier, x, y, key: x


@pytest.fixture(scope="module")
def digits():
    return dataset.digits("test")


@pytest.fixture(scope="module")
def weights():
    return means(dataset.digits("train"))


def waves(key, n):
    """n uncorrelated numbers in [-1, 1]."""
    return jnp.cos(2 * jnp.pi * luck(key) * jnp.arange(1.0, n + 1.0))


def noisy(p):
    return lambda x, key: linear(p)(x, key) + 6.0 * waves(key, 10)


def disagreeing(p):
    """What the judge sees is a little off, as rounding makes it, only more so: it is known by the clean image's company."""
    return lambda x, key: linear(p)(x, key) + 0.5 * jnp.cos(3.0 * jnp.arange(10.0))


def test_a_row_is_lost_where_the_attack_or_the_judge_says_so(tmp_path):
    """`won` and `wrong` are the attack's word, each combination of them with a judge who sees nothing amiss."""
    won, wrong = np.array([0, 1, 0, 1], bool), np.array([0, 0, 1, 1], bool)

    def fetch(ids):
        return {
            "image": np.zeros((len(ids), 1, 1, 1), np.float32),
            "label": np.zeros(len(ids), int),
            "id": ids,
        }

    def attack(batch):
        right = jnp.array([1.0, 0.0])
        found = jax.vmap(lambda x: outcome(x, x, right, right, x.sum(), x.sum()))(batch["image"])
        return found | {"won": won, "wrong": wrong, "share": np.full(4, 0.5)}

    ledger = Ledger.open(tmp_path / "cell.jsonl", "f")
    run_cell(ledger, range(4), fetch, attack, 4)
    rows = ledger.select(range(4))
    assert [row["correct_after"] for row in rows] == [True, False, True, False]
    assert [row["correct_before"] for row in rows] == [True, True, False, False]
    assert [row["share"] for row in rows] == [0.5, 0.0, 0.0, 0.0]
    assert [row["won"] for row in rows] == won.tolist() and "wrong" not in rows[0]


def test_a_victory_counts_though_the_judge_rounds_differently(digits, weights, tmp_path):
    """DeepFool goes hardly past the boundary; what it has won, and what was wrong for it, does not stand."""
    seen_by_the_attack = lambda classifier, defense: linear(weights)
    cell = cell_of(deepfool(l2(2.0), 20, overshoot=1e-3, classes=10), 2.0, view=seen_by_the_attack)
    rows = rows_of(digits, tmp_path, victim_of(weights, disagreeing), cell, n=100)
    batch = digits.fetch(np.array([row["id"] for row in rows]))
    seen = jax.vmap(lambda x: linear(weights)(x, None))(batch["image"]).argmax(1) != batch["label"]
    assert any(row["won"] and row["after"] == row["label"] for row in rows)  # the judge does disagree
    assert not any(row["won"] and row["correct_after"] for row in rows)
    assert any(w and row["before"] == row["label"] for w, row in zip(seen, rows, strict=True))
    assert not any(w and row["correct_before"] for w, row in zip(seen, rows, strict=True))


def test_the_victims_of_a_table_are_attacked_and_judged_apart(digits, weights, tmp_path):
    """One cell on two victims, one of which counts backwards: the rows of each are those that it has alone."""
    cell = cell_of(untargeted(pgd(l2(0.5), 0.2, 3), margin()), 0.5)
    victims = {"forwards": linear, "backwards": lambda p: lambda x, key: linear(p)(x, key)[::-1]}
    places = [place_of(digits, victim_of(weights, f), cell, name) for name, f in victims.items()]
    together = Evaluation(places, setting_of(digits, tmp_path / "together"))
    told = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    found = {}
    for place in places:
        alone = Evaluation([place], setting_of(digits, tmp_path / "alone")).run(place)[0]
        found[place.name] = told(together.run(place)[0])
        assert found[place.name] == told(alone)
    forwards, backwards = (np.array([row["before"] for row in rows]) for rows in found.values())
    np.testing.assert_array_equal(backwards, 9 - forwards)
    assert [row["norm"] for row in found["forwards"]] != [row["norm"] for row in found["backwards"]]


def test_a_cell_at_another_radius_is_attacked_and_judged_within_it(digits, weights, tmp_path):
    attack, threat = (Later(spec, {}, {}) for spec in (climb(steps=3, lr=1.0), part(attacks.l2, radius=0.5)))
    place = place_of(digits, victim_of(weights, linear), tasks.cell(attack, threat))
    made = Evaluation([place], setting_of(digits, tmp_path))
    for radius in (None, 0.0, 0.2, 5.0):
        rows = [row for row in made.run(place, radius)[0] if row["correct_before"]]
        bound = 0.5 if radius is None else radius
        assert all(row["norm"] <= bound * (1 + 1e-5) for row in rows)
        assert radius == 0.0 or any(row["norm"] > 0.0 for row in rows)
    assert len(list(tmp_path.glob("linear--cell-*"))) == 4


def test_a_victim_of_other_classes_than_the_data_is_refused(digits, weights):
    place = place_of(digits, victim_of(weights, linear), cell_of())
    assert checked([place], digits.image_shape, 10)[0].attacks == ()
    with pytest.raises(ValueError, match="has 10 classes; the data has 9"):
        checked([place], digits.image_shape, 9)


def test_a_victory_beyond_the_radius_is_none(digits, weights, tmp_path):
    """An attack without a radius that has won wherever it went: to 0.9 x, which for some images is too far."""
    gone = lambda problem, best, i: improve(best, 0.9 * problem[1], jnp.asarray(True), jnp.asarray(0.0))
    attack = Stepwise(1, lambda problem: start(problem[1]), gone, lambda best: best)
    found = rows_of(digits, tmp_path, victim_of(weights, linear), cell_of(attack, 0.35))
    rows = [row for row in found if row["correct_before"]]
    assert {row["won"] for row in rows} == {True, False}
    for row in rows:
        assert row["won"] is (row["found"] <= 0.35 * (1 + 1e-5))
        assert row["correct_after"] is not row["won"] and row["norm"] == (row["found"] if row["won"] else 0.0)


def test_without_an_attack_before_is_after_and_shares_are_sums_of_votes(digits, weights, tmp_path):
    """Of 2 draws as many are right as of at_least(1, 2) and at_least(2, 2) say yes: their mean is the average."""
    judges = {f"{k}-of-2": protocols.at_least(k, 2) for k in (1, 2)}
    judges |= {"average": protocols.average(2)}
    found = {}
    for name, judge in judges.items():
        rows = rows_of(digits, tmp_path / name, victim_of(weights, noisy), cell_of(judge=judge))
        assert all(row["correct_before"] is row["correct_after"] for row in rows)
        assert all(row["verdict_before"] == row["verdict"] for row in rows)
        found[name] = summarise(rows)
        assert found[name]["accuracy"] == pytest.approx(found[name]["accuracy_before"])
        assert found[name]["low"] < found[name]["accuracy"] < found[name]["high"]
    assert found["1-of-2"]["accuracy"] > found["2-of-2"]["accuracy"]
    for name in ("accuracy", "accuracy_before", "accuracy_after"):
        assert found["average"][name] == pytest.approx(np.mean([found[f"{k}-of-2"][name] for k in (1, 2)]))


@pytest.mark.parametrize(
    ("protocol", "share"),
    [
        (protocols.average(4), 0.25),
        (protocols.worst_of(4), 0),
        (protocols.at_least(2, 4), 1),
        (protocols.at_least(3, 4), 0),
    ],
)
def test_what_stands_is_right_before_and_after(protocol, share):
    """Draws 0 and 1 are right before, 1, 2 and 3 after: of an average only draw 1 stands, a verdict is passed on each."""
    sides = jnp.array([[1, 1, 0, 0], [0, 1, 0, 1]], bool)
    judgements = [
        protocols.Judgement(protocol.verdict(z, c, jnp.asarray(0)), z, c, c[0], c[0])
        for c, z in zip(sides, jax.nn.one_hot(1 - sides.astype(int), 2), strict=True)
    ]
    assert protocols.standing(protocol, *judgements, jnp.asarray(0)) == share


@pytest.mark.parametrize("name", ["average", "worst_of", "majority"])
def test_what_was_lost_before_does_not_stand_though_it_is_right_after(digits, weights, tmp_path, name):
    """An attack that hands the victim the mean of the class, marked as certain: what stands is what stood before."""
    help_out = lambda classifier, x, y, key: weights["w"][y].reshape(x.shape).at[0, 0, 0].set(1.0)

    def sometimes_certain(p):
        return lambda x, key: linear(p)(x, key) + 20.0 * waves(key, 10) * (x[0, 0, 0] < 0.9)

    cell = cell_of(help_out, judge=getattr(protocols, name)(3))
    rows = rows_of(digits, tmp_path, victim_of(weights, sometimes_certain), cell, n=60)
    befores = {row["verdict_before"] for row in rows}
    assert 0.0 in befores and 1.0 in befores and (name != "average" or len(befores) > 2)
    assert {row["verdict"] for row in rows if row["verdict_before"]} == {1.0}
    for row in rows:
        assert row["share"] == row["verdict_before"] and robust(row) is (row["verdict_before"] > 0)


@pytest.mark.parametrize("n", [3, 41, 47, 83])
def test_all_draws_right_are_a_share_of_exactly_1(n):
    """Division by a constant is compiled to a product with its reciprocal: 41 / 41 would not be 1."""
    verdict = jax.jit(lambda z, c: protocols.average(n).verdict(z, c, jnp.asarray(0)))
    assert verdict(jnp.zeros((n, 2)), jnp.ones(n, bool)) == 1.0


def row(i, share, **more):
    right = share == 1.0
    return {
        "id": i, "correct_before": right, "correct_after": right, "verdict_before": 1.0, "verdict": share, "share": share,
        "finite": True, "norm": 0.1, "linf": 0.1, "seconds": 1.0,
    } | more  # fmt: skip


def test_shares_are_averaged_and_the_lowest_counts():
    a = [row(0, 0.5), row(1, 1.0), row(2, 0.25)]
    b = [row(0, 0.75), row(1, 0.5), row(2, 0.0)]
    assert summarise(a)["accuracy"] == pytest.approx(1.75 / 3)
    assert worst_case([a, b])["accuracy"] == worst_case([b, a])["accuracy"] == pytest.approx(1.0 / 3)
    assert [robust(r) for r in b] == [True, True, False]


def test_the_interval_of_shares_lies_between_those_of_whole_numbers():
    below, shares, above = (proportion(v) for v in ([1, 1, 0, 0], [1, 0.5, 0.75, 0.25], [1, 1, 1, 0]))
    assert below.accuracy < shares.accuracy == 0.625 < above.accuracy
    assert below.low < shares.low < above.low and below.high < shares.high < above.high
    with pytest.raises(ValueError, match="got nan"):
        proportion([0.5, np.nan])


def noise_before(p):
    return lambda x, key: x + waves(key, x.size).reshape(x.shape)


def test_survivors_on_a_random_victim_are_decided_by_votes(digits, weights, tmp_path):
    """Without a judge an ensemble is judged by a majority of 5 draws, here after two attacks that change nothing."""
    victim, both = victim_of(weights, linear, noise_before), {"a": IDENTITY, "b": IDENTITY}
    rows = rows_of(digits, tmp_path / "votes", victim, cell_of(both, 0.5))
    explicit = rows_of(digits, tmp_path / "said", victim, cell_of(both, 0.5, judge=protocols.majority(5)))
    assert all(row["correct_before"] is row["correct_after"] for row in rows)
    assert {row["verdict"] for row in rows} == {0.0, 1.0}
    numbers = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert numbers(rows) == numbers(explicit)
    assert "verdict" not in rows_of(digits, tmp_path / "one", victim, cell_of(IDENTITY, 0.5))[0]
    sure = victim_of(weights, linear)
    assert "verdict" not in rows_of(digits, tmp_path / "sure", sure, cell_of(both, 0.5))[0]


def test_the_next_attack_of_an_ensemble_meets_what_the_votes_have_left(digits, weights, tmp_path):
    """The first makes all that it can lost for good; the second, which would undo that, gets the others alone."""
    black = lambda classifier, x, y, key: jnp.where(y % 2 == 0, 0.0 * x, x)
    back = lambda classifier, x, y, key: x.at[0, 0, 0].set(1.0)
    sums = lambda p: (
        lambda x, key: jnp.where(jnp.sum(x) > 0.0, linear(p)(x, key), -jnp.arange(10.0) % 10 - 100.0)
    )
    victim = victim_of(weights, sums, lambda p: lambda x, key: x)
    rows = rows_of(digits, tmp_path, victim, cell_of({"black": black, "back": back}), n=40)
    standing = [row for row in rows if row["verdict_before"] == 1.0]
    assert {row["label"] % 2 for row in standing} == {0, 1}
    for row in standing:
        if row["label"] and row["label"] % 2 == 0:
            assert row["attack"] == 0 and row["verdict"] == 0.0 and row["linf"] < 1.5
        elif row["label"]:
            assert row["attack"] != 0


def test_a_random_victim_is_drawn_once_more(digits, weights, tmp_path):
    """One draw is the same before and after; `final` is another one, as often right."""
    rows = rows_of(digits, tmp_path, victim_of(weights, linear, noise_before), cell_of(), n=100)
    assert all(row["before"] == row["after"] for row in rows)
    pairs = {(row["final"], row["correct_after"]) for row in rows}
    assert len(pairs) == 4
    shares = [np.mean([row[name] for row in rows]) for name in ("final", "correct_after")]
    assert shares[0] == pytest.approx(shares[1], abs=0.2)


def test_a_draw_that_is_not_finite_is_reported(digits, weights, tmp_path):
    """One draw of three is enough for at_least(1, 3), but a victim that breaks in another is not robust, and is counted."""

    def breaking(p):
        return lambda x, key: jnp.where(luck(key) < 0.1, jnp.nan, linear(p)(x, key))

    cell = cell_of(judge=protocols.at_least(1, 3))
    rows = rows_of(digits, tmp_path, victim_of(weights, breaking), cell, n=60)
    broken = [row for row in rows if not row["finite"]]
    assert 0 < summarise(rows)["nonfinite"] == len(broken) < len(rows)
    assert any(row["verdict"] == 1.0 for row in broken) and not any(robust(row) for row in broken)
    # Nothing else is random: 4 draws, the same before and after, are all finite with probability 0.9^4.
    assert 1 - len(broken) / len(rows) == pytest.approx(0.9**4, abs=0.2)
    assert all(robust(row) is (row["verdict"] == 1.0) for row in rows if row["finite"])


def test_a_broken_image_without_a_radius_reaches_the_judge(digits, weights, tmp_path):
    gone = lambda problem, best, i: best._replace(x=problem[1] * jnp.nan)
    broken = Stepwise(1, lambda problem: start(problem[1]), gone, lambda best: best)
    rows = rows_of(digits, tmp_path, victim_of(weights, linear), cell_of(broken, 0.1), n=8)
    assert not any(row["finite"] or row["correct_after"] or robust(row) for row in rows)


def test_the_judge_draws_what_the_attacker_saw(digits, weights, tmp_path):
    """An attack that only writes down whether the classifier it was shown was right says what the verdict will be."""

    def note(classifier, x, y, key):
        return x.at[0, 0, 0].set(jnp.where(lost(classifier(x, jax.random.fold_in(key, 7)), y), 0.0, 1.0))

    unseen = {"w": weights["w"].at[:, 0].set(0.0), "b": weights["b"]}
    cell = cell_of(note, judge=protocols.known_randomness(protocols.one_shot()))
    rows = rows_of(digits, tmp_path, victim_of(unseen, noisy), cell)
    assert {row["verdict"] for row in rows} == {0.0, 1.0}
    assert all((row["linf"] > 0.5) == (row["verdict"] == 1.0) for row in rows)


def scrambled(p):
    """A classifier whose gradient points anywhere, for who does not know the draw."""

    def classifier(x, key):
        signs = jnp.sign(waves(key, 10 * x.size)).reshape(10, x.size)
        return linear(p)(x, key) + signs @ (x.ravel() - 0.5)

    return classifier


def test_who_knows_the_draws_does_better(digits, weights, tmp_path):
    """One step of the gradient sign; its direction helps only against the draws it was computed for."""

    def step(classifier, x, y, key):
        gap = lambda x: jax.nn.log_softmax(classifier(x, key))[y]
        return jnp.clip(x - 0.1 * jnp.sign(jax.grad(gap)(x)), 0.0, 1.0)

    verdicts = {}
    for known in (True, False):
        judge = protocols.known_randomness(protocols.one_shot()) if known else protocols.one_shot()
        rows = rows_of(
            digits, tmp_path / str(known), victim_of(weights, scrambled), cell_of(step, judge=judge)
        )
        verdicts[known] = np.array([row["verdict"] for row in rows])
    assert np.mean(verdicts[True]) < np.mean(verdicts[False])


def test_an_evaluation_of_known_draws_is_as_many_queries(key):
    def look(problem, best, i):
        return improve(best, problem[1], jnp.asarray(False), problem[0](problem[1], key)[0])

    attack = Stepwise(2, lambda problem: start(problem[1]), look, lambda best: best)
    problem = (lambda x, key: x[:2] + jax.random.uniform(key), jnp.ones(3), jnp.asarray(0), key)
    for protocol, queries in (
        (protocols.worst_of(3), 2),
        (protocols.known_randomness(protocols.worst_of(3)), 6),
    ):
        assert protocols.known_to(protocol, attack).run(*problem).queries == queries


def test_each_attack_of_an_ensemble_draws_its_own_numbers_from_a_judge_too(digits, weights, tmp_path):
    """The same attack, alone and after another that does nothing, moves images otherwise."""
    draw = lambda classifier, x, y, key: x.at[0, 0, 0].set(jax.random.uniform(key))
    norms = []
    for name, tried in (("alone", {"a": draw}), ("second", {"none": IDENTITY, "a": draw})):
        cell = cell_of(tried, judge=protocols.average(2))
        norms.append(
            [row["norm"] for row in rows_of(digits, tmp_path / name, victim_of(weights, linear), cell)]
        )
    assert np.all(np.abs(np.subtract(*norms)) > 1e-6)


def test_an_attack_on_a_random_victim_goes_on_after_a_victory(digits, weights, tmp_path):
    """One lucky draw proves nothing; of a victim that is not random it is enough."""
    lucky = lambda problem, best, i: improve(best, problem[1], jnp.asarray(True), jnp.asarray(0.0))
    cell = cell_of(Stepwise(5, lambda problem: start(problem[1]), lucky, lambda best: best))
    for random, queries in ((True, {6}), (False, {1, 2})):  # the clean image is one of them
        rows = rows_of(digits, tmp_path / str(random), victim_of(weights, linear, random=random), cell)
        assert {row["queries"] for row in rows} == queries
