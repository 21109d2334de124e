"""Completions servers: the same numbers as hf, and every fault met is refused or survived."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from lm_eval.api.model import CachingLM
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from calib_harness.errors import UserError
from calib_harness.harness.backends import http_client
from calib_harness.paths import toy_world_path
from tests.harness.echo_server import BOS, EchoServer

TOY = f"{toy_world_path()}/models/base"
CONTEXTS = [
    f"Question: What is the {thing} of {place}?\nAnswer:"
    for thing in ("capital", "ruler")
    for place in ("Arden", "Belmar", "Corvo", "Dunmere", "Elba")
]
REQUESTS = [
    SimpleNamespace(args=(context, choice), task_name="toy", doc_id=i)
    for i, context in enumerate(CONTEXTS)
    for choice in (" A", " B", " the old king of Arden", " Belmar")
]


@pytest.fixture(scope="module")
def running():
    with EchoServer(TOY) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.fault, running.n, running.count, running.is_vllm = "", 0, 0, False
    running.scale_out, running.tells_cached = False, True
    running.seen.clear()
    running.forget_cache()
    monkeypatch.setattr(http_client, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(
        http_client.Client.__init__,
        "__kwdefaults__",
        {
            **http_client.Client.__init__.__kwdefaults__,
            "first_wait": 0.01,
        },
    )
    return running


@pytest.fixture(scope="module")
def expected():
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=TOY, device="cpu", batch_size=8, dtype="float32")
    return lm.token_loglikelihood(REQUESTS)


def backend(server, **settings):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    return LocalCompletionsAPI(
        base_url=f"{server.base}/v1/completions",
        model=TOY,
        tokenizer_backend="huggingface",
        max_length=256,
        **settings,
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_concurrent": 4}, {"batch_size": 3}, {"tokenized_requests": False}],
    ids=["one by one", "concurrent", "batched", "as strings"],
)
def test_token_log_probabilities_are_those_of_hf(server, expected, settings):
    found = backend(server, **settings).token_loglikelihood(REQUESTS)
    for one, other in zip(found, expected, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.truncated == other.truncated == 0
        assert one.is_greedy == other.is_greedy


def test_a_server_whose_tokenizer_drops_spaces_is_confirmed(server, expected, caplog):
    server.fault = "strips"
    with caplog.at_level(logging.WARNING):
        found = backend(server).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    assert "could not be confirmed" not in caplog.text


def test_what_was_cut_off_a_prompt_is_in_its_result(server):
    context, choice = CONTEXTS[0], " A"
    lm = backend(server)
    whole = len(lm.tok_encode(context + choice))
    lm.max_length = whole - 2
    (found,) = lm.token_loglikelihood(
        [SimpleNamespace(args=(context, choice), task_name="t", doc_id=0)]
    )
    assert found.truncated == 2


def test_answers_in_an_unknown_order_are_refused(server, monkeypatch):
    def completions(body):
        answer = EchoServer.completions(server, body)
        return {**answer, "choices": [{**c, "index": 0} for c in answer["choices"]]}

    monkeypatch.setattr(server, "completions", completions)
    with pytest.raises(UserError, match="does not say which of 3 prompts"):
        backend(server, batch_size=3).token_loglikelihood(REQUESTS)


@pytest.mark.parametrize("concurrent", [1, 3])
def test_letters_of_a_question_cost_a_vllm_one_request(server, expected, concurrent):
    server.is_vllm = True
    found = backend(server, num_concurrent=concurrent).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    assert [r.is_greedy for r in found] == [r.is_greedy for r in expected]
    assert [len(r.token_logprobs) for r in found] == [len(r.token_logprobs) for r in expected]
    named = sum(count for what, count in server.seen.items() if what.startswith("named"))
    assert named == len(CONTEXTS)  # the first question is asked in both ways


def test_a_vllm_whose_named_tokens_are_others_is_asked_plainly(server, expected):
    server.is_vllm, server.fault = True, "named_off"
    found = backend(server).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    assert sum(count for what, count in server.seen.items() if what.startswith("named")) == 1


def cached(server):
    return [what for what in server.seen if what.startswith("cached")]


@pytest.mark.parametrize("concurrent", [1, 3])
def test_choices_of_several_tokens_are_read_from_a_vllms_cache(server, expected, concurrent):
    server.is_vllm = server.scale_out = True
    found = backend(server, num_concurrent=concurrent).token_loglikelihood(REQUESTS)
    for one, other in zip(found, expected, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
        assert one.is_greedy == other.is_greedy
    several = [r for r in expected if len(r.token_logprobs) > 1]
    assert len(cached(server)) == len(several)


def test_what_the_cache_reached_too_far_into_is_asked_again(server, expected):
    server.is_vllm = server.scale_out = True
    several = [i for i, r in enumerate(expected) if len(r.token_logprobs) > 1]
    for _ in range(2):  # the second time, all blocks are in the cache
        found = backend(server).token_loglikelihood(REQUESTS)
        assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    asked_again = sum(server.seen[str(tokens_of(REQUESTS[i]))] > 1 for i in several)
    assert asked_again > 0


def tokens_of(request):
    return AutoTokenizer.from_pretrained(TOY)("".join(request.args)).input_ids


@pytest.mark.parametrize("n", [1, 5])
def test_answers_from_the_cache_that_json_cannot_hold_are_asked_again(server, expected, n):
    server.is_vllm = server.scale_out = True
    server.fault, server.n = "nan", n
    found = backend(server).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)


@pytest.mark.parametrize("flaw", ["cache_off", "not told"])
def test_a_vllm_whose_cache_cannot_be_believed_is_asked_plainly(server, expected, flaw, caplog):
    server.is_vllm = server.scale_out = True
    server.fault, server.tells_cached = flaw, flaw != "not told"
    with caplog.at_level(logging.WARNING):
        found = backend(server).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    assert len(cached(server)) <= 4
    assert ("when it reads its prefix cache" in caplog.text) is (flaw == "cache_off")


def test_a_context_too_long_is_cut_off_on_the_left_and_counted(server, caplog):
    lm = backend(server)
    long = SimpleNamespace(args=("the king of Arden " * 100, " A"), task_name="toy", doc_id=0)
    with caplog.at_level(logging.WARNING):
        lm.token_loglikelihood([long, *REQUESTS[:4]])
    assert "1 of 5 requests are longer than the model's maximum of 255" in caplog.text
    assert max(len(eval(prompt)) for prompt in server.seen) == 255


@pytest.mark.parametrize("tells", [0, 1])
def test_a_server_may_put_in_front_of_texts_what_hf_does(server, tells, caplog):
    server.fault, server.n = "adds_bos", tells
    lm = backend(server, tokenized_requests=False)
    bos = lm.tokenizer.convert_ids_to_tokens(BOS)
    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, BOS)]
    )
    for request, result in zip(REQUESTS, lm.token_loglikelihood(REQUESTS), strict=True):
        tokens = [BOS, *server.encode("".join(request.args))]
        start = len(tokens) - len(result.token_logprobs)
        rows = server.logprobs(tokens)
        expected = [float(rows[i - 1][tokens[i]]) for i in range(start, len(tokens))]
        assert result.token_logprobs == pytest.approx(expected)
    assert "unless the server does, the scores of the two cannot be compared" in caplog.text


@pytest.mark.parametrize(
    ("fault", "n", "said"),
    [
        ("drop_echo", 0, "does not support `echo`"),
        ("off_by_one", 0, "cannot be right"),
        ("bos", 0, "it adds tokens to a prompt"),
        ("bos", 1, "it adds tokens to a prompt"),  # and keeps quiet about it in `usage`
        ("null", 0, "gives no token log-probabilities (logprobs is null)"),
        ("404", 0, "refused a request with 404: The model `x` does not exist.; look at model"),
        ("forget", 0, "gave 0 choices for 1 prompts"),
    ],
)
def test_a_server_that_cannot_be_believed_is_refused_in_one_sentence(server, fault, n, said):
    server.fault, server.n = fault, n
    with pytest.raises(UserError) as refused:
        backend(server).token_loglikelihood(REQUESTS)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert server.count <= 12  # nothing was tried again, nothing scored


@pytest.mark.parametrize(("fault", "n"), [("every500", 7), ("half", 5), ("cut", 5)])
def test_passing_faults_are_tried_again_and_cost_nothing(server, expected, fault, n, caplog):
    server.fault, server.n = fault, n
    with caplog.at_level(logging.WARNING):
        # Among others of three threads, one request may meet the fault three times in a row.
        found = backend(server, num_concurrent=3, max_retries=9).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    assert "trying again" in caplog.text


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_not_asked_for_a_server_on_this_machine(
    server, expected, monkeypatch, variable
):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nothing answers
    for host in ("127.0.0.1", "localhost"):
        monkeypatch.setattr(server, "base", f"http://{host}:{server.base.rpartition(':')[2]}")
        found = backend(server, max_retries=1).token_loglikelihood(REQUESTS[:4])
        assert [r.logprob for r in found] == pytest.approx(
            [r.logprob for r in expected[:4]], abs=1e-4
        )
    with pytest.raises(UserError, match=r"through the proxy http://127\.0\.0\.1:9"):
        http_client.Client("http://elsewhere.invalid/v1/completions", tries=1).post({})


def test_a_server_too_slow_is_one_sentence(server):
    server.fault, server.n = "slow", 2
    with pytest.raises(UserError, match=r"gave no answer within 1 s, 2 times in a row"):
        backend(server, timeout=1, max_retries=2).token_loglikelihood(REQUESTS)


def test_a_server_that_is_not_there_is_one_sentence(server):
    lm = backend(server, max_retries=2)
    lm.base_url = "http://127.0.0.1:9/v1/completions"
    with pytest.raises(UserError, match=r"cannot be reached \(connection refused\), 2 times"):
        lm.token_loglikelihood(REQUESTS)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_a_run_whose_server_dies_resumes_with_what_it_had(server, expected, tmp_path, concurrent):
    path = str(tmp_path / "cache.db")
    server.fault, server.n = "die", 35
    with pytest.raises(UserError, match="start the server again"):
        CachingLM(backend(server, num_concurrent=concurrent), path).token_loglikelihood(REQUESTS)
    first = set(server.seen)
    server.fault = ""
    server.seen.clear()
    found = CachingLM(backend(server), path).token_loglikelihood(REQUESTS)
    assert [r.logprob for r in found] == pytest.approx([r.logprob for r in expected], abs=1e-4)
    # The known answers, two cached requests to see that the model is the same, what was under way.
    assert len(first & set(server.seen)) <= 8 + 2 + concurrent


def test_null_log_probabilities_of_some_answers_end_the_run(server):
    server.fault, server.n = "null", 25
    with pytest.raises(UserError, match="gives no token log-probabilities"):
        backend(server).token_loglikelihood(REQUESTS)


def test_openai_models_that_echo_nothing_are_named():
    from lm_eval.models.openai_completions import OpenAICompletionsAPI

    from calib_harness.harness.backends.completions import CompletionsServer

    lm = OpenAICompletionsAPI.__new__(OpenAICompletionsAPI)
    lm.tokenizer, lm.base_url, lm.model = object(), "https://api.openai.com/v1/completions", "gpt-4"
    with pytest.raises(UserError, match="babbage-002 and davinci-002 only, not for gpt-4"):
        CompletionsServer(lm)
