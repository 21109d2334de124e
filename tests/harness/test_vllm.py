"""vLLM by a stand-in of its engine that keeps a prefix cache, garbage before it and all.

Real vLLM is tried by scripts/test-backends.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from types import ModuleType, SimpleNamespace

import pytest

import calib_harness.harness  # noqa: F401 registers the request type
from calib_harness.errors import UserError
from calib_harness.paths import toy_world_path
from tests.harness.echo_server import EchoServer

TOY = f"{toy_world_path()}/models/base"
PLACES = ("Arden", "Belmar", "Corvo", "Dunmere", "Elba", "Farholt")
CHOICES = (" A", " B", " the old king of Arden", " the old king", " the old queen of Belmar")
REQUESTS = [
    SimpleNamespace(
        args=(f"Question: Who is the ruler of {place}?\nAnswer:", choice), task_name="t", doc_id=i
    )
    for i, place in enumerate(PLACES)
    for choice in CHOICES
]
BLOCK = 4  # tokens of a block of the stand-in's cache


class SamplingParams:
    __struct_fields__ = (
        *("temperature", "max_tokens", "detokenize", "logprobs", "prompt_logprobs"),
        *("logprob_token_ids", "skip_reading_prefix_cache"),
    )

    def __init__(self, **wanted):
        assert wanted.keys() <= set(self.__struct_fields__)
        for name in self.__struct_fields__:
            setattr(self, name, wanted.get(name))


@pytest.fixture(scope="module")
def vllm_class():
    """lm-eval's class for vLLM, imported over a package `vllm` that has names only."""
    fakes = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    fakes["vllm.tokenizers"] = ModuleType("vllm.tokenizers")
    fakes["vllm"].LLM, fakes["vllm"].SamplingParams = object, SamplingParams
    fakes["vllm"].TokensPrompt = lambda prompt_token_ids: prompt_token_ids
    fakes["vllm.lora.request"].LoRARequest = object
    fakes["vllm.tokenizers"].get_tokenizer = None
    real_version = importlib.metadata.version
    ours = ("lm_eval.models.vllm_causallms", "calib_harness.harness.backends.vllm_engine")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in fakes.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(
            importlib.metadata, "version", lambda n: "0.8.0" if n == "vllm" else real_version(n)
        )
        module = importlib.import_module(ours[0])
        importlib.import_module(ours[1])
        yield module.VLLM
        for name in ours:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def toy():
    return EchoServer(TOY)


@pytest.fixture(scope="module")
def expected(toy):
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=TOY, device="cpu", batch_size=8, dtype="float32", add_bos_token=False)
    return lm.token_loglikelihood(REQUESTS)


class Engine:
    """Answers as `vllm.LLM.generate` does; `fault` makes it lie."""

    def __init__(self, toy, fault="", caches=True):
        self.toy, self.fault = toy, fault
        self.blocks, self.asked = set(), []
        cache = SimpleNamespace(enable_prefix_caching=caches)
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(cache_config=cache),
            model_config=SimpleNamespace(dtype="torch.float32", max_model_len=256),
        )

    def generate(self, prompts, sampling_params, use_tqdm, lora_request):
        return [
            self.one(tokens, params)
            for tokens, params in zip(prompts, sampling_params, strict=True)
        ]

    def one(self, tokens, params):
        skips = params.skip_reading_prefix_cache
        if skips is None:
            skips = params.prompt_logprobs is not None
        whole = range(BLOCK, len(tokens), BLOCK)
        cached = 0 if skips else max([n for n in whole if tuple(tokens[:n]) in self.blocks] or [0])
        self.blocks.update(tuple(tokens[:n]) for n in whole)
        self.asked.append((len(tokens), cached, params))
        rows = self.toy.logprobs(tokens)
        told = None
        if params.prompt_logprobs is not None:
            told = [None] + [self.row(rows[i - 1], tokens[i]) for i in range(1, len(tokens))]
            for i in range(1, cached + 1):  # left as they lie in memory
                told[i] = {tokens[i]: SimpleNamespace(logprob=-0.5, rank=1)}
            if self.fault == "shifted":
                told = [None, None, *told[1:-1]]
            if self.fault == "cache" and cached:
                told[-1] = {tokens[-1]: SimpleNamespace(logprob=-9.0, rank=1)}
        ids = params.logprob_token_ids or rows[-1].topk(params.logprobs or 1).indices.tolist()
        next_row = {token: self.row(rows[-1], token)[token] for token in ids}
        said = SimpleNamespace(token_ids=[int(rows[-1].argmax())], logprobs=[next_row])
        return SimpleNamespace(outputs=[said], prompt_logprobs=told, num_cached_tokens=cached)

    def row(self, row, token):
        rank = int((row > row[token]).sum()) + 1
        return {token: SimpleNamespace(logprob=float(row[token]), rank=rank)}


def backend(vllm_class, engine, **settings):
    from lm_eval.api.model import CacheHook

    lm = vllm_class.__new__(vllm_class)
    defaults = {
        "model": engine,
        "tokenizer": engine.toy.tokenizer,
        "add_bos_token": False,
        "_max_length": None,
        "data_parallel_size": 1,
        "batch_size": "auto",
        "lora_request": None,
        "enable_thinking": None,
        "custom_prefix_token_id": None,
        "cache_hook": CacheHook(None),
        "_rank": 0,
        "_world_size": 1,
    }
    for name, value in {**defaults, **settings}.items():
        setattr(lm, name, value)
    return lm


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.is_greedy == other.is_greedy


@pytest.mark.parametrize("caches", [True, False], ids=["prefix cache", "no prefix cache"])
def test_token_log_probabilities_are_those_of_hf(vllm_class, toy, expected, caches):
    engine = Engine(toy, caches=caches)
    assert_equal(backend(vllm_class, engine).token_loglikelihood(REQUESTS), expected)


def test_what_the_cache_reached_too_far_into_is_asked_again(vllm_class, toy, expected):
    engine = Engine(toy)
    lm = backend(vllm_class, engine)
    lm.token_loglikelihood(REQUESTS)
    engine.asked.clear()
    # Everything is cached now, far into the continuations: garbage wherever it is believed.
    assert_equal(lm.token_loglikelihood(REQUESTS), expected)
    assert any(params.skip_reading_prefix_cache is None for *_, params in engine.asked)


def test_letters_of_a_question_cost_one_request(vllm_class, toy):
    engine = Engine(toy)
    letters = [request for request in REQUESTS if len(request.args[1]) == 2]
    backend(vllm_class, engine).token_loglikelihood(letters)
    asked_for_letters = [
        params for *_, params in engine.asked if params.logprob_token_ids and params.logprobs == 2
    ]
    assert len(asked_for_letters) == len(PLACES) + 2  # and one for each prompt with a known answer


def test_a_cache_that_changes_numbers_is_left_alone(vllm_class, toy, expected, caplog):
    engine = Engine(toy, fault="cache")
    assert_equal(backend(vllm_class, engine).token_loglikelihood(REQUESTS), expected)
    assert "other log-probabilities when it reads its prefix cache" in caplog.text


def test_log_probabilities_of_other_tokens_are_refused(vllm_class, toy):
    with pytest.raises(UserError, match="those of other tokens than asked for"):
        backend(vllm_class, Engine(toy, fault="shifted")).token_loglikelihood(REQUESTS)


def test_a_context_too_long_is_cut_off_as_lm_eval_does(vllm_class, toy, caplog):
    engine = Engine(toy)
    long = SimpleNamespace(args=("the king of Arden " * 100, " A"), task_name="t", doc_id=9)
    backend(vllm_class, engine).token_loglikelihood([long, *REQUESTS])
    assert "longer than the model's maximum of 255 tokens" in caplog.text
    assert max(n for n, *_ in engine.asked) <= 255


def test_a_model_that_thinks_first_is_refused(vllm_class, toy):
    lm = backend(vllm_class, Engine(toy), enable_thinking=True)
    with pytest.raises(UserError, match="enable_thinking must be off"):
        lm.token_loglikelihood(REQUESTS)


def test_replicas_are_started_once_to_score(vllm_class, toy, expected):
    calls = []
    engine = Engine(toy)
    lm = backend(vllm_class, engine, data_parallel_size=2, _max_length=256)
    lm._model_generate = lambda requests, generate, sampling_params: (
        calls.append(len(requests)) or engine.generate(requests, sampling_params, False, None)
    )
    assert_equal(lm.token_loglikelihood(REQUESTS), expected)
    assert len(calls) <= 5  # the probe's, and one each for letters and the others
