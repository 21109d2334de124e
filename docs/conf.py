"""How the site is built: `scripts/docs`, warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate
from sphinx.application import Sphinx

import calib_harness

project = "calib-harness"
author = "the authors of calib-harness"
release = calib_harness.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "reference/generated"]  # included by the pages beside them
html_theme = "pydata_sphinx_theme"
html_title = "calib-harness"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc's types are written for people
autosummary_generate = True
# Names in docstrings' type fields are words, not links.
numpydoc_xref_param_type = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def bars_are_bars(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Keep |x| of a formula from being read as a substitution."""
    lines[:] = [
        line if line.lstrip().startswith((">>>", "...")) else line.replace("|", "\\|")
        for line in lines
    ]


def setup(app: Sphinx) -> None:
    """Write the pages that are read off the code before Sphinx looks for pages."""
    app.connect("autodoc-process-docstring", bars_are_bars)
    generate.write_pages(Path(__file__).parent / "reference" / "generated")
