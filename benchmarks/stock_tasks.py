"""How many of lm-eval's own multiple-choice tasks become calibration tasks, and why others do not.

Each task is constructed twice, by `derive` and by the one line beside its own settings, on a
stand-in for its dataset: a few rows whose columns are those that the YAML's templates and functions
read. A stand-in is right when lm-eval's own task class constructs on it and finds a gold among its
choices; what no stand-in was found for is counted by itself. No data is loaded, no network needed.

    python benchmarks/stock_tasks.py [--families arc,glue] [--per-family 1] [--output table.md]
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import inspect
import itertools
import logging
import random
import re
import sys
import tempfile
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import lm_eval.tasks
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

import calib_harness.harness
from calib_harness.errors import UserError
from calib_harness.harness.derive import derive

ROOT = Path(lm_eval.tasks.__file__).parent
MOST_TRIES = 150
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
READS = ("doc_to_text", "doc_to_choice", "doc_to_target", "process_docs", "process_results")

TEXTS = ["a thing", "another", "some words", "the rest"]
# What a column may hold, likeliest first; a name that says so comes first of all.
VALUES: list[Any] = [
    "a thing",
    TEXTS,
    0,
    "A",
    {"text": TEXTS, "label": list("ABCD")},
    "1",
    1,
    str(TEXTS),
    {"choices": TEXTS, "labels": [1, 0, 0, 0]},
    [{"text": text, "label": letter} for text, letter in zip(TEXTS, "ABCD", strict=True)],
    [0],
    "a _ thing",
    dict(zip("ABCD", TEXTS, strict=True)),
    {"stem": "a thing", "choices": TEXTS},
    True,
    1.0,
    {"text": "a thing", "span1_text": "a", "span2_text": "b"},
]
BY_NAME = [
    (r"choices|options|candidates|endings|opciones|alternatives", [TEXTS, VALUES[4], str(TEXTS)]),
    (r"answer|label|gold|target|correct|respuesta|cop|idx", [0, "A", "1", 1, "a thing", [0]]),
]


def names_read(config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Columns that a task's templates and functions read, and constants they compare with."""
    columns: dict[str, None] = {}
    constants: dict[str, None] = {}
    environment = jinja2.Environment()
    for key in (*READS, "description", "gen_prefix"):
        value = config.get(key)
        if isinstance(value, str):
            if "{" in value:
                with contextlib.suppress(jinja2.TemplateError):
                    found = jinja2.meta.find_undeclared_variables(environment.parse(value))
                    columns.update(dict.fromkeys(sorted(found)))
            elif key.startswith("doc_to"):
                columns[value] = None
        elif callable(value):
            for name, constant in _read_by(value):
                (columns if name else constants)[name or constant] = None
    return list(columns), list(constants)


def _read_by(function: Any) -> Iterator[tuple[str, str]]:
    while isinstance(function, functools.partial):
        yield from (("", str(value)) for value in (*function.args, *function.keywords.values()))
        function = function.func
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        module = inspect.getmodule(function)
        yield from _in_source(inspect.getsource(module or function))


@functools.cache
def _in_source(source: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if isinstance(node.slice.value, str):
                found.append((node.slice.value, ""))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and node.args:
            if isinstance(node.args[0], ast.Constant):
                found.append((str(node.args[0].value), ""))
        elif isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    found.append(("", side.value))
    return found


def candidates(column: str, constants: list[str]) -> list[Any]:
    named = [values for pattern, values in BY_NAME if re.search(pattern, column.lower())]
    first = named[0] if named else []
    return [*first, *(value for value in VALUES if value not in first), *constants]


def dataset(config: dict[str, Any], rows: list[dict[str, Any]]) -> DatasetDict:
    splits = {config.get(key) for key in SPLITS} | {"train", "validation", "test"}
    fewshot = config.get("fewshot_config")
    splits.add(fewshot.get("split") if isinstance(fewshot, dict) else None)
    table = Dataset.from_list(rows)
    return DatasetDict({split: table for split in splits if split})


def construct(cls: type, config: dict[str, Any], data: DatasetDict) -> Any:
    def download(self: Any, *args: Any, **kwargs: Any) -> None:
        self.dataset = data

    original = ConfigurableTask.download
    ConfigurableTask.download = download
    try:
        return cls(
            config={key: value for key, value in config.items() if key in cls_keys(cls, config)}
        )
    finally:
        ConfigurableTask.download = original


def cls_keys(cls: type, config: dict[str, Any]) -> set[str]:
    index_only = {"tag", "group", "task_list"}
    return set(config) - index_only - ({"class", "stock"} if cls is ConfigurableTask else set())


def fits(config: dict[str, Any], data: DatasetDict) -> bool:
    """Whether lm-eval's own class constructs, and finds a gold among two or more choices."""
    task = construct(ConfigurableTask, config, data)
    doc = task.eval_docs[0]
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if not isinstance(choices, list) or len(choices) < 2:
        return False
    if not all(isinstance(choice, str) and choice for choice in choices):
        return False
    results = [(-float(k), k == 0) for k in range(len(choices))]
    task.process_results(doc, results)
    if isinstance(target, list):
        return bool(target) and all(isinstance(one, int) for one in target)
    return target in choices if isinstance(target, str) else target in range(len(choices))


def rows_of(choice: dict[str, Any], constants: list[str]) -> list[dict[str, Any]]:
    """Rows of one schema; text columns also take each constant, since functions select by them."""
    rows = [dict(choice) for _ in range(3)]
    for constant in constants[:60]:
        rows.append(
            {name: constant if value == "a thing" else value for name, value in choice.items()}
        )
    return rows


def stand_in(config: dict[str, Any], known: list[dict[str, Any]]) -> DatasetDict | None:
    columns, constants = names_read(config)
    rng = random.Random(0)
    options = {column: candidates(column, []) for column in columns}
    first = {column: values[0] for column, values in options.items()}
    tries = itertools.chain(
        ({**first, **{c: v for c, v in schema.items() if c in options}} for schema in known),
        [first],
        _neighbours(first, options),
        (
            {column: rng.choice(values[:8]) for column, values in options.items()}
            for _ in range(MOST_TRIES)
        ),
    )
    for choice in itertools.islice(tries, MOST_TRIES):
        data = dataset(config, rows_of(choice, constants))
        with contextlib.suppress(Exception):
            if fits(config, data):
                if choice not in known:
                    known.insert(0, choice)
                return data
    return None


def _neighbours(first: dict[str, Any], options: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for column, values in options.items():
        for value in values[1:]:
            yield {**first, column: value}


def outcome(config: dict[str, Any], data: DatasetDict) -> str:
    """`made`, or why not: a sentence without what is the task's own."""
    try:
        task = construct(calib_harness.harness.CalibrationTask, config, data)
        task.construct_requests(task.task_docs[0], _context(task), metadata=(config["task"], 0, 1))
    except UserError as error:
        return "refused: " + re.sub(r"^[^:]*: ", "", str(error))
    metrics = set(task.aggregation())
    return "made" if {"ece", "sce"} <= metrics else f"only {', '.join(sorted(metrics))}"


def _context(task: Any) -> Any:
    task.set_fewshot_seed(1)
    return task.fewshot_context(task.task_docs[0], 0)


def survey(
    families: set[str] | None, per_family: int | None
) -> tuple[Counter[tuple[str, str]], dict[str, Counter[str]]]:
    index = TaskManager().task_index
    stock = [
        name
        for name, entry in index.items()
        if (entry.cfg or {}).get("output_type") == "multiple_choice"
    ]
    totals: Counter[tuple[str, str]] = Counter()
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    known: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        derived = derive(stock, Path(folder), index=index)
        for number, name in enumerate(stock):
            path = Path(index[name].yaml_path)
            family = path.relative_to(ROOT).parts[0]
            if families and family not in families:
                continue
            if per_family is not None and by_family[family].total() >= per_family:
                continue
            if number % 100 == 0:
                print(f"{number} of {len(stock)}", file=sys.stderr)
            try:
                config = {**load_yaml(path), "task": name}
            except (ImportError, AttributeError) as error:
                config = None
                result = {"derive": f"lm-eval cannot load its YAML: {type(error).__name__}"}
            if config is None:
                pass
            elif name in derived.refused:
                result = {"derive": f"refused: {derived.refused[name]}"}
            else:
                data = stand_in(config, known[family])
                if data is None:
                    result = {"derive": "no stand-in found", "one line": "no stand-in found"}
                else:
                    made = load_yaml(derived.written[f"{name}_calib"])
                    result = {
                        "derive": outcome(made, data),
                        "one line": outcome({**config, "task": f"{name}_calib"}, data),
                    }
            print(name, result["derive"][:150], sep="\t", file=sys.stderr, flush=True)
            for way, what in result.items():
                totals[way, what] += 1
            by_family[family][result["derive"]] += 1
    return totals, by_family


def report(totals: Counter[tuple[str, str]], by_family: dict[str, Counter[str]]) -> str:
    lines = ["| way | outcome | tasks |", "|---|---|---:|"]
    for (way, what), count in sorted(totals.items(), key=lambda item: (item[0][0], -item[1])):
        lines.append(f"| {way} | {what.replace('|', ' ')} | {count} |")
    whole = sum(set(counts) == {"made"} for counts in by_family.values())
    lines.append(f"\n{len(by_family)} families, {whole} of them whole.")
    for family, counts in sorted(by_family.items()):
        if set(counts) != {"made"}:
            said = "; ".join(f"{count} {what[:110]}" for what, count in counts.most_common())
            lines.append(f"- {family}: {said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--families", help="comma-separated; all unless given")
    parser.add_argument("--per-family", type=int, help="at most so many tasks of a family")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    families = set(arguments.families.split(",")) if arguments.families else None
    text = report(*survey(families, arguments.per_family))
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
