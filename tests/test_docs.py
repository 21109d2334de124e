"""Examples in the documentation run and give what they show."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["how-to/analyse-logs.md", "how-to/recalibrate.md"])
def test_examples_run_as_shown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE
    done = doctest.testfile(str(DOCS / name), module_relative=False, optionflags=flags)
    assert done.attempted > 5
    assert done.failed == 0
