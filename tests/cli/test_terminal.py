"""Tables on a terminal: no wider than it, nothing cut, what is left out is named."""

from __future__ import annotations

import pandas as pd
import pytest
from rich.cells import cell_len

from calib_harness.cli.readable import harm_first
from calib_harness.cli.terminal import fitted

N_ROWS = 6
NAMES = [f"org/a-model-with-a-long-name-{i}-chat" for i in range(N_ROWS)]


def frame() -> pd.DataFrame:
    numbers = {
        f"metric_{column}": [f"0.{row}{column:02d} ±0.021" for row in range(N_ROWS)]
        for column in range(12)
    }
    p_values = ["0.012", "0.700", "1.0e-05", "", "0.050", "0.049"]
    return pd.DataFrame(
        {"model": NAMES, "task": "arc", "method": "choice", **numbers, "p_holm": p_values}
    )


@pytest.mark.parametrize("width", [50, 80, 120, 400])
def test_no_line_is_wider_than_the_terminal(width):
    text = fitted("Metrics", frame(), width)
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [50, 80, 120, 400])
def test_every_column_is_shown_or_told_once_or_named_as_left_out(width):
    table = frame()
    text = fitted("", table, width)
    told = " ".join(text.split())
    assert "All rows: task arc, method choice" in told
    heading = next(line for line in text.splitlines() if line.lstrip().startswith("model"))
    left_out = told.partition("Not shown: ")[2].partition(";")[0].split(", ")
    for column in table.columns.drop(["task", "method"]):
        assert (column in heading.split()) != (column in left_out), column


def test_numbers_are_never_cut():
    table = frame()
    text = fitted("", table, 60)
    shown = {column for column in table.columns if f" {column}" in text.partition("Not shown")[0]}
    for column in shown - {"p_holm"}:
        for cell in table[column]:
            assert cell in text
    assert any(column.startswith("metric") for column in shown)


def test_names_keep_what_tells_them_apart():
    text = fitted("", frame(), 50)
    names = [line.split()[0] for line in text.splitlines() if "…" in line]
    assert len(set(names)) == N_ROWS
    assert all(name.endswith("-chat") for name in names)


def test_columns_that_matter_stay_when_there_is_little_room():
    text = fitted("", frame(), 60, first=("model", "p_holm", "metric_7"))
    heading = next(line for line in text.splitlines() if line.lstrip().startswith("model"))
    assert {"p_holm", "metric_7"} <= set(heading.split())


def test_small_p_values_are_marked_and_the_mark_is_explained():
    text = fitted("", frame(), 400)
    assert "0.012*" in text
    assert "1.0e-05*" in text
    assert "0.049*" in text
    assert "0.050*" not in text
    assert "* p < 0.05" in text


def test_a_table_of_one_row_keeps_its_columns():
    text = fitted("", frame().head(1), 400)
    assert "All rows" not in text
    assert "arc" in text


def test_harm_comes_first_and_clear_harm_before_what_chance_may_have_made():
    changes = pd.DataFrame(
        {
            "metric": ["ece", "acc", "ece", "ece", "overconfidence"],
            "base_value": [0.10, 0.60, 0.10, 0.10, 0.05],
            "aligned_value": [0.05, 0.50, 0.30, 0.35, -0.06],
            "change": [-0.05, -0.10, 0.20, 0.25, -0.11],
            "clear": [True, True, True, False, True],
        }
    )
    assert harm_first(changes).index.tolist() == [2, 1, 4, 3, 0]


def test_a_title_is_as_wide_as_the_terminal_and_not_as_its_narrow_table():
    # Above one short column it stood in pieces of six letters.
    frame = pd.DataFrame({"method": ["choice"] * 2, "metric": ["ece", "acc"]})
    assert fitted("Agreement of the ranks across tasks", frame, 80).splitlines() == [
        "Agreement of the ranks across tasks",
        "All rows: method choice",
        *("metric", "ece", "acc"),
    ]
