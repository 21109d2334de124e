"""Tiny random-weight models of every architecture the engine is meant to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import transformers as tf
from torch import nn

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _small(config: type, **more: Any) -> Callable[[], Any]:
    return lambda: config(**{**SMALL, **more})


def _bare(config: type, **more: Any) -> Callable[[], Any]:
    return lambda: config(pad_token_id=0, bos_token_id=1, eos_token_id=2, **more)


CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": _small(tf.LlamaConfig),
    "mistral": _small(tf.MistralConfig, sliding_window=None),
    "mistral-window": _small(tf.MistralConfig, sliding_window=16),
    "mixtral": _small(tf.MixtralConfig, num_local_experts=4, sliding_window=16),
    "gemma": _small(tf.GemmaConfig, head_dim=8),
    "gemma2": _small(tf.Gemma2Config, head_dim=8, sliding_window=16, query_pre_attn_scalar=8),
    "gemma3": _small(
        tf.Gemma3TextConfig,
        head_dim=8,
        sliding_window=16,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "olmo": _small(tf.OlmoConfig),
    "olmo2": _small(tf.Olmo2Config),
    "qwen2": _small(tf.Qwen2Config),
    "qwen3": _small(tf.Qwen3Config, head_dim=8),
    "gpt2": _bare(
        tf.GPT2Config, vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64
    ),
    "gpt-neox": _small(tf.GPTNeoXConfig),
    "phi3": _small(tf.Phi3Config, sliding_window=16),
    "falcon-rotary": _small(tf.FalconConfig, alibi=False),
    "falcon-alibi": _small(tf.FalconConfig, alibi=True),
    "bloom": _bare(tf.BloomConfig, vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4),
    "opt": _small(tf.OPTConfig, ffn_dim=48, word_embed_proj_dim=32),
    "cohere": _small(tf.CohereConfig),
    "stablelm": _small(tf.StableLmConfig),
    "smollm3": _small(tf.SmolLM3Config),
    "gpt-oss": _small(tf.GptOssConfig, head_dim=8, num_local_experts=4, sliding_window=16),
}


@cache
def make_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model whose probabilities are far from uniform, so that errors show."""
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(CONFIGS[name]())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model.eval().to(device, dtype)


def score_one_by_one(
    model: nn.Module, requests: Sequence[tuple[Sequence[int], Sequence[int]]], max_length: int
) -> list[tuple[list[float], bool]]:
    """The definition: one string at a time, no batch, no cache, no padding."""
    scores = []
    for context, continuation in requests:
        read = [*context, *continuation][-(max_length + 1) :][:-1]
        with torch.no_grad():
            inputs = torch.tensor([read], device=model.device)
            logits = model(input_ids=inputs, use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits[-len(continuation) :].float(), dim=-1).cpu()
        tokens = torch.tensor(continuation)
        scores.append(
            (
                logprobs.gather(1, tokens[:, None])[:, 0].tolist(),
                bool((logprobs.argmax(dim=-1) == tokens).all()),
            )
        )
    return scores
