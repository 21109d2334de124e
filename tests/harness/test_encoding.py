"""Encoding in batches and by line gives lm-eval's tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

import calib_harness
from calib_harness.harness.huggingface.encoding import encode, encode_requests
from calib_harness.harness.huggingface.newlines import _PATTERNS, encodes_by_line, split_lines
from tests.conftest import ROOT
from tests.harness.test_backends import PAIRS
from tests.test_task_yamls import requests_of

PIECES = ["\n", "\n", " ", "  ", "\t", "\r", "A", "be", "7", "12", "?", "/", "'s", ".\n", "\u0301"]
texts = st.lists(st.sampled_from([*PIECES, "é", "\u00a0", "\x1c", "中", "_"]), max_size=25).map(
    "".join
)


def byte_level(pattern: str | None) -> Tokenizer:
    """A tokenizer that has learnt to join what a pattern leaves together."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    bpe.pre_tokenizer = (
        last
        if pattern is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), last])
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(
        [one + other + third for one in PIECES for other in PIECES for third in PIECES] * 3, trainer
    )
    return bpe


@pytest.fixture(scope="module", params=[None, *sorted(_PATTERNS)])
def known(request):
    return byte_level(request.param)


def test_lines_are_encoded_alike_apart_and_together(known):
    from transformers import PreTrainedTokenizerFast

    assert encodes_by_line(PreTrainedTokenizerFast(tokenizer_object=known))

    @given(texts)
    @settings(max_examples=300, deadline=None)
    def check(text):
        parts = split_lines(text)
        assert "".join(parts) == text
        assert [i for part in parts for i in known.encode(part).ids] == known.encode(text).ids

    check()
    assert split_lines("one?\nTwo\n\nthree\n4") == ["one?\n", "Two\n\nthree\n", "4"]


def test_a_tokenizer_that_joins_newlines_to_words_is_not_encoded_by_line():
    from transformers import PreTrainedTokenizerFast

    joins = PreTrainedTokenizerFast(tokenizer_object=byte_level(r"\n?[A-Za-z]+|[\s\S]"))
    assert not encodes_by_line(joins)


def test_batches_give_the_tokens_of_single_texts(make_lm):
    lm = make_lm()
    pairs = [*PAIRS, ("Ends in spaces  ", "blue"), ("", "<eos> blue"), ("<eos>x\nAnswer:", " A")]
    assert encode_requests(lm, pairs) == [encode(lm, i, *pair) for i, pair in enumerate(pairs)]


def test_a_tokenizer_whose_batches_differ_is_used_text_by_text(make_lm, monkeypatch, caplog):
    lm = make_lm()
    monkeypatch.setattr(
        "calib_harness.harness.huggingface.encoding.split_lines", lambda text: [text[:2], text[2:]]
    )
    monkeypatch.setattr(
        "calib_harness.harness.huggingface.encoding.encodes_by_line", lambda _: True
    )
    assert encode_requests(lm, PAIRS) == [encode(lm, i, *pair) for i, pair in enumerate(PAIRS)]
    assert "other tokens in batches" in caplog.text


def real_requests():
    """(context, continuation) of questions spread over every benchmark at hand, and 5-shot MMLU."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=calib_harness.task_path())
    tasks = manager.load(["calib_paper", "commonsense_qa", "openbookqa"])["tasks"]
    assert len(tasks) == 22
    found = {}
    for name, task in tasks.items():
        docs = task.eval_docs
        for shots, n in ((0, 25), (5, 8)) if "mmlu" in name else ((0, 25),):
            spread = [docs[i * len(docs) // n] for i in range(n)]
            found[name, shots] = [
                pair for pairs in requests_of(task, spread, shots) for pair in pairs
            ]
    return found


@pytest.mark.slow
def test_real_questions_of_every_benchmark_get_lm_evals_tokens(
    shared, stories, hub, make_model, caplog
):
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    requests = real_requests()
    folders = [shared / "tokenizers/gpt2", shared / "tokenizers/gpt-neox-20b"]
    folders += [stories, ROOT / "examples/toy_world/models/base"]
    for folder in folders:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        lm = HFLM(pretrained=make_model("llama"), tokenizer=tokenizer, device="cpu")
        for key, pairs in requests.items():
            expected = [encode(lm, i, *pair) for i, pair in enumerate(pairs)]
            assert encode_requests(lm, pairs) == expected, (folder.name, key)
    assert "other tokens in batches" not in caplog.text  # or the comparison would be with itself
