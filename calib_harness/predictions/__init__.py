"""The waist: sample logs of lm-eval in, plain arrays out."""

from calib_harness.predictions.load import (
    PredictionStream,
    find_logs,
    iter_predictions,
    load_predictions,
)
from calib_harness.predictions.table import Header, LogContents, Predictions

__all__ = [
    "Header",
    "LogContents",
    "PredictionStream",
    "Predictions",
    "find_logs",
    "iter_predictions",
    "load_predictions",
]
