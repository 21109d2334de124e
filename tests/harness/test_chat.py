"""Choice prompts on chat endpoints: exact letters, bounds where the server keeps quiet."""

from __future__ import annotations

import itertools
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from lm_eval.api.model import CachingLM

from calib_harness.core.calibration import calibration_error
from calib_harness.core.confidence import softmax_scores
from calib_harness.errors import UserError
from calib_harness.harness.backends import chat
from calib_harness.harness.backends.chat import TOLERANCE, read_letters
from calib_harness.harness.backends.missing_letters import Tally
from calib_harness.harness.backends.run_checks import WrongScoresError
from calib_harness.harness.scoring_record import take_scoring
from calib_harness.paths import toy_world_path
from tests.harness.echo_server import EchoServer

TOY = f"{toy_world_path()}/models/base"
REQUESTS = [
    SimpleNamespace(
        args=(f"Question: What is the capital of {place}?\nA. x\nB. y\nAnswer:", f" {letter}"),
        task_name="toy_choice",
        doc_id=i,
    )
    for i, place in enumerate(("Arden", "Belmar", "Corvo", "Dunmere", "Elba", "Farholt"))
    for letter in "ABCD"
]


@pytest.fixture(scope="module")
def running():
    with EchoServer(TOY) as server:
        yield server


@pytest.fixture
def server(running):
    running.fault, running.n, running.count, running.is_vllm = "", 0, 0, False
    running.seen.clear()
    return running


def backend(server, **settings):
    from lm_eval.models.openai_completions import LocalChatCompletion

    return LocalChatCompletion(
        base_url=f"{server.base}/v1/chat/completions", model="toy", max_retries=1, **settings
    )


def letters_by_definition(server, context):
    """Add up the spellings with and without a space over the whole vocabulary."""
    row = server.logprobs(server.encode(context))[-1].exp()
    texts = [server.tokenizer.decode([token]) for token in range(len(row))]
    return [
        math.log(sum(float(p) for text, p in zip(texts, row, strict=True) if text.strip() == x))
        for x in "ABCD"
    ]


@pytest.mark.parametrize("concurrent", [1, 3])
def test_letters_are_the_sum_of_their_spellings(server, concurrent):
    found = backend(server, num_concurrent=concurrent).token_loglikelihood(REQUESTS)
    for i in range(0, len(REQUESTS), 4):
        expected = letters_by_definition(server, REQUESTS[i].args[0])
        confidence = softmax_scores([[r.logprob for r in found[i : i + 4]]]).max()
        assert confidence == pytest.approx(softmax_scores([expected]).max(), abs=TOLERANCE)
        for value, right in zip(found[i : i + 4], expected, strict=True):
            assert value.logprob == -math.inf or value.logprob == pytest.approx(right, abs=1e-3)
    assert sum(server.seen.values()) == 1 + len(REQUESTS) // 4  # a question each, one to examine


def test_a_vllm_is_asked_for_the_letters_themselves(server):
    server.is_vllm = True
    found = backend(server).token_loglikelihood(REQUESTS)
    assert all(math.isfinite(result.logprob) for result in found)


@pytest.mark.parametrize(("n_top", "named"), [(9, True), (8, False)])
def test_a_vllm_is_asked_for_no_more_letters_than_it_tells(server, monkeypatch, n_top, named):
    # Its own word comes first: of eight tokens that are asked for, eight told lack the last.
    monkeypatch.setattr(chat, "N_TOP", n_top)
    payloads = []
    monkeypatch.setattr(
        server, "chat", lambda body: payloads.append(body) or EchoServer.chat(server, body)
    )
    server.is_vllm = True
    backend(server).token_loglikelihood(REQUESTS[:4])
    assert payloads
    assert all(("logprob_token_ids" in payload) is named for payload in payloads)


def test_two_tokens_of_one_name_are_added_up():
    told = [("A", 0.6), ("A", 0.1), ("B", 0.2)]  # a tokenizer that writes "A" for " A"
    tops = [{"token": token, "logprob": math.log(p)} for token, p in told]
    letters = read_letters({**tops[0], "top_logprobs": tops}, "AB")
    assert letters.probs == pytest.approx({"A": 0.7, "B": 0.2})
    assert letters.confidence == pytest.approx(0.7 / 0.9)


@pytest.mark.parametrize("n_cached", [2, 4, 8])
def test_a_run_that_broke_off_within_the_first_question_goes_on(server, tmp_path, n_cached):
    cache = str(tmp_path / "cache.db")
    CachingLM(backend(server), cache).token_loglikelihood(REQUESTS[:n_cached])
    found = CachingLM(backend(server), cache).token_loglikelihood(REQUESTS[:8])
    expected = backend(server).token_loglikelihood(REQUESTS[:8])
    assert [r.logprob for r in found] == [r.logprob for r in expected]


def test_letters_that_were_not_told_do_not_pass_for_another_model(
    server, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(chat, "N_TOP", 2)
    cache = str(tmp_path / "cache.db")
    first = CachingLM(backend(server), cache).token_loglikelihood(REQUESTS[:4])
    assert [r.logprob for r in first[2:]] == [-math.inf, -math.inf]
    with caplog.at_level(logging.WARNING):
        again = CachingLM(backend(server), cache).token_loglikelihood(REQUESTS[:4])
    assert again == first
    assert "another model" not in caplog.text


def test_a_cloze_task_is_refused_by_name(server):
    cloze = [
        SimpleNamespace(args=("Question?", f" {text}"), task_name="toy_cloze", doc_id=0)
        for text in ("a long answer", "another")
    ]
    with pytest.raises(UserError, match="toy_cloze scores whole choices") as refused:
        backend(server).token_loglikelihood(cloze)
    assert "\n" not in str(refused.value)
    assert server.count == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("null", "gives no top_logprobs of its answer's first token"),
        ("thinks", "it thinks before it answers"),
        ("thinks apart", "it thinks before it answers"),
        ("404", "refused a request with 404"),
    ],
)
def test_a_chat_without_log_probabilities_or_that_thinks_is_refused(server, fault, said):
    server.fault = fault
    with pytest.raises(UserError, match=said) as refused:
        backend(server).token_loglikelihood(REQUESTS)
    assert "\n" not in str(refused.value)


def entry(**probs):
    tops = [{"token": token, "logprob": math.log(p)} for token, p in probs.items()]
    return {**max(tops, key=lambda top: top["logprob"]), "top_logprobs": tops}


def test_a_missing_letter_has_a_bound_and_confidence_an_interval():
    letters = read_letters(entry(A=0.6, **{" A": 0.1, " B": 0.2, "B": 0.04, "the": 0.05}), "ABC")
    assert letters.probs == pytest.approx({"A": 0.7, "B": 0.24, "C": 0.0})
    assert letters.untold == {"A": 0, "B": 0, "C": 2}
    assert letters.bound == pytest.approx(0.01)  # less is left than the least that was told
    assert letters.confidence_range == pytest.approx((0.7 / 0.95, 0.7 / 0.94))
    assert letters.confidence_is_known  # to .008


def test_what_is_left_bounds_letters_too():
    letters = read_letters(entry(A=0.97, x=0.02, y=0.008), "ABC")
    assert letters.bound == pytest.approx(0.002)
    assert letters.confidence_range == pytest.approx((0.97 / 0.972, 1.0))
    assert letters.confidence_is_known


def test_a_letter_not_told_that_may_be_the_largest_makes_the_question_unusable():
    letters = read_letters(entry(x=0.5, y=0.3, A=0.01), "AB")
    assert letters.bound == pytest.approx(0.01)
    assert not letters.confidence_is_known


def test_a_spelling_not_told_of_a_told_letter_may_hold_mass_too():
    # Both letters are told; " B" may have as much as "y", the least that was told.
    letters = read_letters(entry(A=0.5, **{" A": 0.08}, B=0.2, x=0.1, y=0.05), "AB")
    assert letters.untold == {"A": 0, "B": 1}
    assert letters.confidence_range == pytest.approx((0.58 / 0.83, 0.58 / 0.78))
    assert not letters.confidence_is_known


def test_a_letter_that_an_untold_spelling_could_bring_first_makes_the_question_unusable():
    probs = {"A": 0.4, "B": 0.399, "x": 0.1, "y": 0.002}
    letters = read_letters(entry(**probs), "AB")
    least, largest = letters.confidence_range
    assert letters.confidence - TOLERANCE < least <= largest < letters.confidence + TOLERANCE
    assert not letters.confidence_is_known


@pytest.mark.parametrize("sign", [" ", "\u0120", "\u2581"])
def test_a_tokenizers_own_sign_for_a_space_is_a_space(sign):
    letters = read_letters(entry(A=0.5, **{f"{sign}A": 0.2}, B=0.3), "AB")
    assert letters.probs == pytest.approx({"A": 0.7, "B": 0.3})
    assert letters.untold == {"A": 0, "B": 1}


def test_the_word_that_was_said_bounds_nothing_where_others_are_likelier():
    tops = [{"token": token, "logprob": math.log(p)} for token, p in (("A", 0.5), ("B", 0.3))]
    said = {"token": "x", "logprob": math.log(0.001), "top_logprobs": tops}
    assert read_letters(said, "AB").bound == pytest.approx(0.199)


def enumerated(probs, untold, bound, left):
    """Confidence with whatever may be hidden, spelling by spelling, on a grid of four steps."""
    spellings = [letter for letter, n in untold.items() for _ in range(n)]
    for parts in itertools.product(np.linspace(0, bound, 4), repeat=len(spellings)):
        if sum(parts) <= left + 1e-12:
            true = dict(probs)
            for letter, part in zip(spellings, parts, strict=True):
                true[letter] += part
            yield max(true.values()) / sum(true.values()), max(true, key=true.__getitem__)


@pytest.mark.parametrize("seed", range(40))
def test_the_interval_is_what_enumeration_of_the_untold_finds(seed):
    rng = np.random.default_rng(seed)
    names = ["A", " A", "B", " B", "C", " C", "x", "y", "z"]
    p = rng.dirichlet(np.full(len(names), 0.4))
    told = dict(sorted(zip(names, p, strict=True), key=lambda item: -item[1])[:5])
    letters = read_letters(entry(**told), "ABC")
    if not any(letters.probs.values()):
        assert letters.confidence_range == (0.0, 1.0)
        return
    found = list(enumerated(letters.probs, letters.untold, letters.bound, letters.left))
    least, largest = letters.confidence_range
    assert all(least - 1e-12 <= confidence <= largest + 1e-12 for confidence, _ in found)
    assert largest == pytest.approx(max(confidence for confidence, _ in found))
    whole = [p[i] + p[i + 1] for i in (0, 2, 4)]
    assert least - 1e-12 <= max(whole) / sum(whole) <= largest + 1e-12
    if letters.confidence_is_known:
        assert {letter for _, letter in found} == {max(letters.probs, key=letters.probs.get)}
        confidences = [confidence for confidence, _ in found]
        assert least == pytest.approx(min(confidences), abs=letters.left / 3)
        assert max(confidences) - letters.confidence <= TOLERANCE + 1e-12
        assert letters.confidence - min(confidences) <= TOLERANCE + 1e-12


def test_probabilities_that_add_up_to_more_than_one_are_refused():
    with pytest.raises(WrongScoresError, match=r"add up to 1\.500"):
        read_letters(entry(A=0.9, B=0.6), "AB")


def test_letters_that_were_not_told_are_counted(server, caplog, monkeypatch):
    monkeypatch.setattr("calib_harness.harness.backends.chat.N_TOP", 2)
    with caplog.at_level(logging.WARNING):
        found = backend(server).token_loglikelihood(REQUESTS)
    assert "of 6 questions are not among the server's 2 likeliest tokens" in caplog.text
    assert any(math.isnan(result.logprob) or result.logprob == -math.inf for result in found)
    record = take_scoring(REQUESTS[0].task_name)
    told = [result.logprob for result in found if math.isfinite(result.logprob)]
    unusable = sum(math.isnan(result.logprob) for result in found) // 4
    assert record["questions_left_out"] == unusable
    assert record["letters_not_told"] >= len(found) - len(told) - 4 * unusable
    assert f"ECE by {record['ece_off_by_at_most']:.2g} at most" in caplog.text


def bound(confidences, ranges):
    tally = Tally()
    for c, known in zip(confidences, ranges, strict=True):
        tally.note("toy", n_choices=4, n_missing=1, confidence=c, known=tuple(known))
    tally.note("toy", n_choices=4, n_missing=3, confidence=0.5, known=None)
    tally.note_scoring()
    record = take_scoring("toy")
    assert (record["questions_asked"], record["questions_left_out"]) == (len(confidences) + 1, 1)
    return record["ece_off_by_at_most"]


def test_ece_is_off_by_no_more_than_its_bound():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.27, 0.99, 60)
    down, up = rng.uniform(0, 0.01, (2, 60))
    ranges = np.stack([confidence - down, confidence + up], axis=1)
    for correct in (np.zeros(60), rng.integers(2, size=60), np.ones(60)):
        measured = calibration_error(confidence, correct)
        for share in (0.0, 0.5, 1.0):
            lower = rng.random(60) < share
            true = np.where(lower, ranges[:, 0], ranges[:, 1])
            off = abs(calibration_error(true, correct) - measured)
            assert off <= bound(confidence, ranges)
            if not correct.any() and share == 1:  # all gaps of one sign: nothing cancels
                assert off == pytest.approx(down.mean())


def test_a_question_that_may_lie_in_another_bin_counts_more():
    confidence, correct = np.array([0.601, 0.59]), np.array([1, 0])  # 0.6 is an edge
    off = calibration_error(confidence, correct) - calibration_error([0.599, 0.59], correct)
    assert off == pytest.approx(0.4, abs=0.01)
    certain = (0.59, 0.59)
    assert 0.001 < off < bound(confidence, [(0.599, 0.601), certain])
    assert bound([0.599, 0.59], [(0.599, 0.601), certain]) > 0.4  # upwards across an edge, too
    assert bound(confidence, [(0.6005, 0.601), certain]) == pytest.approx(0.00025)  # stays
