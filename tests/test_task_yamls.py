"""The packaged tasks: complete, and equal to the stock tasks where they should be."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import yaml

import calib_harness

NAMES = [
    "arc_easy",
    "arc_challenge",
    "hellaswag",
    "piqa",
    "sciq",
    "medmcqa",
    "mmlu_stem",
    "mmlu_other",
    "mmlu_social_sciences",
    "mmlu_humanities",
]
# Our cloze task -> the stock tasks whose prompts it shares.
STOCK = {
    "mmlu_stem": ["mmlu_abstract_algebra_continuation", "mmlu_machine_learning_continuation"],
    "arc_easy": ["arc_easy"],
    "arc_challenge": ["arc_challenge"],
    "hellaswag": ["hellaswag"],
    "piqa": ["piqa"],
    "sciq": ["sciq"],
}


@pytest.fixture(scope="module")
def manager():
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=calib_harness.task_path())


def test_every_benchmark_has_its_two_tasks_and_its_group(manager):
    for name in NAMES:
        assert {f"{name}_calib_cloze", f"{name}_calib_choice"} <= set(manager.all_subtasks)
        assert f"{name}_calib" in manager.all_groups
    assert {"mmlu_calib", "calib_paper"} <= set(manager.all_groups)
    assert "calib" in manager.all_tags


def test_no_group_aggregates_a_metric_and_no_task_fixes_its_shots():
    for path in Path(calib_harness.task_path()).rglob("*yaml"):
        text = path.read_text(encoding="utf-8").replace("!function ", "")
        config = yaml.safe_load(text)
        assert "aggregate_metric_list" not in config, path
        assert "num_fewshot" not in config, path


def requests_of(task, docs, shots=0):
    """(context, continuation) of every choice of every document."""
    task.set_fewshot_seed(1)
    found = []
    for doc in docs:
        context = task.fewshot_context(doc, shots)
        requests = task.construct_requests(doc, context, metadata=("task", 0, 1))
        found.append([request.args for request in requests])
    return found


def first(docs, n):
    return [docs[i] for i in range(min(n, len(docs)))]


@pytest.mark.parametrize("name", STOCK)
def test_cloze_prompts_are_the_stock_tasks(hub, manager, name):
    ours = manager.load([f"{name}_calib_cloze"])["tasks"][f"{name}_calib_cloze"]
    for stock_name in STOCK[name]:
        stock = manager.load([stock_name])["tasks"][stock_name]
        docs = first(stock.eval_docs, 40)
        questions = {doc["question"] for doc in docs} if "mmlu" in name else None
        same = (
            first(ours.eval_docs, 40)
            if questions is None
            else [doc for doc in ours.eval_docs if doc["question"] in questions]
        )
        assert requests_of(stock, docs) == requests_of(ours, same)


def test_choice_prompts_show_lettered_choices_and_score_letters(hub, manager):
    for name in NAMES:
        task = manager.load([f"{name}_calib_choice"])["tasks"][f"{name}_calib_choice"]
        for arguments in requests_of(task, first(task.eval_docs, 30)):
            letters = "ABCDE"[: len(arguments)]
            assert [continuation for _, continuation in arguments] == [f" {x}" for x in letters]
            context = arguments[0][0]
            assert context.endswith("\nAnswer:")
            assert all(f"\n{letter}. " in context for letter in letters)


def test_sciq_choice_order_is_fixed_and_spreads_the_gold(hub, manager):
    task = manager.load(["sciq_calib_choice"])["tasks"]["sciq_calib_choice"]
    golds = Counter(task.doc_to_target(doc) for doc in task.eval_docs)
    assert sorted(golds) == [0, 1, 2, 3]
    assert min(golds.values()) > 200  # of 1,000; the data has all of them in one place
    for doc in task.eval_docs:
        assert doc["choices"][doc["gold"]] == doc["correct_answer"]
    again = manager.load(["sciq_calib_choice"])["tasks"]["sciq_calib_choice"]
    assert list(again.eval_docs["gold"]) == list(task.eval_docs["gold"])


def test_mmlu_categories_pool_their_subjects_and_shoot_from_the_questions_own(hub, manager):
    total = 0
    for category in ("stem", "other", "social_sciences", "humanities"):
        name = f"mmlu_{category}_calib_choice"
        task = manager.load([name])["tasks"][name]
        total += len(task.eval_docs)
    assert total == 14042
    shots = {doc["question"].strip(): doc["subject"] for doc in task.fewshot_docs()}
    docs = [task.eval_docs[i] for i in range(0, len(task.eval_docs), 197)]
    for doc, [(context, _), *_] in zip(docs, requests_of(task, docs, shots=2), strict=True):
        subject = doc["subject"]
        assert subject.replace("_", " ") in context.splitlines()[0]
        shown = [q for q in shots if f"\n\n{q}\nA. " in context]
        assert len(shown) >= 2
        assert {shots[q] for q in shown} == {subject}


def test_ragged_choices_of_arc_are_scored_as_they_are(hub, manager):
    task = manager.load(["arc_challenge_calib_cloze"])["tasks"]["arc_challenge_calib_cloze"]
    counts = Counter(len(task.doc_to_choice(doc)) for doc in task.eval_docs)
    assert set(counts) >= {3, 4, 5}


def test_no_test_reaches_a_hub():
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_stock_tasks_are_found_where_lm_evals_index_finds_them(manager):
    from calib_harness.harness.stock import stock_paths

    index = {
        name: manager.task_index[name].yaml_path
        for name in manager.all_subtasks
        if "lm_eval" in manager.task_index[name].yaml_path.parts
    }
    assert stock_paths() == index
