"""Real vLLM and llama.cpp against hf, and what faults between lm-eval and a server cost.

    scripts/test-backends            installs both and runs this
    python benchmarks/real_backends.py --vllm ENV --llama ENV --shared ../shared --work DIR

ENV are environments as `scripts/test-backends` makes them; a part whose environment is missing is
left out and said to be. Models: a Llama of random weights (head size 64, GPT-2's tokenizer) on
ARC-Easy, and the toy world's base model on its own task, all in single precision. For each backend:
the largest difference of a sum and of a token from hf, and how many printed values differ in their
last digit. For each fault: what is printed, what is scored twice, what comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calib_harness.paths import toy_world_path
from calib_harness.sweep.running.model_server import free_port, serving

ROOT = Path(__file__).resolve().parents[1]
LETTERS = "arc_easy_calib_choice"
TASKS = {"tiny": "arc_easy_calib_cloze,arc_easy_calib_choice", "toy": "toy_world_calib"}
FAULTS = (
    *("drop_echo", "bos", "null", "null_some 40", "forget"),
    *("every500 7", "slow 3", "die 50"),
)
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",  # vLLM compiles its sampler, for minutes on a small machine
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Trial:
    """Runs of one machine: where they write, and the benchmarks they read."""

    def __init__(self, shared: Path, work: Path, questions: int) -> None:
        self.shared, self.work, self.questions = shared, work, questions
        self.models = {"tiny": work / "tiny", "toy": Path(toy_world_path()) / "models" / "base"}
        self.environment = {
            **os.environ,
            **QUIET,
            "HF_HOME": str(work / "hf-home"),
            "PYTHONPATH": str(ROOT),
        }
        work.mkdir(parents=True, exist_ok=True)

    def make_tiny(self) -> None:
        """Write a Llama of random weights, large enough for vLLM's kernels."""
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=50257,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=2048,
            bos_token_id=50256,
            eos_token_id=50256,
            tie_word_embeddings=True,
            initializer_range=0.06,
        )
        LlamaForCausalLM(config).float().save_pretrained(self.models["tiny"])
        tokenizer = AutoTokenizer.from_pretrained(self.shared / "tokenizers" / "gpt2")
        tokenizer.save_pretrained(self.models["tiny"])

    def run(
        self,
        name: str,
        backend: str,
        arguments: str,
        tasks: str,
        *extra: str,
        python: str = sys.executable,
    ) -> subprocess.CompletedProcess[str]:
        """Run lm-eval with the plugin; its logs lie in a folder of that name."""
        out = self.work / name
        shutil.rmtree(out, ignore_errors=True)
        command = [python, "-W", "ignore", "-m", "calib_harness", "run", "--model", backend]
        command += ["--model_args", arguments, "--tasks", tasks, "--output_path", str(out)]
        command += ["--log_samples", "--limit", str(self.questions), *extra]
        environment = {**self.environment, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        done = subprocess.run(
            command,
            cwd=self.shared / "hub",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        (self.work / f"{name}.log").write_text(done.stdout + done.stderr)
        return done

    @contextmanager
    def serve(self, name: str, command: str) -> Iterator[str]:
        """Start a server for the length of the block; yield its address."""
        environment = {k: v for k, v in self.environment.items() if k != "PYTHONPATH"}
        with serving(
            command,
            log=self.work / f"{name}.server.log",
            environment=environment,
            working_dir=self.work,
        ) as address:
            yield address

    def compare(self, name: str, reference: str) -> str:
        """Say by how much a run differs from the reference, or how it ended."""
        ours, values = read_run(self.work / name)
        theirs, expected = read_run(self.work / reference)
        if not ours:
            return f"no results: {last_line(self.work / f'{name}.log')}"
        sums = tokens = 0.0
        for key, (total, parts) in ours.items():
            sums = max(sums, abs(total - theirs[key][0]))
            tokens = max(
                [tokens, *(abs(a - b) for a, b in zip(parts, theirs[key][1], strict=True))]
            )
        shared = values.keys() & expected.keys()
        differ = sum(f"{values[key]:.4f}" != f"{expected[key]:.4f}" for key in shared)
        return (
            f"{len(ours)} requests; sums differ by {sums:.1e}, tokens by {tokens:.1e}; "
            f"{differ} of {len(shared)} printed values differ"
        )


def read_run(folder: Path) -> tuple[dict[Any, tuple[float, list[float]]], dict[Any, float]]:
    """Read every request's sum and tokens, and every printed value, of one run."""
    requests, values = {}, {}
    for path in folder.rglob("samples_*.jsonl"):
        task = path.name.removeprefix("samples_").partition("_20")[0]
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            for place, (answer, *_) in enumerate(entry["resps"]):
                tokens = answer[2] if isinstance(answer[2], list) else []
                found = float(answer[0]), [float(token) for token in tokens]
                requests[task, entry["doc_id"], place] = found
    for path in folder.rglob("results_*.json"):
        for task, metrics in json.loads(path.read_text())["results"].items():
            for key, value in metrics.items():
                if isinstance(value, float) and "stderr" not in key:
                    values[task, key] = value
    return requests, values


def last_line(path: Path) -> str:
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was printed"


def report(what: str, said: str) -> None:
    print(f"{what:32} {said}", flush=True)


def try_vllm(trial: Trial, env: Path) -> None:
    options = "dtype=float32,enforce_eager=True,distributed_executor_backend=uni"
    for model, tasks in TASKS.items():
        length = 256 if model == "toy" else 1024
        arguments = f"pretrained={trial.models[model]},max_model_len={length},{options}"
        name = f"vllm-{model}"
        trial.run(name, "vllm", arguments, tasks, python=str(env / "bin" / "python"))
        report(f"vLLM, {model}", trial.compare(name, f"hf-{model}"))
    serve = f"{env}/bin/vllm serve {trial.models['tiny']} --port {{port}} --dtype float32 "
    template = trial.work / "template.jinja"  # GPT-2 has none
    template.write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    serve += f"--enforce-eager --distributed-executor-backend uni --chat-template {template} "
    serve += "--max-model-len 1024 --max-logprobs 32"
    with trial.serve("vllm", serve) as address:
        completions = completions_arguments(trial, address)
        for way, extra in (("tokens", ""), ("strings", ",tokenized_requests=False")):
            name = f"serve-{way}"
            trial.run(name, "local-completions", completions + extra, TASKS["tiny"])
            report(f"vllm serve, {way}", trial.compare(name, "hf-tiny"))
        chat = f"model={trial.models['tiny']},base_url={address}/v1/chat/completions,"
        trial.run("serve-chat", "local-chat-completions", chat + "num_concurrent=4", LETTERS)
        report("vllm serve, chat", compare_letters(trial, "serve-chat"))
        try_faults(trial, address)


def compare_letters(trial: Trial, name: str) -> str:
    """Compare a chat endpoint's letters with their definition: both spellings, added up on hf."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    paths = list((trial.work / name).rglob("samples_*.jsonl"))
    if not paths:
        return f"no results: {last_line(trial.work / f'{name}.log')}"
    tokenizer = AutoTokenizer.from_pretrained(trial.models["tiny"])
    model = AutoModelForCausalLM.from_pretrained(trial.models["tiny"], dtype=torch.float32).eval()
    worst, n = 0.0, 0
    for line in paths[0].read_text().splitlines():
        entry = json.loads(line)
        for place, (answer, *_) in enumerate(entry["resps"]):
            context, letter = entry["arguments"][f"gen_args_{place}"].values()
            with torch.no_grad():
                row = model(torch.tensor([tokenizer(context).input_ids])).logits[0, -1]
            spellings = [tokenizer(text).input_ids[0] for text in (letter.strip(), letter)]
            expected = torch.log_softmax(row.double(), 0)[spellings].logsumexp(0)
            worst, n = max(worst, abs(float(answer[0]) - float(expected))), n + 1
    return f"{n} letters, each with and without a space; differ by {worst:.1e}"


def completions_arguments(trial: Trial, address: str) -> str:
    return (
        f"model={trial.models['tiny']},base_url={address}/v1/completions,num_concurrent=4,"
        "max_length=1024,tokenizer_backend=huggingface,timeout=60"
    )


def try_faults(trial: Trial, address: str) -> None:
    """Put a proxy that misbehaves in front of the server; go on without it after it has died."""
    for fault in FAULTS:
        name = f"fault-{fault.replace(' ', '-')}"
        cache = trial.work / f"{name}.cache"
        for old in trial.work.glob(f"{name}.cache*"):
            old.unlink()
        port = free_port()
        proxy = [sys.executable, str(trial.shared / "tools" / "faulty_proxy.py"), str(port)]
        with subprocess.Popen([*proxy, address, *fault.split()], env=trial.environment) as process:
            arguments = completions_arguments(trial, f"http://127.0.0.1:{port}")
            done = trial.run(name, "local-completions", arguments, LETTERS, f"--use_cache={cache}")
            process.kill()
        said = trial.compare(name, "hf-tiny")
        report(f"fault {fault}", f"status {done.returncode}; {said}")
        if fault.startswith("die"):
            arguments = completions_arguments(trial, address)
            trial.run(name, "local-completions", arguments, LETTERS, f"--use_cache={cache}")
            log = (trial.work / f"{name}.log").read_text()
            kept = log.partition("Cached requests: ")[2].splitlines()[:1]
            report("  the same command again", f"cached {kept}; {trial.compare(name, 'hf-tiny')}")


def try_llama_cpp(trial: Trial, env: Path) -> None:
    gguf = trial.work / "tiny.gguf"
    server = next(env.rglob("llama-server"), None)
    convert = next(env.rglob("convert_hf_to_gguf.py"), None)
    if server is None or convert is None:
        report("llama.cpp", f"left out: {env} has no llama-server or no converter")
        return
    python = str(env / "bin" / "python")
    made = [python, str(convert), str(trial.models["tiny"]), "--outtype", "f32"]
    subprocess.run([*made, "--outfile", str(gguf)], check=True, capture_output=True)
    for name, cache in (("f32 cache", "-ctk f32 -ctv f32 -fa off"), ("default cache", "")):
        command = f"{server} -m {gguf} --port {{port}} -c 2048 -np 1 -t 1 {cache}"
        with trial.serve("llama", command) as address:
            run = f"gguf-{name.split()[0]}"
            trial.run(run, "gguf", f"base_url={address},max_length=1024", TASKS["tiny"])
            report(f"llama-server, {name}", trial.compare(run, "hf-tiny"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--llama", type=Path)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    trial = Trial(options.shared.resolve(), options.work.resolve(), options.questions)
    trial.make_tiny()
    for model, tasks in TASKS.items():
        trial.run(f"hf-{model}", "hf", f"pretrained={trial.models[model]},dtype=float32", tasks)
        report(f"hf, {model}", trial.compare(f"hf-{model}", f"hf-{model}"))
    for part, env in ((try_vllm, options.vllm), (try_llama_cpp, options.llama)):
        if env is None:
            report(part.__name__, "left out: no environment was given")
        else:
            part(trial, env.resolve())


if __name__ == "__main__":
    main()
