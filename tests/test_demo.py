"""What the demo says follows from the numbers, whatever these are."""

from __future__ import annotations

import pandas as pd
import pytest

from calib_harness.demo import tell_changes, tell_nulls


def changes(acc, ece):
    """Rows of a comparison; `acc` and `ece` hold (change, low, high) per method."""
    return pd.DataFrame(
        [
            {"metric": metric, "change": change, "low": low, "high": high}
            for metric, rows in (("acc", acc), ("ece", ece))
            for change, low, high in rows
        ]
    )


FLAT = [(0.01, -0.02, 0.04), (-0.01, -0.04, 0.02)]


@pytest.mark.parametrize(
    ("ece", "said"),
    [
        ([(0.2, 0.1, 0.3), (0.1, 0.05, 0.2)], "ECE rose under all 2 methods (+0.100 to +0.200)."),
        ([(-0.2, -0.3, -0.1), (-0.1, -0.2, -0.01)], "ECE fell under all 2 methods"),
        (FLAT, "ECE did not change beyond chance (-0.010 to +0.010)."),
        ([(0.2, 0.1, 0.3), FLAT[0]], "ECE rose under 1 of 2 methods, elsewhere not beyond chance"),
        ([(0.2, 0.1, 0.3), (-0.2, -0.3, -0.1)], "ECE rose under 1 and fell under 1 of 2 methods"),
    ],
)
def test_changes_are_told_by_their_intervals(ece, said):
    told = tell_changes(changes(FLAT, ece))
    assert said in told
    assert "accuracy did not change beyond chance (-0.010 to +0.010)" in told


def test_eces_within_their_null_are_counted():
    rows = [
        (model, method, metric, value, high)
        for model, method, ece in (
            ("base", "choice", 0.02),
            ("base", "continuation-sum", 0.05),
            ("aligned", "choice", 0.3),
            ("aligned", "continuation-sum", 0.2),
        )
        for metric, value, high in (("ece", ece, 1.0), ("ece_null", 0.02, 0.03))
    ]
    frame = pd.DataFrame(rows, columns=["model", "method", "metric", "value", "high"])
    assert tell_nulls(frame.set_index(["model", "method", "metric"])) == (
        "A perfectly calibrated model as confident as these could show base's ECE under 1 of 2 "
        "methods and aligned's ECE under 0 of 2 methods."
    )
