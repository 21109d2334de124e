"""Whether the installed lm-eval is one that the plugin fits: checked before anything else is."""

from __future__ import annotations

import logging
from importlib.metadata import version

from calib_harness.errors import UserError

logger = logging.getLogger(__name__)

# What a later release changes is not known.
_BEFORE = (0, 5)
# A pre-release that the harness's tests were run under; `seam` says what it does otherwise.
_TRIED = "0.5.0.dev1"


def refuse_unknown(installed: str) -> None:
    """Refuse a release of lm-eval that would fail at import, or score in another way.

    Parameters
    ----------
    installed
        Its version, such as ``0.4.13``.

    Raises
    ------
    UserError
        If it is 0.5 or later, pre-releases included, but for the one that was tried.
    """
    if installed == _TRIED:
        logger.warning(
            "lm-eval %s is a pre-release; calib-harness was tried with it, but not all of it works",
            installed,
        )
    elif tuple(int(part) for part in installed.split(".")[:2]) >= _BEFORE:
        raise UserError(
            f"lm-eval {installed} is installed, and calib-harness works with 0.4.13 up to, but "
            "without, 0.5; run `pip install 'lm-eval>=0.4.13,<0.5'`"
        )


refuse_unknown(version("lm_eval"))
