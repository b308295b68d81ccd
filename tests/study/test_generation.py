"""Stages that draw and measure: classes, what is learned beside a network, students, quality, likelihood, restoring."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from study.trained import classifier, config, samples, score, training

from jaxdiff import diffusion, models
from jaxdiff.data import dataset
from jaxdiff.diffusion import (
    bound_losses,
    conditions,
    corruptions,
    grids,
    guidance,
    learned,
    noise_levels,
    students,
)
from jaxdiff.evaluate.quality import Moments, frechet_distance
from jaxdiff.keys import example_keys, purpose
from jaxdiff.study import part, planned, run, tasks
from jaxdiff.study.networks import LEARNED
from jaxdiff.train import Checkpoints


def unet(**more):
    return part(models.UNet, channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0, **more)


def numbers(folder, **wanted):
    """The values in results.json of such records."""
    records = json.loads((folder / "results.json").read_text())
    return {r["metric"]: r["value"] for r in records if all(r.get(k) == v for k, v in wanted.items())}


def told(**more):
    return score(model=unet(classes=10), condition=part(conditions.label, drop=0.1), **more)


GUIDED = part(guidance.of_class, score="@score", scale=2.0)


def test_samples_of_classes_are_those_of_their_denoisers(tmp_path):
    """Sample i is of class labels[i mod n]; drawn by hand from the product of the stage."""
    made = run(config(score=told(), samples=samples(denoise=GUIDED, labels=(3, 7))), tmp_path)
    found, network = made["samples"], made["score"]()
    assert found.labels == (3, 7, 3) and found.images.shape == (3, 8, 8, 1)
    key = example_keys(purpose(purpose(jax.random.key(0), "samples"), "samples"), jnp.arange(3))[1]
    noise_key, solve_key = jax.random.split(key)
    vp, ts = network.process, grids.uniform(3)
    x = diffusion.prior(vp, ts, (8, 8, 1), noise_key)
    denoise = guidance.classifier_free(network.given(y=7), network.given(y=-1), 2.0)
    x = diffusion.sample(diffusion.ddim(vp), denoise, x, ts, solve_key)
    np.testing.assert_allclose(found.images[1], np.clip(0.5 * (x + 1), 0, 1), atol=1e-4)
    assert numbers(tmp_path / "samples") == {"evaluations": 3}
    same = run(config(score=told(), samples=samples(denoise="@score")), tmp_path)["samples"]
    assert np.abs(same.images - found.images).max() > 1e-4 and same.labels == ()


LABELS = {
    "that are none": (
        {"denoise": GUIDED, "labels": (3, 10)},
        "label as a whole number between 0 and 9; got 10",
    ),
    "that no part takes": ({"denoise": "@score", "labels": (3,)}, "no part that takes a class"),
    "that are missing": ({"denoise": GUIDED}, "of_class needs 'y'"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_refused_before_anything_is_made(name):
    change, words = LABELS[name]
    with pytest.raises(ValueError, match=words):
        planned(config(score=told(), samples=samples(**change)))


def test_a_condition_of_a_network_without_classes_is_refused():
    with pytest.raises(ValueError, match="knows no classes"):
        planned(config(score=score(condition=part(conditions.label))))


@pytest.mark.slow
def test_what_training_carries_is_resumed_and_is_no_product(tmp_path):
    """Importance sampling: as many losses as steps x batch are remembered."""
    stage = score(
        model=unet(out_channels=2),
        loss=part(bound_losses.vlb, steps=8),
        time=part(noise_levels.importance, steps=8, history=2),
    )
    made = run(config(score=stage), tmp_path)
    assert list(made["score"].arrays) == ["params"]
    plan = planned(config(score=stage))
    with Checkpoints((tmp_path / "score").resolve() / "checkpoints", 2, {"model": "UNet"}) as checkpoints:
        assert checkpoints.latest == 4
    assert plan.plans["score"].shape.arrays.keys() == {"params"}
    share = made["score"]().share(jnp.zeros((8, 8, 1)), 0.5)
    assert share.shape == (8, 8, 1)
    with pytest.raises(ValueError, match="has learned no variances"):
        _ = run(config(score=score()), tmp_path / "other")["score"]().share


@pytest.mark.slow
def test_a_learned_process_is_trained_and_offered(tmp_path):
    stage = score(
        process=part(learned.scalar, gamma_min=-6.0, gamma_max=6.0),
        loss=part(learned.vdm),
        time=part(noise_levels.stratified),
    )
    made = run(config(score=stage, samples=samples(denoise="@score")), tmp_path)
    ends = made["score"].arrays["params"][LEARNED]["ends"]
    assert np.abs(ends - np.array([-6.0, 6.0])).min() > 1e-4
    np.testing.assert_allclose(made["score"]().process.logsnr(1.0), -ends[1], rtol=1e-5)
    assert np.isfinite(made["samples"].images).all()


@pytest.mark.slow
def test_a_student_begins_as_its_teacher(tmp_path):
    """With a step of no length its weights are the teacher's; and the loss it is told is that of the teacher's steps."""
    from jaxdiff.train import optimizer

    still = training(optimizer=part(optimizer.sgd, lr=1e-30), ema_decays=())
    student = score(
        loss=part(students.progressive, teacher="@score", steps=2),
        time=part(noise_levels.discrete, steps=2),
        start="@score",
        train=still,
    )
    made = run(config(score=score(), student=student), tmp_path)
    for a, b in zip(*(jax.tree.leaves(made[n].arrays) for n in ("score", "student")), strict=True):
        np.testing.assert_array_equal(a, b)
    other = score(model=unet(classes=3), start="@score")
    with pytest.raises(ValueError, match="starts from has other weights"):
        planned(config(score=score(), other=other))


def features():
    return part(models.features, classifier="@classifier")


def quality(**named):
    return part(tasks.quality, samples=named, features=features(), draws=4)


@pytest.mark.slow
def test_quality_is_that_of_the_features(tmp_path):
    """Of the reference itself nothing is missing; of others the numbers are those of their features, by hand."""
    made = run(
        config(
            validation=0,
            classifier=classifier(),
            train=part(tasks.real, split="train"),
            test=part(tasks.real, n=40),
            noise=part(tasks.noise, n=30),
            gaussian=part(tasks.pca_gaussian, n=30),
            quality=quality(train="@train", noise="@noise", gaussian="@gaussian", test="@test"),
            same=quality(train="@train"),
        ),
        tmp_path,
    )
    same = numbers(tmp_path / "same", source="train")
    assert abs(same["fid"]) < 1e-6 and same["precision"] == same["recall"] == same["coverage"] == 1.0
    see = jax.jit(jax.vmap(models.features(made["classifier"]())))
    real = Moments.of(see(made["train"].images)[0])
    for name in ("noise", "test"):
        found = numbers(tmp_path / "quality", source=name)
        mine = Moments.of(see(made[name].images[:30])[0])
        np.testing.assert_allclose(found["fid"], frechet_distance(mine, real), rtol=1e-3, atol=1e-6)
        assert found["broken"] == 0 and "accuracy" not in found
    text = (tmp_path / "quality" / "quality.md").read_text()
    assert "digits, train, 1437 images, SHA-256" in text and "| noise | 30 |" in text
    pixels = made["gaussian"].images.reshape(30, -1).mean(0)
    mean = made["train"].images.reshape(1437, -1).mean(0)
    assert np.corrcoef(pixels, mean)[0, 1] > 0.95


def test_broken_samples_are_left_out_and_counted():
    from jaxdiff.study.tasks.quality import Seen, measured

    rng = np.random.default_rng(0)
    known, found = (Seen(rng.normal(size=(n, 3)), rng.normal(size=(n, 4))) for n in (50, 20))
    records = {r["metric"]: r for r in measured(known, found, found.logits.argmax(1), 10, 5, 4, 40)}
    assert (
        records["accuracy"]["value"] == 1.0 and records["accuracy"]["n"] == 20 and records["fid"]["n"] == 10
    )
    assert records["fid"]["low"] <= records["fid"]["value"] <= records["fid"]["high"]


def test_features_that_are_none_are_refused():
    stage = part(tasks.quality, samples={"noise": "@noise"}, features="@classifier")
    with pytest.raises((ValueError, TypeError), match="features"):
        planned(config(classifier=classifier(), noise=part(tasks.noise, n=5), quality=stage))


@pytest.mark.slow
def test_the_likelihood_is_the_bound_of_the_denoiser(tmp_path):
    """In bits per dimension, term by term, of 17 levels; and there is a picture of the loss."""
    stage = part(
        tasks.likelihood, denoise="@score", bound=part(diffusion.variational_bound, steps=6), n=3, times=4
    )
    made = run(config(score=score(), likelihood=stage), tmp_path)
    network, images = made["score"](), dataset.digits("test").fetch(np.arange(3))["image"]
    keys = example_keys(purpose(purpose(jax.random.key(0), "likelihood"), "likelihood"), jnp.arange(3))
    bound = diffusion.variational_bound(network.process, 6, levels=17)
    each = [
        bound(network, 2 * jnp.asarray(x) - 1, purpose(k, "bound")) for x, k in zip(images, keys, strict=True)
    ]
    bits = lambda values: np.mean([float(v) for v in values]) / (64 * np.log(2))
    found = {
        name: numbers(tmp_path / "likelihood", source=name)["bits_per_dim"]
        for name in ("bound", "bound_prior", "bound_decoder")
    }
    np.testing.assert_allclose(found["bound"], bits(b.total for b in each), rtol=1e-4)
    np.testing.assert_allclose(found["bound_prior"], bits(b.prior for b in each), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found["bound_decoder"], bits(b.decoder for b in each), rtol=1e-4)
    rows = (tmp_path / "likelihood" / "loss.csv").read_text().splitlines()
    assert len(rows) == 5 and (tmp_path / "likelihood" / "loss.png").exists()
    with pytest.raises(ValueError, match="needs bound=part"):
        planned(config(score=score(), likelihood=part(tasks.likelihood, denoise="@score")))


@pytest.mark.slow
def test_the_likelihood_by_the_flow(tmp_path):
    flow = part(diffusion.flow_likelihood, t_min=1e-3, rtol=1e-3, atol=1e-3)
    stage = part(tasks.likelihood, denoise="@score", flow=flow, n=2, repeats=2)
    run(config(score=score(), likelihood=stage), tmp_path)
    assert np.isfinite(numbers(tmp_path / "likelihood", source="flow")["bits_per_dim"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["inpainted", "repainted"])
def test_known_pixels_are_restored_untouched(tmp_path, way):
    known = part(guidance.inpainted, denoise="@score") if way == "inpainted" else "@score"
    solver = (
        part(diffusion.ddim)
        if way == "inpainted"
        else part(guidance.repaint, solver=part(diffusion.ddpm), repeats=2)
    )
    stage = part(
        tasks.restored, denoise=known, solver=solver, ts=part(grids.uniform, steps=3), corruption=part(corruptions.hidden),
        n=2, draws=2,
    )  # fmt: skip
    found = run(config(score=score(), restored=stage), tmp_path)["restored"].images
    truth = dataset.digits("test").fetch(np.arange(2))["image"][[0, 0, 1, 1]]
    box = np.zeros((8, 8), bool)
    box[2:6, 2:6] = True
    np.testing.assert_allclose(found[:, ~box], truth[:, ~box], atol=1e-5)
    assert (
        np.abs(found[:, box] - truth[:, box]).max() > 0.05 and np.abs(found[0] - found[1])[box].max() > 1e-3
    )
    told = numbers(tmp_path / "restored")
    assert told["consistency"] < 1e-5
    np.testing.assert_allclose(
        told["psnr"],
        np.mean([-10 * np.log10(np.mean((a - b) ** 2)) for a, b in zip(found, truth, strict=True)]),
        rtol=1e-4,
    )


@pytest.mark.slow
def test_a_measurement_reaches_its_guidance(tmp_path):
    """Restoring by the measurement is nearer to it than without."""
    variance = part(guidance.posterior_noise, noise=1e-3, gain=0.25)
    network = score(process=part(diffusion.Cosine, alpha_min=0.04), kind="v")

    def consistency(name, denoise):
        stage = part(
            tasks.restored, denoise=denoise, solver=part(diffusion.ddim), ts=part(grids.uniform, steps=20),
            corruption=part(corruptions.smaller), n=2, draws=1,
        )  # fmt: skip
        run(config(score=network, **{name: stage}), tmp_path)
        return numbers(tmp_path / name)["consistency"]

    guided = consistency("guided", part(guidance.measurement, denoise="@score", variance=variance))
    assert guided < 0.7 * consistency("free", "@score")


@pytest.mark.slow
def test_samples_are_seen_while_a_network_trains(tmp_path):
    """The picture at the end is of the product; the digest does not know of it."""
    watch = part(
        tasks.preview, solver=part(diffusion.ddim), ts=part(grids.uniform, steps=2), every=2, n=6, labels=(3, 7),
        denoise=part(guidance.of_class, scale=2.0), features=features(),
    )  # fmt: skip
    stages = {"classifier": classifier(), "score": told(watch=watch)}
    made = run(config(**stages), tmp_path)
    folder = (tmp_path / "score").resolve()
    assert sorted(p.name for p in (folder / "preview").iterdir()) == ["0000002.png", "0000004.png"]
    lines = [json.loads(line) for line in (folder / "preview.jsonl").read_text().splitlines()]
    assert (
        [line["step"] for line in lines] == [2, 4] and lines[0]["fid"] > 0 and 0 <= lines[1]["accuracy"] <= 1
    )
    plain = planned(config(score=told())).stages["score"]
    assert plain.folder == folder.name and made["score"]().process == diffusion.VP()
    with pytest.raises(ValueError, match="of_class needs 'y'"):
        planned(config(score=told(watch=part(tasks.preview, solver=part(diffusion.ddim), ts=part(grids.uniform, steps=2),
                                             every=2, denoise=part(guidance.of_class)))))  # fmt: skip


@pytest.mark.slow
def test_what_is_measured_and_drawn_is_not_made_again(tmp_path, monkeypatch):
    """Neither samples, their quality nor restorations; and nobody is asked how often the denoiser is."""
    restored = part(
        tasks.restored, denoise="@score", solver=part(diffusion.ddim), ts=part(grids.uniform, steps=3),
        corruption=part(corruptions.hidden), n=2, draws=1,
    )  # fmt: skip
    stages = {
        "score": score(),
        "classifier": classifier(),
        "samples": samples(denoise="@score"),
        "restored": restored,
    }
    stages["quality"] = quality(samples="@samples", restored="@restored")
    first = run(config(**stages), tmp_path)
    for module in ("samples", "quality", "restored"):
        monkeypatch.setattr(sys.modules[f"jaxdiff.study.tasks.{module}"], "each", None)
    monkeypatch.setattr(sys.modules["jaxdiff.study.tasks.samples"], "evaluations", None)
    again = run(config(**stages), tmp_path)
    np.testing.assert_array_equal(first["restored"].images, again["restored"].images)
    assert first["samples"].evaluations == again["samples"].evaluations == 3
