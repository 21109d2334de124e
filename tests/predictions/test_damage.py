"""What is wrong with a log is named, and never fatal to the rest."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from calib_harness import UserError, load_predictions
from tests.predictions.entries import ENTRIES, early, entry, recent, write_run


def load(place: object, **options: object) -> list:
    return load_predictions(place, cache=False, **options)  # type: ignore[arg-type]


def generative(number: int) -> dict:
    text = entry(number, [0.0], "42")
    return text | {
        "arguments": [["What is 6 × 7?", {"until": ["\n"], "do_sample": False}]],
        "resps": [["It is 42"]],
        "filtered_resps": ["42"],
    }


def test_truncated_last_line_of_a_killed_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = write_run(tmp_path, ENTRIES)
    log.write_bytes(log.read_bytes()[:-200])
    assert len(load(tmp_path)[0]) == 2
    assert f"{log}: line 3 was skipped: the file breaks off in the middle of it" in caplog.text


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"doc_id": 1, "doc": {"q": "caf\xe9"}}', "not UTF-8 text (byte 0xe9 at position 31)"),
        (b'{"doc_id": 1, ', "it is not JSON"),
        (b"[1, 2]", "it is a JSON list, not an object"),
        (b'{"doc_id": 1}', "it has no 'arguments' and 'resps'"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_line_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes, reason: str
) -> None:
    log = write_run(tmp_path, ENTRIES)
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([lines[0], bad, *lines[1:]]) + b"\n")
    assert load(tmp_path)[0].doc_id.tolist() == [0, 1, 2]
    assert "line 2 was skipped: " in caplog.text
    assert reason in caplog.text


def test_entry_with_too_few_responses_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = entry(7, [-1.0, -2.0], 0)
    short["resps"] = short["resps"][:1]
    write_run(tmp_path, [*ENTRIES, short])
    assert len(load(tmp_path)[0]) == 3
    assert "line 4 was skipped: it has 2 continuations but 1 log-probabilities" in caplog.text


@pytest.mark.parametrize(("kept", "n"), [(1.0, 3), (0.9, 2), (0.5, 1)])
def test_truncated_array_keeps_the_whole_entries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float, n: int
) -> None:
    content = early(ENTRIES)
    (tmp_path / "samples_toy.json").write_text(content[: int((len(content) - 1) * kept)])
    assert len(load(tmp_path)[0]) == n
    assert "the array is cut off or broken here" in caplog.text


def test_array_with_one_entry_that_is_not_utf8(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = early([entry(i, [-1.0, -2.0], 0, question=f"q{i}Ø") for i in range(3)]).encode()
    (tmp_path / "samples_toy.json").write_bytes(content.replace("q1Ø".encode(), b"q1\xff\xff"))
    assert load(tmp_path)[0].doc_id.tolist() == [0, 2]
    assert "entry 2 was skipped: it is not UTF-8 text" in caplog.text


def test_truncated_gzip_keeps_what_can_be_unpacked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [entry(i, [-1.0 - i / 7, -2.0 - i / 3], 0) for i in range(400)]
    packed = gzip.compress(recent(entries).encode())
    (tmp_path / "samples_toy.jsonl.gz").write_bytes(packed[: len(packed) * 3 // 4])
    (run,) = load(tmp_path)
    assert 100 < len(run) < 400
    # The line that breaks off there is part of the rest, not a second problem.
    (record,) = caplog.records
    assert (
        f"the rest from line {len(run) + 1} was skipped: the file cannot be read further"
        in record.getMessage()
    )
    assert record.getMessage().endswith("copy it again to have all questions")


def test_unreadable_folder_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Listed by hand: the super-user, who may run the tests, can enter every folder.
    write_run(tmp_path, ENTRIES, model="org/open")
    closed = write_run(tmp_path, ENTRIES, model="org/closed").parent
    may_enter = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: may_enter(path, mode) and str(path) != str(closed)
    )
    load(tmp_path)
    assert f"{closed} was skipped: you may not read this folder" in caplog.text
    with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\); check the path"):
        load(closed)


def test_folder_named_like_a_log_is_no_log(tmp_path: Path) -> None:
    write_run(tmp_path, ENTRIES)
    (tmp_path / "samples_old.jsonl").mkdir()
    assert len(load(tmp_path)) == 1


def test_empty_log_is_called_empty(tmp_path: Path) -> None:
    log = write_run(tmp_path, ENTRIES)
    log.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 log\(s\) can be used: .*jsonl is empty"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"doc_id": [1]}, "its doc_id is a JSON list, not a number or text"),
        ({"filter": ["none"]}, "its filter is a JSON list, not a number or text"),
    ],
)
def test_entry_with_a_list_for_a_key_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict, reason: str
) -> None:
    write_run(tmp_path, [*ENTRIES, entry(3, [-1.0, -2.0], 0) | change])
    assert load(tmp_path)[0].doc_id.tolist() == [0, 1, 2]
    assert f"line 4 was skipped: {reason}" in caplog.text


@pytest.mark.parametrize("target", ["1" * 5000, " " + "1" * 5000, "[" * 20_000, "-" * 3 + "["])
def test_target_of_thousands_of_signs_is_no_gold(tmp_path: Path, target: str) -> None:
    write_run(tmp_path, [*ENTRIES, entry(3, [-1.0, -2.0], target)])
    assert load(tmp_path)[0].gold.tolist() == [0, 2, 1, -1]


def test_number_that_no_array_holds_is_no_number(tmp_path: Path) -> None:
    write_run(tmp_path, [*ENTRIES, entry(2**80, [-1.0, -2.0], 0)])
    assert load(tmp_path)[0].doc_id.tolist() == [0, 1, 2, -1]


def test_early_document_with_half_a_surrogate_pair_is_hashed(tmp_path: Path) -> None:
    odd = entry(3, [-1.0, -2.0], 0)
    odd["doc"] = {"question": "\ud800"}
    (tmp_path / "samples_toy.json").write_text(early([*ENTRIES, odd]).replace("\ud800", r"\ud800"))
    assert len(load(tmp_path)[0]) == 4


def test_log_without_documents_joins_by_its_requests(tmp_path: Path) -> None:
    # All hashes were that of a missing document: runs on other questions were joined by place.
    for model, numbers in (("m", (0, 1)), ("m-chat", (1, 2))):
        entries = [entry(i, [-1.0, -2.0], 0) for i in numbers]
        for each in entries:
            del each["doc"], each["doc_hash"]
        write_run(tmp_path, entries, model=model)
    one, other = load(tmp_path)
    assert one.doc_hash[1] == other.doc_hash[0]
    assert len({*one.doc_hash, *other.doc_hash}) == 3


def test_many_bad_lines_are_counted_not_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = write_run(tmp_path, ENTRIES)
    log.write_text(log.read_text() + "x\n" * 50)
    load(tmp_path)
    assert "; and 45 more" in caplog.text
    assert len(caplog.records) == 1


def test_question_logged_twice_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path, [*ENTRIES, ENTRIES[1]])
    assert len(load(tmp_path)[0]) == 3
    assert "line 4 was skipped: question 1 again; its first entry is used" in caplog.text


def test_unusable_questions_are_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [entry(0, [-1.0, -2.0], 0), entry(1, [-1.0, -2.0], [0, 1])]
    write_run(tmp_path, [*entries, entry(2, [float("nan"), -1.0], 0)])
    load(tmp_path)
    assert (
        "2 of 3 questions cannot be used (0 without a gold choice, 1 of which it is not known"
        in caplog.text
    )


def test_log_of_a_generative_task_alone(tmp_path: Path) -> None:
    write_run(tmp_path, [generative(i) for i in range(30)], task="gsm8k")
    with pytest.raises(UserError, match=r"samples_gsm8k.* is not of a multiple-choice task"):
        load(tmp_path)


def test_log_of_a_generative_task_among_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path, [generative(0)], task="gsm8k")
    write_run(tmp_path, ENTRIES)
    assert [run.header.task for run in load(tmp_path)] == ["toy"]
    assert "is not of a multiple-choice task (its answers are generated text)" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "resps"),
    [([["text of a document"]], [[-12.5]]), ([["a context", " a word"]], [[[-1.5, True]]])],
    ids=["rolling", "one continuation"],
)
def test_log_likelihood_tasks_are_no_multiple_choice(
    tmp_path: Path, arguments: list, resps: list
) -> None:
    item = entry(0, [0.0], "w") | {"arguments": arguments, "resps": resps, "filtered_resps": []}
    write_run(tmp_path, [item], task="wikitext")
    with pytest.raises(UserError, match="is not of a multiple-choice task"):
        load(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no sample log .*--log_samples"):
        load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nowhere.jsonl")
    for nothing in ([], "", [str(tmp_path), ""]):  # "" is what an unset shell variable gives
        with pytest.raises(UserError, match="LOGS is empty"):
            load(nothing)


def test_results_without_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = write_run(tmp_path, ENTRIES, model="org/bare")
    log.unlink()
    with pytest.raises(UserError, match=r"1 results file\(s\) but no sample log.*--log_samples"):
        load(tmp_path)
    write_run(tmp_path, ENTRIES)
    load(tmp_path)
    assert "1 results file(s) have no sample log (first: " in caplog.text


def test_broken_results_file_costs_only_what_it_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = write_run(tmp_path, ENTRIES)
    results = next(log.parent.glob("results_*"))
    results.write_text('{"results": ')
    assert load(tmp_path)[0].header.model == "org/model"
    assert f"{results} was skipped" in caplog.text
    assert "what was run is told by the names of folder and files alone" in caplog.text


def test_results_file_with_nan_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, ENTRIES, results={"toy": {"acc,none": float("nan")}}, lm_eval_version="9")
    assert load(tmp_path)[0].header.lm_eval_version == "9"


def test_file_of_something_else_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"question": "?"}) + "\n")
    write_run(tmp_path, ENTRIES)
    assert len(load(tmp_path)) == 1
    assert "data.jsonl has the columns question, which do not say what is what" in caplog.text
    assert "as a log, it has no 'arguments' and 'resps'" in caplog.text


def test_missing_methods_are_listed_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")  # nobody asked for them
    write_run(tmp_path, [entry(0, [-1.0, -2.0], 0, texts=["u", "v"])])
    load(tmp_path)
    assert (
        "continuation-min, continuation-mean: not in 1 log(s) of toy: the log has no "
        "log-probabilities of single tokens" in caplog.text
    )


def test_method_that_no_log_holds(tmp_path: Path) -> None:
    write_run(tmp_path, ENTRIES)
    with pytest.raises(UserError, match="no log holds --methods continuation-min: the log scores"):
        load(tmp_path, methods=["continuation-min"])
    with pytest.raises(UserError, match=r"--methods must be among .*; got nonsense"):
        load(tmp_path, methods=["nonsense"])
    with pytest.raises(UserError, match="--tasks nope: no such logs; there are toy"):
        load(tmp_path, tasks=["nope"])
