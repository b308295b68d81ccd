"""Draws samples from a score network of a study: a grid, a denoising trajectory, and the images as an array.

    python experiments/sample.py --workdir=runs/digits --n=100 [--stage=score] [--solver="diffusion.ddim(eta=0.0)"]
                                 [--ts="diffusion.grids.uniform(steps=50)"] [--clip=1.0]

It is the stage `tasks.samples` of a study, on what its workdir holds. The network has to be finished.
"""

import argparse
from pathlib import Path

from jaxdiff import diffusion
from jaxdiff.study import part, planned, study, tasks
from jaxdiff.study.command import quiet, workdir_of
from jaxdiff.study.load import config_of, load
from jaxdiff.study.machine import cache_programs, use_all_cores
from jaxdiff.study.override import valued
from jaxdiff.study.words import in_words


def main() -> None:
    """Samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--stage", default="score", help="the score network")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--solver", default="diffusion.ddim()")
    parser.add_argument("--ts", default="diffusion.grids.uniform(steps=50)")
    parser.add_argument("--clip", type=float, default=1.0, help="of x0_hat; 0 for none")
    given = parser.parse_args()
    with in_words():
        workdir = workdir_of(given.workdir)
        quiet()
        use_all_cores()
        cache_programs()
        load(workdir, given.stage)  # says if it is not finished
        make(workdir, given)


def make(workdir: Path, given: argparse.Namespace) -> None:
    """The stage "samples" of the study of a workdir."""
    config, score = config_of(workdir), f"@{given.stage}"
    denoise = part(diffusion.clipped, denoise=score, clip=given.clip) if given.clip else score
    samples = part(
        tasks.samples,
        denoise=denoise,
        solver=valued(given.solver, {"name": ""}),
        ts=valued(given.ts, {"name": ""}),
        n=given.n,
    )
    own = study(seed=config["seed"], data=config["data"], stages={**config["stages"], "samples": samples})
    for caption, path in planned(own, "samples").make(workdir)["samples"].items():
        print(f"{caption}: {path}")
    print(f"{given.n} samples: {path.parent / 'samples.npy'}")


if __name__ == "__main__":
    main()
