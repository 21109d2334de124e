"""Calibration tasks of lm-eval's own tasks: YAMLs of a few lines, for names as it takes them.

A derived task is called as the stock one and ``_calib``; with another prompt than the stock one's,
``_calib_cloze`` or ``_calib_choice``. It says ``stock: NAME`` in place of the stock YAML's path, so
that the folder works on any machine and with the next lm-eval.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from calib_harness.derived_names import POOLED, PROMPTS, SUFFIX, WORDED, Prompt, stem_of
from calib_harness.errors import UserError
from calib_harness.harness.stock import stock_paths
from calib_harness.text import did_you_mean

_CLASS = "class: !function calib_harness.CalibrationTask\n"
#: Settings that a variant of the prompt may replace.
_OF_A_PROMPT = ("doc_to_text", "description", "target_delimiter", "fewshot_delimiter")
_POOLED_CLASS = "class: !function calib_harness.PooledTask\n"


@dataclass
class Derived:
    """What came of a call of `derive`.

    Attributes
    ----------
    written : dict of str to Path
        Task or group -> its file.
    tasks : dict of str to list of str
        Stock task -> the calibration tasks made of it.
    refused : dict of str to str
        Stock task or group -> why it cannot become one.
    """

    written: dict[str, Path] = field(default_factory=dict)
    tasks: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def derive(
    names: Sequence[str],
    folder: Path,
    *,
    prompt: Prompt = "stock",
    pool: bool = False,
    metadata: Mapping[str, Any] | None = None,
    index: Mapping[str, Entry] | None = None,
) -> Derived:
    """Write the YAMLs of calibration tasks for stock tasks, groups, tags and patterns.

    Parameters
    ----------
    names : sequence of str
        As lm-eval's ``--tasks`` takes them.
    folder : Path
        Where to write; made if it is not there.
    prompt : {"stock", "cloze", "choice", "both"}
        The stock prompt as it is, the other form where question and choices can be read from it,
        or a group of both.
    pool : bool
        Whether a group or tag also becomes one task over its members' questions.
    metadata : mapping, optional
        Written into every YAML: `n_bins`, `orders` and the like. ``prompts`` is not: it is a list
        of variants, see `check_prompts`, of which each becomes a task, NAME_calib_prompt_VARIANT.
    index : mapping of str to Entry, optional
        lm-eval's index of its tasks; made if not given, which takes seconds.

    Raises
    ------
    UserError
        If no task, group or tag fits a name, `prompts` are no variants of a stock prompt, or a file
        to write is there and says something else. Nothing is written then.
    """
    if prompt not in PROMPTS:
        raise UserError(f"prompt must be one of {', '.join(PROMPTS)}; got {prompt!r}")
    given = dict(metadata or {})
    variants = check_prompts(given.pop("prompts")) if "prompts" in given else {}
    if variants and (prompt != "stock" or pool):
        raise UserError("prompts are variants of the stock prompt: leave out --prompt and --pool")
    index = TaskManager().task_index if index is None else index
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(index, folder, prompt, pool, given, variants)
    for name in _matching(names, index):
        writer.make(name)
    writer.save()
    return writer.done


def check_prompts(prompts: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each variant by its name.

    Parameters
    ----------
    prompts : list of mappings
        Each has a ``name`` and one or more of `_OF_A_PROMPT`, as lm-eval's YAMLs have them, which
        take the place of the stock task's.

    Raises
    ------
    UserError
        If one is something else, or a name stands twice.
    """
    expected = f"a list of entries with a name and one of {', '.join(_OF_A_PROMPT)}"
    variants: dict[str, dict[str, Any]] = {}
    for entry in prompts if isinstance(prompts, list) else [prompts]:
        keys = dict(entry) if isinstance(entry, Mapping) else {}
        name = str(keys.pop("name", ""))
        if not re.fullmatch(r"\w+", name) or not keys or keys.keys() - set(_OF_A_PROMPT):
            raise UserError(f"prompts holds {entry!r}; expected {expected}")
        if name in variants:
            raise UserError(f"prompts holds two variants called {name!r}; rename one")
        variants[name] = keys
    if not variants:
        raise UserError(f"prompts is empty; expected {expected}")
    return variants


def why_not(entry: Entry) -> str | None:
    """Say why a stock task cannot become a calibration task, as far as its YAML tells, or None."""
    config = entry.cfg or {}
    if entry.kind is Kind.PY_TASK or "class" in config:
        return "it is built in Python; its YAML does not say what it asks"
    output = config.get("output_type", "generate_until")
    if output == "generate_until" and config.get("doc_to_choice") is not None:
        return (
            "its answers are generated, though it has choices: nothing is scored by choice; a "
            "YAML with output_type: multiple_choice would be another task"
        )
    if output != "multiple_choice":
        return f"its output_type is {output}, not multiple_choice"
    if config.get("doc_to_choice") is None:
        return "it names no choices (doc_to_choice)"
    metrics = [str(entry.get("metric")) for entry in config.get("metric_list") or ()]
    if config.get("process_results") and "acc" not in metrics:
        return (
            f"it counts results of its own ({', '.join(metrics[:3])}) and no acc, so that nothing "
            "says which choice is right"
        )
    return None


def derive_missing(wanted: Iterable[str], folders: Iterable[str | Path], folder: Path) -> bool:
    """Write the derived tasks that are asked for by name and that no folder of tasks holds.

    Parameters
    ----------
    wanted : iterable of str
        Names as a user gives them; those that are not of a derived task are passed over. A pattern
        (``arc_*_calib``) stands for all single tasks of lm-eval's that can become one.
    folders : iterable of str or Path
        The folders of tasks that the run sees beside lm-eval's own.
    folder : Path
        Where to write.

    Returns
    -------
    bool
        Whether any was written.

    Raises
    ------
    UserError
        If a stock task is there, but cannot become a calibration task.
    """
    derived = {name: parts for name in wanted if (parts := stem_of(name)) is not None}
    held = TaskIndex.build([Path(place) for place in folders]) if derived else {}
    stems = {name: parts for name, parts in derived.items() if name not in held}
    if not stems:
        return False
    index = entries_of({stem[0] for stem in stems.values()})
    for name, (stem, prompt, pool) in stems.items():
        if "*" in stem or "?" in stem:
            matching = fnmatch.filter(index, stem)
            made = [one for one in matching if f"{one}{name.removeprefix(stem)}" not in held]
            fit = [one for one in made if index[one].kind is Kind.TASK and not why_not(index[one])]
            derive(fit, folder, prompt=prompt, index=index)
            continue
        if stem not in index:
            continue  # lm-eval says that there is no such task
        done = derive([stem], folder, prompt=prompt, pool=pool, index=index)
        if name not in done.written:
            reason = done.refused.get(stem, "only a group or a tag can be pooled")
            raise UserError(f"{stem} cannot become the calibration task {name}: {reason}")
    return any(folder.iterdir())


def entries_of(names: Collection[str]) -> Mapping[str, Entry]:
    """Index lm-eval's tasks: only those named if all are single tasks, which saves seconds."""
    paths = stock_paths()
    if any(name not in paths for name in names):
        return TaskManager().task_index
    index: dict[str, Entry] = {}
    for name in names:
        TaskIndex.process_cfg(load_yaml(paths[name], resolve_func=False), paths[name], index)
    return index


def _matching(names: Iterable[str], index: Mapping[str, Entry]) -> list[str]:
    from lm_eval.utils import pattern_match

    found: dict[str, None] = {}
    for name in names:
        matches = pattern_match([name], list(index))
        if not matches:
            hint = did_you_mean(name, index)
            message = f"no task, group or tag of lm-eval's is called {name!r}; {hint}"
            raise UserError(message.rstrip("; "))
        found.update(dict.fromkeys(matches))
    return list(found)


class _Writer:
    def __init__(
        self,
        index: Mapping[str, Entry],
        folder: Path,
        prompt: Prompt,
        pool: bool,
        metadata: dict[str, Any],
        variants: dict[str, dict[str, Any]],
    ) -> None:
        self.index, self.folder, self.prompt, self.pool = index, folder, prompt, pool
        self.metadata, self.variants = metadata, variants
        self.done = Derived()
        self._made: dict[str, str | None] = {}
        self._texts: dict[Path, str] = {}

    def save(self) -> None:
        """Write the files, or none: what a user has edited is not lost."""
        for path, text in self._texts.items():
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{path} is there, and not as derive would write it (edited, or made with "
                    "other options); nothing was written: remove it, or give another folder (-o)"
                )
        for path, text in self._texts.items():
            path.write_text(text, encoding="utf-8")

    def make(self, name: str) -> str | None:
        """Write what a name stands for; return the derived task's or group's name."""
        if name not in self._made:
            self._made[name] = None  # a group that holds itself ends here
            entry = self.index[name]
            if entry.kind is Kind.GROUP:
                self._made[name] = self._group(name, (entry.cfg or {}).get("task"))
            elif entry.kind is Kind.TAG:
                self._made[name] = self._group(name, sorted(entry.tags))
            else:
                self._made[name] = self._task(name, entry)
        return self._made[name]

    def _task(self, name: str, entry: Entry) -> str | None:
        reason = why_not(entry)
        if reason is not None:
            self.done.refused[name] = reason
            return None
        made = self._variants(name)
        self.done.tasks[name] = made
        if len(made) == 1:
            return made[0]
        self._write_group(f"{name}{SUFFIX}", made)
        return f"{name}{SUFFIX}"

    def _variants(self, name: str) -> list[str]:
        """Write a task in every form and wording that is wanted; return their names."""
        if self.variants:
            for variant, keys in self.variants.items():
                self._write(f"{name}{WORDED}{variant}", _CLASS, {"stock": name, **keys}, {})
            return [f"{name}{WORDED}{variant}" for variant in self.variants]
        forms = [form for form in ("cloze", "choice") if self.prompt in (form, "both")]
        if not forms:
            self._write(f"{name}{SUFFIX}", _CLASS, {"stock": name}, {})
            return [f"{name}{SUFFIX}"]
        for form in forms:
            self._write(f"{name}{SUFFIX}_{form}", _CLASS, {"stock": name}, {"prompt": form})
        return [f"{name}{SUFFIX}_{form}" for form in forms]

    def _group(self, name: str, members: Any) -> str | None:
        made = [member for item in _as_list(members) if (member := self._member(name, item))]
        if not made:
            self.done.refused[name] = "none of its members can become a calibration task"
            return None
        if self.pool:
            self._pooled(name)
        suffix = SUFFIX if self.prompt in ("stock", "both") else f"{SUFFIX}_{self.prompt}"
        self._write_group(f"{name}{suffix}", made)
        return f"{name}{suffix}"

    def _member(self, group: str, item: Any) -> str | dict[str, Any] | None:
        """Write one member of a group; return how the derived group names it."""
        if isinstance(item, str):
            if item in self.index:
                return self.make(item)
            self._refuse_unknown(group, item)
            return None
        if "group" in item:  # one that is described where it stands
            name = item["group"]
            return self.make(name) if name in self.index else self._group(name, item.get("task"))
        name = str(item.get("task"))
        if name not in self.index:
            self._refuse_unknown(group, name)
            return None
        made = self.make(name)
        own = {
            key: value
            for key, value in item.items()
            if key not in ("task", "task_alias", "metric_list")
        }
        return {"task": made, **own} if made and own else made

    def _refuse_unknown(self, group: str, name: str) -> None:
        self.done.refused[f"{group}::{name}"] = "it is described within its group, not by a YAML"

    def _pooled(self, name: str) -> None:
        members = _leaves(name, self.index)
        kept = [member for member in members if member in self.done.tasks]
        metadata = {} if self.prompt in ("stock", "both") else {"prompt": self.prompt}
        self._write(f"{name}{POOLED}", _POOLED_CLASS, {"stock": kept}, metadata)

    def _write_group(self, name: str, members: Sequence[Any]) -> None:
        self._keep(name, yaml.safe_dump({"group": name, "task": list(members)}, sort_keys=False))

    def _write(self, name: str, cls: str, keys: dict[str, Any], metadata: dict[str, Any]) -> None:
        merged = {**self.metadata, **metadata}
        text = f"task: {name}\n{cls}{yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)}"
        self._keep(name, text + (yaml.safe_dump({"metadata": merged}) if merged else ""))

    def _keep(self, name: str, text: str) -> None:
        path = self.folder / f"{name.replace('/', '_')}.yaml"
        self._texts[path] = text
        self.done.written[name] = path


def _as_list(members: Any) -> list[Any]:
    return list(members) if isinstance(members, list | tuple) else [members] if members else []


def _leaves(name: str, index: Mapping[str, Entry]) -> list[str]:
    """List the tasks that a task, group or tag stands for, each once."""
    entry = index.get(name)
    if entry is None:
        return []
    if entry.kind is Kind.TAG:
        members: list[Any] = sorted(entry.tags)
    elif entry.kind is Kind.GROUP:
        members = _as_list((entry.cfg or {}).get("task"))
    else:
        return [name]
    return list(dict.fromkeys(leaf for item in members for leaf in _leaves_of(item, index)))


def _leaves_of(item: Any, index: Mapping[str, Entry]) -> list[str]:
    if isinstance(item, str):
        return _leaves(item, index)
    if "group" in item and item["group"] not in index:
        return [leaf for member in _as_list(item.get("task")) for leaf in _leaves_of(member, index)]
    return _leaves(str(item.get("group", item.get("task"))), index)
