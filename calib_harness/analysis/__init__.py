"""From predictions to findings: base against aligned models, and chains of stages."""

from calib_harness.analysis.chains import compare_chain
from calib_harness.analysis.comparison import compare, ratio_ranks
from calib_harness.analysis.decomposition import EceParts, ece_parts
from calib_harness.analysis.harm import share_harmed
from calib_harness.analysis.over_prompts import compare_over_prompts
from calib_harness.analysis.results import ChainComparison, Comparison
from calib_harness.analysis.task_agreement import rank_agreement
from calib_harness.analysis.verdict import Verdict, verdict

__all__ = [
    "ChainComparison",
    "Comparison",
    "EceParts",
    "Verdict",
    "compare",
    "compare_chain",
    "compare_over_prompts",
    "ece_parts",
    "rank_agreement",
    "ratio_ranks",
    "share_harmed",
    "verdict",
]
