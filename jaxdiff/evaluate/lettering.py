"""Text that is never cut: measured in its font and broken into lines that fit."""

import re
from collections.abc import Callable, Iterator

from jaxdiff.evaluate.dots import Number, pixels

WORDS = re.compile(r"(?:\$[^$]*\$|[^ \t\r\n])+")  # a space inside a formula parts nothing, nor does NARROW
NARROW = "\u00a0"  # the space between a number and its unit
SPACING = 1.25  # from line to line, in heights of the font


def extent(text: str, size: Number, weight: str = "normal") -> float:
    """The width in pixels of one line of text at `size` points, formulas between dollars as they are set."""
    from matplotlib.cbook import is_math_text
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, is_math_text(text))
    return 1.02 * pixels(width)  # hinting moves letters a little


def wrap(text: str, width: Number, size: Number, weight: str = "normal") -> str:
    """`text` broken into lines that fit into `width` pixels at `size` points; a word that is too long is broken too."""
    fits = lambda line: extent(line, size, weight) <= width
    lines: list[str] = []
    for piece in (piece for word in WORDS.findall(text) for piece in _pieces(word, fits)):
        if lines and fits(f"{lines[-1]} {piece}"):
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)


def lines_height(text: str, size: Number) -> int:
    """The pixels from the top to the bottom of a text of one line or more, 0 of none."""
    return round((text.count("\n") + 1) * SPACING * pixels(size)) if text else 0


def _pieces(word: str, fits: Callable[[str], bool]) -> Iterator[str]:
    while len(word) > 1 and "$" not in word and not fits(word):
        cut = max((k for k in range(1, len(word)) if fits(word[:k])), default=1)
        yield word[:cut]
        word = word[cut:]
    yield word
