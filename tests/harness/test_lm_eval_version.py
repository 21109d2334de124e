"""A release of lm-eval that the plugin does not fit is refused in a sentence."""

from __future__ import annotations

import pytest

from calib_harness import UserError
from calib_harness.harness.lm_eval_version import refuse_unknown


@pytest.mark.parametrize("installed", ["0.5.0.dev1", "0.5.0", "1.0"])
def test_later_releases_are_refused(installed):
    with pytest.raises(UserError, match=f"lm-eval {installed} is installed, and calib-harness"):
        refuse_unknown(installed)


@pytest.mark.parametrize("installed", ["0.4.13", "0.4.14rc1", "0.4.20"])
def test_releases_of_the_line_it_was_made_for_are_not(installed):
    refuse_unknown(installed)
