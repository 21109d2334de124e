"""Logs written here and now by the installed lm-eval: our tasks and stock ones."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib_harness import METHODS, load_predictions, metrics_frame
from tests.conftest import CHOICE, CLOZE

METRICS = ["acc", "ece", "sce", "brier_score", "nll"]


@pytest.fixture
def write_logs(
    evaluate: Callable[..., Any], make_lm: Callable[..., Any], tmp_path: Path
) -> Callable[[str, str], Path]:
    """Return a function that evaluates a tiny model on a task and writes lm-eval's files."""

    def write(name: str, yaml: str) -> Path:
        from lm_eval.loggers import EvaluationTracker

        tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
        results = evaluate(make_lm(), yaml, name=name, evaluation_tracker=tracker, log_samples=True)
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        tracker.save_results_samples(task_name=name, samples=samples[name])
        return tmp_path / "out"

    return write


def reported(folder: Path, task: str) -> dict[str, Any]:
    results = json.loads(next(folder.rglob("results_*.json")).read_text())
    return dict(results["results"][task])


@pytest.mark.parametrize(
    ("yaml", "methods"),
    [(CLOZE, ["continuation-sum", "continuation-min"]), (CHOICE, ["choice"])],
    ids=["cloze", "choice"],
)
def test_our_task_log_gives_back_the_reported_numbers(
    write_logs: Callable[[str, str], Path], yaml: str, methods: list[str]
) -> None:
    if yaml is CHOICE:
        yaml += "filter_list: [{name: choice, filter: [{function: choice}]}]\n"
    folder = write_logs("toy", yaml)
    runs = load_predictions(folder, cache=False)
    expected = [m.name for m in METHODS.values() if m.prompt == METHODS[methods[0]].prompt]
    assert [run.header.method for run in runs] == expected
    assert runs[0].scores.shape == (24, 5)
    assert runs[0].header.lm_eval_version is not None
    results = reported(folder, "toy")
    frame = metrics_frame(runs, metrics=METRICS, n_resamples=0)
    checked = 0
    for row in frame.itertuples():
        if row.method in methods:
            assert row.value == pytest.approx(results[f"{row.metric},{row.method}"], abs=1e-12)
            checked += 1
    assert checked == len(METRICS) * len(methods)


def test_stock_task_log_gives_back_its_accuracies(write_logs: Callable[[str, str], Path]) -> None:
    stock = CLOZE.replace("class: !function calib_harness.CalibrationTask\n", "")
    metrics = ", ".join(f"{{metric: {name}}}" for name in ("acc", "acc_bytes"))
    folder = write_logs("toy", stock + f"metric_list: [{metrics}]\n")
    by_sum, by_bytes = load_predictions(folder, cache=False)
    results = reported(folder, "toy")
    assert by_sum.correct.mean() == pytest.approx(results["acc,none"], abs=1e-12)
    assert by_bytes.correct.mean() == pytest.approx(results["acc_bytes,none"], abs=1e-12)
    # And the questions are those of our task on the same data: the same hashes.
    ours = load_predictions(write_logs("ours", CLOZE), tasks=["ours"], cache=False)[0]
    assert ours.doc_hash.tolist() == by_sum.doc_hash.tolist()
    np.testing.assert_allclose(ours.scores, by_sum.scores, atol=1e-4)


@pytest.mark.parametrize("early_name", ["samples_toy.json", "samples_toy.jsonl"])
def test_our_log_in_the_early_layout_reads_alike(
    write_logs: Callable[[str, str], Path], tmp_path: Path, early_name: str
) -> None:
    folder = write_logs("toy", CLOZE)
    recent = next(folder.rglob("samples_*.jsonl")).read_text(encoding="utf-8").splitlines()
    entries = [as_early(json.loads(line)) for line in recent]
    (tmp_path / "early").mkdir()
    text = json.dumps(entries, indent=2, ensure_ascii=False)
    (tmp_path / "early" / early_name).write_text(text, encoding="utf-8")
    early, original = (load_predictions(p, cache=False) for p in (tmp_path / "early", folder))
    assert len(early) == len(original) == 4
    for one, other in zip(early, original, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.gold, other.gold)
        assert one.doc_hash.tolist() == other.doc_hash.tolist()


def as_early(entry: dict[str, Any]) -> dict[str, Any]:
    """Numbers as numbers, arguments as nested lists, no hashes."""
    numbers = {key: unquote(entry[key]) for key in ("resps", "filtered_resps", "target")}
    arguments = [list(argument.values()) for argument in entry["arguments"].values()]
    kept = {key: entry[key] for key in ("doc_id", "doc", "filter", "acc")}
    return kept | numbers | {"arguments": arguments}


def unquote(value: Any) -> Any:
    return [unquote(v) for v in value] if isinstance(value, list) else ast.literal_eval(value)
