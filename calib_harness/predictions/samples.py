"""Make small sample logs as lm-eval writes them, for examples and tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def write_example_log(
    folder: str | Path,
    *,
    model: str,
    task: str,
    n: int = 100,
    n_choices: int = 4,
    sharpness: float = 1.0,
    seed: int = 0,
    date: str = "2025-01-01T00-00-00.000000",
) -> None:
    """Write a sample log and a results file of an imaginary run under a choice prompt.

    Parameters
    ----------
    folder : str or Path
        The run's files go to a folder named after the model within it.
    model, task : str
    n, n_choices : int
    sharpness : float
        1 gives a calibrated model; more makes the same answers more confident.
    seed : int
    date : str
        Part of the file names.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_choices)) * 1.5
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = [int(rng.choice(n_choices, p=row)) for row in probs]
    scores = logits * sharpness
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    run = Path(folder) / model.replace("/", "__")
    run.mkdir(parents=True, exist_ok=True)
    lines = [_line(i, task, scores[i], gold[i]) for i in range(n)]
    (run / f"samples_{task}_{date}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    accuracy = float(np.mean(scores.argmax(axis=1) == gold))
    results: dict[str, Any] = {
        "results": {task: {"acc,none": accuracy}},
        "configs": {task: {"target_delimiter": " "}},
        "n-shot": {task: 0},
        "config": {"model": "hf", "model_args": {"pretrained": model}},
        "model_name": model,
        "chat_template": None,
    }
    file = run / f"results_{date}.json"
    if file.exists():  # another task of the same run
        earlier = json.loads(file.read_text(encoding="utf-8"))
        for name in ("results", "configs", "n-shot"):
            results[name] = earlier[name] | results[name]
    file.write_text(json.dumps(results), encoding="utf-8")


def _line(number: int, task: str, scores: np.ndarray, gold: int) -> str:
    doc = {"question": f"{task} {number}", "answer": gold}
    text = json.dumps(doc, indent=2, ensure_ascii=False)
    pairs = [[str(float(score)), "False"] for score in scores]
    return json.dumps(
        {
            "doc_id": number,
            "doc": doc,
            "target": str(gold),
            "arguments": {
                f"gen_args_{k}": {"arg_0": f"{task} {number}", "arg_1": f" {chr(65 + k)}"}
                for k in range(len(scores))
            },
            "resps": [[pair] for pair in pairs],
            "filtered_resps": pairs,
            "filter": "none",
            "metrics": ["acc"],
            "doc_hash": hashlib.sha256(text.encode()).hexdigest(),
            "acc": float(scores.argmax() == gold),
        }
    )
