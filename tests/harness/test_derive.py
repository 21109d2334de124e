"""Stock tasks become calibration tasks by name, in groups, pooled; or are refused, saying why."""

from __future__ import annotations

import re

import pytest
import yaml
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind

from calib_harness.errors import UserError
from calib_harness.harness.derive import derive, derive_missing, entries_of
from calib_harness.harness.samples_option import check_samples
from calib_harness.harness.stock import stock_config, stock_paths

MULTIPLE_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "q",
    "doc_to_choice": "c",
    "doc_to_target": "g",
}


def entry(name, kind=Kind.TASK, *, tags=(), **config):
    return Entry(name=name, kind=kind, yaml_path=None, cfg=config, tags=set(tags))


INDEX = {
    one.name: one
    for one in (
        entry("sun", **MULTIPLE_CHOICE),
        entry("moon", **MULTIPLE_CHOICE),
        entry("essay", output_type="generate_until"),
        entry("maths", output_type="generate_until", doc_to_choice="c"),
        entry("python", Kind.PY_TASK, **{"class": "some.Class"}),
        entry("bias", **MULTIPLE_CHOICE, process_results="f", metric_list=[{"metric": "bias"}]),
        entry("sky", Kind.TAG, tags=["sun", "moon"]),
        entry(
            "world",
            Kind.GROUP,
            task=[
                {"group": "above", "task": ["sky"]},
                {"task": "sun", "task_alias": "SUN", "num_fewshot": 5},
                "essay",
                "nowhere",
            ],
        ),
        entry("words", Kind.GROUP, task=["essay"]),
    )
}


def written(result, name):
    text = result.written[name].read_text().replace("!function ", "")
    return yaml.safe_load(text)


def test_a_task_becomes_three_lines_that_name_the_stock_one(tmp_path):
    result = derive(["sun"], tmp_path, index=INDEX)
    assert (tmp_path / "sun_calib.yaml").read_text() == (
        "task: sun_calib\nclass: !function calib_harness.CalibrationTask\nstock: sun\n"
    )
    assert result.tasks == {"sun": ["sun_calib"]}


def test_a_file_that_was_edited_is_kept_and_named_and_nothing_else_is_written(tmp_path):
    derive(["sun"], tmp_path, index=INDEX)
    assert derive(["sun"], tmp_path, index=INDEX).written  # as it was: nothing to lose
    edited = tmp_path / "sun_calib.yaml"
    edited.write_text(edited.read_text() + "num_fewshot: 3\n")
    with pytest.raises(UserError, match=r"sun_calib\.yaml is there, and not as derive would write"):
        derive(["moon", "sun"], tmp_path, index=INDEX)
    assert edited.read_text().endswith("num_fewshot: 3\n")
    assert not (tmp_path / "moon_calib.yaml").exists()


def test_groups_become_groups_of_derived_tasks_and_average_nothing(tmp_path):
    result = derive(["world"], tmp_path, index=INDEX)
    assert written(result, "world_calib") == {
        "group": "world_calib",
        "task": ["above_calib", {"task": "sun_calib", "num_fewshot": 5}],
    }
    assert written(result, "above_calib")["task"] == ["sky_calib"]
    assert written(result, "sky_calib")["task"] == ["moon_calib", "sun_calib"]
    assert set(result.refused) == {"essay", "world::nowhere"}


def test_both_prompts_stand_in_a_group_and_metadata_in_every_task(tmp_path):
    result = derive(["moon"], tmp_path, prompt="both", metadata={"n_bins": 10}, index=INDEX)
    assert written(result, "moon_calib")["task"] == ["moon_calib_cloze", "moon_calib_choice"]
    choice = written(result, "moon_calib_choice")
    assert choice["metadata"] == {"n_bins": 10, "prompt": "choice"}


def test_a_pooled_task_holds_every_member_once(tmp_path):
    result = derive(["world"], tmp_path, pool=True, index=INDEX)
    pooled = written(result, "world_calib_pooled")
    assert pooled["class"] == "calib_harness.PooledTask"
    assert pooled["stock"] == ["moon", "sun"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("essay", "its output_type is generate_until"),
        ("maths", "its answers are generated, though it has choices"),
        ("python", "built in Python"),
        ("bias", r"results of its own \(bias\) and no acc"),
        ("words", "none of its members"),
    ],
)
def test_what_cannot_become_a_calibration_task_is_refused_with_the_reason(tmp_path, name, reason):
    result = derive([name, "sun"], tmp_path, index=INDEX)
    assert name not in result.tasks
    assert re.search(reason, result.refused[name])


def test_names_are_patterns_and_a_wrong_one_is_a_sentence(tmp_path):
    assert set(derive(["*oo*", "s?n"], tmp_path, index=INDEX).tasks) == {"sun", "moon"}
    with pytest.raises(UserError, match=r"called 'mooon'; did you mean 'moon'\?"):
        derive(["mooon"], tmp_path, index=INDEX)


def test_a_derived_name_that_no_folder_holds_is_made_when_it_is_asked_for(tmp_path):
    held, made = tmp_path / "held", tmp_path / "made"
    held.mkdir()
    made.mkdir()
    (held / "a.yaml").write_text("task: piqa_calib\nclass: !function x.Y\n")
    wanted = ["piqa_calib", "winogrande_calib", "race_calib_choice", "arc_easy"]
    assert derive_missing(wanted, [held], made)
    assert sorted(path.name for path in made.iterdir()) == [
        "race_calib_choice.yaml",
        "winogrande_calib.yaml",
    ]
    assert not derive_missing(["arc_easy", "piqa_calib"], [held], tmp_path / "unused")
    with pytest.raises(UserError, match="gsm8k cannot become the calibration task gsm8k_calib"):
        derive_missing(["gsm8k_calib"], [held], made)


def test_a_pattern_stands_for_the_tasks_that_can_become_one_and_are_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr("calib_harness.harness.derive.entries_of", lambda names: INDEX)
    held, made = tmp_path / "held", tmp_path / "made"
    held.mkdir()
    (held / "mine.yaml").write_text("task: sun_calib\nclass: x\n")
    assert derive_missing(["*_calib", "s?n_calib_choice"], [held], made)
    # Neither the one that is held, nor groups and tags, nor what scores nothing by choice.
    assert sorted(path.name for path in made.iterdir()) == [
        "moon_calib.yaml",
        "sun_calib_choice.yaml",
    ]


def test_single_tasks_are_found_without_lm_evals_index():
    assert set(entries_of({"piqa", "winogrande"})) >= {"piqa", "winogrande"}
    assert len(stock_paths()) > 10_000
    assert stock_config("winogrande")["dataset_path"] == "allenai/winogrande"


def test_samples_of_a_name_that_is_not_run_are_refused():
    check_samples({"sun": None, "moon": None}, {"sun": [1]})
    with pytest.raises(UserError, match=r"'mooon' is none of.*did you mean 'moon'.*not of groups"):
        check_samples({"sun": None, "moon": None}, {"mooon": [1]})


def test_samples_are_checked_before_anything_is_scored(make_lm, evaluate):
    # It silently scored everything.
    with pytest.raises(UserError, match="'tuy' is none of the tasks"):
        evaluate(make_lm(), samples={"tuy": [0]})


def load(folder, name):
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return manager.load([name])["tasks"][name]


def requests_of(task, n):
    task.set_fewshot_seed(1)
    task.build_all_requests(limit=n)
    return [request.args for request in task.instances]


@pytest.mark.parametrize("name", ["openbookqa", "commonsense_qa", "hellaswag", "medmcqa"])
def test_a_derived_task_asks_what_the_stock_task_asks(hub, tmp_path, name):
    derive([name], tmp_path, index=entries_of({name}))
    stock = load(stock_paths()[name].parent, name)
    assert requests_of(load(tmp_path, f"{name}_calib"), 30) == requests_of(stock, 30)


def test_a_pooled_task_asks_its_members_questions_each_with_its_own_shots(hub, tmp_path):
    names = ["mmlu_abstract_algebra", "mmlu_anatomy"]
    derive(names, tmp_path, index=entries_of(names))
    (tmp_path / "pooled.yaml").write_text(
        f"task: pooled\nclass: !function calib_harness.PooledTask\nstock: {names}\nnum_fewshot: 2\n"
    )
    expected = []
    for name in names:
        task = load(tmp_path, f"{name}_calib")
        task.set_config("num_fewshot", 2)
        expected += requests_of(task, None)
    pooled = load(tmp_path, "pooled")
    pooled.set_config("num_fewshot", 2)
    assert requests_of(pooled, None) == expected
    assert "abstract algebra" in expected[0][0]
    assert "anatomy" in expected[-1][0]


def test_tasks_that_ask_in_different_ways_are_not_pooled(hub, tmp_path):
    (tmp_path / "pooled.yaml").write_text(
        "task: pooled\nclass: !function calib_harness.PooledTask\nstock: [arc_easy, medmcqa]\n"
    )
    with pytest.raises(UserError, match="arc_easy and medmcqa differ in their kind of prompt"):
        load(tmp_path, "pooled")


def test_prompts_become_variants_in_a_group(tmp_path):
    prompts = [
        {"name": "plain", "doc_to_text": "{{q}}"},
        {"name": "asked", "doc_to_text": "Question: {{q}}\nAnswer:", "description": "Answer.\n"},
    ]
    result = derive(["sun"], tmp_path, metadata={"prompts": prompts, "n_bins": 10}, index=INDEX)
    assert result.tasks == {"sun": ["sun_calib_prompt_plain", "sun_calib_prompt_asked"]}
    assert written(result, "sun_calib")["task"] == result.tasks["sun"]
    assert written(result, "sun_calib_prompt_asked") == {
        "task": "sun_calib_prompt_asked",
        "class": "calib_harness.CalibrationTask",
        "stock": "sun",
        "doc_to_text": "Question: {{q}}\nAnswer:",
        "description": "Answer.\n",
        "metadata": {"n_bins": 10},
    }


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ("plain", "prompts holds 'plain'"),
        ([], "prompts is empty"),
        ([{"name": "plain"}], "expected a list of entries with a name and one of doc_to_text"),
        ([{"name": "a b", "doc_to_text": "q"}], "prompts holds"),
        ([{"name": "a", "doc_to_choice": "c"}], "prompts holds"),
        ([{"name": "a", "doc_to_text": "q"}] * 2, "two variants called 'a'"),
    ],
)
def test_prompts_that_are_no_variants_are_refused(tmp_path, prompts, said):
    with pytest.raises(UserError, match=said):
        derive(["sun"], tmp_path, metadata={"prompts": prompts}, index=INDEX)


def test_prompts_are_variants_of_the_stock_prompt_alone(tmp_path):
    prompts = [{"name": "plain", "doc_to_text": "q"}]
    with pytest.raises(UserError, match="leave out --prompt and --pool"):
        derive(["sun"], tmp_path, prompt="both", metadata={"prompts": prompts}, index=INDEX)
