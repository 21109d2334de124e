"""A question whose answer is known: what a model has just generated must be likely.

Servers that answer 200 with plausible, wrong log-probabilities were met in the wild: off by one
token, of the generated token only, of a prompt with one token more. None of them gives what it
generates greedily the largest log-probability of all continuations.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from calib_harness.errors import UserError
from calib_harness.harness.backends.sums import failing_in_a_sentence, without_cache
from calib_harness.harness.responses import TokenLogprobs
from calib_harness.harness.seam import new_request

logger = logging.getLogger(__name__)

Score = Callable[[LM, Sequence[Instance]], Iterator[tuple[int, TokenLogprobs]]]

#: Prompts of the task that are asked. Some say nothing: after them no whole text is generated.
N_PROMPTS = 4

#: Tokens that need be left of all such prompts but the first: with shots, a whole prompt costs as
#: much as many questions whose prefix is shared.
SHORT = 128

#: Differences of log-probabilities that half precision explains, and of such as it does not:
#: between them a run goes on and says so. A wrong position differs by nats.
ROUNDING, WRONG = 0.02, 0.5

# Stands where a generated token is no whole character.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What a text must fall behind another to be less likely than it: ties in half precision.
_BEHIND = 0.1


def choose_contexts(requests: Sequence[Instance], n: int = N_PROMPTS) -> list[Any]:
    """Take some distinct contexts from all over the requests, none of them empty."""
    distinct = list(dict.fromkeys(request.args[0] for request in requests if request.args[0]))
    step = max(1, len(distinct) // n)
    return distinct[::step][:n]


def confirm_by_generation(lm: LM, requests: Sequence[Instance], score: Score) -> None:
    """Have a backend generate a text greedily, and see whether it scores that text best.

    Needs no knowledge of the backend: `generate_until` and the log-probabilities of its own text,
    of other texts, and of the task's choices.

    Raises
    ------
    UserError
        If none of the generated texts comes out as the likeliest one.
    """
    contexts = choose_contexts(requests)
    with without_cache(lm):
        said = _generate(lm, contexts)
        if said is None:
            return
        probes = [
            _Probe(context, text, _others(context, text, said, requests))
            for context, text in zip(contexts, said, strict=True)
            if text.strip() and _REPLACEMENT not in text
        ]
        if not probes:
            _unconfirmed(lm, "it generates nothing after the task's prompts")
            return
        answers = _score(lm, [pair for probe in probes for pair in probe.pairs], score)
    faults = [fault for probe in probes if (fault := probe.fault(answers)) is not None]
    if len(faults) == len(probes) == 1:
        _unconfirmed(lm, faults[0])
    elif len(faults) == len(probes):
        raise UserError(
            f"model: the log-probabilities of backend {type(lm).__name__} cannot be right: "
            f"{faults[0]}. Its server or its version reports those of other tokens than asked "
            "for; nothing was scored. Update it, or use another backend"
        )


@dataclass(frozen=True)
class KnownAnswer:
    """One token after one prompt, asked in two ways.

    Attributes
    ----------
    token : str
        What it is called in a message.
    generated : float
        Its log-probability as that of the next token to be generated.
    scored : float
        Its log-probability as a part of the prompt.
    """

    token: str
    generated: float
    scored: float


def judge(backend: str, answers: Sequence[KnownAnswer]) -> None:
    """Compare what a backend says of the same tokens in two ways.

    Raises
    ------
    UserError
        If they differ by more than any rounding.
    """
    if not answers:
        logger.warning(
            "The log-probabilities of backend %s could not be confirmed by a known answer: after "
            "the task's prompts it generates no token that can be asked for again.",
            backend,
        )
        return
    worst = max(answers, key=lambda answer: distance(answer.generated, answer.scored))
    difference = distance(worst.generated, worst.scored)
    if difference > WRONG:
        raise UserError(
            f"model: the log-probabilities of backend {backend} cannot be right: of "
            f"{worst.token!r} after a prompt of the task it says {worst.generated:.4f} when it "
            f"generates and {worst.scored:.4f} when it is asked to score; nothing was scored. Its "
            "server or its version reports those of other tokens than asked for: update it, or use "
            "another backend"
        )
    if difference > ROUNDING:
        logger.warning(
            "Backend %s gives log-probabilities to %.2g only: so much do its own answers to the "
            "same question differ.",
            backend,
            difference,
        )
    else:
        logger.info(
            "Backend %s: %d known answers agree to %.1e.", backend, len(answers), difference
        )


def distance(one: float, other: float) -> float:
    """Return the difference of two log-probabilities; infinity if one is NaN."""
    difference = abs(one - other)
    return 0.0 if one == other else math.inf if math.isnan(difference) else difference


@dataclass(frozen=True)
class _Probe:
    """One prompt, what was generated after it, and other continuations of it."""

    context: Any
    said: str
    others: Sequence[str]

    @property
    def variants(self) -> list[str]:
        # Some tokenizers drop a text's leading space when they decode it.
        return [self.said] if self.said[:1].isspace() else [self.said, f" {self.said}"]

    @property
    def pairs(self) -> list[tuple[Any, str]]:
        return [(self.context, text) for text in (*self.variants, *self.others)]

    def fault(self, answers: dict[tuple[Any, str], TokenLogprobs]) -> str | None:
        """Say what is wrong with the answers; None if they can be right."""
        own = [answers[self.context, text] for text in self.variants]
        best = max(own, key=lambda answer: _comparable(answer.logprob))
        others = [answers[self.context, text].logprob for text in self.others]
        quoted = repr(self.said[:40])
        if math.isnan(best.logprob):
            return f"it has none for {quoted}, which it had generated itself"
        if others and all(value == best.logprob for value in others):
            return f"every continuation of a prompt has the same, {best.logprob:.4f}"
        if others and max(map(_comparable, others)) > best.logprob + _BEHIND:
            return (
                f"of {quoted}, which it had generated greedily, it is {best.logprob:.4f}, less "
                f"than of another text ({max(map(_comparable, others)):.4f})"
            )
        if not any(answer.is_greedy for answer in own):
            return f"it says that greedy decoding does not give {quoted}, which it had generated so"
        return None


def _generate(lm: LM, contexts: Sequence[Any]) -> list[str] | None:
    """Generate a token after each context; None if the backend does not."""
    arguments = {"until": ["\n\n\n\n"], "max_gen_toks": 1, "do_sample": False, "temperature": 0}
    instances = [new_request("generate_until", (c, dict(arguments)), c) for c in contexts]
    try:
        with failing_in_a_sentence(lm):
            said = lm.generate_until(instances)
    except NotImplementedError:
        _unconfirmed(lm, "it does not generate text")
        return None
    if len(said) != len(contexts):
        _unconfirmed(lm, f"it generated {len(said)} texts for {len(contexts)} prompts")
        return None
    return [text or "" for text in said]


def _score(
    lm: LM, pairs: Iterable[tuple[Any, str]], score: Score
) -> dict[tuple[Any, str], TokenLogprobs]:
    """Score pairs as a task's requests are scored, one question for each context."""
    distinct = list(dict.fromkeys(pairs))
    instances = [new_request("loglikelihood", pair, pair[0]) for pair in distinct]
    found = dict(score(lm, instances))
    nothing = TokenLogprobs(math.nan, False, None)
    return {pair: found.get(index, nothing) for index, pair in enumerate(distinct)}


def _others(
    context: Any, said: str, all_said: Sequence[str], requests: Sequence[Instance]
) -> list[str]:
    """Continuations that are not the generated text: the task's choices, and other prompts' texts.

    What the generated text begins with is left out: it is at least as likely.
    """
    choices = [request.args[1] for request in requests if request.args[0] == context]
    texts = dict.fromkeys([*choices, *all_said])
    return [text for text in texts if text.strip() and not said.strip().startswith(text.strip())]


def _comparable(logprob: float) -> float:
    return -math.inf if math.isnan(logprob) else logprob


def _unconfirmed(lm: LM, reason: str) -> None:
    logger.warning(
        "The log-probabilities of backend %s could not be confirmed by a known answer: %s.",
        type(lm).__name__,
        reason,
    )
