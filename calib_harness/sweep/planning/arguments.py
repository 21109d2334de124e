"""What lm-eval is told of a run: its settings with defaults filled in, and as arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from calib_harness.sweep.planning.schema import SERVER_ADDRESS, ModelEntry

_DEFAULT_SEED = (0, 1234, 1234, 1234)
# Backends of lm-eval that take a name under `model`; all others take `pretrained`.
_NAMED_MODEL = re.compile(r"(completions|chat|anthropic|openai|watsonx|textsynth|gguf|ggml)")
# Where these backends ask a server that the run itself starts.
_ASKED_AT = {
    "local-completions": "/v1/completions",
    "local-chat-completions": "/v1/chat/completions",
    "gguf": "",
    "ggml": "",
    "sglang-generate": "/generate",
}


def resolve(
    model: ModelEntry, revision: str | None, tasks: tuple[str, ...], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return everything said about a run that can change its numbers, with defaults filled in."""
    backend = settings["backend"] or "hf"
    model_args = {"model" if _NAMED_MODEL.search(backend) else "pretrained": model.id}
    if revision is not None:
        model_args["revision"] = revision
    if settings["dtype"] is not None:
        model_args["dtype"] = settings["dtype"]
    served = {} if settings["server"] is None else {"server": settings["server"]}
    if served and (where := _ASKED_AT.get(backend)):
        model_args["base_url"] = SERVER_ADDRESS + where
    seed = settings["seed"]
    seeds = list(_DEFAULT_SEED) if seed is None else [seed] * 4 if isinstance(seed, int) else seed
    limit = settings["limit"]
    return {
        "backend": backend,
        "model_args": model_args | settings["model_args"],
        "tasks": list(tasks),
        "num_fewshot": settings["num_fewshot"],
        "apply_chat_template": settings["apply_chat_template"],
        "fewshot_as_multiturn": settings["fewshot_as_multiturn"],
        "system_instruction": settings["system_instruction"],
        "batch_size": 1 if settings["batch_size"] is None else settings["batch_size"],
        "max_batch_size": settings["max_batch_size"],
        "limit": int(limit) if limit is not None and limit == int(limit) else limit,
        "seed": seeds,
        # cuda:0 and cuda:1 give the same numbers; cpu and cuda may not.
        "device": settings["device"].split(":")[0] if settings["device"] else None,
        "metadata": settings["metadata"],
        "trust_remote_code": bool(settings["trust_remote_code"]),
        **served,
    }


def command_line(
    resolved: dict[str, Any], device: str | None, include_path: Path | None
) -> tuple[str, ...]:
    """Return `lm_eval run`'s arguments, without those that say where to write."""
    chat, multiturn = resolved["apply_chat_template"], resolved["fewshot_as_multiturn"]
    options: dict[str, Any] = {
        "--model": resolved["backend"],
        "--model_args": json.dumps(resolved["model_args"], ensure_ascii=False),
        "--tasks": ",".join(resolved["tasks"]),
        "--num_fewshot": resolved["num_fewshot"],
        "--batch_size": resolved["batch_size"],
        "--max_batch_size": resolved["max_batch_size"],
        "--limit": resolved["limit"],
        "--seed": ",".join(str(seed) for seed in resolved["seed"]),
        "--device": device,
        "--system_instruction": resolved["system_instruction"],
        "--metadata": json.dumps(resolved["metadata"]) if resolved["metadata"] else None,
        "--include_path": include_path,
        "--apply_chat_template": chat if isinstance(chat, str) else None,
        "--fewshot_as_multiturn": None if multiturn is None else str(multiturn).lower(),
    }
    # One word each, so that a value that begins with a dash is never taken for an option.
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    if chat is True:
        words.append("--apply_chat_template")
    if resolved["trust_remote_code"]:
        words.append("--trust_remote_code")
    return tuple(words)
