"""What lm-eval's results file says about a run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import msgspec

# The order matters: an adapter is given together with the model it sits on.
_MODEL_KEYS = ("peft", "delta", "pretrained", "model", "path", "engine")
# What lm-eval calls transformers; a run on it needs no naming.
_TRANSFORMERS = frozenset(
    ["hf", "hf-auto", "huggingface", "hf-causal", "hf-causal-experimental", "HFLM"]
)
# Arguments that change where and how a model runs, not what it computes.
_PLACEMENT_KEYS = frozenset(
    [
        *_MODEL_KEYS,
        *("revision", "device", "device_map", "parallelize", "batch_size", "max_batch_size"),
        *("trust_remote_code", "max_memory_per_gpu", "max_cpu_memory", "offload_folder"),
        *("token", "cache_dir", "tensor_parallel_size", "data_parallel_size"),
        *("gpu_memory_utilization", "num_concurrent", "base_url", "use_fast_tokenizer"),
        *("enforce_eager", "distributed_executor_backend", "enable_prefix_caching"),
        *("tokenizer_backend", "tokenized_requests", "timeout", "max_retries"),
    ]
)

_PROMPT_KEYS = (
    *("description", "doc_to_text", "doc_to_choice", "doc_to_target", "target_delimiter"),
    *("fewshot_delimiter", "gen_prefix"),
)


@dataclass(frozen=True)
class ResultsInfo:
    """A run as its results file describes it; None or empty where it does not say.

    ``metrics`` holds the file's own numbers, task by task, under lm-eval's ``metric,filter``;
    ``prompts`` the templates of each task's YAML; ``packages`` the versions of what computed;
    ``groups`` the tasks and groups below each group.
    """

    model: str | None = None
    revision: str | None = None
    chat_template: bool | None = None
    lm_eval_version: str | None = None
    date: str = ""
    settings: str = ""
    n_shot: dict[str, int] = field(default_factory=dict)
    delimiters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    task_versions: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, dict[str, str]] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks and groups that the file names, longest name first."""
        names = {*self.metrics, *self.n_shot, *self.delimiters}
        return tuple(sorted(names, key=lambda name: (-len(name), name)))


def parse_results(data: bytes) -> ResultsInfo:
    """Read a results file.

    Raises
    ------
    ValueError
        If it is not JSON or not a results file of lm-eval.
    """
    try:
        raw = msgspec.json.decode(data)
    except msgspec.DecodeError:  # NaN is no JSON for msgspec, but lm-eval writes it
        raw = json.loads(data)
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), dict):
        raise ValueError("it has no 'results', so it is no results file of lm-eval")
    config = _mapping(raw.get("config"))
    args = _model_args(config.get("model_args"))
    chat_template = raw.get("chat_template", False if "chat_template_sha" in raw else None)
    if chat_template is None and "chat_template" in raw:
        chat_template = False
    applied = None if chat_template is None else bool(chat_template)
    revision = args.get("revision") or config.get("model_revision")
    return ResultsInfo(
        model=_model_name(raw, config, args),
        revision=str(revision) if revision else None,
        chat_template=applied,
        lm_eval_version=raw.get("lm_eval_version"),
        date=_iso_date(raw.get("date")),
        settings=_settings(raw, args),
        n_shot=_shots(raw),
        delimiters=_delimiters(raw, bool(applied)),
        metrics={k: v for k, v in raw["results"].items() if isinstance(v, dict)},
        task_versions={str(k): str(v) for k, v in _mapping(raw.get("versions")).items()},
        prompts=_prompts(raw),
        packages=_packages(raw),
        groups=_groups(raw),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _model_args(value: Any) -> dict[str, str]:
    """Model arguments, logged as a mapping or as ``key=value,key=value``."""
    if isinstance(value, dict):
        return {str(key): str(argument) for key, argument in value.items()}
    if isinstance(value, str):
        parts = (part.partition("=") for part in value.split(",") if "=" in part)
        return {key.strip(): argument.strip() for key, _, argument in parts}
    return {}


def _model_name(raw: dict[str, Any], config: dict[str, Any], args: dict[str, str]) -> str | None:
    name = raw.get("model_name") or config.get("model_name")
    if not name:
        name = next((args[key] for key in _MODEL_KEYS if key in args), None)
    return str(name) if name else None


def _settings(raw: dict[str, Any], args: dict[str, str]) -> str:
    backend = str(_mapping(raw.get("config")).get("model") or "hf")
    if backend not in _TRANSFORMERS:
        args = args | {"backend": backend}
    parts = [f"{key}={args[key]}" for key in sorted(args) if key not in _PLACEMENT_KEYS]
    for key in ("system_instruction_sha", "fewshot_as_multiturn"):
        if raw.get(key):
            parts.append(f"{key}={raw[key]}")
    return ", ".join(parts)


def _shots(raw: dict[str, Any]) -> dict[str, int]:
    shots = {
        task: config["num_fewshot"]
        for task, config in _mapping(raw.get("configs")).items()
        if isinstance(config, dict) and config.get("num_fewshot") is not None
    }
    shots.update(_mapping(raw.get("n-shot")))
    return {task: int(n) for task, n in shots.items() if isinstance(n, (int, float))}


def _delimiters(raw: dict[str, Any], chat_template: bool) -> dict[str, str]:
    """Return what lm-eval put before each choice: nothing after a chat template."""
    delimiters = {}
    for task, config in _mapping(raw.get("configs")).items():
        delimiter = config.get("target_delimiter") if isinstance(config, dict) else None
        if isinstance(delimiter, str):
            prefix = config.get("gen_prefix")
            kept = not chat_template or (prefix and not str(prefix)[-1:].isspace())
            delimiters[task] = delimiter if kept else ""
    return delimiters


def _prompts(raw: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Templates that a task's prompts are made from, as its YAML gives them."""
    return {
        task: {key: str(config[key]) for key in _PROMPT_KEYS if config.get(key) not in (None, "")}
        for task, config in _mapping(raw.get("configs")).items()
        if isinstance(config, dict)
    }


def _packages(raw: dict[str, Any]) -> dict[str, str]:
    """Versions of packages that the file names, by package."""
    named = {name: raw.get(f"{name}_version") for name in ("transformers", "vllm")}
    torch = re.search(r"PyTorch version: (\S+)", str(raw.get("pretty_env_info")))
    named["torch"] = torch[1] if torch else None
    return {name: str(version) for name, version in named.items() if version}


def _groups(raw: dict[str, Any]) -> dict[str, list[str]]:
    """Members of each group; a task that stands alone has none."""
    return {
        str(name): [str(member) for member in members]
        for name, members in _mapping(raw.get("group_subtasks")).items()
        if isinstance(members, list) and members
    }


def _iso_date(value: Any) -> str:
    """ISO 8601 of a date logged as seconds since 1970."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return ""
    moment = datetime.fromtimestamp(value, tz=timezone.utc)
    return moment.replace(tzinfo=None).isoformat()
