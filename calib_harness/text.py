"""Text of others, made safe to show."""

from __future__ import annotations

import re

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
