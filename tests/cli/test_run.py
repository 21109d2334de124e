"""`run` and `tasks` through the real command line, on a model in a folder."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import calib_harness
from calib_harness.cli import app, main
from tests.conftest import CLOZE, QUESTIONS
from tests.harness.test_task import naive_ece, naive_sce, read_samples

NOWHERE = "http://127.0.0.1:9/v1/completions"
TOKENIZER = "tokenizer_backend=huggingface,tokenizer=MODEL"


@pytest.fixture(scope="module")
def model(make_model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Folder in which the index of lm-eval's tasks is kept from one test to the next."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def command(model, kept, monkeypatch, capsys):
    """Return a function from more arguments of `run` to its exit status, output and errors."""
    monkeypatch.setenv("CALIB_HARNESS_CACHE", str(kept))

    def call(*arguments, pretrained=model):
        backend = ["--model", "hf", "--device", "cpu"]
        if pretrained is not None:
            backend += ["--model_args", f"pretrained={pretrained}"]
        monkeypatch.setattr("sys.argv", ["calib-harness", "run", *backend, *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def test_ece_and_sce_equal_those_recomputed_from_the_written_log(command, write_task, tmp_path):
    folder = write_task("toy")
    out = tmp_path / "out"
    arguments = ("--tasks", "toy", "--include_path", folder, "--output_path", out, "--log_samples")
    status, printed, _ = command(*arguments)
    assert status == 0
    [results_file] = out.rglob("results_*.json")
    [samples_file] = out.rglob("samples_toy_*.jsonl")
    results = json.loads(results_file.read_text())["results"]["toy"]
    samples = [json.loads(line) for line in samples_file.read_text().splitlines()]
    for method in ("continuation-sum", "continuation-min"):
        rows, gold = read_samples(samples, method)
        assert len(rows) == len(QUESTIONS)
        confidence = [row.max() for row in rows]
        correct = [int(row.argmax() == g) for row, g in zip(rows, gold, strict=True)]
        assert results[f"ece,{method}"] == pytest.approx(naive_ece(confidence, correct), abs=1e-9)
        assert results[f"sce,{method}"] == pytest.approx(naive_sce(rows, gold), abs=1e-9)
        assert results[f"acc,{method}"] == pytest.approx(np.mean(correct), abs=1e-12)
        for metric in ("acc", "ece", "sce", "brier_score", "nll"):
            assert math.isfinite(results[f"{metric}_stderr,{method}"])
            [line] = re.findall(rf"^.*\|{method}\|.*\|{metric} *\|.*$", printed, re.MULTILINE)
            assert "N/A" not in line


def test_the_written_log_holds_every_token_log_probability(command, write_task, tmp_path):
    folder = write_task("toy")
    command("--tasks", "toy", "--include_path", folder, "--output_path", tmp_path, "--log_samples")
    [samples_file] = tmp_path.rglob("samples_toy_*.jsonl")
    for line in samples_file.read_text().splitlines():
        for [[logprob, _, tokens, *_]] in json.loads(line)["resps"]:
            assert tokens
            assert float(logprob) == pytest.approx(sum(map(float, tokens)), abs=1e-9)


def test_a_resumed_run_says_how_much_was_scored_before(command, write_task, tmp_path, monkeypatch):
    arguments = ("--tasks", "toy", "--include_path", write_task("toy"))
    cached = (*arguments, "--use_cache", tmp_path / "cache")
    n_requests = sum(len(doc["choices"]) for doc in QUESTIONS)
    for n_before in (0, n_requests):
        # lm-eval makes its handler once, for whatever stream there was.
        monkeypatch.setattr("lm_eval.utils._LOGGING_CONFIGURED", False)
        _, _, errors = command(*cached)
        assert f"Cached requests: {n_before} of {n_requests}\n" in errors


def test_a_mistake_in_a_yaml_is_one_sentence_and_exit_status_2(command, write_task):
    folder = write_task("toy", CLOZE.replace("version: 1.0", "n_bins: 0"))
    status, _, errors = command("--tasks", "toy", "--include_path", folder)
    assert status == 2
    assert errors.splitlines()[-1].startswith(
        "calib-harness: toy: metadata: n_bins must be a whole number"
    )
    assert "Traceback" not in errors


def test_a_chat_template_that_the_tokenizer_lacks_is_one_sentence(command, write_task):
    status, _, errors = command(
        "--tasks", "toy", "--include_path", write_task("toy"), "--apply_chat_template"
    )
    assert status == 2
    assert errors.splitlines()[-1].startswith("calib-harness: --apply_chat_template: the model's")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_args", "pretrained=/absent"], "--model_args: cannot load pretrained=/absent: "),
        (["--model_args", "pretrained=absent"], "--model_args: cannot load pretrained=absent: "),
        (["--model_args", "pretrained=EMPTY"], "--model_args: cannot load pretrained=EMPTY: "),
        (["--model", "hff"], "--model: no backend is called hff; did you mean hf? known: "),
        (["--metadata", "{n_bins: 10"], "Invalid JSON: {n_bins: 10. Hint: Use double quotes"),
        (["--model_args", "pretrained=MODEL,dtype=float9"], "--model_args: dtype=float9 is none"),
        (["--model_args", "pretrained=MODEL,peft=/absent"], "--model_args: cannot load peft=/abs"),
        (["--model_args", "pretrained=MODEL,colour=red"], "--model_args: neither the backend nor"),
        (["--batch_size", "many"], "--batch_size: expected a whole number, auto or auto:N; got"),
        (["--model", "gguf"], "--model_args: base_url is missing; backend gguf needs the server's"),
        (["--model", "local-completions"], "--model_args: base_url is missing; backend local-com"),
        (["--model", "sglang-generate"], "--model_args: base_url is missing; backend sglang-gener"),
        (
            [
                "--model",
                "local-chat-completions",
                "--model_args",
                f"pretrained=,base_url={NOWHERE}",
            ],
            "--model_args: model is missing; backend local-chat-completions needs the name that",
        ),
        (["--model", "steered"], "--model_args: steer_path is missing; backend steered needs"),
        (["--model", "textsynth", "--model_args", "engine=x"], "--model: backend textsynth needs"),
        (
            ["--model", "openai-completions", "--model_args", "model=babbage-002," + TOKENIZER],
            "model: OpenAICompletionsAPI cannot be asked: API key not found.",
        ),
        (["--model", "ipex"], "--model: this release of lm-eval cannot load its own backend ipex"),
        (["--model", "litellm", "--model_args", "model=x"], "--model: backend litellm needs a pac"),
        (["--model", "watsonx_llm"], "--model: backend watsonx_llm needs a package that is not "),
        (
            [
                "--model",
                "local-completions",
                "--model_args",
                f"base_url={NOWHERE},num_concurrent=x,tokenizer_backend=huggingface,model=MODEL",
            ],
            "--model: backend local-completions could not be started with these --model_args (Val",
        ),
        (["--model", "vllm"], "vllm is not installed, which the backend or a task needs; run `pip"),
    ],
)
def test_a_backend_or_model_that_does_not_exist_is_one_sentence(
    command, write_task, model, tmp_path, monkeypatch, arguments, message
):
    for key in ("OPENAI_API_KEY", "TEXTSYNTH_API_SECRET_KEY"):
        monkeypatch.delenv(key, raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [argument.replace("EMPTY", str(empty)) for argument in arguments]
    given = [argument.replace("MODEL", str(model)) for argument in given]
    status, _, errors = command("--tasks", "toy", "--include_path", write_task("toy"), *given)
    assert status == 2
    last = errors.splitlines()[-1]
    assert last.startswith(f"calib-harness: {message}".replace("EMPTY", str(empty)))
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--log_samples"], "lm-eval refuses the arguments: Specify --output_path if providing"),
        (["--wandb_args", "project=x"], "--wandb_args: wandb is not installed; run `pip install"),
        (["--trackio_args", "project=x"], "--trackio_args: trackio is not installed; run `pip"),
        (["--include_path", "/absent"], "--include_path: /absent is no folder; name one that"),
        (["--config", "/absent.yaml"], "--config: Config file not found: /absent.yaml"),
        (["--output_path", "FILE/x"], "--output_path: nothing can be written in FILE/x (Not a"),
        (["--use_cache", "FILE/x"], "--use_cache: nothing can be written in FILE (File exists)"),
    ],
)
def test_arguments_that_cannot_be_met_are_one_sentence_before_anything_is_loaded(
    command, tmp_path, monkeypatch, arguments, message
):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr("lm_eval.simple_evaluate", None)
    if "--config" not in arguments:
        arguments = ["--tasks", "toy_world_calib_cloze", *arguments]
    status, _, errors = command(*(argument.replace("FILE", str(file)) for argument in arguments))
    assert status == 2
    assert errors.splitlines()[-1].startswith(
        f"calib-harness: {message}".replace("FILE", str(file))
    )
    assert "Traceback" not in errors


def test_questions_that_are_neither_here_nor_on_the_hub_are_one_sentence(
    command, tmp_path, monkeypatch
):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    status, _, errors = command("--tasks", "sciq_calib_cloze")
    assert status == 2
    last = errors.splitlines()[-1]
    assert last.startswith("calib-harness: --tasks: the questions of a task cannot be loaded: Coul")
    assert "Traceback" not in errors


def test_results_that_cannot_be_written_do_not_end_well(command, write_task, tmp_path, monkeypatch):
    # lm-eval only warns, and exits with status 0.
    from lm_eval.loggers import EvaluationTracker

    monkeypatch.setattr(EvaluationTracker, "save_results_aggregated", lambda self, **_: None)
    status, printed, errors = command(
        "--tasks", "toy", "--include_path", write_task("toy"), "--output_path", tmp_path / "out"
    )
    assert status == 2
    assert re.search(r"^\|toy *\|", printed, re.MULTILINE)
    assert "--output_path: the results could not be written to" in errors.splitlines()[-1]


def test_an_interrupted_run_says_what_is_kept_and_goes_on_there(
    command, write_task, tmp_path, monkeypatch
):
    from transformers import LlamaForCausalLM

    arguments = ("--tasks", "toy", "--include_path", write_task("toy"), "--batch_size", "1")
    cached = (*arguments, "--use_cache", tmp_path / "cache")
    monkeypatch.setenv("CALIB_HARNESS_SCORING", "plain")
    forward, calls = LlamaForCausalLM.forward, []

    def interrupted(self, *given, **named):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return forward(self, *given, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", interrupted)
    status, _, errors = command(*cached)
    assert status == 130
    assert f"What was scored is kept in {tmp_path / 'cache'}_rank*.db" in errors.splitlines()[-1]
    calls.clear()
    status, _, errors = command(*arguments)
    assert status == 130
    assert "Nothing is kept, since --use_cache was not given" in errors.splitlines()[-1]
    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    monkeypatch.setattr("lm_eval.utils._LOGGING_CONFIGURED", False)
    status, _, errors = command(*cached)
    assert status == 0
    [n_kept] = re.findall(r"Cached requests: (\d+) of", errors)
    assert int(n_kept) > 0


def test_a_backend_without_a_model_is_one_sentence(command, write_task):
    arguments = ("--tasks", "toy", "--include_path", write_task("toy"))
    status, _, errors = command(*arguments, pretrained=None)
    assert status == 2
    last = errors.splitlines()[-1]
    assert last.startswith("calib-harness: --model_args: pretrained is missing; name a model")


def test_an_error_that_is_no_mistake_of_the_user_is_not_hidden(command, write_task):
    yaml = CLOZE.replace("gold\n", "!function tests.cli.test_run.broken\n")
    with pytest.raises(ValueError, match="not the user's"):
        command("--tasks", "toy", "--include_path", write_task("toy", yaml))


def broken(doc):
    raise ValueError("not the user's")


def test_an_unknown_task_is_one_sentence_that_names_the_nearest(command):
    status, _, errors = command("--tasks", "arc_easy_calb")
    assert status == 2
    assert "no task is called arc_easy_calb; did you mean" in errors
    assert "arc_easy_calib" in errors


def test_the_version_is_printed_with_those_of_what_numbers_depend_on():
    printed = CliRunner().invoke(app, ["--version"]).output
    assert printed.startswith(f"calib-harness {calib_harness.__version__}\n")
    assert re.search(r"lm_eval \d.*torch \d.*transformers \d", printed)


def test_usage_names_arguments_without_braces():
    for name in command_names(typer.main.get_command(app)):
        output = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80).output
        [usage] = [line for line in output.splitlines() if line.startswith(" Usage:")]
        assert "{" not in usage, name


def command_names(group, prefix=""):
    """Names of a group of commands and of everything below it."""
    yield prefix.strip()
    for name, below in getattr(group, "commands", {}).items():
        yield from command_names(below, f"{prefix} {name}")


def test_help_of_every_command_fits_a_screen_and_shows_an_example():
    names = list(command_names(typer.main.get_command(app)))
    assert {"", "run", "tasks", "demo", "sweep status", "plot ranks"} <= set(names)
    for name in names:
        output = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80).output
        assert len(output.splitlines()) <= (24 if name in ("run", "tasks", "demo") else 40), name
        assert "xample" in output, name


def test_tasks_lists_every_packaged_task_or_prints_the_folder():
    assert CliRunner().invoke(app, ["tasks", "--path"]).output.strip() == calib_harness.task_path()
    listed = CliRunner().invoke(app, ["tasks"]).output
    assert "mmlu_stem_calib_cloze" in listed
    assert listed.count("_calib_cloze") == listed.count("_calib_choice") >= 10
