"""What a metric_list and a filter_list may say, refused before anything is scored."""

from __future__ import annotations

from typing import Any

import pytest

from calib_harness.errors import UserError
from calib_harness.harness.question_requests import check_wanted
from calib_harness.harness.task_yaml import (
    check_filter_list,
    not_kept,
    read_metric_list,
    read_options,
)


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"metric": "ece", "norm": "l7"}, "'l7'"), ({"metric": "tace", "threshold": 2}, "got 2")],
)
def test_a_metrics_option_is_checked_before_scoring(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_metric_list("mine", [entry], {})


def test_what_stock_tasks_say_of_texts_or_groups_does_not_matter_here() -> None:
    entry = {
        "metric": "acc",
        "aggregation": "mean",
        "ignore_case": True,
        "regexes_to_ignore": [","],
        "weight_by_size": True,  # AfroBench's 185 tasks were refused for it
    }
    [spec] = read_metric_list("mine", [entry], {})
    assert spec.options == {}


def test_a_metric_that_a_yaml_sums_up_by_its_own_function_is_left_out_and_a_typo_is_not() -> None:
    # BBQ's: it was refused as an unknown metric.
    own = {"metric": "accuracy_amb", "aggregation": max}
    assert [spec.name for spec in read_metric_list("mine", [own, {"metric": "acc"}], {})] == ["acc"]
    assert not_kept([own, {"metric": "acc"}]) == ["accuracy_amb"]
    with pytest.raises(UserError, match="unknown metric 'accuracy_amb'"):
        read_metric_list("mine", [{"metric": "accuracy_amb", "aggregation": "mean"}], {})


def test_a_metric_named_twice_is_refused_since_results_would_keep_one() -> None:
    twice = [{"metric": "ece"}, {"metric": "ece", "norm": "l2"}]
    with pytest.raises(UserError, match="metric_list holds 'ece' 2 times"):
        read_metric_list("mine", twice, {})


def test_a_filter_named_twice_is_refused_since_results_would_keep_one() -> None:
    twice = [
        {"name": "mine", "filter": [{"function": function}]}
        for function in ("continuation-sum", "continuation-min")
    ]
    with pytest.raises(UserError, match="filter_list holds 'mine' 2 times"):
        check_filter_list("mine", twice)


@pytest.mark.parametrize("binning", ["uniform", "equal_mass", "adaptive"])
def test_metadata_takes_every_binning_that_the_commands_take(binning: str) -> None:
    options = read_options("mine", {"version": 1, "binning": binning})
    [spec] = read_metric_list("mine", [{"metric": "ece"}], options)
    assert spec.options == {"n_bins": 15, "binning": binning}


@pytest.mark.parametrize("function", ["continuation-pmi", "continuation-bytes"])
def test_what_needs_choices_in_the_continuation_is_refused_where_they_are_not(
    function: str,
) -> None:
    # WinoGrande's were divided by the bytes of their contexts, and from its log by others.
    check_wanted("mine", {function}, None, in_context=False)
    with pytest.raises(UserError, match=f"'{function}' needs choices in the continuation"):
        check_wanted("mine", {function}, None, in_context=True)
