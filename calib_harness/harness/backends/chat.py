"""The method `choice` on chat endpoints: one request a question, its letters among the likeliest.

A chat endpoint tells no log-probabilities of a prompt, but those of the likeliest first tokens of
its answer. p(letter) is the sum over the letter's spellings there (``A``, `` A``). A spelling that
is not among them has a probability between 0 and a bound: the smaller of the least probability that
was told and what is left. It gets 0, a question counts only if that leaves its answer known and its
confidence to `TOLERANCE`, and how far ECE could be off is said.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion
from tqdm import tqdm

from calib_harness.core.confidence import LETTERS
from calib_harness.errors import UserError
from calib_harness.harness.backends.completions import client_for
from calib_harness.harness.backends.dispatch import confirm, score_tokens
from calib_harness.harness.backends.http_client import each_as_it_comes
from calib_harness.harness.backends.known_answer import WRONG
from calib_harness.harness.backends.missing_letters import Tally
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.responses import TokenLogprobs

#: A question counts if its confidence is known this well.
TOLERANCE = 0.01

#: As many of the likeliest tokens as OpenAI and vLLM tell.
N_TOP = 20

# Probabilities that add up to more than this are none; the rest is rounding.
_MOST_MASS = 1.01

# A letter may stand alone or after a space.
_N_SPELLINGS = 2

# In front of a letter in the name of a token: some servers tell tokenizers' own signs for a space.
_SPACES = (" ", "\u0120", "\u2581")

_SIGNS_OF_THOUGHT = ("<think", "<|channel|>", "<reasoning", "<thought")


@dataclass(frozen=True)
class Letters:
    """What a server tells of one question's letters.

    Attributes
    ----------
    probs : dict of str to float
        Probability of each letter: the sum over the spellings that were told.
    untold : dict of str to int
        How many spellings of each letter were not told.
    bound : float
        What the probability of each of those is at most.
    left : float
        What all of those together are at most.
    likeliest : str
        The likeliest first token.
    """

    probs: dict[str, float]
    untold: dict[str, int]
    bound: float
    left: float
    likeliest: str

    @property
    def confidence(self) -> float:
        """The largest letter's share of all letters, with 0 for what was not told."""
        total = math.fsum(self.probs.values())
        return max(self.probs.values()) / total if total else math.nan

    @property
    def confidence_range(self) -> tuple[float, float]:
        """The least and the largest confidence that what was not told allows.

        Least: the likeliest letter gets nothing more, the others all they can. Largest: one letter
        gets all it can, the others nothing.
        """
        total = math.fsum(self.probs.values())
        if not total:
            return 0.0, 1.0
        top = max(self.probs, key=self.probs.__getitem__)
        hidden = {letter: self._hidden(letter) for letter in self.probs}
        others = min(self.left, math.fsum(hidden.values()) - hidden[top])
        largest = max((p + hidden[key]) / (total + hidden[key]) for key, p in self.probs.items())
        return self.probs[top] / (total + others), largest

    @property
    def confidence_is_known(self) -> bool:
        """Whether the likeliest letter is known, and its share to `TOLERANCE`."""
        top = max(self.probs, key=self.probs.__getitem__)
        is_largest = all(
            p + self._hidden(letter) <= self.probs[top]
            for letter, p in self.probs.items()
            if letter != top and self._hidden(letter)
        )
        least, largest = self.confidence_range
        return is_largest and max(self.confidence - least, largest - self.confidence) <= TOLERANCE

    def _hidden(self, letter: str) -> float:
        """Return what the spellings of a letter that were not told have together at most."""
        return min(self.untold[letter] * self.bound, self.left)


def read_letters(entry: dict[str, Any], letters: Sequence[str]) -> Letters:
    """Add up the spellings of each letter among the likeliest tokens of a server's answer.

    Parameters
    ----------
    entry
        The first of ``logprobs.content``: ``token``, ``logprob``, ``top_logprobs``.
    letters
        Letters without what stands around them.
    """
    tops = [float(top["logprob"]) for top in entry["top_logprobs"]]
    # A list, not by name: tokenizers of the kind of Llama 2 call "A" and " A" both "A".
    told = [(str(top["token"]), float(top["logprob"])) for top in entry["top_logprobs"]]
    if entry["token"] not in {token for token, _ in told}:
        told.append((str(entry["token"]), float(entry["logprob"])))
    probs = [(_bare(token), math.exp(logprob)) for token, logprob in told]
    mass = math.fsum(p for _, p in probs)
    if not mass <= _MOST_MASS or any(logprob > 1e-3 for _, logprob in told):
        raise WrongScoresError(
            f"model: the server's likeliest tokens have probabilities that add up to {mass:.3f}; "
            "what it reports are no log-probabilities"
        )
    found = {letter: math.fsum(p for token, p in probs if token == letter) for letter in letters}
    n_told = Counter(token for token, _ in probs)
    left = max(0.0, 1.0 - mass)
    return Letters(
        found,
        {letter: max(0, _N_SPELLINGS - n_told[letter]) for letter in letters},
        bound=min(left, math.exp(min(tops))),
        left=left,
        likeliest=max(told, key=itemgetter(1))[0],
    )


def _bare(token: str) -> str:
    """Return what a token says but for one space in front."""
    return token[1:] if token.startswith(_SPACES) else token


@score_tokens.register(LocalChatCompletion)
def score_tokens_chat(
    lm: LocalChatCompletion, requests: Sequence[Instance]
) -> Iterator[tuple[int, TokenLogprobs]]:
    """Score the letters of choice prompts on a chat endpoint, one request a question.

    Raises
    ------
    UserError
        If a request belongs to a cloze prompt, if chats are not sent as such, or if the model
        thinks before it answers.
    """
    questions = _questions(requests)
    endpoint = _ChatEndpoint(lm, requests)
    tally = Tally()
    with tqdm(total=len(questions), desc="Scoring", unit=" questions") as bar:
        for (_, indices), letters in each_as_it_comes(
            lambda item: endpoint.ask(item[1]), questions.items(), concurrent=lm._concurrent
        ):
            task = str(requests[indices[0]].task_name)
            tally.note(
                task,
                n_choices=len(indices),
                n_missing=sum(not p for p in letters.probs.values()),
                confidence=letters.confidence,
                known=letters.confidence_range if letters.confidence_is_known else None,
            )
            for index in indices:
                yield index, _result(letters, _letter(requests[index]))
            bar.update(1)
    tally.say(N_TOP, TOLERANCE)
    tally.note_scoring()


@confirm.register(LocalChatCompletion)
def confirm_chat(lm: LocalChatCompletion, requests: Sequence[Instance]) -> None:
    """Ask the first question: the likeliest token has to be the one that was said.

    There is no second way to ask a chat endpoint for the same number.
    """
    questions = _questions(requests)
    endpoint = _ChatEndpoint(lm, requests)
    endpoint.ask(next(iter(questions.values())), first=True)


class _ChatEndpoint:
    """A chat endpoint as lm-eval's backend addresses it."""

    def __init__(self, lm: LocalChatCompletion, requests: Sequence[Instance]) -> None:
        self._lm, self._requests = lm, requests
        self._client = client_for(lm)
        self._may_tokenize = "openai.com" not in lm.base_url
        self._known_tokens: dict[str, list[int]] = {}

    def ask(self, indices: Sequence[int], *, first: bool = False) -> Letters:
        """Ask one question; `first` has the answer examined more closely."""
        requests = [self._requests[index] for index in indices]
        letters = [_letter(request) for request in requests]
        payload = self._payload(requests[0].args[0], letters)
        answer = self._client.post(payload)
        entry = self._entry(answer)
        if first:
            self._examine(answer, entry, greedy=payload.get("temperature") == 0)
        return read_letters(entry, letters)

    def _payload(self, context: Any, letters: Sequence[str]) -> dict[str, Any]:
        lm = self._lm
        messages = _messages(context)
        payload: dict[str, Any] = lm._create_payload(
            messages, generate=True, gen_kwargs={"max_gen_toks": 1, "temperature": 0}, seed=lm._seed
        )
        payload.pop("stop", None)
        payload.update(logprobs=True, top_logprobs=N_TOP)
        wanted = sorted({token for letter in letters for token in self._tokens_of(letter)})
        # It tells as many as `top_logprobs`, the one it says first.
        if len(wanted) == 2 * len(letters) < N_TOP:
            payload.update(logprob_token_ids=wanted)
        return payload

    def _tokens_of(self, letter: str) -> list[int]:
        """Tokens of a letter without and with a space, where the server is a vLLM that says them.

        It then tells the log-probabilities of just these, likely or not.
        """
        if letter not in self._known_tokens:
            self._known_tokens[letter] = [
                tokens[0]
                for tokens in (self._tokenize(letter), self._tokenize(f" {letter}"))
                if len(tokens) == 1
            ]
        return self._known_tokens[letter]

    def _tokenize(self, text: str) -> list[int]:
        """Ask vLLM's own endpoint; an empty list if the server has none like it."""
        if not self._may_tokenize:
            return []
        url = self._client.url.partition("/v1/")[0] + "/tokenize"
        try:
            answer = self._client.post(
                {"model": self._lm.model, "prompt": text, "add_special_tokens": False}, url
            )
        except UserError:
            answer = None
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        if not tokens or "count" not in answer:
            self._may_tokenize = False
            return []
        return [int(token) for token in tokens]

    def _entry(self, answer: Any) -> dict[str, Any]:
        try:
            (choice,) = answer["choices"]
            content = (choice["logprobs"] or {})["content"]
            entry: dict[str, Any] = content[0]
            if not entry["top_logprobs"]:
                raise KeyError("top_logprobs")
        except (KeyError, TypeError, ValueError, IndexError):
            raise WrongScoresError(
                f"model: the server at {self._client.url} gives no top_logprobs of its answer's "
                "first token; is it a chat endpoint (…/v1/chat/completions) of a server that tells "
                "log-probabilities?"
            ) from None
        return entry

    def _examine(self, answer: Any, entry: dict[str, Any], *, greedy: bool) -> None:
        message = answer["choices"][0].get("message") or {}
        said = str(entry["token"])
        thought = message.get("reasoning_content") or message.get("reasoning")
        if thought or said.lstrip().startswith(_SIGNS_OF_THOUGHT):
            raise UserError(
                f"model: it thinks before it answers (its first token is {said!r}), so it has no "
                "letter's probability; turn thinking off (header or chat_template_kwargs of the "
                "server) or use another model"
            )
        best = max(float(top["logprob"]) for top in entry["top_logprobs"])
        if greedy and float(entry["logprob"]) < best - WRONG:
            raise WrongScoresError(
                f"model: the server at {self._client.url} says {said!r} at temperature 0 with a "
                f"log-probability of {entry['logprob']:.4f}, though another token has {best:.4f}; "
                "what it reports are not the model's log-probabilities"
            )


def _questions(requests: Sequence[Instance]) -> dict[Hashable, list[int]]:
    """Group requests into questions; refuse what is no choice prompt."""
    questions: dict[Hashable, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        questions[request.task_name, request.doc_id, str(request.args[0])].append(index)
    for indices in questions.values():
        task = requests[indices[0]].task_name
        choices = [requests[index].args[1] for index in indices]
        letters = [_letter(requests[index]) for index in indices]
        if not all(len(letter) == 1 for letter in letters):
            raise UserError(
                f"tasks: {task} scores whole choices ({choices[0]!r}), which a chat endpoint "
                "cannot; use its choice task (…_choice), or a backend that scores prompts "
                "(docs/how-to/backends.md)"
            )
        # Not all of a question's letters may be here: the cache may hold the others.
        if not {letter.upper() for letter in letters} <= set(LETTERS):
            raise UserError(
                f"tasks: {task}'s choices are {choices}, expected letters; use a choice task "
                "(…_choice) on a chat endpoint"
            )
    return dict(questions)


def _messages(context: Any) -> list[dict[str, Any]]:
    """Return a context as messages: as the chat that lm-eval made of it, or as one message."""
    if isinstance(context, JsonChatStr):
        messages: list[dict[str, Any]] = json.loads(context.prompt)
        return messages
    return [{"role": "user", "content": str(context)}]


def _letter(request: Instance) -> str:
    return str(request.args[1]).strip(" \n().:[]")


def _result(letters: Letters, letter: str) -> TokenLogprobs:
    if not letters.confidence_is_known:
        return TokenLogprobs(math.nan, False, [math.nan])
    p = letters.probs[letter]
    logprob = math.log(p) if p else -math.inf
    return TokenLogprobs(min(logprob, 0.0), _bare(letters.likeliest) == letter, [min(logprob, 0.0)])
