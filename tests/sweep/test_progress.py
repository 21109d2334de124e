"""What a run is doing, read from the lines it prints."""

from __future__ import annotations

import pytest

from calib_harness.sweep.display import describe
from calib_harness.sweep.progress import ProgressReader, read_progress, write_progress
from calib_harness.sweep.secrets import Redactor, looks_secret

STOCK = """\
2026-11-24:00:24:58 INFO     [api.task:312] Building contexts for arc_easy on rank 0...
  0%|          | 0/40 [00:00<?, ?it/s]
100%|██████████| 40/40 [00:00<00:00, 264.03it/s]
2026-11-24:00:24:58 INFO     [api.task:312] Building contexts for sciq on rank 0...
100%|██████████| 20/20 [00:00<00:00, 264.03it/s]
Tokenizing inputs: 100%|██████████| 120/120 [00:00<00:00, 4238.53it/s]
Running loglikelihood requests:   0%|          | 0/120 [00:00<?, ?it/s]
Running loglikelihood requests:  25%|██▌       | 30/120 [00:00<00:00, 156.88it/s]"""


def read(text: str):
    reader = ProgressReader(cached=7)
    for second, line in enumerate(text.splitlines()):
        reader.feed(line, now=1000.0 + second)
    return reader.progress


def test_requests_and_questions_of_stock_scoring_are_counted():
    progress = read(STOCK)
    assert (progress.done, progress.total, progress.questions) == (30, 120, 60)
    # 30 requests in the second between the last two lines.
    assert progress.rate == 30
    assert progress.seconds_left == 3
    assert describe(progress) == (
        "30/120 requests, about 15/60 questions, 30.0/s, 3.0 s left, 7 requests scored before"
    )


def test_bar_that_counts_questions_is_told_as_it_is():
    line = "Scoring:  50%|█████     | 200/400 [00:01<00:01, 574.41 questions/s, 4,157 tokens/s]"
    assert describe(read(line)).startswith("200/400 questions, ")


def test_second_bar_starts_its_own_rate():
    more = STOCK + "\nRunning generate requests:   0%|  | 0/10 [00:00<?, ?it/s]"
    more += "\nRunning generate requests:  50%|  | 5/10 [00:00<?, ?it/s]"
    progress = read(more)
    assert (progress.done, progress.total, progress.rate) == (5, 10, 5)


def test_preparing_a_task_is_told():
    assert describe(read(STOCK.splitlines()[0])) == "preparing arc_easy"


def test_progress_survives_on_disk_and_a_torn_file_is_none(tmp_path):
    progress = read(STOCK)
    write_progress(progress, tmp_path)
    assert read_progress(tmp_path) == progress
    path = tmp_path / "progress.json"
    path.write_text(path.read_text()[:40])
    assert read_progress(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "token"]
)
def test_names_of_secrets_are_known(name):
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["tokenizer", "pad_token", "max_tokens", "PATH", "keyboard"])
def test_other_names_are_no_secrets(name):
    assert not looks_secret(name)


def test_values_of_secrets_are_replaced_by_their_names():
    redact = Redactor(
        {"HF_TOKEN": "hf_0123456789", "HOME": "/root", "PLAIN": "12345678"}, ["PLAIN"]
    )
    assert redact("a hf_0123456789 b /root 12345678") == "a [HF_TOKEN] b /root [PLAIN]"
