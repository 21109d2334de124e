"""The kept index of tasks is lm-eval's own, as long as the files are what they were."""

from __future__ import annotations

import logging
import os
import time

import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex

from calib_harness.harness import task_index
from calib_harness.harness.task_index import all_names, kept_index
from tests.conftest import CLOZE

STOCK = "task: stock_{}\ntag: stock_tag\ndataset_path: json\noutput_type: multiple_choice\n"


@pytest.fixture
def stock(tmp_path, monkeypatch):
    """A small folder in place of lm-eval's own 14,000 files."""
    folder = tmp_path / "stock"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.yaml").write_text(STOCK.format(name))
    (folder / "group.yaml").write_text("group: both\ntask:\n  - stock_a\n  - stock_b\n")
    monkeypatch.setattr(task_index, "_LM_EVALS_OWN", folder)
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(folder / "manager.py"))
    return folder


@pytest.fixture
def built(monkeypatch):
    """Count how often the stock folder is read."""
    times, build = [], TaskIndex.build

    def counted(paths, **options):
        paths = list(paths)
        times.extend(path for path in paths if path.name == "stock")
        return build(paths, **options)

    monkeypatch.setattr(TaskIndex, "build", staticmethod(counted))
    return times


def entries(manager):
    return {
        name: (entry.kind, entry.yaml_path, entry.tags, entry.cfg)
        for name, entry in manager.task_index.items()
    }


def test_a_kept_index_equals_a_built_one_and_is_built_once(stock, built, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.yaml").write_text(f"task: toy{CLOZE}")
    expected = entries(TaskManager(include_path=str(tmp_path / "own")))
    built.clear()
    for _ in range(2):
        with kept_index(tmp_path / "kept"):
            assert entries(TaskManager(include_path=str(tmp_path / "own"))) == expected
            assert {"stock_a", "both", "stock_tag"} <= set(all_names(None))
    assert len(built) == 1


def test_a_changed_or_new_file_is_seen(stock, built, tmp_path):
    kept = tmp_path / "kept"
    with kept_index(kept):
        all_names(None)
        (stock / "c.yaml").write_text(STOCK.format("c"))
        assert "stock_c" in all_names(None)
        later = time.time() + 10
        (stock / "c.yaml").write_text(STOCK.format("d"))
        os.utime(stock / "c.yaml", (later, later))
        assert "stock_c" not in all_names(None)
    assert len(built) == 3


@pytest.mark.parametrize("content", ["", "{}", '{"state": 1}', "\0"])
def test_a_broken_kept_index_is_made_anew(stock, built, tmp_path, caplog, content):
    kept = tmp_path / "kept"
    with kept_index(kept):
        names = all_names(None)
        [file] = kept.iterdir()
        file.write_text(content)
        with caplog.at_level(logging.WARNING):
            assert all_names(None) == names
    assert "is broken" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_warning(stock, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with kept_index(tmp_path / "file"), caplog.at_level(logging.WARNING):
        assert "stock_a" in all_names(None)
    assert "The index of tasks cannot be kept in" in caplog.text


def test_lm_eval_is_as_it_was_afterwards(tmp_path):
    before = TaskIndex.build
    with kept_index(tmp_path):
        assert TaskIndex.build is not before
    assert TaskIndex.build is before
