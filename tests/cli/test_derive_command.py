"""`derive`, `order` and `prompts`, as they are typed."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from calib_harness import cli
from calib_harness.predictions.samples import write_example_log


def call(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["calib-harness", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", "letters"], "--prompt must be one of stock, cloze, choice, both"),
        (["--metadata", "orders"], "--metadata must be JSON"),
        (["--metadata", "[1]"], "--metadata must be a JSON object"),
    ],
)
def test_a_wrong_option_of_derive_is_a_sentence(
    monkeypatch, capsys, tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, err = call(monkeypatch, capsys, "derive", "piqa", "-o", tmp_path, *options)
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())


def test_order_says_what_to_do_where_logs_hold_one_order(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    write_example_log(tmp_path, model="org/m", task="toy", n=20)
    code, _, err = call(monkeypatch, capsys, "order", tmp_path)
    assert code == 2
    assert "no log holds questions under several orders" in err


def write_orders(folder: Path) -> None:
    """Write a log of questions in two orders of their choices."""
    write_example_log(folder, model="org/m", task="toy", n=20)
    [log] = folder.rglob("samples_*.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    for entry in entries:
        n = len(entry["resps"])
        entry["resps"] *= 2
        entry["calib_harness"] = {"gold": 0, "orders": [[*range(n)], [*range(n)][::-1]]}
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_each_table_of_order_is_there_as_csv(monkeypatch, capsys, tmp_path: Path) -> None:
    write_orders(tmp_path)
    heads = {}
    for name in ("values", "answers"):
        _, out, _ = call(
            *(monkeypatch, capsys, "order", tmp_path),
            *("--resamples", 20, "--format", "csv", "--table", name),
        )
        [heads[name], *_] = csv.reader(io.StringIO(out))
    assert "share" in heads["values"] or "null" in heads["values"]
    assert "answer_changes" in heads["answers"]
    code, _, err = call(monkeypatch, capsys, "order", tmp_path, "--table", "letter")
    assert (code, "--table must be one of values, letters, answers" in err) == (2, True)


def write_variant(folder: Path, model: str, variant: str, sharpness: float) -> None:
    """Write the log of one run on the same questions as every other variant's."""
    place = folder / variant
    write_example_log(place, model=model, task="toy", n=300, sharpness=sharpness)
    task = f"toy_calib_prompt_{variant}"
    for path in (place / model).iterdir():
        text = path.read_text().replace('"toy":', f'"{task}":')
        path.write_text(text)
        path.rename(path.with_name(path.name.replace("samples_toy_", f"samples_{task}_")))


def test_prompts_compares_a_pair_over_the_variants_of_a_task(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    for variant, sharpness in (("plain", 1.0), ("exam", 3.0)):
        write_variant(tmp_path, "m", variant, 1.0)
        write_variant(tmp_path, "m-chat", variant, sharpness)
    pair = ["--base", "m", "--aligned", "m-chat", "--resamples", 50, "--no-cache"]
    code, out, _ = call(monkeypatch, capsys, "prompts", tmp_path, *pair, "--format", "csv")
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(out))}
    assert code == 0
    assert rows["overconfidence"]["benchmark"] == "toy"
    assert rows["overconfidence"]["n_prompts"] == "2"
    assert (
        float(rows["overconfidence"]["base_spread"])
        == 0
        < float(rows["overconfidence"]["aligned_spread"])
    )
    assert float(rows["acc"]["change"]) == 0


def test_prompts_says_what_it_needs(monkeypatch, capsys, tmp_path: Path) -> None:
    write_variant(tmp_path, "m", "plain", 1.0)
    code, _, err = call(monkeypatch, capsys, "prompts", tmp_path, "--base", "m")
    assert code == 2
    assert "give either --pairs FILE, or both --base MODEL and --aligned MODEL" in err
