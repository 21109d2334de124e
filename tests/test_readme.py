"""What README and docs tell people to type exists: commands, options, names, YAMLs."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from calib_harness.cli import app
from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples/sweeps/README.md",
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[list[str]]:
    """Arguments of every `calib-harness …` in a block of shell, continued lines joined."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            found += [words[1:] for words in lines_of(block) if words[:1] == ["calib-harness"]]
    return found


def lines_of(block: str) -> list[list[str]]:
    """Words of every line, which goes on past its end after a backslash or in quotes."""
    found, so_far = [], ""
    for line in block.replace("\\\n", " ").splitlines():
        so_far += line + "\n"
        try:
            found.append(shlex.split(so_far, comments=True))
        except ValueError:  # quotes are still open
            continue
        so_far = ""
    assert not so_far, f"quotes are not closed: {so_far}"
    return found


def test_there_are_commands_of_every_kind_to_look_at():
    assert {"metrics", "compare", "report", "plot", "sweep"} <= {words[0] for words in commands()}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_options_of_the_documentation_exist(words):
    command = typer.main.get_command(app)
    while getattr(command, "commands", None):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))  # raises what the command line would print


def test_names_that_the_documentation_imports_exist():
    n_names = 0
    for page in PAGES:
        for block in blocks(page, "python"):
            if ">>>" in block:
                continue  # run by test_docs.py
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom):
                    exec(ast.unparse(node), {})  # raises ImportError of what is not there
                    n_names += len(node.names)
    assert n_names > 3


def test_own_task_of_the_documentation_runs_as_it_stands_there(make_lm, evaluate):
    own, replaced = blocks(ROOT / "docs/how-to/own-task.md", "yaml")[:2]
    [short] = blocks(ROOT / "README.md", "yaml")
    assert yaml.safe_load(short.replace("!function", "")) == yaml.safe_load(
        own.replace("!function", "")
    )
    data = "dataset_path: json\ndataset_kwargs: {data_files: {test: DATA}}"
    task = own.replace("task: my_task_calib\n", "").replace("dataset_path: my/dataset", data)
    assert "DATA" in task
    results = evaluate(make_lm(), task)["results"]["toy"]
    assert "ece,continuation-sum" in results
    output = evaluate(make_lm(), task + replaced)
    assert "smece,continuation-mean" in output["results"]["toy"]
    assert "ece,continuation-sum" not in output["results"]["toy"]
    [ece] = [e for e in output["configs"]["toy"]["metric_list"] if e["metric"] == "ece"]
    assert ece == {"metric": "ece", "n_bins": 10, "binning": "equal_mass", "norm": "l2"}


def test_library_example_of_the_readme_runs_as_it_stands_there():
    [library] = [b for b in blocks(ROOT / "README.md", "python") if "simple_evaluate" in b]
    code = library.replace("MODEL", str(ROOT / "examples/toy_world/models/base"))
    code = code.replace('["sciq_calib"], ', '["toy_world_calib"], limit=2, device="cpu", ')
    assert "limit" in code
    code = code.replace("simple_evaluate(\n", "results = simple_evaluate(\n")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert {"toy_world_calib_cloze", "toy_world_calib_choice"} <= set(names["results"]["results"])
