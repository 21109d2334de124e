"""Whether the installed lm-eval is one that the plugin fits: checked before anything else is."""

from __future__ import annotations

from importlib.metadata import version

from calib_harness.errors import UserError

# lm-eval 0.5 replaces the filters and metrics of a task by scorers, which ours are not.
_BEFORE = (0, 5)


def refuse_unknown(installed: str) -> None:
    """Refuse a release of lm-eval that would fail at import, or score in another way.

    Parameters
    ----------
    installed
        Its version, such as ``0.4.13``.

    Raises
    ------
    UserError
        If it is 0.5 or later, pre-releases included.
    """
    if tuple(int(part) for part in installed.split(".")[:2]) >= _BEFORE:
        raise UserError(
            f"lm-eval {installed} is installed, and calib-harness works with 0.4.13 up to, but "
            "without, 0.5; run `pip install 'lm-eval>=0.4.13,<0.5'`"
        )


refuse_unknown(version("lm_eval"))
