"""The same numbers from every backend: vLLM here and served, chat, llama.cpp, llama-cpp-python."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trial import LETTERS, TASKS, Trial, read_samples, report  # isort: skip

from calib_harness.harness.backends.known_answer import distance

_IN_PROCESS = "enforce_eager=True,distributed_executor_backend=uni"
# llama-cpp-python sorts the whole vocabulary in Python for every token that it tells.
_FEW = 4
# GPT-2's tokenizer and the toy world's have none.
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def try_hf(trial: Trial) -> None:
    """Score both models by transformers in single precision: what all others are held against."""
    for model, tasks in TASKS.items():
        arguments = f"pretrained={trial.models[model]},dtype=float32"
        trial.run(f"hf-{model}", "hf", arguments, tasks)
        report(f"hf, {model}", trial.compare(f"hf-{model}", f"hf-{model}"))
    arguments = f"pretrained={trial.models['bos']},dtype=float32"
    trial.run("hf-bos", "hf", arguments, TASKS["tiny"], questions=_FEW)


def try_vllm(trial: Trial, env: Path) -> None:
    """Score with vLLM's engine in a process of its own environment."""
    python = env / "bin" / "python"
    for model, tasks in TASKS.items():
        arguments = f"pretrained={trial.models[model]},max_model_len={_length(model)},{_IN_PROCESS}"
        name = f"vllm-{model}"
        trial.run(name, "vllm", f"{arguments},dtype=float32", tasks, python=python)
        report(f"vLLM, {model}", trial.compare(name, f"hf-{model}"))
    ended = trial.run("vllm-bf16", "vllm", f"{arguments},dtype=bfloat16", tasks, python=python)
    report("vLLM, toy in bfloat16", trial.compare("vllm-bf16", "hf-toy") + ended.why)


def serve_vllm(trial: Trial, env: Path, model: str) -> str:
    """Return the command that serves a model in single precision."""
    template = trial.work / "template.jinja"
    template.write_text(_TEMPLATE)
    return (
        f"{env}/bin/vllm serve {trial.models[model]} --port {{port}} --dtype float32 "
        f"--enforce-eager --distributed-executor-backend uni --chat-template {template} "
        f"--max-model-len {_length(model)} --max-logprobs 32 "
        "--enable-scale-out --enable-prompt-tokens-details"
    )


def completions_arguments(trial: Trial, address: str, model: str = "tiny") -> str:
    """Return the arguments of `local-completions` for a server."""
    return (
        f"model={trial.models[model]},base_url={address}/v1/completions,num_concurrent=4,"
        f"max_length={_length(model)},tokenizer_backend=huggingface,timeout=120"
    )


def try_vllm_server(trial: Trial, address: str, model: str) -> None:
    """Score on a served vLLM: by tokens, by texts, and letters as chats."""
    completions = completions_arguments(trial, address, model)
    for way, extra in (("tokens", ""), ("texts", ",tokenized_requests=False")):
        name = f"serve-{model}-{way}"
        trial.run(name, "local-completions", completions + extra, TASKS[model])
        report(f"vllm serve, {model}, {way}", trial.compare(name, f"hf-{model}"))
    if model == "tiny":
        chat = f"model={trial.models[model]},base_url={address}/v1/chat/completions,"
        trial.run("serve-chat", "local-chat-completions", chat + "num_concurrent=4", LETTERS)
        report("vllm serve, chat", compare_letters(trial, "serve-chat"))


def compare_letters(trial: Trial, name: str) -> str:
    """Compare a chat endpoint's letters with their definition: both spellings, added up on hf."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    paths = list((trial.work / name).rglob("samples_*.jsonl"))
    if not paths:
        return "no numbers came out"
    tokenizer = AutoTokenizer.from_pretrained(trial.models["tiny"])
    model = AutoModelForCausalLM.from_pretrained(trial.models["tiny"], dtype=torch.float32).eval()
    worst, n = 0.0, 0
    for entry in read_samples(paths[0]):
        for place, (answer, *_) in enumerate(entry["resps"]):
            context, letter = entry["arguments"][f"gen_args_{place}"].values()
            with torch.no_grad():
                row = model(torch.tensor([tokenizer(context).input_ids])).logits[0, -1]
            spellings = [tokenizer(text).input_ids[0] for text in (letter.strip(), letter)]
            expected = torch.log_softmax(row.double(), 0)[spellings].logsumexp(0)
            worst, n = max(worst, distance(float(answer[0]), float(expected))), n + 1
    return f"{n} letters, each with and without a space; differ by {worst:.1e}"


def try_llama_cpp(trial: Trial, env: Path) -> None:
    """Score on llama.cpp's server by forced decoding, and on llama-cpp-python's by `echo`."""
    server = next(env.rglob("llama-server"), None)
    convert = next(env.rglob("convert_hf_to_gguf.py"), None)
    if server is None or convert is None:
        report("llama.cpp", f"left out: {env} has no llama-server or no converter")
        return
    gguf = trial.work / "tiny.gguf"
    made = [str(env / "bin" / "python"), str(convert), str(trial.models["tiny"])]
    made += ["--outtype", "f32", "--outfile", str(gguf)]
    subprocess.run(made, check=True, capture_output=True)
    for name, cache in (("f32 cache", "-ctk f32 -ctv f32 -fa off"), ("default cache", "")):
        command = f"{server} -m {gguf} --port {{port}} -c 2048 -np 1 -t 1 {cache}"
        with trial.serve("llama", command) as address:
            run = f"gguf-{name.split()[0]}"
            trial.run(run, "gguf", f"base_url={address},max_length=1024", TASKS["tiny"])
            report(f"llama-server, {name}", trial.compare(run, "hf-tiny"))
    for model in ("tiny", "bos"):
        _try_llama_cpp_python(trial, env, model, gguf)


def _try_llama_cpp_python(trial: Trial, env: Path, model: str, gguf: Path) -> None:
    """Score on its server, which takes one request at a time, and texts only."""
    command = (
        f"{env}/bin/python -m llama_cpp.server --model {gguf} --port {{port}} --n_ctx 2048 "
        "--n_threads 1 --n_threads_batch 1 --logits_all true --type_k 0 --type_v 0"
    )
    if model == "bos":
        command += " --kv_overrides tokenizer.ggml.add_bos_token=bool:true"
    library = next(env.rglob("libllama.so"), None)
    more = {} if library is None else {"LLAMA_CPP_LIB_PATH": str(library.parent)}
    with trial.serve("llama-cpp-python", command, **more) as address:
        arguments = completions_arguments(trial, address, model) + ",tokenized_requests=False"
        arguments = arguments.replace("num_concurrent=4", "num_concurrent=1")
        name = f"llama-cpp-python-{model}"
        ended = trial.run(name, "local-completions", arguments, TASKS["tiny"], questions=_FEW)
        said = trial.compare(name, f"hf-{model}") + ended.why
        report(f"llama-cpp-python, {'no ' if model == 'tiny' else ''}BOS", said)


def _length(model: str) -> int:
    return 256 if model == "toy" else 1024
