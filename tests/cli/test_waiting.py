"""What long commands show while they compute: on a terminal, late, and nowhere else."""

from __future__ import annotations

import io
import sys

from calib_harness import waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(monkeypatch, stderr, patience):
    """What standard error holds once the first of 40 items is there, and then all of them."""
    # Set here and not in a fixture: pytest puts its own in place before the test itself runs.
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(waiting, "_PATIENCE", patience)
    items = iter(waiting.shown(range(40), "Comparing", "pairs of runs"))
    first = next(items)
    text = stderr.getvalue()
    assert [first, *items] == list(range(40))
    return text, stderr.getvalue()


def test_a_terminal_is_told_what_is_waited_for_and_how_far_it_is(monkeypatch):
    text, at_the_end = told(monkeypatch, Terminal(), patience=0.0)
    assert "Comparing" in text
    assert "0/40" in text
    assert at_the_end.rpartition("\r")[0].endswith(" ")  # wiped out again


def test_what_takes_less_than_five_seconds_shows_nothing(monkeypatch):
    assert told(monkeypatch, Terminal(), patience=waiting._PATIENCE) == ("", "")


def test_a_pipe_gets_nothing(monkeypatch):
    assert told(monkeypatch, io.StringIO(), patience=0.0) == ("", "")
