"""Calibration for lm-evaluation-harness: whether a language model knows when it is right.

Importing this package loads neither torch nor lm-eval; names that need them are loaded when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from calib_harness.errors import UserError

if TYPE_CHECKING:
    from calib_harness.core.binning import bin_index
    from calib_harness.core.confidence import (
        METHODS,
        Method,
        choice_score,
        pack_scores,
        softmax_scores,
        top_label,
        usable_rows,
    )
    from calib_harness.core.inference import (
        Estimate,
        Null,
        PairedChange,
        bootstrap,
        calibrated_null,
        holm,
        kendalls_w,
        mean_pairwise_tau,
        min_ranks,
        paired_bootstrap,
        sign_test,
    )
    from calib_harness.core.metrics import (
        METRICS,
        Metric,
        accuracy,
        ace,
        aurc,
        auroc,
        brier_score,
        calibration_error,
        choice_mass,
        ece,
        ece_debiased,
        ece_rms,
        mce,
        nll,
        overconfidence,
        sce,
        sce_ova,
        smece,
        tace,
    )
    from calib_harness.core.recalibration import (
        apply_temperature,
        cross_fit_temperature,
        fit_temperature,
    )
    from calib_harness.harness import CalibrationTask

__version__ = "0.1.0"

# The module that holds each public name.
_PUBLIC = {
    "calib_harness.core.binning": "bin_index",
    "calib_harness.core.confidence": (
        "METHODS Method choice_score pack_scores softmax_scores top_label usable_rows"
    ),
    "calib_harness.core.inference": (
        "Estimate Null PairedChange bootstrap calibrated_null holm kendalls_w "
        "mean_pairwise_tau min_ranks paired_bootstrap sign_test"
    ),
    "calib_harness.core.metrics": (
        "METRICS Metric accuracy ace aurc auroc brier_score calibration_error choice_mass ece "
        "ece_debiased ece_rms mce nll overconfidence sce sce_ova smece tace"
    ),
    "calib_harness.core.recalibration": ("apply_temperature cross_fit_temperature fit_temperature"),
    "calib_harness.harness": "CalibrationTask",
}
_LAZY = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = [
    "METHODS",
    "METRICS",
    "CalibrationTask",
    "Estimate",
    "Method",
    "Metric",
    "Null",
    "PairedChange",
    "UserError",
    "accuracy",
    "ace",
    "apply_temperature",
    "aurc",
    "auroc",
    "bin_index",
    "bootstrap",
    "brier_score",
    "calibrated_null",
    "calibration_error",
    "choice_mass",
    "choice_score",
    "cross_fit_temperature",
    "ece",
    "ece_debiased",
    "ece_rms",
    "fit_temperature",
    "holm",
    "kendalls_w",
    "mce",
    "mean_pairwise_tau",
    "min_ranks",
    "nll",
    "overconfidence",
    "pack_scores",
    "paired_bootstrap",
    "sce",
    "sce_ova",
    "sign_test",
    "smece",
    "softmax_scores",
    "tace",
    "top_label",
    "usable_rows",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
