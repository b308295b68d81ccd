"""python -m jaxdiff.study --config=... --workdir=..."""

from jaxdiff.study.command import main

if __name__ == "__main__":
    main()
