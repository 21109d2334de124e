"""Tables of anyone's own script: every layout and format, and what may be wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calib_harness import UserError, brier_score, ece, load_predictions, metrics_frame
from calib_harness.analysis.metrics_frame import TOP_LABEL_METRICS
from calib_harness.core.metrics import METRICS
from calib_harness.page import make_report
from calib_harness.predictions.samples import write_example_log
from calib_harness.predictions.table import UNDECIDED, Predictions

RNG = np.random.default_rng(0)
N, K = 40, 4
SCORES = RNG.normal(size=(N, K)) - 3
GOLD = RNG.integers(K, size=N)
PROBS = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
WIDE = pd.DataFrame({f"logprob_{k}": SCORES[:, k] for k in range(K)}).assign(
    qid=[f"q{i}" for i in range(N)], gold=GOLD
)
SUFFIXES = ("csv", "tsv", "csv.gz", "parquet", "jsonl", "json", "jsonl.gz")


def write(frame: pd.DataFrame, path: Path) -> Path:
    suffix = path.name.partition(".")[2]
    rows = [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    if suffix == "parquet":
        frame.to_parquet(path)
        return path
    if suffix.startswith("json"):
        lines = [json.dumps(row) for row in rows]
        text = f"[{', '.join(lines)}]" if suffix == "json" else "\n".join(lines)
    else:
        text = frame.to_csv(index=False, sep="\t" if suffix == "tsv" else ",")
    data = text.encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    return path


def load(path: Path, **options: Any) -> list[Predictions]:
    return load_predictions(path, cache=False, **options)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_question_a_row_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = write(WIDE, tmp_path / f"arc.{suffix}")
    (run,) = load(path, scores="sum", about={"model": "org/m"})
    np.testing.assert_allclose(run.scores, SCORES, rtol=1e-15)
    assert run.gold.tolist() == GOLD.tolist()
    assert run.doc_hash.tolist() == WIDE["qid"].tolist()
    h = run.header
    assert (h.model, h.task, h.method, h.gold) == ("org/m", "arc", "continuation-sum", "stated")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scores_as_a_list(tmp_path: Path, suffix: str) -> None:
    as_text = suffix.startswith(("csv", "tsv"))
    lists = [json.dumps(row) if as_text else row for row in SCORES.tolist()]
    frame = pd.DataFrame({"scores": lists, "answer": [chr(65 + g) for g in GOLD]})
    (run,) = load(write(frame, tmp_path / f"t.{suffix}"), scores="letter")
    np.testing.assert_allclose(run.scores, SCORES, rtol=1e-15)
    assert run.gold.tolist() == GOLD.tolist()
    assert run.header.method == "choice"


def long_table() -> pd.DataFrame:
    rows = [
        {"question_id": f"q{i}", "choice": k, "logit": SCORES[i, k], "gold": GOLD[i]}
        for i in range(N)
        for k in range(K)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("by", ["index", "letter", "one", "is_gold"])
def test_one_choice_a_row_in_any_order(tmp_path: Path, suffix: str, by: str) -> None:
    frame = long_table()
    if by == "is_gold":
        frame = frame.assign(is_gold=frame["choice"] == frame["gold"]).drop(columns="gold")
    elif by == "letter":
        letters = {name: [chr(65 + k) for k in frame[name]] for name in ("choice", "gold")}
        frame = frame.assign(**letters)
    elif by == "one":  # labels from 1, in both columns
        frame = frame.assign(choice=frame["choice"] + 1, gold=frame["gold"] + 1)
    (run,) = load(write(frame, tmp_path / f"t.{suffix}"))
    order = [int(name[1:]) for name in run.doc_hash]
    np.testing.assert_allclose(run.scores, SCORES[order], rtol=1e-15)
    assert run.gold.tolist() == GOLD[order].tolist()
    assert run.header.method == "probabilities"


def test_choices_named_by_their_texts_stand_in_their_order(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "a", "b", "b", "b"],
            "choice": ["Oslo", "Rome", "Rome", "Bonn", "Oslo"],
            "prob": [0.25, 0.75, 0.5, 0.125, 0.375],
            "gold": ["Rome", "Rome", "Oslo", "Oslo", "Oslo"],
        }
    )
    (run,) = load(write(frame, tmp_path / "t.csv"))
    assert run.gold.tolist() == [1, 2]
    np.testing.assert_allclose(run.probs[1], [0.5, 0.125, 0.375])
    assert np.isnan(run.scores[0, 2])


def test_probabilities_give_the_metrics_of_the_arrays(tmp_path: Path) -> None:
    frame = pd.DataFrame({f"p{k}": PROBS[:, k] for k in range(K)}).assign(label=GOLD)
    (run,) = load(write(frame, tmp_path / "t.parquet"))
    table = metrics_frame([run], metrics=["ece", "brier_score"], n_resamples=0)
    assert table["value"].tolist() == pytest.approx([ece(PROBS, GOLD), brier_score(PROBS, GOLD)])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_confidence_and_correctness_give_the_metrics_of_these_alone(
    tmp_path: Path, suffix: str
) -> None:
    top = PROBS.argmax(axis=1)
    frame = pd.DataFrame({"confidence": PROBS.max(axis=1), "correct": top == GOLD})
    (run,) = load(write(frame, tmp_path / f"t.{suffix}"))
    names = [*METRICS]
    found = metrics_frame([run], metrics=names, n_resamples=0).set_index("metric")["value"]
    for name in names:
        if name in TOP_LABEL_METRICS:
            expected = METRICS[name].function(PROBS, GOLD)
            assert found[name] == pytest.approx(expected, abs=1e-9), name
        else:
            assert np.isnan(found[name]), name


def test_what_needs_every_choice_leaves_confidences_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("confidence,correct\n.5,1\n.9,0\n.7,1\n")
    runs = load(tmp_path / "t.csv")
    frame = metrics_frame(runs, metrics=["ece"], n_resamples=0, recalibrate=True)
    assert set(frame["metric"]) == {"ece"}  # no temperature
    with pytest.raises(UserError, match="nothing for the page: 1 run"):
        make_report(tmp_path / "t.csv", tmp_path / "o.html", cache=False)


def test_top_label_metrics_do_not_look_at_the_other_choices() -> None:
    shuffled = PROBS.copy()
    gold = GOLD.copy()
    for i, top in enumerate(PROBS.argmax(axis=1)):
        others = [k for k in range(K) if k != top]
        shuffled[i, others] = (1 - PROBS[i, top]) / 3
        if gold[i] != top:
            gold[i] = others[0]
    for name, metric in METRICS.items():
        same = metric.function(PROBS, GOLD) == pytest.approx(metric.function(shuffled, gold))
        assert same == (name in TOP_LABEL_METRICS), name


def test_ragged_choices_and_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("score_a,score_b,score_c,gold\n-1,-2,,1\n-1,,-3,0\n-1,-2,-3,\n")
    (run,) = load(tmp_path / "t.csv", scores="sum")
    assert run.usable.tolist() == [True, False, False]  # a hole; no gold
    assert run.gold.tolist() == [1, 0, -1]


def test_models_and_tasks_of_a_table_are_runs_of_their_own(tmp_path: Path) -> None:
    frame = WIDE.assign(model=["m1", "m2"] * (N // 2), dataset=["t1"] * 20 + ["t2"] * 20)
    runs = load(write(frame, tmp_path / "all.csv"), scores="mean")
    assert {(r.header.model, r.header.task, len(r)) for r in runs} == {
        (m, t, 10) for m in ("m1", "m2") for t in ("t1", "t2")
    }
    assert {r.header.method for r in runs} == {"continuation-mean"}
    assert runs[0].scores.tolist() == SCORES[0:20:2].tolist()


def test_tasks_of_a_table_are_chosen_by_its_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = WIDE.assign(task=["t1"] * 20 + ["t2"] * 20)
    path = write(frame, tmp_path / "all.csv")
    (run,) = load(path, scores="sum", tasks=["t2", "t9"])
    assert (run.header.task, run.doc_hash[0]) == ("t2", "q20")
    assert "--tasks t9: no log or table that can be used holds it" in caplog.text
    (run,) = load(write(WIDE, tmp_path / "w.csv"), scores="sum", about={"task": "x"}, tasks="x")
    assert len(run) == N
    with pytest.raises(UserError, match="holds none of the wanted tasks, but t1, t2"):
        load(path, scores="sum", tasks="t3")


def test_a_log_of_any_name_is_read_for_its_own_task_only(tmp_path: Path) -> None:
    for task in ("t1", "t2"):
        write_example_log(tmp_path / task, model="org/m", task=task, n=3)
        (log,) = (tmp_path / task).rglob("samples_*.jsonl")
        log.rename(log.with_name(f"{task}.jsonl"))
    (run,) = load(tmp_path, tasks="t1")
    assert run.header.task == "t1"


def test_columns_of_other_names_are_given(tmp_path: Path) -> None:
    frame = WIDE.rename(columns={"logprob_0": "w", "logprob_1": "x", "gold": "right"})
    frame = frame[["w", "x", "right", "qid"]].assign(right=0)
    columns = {"scores": "x|w", "gold": "right"}
    (run,) = load(write(frame, tmp_path / "t.csv"), columns=columns, scores="sum")
    np.testing.assert_allclose(run.scores, SCORES[:, [1, 0]], rtol=1e-15)


def test_questions_that_are_there_twice_count_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.concat([WIDE, WIDE.iloc[:3]])
    (run,) = load(write(frame, tmp_path / "t.csv"), scores="sum")
    assert len(run) == N
    assert f"3 of {N + 3} questions of t are there twice (first q0)" in caplog.text


def test_a_question_without_gold_does_not_shift_the_gold_of_others(tmp_path: Path) -> None:
    frame = long_table().sort_values(["question_id", "choice"])
    frame = frame.assign(choice=frame["choice"] + 1, gold=frame["gold"] + 1)
    frame.loc[frame["question_id"] == "q0", "gold"] = -1
    (run,) = load(write(frame, tmp_path / "t.csv"))
    order = [int(name[1:]) for name in run.doc_hash]
    assert run.gold.tolist() == [-1 if i == 0 else GOLD[i] for i in order]


def test_a_table_without_any_gold_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.csv").write_text("p0,p1,gold\n.5,.5,\n.5,.5,\n")
    (run,) = load(tmp_path / "t.csv")
    assert run.header.gold == "none"
    assert "so no metric can be computed" in caplog.text
    assert "count as wrong" not in caplog.text


def test_a_method_that_a_table_lacks_is_named_with_what_it_holds(tmp_path: Path) -> None:
    path = write(WIDE, tmp_path / "t.csv")
    with pytest.raises(UserError, match="the table holds what is read as continuation-sum"):
        load(path, scores="sum", methods="choice")
    with pytest.raises(UserError, match=r"--methods must be among .*choice, probabilities, conf"):
        load(path, methods="guess")


def test_rows_without_a_name_join_only_where_every_gold_agrees(tmp_path: Path) -> None:
    nameless = WIDE.drop(columns="qid")
    tables = {"base": nameless, "same": nameless, "other": nameless.iloc[::-1]}
    paths = [
        write(frame.assign(model=name), tmp_path / f"{name}.csv") for name, frame in tables.items()
    ]
    runs = load_predictions(paths, scores="sum", about={"task": "t"}, cache=False)
    base, other, same = (set(run.doc_hash) for run in runs)
    assert base == same
    assert len(base) == N
    assert not base & other


def test_several_right_choices_and_missing_ones_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t.csv").write_text(
        "id,choice,logit,is_gold\na,0,1,1\na,1,2,1\nb,0,1,0\nb,2,2,1\nc,0,1,0\nc,1,2,1\nc,1,5,0\n"
    )
    (run,) = load(tmp_path / "t.csv")
    assert run.gold.tolist() == [UNDECIDED, 2, 1]
    assert run.usable.tolist() == [False, False, True]
    assert "1 of 3 questions lack a choice before their last" in caplog.text
    assert "1 rows hold a choice that was there before" in caplog.text


BAD = {
    "a choice without a name": (
        "id,choice,prob,gold\na,0,.5,0\na,,.5,0\n",
        {},
        "does not say in row 2 which choice it is about",
    ),
    "nothing known": ("a,b\n1,2\n", {}, "has the columns a, b, which do not say what is what"),
    "undeclared": ("score_0,score_1,gold\n-1,-2,0\n", {}, "say which with --scores"),
    "no such kind": (
        "score_0,score_1,gold\n-1,-2,0\n",
        {"scores": "x"},
        "scores must be one of sum, min, mean",
    ),
    "no such column": ("p0,p1,gold\n", {"columns": {"gold": "z"}}, "has no column 'z', given as"),
    "no such role": ("p0,p1,gold\n", {"columns": {"x": "p0"}}, "columns must give choice"),
    "text in numbers": ("p0,p1,gold\n.5,x,0\n", {}, "invalid value 'x'"),
    "probabilities beyond 1": ("p0,p1,gold\n5,2,0\n", {}, "holds 5 where probabilities should be"),
    "probabilities short of 1": ("p0,p1,gold\n.2,.2,0\n", {}, "row 1 probabilities that add up"),
    "gold from 1": ("p0,p1,gold\n.5,.5,2\n", {}, "names as right in row 1 the choice 2 of 2"),
    "a question without a name": (
        "id,p0,p1,gold\na,.5,.5,0\n,.5,.5,0\n",
        {},
        "names no question in id, row 2",
    ),
    "a choice of a question without a name": (
        "id,choice,prob,gold\na,0,.5,0\n,1,.5,0\n",
        {},
        "names no question in id, row 2",
    ),
    "gold by letter and by number": (
        "p0,p1,gold\n.5,.5,A\n.5,.5,1\n",
        {},
        r"names in gold right choices by letter \(A\) and by number \(1\), so whether",
    ),
    "gold of another kind": ("p0,p1,gold\n.5,.5,yes!\n", {}, "names in gold the right choice as"),
    "confidence of percents": ("confidence,correct\n95,1\n", {}, "in row 1 the confidence 95"),
    "correct of another kind": ("confidence,correct\n.5,?\n", {}, r"holds '\?' in correct"),
    "ragged rows": ("p0,p1,gold\n.5,.5,0\n.5\n", {}, "is no table that can be read"),
    "a choice left out": ("p0,p2,gold\n.5,.5,0\n", {}, "between which a choice is missing"),
    "two kinds": ("p0,p1,lp0,lp1,gold\n", {}, r"columns of choices of several kinds \(lp, p\)"),
    "unknown about": ("p0,p1,gold\n", {"about": {"colour": "x"}}, "about must give model, task"),
    "many columns": (",".join(f"c{i}" for i in range(10_001)) + "\n", {}, "has 10001 columns"),
    "empty": ("p0,p1,gold\n", {}, "is empty"),
    "gold from 1, beyond the choices of its own row": (
        "p0,p1,p2,gold\n.5,.5,,1\n.2,.3,.5,1\n.5,.5,,2\n",
        {},
        "names as right in row 3 the choice 2 of 2",
    ),
    "gold from 1 of lettered choices": (
        "id,choice,prob,gold\na,A,.5,1\na,B,.5,1\nb,A,.5,2\nb,B,.5,2\n",
        {},
        "names as right in row 3 the choice 2 of 2",
    ),
    "columns from 1 and a gold that may be": (
        "p1,p2,p3,gold\n.5,.3,.2,1\n.2,.3,.5,2\n",
        {},
        r"counts its choices from 1 \(p1, …\) .* from 0 or from 1 is not known",
    ),
    "two columns that may be the gold": (
        "p0,p1,target,answer\n.5,.5,0,1\n",
        {},
        r"columns answer, target, each of which may be gold; .*\(gold=NAME\)",
    ),
    "two lists of scores": (
        'probs,logits,gold\n"[.5,.5]","[1,2]",0\n',
        {},
        "columns logits, probs, each of which may be scores",
    ),
    "gold that is a flag of each choice": (
        "id,choice,prob,gold\na,0,.5,0\na,1,.5,1\n",
        {},
        r"row 2 of gold another right choice .* --columns \(is_gold=gold\)",
    ),
    "gold counted otherwise than the choices": (
        "id,choice,prob,gold\na,1,.5,0\na,2,.5,0\n",
        {},
        "counts the choices in choice from 1 and names in gold right ones that are none",
    ),
    "scores of a table without": (
        "confidence,correct\n.5,1\n",
        {"scores": "sum"},
        "scores is given as sum, but no column of scores is found",
    ),
    "a method that is none": (
        "p0,p1,gold\n.5,.5,0\n",
        {"about": {"method": "guess"}},
        "about must give method as one of continuation-sum, .*got 'guess'",
    ),
    "a model told twice": (
        "p0,p1,gold,model\n.5,.5,0,a\n",
        {"about": {"model": "b"}},
        "about gives model=b, but .* says it in its column model",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_table_is_one_sentence(tmp_path: Path, name: str) -> None:
    text, options, message = BAD[name]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load(path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("parquet", b"PAR1 and nothing else"),
        ("csv", b"\xff\xfe\x00"),
        ("csv.gz", b"no gzip"),
        ("jsonl", b'{"p0": 1'),
        ("jsonl", b'{"p0": 0.5, "p1": 0.5, "gold": 0}\n[1]\n'),
        ("jsonl", b'{"p0": 0.5, "p1": {"a": 1}, "gold": 0}\n'),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"t.{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=r"^none of 1 log") as error:
        load(tmp_path / f"t.{suffix}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("role", ["id", "gold"])
def test_a_column_of_lists_where_names_should_be_is_refused(tmp_path: Path, role: str) -> None:
    frame = pd.DataFrame({"p0": [0.5], "p1": [0.5], "gold": [0], "id": ["a"]})
    frame[role] = [["a", "b"]]
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=rf"holds list<.*> in {role}, expected texts or numbers"):
        load(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "text", ["x,p0,p1,gold\na,.5,.5,0\nb,.2,.8,1\n", "x,confidence,correct\na,.5,1\nb,.8,0\n"]
)
def test_one_column_may_have_two_roles(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    runs = load(path, columns={"id": "x", "task": "x"})
    assert [(run.header.task, run.doc_hash.tolist()) for run in runs] == [
        ("a", ["a"]),
        ("b", ["b"]),
    ]


def test_a_table_within_a_folder_is_no_log(tmp_path: Path) -> None:
    write(WIDE, tmp_path / "pairs.csv")
    with pytest.raises(UserError, match="holds no sample log"):
        load(tmp_path)


@pytest.mark.parametrize("gold", [[0, 1, 2], ["B", "C", "B"]])
def test_columns_from_1_with_a_gold_that_is_clear(tmp_path: Path, gold: list[Any]) -> None:
    frame = pd.DataFrame({f"logit_{k + 1}": SCORES[:3, k] for k in range(3)}).assign(gold=gold)
    (run,) = load(write(frame, tmp_path / "t.csv"))
    assert run.gold.tolist() == ([0, 1, 2] if gold[0] == 0 else [1, 2, 1])


@pytest.mark.parametrize("name", ["about", "scores", "columns"])
def test_what_is_said_of_tables_is_not_ignored_where_there_are_none(
    tmp_path: Path, name: str
) -> None:
    write_example_log(tmp_path, model="org/m", task="toy", n=3)
    said: Any = {"about": {"model": "x"}, "scores": "sum", "columns": {"gold": "x"}}[name]
    with pytest.raises(UserError, match=f"^{name} tells how tables are read, but LOGS holds no"):
        load(tmp_path, **{name: said})
