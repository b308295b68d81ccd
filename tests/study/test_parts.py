"""The grammar of configs: parts say what they are, are checked where they are written, and build what they stand for."""

import sys
import types

import jax
import pytest
from ml_collections import ConfigDict

from jaxdiff import attacks, data, defenses, diffusion, models, train
from jaxdiff.attacks import autoattack, directions, patch, universal
from jaxdiff.data import augment, dataset
from jaxdiff.diffusion import grids, solvers
from jaxdiff.study import Bound, build, completed, part
from jaxdiff.study.names import function_of, name_of
from jaxdiff.study.parts import needs

PACKAGES = (
    *(attacks, autoattack, directions, patch, universal),
    *(augment, data, dataset, defenses, diffusion, grids, models, solvers, train),
)
PUBLIC = [
    getattr(package, name)
    for package in PACKAGES
    for name in package.__all__
    if isinstance(getattr(package, name), types.FunctionType | type)
]


def test_every_public_function_is_found_by_its_name():
    """And the name is what people write: attacks.pgd, not the file that it lives in."""
    assert len(PUBLIC) > 100
    for function in PUBLIC:
        assert function_of(name_of(function)) is function
    assert name_of(attacks.pgd) == "attacks.pgd" and name_of(models.UNet) == "models.UNet"
    assert name_of(grids.uniform) == "diffusion.grids.uniform"
    assert (
        name_of(directions.momentum) == "attacks.directions.momentum"
    )  # which lies in a room of the package
    assert name_of(universal.universal_pgd) == "attacks.universal.universal_pgd"
    assert name_of(patch.train_patch) == "attacks.patch.train_patch"


def test_a_part_holds_its_defaults_in_the_order_of_its_function():
    found = part(attacks.apgd, rho=0.5)
    assert found.to_dict() == {"name": "attacks.apgd", "rho": 0.5, "steps": 100}
    assert list(part(models.UNet, channels=8))[:2] == ["name", "channels"]
    nested = part(attacks.untargeted, objective=part(attacks.margin), ascent=part(attacks.apgd))
    assert list(nested) == ["name", "objective", "ascent"]  # as written, at every level
    assert list(nested.ascent) == ["name", "steps", "rho"]


def test_every_field_can_be_overridden():
    """One that is None takes the type of its annotation, and a number given as 1 may become 0.5."""
    net = part(models.UNet, channels=8)
    net.dtype, net.out_channels = "bfloat16", 3
    assert build(net).dtype == "bfloat16" and build(net).out_channels == 3
    with pytest.raises(TypeError):
        net.out_channels = "three"
    climb = part(attacks.pgd, lr=1, steps=3)
    climb.lr = 0.5
    assert climb.lr == 0.5
    with pytest.raises(TypeError):
        climb.steps = 0.5
    held_out = part(dataset.digits, validation=200)  # a number of images, or a share of them
    assert held_out.validation == 200 and type(held_out.to_dict()["validation"]) is int
    held_out.validation = 0.1
    assert len(build(held_out, split="validation")) == 144


def test_parts_are_built_first_and_context_reaches_those_that_take_it(monkeypatch):
    threat = attacks.linf(0.1)
    tree = part(
        attacks.untargeted,
        ascent=part(attacks.pgd, lr=0.1, steps=2, tx=part(directions.momentum, decay=0.5)),
        objective=part(attacks.cross_entropy),
    )
    attack = build(tree, threat=threat)
    x = attack(
        lambda x, key: x[:2, 0, 0], jax.numpy.full((2, 2, 1), 0.5), jax.numpy.asarray(0), jax.random.key(0)
    )
    assert float(abs(x - 0.5).max()) == pytest.approx(0.1)
    own = part(attacks.apgd, threat=part(attacks.linf, radius=0.3), steps=2)
    assert build({"a": own, "b": [own, 1]}, threat=threat)["b"][1] == 1
    seen = []
    probe = types.ModuleType("grammar_probe")
    monkeypatch.setitem(sys.modules, "grammar_probe", probe)
    probe.look = lambda threat=None, n=0: seen.append((threat, n))
    build({"name": "grammar_probe.look"}, threat=threat)
    build({"name": "grammar_probe.look", "threat": part(attacks.l2, radius=0.5), "n": 2}, threat=threat)
    assert seen[0] == (threat, 0) and seen[1][0].radius == 0.5 and seen[1][1] == 2


def test_products_of_stages():
    tree = {"a": ["@score", {"b": "@plain"}], "c": "@score", "d": "score"}
    assert needs(tree) == ("score", "plain")
    assert build(tree, {"score": 1, "plain": 2}) == {"a": (1, {"b": 2}), "c": 1, "d": "score"}
    with pytest.raises(ValueError, match="'@scor', did you mean 'score'"):
        build("@scor", {"score": 1})


def test_a_part_replaced_whole_is_completed():
    replaced = completed(ConfigDict({"solver": {"name": "diffusion.ddim", "eta": 1}}))
    assert replaced.solver.to_dict() == {"name": "diffusion.ddim", "eta": 1.0}
    assert completed(replaced).to_dict() == replaced.to_dict()


BAD = {
    "an argument misspelt": (lambda: part(attacks.pgd, step=2), "no argument 'step', did you mean 'steps'"),
    "a word for a count": (
        lambda: part(attacks.pgd, steps="2"),
        "attacks.pgd needs steps as a whole number; got '2'",
    ),
    "truth for a number": (lambda: part(attacks.linf, radius=True), "radius as a number"),
    "a function for a part": (
        lambda: part(attacks.untargeted, objective=attacks.cross_entropy),
        r"write part\(attacks.cross_entropy\)",
    ),
    "a function without a name": (lambda: part(lambda x: x), "Define it at the top of a module"),
    "no function": (lambda: part(3), "imported by its name; got 3"),
    "a name misspelt": (lambda: build({"name": "attacks.pdg"}), "attacks has no 'pdg', did you mean 'pgd'"),
    "a module that is none": (
        lambda: build({"name": "attacs.pgd"}),
        "no module 'attacs', did you mean 'attacks'.*PYTHONPATH",
    ),
    "a name without a module": (lambda: build({"name": "pgd"}), "where its function lives"),
    "a number for a name": (lambda: build({"name": 3}), "where its function lives"),
    "a missing argument": (lambda: build({"name": "attacks.pgd", "lr": 0.1}), "attacks.pgd needs 'threat'"),
    "an argument that a function of another kind has": (
        lambda: completed({"deep": [{"name": "attacks.linf", "radios": 1}]}),
        "'radios', did you mean 'radius'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_where_it_is_written(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make()


def test_parts_of_a_users_own_package(tmp_path, monkeypatch):
    """Found by their full name; what goes wrong inside is theirs, with a note of the part."""
    (tmp_path / "own_parts.py").write_text(
        "def purify(strength: float = 0.5, fail: bool = False):\n"
        "    if fail:\n        raise KeyError('mine')\n    return lambda x, key: strength * x\n"
    )
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_parts

    spec = part(own_parts.purify, strength=2)
    assert spec.to_dict() == {"name": "own_parts.purify", "strength": 2.0, "fail": False}
    assert build(spec)(3.0, None) == 6.0
    with pytest.raises(KeyError, match="mine") as error:
        build({"name": "own_parts.purify", "fail": True})
    assert error.value.__notes__ == ["in the part 'own_parts.purify'"]
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        build({"name": "own_broken.f"})


def test_bound_functions_take_their_weights_as_arguments():
    bound = Bound(lambda w: lambda x: w * x, jax.numpy.asarray(3.0))
    assert bound()(2.0) == 6.0 and jax.jit(lambda b, w: b(w)(2.0), static_argnums=0)(bound.make, 4.0) == 8.0
