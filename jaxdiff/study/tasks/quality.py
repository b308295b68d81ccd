"""The stage that measures how good samples are: distances, a classifier's view, neighbours; with the protocol beside them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import checks
from jaxdiff.data.dataset import Dataset
from jaxdiff.evaluate.atomic import write_text
from jaxdiff.evaluate.quality import (
    Moments,
    agreement,
    bootstrap_std,
    frechet_distance,
    inception_score,
    kernel_distance,
    neighbours,
)
from jaxdiff.evaluate.quality.bootstrap import NORMAL
from jaxdiff.study.bound import shapes
from jaxdiff.study.drawing import Samples, all_images, each
from jaxdiff.study.parts import Aside, Later
from jaxdiff.study.study import Plan, Run
from jaxdiff.study.table.run import rounded, width

COLUMNS = ("n", "fid", "kid", "score", "precision", "recall", "density", "coverage", "accuracy")


class Seen(NamedTuple):
    """What the feature network says of images: features [n, d] and logits [n, classes]."""

    features: np.ndarray
    logits: np.ndarray


def quality(
    data: Callable[[str], Dataset],
    samples: Mapping[str, Samples],
    features: Later,
    reference: str = "train",
    splits: int = 10,
    draws: int = 100,
    near: int = 10_000,
    at_once: Aside[int] = 256,
    slots: Aside[int | None] = None,
) -> Plan:
    """The quality of `samples`, {name: "@stage"}, against all images of the split `reference`, seen through `features`.

    `features` is a part whose function is x -> (features [d], logits), such as part(models.features, classifier="@classifier").
    Measured are the Fréchet and the kernel distance (FID and KID, of whatever network it is), the score of its classes in
    `splits` parts, precision and recall (3 neighbours), density and coverage (5), of the first `near` of either side, and,
    where classes were asked for, how often the classifier sees them. Intervals of 95 %: 1.96 standard deviations over `draws`
    resamples of the samples (FID) or over parts (KID, score), exact for accuracy. All but accuracy are of the first n of each,
    n the fewest of any: such numbers depend on n. Samples that are not finite are left out, and counted. Features are taken
    `at_once` of so many images. results.json holds the numbers, quality.md a table with the protocol. ValueError if there are
    too few samples.
    """
    checks.count("quality", splits=splits)
    checks.count("quality", 6, near=near)
    checks.count("quality", 2, draws=draws)
    dataset = data(reference)
    size, width_ = rounded(at_once), width(slots, at_once)
    for name, drawn in samples.items():
        _check_samples(name, drawn, dataset)
    one = lambda arrays, x: features(arrays)(x)
    image = jax.ShapeDtypeStruct(dataset.image_shape, np.float32)
    out = jax.eval_shape(one, shapes(features.arrays), image)
    if not isinstance(out, tuple) or len(out) != 2 or any(len(o.shape) != 1 for o in out):
        raise ValueError(
            f"quality needs features as x -> (features [d], logits [classes]); got {jax.tree.map(np.shape, out)!r:.80}. For a "
            "classifier: part(models.features, classifier='@classifier')."
        )

    def make(run: Run) -> None:
        report = run.folder / "quality.md"  # written last
        if report.exists():
            return
        see = lambda images: Seen(*each(one, features.arrays, images, size, width_, "features"))
        real = all_images(dataset)
        known = see(real)
        records, n = [], min(len(drawn.images) for drawn in samples.values())
        for name, drawn in samples.items():
            finite = np.isfinite(drawn.images).reshape(len(drawn.images), -1).all(1)
            found = see(drawn.images[finite])
            asked = np.asarray(drawn.labels)[finite] if drawn.labels else None
            numbers = measured(known, found, asked, min(n, len(found.features)), splits, draws, near)
            cost = {} if drawn.evaluations is None else {"evaluations": drawn.evaluations}
            records += [{"source": name, "split": reference, **cost, **r} for r in numbers]
            records.append(
                {"source": name, "metric": "broken", "value": int((~finite).sum()), "n": len(finite)}
            )
        protocol = {
            "reference": f"{dataset.name}, {reference}, {len(dataset)} images, SHA-256 {_digest(real)}",
            "features": {n: run.made[n].stage.digest for n in features.needs},
            "samples": {name: run.made[s.source].stage.digest for name, s in samples.items() if s.source},
            "seed": run.seed,
        }
        write_text(run.folder / "results.json", json.dumps(records, indent=2) + "\n")
        write_report(report, records, protocol)

    return Plan(None, make)


def measured(
    known: Seen, found: Seen, asked: np.ndarray | None, n: int, splits: int, draws: int, near: int
) -> list[dict[str, Any]]:
    """Records {metric, value, low, high, n} of samples against a reference: of the first n, but for the classes of all."""
    logits, found = found.logits, Seen(*(values[:n] for values in found))
    reference = Moments.of(known.features)
    distance = lambda rows: frechet_distance(Moments.of(found.features[rows]), reference)
    fid = distance(np.arange(n))
    kid = kernel_distance(found.features, known.features)
    score = inception_score(found.logits, min(splits, n))
    records = [
        _around("fid", fid, bootstrap_std(distance, n, draws)),
        _around("kid", kid.mean(), kid.std(ddof=1) if len(kid) > 1 else None),
        _around("score", score.mean(), score.std(ddof=1) / np.sqrt(len(score)) if len(score) > 1 else None),
    ]
    for k, names in ((3, ("precision", "recall")), (5, ("density", "coverage"))):
        if n > k:  # fewer samples have no k-th neighbour
            seen = neighbours(known.features[:near], found.features[:near], k)
            records += [_around(name, getattr(seen, name)) for name in names]
    if asked is not None:
        right = agreement(logits, asked)
        ends = {"low": right.low, "high": right.high, "n": right.n}
        records.append({"metric": "accuracy", "value": right.accuracy, **ends})
    return [{"n": n, **record} for record in records]


def write_report(path: Path, records: list[dict[str, Any]], protocol: Mapping[str, Any]) -> Path:
    """A table of sources x metrics, and the protocol."""
    sources: dict[str, dict[str, Any]] = {}
    for record in records:
        sources.setdefault(record["source"], {})[record["metric"]] = record
    lines = ["| samples | " + " | ".join(COLUMNS) + " |", "|:--|" + "--:|" * len(COLUMNS)]
    for name, found in sources.items():
        cells = [str(found["fid"]["n"]), *(_cell(found.get(metric)) for metric in COLUMNS[1:])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    broken = {name: found["broken"]["value"] for name, found in sources.items() if found["broken"]["value"]}
    notes = [f"- {name}: {told}" for name, told in protocol.items()]
    notes += [f"- {n} samples of {name} are not finite and are left out" for name, n in broken.items()]
    head = "# Sample quality\n\nDistances (fid, kid) are smaller when better, all else larger; [95 % interval].\n\n"
    return write_text(path, head + "\n".join(lines) + "\n\n## Protocol\n\n" + "\n".join(notes) + "\n")


def _around(metric: str, value: float, std: float | None = None) -> dict[str, Any]:
    least = -np.inf if metric == "kid" else 0.0  # only KID, which is unbiased, may be negative
    half = 0.0 if std is None else NORMAL * std
    ends = {} if std is None else {"low": float(max(value - half, least)), "high": float(value + half)}
    return {"metric": metric, "value": float(value), **ends}


def _cell(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "—"
    text = f"{record['value']:.4g}"
    return f"{text} [{record['low']:.3g}, {record['high']:.3g}]" if "low" in record else text


def _check_samples(name: str, drawn: Any, dataset: Dataset) -> None:
    checks.instance("quality", Samples, "'@samples'", **{name: drawn})
    if tuple(drawn.images.shape[1:]) != dataset.image_shape:
        raise ValueError(
            f"quality: {name} has images {tuple(drawn.images.shape[1:])}; those of the data are {dataset.image_shape}."
        )
    checks.count("quality", 2, **{f"the number of {name}": drawn.images.shape[0]})


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(np.round(255 * images).astype(np.uint8))).hexdigest()[:16]
