"""The commands `metrics` and `compare`, as they are typed."""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calib_harness import cli, ece, fit_temperature, load_predictions, metrics_frame, wide_frame
from calib_harness.predictions.samples import write_example_log


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write_example_log(folder, model="org/m", task="toy", n=120)
    write_example_log(folder, model="org/m-chat", task="toy", n=120, sharpness=3.0)
    return folder


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command line; gives exit status, standard output and standard error."""
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        logging.getLogger("calib_harness").handlers.clear()
        monkeypatch.setattr(sys, "argv", ["calib-harness", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    logger = logging.getLogger("calib_harness")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def test_metrics_table_shows_every_run_with_errors(logs: Path, call: Callable) -> None:
    code, out, _ = call("metrics", logs, "--resamples", 50)
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == [
        *("model", "task", "method", "shots", "n", "M"),
        *("acc", "ece", "ece_null", "p", "ece", "sce", "sce_null", "p", "sce"),
        *("brier_score", "nll", "auroc", "overconfidence"),
    ]
    assert [row.split()[0] for row in rows] == ["org/m", "org/m-chat"]
    assert all(row.count("±") == 8 for row in rows)
    (run, _) = load_predictions(logs, cache=False)
    assert f"{ece(run.probs, run.gold):.3f} ±" in rows[0]


def test_options_recompute_without_a_model(logs: Path, call: Callable) -> None:
    _, out, _ = call(
        *("metrics", logs, "--metrics", "ece, mce", "--n-bins", 5, "--binning", "equal_mass"),
        *("--resamples", 0, "--format", "csv"),
    )
    rows = list(csv.DictReader(io.StringIO(out)))
    (run, _) = load_predictions(logs, cache=False)
    assert rows[0]["M"] == "5"
    expected = ece(run.probs, run.gold, n_bins=5, binning="equal_mass")
    assert float(rows[0]["ece"]) == expected
    assert rows[0]["ece_stderr"] == ""


def test_recalibration_columns(logs: Path, call: Callable) -> None:
    _, out, _ = call("metrics", logs, "--recalibrate", "--metrics", "ece", "--resamples", 20)
    header, _, chat = out.splitlines()
    assert header.split()[-2:] == ["temperature", "ece_recalibrated"]
    (_, run) = load_predictions(logs, cache=False)
    assert float(chat.split()[-3]) == pytest.approx(fit_temperature(run.scores, run.gold), abs=6e-4)


def test_json_is_the_wide_frame_with_null_for_missing(logs: Path, call: Callable) -> None:
    _, out, _ = call("metrics", logs, "--resamples", 0, "--format", "json")
    rows = json.loads(out)
    expected = wide_frame(metrics_frame(load_predictions(logs, cache=False), n_resamples=0))
    assert [row["nll"] for row in rows] == expected["nll"].tolist()
    assert rows[0]["nll_stderr"] is None
    assert rows[0]["chat_template"] is False


def test_markdown(logs: Path, call: Callable) -> None:
    _, out, _ = call("metrics", logs, "--metrics", "acc", "--resamples", 20, "--format", "markdown")
    header, rule, *rows = out.splitlines()
    assert header == "| model | task | method | shots | n | M | acc |"
    assert rule == "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    assert rows[1].startswith("| org/m-chat | toy | choice | 0 | 120 | 15 | 0.")


def test_latex_escapes_what_tex_would_stumble_over(tmp_path: Path, call: Callable) -> None:
    write_example_log(tmp_path / "l", model="org/m_1", task="toy_task", n=20)
    _, out, _ = call("metrics", tmp_path / "l", "--metrics", "acc", "--format", "latex")
    assert r"org/m\_1 & toy\_task & choice & 0 & 20 & 15 & 0." in out
    assert r"$\pm$" in out
    assert out.count(r"\\") == 2


@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".csv", "model,"), (".json", "["), (".md", "| model"), (".tex", "\\begin"), (".txt", "mod")],
)
def test_output_is_written_in_the_format_of_its_suffix(
    logs: Path, call: Callable, tmp_path: Path, suffix: str, start: str
) -> None:
    path = tmp_path / "new" / f"table{suffix}"
    code, out, _ = call("metrics", logs, "--metrics", "acc", "--resamples", 0, "--output", path)
    assert (code, out) == (0, "")
    assert path.read_text().startswith(start)


def test_settings_that_vary_get_a_column(tmp_path: Path, call: Callable) -> None:
    for date in ("2025-01-01T00-00-00.0", "2025-01-02T00-00-00.0"):
        write_example_log(tmp_path / "l", model="m", task="toy", n=20, date=date)
    _, out, err = call("metrics", tmp_path / "l", "--metrics", "acc")
    assert len(out.splitlines()) == 2
    assert "WARNING: m on toy was run 2 times: the newest" in err
    _, out, _ = call("metrics", tmp_path / "l", "--metrics", "acc", "--all-runs")
    assert "2025-01-02T00:00:00.0" in out


def test_methods_not_in_the_logs_are_listed_if_asked_for(logs: Path, call: Callable) -> None:
    _, out, err = call("metrics", logs, "--metrics", "acc")
    assert "not in 2 log(s)" not in err
    _, out, err = call(
        *("metrics", logs, "--metrics", "acc", "--methods", "choice,continuation-bytes")
    )
    assert "continuation-bytes: not in 2 log(s) of toy: the log scores letters" in err
    assert "not in" not in out


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A1", "+1+1", "@SUM(A1)", "-2+3"])
def test_names_in_csv_are_no_formulas(tmp_path: Path, call: Callable, name: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f'p0,p1,gold,model\n.5,.5,0,"{name}"\n.9,.1,1,"{name}"\n')
    _, out, _ = call("metrics", table, "--resamples", 0, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["model"] == f"'{name}"
    assert float(row["acc"]) == 0.5


def test_a_table_is_measured_as_it_is_described(tmp_path: Path, call: Callable) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,right\n-1,-2,0\n-3,-1,0\n")
    _, out, _ = call(
        *("metrics", table, "--resamples", 0, "--format", "csv", "--scores", "mean"),
        *("--columns", "scores=a|b,gold=right", "--about", "model=org/m,task=arc,n_shot=5"),
    )
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["model"], row["task"], row["n_shot"]) == ("org/m", "arc", "5")
    assert (row["method"], row["acc"], row["gold"]) == ("continuation-mean", "0.5", "stated")
    code, _, err = call("metrics", table, "--about", "model")
    assert code == 2
    assert "--about must be KEY=VALUE,KEY=VALUE; got 'model'" in err


def test_compare_a_pair(logs: Path, call: Callable) -> None:
    code, out, _ = call("compare", logs, "--base", "m", "--aligned", "m-chat")
    assert code == 0
    for title in (
        "Changes (aligned − base), paired bootstrap over questions",
        "Share of pairs harmed, exact sign test",
        "Agreement of the ranks across tasks",
        "Change of ECE split into over- and underconfidence",
    ):
        assert title in out
    assert "org/m-chat" in out


def test_compare_says_that_a_pools_questions_count_as_independent(
    call: Callable, tmp_path: Path
) -> None:
    for model in ("org/m", "org/m-chat"):
        for seed, task in enumerate(("t_1", "t_2")):
            write_example_log(tmp_path, model=model, task=task, n=30, seed=seed)
    pair = ("--base", "m", "--aligned", "m-chat", "--metrics", "ece", "--resamples", 50)
    said = "questions of a pool are taken as independent"
    _, _, err = call("compare", tmp_path, *pair, "--pool", "t_*")
    assert said in err
    _, _, err = call("compare", tmp_path, *pair)
    assert said not in err


def test_compare_pairs_to_csv_and_json(logs: Path, call: Callable, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("family,base,aligned\nM,org/m,org/m-chat\n")
    common = ("compare", logs, "--pairs", pairs, "--metrics", "ece", "--resamples", 100)
    _, out, err = call(*common, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["family"], row["n"], row["rank"]) == ("M", "120", "1.0")
    assert "CSV holds one table, changes" in err
    _, out, _ = call(*common, "--format", "csv", "--table", "decomposition")
    assert out.startswith("family,base,aligned,task,method,n_shot,ece_change")
    _, out, _ = call(*common, "--format", "json")
    assert set(json.loads(out)) == {
        *("changes", "over_families", "across_pairs", "equal_accuracy", "over_tasks"),
        "decomposition",
    }
    assert json.loads(out)["over_tasks"][0]["kendalls_w"] is None


def test_compare_a_chain(logs: Path, call: Callable, tmp_path: Path) -> None:
    chain = tmp_path / "chain.csv"
    chain.write_text("model,stage\nm,base\nm-chat,chat\n")
    code, out, _ = call("compare", logs, "--chain", chain, "--metrics", "ece", "--format", "latex")
    assert code == 0
    assert "% Values along the chain" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics", "{}/none"], "none does not exist"),
        (["metrics", "{}", "--metrics", "x"], "--metrics must be among acc"),
        (["metrics", "{}", "--methods", "x"], "--methods must be among continuation-sum"),
        (["metrics", "{}", "--tasks", "x"], "--tasks x: no such logs; there are toy"),
        (["metrics", "{}", "--metrics", ""], "--metrics must be among acc"),
        (["metrics", "{}", "--seed", "-1"], "--seed must be a whole number of at least 0; got -1"),
        (["metrics", "{}", "--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["metrics", ""], "LOGS is empty"),
        (["metrics", "{}", "--output", "/dev/null/x.csv"], "cannot be written"),
        (["compare", "{}"], "give one of --pairs FILE, --chain FILE, --by SETTING, or --base"),
        (["compare", "{}", "--base", "m"], "give either --pairs FILE, or both --base"),
        (["compare", "{}", "--pairs", "none.csv"], "--pairs none.csv does not exist"),
        (["compare", "{}", "--base", "m", "--aligned", "x"], "no log of model 'x'"),
        (
            ["compare", "{}", "--base", "m", "--aligned", "m-chat", "--table", "x"],
            "--table must be one of changes, over_families",
        ),
        (["compare", "{}", "--base", "m", "--aligned", "m-chat", "--seed", "-1"], "--seed must be"),
        # Told before any log is read, which can take long.
        (["compare", "no logs", "--base", "m"], "give either --pairs FILE, or both --base"),
        (
            ["compare", "no logs", "--base", "m", "--aligned", "n", "--table", "values"],
            "--table must be one of changes, over_families, across_pairs, equal_accuracy",
        ),
        (
            ["compare", "no logs", "--base", "m", "--aligned", "n", "--metrics", "x"],
            "--metrics must be among acc",
        ),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(
    logs: Path, call: Callable, arguments: list[str], message: str
) -> None:
    code, out, err = call(*(argument.format(logs) for argument in arguments))
    assert code == 2
    assert out == ""
    (line,) = (line for line in err.splitlines() if line.startswith("calib-harness: "))
    assert message in line
    assert "Traceback" not in err


def test_full_disk_behind_standard_output_is_told(logs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "calib_harness", "metrics", str(logs), "--resamples", "0"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--cache", str(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "calib-harness: the table cannot be printed (No space left on device)."
    )


def test_metric_named_twice_is_one_column(logs: Path, call: Callable) -> None:
    _, out, _ = call("metrics", logs, "--metrics", "ece, ece", "--resamples", 0)
    assert out.splitlines()[0].split()[-2:] == ["M", "ece"]


def test_names_from_logs_are_shown_as_escapes_where_they_could_rewrite_a_terminal(
    tmp_path: Path, call: Callable
) -> None:
    sign = "\u202e"  # what follows is written from right to left
    write_example_log(tmp_path, model=f"org/m{sign}x", task="toy", n=40)
    broken = tmp_path / f"samples_{sign}_2025-01-01T00-00-00.000000.jsonl"
    broken.write_text("{")
    code, out, err = call("metrics", tmp_path)
    assert code == 0
    assert "org/m\\u202ex" in out
    assert "WARNING" in err
    assert "samples_\\u202e_" in err
    assert sign not in out + err
    code, out, err = call("metrics", tmp_path / f"nothing{sign}")
    assert code == 2
    assert "nothing\\u202e" in err
    assert sign not in err
