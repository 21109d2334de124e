"""Sample logs as the various versions of lm-eval write them, from a few numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DATE = "2025-03-04T05-06-07.890123"


def entry(
    number: int,
    logprobs: list[float],
    target: Any,
    *,
    texts: list[str] | None = None,
    tokens: list[list[float] | None] | None = None,
    name: str = "none",
    question: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return what lm-eval holds in memory for one question before it writes a log."""
    texts = texts or list("ABCDEFGHIJ"[: len(logprobs)])
    doc = {"question": question or f"What is {number}?", "choices": texts}
    prompt = f"Question: {doc['question']}\nAnswer:"
    responses: list[list[Any]] = [[score, False] for score in logprobs]
    if tokens is not None:
        responses = [[*pair, own] for pair, own in zip(responses, tokens, strict=True)]
    as_json = json.dumps(doc, indent=2, ensure_ascii=False)
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": [[prompt, f" {text}"] for text in texts],
        "resps": [[response] for response in responses],
        "filtered_resps": [response[:2] for response in responses],
        "filter": name,
        "metrics": ["acc"],
        "doc_hash": hashlib.sha256(as_json.encode()).hexdigest(),
    } | more


def recent(entries: list[dict[str, Any]]) -> str:
    """As lm-eval 0.4.13 writes them: JSON lines, numbers as strings, arguments as mappings."""
    return "".join(json.dumps(_stringify(e), ensure_ascii=False) + "\n" for e in entries)


def early(entries: list[dict[str, Any]]) -> str:
    """As early 0.4 wrote them: one indented array, numbers as numbers, no hash, no filter."""
    plain = [
        {key: value for key, value in e.items() if key not in ("doc_hash", "filter", "metrics")}
        for e in entries
    ]
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _stringify(e: dict[str, Any]) -> dict[str, Any]:
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": text for j, text in enumerate(argument)}
        for i, argument in enumerate(e["arguments"])
    }
    numbers = {key: _strings(e[key]) for key in ("resps", "filtered_resps")}
    return e | numbers | {"arguments": arguments, "target": str(e["target"])}


def _strings(value: Any) -> Any:
    return [_strings(item) for item in value] if isinstance(value, list) else str(value)


def write_run(
    folder: Path,
    entries: list[dict[str, Any]],
    *,
    model: str = "org/model",
    task: str = "toy",
    date: str = DATE,
    **results: Any,
) -> Path:
    """Write a recent log and its results file; returns the log."""
    run = folder / model.replace("/", "__")
    run.mkdir(parents=True, exist_ok=True)
    content = {
        "results": {task: {}},
        "configs": {task: {"target_delimiter": " "}},
        "n-shot": {task: 0},
        "config": {"model_args": {"pretrained": model}},
        "model_name": model,
        "chat_template": None,
        "lm_eval_version": "0.4.13",
    } | results
    (run / f"results_{date}.json").write_text(json.dumps(content))
    log = run / f"samples_{task}_{date}.jsonl"
    log.write_text(recent(entries), encoding="utf-8")
    return log


ENTRIES = [
    entry(0, [-1.0, -2.0, -3.0], 0),
    entry(1, [-3.0, -0.5, -2.0], 2),
    entry(2, [-0.25, -2.0], 1),
]
