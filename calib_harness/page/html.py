"""Put template, styles, scripts and numbers together into one file that needs no other."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from string import Template
from typing import Any

from calib_harness.page.payload import Payload

_ASSETS = resources.files("calib_harness.page") / "assets"
_STYLES = ("vendor/tabulator-6.5.3.min.css", "page.css")
_VENDOR = ("vendor/plotly-cartesian-4.1.1.min.js", "vendor/tabulator-6.5.3.min.js")
# In the order in which they build on each other.
_SCRIPTS = (
    *("text.js", "data.js", "address.js", "controls.js", "exporting.js", "tables.js"),
    *("charts.js", "resamples.js", "leaderboard.js", "pairs.js", "reliability.js", "model.js"),
    *("two.js", "questions.js", "compare.js", "changes.js", "ranks.js", "curves.js"),
    *("measured.js", "definitions.js", "main.js"),
)
_SOURCE_MAP = re.compile(r"^(//|/\*)# sourceMappingURL=.*$", re.MULTILINE)
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def render_page(payload: Payload) -> str:
    """Return the page as HTML.

    Nothing that comes from logs is ever part of the markup: names and numbers stand in data
    blocks, which the scripts read and write into the page as text. A policy in the head lets
    the browser run exactly the scripts that are put in here and load nothing at all.
    """
    own = "\n".join(_read(name) for name in _SCRIPTS)
    scripts = [*(_read(name) for name in _VENDOR), f'"use strict";\n(() => {{\n{own}\n}})();\n']
    return Template(_read("page.html")).substitute(
        policy=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        styles="\n".join(_read(name) for name in _STYLES),
        document=json_for_html(payload.document),
        **payload.blobs,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def json_for_html(value: Any) -> str:
    r"""Return JSON that cannot end the element it stands in, nor open another.

    Examples
    --------
    >>> json_for_html("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _read(name: str) -> str:
    # A source map is a second file, and this page has none.
    return _SOURCE_MAP.sub("", (_ASSETS / name).read_text(encoding="utf-8")).strip() + "\n"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
