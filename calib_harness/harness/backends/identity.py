"""Which model a backend runs, as far as that decides a score.

A cached score is used again for the same model only. What can be told of one: the settings that
lm-eval's backends keep, the weights where they are in this process, the files where they are here,
and for a server its address and what it says it serves.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lm_eval.api.model import LM

# Attributes of lm-eval's backends that say which model is asked, and how its prompts are made.
_SETTINGS = (
    *("pretrained", "model", "model_name", "model_id", "engine", "path", "base_url"),
    *("revision", "delta", "peft", "peft_name", "lora_request", "model_args", "backend"),
    *("max_length", "_max_length", "add_bos_token", "custom_prefix_token_id", "truncation"),
    *("tokenized_requests", "softmax_dtype", "mixed_precision_dtype"),
)

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".json")

# Bytes read at each of so many places of a file of weights: training changes all of it.
_BLOCK, _BLOCKS = 1 << 16, 16
_SAMPLED = 64  # elements of each tensor, besides its sum


def describe(lm: LM) -> dict[str, str]:
    """Return what is known of a backend's model, by name; equal for equal models.

    Returns
    -------
    dict
        Always has ``class``, the backend's; ``weights`` where they are in this process, ``files``
        where the model or an adapter is a local file or folder.
    """
    found = {"class": type(lm).__name__}
    for name in _SETTINGS:
        value = _value(lm, name)
        if value is not None:
            found[name.lstrip("_")] = value
    weights = _weights(lm)
    if weights:
        found["weights"] = weights
    else:
        paths = [path for name in _SETTINGS for path in _local_paths(getattr(lm, name, None))]
        if paths:
            found["files"] = _digest_files(paths)
    return found


def digest(description: dict[str, str]) -> str:
    """Return a short name of a description."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def knows_weights(description: dict[str, str]) -> bool:
    """Say whether a description would surely differ if the weights did."""
    return "weights" in description


def _value(lm: LM, name: str) -> str | None:
    try:
        value = getattr(lm, name, None)
    except (NotImplementedError, AssertionError):
        return None
    if name == "base_url" and isinstance(value, str):
        return _address(value)
    if isinstance(value, (str, int, float, bool)):
        return str(value)
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, default=str)
    if name in ("lora_request", "softmax_dtype", "mixed_precision_dtype") and value is not None:
        return str(value)
    return None


def _address(url: str) -> str:
    """Leave out the port of a server on this machine: each start may choose another."""
    parts = urlsplit(url)
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return parts._replace(netloc="localhost").geturl()
    return url


def _weights(lm: LM) -> str | None:
    """Digest a model's parameters and buffers where they are in this process."""
    torch = sys.modules.get("torch")
    model = getattr(lm, "_model", None) or getattr(lm, "model", None)
    if torch is None or not isinstance(model, torch.nn.Module):
        return None
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(_content(tensor.detach(), torch))
    return total.hexdigest()[:16]


def _content(tensor: Any, torch: Any) -> bytes:
    """Sum a tensor's bits as integers, which is exact in any order, and sample its elements."""
    if tensor.device.type == "meta" or not tensor.numel():
        return b""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    try:
        bits = tensor.view(integers[tensor.element_size()])
        flat = bits.reshape(-1)
        sample = flat[:: max(1, flat.numel() // _SAMPLED)].tolist()
        return f"{int(bits.sum(dtype=torch.int64))} {sample}".encode()
    except (RuntimeError, NotImplementedError, TypeError, KeyError):
        return b"unreadable"  # tensors of other libraries: their name, shape and dtype are known


def _local_paths(value: Any) -> Iterator[Path]:
    """Find the local files and folders that a setting names, `model_args` looked into."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _local_paths(item)
    elif isinstance(value, str) and value and len(value) < 4096 and Path(value).exists():
        yield Path(value)
    elif isinstance(path := getattr(value, "lora_path", None), str):
        yield from _local_paths(path)


def _digest_files(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.iterdir())
        for file in files:
            if file.suffix in _WEIGHTS and file.is_file():
                total.update(f"{file.name} {file.stat().st_size}".encode())
                for block in _blocks(file):
                    total.update(block)
    return total.hexdigest()[:16]


def _blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    step = max(_BLOCK, size // _BLOCKS)
    with path.open("rb") as stream:
        for place in (*range(0, size, step), max(0, size - _BLOCK)):
            stream.seek(place)
            yield stream.read(_BLOCK)
