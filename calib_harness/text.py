"""Text of others, made safe to show, and what they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Control characters but for tab and line feed; what turns the direction of writing; separators
# of lines and paragraphs; halves of surrogate pairs, which cannot be printed at all.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return text in which nothing can rewrite a terminal or turn the direction of writing.

    Such characters are shown as escapes, colours are left out.

    >>> visible("a\rb \x1b[31mred\x1b[0m \u202e")
    'a\\rb red \\u202e'
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], _COLOUR.sub("", text))


def nearest(name: str, known: Iterable[str], *, n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known names that are most like `name`, at most `n`, the likest first.

    >>> nearest("tasl", ["tasks", "models"])
    ['tasks']
    """
    return difflib.get_close_matches(name, list(known), n=n, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return a hint that names the known name most like `name`, or an empty string.

    >>> did_you_mean("tasl", ["tasks", "models"])
    "did you mean 'tasks'?"
    """
    near = nearest(name, known, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else ""
