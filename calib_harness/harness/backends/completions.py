"""Token log-probabilities from servers with an OpenAI-compatible completions endpoint.

A prompt is sent with `echo`, and the server tells the log-probability of each of its tokens. Who
ignores `echo`, adds a token or leaves one out answers all the same, with numbers of other tokens;
so every answer is counted, and nothing is scored before two known answers agree.

A vLLM also tells the log-probabilities of named next tokens, so that letters cost one request a
question and are read from its prefix cache; it is found out on the first question. Other choices
are, where the server was started so (`vllm_endpoint.py`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import (
    LocalCompletionsAPI,
    OpenAICompletionsAPI,
)
from tqdm import tqdm

from calib_harness.errors import UserError
from calib_harness.harness.backends.dispatch import confirm, score_tokens
from calib_harness.harness.backends.http_client import Client, each_as_it_comes
from calib_harness.harness.backends.known_answer import (
    SHORT,
    WRONG,
    KnownAnswer,
    choose_contexts,
    judge,
)
from calib_harness.harness.backends.other_prompts import n_left_to_server
from calib_harness.harness.backends.prompts import Prompt, make_prompts
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.backends.vllm_endpoint import VllmEndpoint, score_from_cache
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

Results = Iterator[tuple[int, TokenLogprobs]]
Answers: TypeAlias = list[tuple[int, TokenLogprobs]]

# Tokens that vLLM can be asked for in one request.
_MOST_TOKENS = 128

# OpenAI's own models that echo log-probabilities of a prompt.
_OPENAI_MODELS = ("babbage-002", "davinci-002")


@score_tokens.register(LocalCompletionsAPI)
def score_tokens_completions(lm: LocalCompletionsAPI, requests: Sequence[Instance]) -> Results:
    """Score requests on a completions endpoint; each answer comes as the server gives it.

    Raises
    ------
    UserError
        If the server refuses a request, stays away, or answers with other than the log-probability
        of each token of each prompt.
    """
    server = CompletionsServer(lm)
    prompts = make_prompts(lm, requests, longest=lm.max_length)
    # Long prompts first: time left is over- rather than underestimated.
    prompts.sort(key=lambda prompt: (-len(prompt.tokens), prompt.tokens))
    with tqdm(total=len(prompts), desc="Scoring", unit=" requests") as bar:
        for answers in _score(server, prompts):
            yield from answers
            bar.update(len(answers))


def _score(server: CompletionsServer, prompts: Sequence[Prompt]) -> Iterator[Answers]:
    """Score the letters of each question together, and the rest from the cache, if it can."""
    questions, others = _lettered(prompts)
    if questions:
        first, *rest = questions
        answers = [answer for prompt in first for answer in server.score([prompt])]
        yield answers
        if rest and server.names_tokens(first, answers):
            asked = each_as_it_comes(server.score_together, rest, concurrent=server.concurrent)
            yield from (together for _, together in asked)
        else:
            others += [prompt for question in rest for prompt in question]
    if endpoint := server.endpoint:
        others = yield from score_from_cache(
            endpoint, others, server.score, concurrent=server.concurrent
        )
    size = server.batch_size
    batches = [others[i : i + size] for i in range(0, len(others), size)]
    for _, answers in each_as_it_comes(server.score, batches, concurrent=server.concurrent):
        yield answers


def _lettered(prompts: Sequence[Prompt]) -> tuple[list[list[Prompt]], list[Prompt]]:
    """Return the prompts of one token that follow one context together, and the other prompts."""
    groups: dict[tuple[int, ...], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        if len(prompt.continuation) == 1:
            groups[tuple(prompt.context)].append(prompt)
    questions = [group for group in groups.values() if 1 < len(group) <= _MOST_TOKENS]
    together = {prompt.index for question in questions for prompt in question}
    return questions, [prompt for prompt in prompts if prompt.index not in together]


@confirm.register(LocalCompletionsAPI)
def confirm_completions(lm: LocalCompletionsAPI, requests: Sequence[Instance]) -> None:
    """Compare what a server says of the likeliest next tokens as it generates and as it echoes."""
    server = CompletionsServer(lm)
    answers = []
    for number, context in enumerate(choose_contexts(requests)):
        # Texts are sent whole: cut off inside a word they would be other tokens to the server.
        longest = SHORT if number and lm.tokenized_requests else lm.max_length
        tokens = list(lm.tok_encode(context))[-(longest - 1) :]
        for text, logprob in server.next_tokens(tokens).items():
            scored = [
                answer.logprob
                for prompt in _with_token_called(lm, context, text, tokens)
                for _, answer in server.score([prompt])
            ]
            if scored:
                nearest = min(scored, key=lambda value: abs(value - logprob))
                answers.append(KnownAnswer(text, logprob, nearest))
    judge(type(lm).__name__, answers)


def _with_token_called(lm: Any, context: str, text: str, tokens: list[int]) -> list[Prompt]:
    """Return a context's tokens with each that a server may call so: Llama 2's calls " A" "A".

    It is left out where the text joins the prompt, or is more than one token to us.
    """
    spellings = [text] if text[:1].isspace() else [text, f" {text}"]
    wholes = [list(lm.tok_encode(context + each))[-len(tokens) - 1 :] for each in spellings]
    return [Prompt(0, whole, len(tokens)) for whole in wholes if whole[:-1] == tokens]


class CompletionsServer:
    """A completions endpoint as lm-eval's backend addresses it."""

    def __init__(self, lm: LocalCompletionsAPI) -> None:
        if lm.tokenizer is None:
            raise UserError(
                "tokenizer_backend is None, but scoring needs a tokenizer to know where a choice "
                "begins; give tokenizer=NAME in the model's arguments"
            )
        if isinstance(lm, OpenAICompletionsAPI) and "openai.com" in lm.base_url:
            _check_openai_model(lm.model)
        self._lm = lm
        self._client = client_for(lm)
        # What a server that is sent texts may put in front of them: hf does.
        self._n_front = 0 if lm.tokenized_requests else n_left_to_server(lm)

    def next_tokens(self, tokens: list[int]) -> dict[str, float]:
        """Return the likeliest tokens after a prompt and their log-probabilities.

        Raises
        ------
        UserError
            If the server tells no log-probabilities.
        """
        payload = self._payload([tokens])
        payload.update(echo=False, logprobs=2, max_tokens=1)
        (choice,) = self._choices(self._client.post(payload), 1)
        logprobs = _logprobs(choice, self._client.url)
        top = (logprobs.get("top_logprobs") or [None])[-1]
        if isinstance(top, dict) and top:
            return {str(text): float(value) for text, value in top.items()}
        return {str(logprobs["tokens"][-1]): float(logprobs["token_logprobs"][-1])}

    @property
    def concurrent(self) -> int:
        """How many requests may be under way."""
        return int(self._lm._concurrent)

    @property
    def batch_size(self) -> int:
        """How many prompts go into one request."""
        return int(self._lm._batch_size)

    @property
    def endpoint(self) -> VllmEndpoint | None:
        """Where a vLLM reads prompts from its cache, unless the server cannot be one."""
        if not self._lm.tokenized_requests or "/v1/" not in self._lm.base_url:
            return None
        if "openai.com" in self._lm.base_url:
            return None
        return VllmEndpoint(self._client, self._lm.model)

    def names_tokens(self, question: Sequence[Prompt], expected: Answers) -> bool:
        """Say whether the server tells named next tokens, and as it has scored them before."""
        if not self._lm.tokenized_requests or "openai.com" in self._lm.base_url:
            return False
        try:
            found = self._told(question)
        except UserError:  # it refuses the unknown argument
            return False
        return found is not None and all(
            abs(one.logprob - other.logprob) <= WRONG
            for (_, one), (_, other) in zip(found, expected, strict=True)
        )

    def score_together(self, question: Sequence[Prompt]) -> Answers:
        """Score the choices of one question, a token each, in one request."""
        return self._told(question) or self.score(question)

    def _told(self, question: Sequence[Prompt]) -> Answers | None:
        """Ask vLLM for the log-probabilities of each choice's token; None if it does not tell."""
        wanted = sorted({prompt.continuation[0] for prompt in question})
        payload = self._payload([question[0].context])
        payload.update(
            echo=False,
            logprobs=len(wanted),
            logprob_token_ids=wanted,
            return_tokens_as_token_ids=True,
        )
        (choice,) = self._choices(self._client.post(payload), 1)
        logprobs = _logprobs(choice, self._client.url)
        top = (logprobs.get("top_logprobs") or [None])[-1] or {}
        if not all(f"token_id:{token}" in top for token in wanted):
            return None
        answers = []
        for prompt in question:
            name = f"token_id:{prompt.continuation[0]}"
            logprob = float(top[name])
            is_greedy = name == logprobs["tokens"][-1]
            answers.append((prompt.index, prompt.scored([logprob], is_greedy=is_greedy)))
        return answers

    def score(self, prompts: Sequence[Prompt]) -> Answers:
        """Score prompts in one request; return each one's index and result."""
        answer = self._client.post(self._payload([prompt.tokens for prompt in prompts]))
        choices = self._choices(answer, len(prompts))
        read = (answer.get("usage") or {}).get("prompt_tokens")
        sent = sum(len(prompt.tokens) for prompt in prompts)
        if read is not None and read not in (sent, sent + self._n_front * len(prompts)):
            raise WrongScoresError(
                f"model: the server at {self._client.url} read {read} tokens where {sent} were "
                f"sent; {self._mend(read > sent)}"
            )
        return [
            (prompt.index, self._read(prompt, choice))
            for prompt, choice in zip(prompts, choices, strict=True)
        ]

    def _payload(self, tokens: list[list[int]]) -> dict[str, Any]:
        lm = self._lm
        payload: dict[str, Any] = lm._create_payload(
            lm.create_message(tokens), generate=False, seed=lm._seed, eos=lm.eos_string
        )
        return payload

    def _choices(self, answer: Any, expected: int) -> list[dict[str, Any]]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or len(choices) != expected:
            found = len(choices) if isinstance(choices, list) else "no"
            raise WrongScoresError(
                f"model: the server at {self._client.url} gave {found} choices for {expected} "
                "prompts; is it a completions endpoint (…/v1/completions)?"
            )
        if expected == 1:
            return choices
        if sorted(choice.get("index", -1) for choice in choices) != list(range(expected)):
            raise WrongScoresError(
                f"model: the server at {self._client.url} does not say which of {expected} prompts "
                "each choice answers (index); use batch_size 1"
            )
        return sorted(choices, key=itemgetter("index"))

    def _read(self, prompt: Prompt, choice: dict[str, Any]) -> TokenLogprobs:
        logprobs = _logprobs(choice, self._client.url)
        values = logprobs["token_logprobs"]
        n = len(prompt.tokens)
        if len(values) not in (n + 1, n + 1 + self._n_front):
            raise WrongScoresError(
                f"model: the server at {self._client.url} gave log-probabilities of {len(values)} "
                f"tokens for a prompt of {n} and one generated; {self._mend(len(values) > n + 1)}"
            )
        start = len(values) - 1 - len(prompt.continuation)  # whatever the server put in front
        found = values[start:-1]
        if any(value is None for value in found):
            raise WrongScoresError(
                f"model: the server at {self._client.url} gave no log-probability (null) for "
                f"{sum(value is None for value in found)} of {len(found)} tokens of a choice"
            )
        tops = (logprobs.get("top_logprobs") or [])[start:-1]
        tokens = [float(value) for value in found]
        return prompt.scored(tokens, is_greedy=_is_greedy(tokens, tops))

    def _mend(self, more: bool) -> str:
        if not more:
            return (
                "it does not support `echo`, or leaves one out (llama-cpp-python does, of a model "
                "without BOS); use a server that does (docs/how-to/backends.md)"
            )
        if not self._lm.tokenized_requests:
            return (
                "it puts special tokens in front of texts; send tokens instead "
                "(tokenized_requests=True), or leave add_bos_token out"
            )
        return "it adds tokens to a prompt; use a server that does not (docs/how-to/backends.md)"


def client_for(lm: LocalCompletionsAPI) -> Client:
    """Return a client with the backend's address, key, time-out and number of tries.

    Raises
    ------
    UserError
        If the backend needs a key that is not set.
    """
    try:
        headers = lm.header
    except ValueError as error:  # lm-eval looks for the key only now
        raise UserError(
            f"model: {type(lm).__name__} cannot be asked: {error} Set it, as in "
            "`export OPENAI_API_KEY=KEY`, or give header in the model's arguments"
        ) from None
    return Client(
        lm.base_url,
        headers=headers,
        timeout=lm.timeout,
        tries=lm.max_retries,
        verify=lm.ca_cert_path or lm.verify_certificate,
    )


def _check_openai_model(model: str) -> None:
    if model not in _OPENAI_MODELS:
        raise UserError(
            f"model: OpenAI echoes a prompt's log-probabilities for {' and '.join(_OPENAI_MODELS)} "
            f"only, not for {model}; use openai-chat-completions and a choice task"
        )


def _logprobs(choice: Mapping[str, Any], url: str) -> dict[str, Any]:
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(logprobs, dict) or not isinstance(values, list) or not values:
        raise WrongScoresError(
            f"model: the server at {url} gives no token log-probabilities (logprobs is "
            f"{'null' if logprobs is None else 'of another form'}); start it so that it does, or "
            "use another (docs/how-to/backends.md)"
        )
    return logprobs


def _is_greedy(tokens: Sequence[float], tops: Sequence[Any]) -> bool:
    """Say whether each token is the likeliest where it stands, as lm-eval decides it."""
    return len(tops) == len(tokens) and all(
        isinstance(top, dict) and bool(top) and token >= max(top.values())
        for token, top in zip(tokens, tops, strict=True)
    )
