"""Runs a study: python experiments/run.py --config=configs/digits.py --workdir=runs/digits

The same as python -m jaxdiff.study, which says what else it takes.
"""

from jaxdiff.study.command import main

if __name__ == "__main__":
    main()
