"""`derive` and `order`, as they are typed."""

from __future__ import annotations

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
