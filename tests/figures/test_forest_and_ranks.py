"""Forest plots and rank charts: what is taken out of a frame, and what is said if it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import calib_harness as ch


def changes(**columns: object) -> pd.DataFrame:
    rows = {
        "family": ["F", "G", "F"],
        "base": ["a", "b", "c"],
        "aligned": ["a-chat", "b-chat", "c-chat"],
        "task": "t",
        "method": "choice",
        "n_shot": 0,
        "metric": "ece",
        "base_value": [0.10, 0.20, 0.10],
        "aligned_value": [0.12, 0.10, 0.30],
        "change": [0.02, -0.10, 0.20],
        "low": [-0.01, -0.15, 0.10],
        "high": [0.05, -0.05, 0.30],
    }
    return pd.DataFrame(rows | columns)


def test_families_stay_together_and_the_largest_change_comes_first() -> None:
    found = ch.forest(changes(), metric="ece")
    assert found.family == ("F", "F", "G")
    assert found.label == ("c → c-chat", "a → a-chat", "b → b-chat")
    assert found.change.tolist() == [0.20, 0.02, -0.10]
    assert found.low.tolist() == [0.10, -0.01, -0.15]
    assert found.kind == ("worse", "interval contains 0", "better")


def test_a_rise_is_better_for_accuracy_and_judged_by_size_for_overconfidence() -> None:
    assert ch.forest(changes(metric="acc"), metric="acc").kind[::2] == ("better", "worse")
    frame = changes(metric="overconfidence", base_value=-0.3, aligned_value=[-0.2, -0.4, -0.1])
    assert ch.forest(frame, metric="overconfidence").kind[::2] == ("better", "worse")


def test_overconfidence_that_may_be_as_far_on_the_other_side_is_neither_worse_nor_better() -> None:
    # From .02 to -.03 is a clear change of sign, but |.03| cannot be told from |.02|.
    frame = changes(
        metric="overconfidence",
        base_value=[0.02, 0.02, -0.001],
        aligned_value=[-0.03, -0.30, 0.05],
        change=[-0.05, -0.32, 0.051],
        low=[-0.08, -0.36, 0.03],
        high=[-0.02, -0.28, 0.07],
    )
    found = ch.forest(frame, metric="overconfidence")
    kinds = dict(zip(found.label, found.kind, strict=True))
    assert kinds == {
        "a → a-chat": "past 0, maybe as far",
        "b → b-chat": "worse",
        "c → c-chat": "worse",
    }


def test_several_numbers_of_shots_are_named() -> None:
    found = ch.forest(changes(n_shot=[0, 0, 5]), metric="ece")
    assert found.label[0] == "c → c-chat, 5-shot"


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({}, {"metric": "x"}, "--metric must be one of ece; got 'x'"),
        ({}, {"metric": "ece", "task": "x"}, "--task must be one of t; got 'x'"),
        (
            {"task": ["t", "u", "t"]},
            {"metric": "ece"},
            "several tasks: choose with --task one of t, u",
        ),
        (
            {"method": ["choice", "choice", "continuation-sum"]},
            {"metric": "ece"},
            "choose with --method one of choice, continuation-sum",
        ),
    ],
)
def test_what_is_missing_or_ambiguous_is_named(columns: dict, wanted: dict, message: str) -> None:
    with pytest.raises(ch.UserError, match=message):
        ch.forest(changes(**columns), **wanted)


def values(numbers: list[list[float]], metric: str = "ece", column: str = "value") -> pd.DataFrame:
    """Make a frame of models (rows) by tasks (columns)."""
    return pd.DataFrame(
        {"model": f"m{i}", "task": f"t{j}", "method": "choice", "metric": metric, column: number}
        for i, row in enumerate(numbers)
        for j, number in enumerate(row)
    )


def test_rank_1_is_the_best_of_values_and_the_largest_of_changes() -> None:
    numbers = [[0.1, 0.2], [0.3, 0.1], [0.3, 0.4]]
    of_values = ch.ranks(values(numbers), metric="ece", unit="model", value="value")
    assert of_values.labels == ("m0", "m1", "m2")
    assert of_values.ranks.tolist() == [[1, 2], [2, 1], [2, 3]]
    accuracy = values(numbers, "acc")
    assert ch.ranks(accuracy, metric="acc", unit="model", value="value").ranks[-1].tolist() == [
        3,
        2,
    ]
    of_changes = ch.ranks(values(numbers, column="excess_change"), metric="ece", unit="model")
    assert of_changes.labels == ("m2", "m1", "m0")
    assert (of_values.first, of_changes.first) == ("best", "largest")


def test_kendalls_w_is_that_of_friedmans_test() -> None:
    numbers = np.random.default_rng(0).random((6, 4))
    found = ch.ranks(values(numbers.tolist()), metric="ece", unit="model", value="value")
    friedman = stats.friedmanchisquare(*numbers).statistic
    assert found.kendalls_w == pytest.approx(friedman / (4 * 5))


def test_a_model_that_lacks_a_task_is_left_out_and_counted() -> None:
    frame = values([[0.1, 0.2], [0.3, 0.1], [0.3, 0.4]])
    found = ch.ranks(frame.iloc[:-1], metric="ece", unit="model", value="value")
    assert found.labels == ("m0", "m1")
    assert found.n_dropped == 1
    assert "1 incomplete left out" in ch.RanksDisplay(found).heading


def test_a_task_under_two_prompt_settings_ranks_once_under_each() -> None:
    # Values under both settings used to be averaged.
    rows = [
        {"model": m, "task": t, "chat_template": chat, "value": v}
        for chat, numbers in ((False, (0.1, 0.2)), (True, (0.9, 0.2)))
        for m, v in zip("ab", numbers, strict=True)
        for t in ("t", "u")
    ]
    frame = pd.DataFrame(rows).assign(metric="ece", method="choice", n_shot=0)
    found = ch.ranks(frame, metric="ece", unit="model", value="value")
    assert set(found.tasks) == {"t, no chat", "t, chat", "u, no chat", "u, chat"}
    first = dict(zip(found.tasks, found.ranks[found.labels.index("a")], strict=True))
    assert first == {"t, no chat": 1, "u, no chat": 1, "t, chat": 2, "u, chat": 2}
    assert found.n_dropped == 0


def test_a_base_model_without_a_template_is_ranked_beside_a_chat_model_with_one() -> None:
    frame = values([[0.1, 0.2, 0.3], [0.2, 0.3, 0.1]])
    frame["chat_template"] = frame["model"] != frame["model"].iloc[0]
    found = ch.ranks(frame, metric="ece", unit="model", value="value")
    assert (len(found.tasks), len(found.labels)) == (3, 2)
    assert found.kendalls_w == found.kendalls_w


def test_one_task_has_no_agreement() -> None:
    with pytest.raises(ch.UserError, match=r"at least two tasks.* has 1 task\(s\) \(t0\)"):
        ch.ranks(values([[0.1], [0.2]]), metric="ece", unit="model", value="value")


def test_published_ranks_come_out(shared: Path) -> None:
    published = pd.read_csv(shared / "published" / "changes.csv")
    found = ch.ranks(published, metric="sce", method="choice", unit="model", value="change_ratio")
    assert len(found.tasks) == 10
    assert found.kendalls_w == pytest.approx(0.9271, abs=5e-5)
    chosen = published[(published["metric"] == "sce") & (published["method"] == "choice")]
    expected = chosen.pivot(index="model", columns="task", values="ratio_rank")
    ours = pd.DataFrame(found.ranks, index=list(found.labels), columns=list(found.tasks))
    assert (ours.loc[expected.index, expected.columns] == expected).all(axis=None)
