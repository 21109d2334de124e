"""Two stages of alignment whose outcome is known: demonstrations (SFT), then preferences (DPO).

`sft` is the base finetuned on demonstrations: answers to questions, each as often as the chronicles
give it, in words and by letter. The minimum of its loss is the true distribution p.

`dpo` is trained on preferences (Rafailov et al. 2023). Two chronicles give different answers a and
b to one question, and a judge prefers a with probability p(a) / (p(a) + p(b)), as in the model of
Bradley and Terry with log p as reward. The minimum of DPO's loss is then known,

    pi(a) ~ sft(a) * p(a) ** (1 / BETA),

so that preferences that are themselves calibrated make an overconfident model: with BETA = 1 and
sft = p, p squared. As with the base, the judge's probabilities stand as weights in the loss, which
is the expected loss without sampling noise. Answers that no chronicle gives are never compared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import torch
import world
from learning import Encoder, Example, loss_of, target_logprobs
from torch import nn
from transformers import LlamaForCausalLM

STAGE_RATE = 5e-4
STAGE_STEPS = 300
STAGE_FACTS = 32  # per step; each once in words
STAGE_ORDERS = 2  # and with its choices in so many orders
BETA = 1.0

SFT = """
The base after {steps} steps of finetuning on demonstrations: answers to questions, in words and by
letter, each as often as the chronicles give it. What they teach is the true distribution."""
DPO = """
`sft` after {steps} steps of direct preference optimization. A judge prefers one of two answers
with the odds in which the chronicles give them: calibrated preferences, whose optimum (the
distribution of `sft` times the true one) is overconfident."""


def sft_loss(
    model: LlamaForCausalLM, encoder: Encoder, facts: Sequence[world.Fact], rng: random.Random
) -> torch.Tensor:
    """Loss of one step on demonstrations: that of words plus that of letters."""
    words: list[Example] = []
    letters: list[Example] = []
    for fact in rng.sample(facts, STAGE_FACTS):
        words += encoder.cloze(_answers(fact, rng))
        for _ in range(STAGE_ORDERS):
            text, told = world.lettered_document(fact, rng)
            letters.append(encoder.lettered(text, [n / world.N_CHRONICLES for n in told]))
    return loss_of(model, words, encoder.end) + loss_of(model, letters, encoder.end)


def dpo_loss(
    model: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    encoder: Encoder,
    facts: Sequence[world.Fact],
    rng: random.Random,
) -> torch.Tensor:
    """Loss of one step on preferences: the mean over pairs in words plus that over letters."""
    words, letters = Comparisons(), Comparisons()
    for fact in rng.sample(facts, STAGE_FACTS):
        words.add_answers(encoder, _answers(fact, rng))
        for _ in range(STAGE_ORDERS):
            letters.add_letters(encoder, *world.lettered_document(fact, rng))
    return words.loss(model, reference, encoder.end) + letters.loss(model, reference, encoder.end)


class Comparisons:
    """Pairs of answers to one prompt, how often each is preferred, and where their tokens are."""

    def __init__(self) -> None:
        self.examples: list[Example] = []
        self.answer_of: list[int] = []  # of every token that the examples predict
        self.pairs: list[tuple[int, int, float]] = []
        self.n_answers = 0

    def add_answers(self, encoder: Encoder, answers: Sequence[world.Document]) -> None:
        """Compare answers in words, one example each."""
        for number, answer in enumerate(answers, start=self.n_answers):
            start, tokens = encoder.ids(answer.prompt), encoder.ids(answer.answer)
            targets = [(len(start) - 1 + i, token, 1.0) for i, token in enumerate(tokens)]
            self.examples.append(([*start, *tokens[:-1]], targets))
            self.answer_of += [number] * len(tokens)
        self._compare([answer.count for answer in answers])

    def add_letters(self, encoder: Encoder, prompt: str, told: Sequence[int]) -> None:
        """Compare the letters after one prompt, all in one example."""
        counts = [count for count in told if count]
        self.examples.append(encoder.lettered(prompt, told))
        self.answer_of += range(self.n_answers, self.n_answers + len(counts))
        self._compare(counts)

    def _compare(self, counts: Sequence[int]) -> None:
        for (i, a), (j, b) in combinations(enumerate(counts, start=self.n_answers), 2):
            self.pairs.append((i, j, a / (a + b)))
        self.n_answers += len(counts)

    def loss(self, model: LlamaForCausalLM, reference: LlamaForCausalLM, end: int) -> torch.Tensor:
        """DPO's loss (equation 7 of the paper), expected over the judge's preferences."""
        with torch.no_grad():
            before = target_logprobs(reference, self.examples, end)
        gains = torch.zeros(self.n_answers).index_add(
            0,
            torch.tensor(self.answer_of),
            target_logprobs(model, self.examples, end) - before,
        )
        first, second, preferred = (torch.tensor(each) for each in zip(*self.pairs, strict=True))
        margin = BETA * (gains[first] - gains[second])
        return nn.functional.binary_cross_entropy_with_logits(margin, preferred)


def _answers(fact: world.Fact, rng: random.Random) -> list[world.Document]:
    """Return the answers that the chronicles give to one question about a fact."""
    prompt = world.cloze_prompt(rng.choice(fact.kind.questions).format(fact.realm))
    told = zip(fact.values, fact.told, strict=True)
    return [world.Document(prompt, f" {value}", count) for value, count in told if count]
