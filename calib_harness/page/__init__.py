"""The page people look at: one self-contained HTML file made from logs."""

from calib_harness.page.make import make_report

__all__ = ["make_report"]
