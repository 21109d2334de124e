"""The tasks of `calib_extended`, on rows with the columns of their real datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from lm_eval.tasks._yaml_loader import load_yaml

import calib_harness
from calib_harness.core.confidence import is_lettered

RIGHT, WRONG = "the right one", ["wrong 1", "wrong 2", "wrong 3"]
FOUR = [WRONG[0], RIGHT, *WRONG[1:]]
LABELS = list("ABCD")

# Rows of the real datasets' columns; the first choice is right where the data have it so.
ROWS = {
    "winogrande": [
        {"sentence": f"{i} is _ here.", "option1": WRONG[0], "option2": RIGHT, "answer": "2"}
        for i in range(3)
    ],
    "openbookqa": [
        {
            "question_stem": f"{i}",
            "choices": {"text": FOUR, "label": LABELS},
            "answerKey": "B",
        }
        for i in range(3)
    ],
    "commonsense_qa": [
        {
            "question": f"{i}?",
            "choices": {"text": [*FOUR, "w"], "label": [*LABELS, "E"]},
            "answerKey": "B",
        }
        for i in range(3)
    ],
    "boolq": [{"passage": f"{i}.", "question": f"is it {i}", "label": i % 2} for i in range(4)],
    "truthfulqa_mc1": [
        {"question": f"{i}?", "mc1_targets": {"choices": [RIGHT, *WRONG], "labels": [1, 0, 0, 0]}}
        for i in range(30)
    ],
    "race": [
        {"article": f"{i}", "problems": str([{"question": "Q?", "answer": "B", "options": FOUR}])}
        for i in range(3)
    ],
    "logiqa": [
        {"context": f"{i}", "question": "Q?", "options": FOUR, "label": "b"} for i in range(3)
    ],
    "social_iqa": [
        {
            "context": f"{i}",
            "question": "Q?",
            "answerA": "w",
            "answerB": RIGHT,
            "answerC": "x",
            "label": "2",
        }
        for i in range(3)
    ],
    "gpqa_main": [
        {
            "Question": f"{i}?",
            "Correct Answer": RIGHT,
            **{f"Incorrect Answer {k + 1}": WRONG[k] for k in range(3)},
        }
        for i in range(3)
    ],
    "mmlu_pro": [
        {
            "question": f"{i}?",
            "options": [*WRONG, *"stuvw", RIGHT],
            "answer": "I",
            "answer_index": 8,
            "category": "law",
        }
        for i in range(3)
    ],
    "global_mmlu_de": [
        {
            "question": f"{i}?",
            **{f"option_{letter}": text for letter, text in zip("abcd", FOUR, strict=True)},
            "answer": "B",
        }
        for i in range(3)
    ],
}
SPLITS = ("train", "validation", "test", "dev")


def load(name, monkeypatch, rows):
    def download(self, *args, **kwargs):
        self.dataset = DatasetDict({split: Dataset.from_list(rows) for split in SPLITS})

    monkeypatch.setattr(calib_harness.CalibrationTask, "download", download)
    [path] = Path(calib_harness.task_path()).rglob(f"{name}.yaml")
    config = {key: value for key, value in load_yaml(path).items() if key != "tag"}
    return config["class"](config=config)


@pytest.mark.parametrize("form", ["cloze", "choice"])
@pytest.mark.parametrize("name", ROWS)
def test_each_has_both_prompts_and_its_gold_is_the_right_answer(name, form, monkeypatch):
    task = load(f"{name}_calib_{form}", monkeypatch, ROWS[name])
    golds = set()
    for doc in task.task_docs:
        text, choices, gold = task.doc_to_text(doc), task.doc_to_choice(doc), task._gold(doc)
        golds.add(gold)
        right = ["no", "yes"][doc["label"]] if name == "boolq" else RIGHT
        if form == "choice":
            assert is_lettered(choices)
            assert f"\n{choices[gold]}. {right}" in text or f"{choices[gold]} {right}" in text
            assert text.count(right) == 1
        else:
            assert right in choices[gold]  # WinoGrande's stands in its context
            assert not is_lettered(choices)
        task.construct_requests(doc, task.fewshot_context(doc, 0), metadata=("t", 0, 1))
    if name == "truthfulqa_mc1":  # whose gold is always the first
        assert golds == ({0} if form == "cloze" else {0, 1, 2, 3})


def test_every_one_has_its_group_and_tag():
    folder = Path(calib_harness.task_path())
    for name in ROWS:
        [group] = folder.rglob(f"{name}_calib.yaml")
        assert load_yaml(group)["task"] == [f"{name}_calib_cloze", f"{name}_calib_choice"]
        for form in ("cloze", "choice"):
            [path] = folder.rglob(f"{name}_calib_{form}.yaml")
            assert load_yaml(path)["tag"] == "calib_extended"
