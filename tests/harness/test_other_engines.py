"""llama.cpp's server and SGLang, each by a stand-in that computes what the real one returns."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

import calib_harness.harness  # noqa: F401 registers the request type
from calib_harness.errors import UserError
from calib_harness.paths import toy_world_path
from tests.harness.echo_server import EchoServer
from tests.harness.letter_model import LetterModel

TOY = f"{toy_world_path()}/models/base"
REQUESTS = [
    SimpleNamespace(
        args=(f"Question: What is the ruler of {place}?\nAnswer:", choice), task_name="t", doc_id=i
    )
    for i, place in enumerate(("Arden", "Belmar", "Corvo"))
    for choice in (" A", " B", " the old king of Arden")
]


@pytest.fixture(scope="module")
def running():
    with EchoServer(TOY) as server:
        yield server


@pytest.fixture
def server(running):
    running.fault, running.n, running.count = "", 0, 0
    running.seen.clear()
    return running


@pytest.fixture(scope="module")
def expected():
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=TOY, device="cpu", batch_size=8, dtype="float32", add_bos_token=False)
    return lm.token_loglikelihood(REQUESTS)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.is_greedy == other.is_greedy
        assert one.truncated == other.truncated == 0


@pytest.fixture
def llama(server, monkeypatch):
    from lm_eval.models.gguf import GGUFLM

    encode = server.encode
    monkeypatch.setattr(server, "encode", lambda text, special=False: encode(text))
    return GGUFLM(base_url=server.base)


def test_llama_cpp_tells_each_token_by_forced_decoding(llama, server, expected):
    assert_equal(llama.token_loglikelihood(REQUESTS), expected)
    n_tokens = sum(len(result.token_logprobs) for result in expected)
    # One request a token at most; the letters of a question share one.
    assert server.count - sum(1 for _ in REQUESTS) * 2 <= n_tokens + 3 + 4 * 4


def test_a_token_without_probability_is_no_number_on_llama_cpp(llama, server, monkeypatch):
    def told(body):
        answer = EchoServer.llama(server, body)
        (entry,) = answer["completion_probabilities"]
        if body.get("logit_bias"):  # JSON knows no infinity: the server writes its lowest number
            entry["logprob"] = -3.4028234663852886e38
        return answer

    monkeypatch.setattr(server, "llama", told)
    from calib_harness.harness.backends.llama_cpp import score_tokens_llama_cpp

    found = list(score_tokens_llama_cpp(llama, REQUESTS[2:3]))
    assert [result.logprob for _, result in found] == [-math.inf]


def test_a_llama_cpp_that_ignores_the_bias_is_refused(llama, server):
    server.fault = "ignores_bias"
    with pytest.raises(UserError, match="ignores logit_bias"):
        llama.token_loglikelihood(REQUESTS)


class Engine:
    """Returns what SGLang's `Engine.generate` returns, from `logprob_start_len` on."""

    def __init__(self, server, fault=""):
        self.server, self.fault, self.starts = server, fault, []

    def generate(
        self, input_ids, sampling_params, return_logprob, top_logprobs_num=0, logprob_start_len=None
    ):
        starts = logprob_start_len or [len(tokens) - 1 for tokens in input_ids]
        self.starts += starts
        return [self.one(tokens, start) for tokens, start in zip(input_ids, starts, strict=True)]

    def one(self, tokens, start):
        rows = self.server.logprobs(tokens)
        given = [(None, tokens[start], None)] + [
            (float(rows[i - 1][tokens[i]]), tokens[i], None) for i in range(start + 1, len(tokens))
        ]
        tops = [None] + [
            [(float(rows[i - 1].max()), int(rows[i - 1].argmax()), None)]
            for i in range(start + 1, len(tokens))
        ]
        if self.fault == "shifted":
            given = given[:-1]
        said = int(rows[-1].argmax())
        return {
            "text": "",
            "meta_info": {
                "input_token_logprobs": given,
                "input_top_logprobs": tops,
                "output_token_logprobs": [(float(rows[-1].max()), said, None)],
            },
        }


def sglang(server, fault=""):
    from lm_eval.api.model import CacheHook
    from lm_eval.models.sglang_causallms import SGLangLM

    lm = SGLangLM.__new__(SGLangLM)
    lm.model = Engine(server, fault)
    lm.tokenizer, lm.add_bos_token, lm._max_length = server.tokenizer, False, 256
    lm.custom_prefix_token_id, lm.cache_hook = None, CacheHook(None)
    return lm


def test_sglang_tells_each_token_and_computes_no_shots_twice(server, expected):
    lm = sglang(server)
    assert_equal(lm.token_loglikelihood(REQUESTS), expected)
    n_context = len(server.encode(REQUESTS[0].args[0]))
    assert n_context - 1 in lm.model.starts
    assert 0 not in lm.model.starts


def test_an_sglang_that_tells_of_other_tokens_is_refused(server):
    with pytest.raises(UserError, match="those of other tokens"):
        sglang(server, "shifted").token_loglikelihood(REQUESTS)


@pytest.mark.parametrize(
    "name", ["AnthropicChat", "LiteLLMChatCompletion", "HFMultimodalLM", "VLLM_VLM"]
)
def test_a_backend_without_log_probabilities_of_choices_is_refused_by_name(name):
    derived = type("Derived", (type(name, (LetterModel,), {}),), {})()
    with pytest.raises(UserError, match=f"{name} cannot be measured: ") as refused:
        derived.token_loglikelihood(REQUESTS)
    assert "\n" not in str(refused.value)
    assert derived.n_scored == 0


def test_greedy_is_what_the_model_says(server):
    context = REQUESTS[0].args[0]
    best = int(server.logprobs(server.encode(context))[-1].argmax())
    said = SimpleNamespace(args=(context, server.tokenizer.decode([best])), task_name="t", doc_id=0)
    (result,) = sglang(server).token_loglikelihood([said])
    assert result.is_greedy == (server.encode(context + said.args[1])[-1] == best)
