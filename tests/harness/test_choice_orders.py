"""Several orders of the choices, the other prompt, and choices without their question."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from lm_eval.api.model import LM

import calib_harness
from calib_harness.harness.choice_orders import (
    find_choices,
    marks_texts,
    orders_of,
    why_not_found,
)
from calib_harness.harness.prompt_forms import Asked, form_of
from calib_harness.harness.question_requests import reordered
from tests.conftest import CHOICE, CLOZE, QUESTIONS

BIAS = {"A": 0.15, "B": 0.45, "C": 0.1, "D": 0.2, "E": 0.1}
ORDERS = CHOICE.replace("version: 1.0", "version: 1.0, orders: cyclic")
FOUR = [
    {
        "question": f"Which is number {i}?",
        "choices": [f"thing {i * 7 + k}" for k in range(4)],
        "gold": i % 4,
        "subject": "any",
    }
    for i in range(40)
]


def weight_of(text: str) -> float:
    """What the model thinks of a content, letters aside."""
    return 1.0 + int.from_bytes(text.encode()[-4:], "big") % 11


class LikesB(LM):
    """A model that reads the lettered choices, and prefers B by a known amount."""

    def loglikelihood(self, requests, disable_tqdm=False):
        return [self._score(*request.args) for request in requests]

    def _score(self, context: str, continuation: str) -> tuple[float, bool]:
        shown = dict(re.findall(r"^([A-E])\. (.*)$", context, flags=re.MULTILINE))
        weights = {letter: BIAS[letter] * weight_of(text) for letter, text in shown.items()}
        return math.log(0.9 * weights[continuation.strip()] / sum(weights.values())), False

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def unbiased(doc) -> list[float]:
    weights = [weight_of(choice) for choice in doc["choices"]]
    return [weight / sum(weights) for weight in weights]


def probabilities(samples, method):
    found = {}
    for sample in samples:
        if sample["filter"] == method:
            k = len(sample["doc"]["choices"])
            scores = np.array([float(pair[0]) for pair in sample["filtered_resps"][:k]])
            weights = np.exp(scores - scores.max())
            found[sample["doc_id"]] = (weights / weights.sum(), sample["doc"])
    return found


def test_a_preference_for_b_is_divided_out_and_leaves_the_models_own_probabilities(evaluate):
    samples = evaluate(LikesB(), ORDERS, FOUR)["samples"]["toy"]
    free, plain = (probabilities(samples, m) for m in ("choice-prior-free", "choice"))
    for number, (probs, doc) in free.items():
        assert probs == pytest.approx(unbiased(doc), abs=1e-9)
        assert plain[number][0] != pytest.approx(unbiased(doc), abs=0.05)


def test_averaging_over_orders_is_the_naive_average(evaluate):
    samples = evaluate(LikesB(), ORDERS, FOUR)["samples"]["toy"]
    for probs, doc in probabilities(samples, "choice-permuted").values():
        expected = np.zeros(4)
        for shift in range(4):
            order = [(k + shift) % 4 for k in range(4)]
            weights = np.array(
                [list(BIAS.values())[i] * weight_of(doc["choices"][k]) for i, k in enumerate(order)]
            )
            for letter, choice in enumerate(order):
                expected[choice] += weights[letter] / weights.sum() / 4
        assert probs == pytest.approx(expected, abs=1e-9)


def test_the_order_given_is_scored_as_without_orders_and_the_log_states_the_others(evaluate):
    with_orders = evaluate(LikesB(), ORDERS)
    without = evaluate(LikesB(), CHOICE)
    for key, value in without["results"]["toy"].items():
        if key.endswith(",choice"):
            assert with_orders["results"]["toy"][key] == pytest.approx(value, nan_ok=True)
    for sample in with_orders["samples"]["toy"]:
        k = len(sample["doc"]["choices"])
        orders = sample["calib_harness"]["orders"]
        assert len(orders) == k
        assert len(sample["arguments"]) == k * k
        for order, first in zip(orders, range(0, k * k, k), strict=True):
            context = sample["arguments"][first][0]
            shown = re.findall(r"^[A-E]\. (.*)$", context, flags=re.MULTILINE)
            assert shown == [sample["doc"]["choices"][i] for i in order]


def test_plain_readers_of_the_log_see_the_order_given(evaluate, tmp_path):
    from calib_harness.predictions.entry import decode_choices, decode_entry

    sample = evaluate(LikesB(), ORDERS, FOUR)["samples"]["toy"][0]
    line = json.dumps(sample, default=str).encode()
    choices = decode_choices(decode_entry(line))
    assert choices.continuations == [" A", " B", " C", " D"]
    assert choices.logprobs == [resp[0][0] for resp in sample["resps"][:4]]


@pytest.mark.parametrize(
    ("orders", "said"),
    [("sideways", "cyclic, reversed, all"), (1, "2 or more"), (True, "cyclic")],
)
def test_orders_that_cannot_be_are_refused(evaluate, orders, said):
    yaml = CHOICE.replace("version: 1.0", f"orders: {str(orders).lower()}")
    with pytest.raises(calib_harness.UserError, match=said):
        evaluate(LikesB(), yaml)


def test_a_prior_free_filter_without_balanced_orders_is_refused(evaluate):
    yaml = CHOICE.replace("version: 1.0", "orders: reversed") + (
        "filter_list: [{name: free, filter: [{function: choice-prior-free}]}]\n"
    )
    with pytest.raises(calib_harness.UserError, match=r"orders is 'reversed', expected cyclic"):
        evaluate(LikesB(), yaml)


def test_random_orders_are_distinct_and_fixed_by_the_question():
    orders = orders_of(4, 6, "What?")
    assert len(set(orders)) == 6
    assert orders[0] == (0, 1, 2, 3)
    assert orders == orders_of(4, 6, "What?")
    assert orders != orders_of(4, 6, "Why?")
    assert len(orders_of(2, 6, "What?")) == 2
    with pytest.raises(calib_harness.UserError, match="720 orders"):
        orders_of(6, "all", "")


PROMPT = "Q: Is vitamin B. good?\nA. no\nB. vitamin B. is\nC. two\nlines\nAnswer:"


def test_choices_are_found_where_the_question_itself_looks_lettered():
    known = frozenset({"no", "vitamin B. is", "two\nlines", "Is vitamin B. good?"})
    shown = find_choices(PROMPT, ["A", "B", "C"], known)
    assert shown.choices == ("no", "vitamin B. is", "two\nlines")
    assert shown.text(range(3)) == PROMPT
    assert shown.text((2, 0, 1)).endswith("A. two\nlines\nB. no\nC. vitamin B. is\nAnswer:")
    assert find_choices(PROMPT, ["A", "B", "C"], known - {"two\nlines"}) is None
    context = f"Shot.\n\n{PROMPT}"
    assert reordered("t", context, shown, (2, 0, 1)) == f"Shot.\n\n{shown.text((2, 0, 1))}"
    with pytest.raises(calib_harness.UserError, match="chat template"):
        reordered("t", "another text", shown, (2, 0, 1))


@pytest.mark.parametrize(
    ("prompt", "other"),
    [
        ("Q?\nA:one, B: two, C:three", "Q?\nA:three, B: one, C:two"),
        ("Q? (A) one; (B) two; (C) three.\n", "Q? (A) three; (B) one; (C) two.\n"),
        ("Q? A. one B. two C. three Answer:", "Q? A. three B. one C. two Answer:"),
        (
            "Q?\nOption A: one\nOption B: two\nOption C: three\nSay:",
            "Q?\nOption A: three\nOption B: one\nOption C: two\nSay:",
        ),
        ("Q? A.one B.two C.three\nRéponse :", "Q? A.three B.one C.two\nRéponse :"),
    ],
)
def test_choices_of_one_line_are_found_without_what_separates_them(prompt, other):
    shown = find_choices(prompt, ["A", "B", "C"], frozenset({"one", "two", "three", "Q?"}))
    assert shown.choices == ("one", "two", "three")
    assert shown.text(range(3)) == prompt
    assert shown.text((2, 0, 1)) == other
    assert shown.head.strip() == "Q?"


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("Q? A. one B. two of it C. three", "after B stands 'two of it'"),
        ("Q? A. one B. two C. three of it Answer:", "after C stands 'three of it Answer:'"),
        ("Vitamin A. one\nA. one\nB. two\nAnswer:", "it has no C. or (C)"),
        ("Q?", "it has no A. or (A)"),
    ],
)
def test_choices_that_are_no_texts_of_the_question_are_not_found_and_the_letter_is_told(
    prompt, why
):
    known = frozenset({"one", "two", "three", "Q?"})
    assert find_choices(prompt, ["A", "B", "C"], known) is None
    assert why_not_found(prompt, ["A", "B", "C"], known) == why


@pytest.mark.parametrize(
    ("prompt", "letters", "marks"),
    [
        ("Ερώτηση: τι;\nΑ. ένα\nΒ. δύο\nΑπάντηση:", ["Α", "Β"], True),
        ("سؤال\nأ- واحد\nب- اثنان\nإجابة:", ["أ", "ب"], True),
        ("Choices:\n (A) one\n (B) two\nAnswer:", [" (B)", " (A)"], True),
        ("Which?\n1. one\n2. two\nAnswer:", ["1", "2"], True),
        ("Is it so? yes: 1, no: 0\nAnswer:", ["1", "0"], False),
        ("是不是？\n回答：", ["是", "否"], False),
        ("Which number?\nAnswer:", ["12", "13"], False),
        ("Q?\nyes: a\nno: b", ["yes", "no"], False),
    ],
)
def test_letters_of_other_alphabets_are_told_from_short_choices(prompt, letters, marks):
    assert marks_texts(prompt, letters) is marks


@pytest.mark.parametrize("scored", ["", "({})", "{}. "])
def test_choices_that_a_prompt_shows_by_letters_are_not_shown_twice(scored):
    # LogiQA scores the texts, AGIEval "(A)5".
    text = "Q: How many? Choices: (A)5 (B)6 (C)12\nA: Among A through C, the answer is"
    choices = [scored.format(k) + n for k, n in zip("ABC", ["5", "6", "12"], strict=True)]
    docs = [{"gold": 0}, {"gold": 1}]
    form = form_of("t", "choice", docs, lambda doc: Asked(text, choices), lambda doc: doc["gold"])
    assert form.ask("t", docs[0], Asked(text, choices)) == Asked(text, ["A", "B", "C"])


def test_choices_that_a_prompt_numbers_get_letters_in_place_of_numbers():
    text, choices = "Q?\n0) five\n1) six\n2) 12\nSay:", ["five", "six", "12"]
    form = form_of("t", "choice", [0, 1], lambda _: Asked(text, choices), lambda doc: doc)
    asked = form.ask("t", 0, Asked(text, choices))
    assert (asked.text, asked.choices) == ("Q?\nA) five\nB) six\nC) 12\nSay:", ["A", "B", "C"])


def test_a_question_without_text_begins_with_its_first_choice():
    form = form_of("t", "choice", [0, 1], lambda _: Asked("", ["one", "two"]), lambda doc: doc)
    assert form.ask("t", 0, Asked("", ["one", "two"])).text == "A. one\nB. two\nAnswer:"


GREEK = CHOICE.replace("ABCDEFGHIJ", "ΑΒΓΔΕΖΗΘΙΚ")


def test_a_prompt_with_letters_of_its_own_alphabet_gets_no_others_and_has_a_cloze_form(write_task):
    # The other prompt showed "A. Δ", "B. Β": letters that stand for letters.
    stock = requests_of(task_of(GREEK, write_task))
    assert "Α. " in stock[0][0]
    assert (
        requests_of(task_of(GREEK.replace("version: 1.0", "prompt: choice"), write_task)) == stock
    )
    cloze = task_of(GREEK.replace("version: 1.0", "prompt: cloze"), write_task)
    assert requests_of(cloze) == requests_of(task_of(CLOZE, write_task))


def requests_of(task, n=5):
    task.set_fewshot_seed(1)
    task.build_all_requests(limit=n)
    return [request.args for request in task.instances]


def task_of(yaml, write_task):
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(write_task("toy", yaml)), include_defaults=False)
    return manager.load(["toy"])["tasks"]["toy"]


@pytest.mark.parametrize(
    ("yaml", "form", "other"), [(CHOICE, "cloze", CLOZE), (CLOZE, "choice", CHOICE)]
)
def test_the_other_prompt_is_read_from_the_one_there_is(write_task, yaml, form, other):
    derived = task_of(yaml.replace("version: 1.0", f"prompt: {form}"), write_task)
    derived.set_config("num_fewshot", 1)
    found = requests_of(derived)
    written = task_of(other, write_task)
    written.set_config("num_fewshot", 1)
    assert found == requests_of(written)
    assert [derived._gold(doc) for doc in derived.task_docs] == [doc["gold"] for doc in QUESTIONS]


def test_a_space_that_belongs_to_the_prompt_stays_before_the_choices_text(write_task):
    # Where the stock delimiter is empty, "Answer:" and the choice stood in one word.
    assert 'Answer:"' in CHOICE
    yaml = CHOICE.replace('Answer:"', 'Answer: "').replace("version: 1.0", "prompt: cloze")
    cloze = task_of(yaml + 'target_delimiter: ""\n', write_task)
    asked = ["".join(request) for request in requests_of(cloze)]
    assert asked == ["".join(request) for request in requests_of(task_of(CLOZE, write_task))]


def test_a_task_that_asks_so_already_stays_as_it_is(write_task):
    same = task_of(CLOZE.replace("version: 1.0", "prompt: cloze"), write_task)
    assert requests_of(same) == requests_of(task_of(CLOZE, write_task))


def test_a_prompt_that_does_not_show_its_choices_cannot_become_cloze(write_task):
    yaml = CHOICE.replace("{{ text }}", "a secret").replace("version: 1.0", "prompt: cloze")
    with pytest.raises(calib_harness.UserError, match="where its prompt shows the choices"):
        task_of(yaml, write_task)
    with pytest.raises(calib_harness.UserError, match="prompt is 'letters'; expected cloze or"):
        task_of(CLOZE.replace("version: 1.0", "prompt: letters"), write_task)


PMI = CLOZE + "metric_list: [{metric: acc}, {metric: acc_mutual_info}]\n"


def test_pmi_is_lm_evals_acc_mutual_info(make_lm, evaluate):
    lm = make_lm()
    ours = evaluate(lm, PMI)["results"]["toy"]
    stock = evaluate(lm, PMI.replace("class: !function calib_harness.CalibrationTask", ""))
    expected = stock["results"]["toy"]["acc_mutual_info,none"]
    assert ours["acc_mutual_info,continuation-pmi"] == expected
    assert ours["acc,continuation-pmi"] == expected
    assert ours["acc,continuation-sum"] == stock["results"]["toy"]["acc,none"]
    assert "ece,continuation-pmi" in ours


def test_pmi_after_a_neutral_context_is_its_definition(make_lm, evaluate):
    yaml = CLOZE.replace("version: 1.0", "neutral_context: 'Answer:'") + (
        "filter_list: [{name: pmi, filter: [{function: continuation-pmi}]}]\n"
    )
    for sample in evaluate(make_lm(), yaml)["samples"]["toy"]:
        k = len(sample["doc"]["choices"])
        assert {context for context, _ in sample["arguments"][k:]} == {"Answer:"}
        sums = [sum(resp[0].token_logprobs) for resp in sample["resps"]]
        expected = [sums[i] - sums[k + i] for i in range(k)]
        found = [float(pair[0]) for pair in sample["filtered_resps"][:k]]
        assert found == pytest.approx(expected, abs=1e-9)
