"""Logs on the Hugging Face Hub, read from a stand-in that speaks its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import utils

from calib_harness import Predictions, UserError, load_predictions
from tests.predictions.entries import early, entry, write_run
from tests.predictions.hub import hub

DATES = ("2024-06-16T18-51-27.894271", "2024-07-01T09-00-00.000001")
DETAILS = "open-llm-leaderboard/org__model-details"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def details(tmp_path: Path) -> Path:
    """A model's details as the Open LLM Leaderboard keeps them: a folder, dates in the names."""
    root = tmp_path / "details"
    for number, date in enumerate(DATES):
        for task in ("leaderboard_arc_challenge", "leaderboard_mmlu_pro"):
            entries = [entry(i, [-1.0, -2.0 - number], i % 2) for i in range(20)]
            log = write_run(root, entries, model="org/model", task=task, date=date)
            log.with_suffix(".json").write_text(early(entries))
            log.unlink()
    splits = [
        {"split": date.replace("-", "_"), "path": [f"**/samples_*_{date}.json*"]} for date in DATES
    ]
    configs = [{"config_name": "org__model__leaderboard_arc_challenge", "data_files": splits}]
    (root / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    return root


@pytest.fixture
def endpoint(details: Path) -> Iterator[str]:
    with hub({DETAILS: details, "org/gated": details}, gated=frozenset(["org/gated"])) as address:
        yield address


def load(url: str, endpoint: str, **options: object) -> list[Predictions]:
    return load_predictions(url, cache=False, storage_options={"endpoint": endpoint}, **options)


def test_details_of_the_leaderboard_are_those_on_the_disk(
    details: Path, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs = load(f"hf://datasets/{DETAILS}", endpoint)
    local = load_predictions(details, cache=False)
    assert len(runs) == len(local) == 2
    for run, same in zip(runs, local, strict=True):
        assert (run.header.model, run.header.task) == (same.header.model, same.header.task)
        assert run.header.date.startswith("2024-07-01T09:00:00")
        np.testing.assert_array_equal(run.scores, same.scores)
        np.testing.assert_array_equal(run.gold, same.gold)
    assert "org/model on leaderboard_mmlu_pro was run 2 times: the newest, hf://" in caplog.text


def test_a_folder_a_file_and_a_revision_of_a_data_set(endpoint: str) -> None:
    file = f"org__model/samples_leaderboard_arc_challenge_{DATES[0]}.json"
    for url in (f"{DETAILS}/org__model", f"{DETAILS}@main", f"{DETAILS}/{file}"):
        run = load(f"hf://datasets/{url}", endpoint, tasks="leaderboard_arc_challenge")[0]
        assert (run.header.model, len(run)) == ("org/model", 20)


def test_logs_of_the_hub_are_kept_and_not_fetched_again(
    tmp_path: Path, details: Path, endpoint: str
) -> None:
    url, options = f"hf://datasets/{DETAILS}", {"endpoint": endpoint}
    first = load_predictions(url, cache=tmp_path / "kept", storage_options=options)
    for log in details.glob("*/samples_*"):
        log.write_bytes(b"[]")  # of the same name and hash, so it is not asked for
    again = load_predictions(url, cache=tmp_path / "kept", storage_options=options)
    for run, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(run.scores, same.scores)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/absent", "org/absent does not exist or is not open to you: check .*HF_TOKEN"),
        ("org/gated", "org/gated does not exist or is not open to you: check .*HF_TOKEN"),
    ],
)
def test_data_sets_that_are_absent_or_not_open_are_one_sentence(
    endpoint: str, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(f"hf://datasets/{name}", endpoint)
    assert "\n" not in str(error.value)


def test_without_a_network_it_is_said() -> None:
    said = r"cannot be listed \(.*refused.*\); check the URL, the network"
    with pytest.raises(UserError, match=said) as error:
        load("hf://datasets/org/x", "http://127.0.0.1:9")
    assert "\n" not in str(error.value)


def test_details_of_the_first_leaderboard_are_refused_in_a_sentence(tmp_path: Path) -> None:
    root = tmp_path / "details_org__model" / "2023-08-22T09:42:37.095265"
    root.mkdir(parents=True)
    columns = {"example": ["q"], "gold": [0], "predictions": [[-1.0, -2.0]]}
    name = "details_harness|arc:challenge|25_2023-08-22T09:42:37.095265.parquet"
    pd.DataFrame(columns).to_parquet(root / name)
    dataset = "open-llm-leaderboard-old/details_org__model"
    with (
        hub({dataset: root.parent}) as endpoint,
        pytest.raises(UserError, match=r"lacks their columns doc and model_response \(lighteval"),
    ):
        load(f"hf://datasets/{dataset}", endpoint)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub's own switch; a session keeps to what it was when the session began."""
    forget = getattr(utils, "close_session", None) or utils.reset_sessions
    forget()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield
    forget()


@pytest.mark.usefixtures("offline")
def test_offline_mode_is_said(endpoint: str) -> None:
    with pytest.raises(UserError, match=r"cannot be listed .*offline") as error:
        load(f"hf://datasets/{DETAILS}/org__model", endpoint + "/")
    assert "\n" not in str(error.value)
