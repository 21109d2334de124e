"""`calib-harness report`, without a browser: what it reads, what it writes, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from calib_harness import compare, load_predictions
from calib_harness.cli import app
from calib_harness.errors import UserError
from calib_harness.page import make_report, numbers, tested
from calib_harness.page.make import _resamples_for
from calib_harness.page.packing import printed_alike
from tests.page.runs import METHODS
from tests.predictions.entries import entry, write_run


def document(page):
    found = re.search(r'id="document">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_command_writes_one_file_and_records_how(runs, tmp_path, monkeypatch):
    page = tmp_path / "deep" / "page.html"
    arguments = ["report", str(runs / "logs"), "--no-cache", "--resamples", "0", "-o", str(page)]
    monkeypatch.setattr(sys, "argv", ["calib-harness", *arguments])
    app(arguments, standalone_mode=False)
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    assert document(page)["made"]["command"].startswith("calib-harness report ")


def test_page_names_no_file_but_itself(site):
    markup = re.sub(r"<script.*?</script>", "", site.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', markup) == []
    assert "url(" not in markup
    assert "sourceMappingURL" not in site.read_text(encoding="utf-8")


def test_log_in_which_no_question_can_be_used_has_a_row_and_empty_diagrams(tmp_path):
    impossible = [entry(number, [-np.inf] * 4, 0) for number in range(5)]
    write_run(tmp_path / "logs", impossible, model="org/broken", task="letters")
    page = document(make_report(tmp_path / "logs", tmp_path / "page.html", cache=False))
    assert page["entries"]["n"] == page["entries"]["unusable"] == [5]
    assert page["columns"]["diagrams"]["top_size"]["length"] == 0


def test_same_logs_give_the_same_page_but_for_the_date(runs, tmp_path):
    options = {"pairs": runs / "pairs.csv", "tasks": ["letters"], "n_resamples": 20}
    pages = [
        make_report(runs / "logs", tmp_path / name, cache=False, **options).read_text()
        for name in ("a.html", "b.html")
    ]
    assert len({re.sub(r"\d\d:\d\d UTC", "", page) for page in pages}) == 1


def test_page_does_not_depend_on_the_number_of_processes(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "_LITTLE_WORK", 0)
    options = {"pairs": runs / "pairs.csv", "n_resamples": 20, "cache": False}
    pages = [
        make_report(runs / "logs", tmp_path / f"{n}.html", n_jobs=n, **options).read_text()
        for n in (1, 2)
    ]
    assert len({re.sub(r"\d\d:\d\d UTC", "", page) for page in pages}) == 1


def test_tables_of_a_sweep_bring_families_stages_and_pairs(runs, tmp_path):
    sweep = tmp_path / "sweep"
    shutil.copytree(runs / "logs", sweep / "runs" / "logs")
    (sweep / "tables").mkdir()
    table = {
        "family": ["Ash", "Ash"],
        "stage": ["base", "dpo"],
        "step": [None, None],
        "model": ["org/ash", "org/ash-chat"],
        "revision": [None, "main"],
    }
    pd.DataFrame(table).to_csv(sweep / "tables" / "metrics.csv", index=False)
    pairs = pd.DataFrame(
        [("Ash", "org/ash", "org/ash-chat")], columns=["family", "base", "aligned"]
    )
    pairs.to_csv(sweep / "tables" / "pairs.csv", index=False)
    options = {"tasks": ["letters"], "n_resamples": 20}
    found = document(make_report(sweep, tmp_path / "page.html", cache=False, **options))
    places = {m["label"]: (m["family"], m["stage"]) for m in found["models"]}
    assert places["org/ash"] == ("Ash", "base")
    assert places["org/ash-chat"] == ("Ash", "dpo")
    assert [pair["family"] for pair in found["pairs"]] == ["Ash"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pairs": "no.csv"}, "pairs no.csv does not exist"),
        ({"chain": "no.csv"}, "chain no.csv does not exist"),
        ({"metrics": ["nonsense"]}, "metrics must be among"),
        ({"n_bins": 0}, "n_bins must be a whole number of at least 1"),
        ({"methods": ["nonsense"]}, "--methods must be among"),
    ],
)
def test_wrong_options_end_in_a_sentence(runs, tmp_path, options, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        make_report(runs / "logs", tmp_path / "page.html", cache=False, **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--jobs", "-1"], "--jobs must be at least 1; got -1"),
        (["--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["-o", "page.gif"], "--output must end in .html, .htm; got 'page.gif'"),
    ],
)
def test_wrong_arguments_of_the_command_end_in_a_sentence(
    runs, tmp_path, monkeypatch, options, sentence
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(sentence)):
        app(["report", str(runs / "logs"), "--no-cache", *options], standalone_mode=False)


def test_changes_without_resamples_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="--resamples"):
        make_report(
            runs / "logs", tmp_path / "p.html", pairs=runs / "pairs.csv", n_resamples=0, cache=False
        )


def test_output_that_cannot_be_written_is_named_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path, tmp_path / "file" / "page.html"):
        with pytest.raises(UserError, match="cannot be written"):
            make_report(tmp_path / "no logs", output, cache=False)


def test_narrow_numbers_print_as_the_exact_ones_do():
    rng = np.random.default_rng(0)
    edges = (np.arange(2000) + 0.5) / 1000
    values = np.concatenate([rng.normal(size=2000), np.nextafter(edges, 0), np.nextafter(edges, 2)])
    narrow = printed_alike(values)
    assert [f"{x:.3f}" for x in narrow.astype(float)] == [f"{x:.3f}" for x in values]
    np.testing.assert_allclose(narrow, values, rtol=2e-7)
    # Plain rounding does not: this test can fail.
    assert [f"{x:.3f}" for x in values.astype("float32").astype(float)] != [
        f"{x:.3f}" for x in values
    ]


def test_a_page_of_very_many_answers_keeps_fewer_diagrams(runs, tmp_path, monkeypatch):
    options = {"tasks": ["letters"], "n_resamples": 0, "cache": False, "n_bins": 10}
    whole = document(make_report(runs / "logs", tmp_path / "whole.html", **options))
    assert len(whole["binnings"]) == len(whole["class_binnings"]) == 6
    monkeypatch.setattr("calib_harness.page.numbers._DIAGRAM_WORK", 100)
    path = tmp_path / "fewer.html"
    fewer = document(make_report(runs / "logs", path, **options, binning="equal_mass"))
    assert fewer["binnings"] == [[10, "uniform"], [10, "equal_mass"]]
    assert fewer["class_binnings"] == [[10, "equal_mass"], [10, "uniform"]]


@pytest.mark.parametrize(
    ("entries", "answers", "n_resamples"),
    [(1000, 10_000_000, 1000), (1001, 1_000_000, 200), (6000, 4_000_000, 150), (6000, 10**8, 100)],
)
def test_resamples_become_fewer_with_the_size_of_the_page(entries, answers, n_resamples):
    runs = [range(answers // entries)] * entries
    assert _resamples_for(runs) == pytest.approx(n_resamples, abs=1)


def test_records_with_numpys_numbers_are_json():
    # A column of counts with a gap holds numpy's integers: no page was written.
    counts = pd.Series([np.int64(3), None], dtype=object)
    frame = pd.DataFrame({"n_shot": counts, "mean": [0.5, np.nan]})
    expected = [{"n_shot": 3, "mean": 0.5}, {"n_shot": None, "mean": None}]
    assert json.loads(json.dumps(tested._records(frame))) == expected


def test_verdicts_are_json_and_name_the_row_of_the_largest_change(runs):
    # The row was numpy's integer: no page with a clear change was written.
    predictions = load_predictions(runs / "logs", methods=METHODS, cache=False)
    found = compare(predictions, runs / "pairs.csv", n_resamples=50)
    words = json.loads(json.dumps(tested._verdicts(found)))
    rows = [found.changes.iloc[each["change"]] for each in words if each["change"] is not None]
    assert rows
    assert all(row["clear"] and row["metric"] == "calibration_loss" for row in rows)
