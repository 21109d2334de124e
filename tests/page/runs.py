"""Runs to make pages of: two families, two tasks, five methods, and names that mean harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.predictions.entries import entry, write_run

#: Methods that the tests look at; logs of the texts hold more.
METHODS = ("choice", "continuation-sum", "continuation-min")
HOSTILE = [
    "<script>window.hacked = 1</script>\"'>",
    "</script><img src=x onerror='window.hacked=2'>",
    "left \u202eright-to-left\u2066 \u200f marks",
    "long/" + "y" * 10_000,
    "%{x} <b>bold</b> &lt; $x^2$ {{template}} a_b#c~d\\e--f\x01",
]
FAMILIES = {"Ash": ("ash", "ash-chat"), "Birch": ("birch", "birch-chat"), "Cedar": ("c", "c-chat")}
N = 60


def write_runs(folder: Path) -> Path:
    """Write the ordinary runs and their pairs.csv; returns the folder of logs."""
    logs = folder / "logs"
    for i, (base, aligned) in enumerate(FAMILIES.values()):
        for model, sharpness in ((base, 1.0), (aligned, 2.0 + i)):
            skill = 2.5 if model == "c-chat" else 0.0
            write_model(logs, f"org/{model}", seed=i, sharpness=sharpness, skill=skill)
    lines = [f"{family},org/{b},org/{a}" for family, (b, a) in FAMILIES.items()]
    (folder / "pairs.csv").write_text("\n".join(["family,base,aligned", *lines]))
    return logs


def write_model(
    logs: Path,
    model: str,
    *,
    seed: int,
    sharpness: float,
    skill: float = 0.0,
    folder: str = "",
    chat_template: str | None = None,
) -> None:
    """Write one model's logs: a choice prompt (4 or 5 choices), and two cloze tasks.

    The choice prompt's gold gets `skill` on top of what its logit says.
    """
    for task, date in (("letters", 1), ("texts", 2), ("phrases", 3)):
        rng = np.random.default_rng([seed, date])
        cloze = task != "letters"
        entries = [
            _question(number, rng, sharpness, 0.0 if cloze else skill, cloze=cloze)
            for number in range(N)
        ]
        log = write_run(
            logs,
            entries,
            model=folder or model,
            task=task,
            date=f"2025-03-0{date}T05-06-07.890123",
            model_name=model,
            versions={task: "2.5"},
            configs={
                task: {
                    "target_delimiter": " ",
                    "doc_to_text": "Q: {{question}}</script><script>window.hacked=3</script>",
                }
            },
            transformers_version="5.0.1",
            chat_template=chat_template,
        )
        assert log.exists()


def _question(
    number: int, rng: np.random.Generator, sharpness: float, skill: float, *, cloze: bool
) -> dict:
    width = 4 + number % 2
    logits = rng.normal(size=width) * 1.5
    gold = int(rng.choice(width, p=np.exp(logits) / np.exp(logits).sum()))
    logits[gold] += skill
    scores = logits * sharpness
    scores = scores - np.log(np.exp(scores).sum())
    if not cloze:
        return entry(number, scores.tolist(), gold)
    texts = [f"option {k} of {number}" for k in range(width)]
    tokens = [[score * 0.7, score * 0.3] for score in scores.tolist()]
    return entry(number, scores.tolist(), gold, texts=texts, tokens=tokens)


def write_hostile_runs(folder: Path) -> Path:
    """Write runs of models whose names would break a careless page, and pairs of them."""
    logs = folder / "hostile"
    for i, name in enumerate(HOSTILE):
        write_model(logs, name, seed=0, sharpness=1.0 + i, folder=f"model{i}")
    return logs
