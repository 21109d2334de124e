"""Runs of HELM: ``scenario_state.json`` holds every request with the tokens of its answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from calib_harness.predictions.columns import UnusableLogError
from calib_harness.predictions.foreign.scored import Question, confidences_of, contents_of
from calib_harness.predictions.headers import Log
from calib_harness.predictions.table import Header, LogContents

_SPACE_SIGNS = dict.fromkeys(map(ord, "▁Ġ"))
_SPACES = ("", " ", "▁", "Ġ")  # texts of the token of a space alone, as some tokenizers have it
_SEPARATE = "multiple_choice_separate_original"
_JOINT = "multiple_choice_joint"


def read_helm(log: Log) -> LogContents:
    """Read a run: scores of each reference, or of a joint prompt the answer's confidence.

    Raises
    ------
    UnusableLogError, OSError
        If it holds no log-probabilities, or is no multiple choice.
    """
    try:
        state = json.loads(log.file.read())
        adapter, requests = state["adapter_spec"], state["request_states"]
        header = _header(log, adapter)
        method = adapter["method"]
        if method == _SEPARATE:
            return contents_of(header, _separate(requests))
        if method == _JOINT:
            return _joint(header, requests)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableLogError(
            f"is named as a run of HELM and is not written as they are ({type(error).__name__} "
            f"{error})"
        ) from None
    raise UnusableLogError(
        f"is of HELM with the adapter {method}; what can be read is {_SEPARATE} and {_JOINT}"
    )


def helm_header(log: Log) -> Header:
    """Tell what was run by the folder's name, as far as it does."""
    folder = log.file.folder.rstrip("/").rpartition("/")[2]
    parts = folder.split(",")
    model = next((part for part in parts if part.startswith("model=")), "")
    task = [part for part in parts if not part.startswith(("model=", "method="))]
    return replace(
        log.header,
        model=model.removeprefix("model=") or log.header.model,
        task=",".join(task) or folder,
    )


def _header(log: Log, adapter: dict[str, Any]) -> Header:
    header = helm_header(log)
    return replace(
        header,
        model=str(adapter.get("model") or header.model),
        n_shot=adapter.get("max_train_instances"),
    )


def _references(state: dict[str, Any]) -> tuple[list[str], list[int]]:
    references = state["instance"]["references"]
    texts = [str(reference["output"]["text"]) for reference in references]
    return texts, [k for k, one in enumerate(references) if "correct" in (one.get("tags") or ())]


def _separate(states: list[dict[str, Any]]) -> list[Question]:
    """One request per reference; the reference's tokens are the last of the prompt's."""
    by_question: dict[Any, list[dict[str, Any]]] = {}
    for state in states:
        if state.get("request_mode") in (None, "original"):
            key = (state["instance"]["id"], state.get("train_trial_index", 0))
            by_question.setdefault(key, []).append(state)
    questions = []
    for (name, trial), own in by_question.items():
        texts, gold = _references(own[0])
        tokens: list[list[float]] = [[math.nan] for _ in texts]
        for state in own:
            k = state["reference_index"]
            tokens[k] = _last_tokens(state["result"]["completions"][0]["tokens"], texts[k])
        if not any(token for choice in tokens for token in choice):
            raise UnusableLogError("is of HELM and holds no log-probabilities (all are 0)")
        questions.append(
            Question(
                id=f"{name} {trial}",
                text=str(own[0]["instance"]["input"]["text"]),
                choices=[f" {text}" for text in texts],
                scores=[math.fsum(choice) for choice in tokens],
                gold=gold,
                tokens=tokens,
            )
        )
    return questions


def _last_tokens(tokens: list[dict[str, Any]], text: str) -> list[float]:
    """Log-probabilities of the tokens that end a prompt with `text` and the space before it.

    HELM counts them with the model's tokenizer. Here they are found by their characters but
    spaces, which some tokenizers write as signs of their own and others not at all.

    Raises
    ------
    UnusableLogError
        If the tokens do not end with the text, or one of them begins before it.
    """
    wanted, found = _bare(text), ""
    for n, token in enumerate(reversed(tokens), start=1):
        found = _bare(token["text"]) + found
        if found == wanted:
            space = n < len(tokens) and tokens[-n - 1]["text"] in _SPACES
            return [float(token["logprob"]) for token in tokens[-n - space :]]
        if not wanted.endswith(found):
            break
    raise UnusableLogError(
        "is of HELM and has a prompt whose last tokens are not those of its reference "
        f"{text[:40]!r}"
    )


def _bare(text: str) -> str:
    return "".join(text.split()).translate(_SPACE_SIGNS)


def _joint(header: Header, states: list[dict[str, Any]]) -> LogContents:
    """One request per question; the answer's letter was generated, and only it has a score."""
    ids, confidence, correct = [], [], []
    for state in states:
        completion = state["result"]["completions"][0]
        texts, gold = _references(state)
        mapping = state.get("output_mapping") or {}
        answer = mapping.get(str(completion["text"]).strip())
        ids.append(f"{state['instance']['id']} {state.get('train_trial_index', 0)}")
        logprob = float(completion["logprob"])
        confidence.append(math.exp(logprob) if answer is not None else math.nan)
        correct.append(
            float(answer in [texts[k] for k in gold]) if answer is not None else math.nan
        )
    if all(value == 1.0 for value in confidence if not math.isnan(value)):
        raise UnusableLogError("is of HELM and holds no log-probabilities of its answers")
    return confidences_of(header, ids, confidence, correct)
