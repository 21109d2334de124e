"""A release of lm-eval that the plugin does not fit is refused in a sentence."""

from __future__ import annotations

import logging

import pytest

from calib_harness import UserError
from calib_harness.harness.lm_eval_version import refuse_unknown


@pytest.mark.parametrize("installed", ["0.5.0.dev2", "0.5.0rc1", "0.5.0", "1.0"])
def test_later_releases_are_refused(installed):
    with pytest.raises(UserError, match=f"lm-eval {installed} is installed, and calib-harness"):
        refuse_unknown(installed)


@pytest.mark.parametrize("installed", ["0.4.13", "0.4.14rc1", "0.4.20"])
def test_releases_of_the_line_it_was_made_for_are_not(installed, caplog):
    refuse_unknown(installed)
    assert not caplog.records


def test_the_pre_release_that_was_tried_is_taken_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        refuse_unknown("0.5.0.dev1")
    assert "0.5.0.dev1 is a pre-release" in caplog.text
