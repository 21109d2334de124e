"""The one checked value for probabilities and gold."""

from __future__ import annotations

import numpy as np
import pytest

from calib_harness.core.answers import Answers, Choices

NAN = float("nan")


def test_what_is_read_off_answers_is_what_a_reader_would_say() -> None:
    answers = Answers.of([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.9, 0.1, NAN]], [1, 1, 0])
    assert answers.confidence.tolist() == [0.5, 0.4, 0.9]
    assert answers.prediction.tolist() == [1, 0, 0]
    assert answers.correct.tolist() == [1.0, 0.0, 1.0]
    assert answers.at_gold.tolist() == [0.5, 0.4, 0.9]
    assert len(answers) == 3


def test_a_row_without_probabilities_is_wrong_even_where_gold_is_missing() -> None:
    # -1 stands for no prediction and for no gold: the two must not count as equal.
    answers = Answers.of([[NAN, NAN], [0.6, 0.4]], [-1, -1], allow_unusable=True)
    assert answers.correct.tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(answers.confidence, [NAN, 0.6])


def test_the_door_names_the_bad_row() -> None:
    with pytest.raises(ValueError, match="row 1 has gold 2"):
        Answers.of([[0.5, 0.5], [0.5, 0.5]], [0, 2])
    with pytest.raises(ValueError, match="row 0 is all NaN"):
        Choices.checked([[NAN, NAN]])
