"""Which names hold secrets, and how their values are kept out of every file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# `tokenizer`, `pad_token` and `max_tokens` are no secrets; HF_TOKEN and `token` are.
_SECRET = re.compile(
    r"(passwd|password|(^|_)(api_?key|access_?key|auth_?token|use_auth_token|credentials?|key|"
    r"secret|token))(_id)?$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"^(pad|bos|eos|unk|sep|cls|mask|think_end|end|start|prefix)_token(_id)?$")

# Values that are secret whatever they are called: tokens of the Hub, of GitHub, keys of AWS and
# OpenAI, a password in a URL.
_SECRET_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\b(gh[pousr]|github_pat)_\w{20,}|"
    r"\bsk-[\w-]{20,}|://[^/\s:@]+:[^/\s@]+@"
)

# A shorter value would also match by chance in ordinary text.
_SHORTEST = 8


def looks_secret(name: str) -> bool:
    """Return whether a variable or an argument of this name is taken to hold a secret.

    >>> [looks_secret(name) for name in ("HF_TOKEN", "api_key", "tokenizer", "pad_token")]
    [True, True, False, False]
    """
    return bool(_SECRET.search(name)) and not _HARMLESS.search(name.lower())


def secret_key(value: object) -> str | None:
    """Return the first key that looks like a secret's in nested mappings and lists, or None.

    >>> secret_key({"peft": "x", "model_kwargs": [{"api_key": "..."}]})
    'api_key'
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            if looks_secret(str(key)):
                return str(key)
            if found := secret_key(part):
                return found
    elif isinstance(value, list):
        for part in value:
            if found := secret_key(part):
                return found
    return None


def secret_place(value: object, at: str = "") -> str | None:
    """Return where in nested mappings and lists a text looks like a secret itself, or None.

    >>> secret_place({"set": {"LOGIN": "hf_" + 20 * "a"}})
    'set.LOGIN'
    """
    if isinstance(value, str):
        return at if _SECRET_VALUE.search(value) else None
    if isinstance(value, Mapping):
        parts = [(f"{at}.{key}" if at else str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        parts = [(f"{at}[{place}]", part) for place, part in enumerate(value)]
    else:
        return None
    return next((found for where, part in parts if (found := secret_place(part, where))), None)


class Redactor:
    """Replaces secrets in text: values of secret environment variables by their names.

    What looks like a token by itself (one that lies in a file of the Hub's, say) goes, too.

    Parameters
    ----------
    environment : mapping of str to str
        The variables of the process whose output is written down.
    also : iterable of str
        Names that count as secret whatever they look like.
    """

    def __init__(self, environment: Mapping[str, str], also: Iterable[str] = ()) -> None:
        chosen = set(also)
        # Line by line, since that is how output comes: a private key has many lines.
        self._values = {
            line: name
            for name, value in environment.items()
            if looks_secret(name) or name in chosen or _SECRET_VALUE.search(value)
            for line in value.splitlines()
            if len(line) >= _SHORTEST
        }

    def __call__(self, text: str) -> str:
        """Return `text` with ``[NAME]`` for a variable's value, ``[secret]`` for other tokens."""
        for value, name in self._values.items():
            text = text.replace(value, f"[{name}]")
        return _SECRET_VALUE.sub("[secret]", text)
