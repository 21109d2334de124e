# The public names, each once: `__init__.py` loads a name from its module when it is first used.

from calib_harness.analysis import (
    ChainComparison as ChainComparison,
)
from calib_harness.analysis import (
    Comparison as Comparison,
)
from calib_harness.analysis import (
    compare as compare,
)
from calib_harness.analysis import (
    compare_chain as compare_chain,
)
from calib_harness.analysis import (
    compare_over_prompts as compare_over_prompts,
)
from calib_harness.analysis import (
    ece_parts as ece_parts,
)
from calib_harness.analysis import (
    rank_agreement as rank_agreement,
)
from calib_harness.analysis.metrics_frame import (
    metrics_frame as metrics_frame,
)
from calib_harness.analysis.metrics_frame import (
    wide_frame as wide_frame,
)
from calib_harness.analysis.reliability import (
    Reliability as Reliability,
)
from calib_harness.analysis.reliability import (
    classwise_reliability as classwise_reliability,
)
from calib_harness.analysis.reliability import (
    reliability as reliability,
)
from calib_harness.analysis.reliability import (
    reliability_of_pairs as reliability_of_pairs,
)
from calib_harness.core.accuracy import (
    accuracy as accuracy,
)
from calib_harness.core.accuracy import (
    aurc as aurc,
)
from calib_harness.core.accuracy import (
    auroc as auroc,
)
from calib_harness.core.accuracy import (
    brier_score as brier_score,
)
from calib_harness.core.accuracy import (
    choice_mass as choice_mass,
)
from calib_harness.core.accuracy import (
    nll as nll,
)
from calib_harness.core.accuracy import (
    overconfidence as overconfidence,
)
from calib_harness.core.binning import bin_index as bin_index
from calib_harness.core.calibration import (
    calibration_error as calibration_error,
)
from calib_harness.core.calibration import (
    ece as ece,
)
from calib_harness.core.calibration import (
    ece_debiased as ece_debiased,
)
from calib_harness.core.calibration import (
    ece_rms as ece_rms,
)
from calib_harness.core.calibration import (
    mce as mce,
)
from calib_harness.core.classwise import (
    ace as ace,
)
from calib_harness.core.classwise import (
    full_ece as full_ece,
)
from calib_harness.core.classwise import (
    sce as sce,
)
from calib_harness.core.classwise import (
    sce_ova as sce_ova,
)
from calib_harness.core.classwise import (
    tace as tace,
)
from calib_harness.core.confidence import (
    METHODS as METHODS,
)
from calib_harness.core.confidence import (
    Method as Method,
)
from calib_harness.core.confidence import (
    choice_score as choice_score,
)
from calib_harness.core.confidence import (
    pack_scores as pack_scores,
)
from calib_harness.core.confidence import (
    softmax_scores as softmax_scores,
)
from calib_harness.core.confidence import (
    top_label as top_label,
)
from calib_harness.core.confidence import (
    usable_rows as usable_rows,
)
from calib_harness.core.corp import Decomposition as Decomposition
from calib_harness.core.corp import corp as corp
from calib_harness.core.inference import (
    bootstrap as bootstrap,
)
from calib_harness.core.inference import (
    paired_bootstrap as paired_bootstrap,
)
from calib_harness.core.loss import MeanTest as MeanTest
from calib_harness.core.loss import calibration_loss as calibration_loss
from calib_harness.core.loss import calibration_loss_change as calibration_loss_change
from calib_harness.core.loss import calibration_losses as calibration_losses
from calib_harness.core.loss import mean_test as mean_test
from calib_harness.core.metrics import METRICS as METRICS
from calib_harness.core.nulls import (
    CALIBRATION_ERRORS as CALIBRATION_ERRORS,
)
from calib_harness.core.nulls import (
    Excess as Excess,
)
from calib_harness.core.nulls import (
    Null as Null,
)
from calib_harness.core.nulls import (
    Spiegelhalter as Spiegelhalter,
)
from calib_harness.core.nulls import (
    calibrated_null as calibrated_null,
)
from calib_harness.core.nulls import (
    excesses as excesses,
)
from calib_harness.core.nulls import (
    spiegelhalter as spiegelhalter,
)
from calib_harness.core.ranks import (
    kendalls_w as kendalls_w,
)
from calib_harness.core.ranks import (
    mean_pairwise_tau as mean_pairwise_tau,
)
from calib_harness.core.ranks import (
    min_ranks as min_ranks,
)
from calib_harness.core.recalibration import (
    apply_temperature as apply_temperature,
)
from calib_harness.core.recalibration import (
    cross_fit_temperature as cross_fit_temperature,
)
from calib_harness.core.recalibration import (
    fit_temperature as fit_temperature,
)
from calib_harness.core.recalibration import (
    fit_temperature_to as fit_temperature_to,
)
from calib_harness.core.recalibrators import (
    RECALIBRATORS as RECALIBRATORS,
)
from calib_harness.core.recalibrators import (
    Recalibrator as Recalibrator,
)
from calib_harness.core.recalibrators import (
    cross_fit as cross_fit,
)
from calib_harness.core.recalibrators import (
    fit_recalibrator as fit_recalibrator,
)
from calib_harness.core.registry import Metric as Metric
from calib_harness.core.resampling import (
    Estimate as Estimate,
)
from calib_harness.core.resampling import (
    PairedChange as PairedChange,
)
from calib_harness.core.selective import accuracy_at_coverage as accuracy_at_coverage
from calib_harness.core.selective import conformal_sets as conformal_sets
from calib_harness.core.selective import coverage_at_accuracy as coverage_at_accuracy
from calib_harness.core.significance import (
    holm as holm,
)
from calib_harness.core.significance import (
    sign_test as sign_test,
)
from calib_harness.core.smece import smece as smece
from calib_harness.errors import UserError as UserError
from calib_harness.figures.bump import (
    Ranks as Ranks,
)
from calib_harness.figures.bump import (
    RanksDisplay as RanksDisplay,
)
from calib_harness.figures.bump import (
    ranks as ranks,
)
from calib_harness.figures.forest import (
    Forest as Forest,
)
from calib_harness.figures.forest import (
    ForestDisplay as ForestDisplay,
)
from calib_harness.figures.forest import (
    forest as forest,
)
from calib_harness.figures.reliability_display import ReliabilityDisplay as ReliabilityDisplay
from calib_harness.figures.risk_coverage import (
    RiskCoverage as RiskCoverage,
)
from calib_harness.figures.risk_coverage import (
    RiskCoverageDisplay as RiskCoverageDisplay,
)
from calib_harness.figures.risk_coverage import (
    risk_coverage as risk_coverage,
)
from calib_harness.harness import CalibrationTask as CalibrationTask
from calib_harness.harness import PooledTask as PooledTask
from calib_harness.paths import task_path as task_path
from calib_harness.predictions import (
    Header as Header,
)
from calib_harness.predictions import (
    Predictions as Predictions,
)
from calib_harness.predictions import (
    iter_predictions as iter_predictions,
)
from calib_harness.predictions import (
    load_predictions as load_predictions,
)

__version__: str
