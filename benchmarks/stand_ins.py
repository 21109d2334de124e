"""Stand-ins for the datasets of lm-eval's tasks: rows on which a task's own YAML can be read.

Which columns a task reads stands in its templates and in the source of its functions; what they
may hold is searched for. A try is better the more of the YAML can be read on it: settings that give
something fit to be asked, and the line at which a function gave up. One column is changed at a
time, as long as that helps. A stand-in is right when lm-eval's own task class constructs on it and
finds a gold among its choices (`fits`).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import random
import re
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import lm_eval.tasks
from datasets import Dataset, DatasetDict
from jinja2 import nodes
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import apply_template
from stock_rows import TEXTS

ROOT = Path(lm_eval.tasks.__file__).parent
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
READS = ("doc_to_text", "doc_to_choice", "doc_to_target", "process_docs", "process_results")
MOST_TRIES = 400
N_STARTS = 2
ALL_READ = 6  # of `progress`: documents, three settings, choices that are texts, a target

Row = dict[str, Any]

LETTERS = list("ABCD")
# What a column may hold, likeliest first; a name that says so comes first of all.
VALUES: list[Any] = [
    "a thing",
    TEXTS,
    0,
    "A",
    "a",
    "1",
    1,
    {"text": TEXTS, "label": LETTERS},
    str(TEXTS),
    {"choices": TEXTS, "labels": [1, 0, 0, 0]},
    [{"text": text, "label": letter} for text, letter in zip(TEXTS, LETTERS, strict=True)],
    [0],
    "a _ thing",
    dict(zip(LETTERS, TEXTS, strict=True)),
    {"stem": "a thing", "choices": TEXTS},
    True,
    1.0,
    ["a thing"],
    "",
    None,
    {"text": "a thing", "span1_text": "a", "span2_text": "b"},
]
BY_NAME = [
    (r"choices|options|candidates|endings|opciones|alternatives", [TEXTS, VALUES[7], str(TEXTS)]),
    (r"answer|label|gold|target|correct|respuesta|cop|idx", [0, "A", "1", 1, "a", "a thing", [0]]),
]


class Read:
    """What a task's settings read: columns, keys within them, and texts they compare with."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.columns: dict[str, None] = {}
        self.keys: dict[str, None] = {}
        self.constants: dict[str, None] = {}
        for setting in (*READS, "description", "gen_prefix"):
            value = config.get(setting)
            if isinstance(value, str) and "{" in value:
                with contextlib.suppress(jinja2.TemplateError):
                    self._template(jinja2.Environment().parse(value))
            elif isinstance(value, str) and value and setting.startswith("doc_to"):
                self.columns[value] = None
            elif callable(value):
                self._function(value)

    def _template(self, tree: nodes.Template) -> None:
        found = jinja2.meta.find_undeclared_variables(tree)
        self.columns.update(dict.fromkeys(sorted(found)))
        self.keys.update(dict.fromkeys(node.attr for node in tree.find_all(nodes.Getattr)))
        texts = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
        self.keys.update(dict.fromkeys(text for text in texts if text.isidentifier()))
        self.constants.update(dict.fromkeys(texts))

    def _function(self, function: Any) -> None:
        while isinstance(function, functools.partial):
            for value in (*function.args, *function.keywords.values()):
                self.constants.update(dict.fromkeys(map(str, _texts_of(value))))
            function = function.func
        with contextlib.suppress(OSError, TypeError, SyntaxError):
            held = inspect.getclosurevars(function).nonlocals.values()
            self.constants = {**dict.fromkeys(map(str, held)), **self.constants}
            module = inspect.getmodule(function)
            for kind, name in _in_source(inspect.getsource(module or function)):
                (self.constants if kind == "constant" else self.columns)[name] = None


def _texts_of(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | int) else list(value)


@functools.cache
def _in_source(source: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Subscript):
            found += [("column", each) for each in _text(node.slice)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get" and node.args:
            found += [("column", each) for each in _text(node.args[0])]
        elif isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            found += [("constant", each) for side in sides for each in _text(side)]
        elif isinstance(node, ast.Dict):
            found += [("constant", each) for key in node.keys for each in _text(key)]
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            found += [("constant", each) for item in node.elts for each in _text(item)]
    return found


def _text(node: ast.AST | None) -> list[str]:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return [node.value] if is_text else []  # type: ignore[union-attr,list-item]


def candidates(column: str, read: Read) -> list[Any]:
    """List what a column may hold: by its name, by anything, by what the settings read."""
    named = [values for pattern, values in BY_NAME if re.search(pattern, column.lower())]
    first = named[0] if named else []
    inside = [name for name in (*read.keys, *read.columns) if name != column][:40]
    nested: list[Any] = [
        {name: _listed(name) for name in inside},
        {name: _listed(name)[0] for name in inside},
        [{name: _listed(name)[i] for name in inside} for i in range(len(TEXTS))],
    ]
    texts = [text for text in read.constants if text not in ("", "a thing")][:60]
    return [*first, *(v for v in VALUES if v not in first), *(nested if inside else []), *texts]


def _listed(name: str) -> list[str]:
    return LETTERS if re.search(r"key|label|letter", name.lower()) else TEXTS


def dataset(config: dict[str, Any], rows: list[Row]) -> DatasetDict:
    """Make a dataset of the rows, the same in every split that a task may name."""
    splits = {config.get(key) for key in SPLITS} | {"train", "validation", "test"}
    fewshot = config.get("fewshot_config")
    splits.add(fewshot.get("split") if isinstance(fewshot, dict) else None)
    table = Dataset.from_list(rows)
    return DatasetDict({split: table for split in splits if split})


def construct(cls: type, config: dict[str, Any], data: DatasetDict) -> Any:
    """Construct a task of a class on data in place of its own."""

    def download(self: Any, *args: Any, **kwargs: Any) -> None:
        self.dataset = data

    not_for_it = {"tag", "group", "task_list"}
    not_for_it |= {"class", "stock"} if cls is ConfigurableTask else set()
    original = ConfigurableTask.download
    ConfigurableTask.download = download
    try:
        return cls(config={key: value for key, value in config.items() if key not in not_for_it})
    finally:
        ConfigurableTask.download = original


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
    task.process_results(doc, [(-float(k), k == 0) for k in range(len(choices))])
    if isinstance(target, list):
        return bool(target) and all(isinstance(one, int) for one in target)
    return target in choices if isinstance(target, str) else target in range(len(choices))


def rows_of(row: Row, constants: list[str]) -> list[Row]:
    """Rows of one schema; text columns also take each constant, since functions select by them."""
    rows = [dict(row) for _ in range(3)]
    # An empty constant is left out: no task has choices without text, and some trip over them.
    for constant in filter(str.strip, constants[:60]):
        rows.append({k: constant if value == "a thing" else value for k, value in row.items()})
    return rows


def _as_many(value: Any, n: int) -> Any:
    """Return a row whose lists of texts and letters are as long as a task's fixed choices."""
    if isinstance(value, dict):
        return {key: _as_many(inside, n) for key, inside in value.items()}
    if value == TEXTS:
        return TEXTS + [f"text {k}" for k in range(len(TEXTS), n)]
    return [chr(ord("A") + k) for k in range(max(n, 4))] if value == LETTERS else value


def progress(config: dict[str, Any], rows: list[Row], lacking: set[str]) -> tuple[int, list[int]]:
    """How much of a task's settings can be read on rows: how many, and up to which lines.

    Columns that the rows lack are added to `lacking`.
    """
    try:
        docs: Any = Dataset.from_list(rows)
        if config.get("process_docs"):
            docs = config["process_docs"](docs)
        doc = dict(docs[0])
    except Exception as error:
        lacking |= _absent(error, rows)
        return 0, _lines(error)
    done, lines, found = 1, [], {}
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        try:
            found[key] = _value(config.get(key), doc)
            done += found[key] not in (None, "")
        except Exception as error:
            lacking |= _absent(error, rows)
            lines += _lines(error)
    choices, target = found.get("doc_to_choice"), found.get("doc_to_target")
    texts = choices if isinstance(choices, list) else []
    n_good = sum(isinstance(text, str) and text != "" for text in texts)
    done += 1 < len(texts) == n_good
    lines.append(n_good)
    named = isinstance(target, int | list) or str(target).isdigit() or target in texts
    done += named or isinstance(found.get("doc_to_text"), int)  # as in WinoGrande
    return done, lines


def _value(setting: Any, doc: Row) -> Any:
    if callable(setting):
        return setting(doc)
    if not isinstance(setting, str):
        return list(setting.values()) if isinstance(setting, dict) else setting
    if setting in doc:
        return doc[setting]
    text = apply_template(setting, doc)
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text


def _lines(error: Exception) -> list[int]:
    """Lines of the task's own code at which it gave up, the outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno or 0 for frame in frames if frame.filename.startswith(str(ROOT))]


def _absent(error: Exception, rows: list[Row]) -> set[str]:
    names = error.args[:1] if isinstance(error, KeyError) else ()
    return {name for name in names if isinstance(name, str) and name not in rows[0]}


def stand_in(config: dict[str, Any], known: list[Row]) -> DatasetDict | None:
    """Find rows on which lm-eval's own class constructs; rows that are known are tried first.

    Parameters
    ----------
    config : dict
        The stock task's settings, functions resolved.
    known : list of dict
        Rows of the family: `stock_rows.BY_FAMILY`, and those that others of its tasks were
        constructed on. One that is found is added.
    """
    read = Read(config)
    constants = list(read.constants)
    letters = config.get("doc_to_choice")
    n_choices = len(letters) if isinstance(letters, list) else 0
    for row in _tries(config, read, known):
        data = dataset(config, rows_of(_as_many(row, n_choices), constants))
        with contextlib.suppress(Exception):
            if fits(config, data):
                if row in known:
                    known.remove(row)
                known.insert(0, row)
                return data
    return None


def _tries(config: dict[str, Any], read: Read, known: list[Row]) -> Iterator[Row]:
    options = {column: candidates(column, read) for column in read.columns}
    first = {column: values[0] for column, values in options.items()}
    for row in known:
        yield row  # some tasks take every column that they do not name for a choice
        yield {**first, **row}
    rng = random.Random(0)
    for start in range(N_STARTS):
        row = first if start == 0 else {c: rng.choice(v[:8]) for c, v in options.items()}
        yield from _climb(config, row, options, read)


def _climb(
    config: dict[str, Any], row: Row, options: dict[str, list[Any]], read: Read
) -> Iterator[Row]:
    """Change one column at a time as long as more can be read; yield what can be read whole."""
    constants, lacking, tries = list(read.constants), set[str](), 0
    best = progress(config, rows_of(row, constants), lacking)
    yield row
    improved = True
    while improved and tries < MOST_TRIES:
        improved = False
        for column in [*options, *lacking]:
            values = options.setdefault(column, candidates(column, read))
            for value in values:
                tries += 1
                other, before = {**row, column: value}, len(lacking)
                found = progress(config, rows_of(other, constants), lacking)
                if found > best or len(lacking) > before:
                    best, row, improved = found, other, True
                if found >= best and found[0] == ALL_READ:
                    yield other
