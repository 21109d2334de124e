"""From a spec to its runs: settings resolved, identity hashed, arguments written out.

A run is one setting of one model with all its tasks. Its identity is a hash of everything that
can change its numbers:

- backend and all its arguments (revision, dtype, quantisation, ...), tasks, shots, limit, seeds,
  batch size, kind of device, chat template, system instruction, metadata, trust_remote_code;
- the contents of a local model's files, of task files under `include_path` or named by their path,
  and of their data;
- the version of lm-eval, which owns prompts and tasks, and calib-harness' major and minor version
  (a patch release never changes a score).

The versions of torch and transformers are recorded and compared, but are no part of it: a sweep
that takes weeks must survive an update that is not meant to change a number. Labels (family,
stage), resources, limits of time, environment variables and the working directory are no part of
it either.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import calib_harness
from calib_harness.errors import UserError
from calib_harness.sweep.planning.arguments import command_line, resolve
from calib_harness.sweep.planning.fingerprint import fingerprint_files, fingerprint_tasks
from calib_harness.sweep.planning.reading import load_spec
from calib_harness.sweep.planning.schema import (
    Environment,
    Execution,
    ModelEntry,
    Resources,
    Settings,
    Spec,
    Steps,
)
from calib_harness.sweep.planning.secrets import secret_place
from calib_harness.sweep.planning.tasknames import check_tasks
from calib_harness.sweep.storing.layout import scratch_folder

# Arguments that name a model or an adapter, on the Hub or in a folder.
_NAMES = ("pretrained", "model", "tokenizer", "peft", "delta")
_IS_PATH = re.compile(r"^(\.{1,2}(/|$)|~|/)")


@dataclass(frozen=True)
class Run:
    """One process to carry out. Picklable: executors send it to other machines."""

    name: str
    identity: str
    model: str
    family: str | None
    stage: str | None
    revision: str | None
    step: int | None
    chat: bool | str
    num_fewshot: int | None
    tasks: tuple[str, ...]
    arguments: tuple[str, ...]
    settings: dict[str, Any] = field(hash=False)
    resources: Resources = field(hash=False)
    time_limit: float | None
    trust_remote_code: bool
    device: str | None
    server: str | None = None


@dataclass(frozen=True)
class Plan:
    """A spec's runs, in the order in which they are started, and how they are carried out.

    `work` is the local folder for unfinished runs and locks: the output folder, unless the spec
    names a scratch folder; where the output is a URL, a folder of its own in the user's cache.
    """

    path: Path
    output: str
    work: Path
    include_path: Path | None
    working_dir: Path
    runs: tuple[Run, ...]
    execution: Execution
    environment: Environment
    notes: tuple[str, ...]


def make_plan(path: str | Path, *, output: str | None = None) -> Plan:
    """Read a spec and work out its runs; nothing is started or written.

    Parameters
    ----------
    path : str or Path
        The spec file. Relative paths in it (`output`, `include_path`, `working_dir`, task files,
        and models' ids and arguments that begin with ``./`` or ``../``) start at its folder.
    output : str, optional
        A folder or URL to use in place of the spec's `output`.

    Raises
    ------
    UserError
        If the spec is wrong, names an unknown task, or describes one run twice.
    """
    path = Path(path)
    spec = load_spec(path)
    if output is not None and secret_place(output) is not None:
        raise UserError(
            "--output: expected no password in a URL, which would be written into files; give it "
            "in the way that fsspec's documentation of this file system describes"
        )
    base = path.resolve().parent
    include_path = _folder(spec.include_path, base, f"{path}: include_path")
    working_dir = _folder(spec.working_dir, base, f"{path}: working_dir") or Path.cwd()
    check_tasks(_wanted_tasks(spec, base), include_path, path)
    try:
        runs = tuple(_runs(spec, _Places(base, include_path, working_dir)))
    except OSError as error:
        raise UserError(
            f"{path}: expected local models and tasks that can be read, got "
            f"{error.filename!r} ({error.strerror})"
        ) from None
    _refuse_duplicates(runs, path)
    notes = [note for run in runs for note in _notes(run, base, working_dir)]
    where = (output, Path.cwd()) if output else (spec.output, base)
    resolved = _resolved_output(*where)
    return Plan(
        path=path,
        output=resolved,
        work=_work_folder(spec.execution.scratch, resolved),
        include_path=include_path,
        working_dir=working_dir,
        runs=runs,
        execution=spec.execution,
        environment=spec.environment,
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True)
class _Places:
    """Where the names in a spec lead to."""

    base: Path
    include_path: Path | None
    working_dir: Path

    def local(self, key: str, value: Any) -> Path | None:
        """Return the file or folder that a model's argument stands for, if it is one here."""
        if not isinstance(value, str):
            return None
        if not _IS_PATH.match(value) and key not in _NAMES:
            return None
        path = Path(_resolved(value, self.base))
        if not path.is_absolute():  # a folder named like a model of the Hub is loaded in its place
            path = self.working_dir / path
        return path if path.exists() else None


def _notes(run: Run, base: Path, working_dir: Path) -> Iterator[str]:
    if _IS_PATH.match(run.model):
        if not Path(_resolved(run.model, base)).exists():
            yield (
                f"model {run.model}: no such folder here; its run will fail unless it is there by "
                "then"
            )
    elif (working_dir / run.model).exists():
        yield f"model {run.model}: a folder of this name in {working_dir} takes the Hub's place"


def _folder(value: str | None, base: Path, what: str) -> Path | None:
    if value is None:
        return None
    folder = (base / Path(value).expanduser()).resolve()
    if not folder.is_dir():
        raise UserError(f"{what}: expected a folder that exists, got {str(folder)!r}")
    return folder


def _work_folder(scratch: str | None, output: str) -> Path:
    if scratch:
        return Path(scratch).expanduser().absolute()
    return scratch_folder(output) if "://" in output else Path(output)


def _resolved_output(value: str, base: Path) -> str:
    return value if "://" in value else str((base / Path(value).expanduser()).resolve())


def _resolved(value: Any, base: Path) -> Any:
    """Return a path of the spec as an absolute one; anything that is no path as it is."""
    if isinstance(value, str) and _IS_PATH.match(value):
        return str((base / Path(value).expanduser()).resolve())
    return value


def _task_name(name: str, base: Path) -> str:
    is_file = name.endswith((".yaml", ".yml"))
    return str((base / Path(name).expanduser()).resolve()) if is_file else name


def _wanted_tasks(spec: Spec, base: Path) -> Iterator[tuple[str, str]]:
    for place, name in enumerate(spec.tasks):
        yield f"tasks[{place}]", _task_name(name, base)
    for number, model in enumerate(spec.models):
        for place, name in enumerate(model.tasks or []):
            yield f"models[{number}].tasks[{place}]", _task_name(name, base)


def _versions_that_count() -> dict[str, str]:
    ours = ".".join(calib_harness.__version__.split(".")[:2])
    return {"lm_eval": importlib.metadata.version("lm_eval"), "calib_harness": ours}


def _runs(spec: Spec, places: _Places) -> Iterator[Run]:
    include_path, working_dir = places.include_path, places.working_dir
    fixed = {
        "versions": _versions_that_count(),
        "task_files": fingerprint_tasks(include_path, working_dir) if include_path else None,
    }
    named = {
        name: fingerprint_tasks(Path(name), working_dir)
        for _, name in _wanted_tasks(spec, places.base)
        if Path(name).is_absolute()
    }
    for model in spec.models:
        settings = _merged(spec.defaults, model)
        names = model.tasks or spec.tasks
        tasks = tuple(dict.fromkeys(_task_name(name, places.base) for name in names))
        files = {"named_task_files": {name: named[name] for name in tasks if name in named}}
        for (revision, step), shots, chat in itertools.product(
            _revisions(model), settings["num_fewshot"], settings["apply_chat_template"]
        ):
            chosen = settings | {"num_fewshot": shots, "apply_chat_template": chat}
            yield _run(model, revision, step, tasks, chosen, places, fixed | files)


def _revisions(model: ModelEntry) -> list[tuple[str | None, int | None]]:
    if model.steps is not None:
        steps = model.steps
        if isinstance(steps, Steps):
            steps = list(range(steps.start, steps.stop + 1, steps.by))
        return [(model.revision_format.replace("{step}", str(step)), step) for step in steps]
    if model.revisions is not None:
        return [(revision, None) for revision in model.revisions]
    return [(None, None)]


def _merged(defaults: Settings, model: ModelEntry) -> dict[str, Any]:
    """Return a model's settings over the defaults; mappings are merged key by key."""
    merged: dict[str, Any] = {}
    for name in Settings.model_fields:
        ours, theirs = getattr(model, name), getattr(defaults, name)
        if isinstance(ours, dict):
            merged[name] = theirs | ours
        elif isinstance(ours, Resources):
            said = ours.model_dump(exclude_none=True)
            merged[name] = Resources(**(theirs.model_dump(exclude_none=True) | said))
        else:
            merged[name] = theirs if ours is None else ours
    merged["num_fewshot"] = merged["num_fewshot"] or [None]
    merged["apply_chat_template"] = merged["apply_chat_template"] or [False]
    return merged


def _run(
    model: ModelEntry,
    revision: str | None,
    step: int | None,
    tasks: tuple[str, ...],
    settings: dict[str, Any],
    places: _Places,
    fixed: dict[str, Any],
) -> Run:
    resolved = resolve(model, revision, tasks, settings)
    arguments = resolved["model_args"].items()
    identity = fixed | resolved
    identity["tasks"] = sorted(resolved["tasks"])
    identity["model_files"] = {
        value: fingerprint_files(str(path))
        for key, value in arguments
        if (path := places.local(key, value)) is not None
    }
    digest = _digest(identity)
    absolute = {key: _resolved(value, places.base) for key, value in arguments}
    launched = resolved | {"model_args": absolute}
    return Run(
        name=f"{_slug(model.id, revision, settings)}-{digest[:12]}",
        identity=digest,
        model=model.id,
        family=model.family,
        stage=model.stage,
        revision=revision,
        step=step,
        chat=settings["apply_chat_template"],
        num_fewshot=settings["num_fewshot"],
        tasks=tasks,
        arguments=command_line(launched, settings["device"], places.include_path),
        settings=identity,
        resources=settings["resources"],
        time_limit=settings["time_limit"],
        trust_remote_code=bool(settings["trust_remote_code"]),
        device=settings["device"],
        server=settings["server"],
    )


def _digest(identity: dict[str, Any]) -> str:
    canonical = json.dumps(identity, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _slug(model: str, revision: str | None, settings: dict[str, Any]) -> str:
    """Return a folder name for people; the hash behind it is what tells runs apart."""
    words = [model.rstrip("/").rsplit("/", 1)[-1]]
    # A folder called step-20 need not be called step-20-step20.
    if revision is not None and not _ends_with(words[0], revision):
        words.append(revision)
    if settings["num_fewshot"] is not None:
        words.append(f"{settings['num_fewshot']}shot")
    if settings["apply_chat_template"] is not False:
        words.append("chat")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words)).lstrip(".")[:80]


def _ends_with(name: str, end: str) -> bool:
    """Return whether a name ends with the words and numbers of another, at least two of them."""
    words, last = (re.findall("[a-z]+|[0-9]+", text.lower()) for text in (name, end))
    return len(last) > 1 and words[-len(last) :] == last


def _refuse_duplicates(runs: tuple[Run, ...], path: Path) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        if run.identity in seen:
            raise UserError(
                f"{path}: models: expected every run once, got {run.model!r} twice with the same "
                "settings; remove one of the two"
            )
        seen[run.identity] = run
