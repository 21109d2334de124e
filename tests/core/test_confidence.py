"""Token log-probabilities to scores to probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib_harness import METHODS, choice_score, pack_scores, softmax_scores, top_label, usable_rows
from calib_harness.core import confidence
from calib_harness.core.confidence import Method, is_lettered

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("method", "score"),
    [
        ("continuation-sum", -6.0),
        ("continuation-min", -3.0),
        ("continuation-mean", -2.0),
        ("continuation-bytes", -0.5),
        ("choice", -6.0),
    ],
)
def test_score_of_each_method(method: str, score: float) -> None:
    assert choice_score([-1.0, -2.0, -3.0], method, n_bytes=12) == score


def test_methods_say_which_prompt_they_need() -> None:
    assert {name: method.prompt for name, method in METHODS.items()} == {
        "continuation-sum": "cloze",
        "continuation-min": "cloze",
        "continuation-mean": "cloze",
        "continuation-bytes": "cloze",
        "choice": "choice",
    }


@pytest.mark.parametrize("method", METHODS)
def test_no_tokens_or_a_nan_token_give_no_score(method: str) -> None:
    # An empty sum would be log-probability 0: the most certain choice of all.
    assert math.isnan(choice_score([], method, n_bytes=3))
    assert math.isnan(choice_score([-1.0, NAN], method, n_bytes=3))
    assert choice_score([-1.0, -INF], method, n_bytes=3) == -INF


def test_continuation_bytes_needs_bytes() -> None:
    with pytest.raises(ValueError, match="n_bytes must be given"):
        choice_score([-1.0], "continuation-bytes")
    assert math.isnan(choice_score([-1.0], "continuation-bytes", n_bytes=0))


def test_unknown_method_fails_on_no_tokens_too() -> None:
    with pytest.raises(ValueError, match="method must be one of 'continuation-sum'"):
        choice_score([], "sum")


def test_method_without_a_formula_is_refused_and_is_no_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Method("continuation-new", "cloze", "", True)
    monkeypatch.setattr(confidence, "METHODS", {**METHODS, row.name: row})
    with pytest.raises(ValueError, match="has a formula here; got 'continuation-new'"):
        choice_score([-1.0, -2.0], "continuation-new")


def test_pack_scores_pads_and_blanks_unusable_questions() -> None:
    rows = [[-1.0, -2.0, -3.0], [-1.0, -INF], [], [-INF, -INF], [-1.0, NAN], [-1.0, INF]]
    packed = pack_scores(rows)
    assert packed.shape == (6, 3)
    np.testing.assert_array_equal(packed[0], [-1.0, -2.0, -3.0])
    np.testing.assert_array_equal(packed[1], [-1.0, -INF, NAN])
    assert np.isnan(packed[2:]).all()


def test_pack_scores_of_nothing_keeps_two_dimensions() -> None:
    assert pack_scores([]).shape == (0, 1)
    assert pack_scores([[]]).shape == (1, 1)
    assert softmax_scores(pack_scores([])).shape == (0, 1)


def test_softmax_gives_zero_for_an_impossible_choice_and_keeps_absent_ones() -> None:
    probs = softmax_scores([[0.0, -INF, NAN], [NAN, NAN, NAN], [-INF, -INF, NAN], [0.0, INF, 0]])
    np.testing.assert_array_equal(probs[0], [1.0, 0.0, NAN])
    assert np.isnan(probs[1:]).all()


def test_softmax_survives_scores_far_from_zero() -> None:
    np.testing.assert_allclose(
        softmax_scores([[-1e5, -1e5 - math.log(3)]]), [[0.75, 0.25]], rtol=1e-9
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    scores=st.lists(st.floats(-800, 0), min_size=1, max_size=6),
    shift=st.floats(-100, 100),
)
def test_softmax_is_a_distribution_in_the_order_of_scores(
    scores: list[float], shift: float
) -> None:
    probs = softmax_scores([scores])[0]
    assert probs.sum() == pytest.approx(1.0)
    assert (np.diff(probs[np.argsort(scores)]) >= 0).all()
    np.testing.assert_allclose(softmax_scores([np.array(scores) + shift])[0], probs, atol=1e-12)


def test_usable_rows() -> None:
    table = [[-1.0, -2.0], [-1.0, NAN], [NAN, NAN], [-INF, -INF], [-1.0, INF], [-1.0, -INF]]
    assert usable_rows(table, [1, 1, 0, 0, 0, 1]).tolist() == [True, *[False] * 4, True]
    every = [[0.5, 0.5]] * 6
    gold: list[Any] = [0, 1, 2, -1, None, 0.5]
    assert usable_rows(every, gold).tolist() == [True, True, False, False, False, False]


def test_usable_rows_checks_shapes() -> None:
    with pytest.raises(ValueError, match="table must have 2 dimension"):
        usable_rows([0.5], [0])
    with pytest.raises(ValueError, match="table and gold must be equally long"):
        usable_rows([[0.5]], [0, 1])


def test_top_label_takes_the_first_of_equal_probabilities_among_present_choices() -> None:
    confidence, prediction = top_label([[NAN, 0.4, 0.4, 0.2], [0.1, 0.2, 0.7, NAN]])
    assert confidence.tolist() == [0.4, 0.7]
    assert prediction.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["A", "B"], True),
        ([" A", " B", " C", " D"], True),
        (["(A)", "(B)", "(C)"], True),
        (["A.", "B.", "C."], True),
        (["[a]", "[b]"], True),
        ([f"({letter})" for letter in "ABCDEFGHIJK"], True),  # eleven, as in BIG-Bench Hard
        (["B", "A"], False),
        (["B", "C", "D"], False),
        (["A", "C"], False),
        (["A cat", "B"], False),
        (["1", "2"], False),
        (["", ""], False),
        ([], False),
    ],
)
def test_letters_are_told_from_texts(choices: list[str], expected: bool) -> None:
    assert is_lettered(choices) is expected


def test_many_rows_are_those_of_their_parts() -> None:
    scores = np.random.default_rng(0).normal(size=(150_000, 3))
    scores[[0, 140_000], 1] = np.nan
    scores[70_000] = -np.inf
    whole = softmax_scores(scores)
    parts = [softmax_scores(part) for part in np.array_split(scores, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert np.isnan(whole[70_000]).all()
