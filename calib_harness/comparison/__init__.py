"""From predictions to findings: base against aligned models, and chains of stages."""

from calib_harness.comparison.agreement import rank_agreement
from calib_harness.comparison.chains import compare_chain
from calib_harness.comparison.changes import compare, ratio_ranks
from calib_harness.comparison.decomposition import EceParts, ece_parts
from calib_harness.comparison.results import ChainComparison, Comparison
from calib_harness.comparison.share import share_harmed

__all__ = [
    "ChainComparison",
    "Comparison",
    "EceParts",
    "compare",
    "compare_chain",
    "ece_parts",
    "rank_agreement",
    "ratio_ranks",
    "share_harmed",
]
