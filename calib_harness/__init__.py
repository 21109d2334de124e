"""Calibration for lm-evaluation-harness: whether a language model knows when it is right.

Importing this package loads neither torch nor lm-eval; names that need them are loaded when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from calib_harness.errors import UserError

if TYPE_CHECKING:
    from calib_harness.analysis import (
        ChainComparison,
        Comparison,
        compare,
        compare_chain,
        ece_parts,
        rank_agreement,
    )
    from calib_harness.analysis.metrics_frame import metrics_frame, wide_frame
    from calib_harness.analysis.reliability import (
        Reliability,
        classwise_reliability,
        reliability,
        reliability_of_pairs,
    )
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
    from calib_harness.figures.bump import Ranks, RanksDisplay, ranks
    from calib_harness.figures.forest import Forest, ForestDisplay, forest
    from calib_harness.figures.reliability_display import ReliabilityDisplay
    from calib_harness.figures.risk_coverage import (
        RiskCoverage,
        RiskCoverageDisplay,
        risk_coverage,
    )
    from calib_harness.harness import CalibrationTask
    from calib_harness.paths import task_path
    from calib_harness.predictions import (
        Header,
        Predictions,
        iter_predictions,
        load_predictions,
    )

__version__ = "0.1.0"

# The module that holds each public name.
_PUBLIC = {
    "calib_harness.analysis": (
        "ChainComparison Comparison compare compare_chain ece_parts rank_agreement"
    ),
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
    "calib_harness.paths": "task_path",
    "calib_harness.predictions": "Header Predictions iter_predictions load_predictions",
    "calib_harness.figures.forest": "Forest ForestDisplay forest",
    "calib_harness.figures.bump": "Ranks RanksDisplay ranks",
    "calib_harness.analysis.reliability": (
        "Reliability classwise_reliability reliability reliability_of_pairs"
    ),
    "calib_harness.figures.reliability_display": "ReliabilityDisplay",
    "calib_harness.figures.risk_coverage": "RiskCoverage RiskCoverageDisplay risk_coverage",
    "calib_harness.analysis.metrics_frame": "metrics_frame wide_frame",
}
_LAZY = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = [
    "METHODS",
    "METRICS",
    "CalibrationTask",
    "ChainComparison",
    "Comparison",
    "Estimate",
    "Forest",
    "ForestDisplay",
    "Header",
    "Method",
    "Metric",
    "Null",
    "PairedChange",
    "Predictions",
    "Ranks",
    "RanksDisplay",
    "Reliability",
    "ReliabilityDisplay",
    "RiskCoverage",
    "RiskCoverageDisplay",
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
    "classwise_reliability",
    "compare",
    "compare_chain",
    "cross_fit_temperature",
    "ece",
    "ece_debiased",
    "ece_parts",
    "ece_rms",
    "fit_temperature",
    "forest",
    "holm",
    "iter_predictions",
    "kendalls_w",
    "load_predictions",
    "mce",
    "mean_pairwise_tau",
    "metrics_frame",
    "min_ranks",
    "nll",
    "overconfidence",
    "pack_scores",
    "paired_bootstrap",
    "rank_agreement",
    "ranks",
    "reliability",
    "reliability_of_pairs",
    "risk_coverage",
    "sce",
    "sce_ova",
    "sign_test",
    "smece",
    "softmax_scores",
    "tace",
    "task_path",
    "top_label",
    "usable_rows",
    "wide_frame",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
