"""Templates are compiled once, and say what they said."""

from __future__ import annotations

import pytest
from jinja2 import Environment, TemplateError
from lm_eval import utils

import calib_harness.harness  # noqa: F401 (installs)
from calib_harness.harness import templates


def test_a_template_is_compiled_once_however_many_questions_it_reads(monkeypatch):
    compiled = []
    compile_ = Environment.compile
    monkeypatch.setattr(
        Environment, "compile", lambda *a, **k: compiled.append(a[1]) or compile_(*a, **k)
    )
    texts = [utils.apply_template("Item {{n}} of many:", {"n": n}) for n in range(20)]
    assert texts == [f"Item {n} of many:" for n in range(20)]
    assert compiled == ["Item {{n}} of many:"]


def test_a_template_that_does_not_fit_fails_each_time():
    for _ in range(2):
        with pytest.raises(TemplateError):
            utils.apply_template("{{no_such_column}}", {"n": 1})
        with pytest.raises(TemplateError):
            utils.apply_template("{{ n", {"n": 1})


def test_installing_twice_changes_nothing():
    before = utils.env.from_string
    templates.install()
    assert utils.env.from_string is before
