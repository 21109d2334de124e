"""Which choice is right: read as lm-eval meant it, or said to be unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib_harness import METHODS, UserError, load_predictions, metrics_frame, wide_frame
from calib_harness.predictions.table import UNDECIDED, Predictions
from tests.predictions.entries import early, entry, write_run

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs logs at ../shared/cases")


def load(place: object, method: str = "continuation-sum") -> Predictions:
    (run,) = load_predictions(place, methods=[method], cache=False)  # type: ignore[arg-type]
    return run


def metrics(run: Predictions, *names: str) -> dict[str, Any]:
    return dict(wide_frame(metrics_frame([run], metrics=names, n_resamples=0)).iloc[0])


@needs_cases
@pytest.mark.parametrize(
    ("case", "method", "gold", "expected"),
    [
        ("winogrande_real10", "continuation-sum", "confirmed", (0.7, 0.3133, 0.5879, 3.0252)),
        ("target_float", "continuation-sum", "confirmed", (0.2, 0.1346, 0.7698, 1.4257)),
        ("target_neg", "continuation-sum", "confirmed", (0.2167, 0.1245, 0.7842, 1.4555)),
        ("own_task_float", "continuation-sum", "stated", (0.2333, 0.1209, None, None)),
        ("own_task_numcol", "continuation-sum", "stated", (0.2, 0.1296, None, None)),
        ("own_task_wino", "continuation-sum", "stated", (0.45, 0.1317, None, None)),
        ("few_distinct_scores", "choice", "confirmed", (0.45, 0.5333, None, None)),
        ("raw_logits", "choice", "not verified", (1 / 6, None, None, None)),
        ("sorted_argument_keys/samples_plain.jsonl", "continuation-sum", "confirmed", (0.75,)),
        ("sorted_argument_keys/samples_jqS.jsonl", "continuation-sum", "confirmed", (0.75,)),
    ],
)
def test_a_case_gives_its_right_values(
    case: str, method: str, gold: str, expected: tuple[float | None, ...]
) -> None:
    run = load(CASES / case, method)
    row = metrics(run, "acc", "ece", "brier_score", "nll")
    assert run.header.gold == row["gold"] == gold
    for name, value in zip(("acc", "ece", "brier_score", "nll"), expected, strict=False):
        if value is not None:
            assert row[name] == pytest.approx(value, abs=6e-5), name


@needs_cases
def test_keys_sorted_as_texts_leave_the_choices_where_they_were() -> None:
    plain, sorted_ = (
        load_predictions(CASES / "sorted_argument_keys" / name, cache=False)
        for name in ("samples_plain.jsonl", "samples_jqS.jsonl")
    )
    for one, other in zip(plain, sorted_, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.gold, other.gold)


@needs_cases
@pytest.mark.parametrize("name", ["real1", "stock60"])
def test_questions_with_several_right_choices_have_no_number(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = load(CASES / "truthfulqa_mc2" / f"samples_truthfulqa_mc2_{name}.jsonl")
    row = metrics(run, "acc", "ece", "nll")
    assert row["n_unusable"] == len(run)
    assert np.isnan([row["acc"], row["ece"], row["nll"]]).all()
    assert "the logged acc is no accuracy of one right choice" in caplog.text


@needs_cases
def test_a_hidden_test_set_has_no_accuracy() -> None:
    row = metrics(load(CASES / "no_gold", "choice"), "acc", "ece")
    assert (row["n_unusable"], row["gold"]) == (row["n"], "none")
    assert np.isnan([row["acc"], row["ece"]]).all()


@needs_cases
def test_logits_have_no_choice_mass(caplog: pytest.LogCaptureFixture) -> None:
    assert np.isnan(metrics(load(CASES / "raw_logits", "choice"), "choice_mass")["choice_mass"])
    assert "add up to" in caplog.text
    assert "no log-probabilities" in caplog.text


@needs_cases
def test_a_write_out_of_old_lm_eval_is_named() -> None:
    with pytest.raises(UserError, match=r"is what lm-eval 0\.3 wrote with --write_out"):
        load(CASES / "v03_writeout")


@needs_cases
def test_repeated_prompts_are_counted() -> None:
    row = metrics(load(CASES / "few_distinct_scores", "choice"), "acc")
    assert (row["n"], row["n_distinct"]) == (20, 7)


def log_of(tmp_path: Path, entries: list[dict[str, Any]], **options: Any) -> Predictions:
    write_run(tmp_path, entries, **options)
    return load(tmp_path)


TEXTS = ["1", "2", "3", "4"]


def numbers(n: int, *, by: str, rng: np.random.Generator, acc: bool = True) -> list[dict]:
    """Questions whose choices are numbers, target read `by` index or text."""
    entries = []
    for i in range(n):
        scores, target = rng.normal(size=4) - 5, int(rng.integers(1, 4))
        gold = target if by == "index" else TEXTS.index(str(target))
        logged = {"acc": float(scores.argmax() == gold)} if acc else {}
        entries.append(entry(i, scores.tolist(), str(target), texts=TEXTS, **logged))
    return entries


@pytest.mark.parametrize("by", ["index", "text"])
def test_the_logged_accuracy_decides_between_index_and_text(tmp_path: Path, by: str) -> None:
    entries = numbers(40, by=by, rng=np.random.default_rng(1))
    run = log_of(tmp_path, entries, task="count")
    expected = [int(e["target"]) - (by == "text") for e in entries]
    assert run.header.gold == "confirmed"
    assert run.gold.tolist() == expected
    assert run.correct.tolist() == [e["acc"] == 1.0 for e in entries]


def test_two_readings_that_nothing_decides_between_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = numbers(10, by="text", rng=np.random.default_rng(1), acc=False)
    run = log_of(tmp_path, [*entries, entry(10, [-1.0, -2.0], 1)], task="count")
    assert run.gold.tolist() == [UNDECIDED] * 10 + [1]
    assert run.header.gold == "not verified"
    assert "10 of 11 questions" in caplog.text
    assert metrics(run, "acc")["acc"] == 0.0  # of the one question whose gold is known


@pytest.mark.parametrize("metric", ["acc_norm", "acc_bytes"])
def test_an_accuracy_of_length_normalised_scores_decides_too(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(2)
    texts, entries = ["3", "22", "1", "0é"], []
    for i in range(40):
        scores, gold = rng.normal(size=4) - 5, int(rng.integers(4))
        lengths = [len(t.encode() if metric == "acc_bytes" else t) for t in texts]
        logged = {metric: float((scores / lengths).argmax() == gold)}
        entries.append(entry(i, scores.tolist(), texts[gold], texts=texts, **logged))
    run = log_of(tmp_path, entries)
    assert run.header.gold == "confirmed"
    assert [texts[g] for g in run.gold] == [e["target"] for e in entries]


@pytest.mark.parametrize(("n_wrong", "refused"), [(1, False), (30, True)])
def test_accuracies_that_contradict_every_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, n_wrong: int, refused: bool
) -> None:
    entries = [entry(i, [-1.0, -2.0], i % 2, acc=float(i % 2 == 0)) for i in range(100)]
    for e in entries[:n_wrong]:
        e["acc"] = 1.0 - e["acc"]
    write_run(tmp_path, entries)
    run = load(tmp_path, "choice")
    undecided = range(100) if refused else range(n_wrong)
    assert np.flatnonzero(run.gold == UNDECIDED).tolist() == list(undecided)
    assert f"{n_wrong} of 100 questions: the logged acc is not what" in caplog.text
    assert run.header.gold == ("none" if refused else "confirmed")


def shared_continuation(i: int, scores: list[float], doc: dict, **logged: Any) -> dict[str, Any]:
    """Choices stand in the context and one text follows all, as in Winogrande."""
    made = entry(i, scores, "because.", texts=["because."] * len(scores), **logged)
    arguments = [[f"The choice {k} fell", " because."] for k in range(len(scores))]
    return made | {"doc": doc, "arguments": arguments}


@pytest.mark.parametrize(
    ("n_choices", "field", "gold_check"),
    [(2, "answer", "confirmed"), (2, "unknown", "confirmed"), (3, "label", "confirmed")],
)
def test_choices_in_the_context_are_told_by_document_or_accuracy(
    tmp_path: Path, n_choices: int, field: str, gold_check: str
) -> None:
    rng = np.random.default_rng(3)
    entries, expected = [], []
    for i in range(60):
        scores, gold = (rng.normal(size=n_choices) - 5).tolist(), int(rng.integers(n_choices))
        value = {"answer": str(gold + 1), "label": gold, "unknown": "?"}[field]
        expected.append(gold)
        acc = float(np.argmax(scores) == gold)
        entries.append(shared_continuation(i, scores, {"n": i, field: value}, acc=acc))
    run = log_of(tmp_path, entries)
    assert run.gold.tolist() == expected
    assert run.header.gold == gold_check


def test_choices_in_the_context_without_any_evidence_are_not_guessed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = log_of(tmp_path, [shared_continuation(i, [-1.0, -2.0], {"n": 0}) for i in range(5)])
    assert (run.gold == UNDECIDED).all()
    assert "the logged target names none of them" in caplog.text


def test_winogrande_without_accuracies_is_read_and_not_verified(tmp_path: Path) -> None:
    entries = [
        shared_continuation(
            i, [-1.0, -2.0], {"answer": str(i % 2 + 1), "option1": "a", "option2": "b"}
        )
        for i in range(6)
    ]
    run = log_of(tmp_path, entries)
    assert run.gold.tolist() == [0, 1] * 3
    assert run.header.gold == "not verified"


@pytest.mark.parametrize(("n_logged", "check"), [(2, "not verified"), (12, "confirmed")])
def test_a_few_logged_accuracies_confirm_nothing(tmp_path: Path, n_logged: int, check: str) -> None:
    entries = [entry(i, [-1.0, -2.0], i % 2, acc=float(i % 2 == 0)) for i in range(12)]
    for e in entries[n_logged:]:
        del e["acc"]
    write_run(tmp_path, entries)
    run = load(tmp_path, "choice")
    assert run.header.gold == check
    assert run.gold.tolist() == [0, 1] * 6


def test_a_field_of_the_document_that_may_be_anything_is_no_gold(tmp_path: Path) -> None:
    docs = [{"difficulty": i % 2, "label": (i + 1) % 2} for i in range(6)]
    unnamed = [shared_continuation(i, [-1.0, -2.0], {"difficulty": i % 2}) for i in range(6)]
    named = [shared_continuation(i, [-1.0, -2.0], doc) for i, doc in enumerate(docs)]
    assert (log_of(tmp_path / "unnamed", unnamed).gold == UNDECIDED).all()
    run = log_of(tmp_path / "named", named)
    assert run.gold.tolist() == [1, 0] * 3
    assert run.header.gold == "not verified"


def test_metrics_that_name_the_gold_are_believed(tmp_path: Path) -> None:
    stock = entry(0, [-1.0, -2.0], "w", texts=["u", "v"], brier_score=[1, "[0.7 0.3]"])
    ours = entry(1, [-1.0, -2.0], "w", texts=["u", "v"], ece=[[0.7, 0.3], 0])
    absent = entry(2, [-1.0, -2.0], "w", texts=["u", "v"], ece=[None, None])
    several = entry(3, [-1.0, -2.0], "w", texts=["u", "v"], brier_score=[[0, 1], "[0.7 0.3]"])
    run = log_of(tmp_path, [stock, ours, absent, several])
    assert run.gold.tolist() == [1, 0, -1, UNDECIDED]
    assert run.header.gold == "stated"


def test_positive_scores_of_texts_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, [entry(0, [3.0, 5.0], 0, texts=["u", "v"])])
    with pytest.raises(UserError, match=r"more than 0 \(up to 5\).*no log-probabilities"):
        load(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        ["١", "٢", "٣"],
        ["1", "2", "3"],
        ["a", "b", "c"],
        ["أ", "ب", "ج"],
        ["А", "Б", "В"],
        ["①", "②", "③"],
        ["I", "II", "III"],
        ["ア", "イ", "ウ"],
    ],
)
def test_labels_of_any_script_are_a_choice_prompt(tmp_path: Path, labels: list[str]) -> None:
    listed = "\n".join(f"{label}. something" for label in labels)
    entries = [
        entry(i, [-1.0, -2.0, -3.0], i % 3, texts=labels, question=f"Which?\n{listed}", acc=0.0)
        for i in (1, 2)
    ]
    write_run(tmp_path, entries)
    (run,) = load_predictions(tmp_path, cache=False)
    assert run.header.method == "choice"


def test_digits_that_the_context_does_not_list_are_answers(tmp_path: Path) -> None:
    run = log_of(tmp_path, [entry(0, [-1.0, -2.0], 0, texts=["1", "2"], acc=1.0)])
    assert METHODS[run.header.method].prompt == "cloze"


def test_ties_of_the_best_choices_are_counted(tmp_path: Path) -> None:
    write_run(tmp_path, [entry(0, [-1.0, -1.0, -3.0], 1), entry(1, [-1.0, -3.0, -3.0], 0)])
    run = load(tmp_path, "choice")
    assert run.tied.tolist() == [True, False]
    assert metrics(run, "acc")["n_tied"] == 1
    assert not run.correct[0]  # the first best choice is the answer


@pytest.mark.parametrize("write", [None, early])
def test_what_our_task_states_is_read_in_every_layout(tmp_path: Path, write: Any) -> None:
    stated = [
        entry(
            i,
            [-1.0, -2.0],
            "misleading",
            name="continuation-sum",
            texts=["A", "B"],
            calib_harness={"gold": gold, "prompt": "cloze"},
        )
        for i, gold in enumerate((1, 0, None))
    ]
    for e in stated:
        e["resps"] = [[[*choice[0], [choice[0][0]], 7 * e["doc_id"]]] for choice in e["resps"]]
    log = write_run(tmp_path, stated)
    if write is not None:
        log.write_text(write(stated), encoding="utf-8")
    run = load(tmp_path)
    assert run.gold.tolist() == [1, 0, -1]
    assert run.header.gold == "stated"
    assert run.truncated is not None
    assert run.truncated.tolist() == [0, 7, 14]
    assert metrics(run, "acc")["n_truncated"] == 2


def test_kept_logs_keep_what_is_known_of_their_gold(tmp_path: Path) -> None:
    write_run(tmp_path / "logs", numbers(10, by="text", rng=np.random.default_rng(1)))
    first, again = (
        load_predictions(tmp_path / "logs", cache=tmp_path / "kept")[0] for _ in range(2)
    )
    assert list((tmp_path / "kept").glob("*.parquet"))
    assert first.header == again.header
    np.testing.assert_array_equal(first.prompt, again.prompt)
    assert json.dumps(first.gold.tolist()) == json.dumps(again.gold.tolist())
