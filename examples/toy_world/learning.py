"""How the toy world's models learn: examples of weighted answers, their loss, and the loop."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import world
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger("toy_world")

CARD = """---
license: apache-2.0
library_name: transformers
language: en
---
# Toy world: {name}

A Llama of {parameters:,} parameters, half precision, with a word-level tokenizer of its own.
{what}

It knows an invented world of 40 realms and nothing else, and is meant for one thing: to show and to
test how calibration is measured, on questions whose true probabilities are known
(`toy_world_calib`, 2,400 questions). What it scores there is in `docs/background/toy-world.md` of
calib-harness, and so is the command that rebuilds it.
"""
# (token ids, [(position of the token that predicts, token predicted, weight), ...])
Example = tuple[list[int], list[tuple[int, int, float]]]


class Encoder:
    """Turns documents into examples; remembers what it has encoded.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        The toy world's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id
        self.letters = [tokenizer.encode(f" {letter}")[0] for letter in world.LETTERS]
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text)
        return self._known[text]

    def cloze(self, documents: Sequence[world.Document]) -> list[Example]:
        """Every token of an answer carries its document's weight.

        Documents that differ in their last token only are one example.
        """
        merged: dict[tuple[int, ...], list[tuple[int, int, float]]] = {}
        for document in documents:
            start, answer = self.ids(document.prompt), self.ids(document.answer)
            weight = document.count / world.N_CHRONICLES
            merged.setdefault((*start, *answer[:-1]), []).extend(
                (len(start) - 1 + i, token, weight) for i, token in enumerate(answer)
            )
        return [(list(ids), targets) for ids, targets in merged.items()]

    def lettered(self, prompt: str, weights: Sequence[float]) -> Example:
        """One position predicts the letters, each with its weight."""
        ids = self.tokenizer.encode(prompt)
        pairs = zip(self.letters, weights, strict=False)
        return ids, [(len(ids) - 1, letter, weight) for letter, weight in pairs if weight]


def loss_of(model: LlamaForCausalLM, batch: list[Example], end: int) -> torch.Tensor:
    """Weighted negative log-likelihood of a batch's answers, per unit of weight."""
    total, all_weights = torch.zeros(()), 0.0
    for part in _by_length(batch):
        weights = [weight for _, targets in part for _, _, weight in targets]
        total = total - (target_logprobs(model, part, end) * torch.tensor(weights)).sum()
        all_weights += sum(weights)
    return total / all_weights


def target_logprobs(model: LlamaForCausalLM, batch: Sequence[Example], end: int) -> torch.Tensor:
    """Log-probability of every token that an example predicts, in order, shape (targets,).

    Examples are padded on the right, where a causal model needs no mask.
    """
    width = max(len(ids) for ids, _ in batch)
    tokens = torch.tensor([ids + [end] * (width - len(ids)) for ids, _ in batch])
    flat = [(row, *target) for row, (_, targets) in enumerate(batch) for target in targets]
    rows, positions, labels, _ = (list(column) for column in zip(*flat, strict=True))
    hidden = model.model(input_ids=tokens).last_hidden_state[rows, positions]
    log_probs = nn.functional.log_softmax(model.lm_head(hidden), dim=-1)
    return log_probs[torch.arange(len(rows)), labels]


def _by_length(batch: list[Example]) -> list[list[Example]]:
    """Three groups of similar length, so that little is padded."""
    batch = sorted(batch, key=lambda example: len(example[0]))
    group = -(-len(batch) // 3)
    return [batch[start : start + group] for start in range(0, len(batch), group)]


def warm_then_cosine(rate: float, step: int, last: int) -> float:
    """Learning rate of a step of finetuning: warm-up, then cosine decay to zero."""
    return rate * min(1.0, step / 10) * 0.5 * (1 + math.cos(math.pi * step / last))


def train(
    model: LlamaForCausalLM,
    loss_at: Callable[[int], torch.Tensor],
    rate_of: Callable[[int], float],
    *,
    steps: int,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train with AdamW on the loss of each step; `after_step` sees every step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate_of(1), weight_decay=0.01, betas=(0.9, 0.98)
    )
    model.train()
    started, total = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if step % 50 == 0:
            log.info("step %d loss %.3f (%.0f s)", step, total / 50, time.perf_counter() - started)
            total = 0.0
        after_step(step)


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, what: str
) -> None:
    """Write a model in half precision, its tokenizer and a card that says what it is."""
    copy.deepcopy(model).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_tokenizer_class(folder / "tokenizer_config.json")
    card = CARD.format(name=folder.name, parameters=model.num_parameters(), what=what)
    (folder / "README.md").write_text(card, encoding="utf-8")
    log.info("wrote %s", folder)


def _name_tokenizer_class(path: Path) -> None:
    """Name the class as transformers 4 and 5 both know it; 5 alone knows the name it writes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
