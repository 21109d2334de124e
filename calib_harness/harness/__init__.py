"""The plugin: everything that imports lm-eval, and the only room its releases can break.

Importing it registers the metrics, filters and the request type with lm-eval.
"""

from calib_harness.harness import backends, filters, metrics, templates
from calib_harness.harness.task import CalibrationTask

__all__ = ["CalibrationTask"]

filters.register()
metrics.register()
metrics.install_stderr()
backends.install()
templates.install()
