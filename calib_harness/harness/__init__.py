"""The plugin: everything that imports lm-eval, and the only room its releases can break.

Importing it registers the metrics, filters and the request type with lm-eval.
"""

from calib_harness.harness import lm_eval_version  # first: the others may not even load

# isort: split
from calib_harness.harness import (
    aggregations,
    filters,
    samples_option,
    templates,
    token_requests,
)
from calib_harness.harness.pooled import PooledTask
from calib_harness.harness.task import CalibrationTask

__all__ = ["CalibrationTask", "PooledTask", "lm_eval_version"]

filters.register()
aggregations.register()
aggregations.install_stderr()
token_requests.install()
templates.install()
samples_option.install()
