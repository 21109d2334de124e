"""Logs written by real models and real lm-eval versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib_harness import load_predictions

SHARED = Path(__file__).parents[2].parent / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "logs").is_dir(), reason="needs real logs at ../shared/logs"
)


@needs_shared
def test_accuracy_of_thirty_models_equals_their_results_files() -> None:
    runs = load_predictions(SHARED / "logs" / "coane", cache=False)
    assert len(runs) == 30
    for run in runs:
        results = json.loads(next(Path(run.header.source).parent.glob("results_*")).read_text())
        assert run.header.method == "choice"
        assert run.header.n_shot == 2
        assert run.header.chat_template is False
        assert run.correct.mean() == results["results"]["coane_choice"]["acc,none"]
        assert results["model_name"] == run.header.model


@needs_shared
def test_every_pair_of_coane_is_among_the_models() -> None:
    models = {run.header.model for run in load_predictions(SHARED / "logs" / "coane", cache=False)}
    pairs = pd.read_csv(SHARED / "logs" / "coane" / "pairs.csv")
    assert models == {*pairs["base"], *pairs["aligned"]}


@needs_shared
def test_stock_cloze_log_gives_sum_and_bytes() -> None:
    folder = SHARED / "logs" / "sciq"
    by_sum, by_bytes = load_predictions(folder, cache=False)
    assert (by_sum.header.method, by_bytes.header.method) == (
        "continuation-sum",
        "continuation-bytes",
    )
    assert by_sum.header.model == "Qwen/Qwen2.5-1.5B-Instruct"
    assert by_sum.header.lm_eval_version == "0.4.12.dev0"
    assert by_sum.correct.mean() == 0.949
    # Independently of the reader: plain json, bytes of the continuation without its space.
    log = next(folder.rglob("samples_*.jsonl"))
    for row, line in enumerate(log.read_text(encoding="utf-8").splitlines()):
        entry = json.loads(line)
        logprobs = np.array([float(choice[0][0]) for choice in entry["resps"]])
        lengths = [len(a["arg_1"][1:].encode()) for a in entry["arguments"].values()]
        assert by_sum.scores[row].tolist() == logprobs.tolist()
        assert by_bytes.scores[row].tolist() == (logprobs / lengths).tolist()
        assert by_sum.gold[row] == 3
        assert by_sum.doc_hash[row] == entry["doc_hash"]
