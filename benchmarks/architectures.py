"""Every causal language model of transformers, tiny: is it scored shared, and exactly.

    python benchmarks/architectures.py docs/reference/architectures.md
    python benchmarks/architectures.py out.md llama qwen3_5_text jamba

Each model is scored by the engine (a few tokens decide whether it can run it, as in a run) and one
string at a time, without a cache, a batch or padding. A model is

- shared: the engine runs it, and every token's log-probability is the same to 1e-3 in float32;
- plain: the engine declines, and says why;
- WRONG: the engine runs it and a token differs by more. There must be none;
- not built: it could not be made small and random, or scores NaN by itself.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from calib_harness.scoring.engine import Counts, budget_for, score
from calib_harness.scoring.inspection import CannotShareError
from calib_harness.scoring.passes import Costs
from calib_harness.scoring.support import find_ability
from calib_harness.scoring.tree import Request, read_window

VOCABULARY = 257
MAX_LENGTH = 512
#: Largest difference of a token's log-probability that is rounding, in float32.
EXACT = 1e-3
# CPU seconds and parameters beyond which a model counts as not shrunk.
_MOST_SECONDS, _MOST_PARAMETERS = 60, 30_000_000

# Sizes, under every name that a configuration has for them; one is set where it exists.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "lru_width"), 64),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "encoder_ffn_dim"),
        96,
    ),
    "decoder_ffn_dim": 96,
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 4
    ),
    "encoder_layers": 2,
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"), 4),
    "encoder_attention_heads": 4,
    **dict.fromkeys(
        ("head_dim", "d_kv", "v_head_dim", "global_head_dim", "attention_head_dim"), 16
    ),
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 2,
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_seq_length"),
        MAX_LENGTH,
    ),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **dict.fromkeys(("sliding_window", "attention_window_size", "attention_chunk_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts"), 2),
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "rotary_dim": 8,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 8,
    "hidden_size_per_layer_input": 8,
    "mamba_d_state": 8,
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_expand": 1,
    "mamba_n_groups": 1,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_mamba_heads": 4,
    "mamba_dt_rank": 4,
    "state_size": 8,
    "ssm_state_size": 8,
    "time_step_rank": 4,
    "n_groups": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "block_size": 16,
    "is_decoder": True,  # else the likes of BERT read both ways
}
# Those that are set even where a configuration has None for them.
_UNSET_BY_DEFAULT = {
    *("pad_token_id", "head_dim", "num_key_value_heads", "n_routed_experts"),
    *("num_experts_per_tok", "n_group", "topk_group"),
}
_LAYER_TYPES = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types")
_LINEAR, _FULL = "linear_attention", "full_attention"

# What some models need beyond that: layers of each of their kinds, sizes that go together.
SPECIAL: dict[str, dict[str, Any]] = {
    "granitemoehybrid": {"layer_types": [_LINEAR, _FULL, _LINEAR, _FULL]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "mamba2": {"expand": 1, "num_heads": 4, "head_dim": 16},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {"num_kv_shared_layers": 2},
    "dots1": {"n_shared_experts": 1},
    **{kind: {"layer_types": ["conv", _FULL, "conv", _FULL]} for kind in ("lfm2", "lfm2_moe")},
}


@dataclass(frozen=True)
class Verdict:
    """What came out for one model type.

    Attributes
    ----------
    path
        "shared", "plain", "WRONG" or "not built".
    error
        Largest difference of a token's log-probability.
    forwarded
        Tokens run through the model ÷ tokens of the requests' tree.
    why
        The reason, or the manner.
    """

    path: str
    error: float = math.nan
    forwarded: float = math.nan
    why: str = ""


def build(kind: str) -> nn.Module:
    """Make a tiny random model of a type; its probabilities are far from uniform.

    Raises
    ------
    RuntimeError
        If it cannot be made small.
    """
    config = tiny_config(kind)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > _MOST_PARAMETERS:
        raise RuntimeError(f"{size / 1e6:.0f} million parameters: not shrunk")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" in name:
                parameter.normal_(std=1.0)
            elif parameter.ndim == 2:
                parameter.normal_(std=1.5 / math.sqrt(parameter.shape[1]))
    return model


def tiny_config(kind: str) -> Any:
    """Return a model type's configuration with the sizes of `SIZES`, made by its constructor."""
    cls = CONFIG_MAPPING[kind]
    default = cls()
    special = SPECIAL.get(kind, {})
    settings = {**_sizes_of(default), **special}
    text = default.get_text_config()
    if text is not default:
        name = next(name for name, value in vars(default).items() if value is text)
        settings[name] = {**text.to_dict(), **_sizes_of(text), **SPECIAL.get(text.model_type, {})}
    try:
        return cls(**settings)
    except Exception as error:  # sizes that do not go together: set them one by one
        logging.getLogger(__name__).info("%s: %s", kind, error)
        for part in {id(c): c for c in (default, text)}.values():
            for name, value in {**_sizes_of(part), **special}.items():
                setattr(part, name, value)
        return default


def _sizes_of(config: Any) -> dict[str, Any]:
    sizes = {name: value for name, value in SIZES.items() if _is_size(config, name)}
    if "qk_rope_head_dim" in sizes and "head_dim" in sizes:
        sizes["head_dim"] = sizes["qk_rope_head_dim"]  # there, rotary embeddings go by it
    if "kv_lora_rank" in sizes and "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]  # heads of one latent
    for name in _LAYER_TYPES:
        if isinstance(getattr(type(config), name, None), property) or name in config.attribute_map:
            continue
        value = getattr(config, name, None)
        if isinstance(value, list) and len(value) > 4 and isinstance(value[0], str):
            sizes[name] = (list(dict.fromkeys(value)) * 4)[:4]
    return sizes


def _is_size(config: Any, name: str) -> bool:
    if isinstance(getattr(type(config), name, None), property):
        return False
    try:
        value = getattr(config, name, math.nan)
        return isinstance(value, int) or (value is None and name in _UNSET_BY_DEFAULT)
    except Exception:  # it varies by layer: no value is the whole model's
        return True


def make_requests(seed: int = 0) -> list[Request]:
    """Shots, questions and choices of unequal length, past the windows of `SIZES`."""
    rng = random.Random(seed)

    def tokens(n: int) -> list[int]:
        return [rng.randrange(3, VOCABULARY - 7) for _ in range(n)]

    shots, requests = tokens(24), []
    for question in range(3):
        context = [*shots, *tokens(5 + 3 * question)]
        requests += [Request(context, tokens(1 + (k + question) % 4)) for k in range(4)]
    context = tokens(7)
    return requests + [Request(context, tokens(1 + k % 2)) for k in range(4)]


def score_alone(model: nn.Module, request: Request) -> list[float]:
    """Score by the definition: one string at a time, no batch, no cache, no padding."""
    read = read_window(request, MAX_LENGTH)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([read]), use_cache=False).logits[0]
    n_tokens = len(request.continuation)
    logprobs = torch.log_softmax(logits[-n_tokens:].float(), dim=-1)
    return logprobs[torch.arange(n_tokens), torch.tensor(request.continuation)].tolist()


def try_model(kind: str, requests: Sequence[Request]) -> Verdict:
    """Build a model and score the requests both ways."""
    try:
        with _time_limit(_MOST_SECONDS):
            model = build(kind)
            right = [score_alone(model, request) for request in requests]
    except Exception as error:
        return Verdict("not built", why=_first_line(error))
    if any(math.isnan(value) for row in right for value in row):
        return Verdict("not built", why="scores NaN by itself")
    return compare(model, requests, right)


def compare(
    model: nn.Module, requests: Sequence[Request], right: Sequence[Sequence[float]]
) -> Verdict:
    """Score the requests on the engine, if it can, and compare."""
    longest = max(len(c) + len(t) for c, t in requests)
    try:
        ability = find_ability(model, longest=longest)
    except CannotShareError as error:
        return Verdict("plain", why=str(error))
    counts = Counts()
    found = dict(
        score(
            model,
            requests,
            ability=ability,
            budget=budget_for(8, requests, MAX_LENGTH)._replace(tokens=4000, cached=16000),
            max_length=MAX_LENGTH,
            costs=Costs(per_pass=8, min_length=2, min_saving=2),
            counts=counts,
        )
    )
    error = max(
        abs(a - b) if not math.isnan(b) else math.inf
        for i, row in enumerate(right)
        for a, b in zip(row, found[i].token_logprobs, strict=True)
    )
    manner = ability.manner
    ways = {
        "states": manner.has_states,
        "one token at a time": manner.one_by_one,
        "prefixes of one length per pass": manner.same_start,
    }
    why = ", ".join(way for way, holds in ways.items() if holds)
    return Verdict(
        "shared" if error <= EXACT else "WRONG", error, counts.forwarded / counts.bound, why
    )


def _first_line(error: BaseException) -> str:
    text = (str(error).splitlines() or [""])[0][:120]
    return f"{type(error).__name__}: {text}"


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s of CPU time")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def summarise(verdicts: dict[str, Verdict]) -> str:
    """One sentence: how many are shared, of those that could be built."""
    n = Counter(verdict.path for verdict in verdicts.values())
    built = sum(n.values()) - n["not built"]
    worst = max((v.error for v in verdicts.values() if v.path == "shared"), default=math.nan)
    return (
        f"{len(verdicts)} model types; {built} could be built tiny: {n['shared']} shared "
        f"({n['shared'] / max(built, 1):.0%}; largest error {worst:.1e}), {n['plain']} plain, "
        f"{n['WRONG']} wrong."
    )


def to_markdown(verdicts: dict[str, Verdict]) -> str:
    """Write the table as a page of the documentation."""
    lines = [
        "# Architectures",
        "",
        "Written by `benchmarks/architectures.py`, which says what the columns mean; transformers "
        f"{transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32, CPU.",
        "",
        summarise(verdicts),
        "",
        "| model type | path | largest error | tokens ÷ tree | manner, or reason |",
        "|---|---|---|---|---|",
    ]
    for kind, v in verdicts.items():
        numbers = ("", "") if math.isnan(v.error) else (f"{v.error:.0e}", f"{v.forwarded:.2f}")
        why = v.why.replace("|", "\\|")
        lines.append(f"| {kind} | {v.path} | {numbers[0]} | {numbers[1]} | {why} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="Markdown file to write")
    parser.add_argument("kinds", nargs="*", help="model types (default: all of transformers)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    requests = make_requests()
    verdicts = {}
    for kind in args.kinds or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        verdicts[kind] = v = try_model(kind, requests)
        print(f"{kind}: {v.path} {v.error:.1e} {v.forwarded:.2f} {v.why}", flush=True)
    args.out.write_text(to_markdown(verdicts), encoding="utf-8")
    print(summarise(verdicts))
    sys.exit(any(v.path == "WRONG" for v in verdicts.values()))


if __name__ == "__main__":
    main()
