"""A small, real server: the toy world's model behind OpenAI's and llama.cpp's protocols.

What it answers is computed in the plainest way, one forward pass a prompt. `fault` makes it, or a
proxy in front of it, misbehave as servers that were met do.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BOS = 0

# Tokens that vLLM's cache keeps together.
BLOCK = 4


class EchoServer:
    """Serve a model until the block ends.

    Attributes
    ----------
    fault : str
        ``drop_echo``, ``bos``, ``off_by_one``, ``null``, ``every500``, ``die``, ``slow``, ``half``,
        ``cut``, ``404``, ``chat_only``, ``garbage``; ``strips`` is none: names as Llama 2.
    n : int
        Each how many requests, or after how many, the fault shows.
    seen : Counter
        How often each scoring request came, by what was asked.
    """

    def __init__(self, path: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.fault, self.n, self.count, self.is_vllm = "", 0, 0, False
        self.scale_out, self.tells_cached = False, True
        self.seen: Counter[str] = Counter()
        self._blocks: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    def __enter__(self) -> EchoServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = server.answer(self.path, body)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if server.fault == "cut" and server.count % server.n == 0:
                    self.close_connection, data = True, data[: len(data) // 2]
                self.wfile.write(data)

            def do_GET(self):
                self.send_error(404)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *args: None
        self.base = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # -- answers ---------------------------------------------------------------------------

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            self.count += 1
            count = self.count
        if self.fault == "every500" and count % self.n == 0:
            return 500, {"error": {"message": "injected"}}
        if self.fault == "die" and count > self.n:
            return 0, None
        if self.fault == "half" and count % self.n == 0:
            return 200, b'{"choices": [{"index": 0, "logpro'
        if self.fault == "slow":
            time.sleep(self.n)
        if self.fault == "404":
            return 404, {"error": {"message": "The model `x` does not exist."}}
        if path.endswith("/chat/completions"):
            return 200, self.chat(body)
        if path.endswith("/completions"):
            return 200, self.completions(body)
        if path.endswith("/completion"):
            return 200, self.llama(body)
        if path.endswith("/inference/v1/generate") and self.is_vllm and self.scale_out:
            if self.fault == "nan" and count % self.n == 0:
                return 400, {"error": "Out of range float values are not JSON compliant"}
            return 200, self.tokens(body)
        if path.endswith("/tokenize"):
            if "prompt" in body:  # vLLM's, which some tests have
                tokens = self.encode(body["prompt"])
                return (
                    (200, {"tokens": tokens, "count": len(tokens)}) if self.is_vllm else (404, {})
                )
            return 200, {"tokens": self.encode(body["content"], body.get("add_special", False))}
        return 404, {"error": {"message": "no such endpoint"}}

    def encode(self, text: str, special: bool = False) -> list[int]:
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        return [BOS, *tokens] if special else tokens

    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """Row i: what follows token i."""
        key = tuple(tokens)
        if key not in self._known:  # one prompt comes in many tests
            with torch.no_grad():
                logits = self.model(torch.tensor([tokens])).logits[0]
            self._known[key] = torch.log_softmax(logits.double(), dim=-1)
        return self._known[key]

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = body["prompt"]
        if isinstance(prompts, str) or isinstance(prompts[0], int):
            prompts = [prompts]
        adds = self.fault == "adds_bos"  # as llama-cpp-python, which takes texts
        prompts = [self.encode(p, adds) if isinstance(p, str) else p for p in prompts]
        if body.get("echo"):
            with self._lock:
                self.seen.update(str(prompt) for prompt in prompts)
        if self.fault == "bos":
            prompts = [[BOS + 5, *prompt] for prompt in prompts]
        choices = [self._completion(i, prompt, body) for i, prompt in enumerate(prompts)]
        if self.fault == "forget":
            choices = choices[:-1]
        n_read = sum(map(len, prompts))
        usage = {} if self.fault == "bos" and self.n else {"usage": {"prompt_tokens": n_read}}
        return {"object": "text_completion", "choices": choices, **usage}

    def _completion(self, index: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        rows = self.logprobs(prompt)
        generated = int(rows[-1].argmax())
        if self.is_vllm and "logprob_token_ids" in body:
            return self._named(index, rows[-1], generated, body["logprob_token_ids"])
        tokens = [*prompt, generated]
        values = [None, *(float(rows[i][token]) for i, token in enumerate(tokens[1:]))]
        top = max(1, body["logprobs"])
        tops = [None, *(self._top(row, top) for row in rows)]
        if self.fault == "off_by_one":  # as llama-cpp-python without BOS
            values, tops = [None, *values[:-1]], [None, *tops[:-1]]
        if self.fault == "adds_bos" and not self.n:  # and does not tell of it
            tokens, values, tops = tokens[1:], values[1:], tops[1:]
        if not body.get("echo") or self.fault == "drop_echo":
            tokens, values, tops = tokens[-1:], values[-1:], tops[-1:]
        texts = [self._name(token) for token in tokens]
        logprobs = {"tokens": texts, "token_logprobs": values, "top_logprobs": tops}
        if self.fault == "null" and (not self.n or self.count % self.n == 0):
            logprobs = None
        return {"index": index, "text": texts[-1], "logprobs": logprobs}

    def _named(
        self, index: int, row: torch.Tensor, generated: int, wanted: list[int]
    ) -> dict[str, Any]:
        """As vLLM tells named tokens, asked to call them by their numbers."""
        off = 3.0 if self.fault == "named_off" else 0.0
        top = {f"token_id:{token}": float(row[token]) - off for token in (generated, *wanted)}
        with self._lock:
            self.seen[f"named {wanted}"] += 1
        said = f"token_id:{generated}"
        logprobs = {"tokens": [said], "token_logprobs": [top[said]], "top_logprobs": [top]}
        return {"index": index, "text": "", "logprobs": logprobs}

    def tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        """As vLLM's endpoint of tokens: rows that come from its cache were never written."""
        prompt, asked = body["token_ids"], body["sampling_params"]
        assert asked["prompt_logprobs"] == 0
        assert asked["skip_reading_prefix_cache"] is False
        rows = self.logprobs(prompt)
        starts = [tuple(prompt[:end]) for end in range(BLOCK, len(prompt), BLOCK)]
        with self._lock:
            self.seen[f"cached {prompt}"] += 1
            n_cached = max((len(start) for start in starts if start in self._blocks), default=0)
            self._blocks.update(starts)
        off = 3.0 if self.fault == "cache_off" else 0.0
        told: list[dict[str, Any] | None] = [None]
        for place, token in enumerate(prompt[1:]):
            row = rows[place]
            rank = 1 + int((row > row[token]).sum())
            value = 777.0 if place < n_cached else float(row[token]) - off
            told.append({str(token): {"logprob": value, "rank": rank}})
        usage: dict[str, Any] = {"prompt_tokens": len(prompt)}
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": n_cached}
        return {"prompt_logprobs": told, "usage": usage, "choices": []}

    def forget_cache(self) -> None:
        self._blocks.clear()

    def _name(self, token: int) -> str:
        text = self.tokenizer.decode([token])
        return text.lstrip(" ") if self.fault == "strips" else text

    def _top(self, row: torch.Tensor, n: int) -> dict[str, float]:
        values, tokens = row.topk(n)
        return {
            self._name(token): value
            for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
        }

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "".join(message["content"] for message in body["messages"])
        self.seen[text] += 1
        row = self.logprobs(self.encode(text))[-1]
        wanted = body.get("logprob_token_ids") if self.is_vllm else None
        n_top = body.get("top_logprobs", 0) or 1
        top = self._top(row, n_top)
        if wanted:  # as vLLM: what it says comes first, and no more than `top_logprobs`
            tokens = dict.fromkeys([int(row.argmax()), *wanted])
            top = {self.tokenizer.decode([token]): float(row[token]) for token in tokens}
        said = self.tokenizer.decode([int(row.argmax())])
        entry = {
            "token": said,
            "logprob": float(row.max()),
            "top_logprobs": [{"token": t, "logprob": v} for t, v in [*top.items()][:n_top]],
        }
        logprobs = None if self.fault == "null" else {"content": [entry]}
        message = {"role": "assistant", "content": said}
        if self.fault == "thinks":
            entry["token"] = message["content"] = "<think>"
        if self.fault == "thinks apart":
            message["reasoning"] = said
        return {"choices": [{"index": 0, "message": message, "logprobs": logprobs}]}

    def llama(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        row = self.logprobs(prompt)[-1]
        chosen = int(row.argmax())
        for token, bias in body.get("logit_bias", []):
            if bias > 1e3 and self.fault != "ignores_bias":
                chosen = token
        values, tokens = row.topk(max(1, body["n_probs"]))
        probability = {
            "id": chosen,
            "token": self.tokenizer.decode([chosen]),
            "logprob": float(row[chosen]),
            "top_logprobs": [
                {"id": token, "token": self.tokenizer.decode([token]), "logprob": value}
                for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
            ],
        }
        self.seen[f"{prompt} {chosen}"] += 1
        return {"completion_probabilities": [probability], "tokens_evaluated": len(prompt)}
