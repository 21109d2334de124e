"""A run loads each dataset once, whatever number of tasks asks it."""

from __future__ import annotations

import datasets
import pytest

from calib_harness.harness.dataset_loads import each_loaded_once


@pytest.fixture
def loads(monkeypatch):
    """Arguments of every call that reaches `datasets`."""
    found = []

    def load(*args, **kwargs):
        found.append((args, kwargs))
        rows = datasets.Dataset.from_dict({"question": ["a", "b"]})
        return datasets.DatasetDict({"test": rows})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return found


def test_the_same_arguments_load_once(loads):
    with each_loaded_once():
        first = datasets.load_dataset(path="arc", name="easy")
        second = datasets.load_dataset(name="easy", path="arc")
        datasets.load_dataset(path="arc", name="challenge")
    assert [kwargs["name"] for _, kwargs in loads] == ["easy", "challenge"]
    assert second["test"].to_list() == first["test"].to_list()


def test_a_split_that_one_task_adds_is_not_anothers(loads):
    with each_loaded_once():
        first = datasets.load_dataset("arc")
        first["own"] = first["test"]
        assert list(datasets.load_dataset("arc")) == ["test"]


def test_arguments_that_cannot_be_compared_are_loaded_each_time(loads):
    with each_loaded_once():
        for _ in range(2):
            datasets.load_dataset("arc", features=object())
    assert len(loads) == 2


def test_datasets_is_as_it_was_afterwards(loads):
    before = datasets.load_dataset
    with each_loaded_once():
        assert datasets.load_dataset is not before
    assert datasets.load_dataset is before
