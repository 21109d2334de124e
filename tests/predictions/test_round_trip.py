"""A run's printed metrics are those of its log: every kind of target, task and layout."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from datasets import Dataset
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from calib_harness import CalibrationTask, load_predictions, metrics_frame
from calib_harness.harness.backends import score_tokens
from calib_harness.harness.responses import TokenLogprobs
from tests.predictions.entries import early


@pytest.fixture(autouse=True)
def _without_looking_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare what lm-eval asks the machine about itself: it takes longer than the evaluation."""
    for name in ("add_env_info", "add_tokenizer_info"):
        monkeypatch.setattr(f"lm_eval.evaluator.{name}", lambda *_: None)


N = 60
TEXTS = ["red", "a dark blue", "grün é", "4"]
NUMBERS = ["3", "1", "2", "0"]
LETTERS = ["A", "B", "C", "D"]


class Guesser(DummyLM):
    """Random log-probabilities of sums, as the base class has them, and here of tokens."""

    tokenizer = None
    tokenizer_name = "none"


@score_tokens.register(Guesser)
def _guess(lm: Guesser, requests: Sequence[Any]) -> Iterator[tuple[int, TokenLogprobs]]:
    for index, request in enumerate(requests):
        # Of what it generates it must think most; see `known_answer`.
        is_own = request.args[1].strip() == "lol"
        tokens = [-1e-9 if is_own else -random.random() * 3 for _ in request.args[1].split()]
        yield index, TokenLogprobs(sum(tokens), is_own, tokens)


def blank(doc: dict[str, Any]) -> str:
    return "The thing fell because it was old."


#: Kind of target -> choices, the column `answer` of the i-th question, and what the YAML says.
KINDS: dict[str, tuple[list[str], Callable[[int], Any], dict[str, Any]]] = {
    "index": (TEXTS, lambda g: g, {"doc_to_target": "answer"}),
    "index as a template": (TEXTS, lambda g: g, {"doc_to_target": "{{answer}}"}),
    "digit text": (NUMBERS, lambda g: NUMBERS[g], {"doc_to_target": "answer"}),
    "digits of a template": (NUMBERS, str, {"doc_to_target": "{{answer}}"}),
    "choice text": (TEXTS, lambda g: TEXTS[g], {"doc_to_target": "answer"}),
    "float": (NUMBERS, float, {"doc_to_target": "answer"}),
    "float text": (
        ["1.0", "2.0", "0.0", "3.0"],
        lambda g: ["1.0", "2.0", "0.0", "3.0"][g],
        {"doc_to_target": "{{answer}}"},
    ),
    "negative": (
        ["-1", "0", "1", "-2"],
        lambda g: ["-1", "0", "1", "-2"][g],
        {"doc_to_target": "answer"},
    ),
    "truth": (["True", "False"], lambda g: bool(g % 2), {"doc_to_target": "answer"}),
    "letter": (LETTERS, lambda g: LETTERS[g], {"doc_to_target": "answer"}),
    "function": (TEXTS, lambda g: g, {"doc_to_target": lambda doc: int(doc["answer"])}),
    "list of one": (TEXTS, lambda g: [g], {"doc_to_target": "answer"}),
    "choices in the context": (
        ["one", "two"],
        lambda g: str(g % 2 + 1),
        {
            "doc_to_text": lambda doc: int(doc["answer"]) - 1,
            "doc_to_choice": lambda doc: [f"Thing {doc['n']} one", f"Thing {doc['n']} two"],
            "doc_to_target": blank,
        },
    ),
}


def make_task(cls: type, kind: str, **settings: Any) -> Any:
    choices, answer, yaml = KINDS[kind]
    rng = random.Random(kind)
    docs = [
        {"n": i, "answer": answer(rng.randrange(len(choices))), "choices": choices}
        for i in range(N)
    ]
    config = {
        "task": "toy",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "Question {{n}}\nAnswer:",
        "doc_to_choice": "choices",
        "metadata": {"version": 1},
    }
    return cls(config={**config, **yaml, **settings})


def run_and_log(folder: Path, tasks: list[Any], **settings: Any) -> dict[str, Any]:
    """Evaluate, write lm-eval's own files, and the same log as early 0.4 wrote it."""
    random.seed(0)
    # By default lm-eval looks through thousands of YAMLs, which takes longer than the evaluation.
    settings.setdefault("task_manager", TaskManager(include_defaults=False))
    tracker = EvaluationTracker(output_path=str(folder / "recent"))
    results: dict[str, Any] = simple_evaluate(  # type: ignore[assignment]
        model=Guesser(), tasks=tasks, log_samples=True, evaluation_tracker=tracker, **settings
    )
    samples = results.pop("samples")
    (folder / "early").mkdir()
    for name, entries in samples.items():
        # What lm-eval holds in memory, its types kept.
        plain = json.loads(json.dumps(entries, default=handle_non_serializable))
        (folder / "early" / f"samples_{name}.json").write_text(early(plain), encoding="utf-8")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name, entries in samples.items():
        tracker.save_results_samples(task_name=name, samples=entries)
    return dict(results["results"])


STOCK = {"acc": "continuation-sum", "brier_score": "continuation-sum"}


def assert_read_back(folder: Path, printed: dict[str, Any], methods: dict[str, str]) -> None:
    """Compare every printed number that `metrics` computes, in both layouts."""
    for layout in ("recent", "early"):
        stream = load_predictions(folder / layout, cache=False)
        names = sorted({key.partition(",")[0] for key in printed})
        known = [name for name in names if name in ("acc", "ece", "sce", "brier_score", "nll")]
        frame = metrics_frame(stream, metrics=known, n_resamples=0)
        read = {(row.metric, row.method): row.value for row in frame.itertuples()}
        checked = 0
        for key, value in printed.items():
            name, _, method = key.partition(",")
            method = methods.get(name, method) if method == "none" else method
            if name in known and (name, method) in read:
                assert read[name, method] == pytest.approx(value, abs=1e-9), (layout, key)
                checked += 1
        assert checked >= min(2, len(known)), (layout, printed, read)


@pytest.mark.parametrize(
    ("kind", "logged"),
    [
        # Of a column of floats lm-eval itself fails.
        *((kind, ["acc"]) for kind in KINDS if kind != "float"),
        *((kind, ["acc", "brier_score"]) for kind in ("digit text", "choices in the context")),
    ],
)
def test_stock_task(tmp_path: Path, kind: str, logged: list[str]) -> None:
    metric_list = [{"metric": name} for name in logged]
    task = make_task(ConfigurableTask, kind, metric_list=metric_list)
    results = run_and_log(tmp_path, [task])["toy"]
    is_choice = kind == "letter"
    methods = {name: "choice" if is_choice else method for name, method in STOCK.items()}
    assert_read_back(tmp_path, results, methods)
    run = load_predictions(tmp_path / "recent", cache=False)[0]
    assert run.usable.all()
    assert run.header.gold in ("confirmed", "stated")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("list")])
def test_task_of_ours(tmp_path: Path, kind: str) -> None:
    results = run_and_log(tmp_path, [make_task(CalibrationTask, kind)])["toy"]
    assert not any("calib_harness" in key for key in results)
    assert_read_back(tmp_path, results, {})
    for layout in ("recent", "early"):
        for run in load_predictions(tmp_path / layout, cache=False):
            assert run.header.gold == "stated"


HUB_TASKS = [
    *("arc_easy", "arc_challenge", "hellaswag", "piqa", "medmcqa", "mmlu_anatomy", "sciq"),
    *("openbookqa", "commonsense_qa"),
]


@pytest.fixture(scope="module")
def stock_tasks() -> TaskManager:
    """Find the tasks of these folders alone: looking through all of lm-eval's takes long."""
    root = Path(lm_eval.__file__).parent / "tasks"
    folders = ("arc", "hellaswag", "piqa", "medmcqa", "mmlu/default", "sciq", "openbookqa")
    paths = [str(root / name) for name in (*folders, "commonsense_qa")]
    return TaskManager(include_path=paths, include_defaults=False)


@pytest.mark.parametrize("name", HUB_TASKS)
def test_stock_task_on_real_questions(
    hub: None, tmp_path: Path, name: str, stock_tasks: TaskManager
) -> None:
    results = run_and_log(tmp_path, [name], limit=60, task_manager=stock_tasks)[name]
    lettered = name in ("mmlu_anatomy", "medmcqa", "commonsense_qa")
    methods = {"acc": "choice" if lettered else "continuation-sum"}
    assert_read_back(tmp_path, {k: v for k, v in results.items() if k == "acc,none"}, methods)


OUR_TASKS = Path(__file__).parents[2] / "task_yamls"


@pytest.mark.parametrize("name", ["arc_easy", "mmlu_stem", "sciq", "piqa"])
@pytest.mark.parametrize("prompt", ["cloze", "choice"])
def test_our_yaml_on_real_questions(hub: None, tmp_path: Path, name: str, prompt: str) -> None:
    full = f"{name}_calib_{prompt}"
    manager = TaskManager(include_path=os.fspath(OUR_TASKS), include_defaults=False)
    if full not in manager.all_tasks:
        pytest.skip(f"there is no task {full}")
    results = run_and_log(tmp_path, [full], limit=60, task_manager=manager)[full]
    assert_read_back(tmp_path, results, {})
