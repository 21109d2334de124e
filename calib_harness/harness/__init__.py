"""The plugin: everything that imports lm-eval, and the only room its releases can break.

Importing it registers the metrics, filters and the request type with lm-eval.
"""

from calib_harness.harness import aggregations, filters, templates, token_requests
from calib_harness.harness.task import CalibrationTask

__all__ = ["CalibrationTask"]

filters.register()
aggregations.register()
aggregations.install_stderr()
token_requests.install()
templates.install()
