"""What a run is doing, read from the lines it prints."""

from __future__ import annotations

import io
import time
from collections import namedtuple
from types import SimpleNamespace

import pytest
from rich.console import Console

from calib_harness.sweep.planning.secrets import Redactor, looks_secret
from calib_harness.sweep.running.process import OutputLog
from calib_harness.sweep.running.progress import (
    Progress,
    ProgressReader,
    read_progress,
    write_progress,
)
from calib_harness.sweep.showing.live import Display, counted, describe, say

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


def test_short_form_tells_questions_rate_and_time_left():
    assert describe(read(STOCK), short=True) == "about 15/60 questions, 30.0 requests/s, 3.0 s left"


def test_loading_the_model_is_told():
    line = "2026-11-24 INFO [evaluator:239] Initializing hf model, with arguments: {}"
    assert describe(read(line)) == "loading the model"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_live_display_has_one_line_per_run_and_a_total(tmp_path, width):
    names = [f"model-with-a-long-name-step{number}-0123456789ab" for number in range(30)]
    jobs = [SimpleNamespace(folder=tmp_path / name, run=Named(name)) for name in names]
    screen = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=24, _environ={"TERM": "xterm"}
    )
    with Display(screen, total=40, finished=5) as display:
        for job in jobs[:25]:
            job.folder.mkdir()
            progress = Progress(
                "scoring", 30, 120, questions=60, began=1.0, updated=time.time() + 9
            )
            write_progress(progress, job.folder)
        lines = shown(display, jobs)
    assert len(lines) == 19
    assert all(len(line) <= width for line in lines)
    assert lines[-1].startswith("5 of 40 runs finished, 7 more running")
    assert "5 starting or queued, 5 waiting" in lines[-1] or width == 60


Named = namedtuple("Named", ["name", "tasks"], defaults=[("arc_easy_calib", "sciq_calib")])


def shown(display: Display, jobs) -> list[str]:
    """Return the live lines as they stand on the screen."""
    display.update(jobs)
    screen = Console(file=io.StringIO(), width=display._console.width)
    screen.print(display._live.renderable)
    return screen.file.getvalue().rstrip("\n").split("\n")


def test_old_progress_of_a_queued_run_is_not_shown(tmp_path):
    job = SimpleNamespace(folder=tmp_path, run=Named("a"))
    write_progress(Progress("scoring", 30, 120, updated=time.time() - 60), tmp_path)
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Display(screen, total=1, finished=0) as display:
        assert shown(display, [job]) == ["0 of 1 runs finished, 1 starting or queued, 0 waiting"]


@pytest.mark.parametrize("terminal", [False, True])
def test_long_line_is_whole_in_a_file_and_broken_between_words_on_a_terminal(terminal):
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=40)
    say(screen, "words " * 20 + "and-one-that-is-longer-than-the-whole-terminal")
    lines = screen.file.getvalue().rstrip("\n").split("\n")
    assert "".join(lines).count("words ") + sum(line.endswith("words") for line in lines) == 20
    assert "".join(lines).endswith("longer-than-the-whole-terminal")
    assert len(lines) == (6 if terminal else 1)


def test_bar_that_counts_questions_is_told_as_it_is():
    line = "Scoring:  50%|█████     | 200/400 [00:01<00:01, 574.41 questions/s, 4,157 tokens/s]"
    assert describe(read(line)).startswith("200/400 questions, ")


def test_state_of_a_bar_is_known_before_the_next_one_comes(tmp_path):
    # tqdm writes a carriage return in front of a state, not behind it.
    reader = ProgressReader()
    log = OutputLog(tmp_path / "log", Redactor({}), reader.feed)
    log.feed(b"\rScoring:  25%|##    | 1/4 [00:01<00:03,  1.00 questions/s]")
    assert describe(reader.progress).startswith("1/4 questions")
    log.feed(b"\rScoring:  50%|###   | 2/4 [00:02<00:02,  1.0")
    assert reader.progress.done == 1  # cut off: it might be told wrongly
    log.feed(b"0 questions/s]")
    assert reader.progress.done == 2
    log.close()


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


def test_token_that_no_variable_holds_is_replaced_too():
    assert Redactor({})("a hf_abcdefghijklmnop b") == "a [secret] b"


def test_what_could_rewrite_a_terminal_is_shown_as_an_escape():
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    say(screen, "a\x1b[2Jb\u202ec\rd\x1b[31me")
    assert screen.file.getvalue() == "a\\x1b[2Jb\\u202ec\\rde\n"


def test_values_of_secrets_are_replaced_by_their_names():
    redact = Redactor(
        {"HF_TOKEN": "hf_0123456789", "HOME": "/root", "PLAIN": "12345678"}, ["PLAIN"]
    )
    assert redact("a hf_0123456789 b /root 12345678") == "a [HF_TOKEN] b /root [PLAIN]"


def test_time_left_for_the_whole_follows_from_what_is_done(tmp_path, monkeypatch):
    job = SimpleNamespace(folder=tmp_path, run=Named("a"))
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with Display(screen, total=10, finished=6) as display:
        finished = SimpleNamespace(status="finished", name="b", seconds=60.0, reused=0)
        display.ended(finished)
        now += 60
        write_progress(Progress("scoring", 60, 120, began=1.0, updated=now), tmp_path)
        # One run and a half in 60 s; two and a half are left.
        assert shown(display, [job])[-1].endswith("; about 1 min 40 s left for all")


def test_nothing_is_said_of_the_time_left_before_anything_is_done(tmp_path):
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Display(screen, total=10, finished=6) as display:
        assert "left for all" not in shown(display, [])[-1]


@pytest.mark.parametrize("terminal", [False, True])
def test_counting_hands_on_every_item_and_leaves_no_bar(terminal):
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    assert list(counted(iter("abc"), "reading logs", screen, total=3)) == ["a", "b", "c"]
    assert ("reading logs" in screen.file.getvalue()) == terminal


def test_long_counting_is_told_where_there_is_no_terminal(monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    screen = Console(file=io.StringIO(), width=80)
    list(counted(range(4), "reading logs", screen, total=4))
    assert "reading logs: 1 of 4" in screen.file.getvalue()
