"""Values of public reference libraries, in ../shared/golden/metrics.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib_harness as ch

PATH = Path(__file__).parents[2].parent / "shared" / "golden" / "metrics.json"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason=f"{PATH} is not there")

# Expectation -> metric and options, per kind of input. Numbers of bins are the golden's keys.
ON_PAIRS: dict[str, dict[str, Any]] = {
    "ece_uniform": {},
    "ece_equal_mass": {"binning": "equal_mass"},
    "rms_uniform": {"norm": "l2"},
    "rms_debiased": {"norm": "l2", "debias": True},
    "rms_debiased_equal_mass": {"norm": "l2", "debias": True, "binning": "equal_mass"},
    "mce_uniform": {"norm": "max"},
}
ON_PAIRS_AS_CHOICES: dict[str, str] = {
    "overconfidence_signed": "overconfidence",
    "auroc": "auroc",
    "aurc_mean": "aurc",
}
ON_CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "ece_uniform": ("ece", {}),
    "sce": ("sce", {}),
    "ace": ("ace", {}),
    "tace_0.1": ("tace", {"threshold": 0.1}),
    "sce_ova_accuracy": ("sce_ova", {}),
    "brier_multiclass": ("brier_score", {}),
    "nll": ("nll", {}),
}
# Not metrics of ours as they stand; each has a test of its own below.
APART = {"brier_binary", "e_aurc", "temperature"}


def golden() -> dict[str, Any]:
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def pairs(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "D_long":
        i = np.arange(200)
        confidence = 0.25 + 0.75 * (i + 0.5) / 200
        correct = (np.modf(i * 0.6180339887498949)[0] < 0.30 + 0.5 * confidence).astype(int)
        assert correct.sum() == 123
        return confidence, correct
    data = golden()[name]
    return np.array(data["confidence"]), np.array(data["correct"])


def as_choices(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make choice 0 the prediction: the rest is spread thinly over eleven others."""
    others = np.repeat((1 - confidence)[:, None] / 11, 11, axis=1)
    return np.column_stack([confidence, others]), np.where(correct == 1, 0, 1)


# The golden smECE is relplot's, which counts the ends of its reflected grid once: ours is to the
# definition, by the dense quadrature of `naive.smece` with 200,000 strips.
SMECE = {"A_interior": 0.08489221, "C_multiclass": 0.13070018, "D_long": 0.09382016}


def cases() -> list[Any]:
    found = []
    for data, content in golden().items():
        if data == "about":
            continue
        for expectation, values in content["expect"].items():
            if expectation.startswith("smece"):
                continue
            for key, value in values.items():
                if key == "value" or key.isdigit():
                    found.append(pytest.param(data, expectation, key, value))
    return found


@pytest.mark.parametrize(("data", "expectation", "key", "value"), cases())
def test_value_of_reference_library(data: str, expectation: str, key: str, value: float) -> None:
    options = {"n_bins": int(key)} if key.isdigit() else {}
    if expectation in APART:
        got = APART_VALUES[expectation](data)
    elif data == "C_multiclass":
        name, extra = ON_CHOICES[expectation]
        content = golden()[data]
        got = ch.METRICS[name].function(content["probs"], content["gold"], **options, **extra)
    elif expectation in ON_PAIRS:
        got = ch.calibration_error(*pairs(data), **options, **ON_PAIRS[expectation])
    else:
        metric = ch.METRICS[ON_PAIRS_AS_CHOICES[expectation]]
        got = metric.function(*as_choices(*pairs(data)))
    assert got == pytest.approx(value, rel=1e-6, abs=1e-9)


def brier_of_pairs(data: str) -> float:
    confidence, correct = pairs(data)
    both = np.column_stack([confidence, 1 - confidence])
    return ch.brier_score(both, 1 - correct) / 2  # two choices count the same gap twice


def excess_aurc(data: str) -> float:
    """Subtract the AURC of the same answers ranked perfectly."""
    confidence, correct = pairs(data)
    best = as_choices(np.sort(confidence), np.sort(correct))
    return ch.aurc(*as_choices(confidence, correct)) - ch.aurc(*best)


def temperature(data: str) -> float:
    content = golden()[data]
    scores = np.log(content["probs"])
    fitted = ch.fit_temperature(scores, content["gold"])
    at_optimum = ch.nll(ch.apply_temperature(scores, fitted), content["gold"])
    expected = content["expect"]["temperature"]["nll_at_optimum"]
    assert at_optimum == pytest.approx(expected, rel=1e-6)
    return fitted


APART_VALUES = {
    "brier_binary": brier_of_pairs,
    "e_aurc": excess_aurc,
    "temperature": temperature,
}


@pytest.mark.parametrize(("data", "expected"), SMECE.items())
def test_smece_of_the_golden_inputs(data: str, expected: float) -> None:
    if data == "C_multiclass":
        found = ch.smece(golden()[data]["probs"], golden()[data]["gold"])
    else:
        found = ch.smece(*as_choices(*pairs(data)))
    assert found == pytest.approx(expected, abs=1e-6)
