"""The main job through lm-eval itself: tasks, filters, metrics, standard errors, logs."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest

import calib_harness
from tests.conftest import CHOICE, CLOZE, QUESTIONS

METRICS = ("acc", "ece", "sce", "brier_score", "nll")


def naive_ece(confidence, correct, n_bins=15):
    total = 0.0
    for m in range(n_bins):
        low, high = m / n_bins, (m + 1) / n_bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (m == 0 and c == 0)]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


def naive_sce(rows, gold, n_bins=15):
    total, entries = 0.0, sum(map(len, rows))
    for k in range(max(map(len, rows))):
        for m in range(n_bins):
            low, high = m / n_bins, (m + 1) / n_bins
            inside = [
                (p[k], g == k)
                for p, g in zip(rows, gold, strict=True)
                if k < len(p) and (low < p[k] <= high or (m == 0 and p[k] == 0))
            ]
            if inside:
                total += abs(sum(hit for _, hit in inside) - sum(p for p, _ in inside)) / entries
    return total


def read_samples(samples, method):
    rows, gold = [], []
    for sample in samples:
        if sample["filter"] == method:
            scores = np.array([float(pair[0]) for pair in sample["filtered_resps"]])
            weights = np.exp(scores - scores.max())
            rows.append(weights / weights.sum())
            gold.append(int(sample["target"]))
    return rows, gold


@pytest.mark.parametrize(
    ("yaml", "methods"),
    [(CLOZE, ("continuation-sum", "continuation-min")), (CHOICE, ("choice",))],
    ids=["cloze", "choice"],
)
def test_default_metrics_have_values_and_standard_errors_under_every_method(
    make_lm, evaluate, yaml, methods
):
    results = evaluate(make_lm(), yaml)["results"]["toy"]
    for method in methods:
        for metric in METRICS + (("choice_mass",) if method == "choice" else ()):
            assert math.isfinite(results[f"{metric},{method}"])
            assert results[f"{metric}_stderr,{method}"] >= 0
    assert ("choice_mass,choice" in results) == ("choice" in methods)


def test_reported_ece_and_sce_equal_those_recomputed_from_the_sample_log(make_lm, evaluate):
    output = evaluate(make_lm())
    for method in ("continuation-sum", "continuation-min"):
        rows, gold = read_samples(output["samples"]["toy"], method)
        assert len(rows) == len(QUESTIONS)
        confidence = [row.max() for row in rows]
        correct = [int(row.argmax() == g) for row, g in zip(rows, gold, strict=True)]
        reported = output["results"]["toy"]
        assert reported[f"ece,{method}"] == pytest.approx(naive_ece(confidence, correct), abs=1e-9)
        assert reported[f"sce,{method}"] == pytest.approx(naive_sce(rows, gold), abs=1e-9)
        assert reported[f"acc,{method}"] == pytest.approx(np.mean(correct), abs=1e-12)


def test_accuracy_under_continuation_sum_equals_the_stock_task(make_lm, evaluate):
    stock = CLOZE.replace("class: !function calib_harness.CalibrationTask", "")
    lm = make_lm()
    ours = evaluate(lm)["results"]["toy"]["acc,continuation-sum"]
    assert ours == evaluate(lm, stock)["results"]["toy"]["acc,none"]


def test_log_holds_every_token_log_probability_and_they_add_up(make_lm, evaluate, tokenizer):
    for sample in evaluate(make_lm())["samples"]["toy"]:
        for argument, [response] in zip(sample["arguments"], sample["resps"], strict=True):
            assert len(response.token_logprobs) == len(tokenizer(argument[1])["input_ids"])
            assert response.logprob == pytest.approx(sum(response.token_logprobs), abs=1e-9)


def test_bins_come_from_metadata_and_from_the_command_line(make_lm, evaluate):
    lm = make_lm()
    coarse = evaluate(lm, metadata={"n_bins": 1})
    rows, gold = read_samples(coarse["samples"]["toy"], "continuation-sum")
    correct = [int(row.argmax() == g) for row, g in zip(rows, gold, strict=True)]
    expected = naive_ece([row.max() for row in rows], correct, n_bins=1)
    assert coarse["results"]["toy"]["ece,continuation-sum"] == pytest.approx(expected, abs=1e-9)
    fine = evaluate(lm, CLOZE.replace("version: 1.0", "version: 1.0, binning: equal_mass"))
    assert fine["configs"]["toy"]["metric_list"][1] == {
        "metric": "ece",
        "n_bins": 15,
        "binning": "equal_mass",
    }


def test_every_metric_of_the_table_can_be_named_in_a_metric_list(make_lm, evaluate):
    names = [*calib_harness.METRICS, "choice_mass"]
    entries = "".join(f"  - metric: {name}\n" for name in names)
    results = evaluate(make_lm(), f"{CLOZE}metric_list:\n{entries}")["results"]["toy"]
    assert all(math.isfinite(results[f"{name},continuation-sum"]) for name in names)
    assert all(results[f"{name}_stderr,continuation-sum"] >= 0 for name in names)


def test_every_method_can_be_named_in_a_filter_list_and_gives_its_definition(make_lm, evaluate):
    names = ["continuation-sum", "continuation-min", "continuation-mean", "continuation-bytes"]
    entries = "".join(f"  - {{name: my-{n}, filter: [{{function: {n}}}]}}\n" for n in names)
    samples = evaluate(make_lm(), f"{CLOZE}filter_list:\n{entries}")["samples"]["toy"]
    for sample in samples:
        choices = sample["doc"]["choices"]
        tokens = [response.token_logprobs for [response] in sample["resps"]]
        expected = {
            "my-continuation-sum": [sum(t) for t in tokens],
            "my-continuation-min": [min(t) for t in tokens],
            "my-continuation-mean": [sum(t) / len(t) for t in tokens],
            "my-continuation-bytes": [
                sum(t) / len(c.encode()) for t, c in zip(tokens, choices, strict=True)
            ],
        }[sample["filter"]]
        assert [pair[0] for pair in sample["filtered_resps"]] == pytest.approx(expected)


def test_letters_in_brackets_are_a_choice_prompt_as_they_are_to_who_reads_the_log(
    make_lm, evaluate
):
    lettered = "{{ ['(A)', '(B)', '(C)', '(D)', '(E)'][:choices | length] }}"
    yaml = CLOZE.replace("doc_to_choice: choices", f'doc_to_choice: "{lettered}"')
    samples = evaluate(make_lm(), yaml)["samples"]["toy"]
    assert {sample["filter"] for sample in samples} == {"choice"}
    assert samples[0]["arguments"][1][1] == " (B)"


def test_shots_come_from_the_questions_own_group(make_lm, evaluate):
    yaml = CLOZE.replace("version: 1.0", "fewshot_by: subject") + (
        "fewshot_split: shots\nfewshot_config: {sampler: first_n}\n"
    )
    docs = [{**doc, "question": f"{doc['subject']} {doc['question']}"} for doc in QUESTIONS]
    for sample in evaluate(make_lm(), yaml, docs, num_fewshot=2)["samples"]["toy"]:
        context = sample["arguments"][0][0]
        assert context.count(f"Question: {sample['doc']['subject']} ") == 3


def test_shots_by_a_column_or_a_value_that_is_not_there_are_clear_errors(make_lm, evaluate):
    yaml = CLOZE.replace("version: 1.0", "fewshot_by: topic") + "fewshot_split: shots\n"
    with pytest.raises(calib_harness.UserError, match=r"fewshot_by.*'topic'.*known: .*subject"):
        evaluate(make_lm(), yaml)
    yaml = CLOZE.replace("version: 1.0", "fewshot_by: subject") + (
        "fewshot_split: shots\n"
        "fewshot_config: {process_docs: !function tests.harness.test_task.only_odd}\n"
    )
    with pytest.raises(calib_harness.UserError, match="no shot has subject 'even'"):
        evaluate(make_lm(), yaml, num_fewshot=1)


def only_odd(dataset):
    return dataset.filter(lambda doc: doc["subject"] == "odd")


def test_more_shots_than_there_are_is_a_clear_error(make_lm, evaluate):
    yaml = CLOZE + "fewshot_split: shots\nfewshot_config: {sampler: first_n}\n"
    with pytest.raises(calib_harness.UserError, match=r"num_fewshot is 99.*fewer shots"):
        evaluate(make_lm(), yaml, num_fewshot=99)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("output_type: multiple_choice", "output_type: generate_until"), "multiple_choice"),
        (("doc_to_choice: choices", ""), "doc_to_choice"),
        (("version: 1.0", "n_bins: 0"), "n_bins.*0"),
        (("version: 1.0", "n_bins: many"), "n_bins.*many"),
        (("version: 1.0", "binning: quantile"), "binning.*quantile"),
        (("version: 1.0", "nbins: 10"), "'nbins'; did you mean 'n_bins'"),
        (("metadata", "metric_list: [{metric: eec}]\nmetadata"), "'eec'.*did you mean 'ece'"),
        (("metadata", "metric_list: [{metric: acc, n_bins: 3}]\nmetadata"), "'n_bins'"),
        (("metadata", "metric_list: [{metric: ece, n_bins: -3}]\nmetadata"), "n_bins.*-3"),
        (("metadata", "metric_list: [ece]\nmetadata"), "metric_list holds 'ece'.*`metric: …`"),
        (("metadata", "metric_list: ece\nmetadata"), "metric_list is 'ece'.*a list"),
        (("metadata", "filter_list: [choice]\nmetadata"), "filter_list holds 'choice'"),
        (("metadata", "filter_list: [{name: x}]\nmetadata"), "name: …, filter: …"),
        (
            ("metadata", "filter_list: [{name: x, filter: [{function: take_first}]}]\nmetadata"),
            "'take_first'",
        ),
        (("test_split: test", "test_split: exam"), "'exam'.*'test', 'shots'"),
        (("test_split: test", ""), "nothing to evaluate"),
        (("doc_to_target: gold", ""), "doc_to_target is missing"),
        (("doc_to_text:", "description:"), "doc_to_text is missing"),
        (("metadata", "process_results: !function math.fsum\nmetadata"), "process_results"),
    ],
)
def test_a_yaml_that_cannot_work_is_refused_with_a_sentence(make_lm, evaluate, change, message):
    with pytest.raises(calib_harness.UserError, match=message):
        evaluate(make_lm(), CLOZE.replace(*change))


@pytest.mark.parametrize("place", [0, 24])
@pytest.mark.parametrize("choices", [[], ["only one"]])
def test_a_question_without_a_choice_to_make_is_refused_before_scoring(
    make_lm, evaluate, choices, place
):
    docs = list(QUESTIONS)
    docs.insert(place, {"question": "?", "subject": "odd", "choices": choices, "gold": 0})
    lm = make_lm()
    lm._model_call = None  # scoring would fail differently
    message = f"question {place}: it has {len(choices)} choices"
    with pytest.raises(calib_harness.UserError, match=message):
        evaluate(lm, docs=docs)


@pytest.mark.parametrize("place", [0, 24])
@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("blue", "its choices are 'blue', expected a list of texts"),  # was scored by letters
        (None, "its choices are None, expected a list"),
        (["blue", None], "one of its choices is None, expected a text"),  # was scored as " None"
        ([3, 4], "one of its choices is 3, expected a text"),
    ],
)
def test_choices_that_are_no_list_of_texts_are_refused_before_scoring(
    make_lm, evaluate, choices, message, place
):
    # As text, since a column of the dataset has one type.
    docs = [{**doc, "choices": json.dumps(doc["choices"])} for doc in QUESTIONS]
    docs.insert(place, {**docs[0], "choices": json.dumps(choices)})
    yaml = CLOZE.replace("choices\n", "!function tests.harness.test_task.read_choices\n", 1)
    lm = make_lm()
    lm._model_call = None  # scoring would fail differently
    with pytest.raises(calib_harness.UserError, match=f"question {place}: {message}"):
        evaluate(lm, yaml, docs)


def read_choices(doc):
    return json.loads(doc["choices"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("doc_to_text", "{{query}}", "{{query}}.*'query' is undefined.*columns are question, c"),
        ("doc_to_text", "{{question", "{{question.*columns are question, choices"),
        (
            "doc_to_choice",
            "options",
            "'options'.*neither a column nor.*as a list\\); columns are qu",
        ),
        ("doc_to_choice", "{{choices", "{{choices.*columns are"),
        ("doc_to_target", "{{answer}}", "'answer' is undefined"),
    ],
)
def test_a_column_or_template_that_does_not_fit_is_a_clear_error(
    make_lm, evaluate, key, value, message
):
    lines = [line for line in CLOZE.splitlines() if not line.startswith(key)]
    yaml = "\n".join([*lines, f'{key}: "{value}"\n'])
    with pytest.raises(calib_harness.UserError, match=f"toy: {key} is .*{message}"):
        evaluate(make_lm(), yaml)


def test_a_task_without_any_gold_is_refused_before_scoring_unless_none_is_needed(make_lm, evaluate):
    yaml = CLOZE.replace("doc_to_target: gold", "doc_to_target: answer")
    with pytest.raises(calib_harness.UserError, match=r"no question has a gold.*gives 'answer'"):
        evaluate(make_lm(), yaml)
    output = evaluate(make_lm(), yaml, predict_only=True)
    assert len(output["samples"]["toy"]) == 2 * len(QUESTIONS)


@pytest.mark.parametrize("number", [24, -1])
def test_a_sample_that_does_not_exist_is_a_clear_error(make_lm, evaluate, number):
    with pytest.raises(calib_harness.UserError, match=f"no question {number}.* from 0 to 23"):
        evaluate(make_lm(), samples={"toy": [3, number]})


def test_a_split_without_questions_is_a_clear_error(make_lm, evaluate):
    yaml = CLOZE + "process_docs: !function tests.harness.test_task.no_docs\n"
    with pytest.raises(calib_harness.UserError, match="no questions"):
        evaluate(make_lm(), yaml)


def no_docs(dataset):
    return dataset.select([])


def test_an_index_error_of_the_yamls_own_is_not_hidden(make_lm, evaluate):
    yaml = CLOZE.replace("gold\n", "!function tests.harness.test_task.beyond\n")
    with pytest.raises(IndexError, match="beyond"):
        evaluate(make_lm(), yaml)


def beyond(doc):
    raise IndexError("beyond")


def test_a_list_of_golds_is_refused(make_lm, evaluate):
    docs = [{**doc, "gold": [0, 1]} for doc in QUESTIONS]
    with pytest.raises(calib_harness.UserError, match="gold"):
        evaluate(make_lm(), docs=docs)


@pytest.mark.parametrize("place", [0, 24], ids=["first", "last"])
def test_gold_outside_the_choices_is_counted_and_left_out_of_all_but_accuracy(
    make_lm, evaluate, caplog, place
):
    lm = make_lm()
    clean = evaluate(lm)["results"]["toy"]
    docs = list(QUESTIONS)
    docs[place:place] = [{**QUESTIONS[0], "gold": 7}, {**QUESTIONS[1], "gold": -1}]
    with caplog.at_level(logging.WARNING):
        results = evaluate(lm, docs=docs)["results"]["toy"]
    for metric in METRICS[1:]:
        for method in ("continuation-sum", "continuation-min"):
            assert results[f"{metric},{method}"] == pytest.approx(clean[f"{metric},{method}"])
    assert results["acc,continuation-sum"] == pytest.approx(clean["acc,continuation-sum"] * 24 / 26)
    assert results["unusable,continuation-sum"] == 2
    assert "unusable,continuation-sum" not in clean
    assert "2 of 26 questions cannot be used" in caplog.text
    assert f"First: {place}, {place + 1}" in caplog.text
    assert caplog.text.count("cannot be used") == 1  # once for both methods


def test_choice_mass_leaves_out_questions_that_cannot_be_used(make_lm, evaluate):
    # One of them made the mean NaN.
    lm = make_lm()
    clean = evaluate(lm, CHOICE)["results"]["toy"]
    docs = [*QUESTIONS, {**QUESTIONS[0], "gold": 7}]
    results = evaluate(lm, CHOICE, docs)["results"]["toy"]
    for key in ("choice_mass,choice", "choice_mass_stderr,choice"):
        assert results[key] == pytest.approx(clean[key])


def test_a_gold_that_is_no_whole_number_names_no_choice(make_lm, evaluate):
    docs = [{**doc, "gold": float(doc["gold"])} for doc in QUESTIONS]
    lm = make_lm()
    whole = evaluate(lm)["results"]["toy"]
    assert evaluate(lm, docs=docs)["results"]["toy"] == whole
    docs[3]["gold"] = 0.5
    assert evaluate(lm, docs=docs)["results"]["toy"]["unusable,continuation-sum"] == 1


def test_a_choice_that_encodes_to_no_tokens_is_counted_even_in_the_first_question(
    make_lm, evaluate, caplog
):
    yaml = f"{CLOZE}target_delimiter: ''\n"
    docs = [{**QUESTIONS[0], "choices": ["", " red"]}, *QUESTIONS]
    with caplog.at_level(logging.WARNING):
        results = evaluate(make_lm(), yaml, docs)["results"]["toy"]
    assert results["unusable,continuation-sum"] == 1
    assert math.isfinite(results["ece,continuation-sum"])
    assert "1 of 25 questions cannot be used" in caplog.text


def test_an_empty_choice_is_scored_by_its_delimiter_and_counted(make_lm, evaluate, caplog):
    docs = [*QUESTIONS, {**QUESTIONS[0], "choices": ["", "red"]}]
    with caplog.at_level(logging.WARNING):
        output = evaluate(make_lm(), docs=docs)
    assert "unusable,continuation-sum" not in output["results"]["toy"]
    assert "toy: 1 of 25 questions have an empty choice, scored by the delimiter ' '" in caplog.text
    assert "First: 24" in caplog.text


def test_predict_only_logs_samples_and_computes_nothing(make_lm, evaluate):
    output = evaluate(make_lm(), predict_only=True)
    assert not [key for key in output["results"]["toy"] if key.startswith("ece")]
    assert len(output["samples"]["toy"]) == 2 * len(QUESTIONS)


def test_limit_and_samples_choose_questions(make_lm, evaluate):
    lm = make_lm()
    assert evaluate(lm, limit=5)["n-samples"]["toy"]["effective"] == 5
    chosen = evaluate(lm, samples={"toy": [3, 7]})["samples"]["toy"]
    assert sorted({sample["doc_id"] for sample in chosen}) == [3, 7]


def test_chat_template_and_request_cache_reach_the_model(
    make_lm, evaluate, tokenizer, monkeypatch, tmp_path
):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    monkeypatch.setattr(
        tokenizer, "chat_template", "{% for m in messages %}<<{{ m.content }}>>{% endfor %}"
    )
    lm = make_lm()
    first = evaluate(lm, apply_chat_template=True, cache_requests=True)
    again = evaluate(lm, apply_chat_template=True, cache_requests=True)
    assert first["results"] == again["results"]
    assert first["samples"]["toy"][0]["arguments"][0][0].startswith("<<Question")


def test_groups_average_no_calibration_metric(make_lm, write_task):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    write_task("toy_cloze", CLOZE)
    folder = write_task("toy_choice", CHOICE)
    (folder / "group.yaml").write_text("group: toy\ntask: [toy_cloze, toy_choice]\n")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = simple_evaluate(model=make_lm(), tasks=["toy"], task_manager=manager)["results"]
    assert not [key for key in results.get("toy", {}) if key.startswith(("ece", "sce"))]
    assert {"toy_cloze", "toy_choice"} <= set(results)


STOCK_LIST = CLOZE + (
    "metric_list:\n"
    "  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\n"
    "  - {metric: mcc}\n"
    "  - {metric: likelihood, aggregation: mean}\n"
)


def test_a_stock_list_means_the_defaults_and_what_of_it_makes_sense(
    make_lm, evaluate, caplog, monkeypatch
):
    # It gave acc alone, or was refused for acc_norm.
    lm = make_lm()
    with caplog.at_level(logging.WARNING):
        results = evaluate(lm, STOCK_LIST)["results"]["toy"]
    assert {f"{metric},continuation-min" for metric in METRICS} <= set(results)
    assert "acc_norm,continuation-min" not in results  # defined for sums of log-probabilities
    assert caplog.text.count("metric_list holds likelihood, which no score") == 1
    stock_yaml = STOCK_LIST.replace("class: !function calib_harness.CalibrationTask", "")
    stock_yaml = stock_yaml.replace("  - {metric: likelihood, aggregation: mean}\n", "")
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    stock = evaluate(lm, stock_yaml, bootstrap_iters=2)  # 100,000 by default, which takes minutes
    for metric in ("acc", "acc_norm", "mcc"):
        assert results[f"{metric},continuation-sum"] == stock["results"]["toy"][f"{metric},none"]
    assert results["acc_norm_stderr,continuation-sum"] == pytest.approx(
        stock["results"]["toy"]["acc_norm_stderr,none"]
    )


def test_a_stock_metric_that_cannot_be_computed_does_not_lose_the_run(make_lm, evaluate, caplog):
    yaml = CLOZE + "metric_list: [{metric: acc}, {metric: f1}]\n"
    with caplog.at_level(logging.WARNING):  # F1 is of two classes; under the stock task it raises
        results = evaluate(make_lm(), yaml)["results"]["toy"]
    assert math.isnan(results["f1,continuation-sum"])
    assert math.isfinite(results["ece,continuation-sum"])
    assert "f1 cannot be computed: Target is multiclass" in caplog.text


def test_questions_of_more_choices_than_letters_are_scored_in_a_cloze_prompt(make_lm, evaluate):
    many = [f"thing {k}" for k in range(30)]
    docs = [*QUESTIONS, {**QUESTIONS[0], "choices": many, "gold": 29}]
    samples = evaluate(make_lm(), docs=docs)["samples"]["toy"]
    assert max(len(sample["arguments"]) for sample in samples) == 30


def test_a_list_of_one_gold_is_this_gold(make_lm, evaluate):
    lm = make_lm()
    docs = [{**doc, "gold": [doc["gold"]]} for doc in QUESTIONS]
    expected = evaluate(lm)["results"]["toy"]
    assert evaluate(lm, docs=docs)["results"]["toy"] == expected


def count_gold(doc, results):
    return {"acc": float(np.argmax([score for score, _ in results]) == doc["gold"])}


def count_two(doc, results):
    return {"acc": float(np.argmax([score for score, _ in results]) < 2)}


def test_a_yamls_own_results_are_asked_which_choice_is_right(make_lm, evaluate):
    lm = make_lm()
    yaml = CLOZE + "process_results: !function tests.harness.test_task.count_gold\n"
    assert evaluate(lm, yaml)["results"]["toy"] == evaluate(lm)["results"]["toy"]
    with pytest.raises(calib_harness.UserError, match=r"counts the choices \[0, 1\] as right"):
        evaluate(lm, yaml.replace("count_gold", "count_two"))


def test_a_yamls_own_results_know_the_order_that_letters_shuffle(make_lm, evaluate):
    # Where all golds are the first choice, letters are given in another order: it was refused.
    docs = [{**doc, "gold": 0} for doc in QUESTIONS]
    yaml = CLOZE.replace("version: 1.0", "prompt: choice")
    own = yaml + "process_results: !function tests.harness.test_task.count_gold\n"
    lm = make_lm()
    found = evaluate(lm, own, docs=docs)["results"]["toy"]
    assert found == evaluate(lm, yaml, docs=docs)["results"]["toy"]
    with pytest.raises(calib_harness.UserError, match=r"counts the choices \[0, 1\] as right"):
        evaluate(lm, own.replace("count_gold", "count_two"), docs=docs)


@pytest.mark.parametrize("numbers", [[7, 3], [3, 3]])
def test_samples_that_lm_eval_would_log_under_wrong_numbers_are_refused(make_lm, evaluate, numbers):
    with pytest.raises(calib_harness.UserError, match="each once and in ascending order"):
        evaluate(make_lm(), samples={"toy": numbers})


def test_an_alias_from_an_included_file_does_not_hide_the_tasks_name(make_lm, write_task):
    from lm_eval.tasks import TaskManager

    folder = write_task("toy", CLOZE + "task_alias: shown\n")
    (folder / "derived.yaml").write_text("include: toy.yaml\ntask: toy_calib\n")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    tasks = manager.load(["toy", "toy_calib"])["tasks"]
    assert tasks["toy"].config.task_alias == "shown"
    assert tasks["toy_calib"].config.task_alias is None


def test_a_stock_task_is_named_instead_of_its_file(make_lm, hub, tmp_path):
    from lm_eval.tasks import TaskManager

    yaml = "task: arc_calib\nclass: !function calib_harness.CalibrationTask\nstock: arc_easy\n"
    (tmp_path / "arc_calib.yaml").write_text(yaml)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    task = manager.load(["arc_calib"])["tasks"]["arc_calib"]
    assert task.config.metadata["version"] == 1.0
    assert len(task.eval_docs) == 2376
    (tmp_path / "arc_calib.yaml").write_text(yaml.replace("arc_easy", "arc_esay"))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    with pytest.raises(calib_harness.UserError, match=r"'arc_esay'.*did you mean 'arc_easy'"):
        manager.load(["arc_calib"])
