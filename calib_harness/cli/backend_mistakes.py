"""What a user of `run` did wrong with a backend: arguments, keys and packages that it lacks."""

from __future__ import annotations

import logging
import re
import traceback
from argparse import Namespace
from collections.abc import Mapping

from calib_harness.errors import UserError

logger = logging.getLogger(__name__)

_COMPLETIONS = "http://127.0.0.1:8000/v1/completions"
_CHAT = "http://127.0.0.1:8000/v1/chat/completions"

# Backend -> what its base_url looks like. lm-eval would fail far from the cause, or not at all.
_BASE_URLS = {
    "local-completions": _COMPLETIONS,
    "local-chat-completions": _CHAT,
    "sglang-generate": "http://127.0.0.1:30000/generate",
    "gguf": "http://127.0.0.1:8080",
    "ggml": "http://127.0.0.1:8080",
}
# Backends that need the name of the model they ask for.
_NAMED_MODELS = (
    "local-completions",
    "local-chat-completions",
    "openai-completions",
    "openai-chat-completions",
    "sglang-generate",
)
# Functions of lm-eval that every failure while a backend is found and made runs through.
_MAKING = {
    ("lm_eval/api/registry.py", "get_model"),
    ("lm_eval/api/model.py", "create_from_arg_obj"),
    ("lm_eval/api/model.py", "create_from_arg_string"),
}


def check_backend(model: object, given: Mapping[str, object]) -> None:
    """Refuse a backend without an argument that it cannot do without.

    Raises
    ------
    UserError
        If the server's address or the model's name is missing.
    """
    wanted = _BASE_URLS.get(str(model))
    if wanted and not given.get("base_url"):
        raise UserError(
            f"--model_args: base_url is missing; backend {model} needs the server's address, as in "
            f"--model_args base_url={wanted}"
        )
    if model in _NAMED_MODELS and not (given.get("model") or given.get("pretrained")):
        raise UserError(
            f"--model_args: model is missing; backend {model} needs the name that the server has "
            "for it, as in --model_args model=NAME"
        )


def explain_backend(error: Exception, arguments: Namespace) -> str | None:
    """Say why a backend could not be made; None if the error came from elsewhere."""
    if not _while_making(error):
        return None
    from calib_harness.harness.backends.refused import why_unmeasurable

    sentence = _why_not_made(error, arguments.model)
    if reason := why_unmeasurable(arguments.model):
        sentence += f". Calibration cannot be measured with it anyway: {reason}"
    return sentence


def _why_not_made(error: Exception, model: str) -> str:
    said = " ".join(str(error).split())
    if missing := re.search(r"missing \d+ required positional arguments?: (.*)", said):
        names = re.findall(r"'(\w+)'", missing[1])
        return (
            f"--model_args: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing; "
            f"backend {model} needs --model_args {','.join(f'{name}=…' for name in names)}"
        )
    if key := re.search(r"API key not found\. Please set the `?(\w+)", said):
        return _no_key(model, key[1])
    if isinstance(error, KeyError) and re.fullmatch(r"'[A-Z_]+'", said):
        return _no_key(model, said.strip("'"))
    if "already registered (existing=" in said:
        return (
            f"--model: this release of lm-eval cannot load its own backend {model}, which it "
            "lists under another class than it defines; use another backend "
            "(docs/how-to/backends.md)"
        )
    if isinstance(error, ImportError):
        return (
            f"--model: backend {model} needs a package that is not installed ({said[:300]}); "
            "install it, or use another backend"
        )
    logger.debug("Backend %s could not be started", model, exc_info=error)
    return (
        f"--model: backend {model} could not be started with these --model_args "
        f"({type(error).__name__}: {said[:300] or 'it says nothing more'}); mend them, or see "
        "where it failed with LMEVAL_LOG_LEVEL=DEBUG"
    )


def _no_key(model: object, variable: str) -> str:
    return (
        f"--model: backend {model} needs a key, but {variable} is not set in the environment; set "
        f"it, as in `export {variable}=KEY`"
    )


def _while_making(error: Exception) -> bool:
    """Say whether an error was raised while lm-eval found or made the backend."""
    return any(
        frame.name == function and frame.filename.replace("\\", "/").endswith(file)
        for frame in traceback.extract_tb(error.__traceback__)
        for file, function in _MAKING
    )
