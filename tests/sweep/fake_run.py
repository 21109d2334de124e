"""Stands in for lm-eval in tests: same arguments, same files, same resumption, no model.

Scores depend on the model's name, the task, the question and the choice alone. Every request that
is scored is also written to the file FAKE_COUNTER, so that a test can count what was scored twice.
What goes wrong is asked for by a file FAKE_CONTROL/MODEL.json: {"at": N, "do": ..., "times": T}
acts when N requests of the process are in the cache and the next one is in flight (scored, but not
yet in the cache), and T times (default 1) in all:

    kill       the process is killed (SIGKILL)
    hang       it sleeps for an hour
    stall      it waits until there is a file FAKE_CONTROL/go
    stubborn   the same, and it does not end when it is asked to (SIGTERM)
    raise      a Python exception with the text in "text"
    refuse     the same, before anything is scored: the model cannot be loaded
    lose       it ends well but writes no results
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import signal
import sqlite3
import sys
import time

QUESTIONS = 20
CHOICES = 3


def parse():
    parser = argparse.ArgumentParser()
    for option in ("model", "model_args", "tasks", "output_path", "use_cache", "limit", "seed"):
        parser.add_argument(f"--{option}")
    for option in ("system_instruction", "metadata"):
        parser.add_argument(f"--{option}")
    for option in ("num_fewshot", "batch_size", "include_path", "apply_chat_template"):
        parser.add_argument(f"--{option}", nargs="?", const="true")
    parser.add_argument("--log_samples", action="store_true")
    parser.add_argument("--trust_remote_code", action="store_true")
    arguments = parser.parse_args()
    names = arguments.tasks.split(",")
    # A task's file holds its name; here the file's name does.
    arguments.tasks = [name.rpartition("/")[2].removesuffix(".yaml") for name in names]
    return arguments


def instruction(model):
    """Take the next instruction for a model, counting down how often it is to be obeyed."""
    path = pathlib.Path(os.environ.get("FAKE_CONTROL", "."), f"{model}.json")
    try:
        order = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    order["times"] = order.get("times", 1) - 1
    if order["times"] > 0:
        path.write_text(json.dumps(order))
    else:
        path.unlink()
    return order


def obey(order, count):
    if not order or count != order["at"]:
        return
    if order["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif order["do"] == "hang":
        time.sleep(3600)
    elif order["do"] in ("stall", "stubborn"):
        if order["do"] == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while not pathlib.Path(os.environ["FAKE_CONTROL"], "go").exists():
            time.sleep(0.02)
    elif order["do"] == "raise":
        raise OSError(order["text"])


def score(*words):
    if words[0].startswith("nan"):
        return math.nan
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return -int.from_bytes(digest[:4], "big") / 2**30


def main():
    arguments = parse()
    model_args = json.loads(arguments.model_args)
    name = model_args.get("pretrained") or model_args["model"]
    model = name.rstrip("/").rsplit("/", 1)[-1]
    if "base_url" in model_args:
        print("asked at", model_args["base_url"])
    order = instruction(model)
    if order.get("do") == "refuse":
        raise OSError(order["text"])
    print("secrets slip out:", dict(os.environ), flush=True)
    database = sqlite3.connect(arguments.use_cache + "_rank0.db", isolation_level=None)
    # Small pages: few requests fill as many of them as many requests do in lm-eval's cache.
    database.execute("PRAGMA page_size=512")
    # A killed process loses nothing by this, only a machine that loses power.
    database.execute("PRAGMA synchronous=OFF")
    database.execute("CREATE TABLE IF NOT EXISTS unnamed (key TEXT PRIMARY KEY, value BLOB)")
    prompt = (arguments.num_fewshot, arguments.apply_chat_template)
    scores, wanted = {}, []
    for task in arguments.tasks:
        print(f"INFO [api.task:312] Building contexts for {task} on rank 0...")
        print(f"\r100%|####| {QUESTIONS}/{QUESTIONS} [00:00<00:00, 900.00it/s]", file=sys.stderr)
        for question in range(QUESTIONS):
            for choice in range(CHOICES):
                key = (model, *prompt, task, question, choice)
                found = database.execute("SELECT value FROM unnamed WHERE key=?", (str(key),))
                row = found.fetchone()
                scores[key] = float(row[0]) if row else None
                if row is None:
                    wanted.append(key)
    with open(os.environ.get("FAKE_COUNTER", os.devnull), "a") as counter:
        for count, key in enumerate(wanted):
            scores[key] = score(*key)
            counter.write(f"{key}\n")
            counter.flush()
            obey(order, count)
            database.execute("INSERT INTO unnamed VALUES (?, ?)", (str(key), repr(scores[key])))
            done = f"{count + 1}/{len(wanted)} [00:01<00:00, 99.00it/s]"
            sys.stderr.write(f"\rRunning loglikelihood requests:  50%|##  | {done}")
            sys.stderr.flush()
    sys.stderr.write("\n")
    if order.get("do") != "lose":
        write(arguments, model, scores)


def write(arguments, model, scores):
    folder = pathlib.Path(arguments.output_path, model)
    folder.mkdir(parents=True)
    date = "2026-01-01T00-00-00.000000"
    tasks = arguments.tasks
    results = {
        "results": {task: {"acc,none": 0.5} for task in tasks},
        "configs": {task: {"task": task} for task in tasks},
        "n-shot": {task: int(arguments.num_fewshot or 0) for task in tasks},
        "n-samples": {task: {"original": QUESTIONS, "effective": QUESTIONS} for task in tasks},
        "config": {
            "model": "hf",
            "model_args": json.loads(arguments.model_args),
            "limit": None,
        },
        "model_name": model,
        "model_source": "hf",
        "chat_template": "x" if arguments.apply_chat_template else None,
        "date": 1767225600.0,
    }
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    for task in tasks:
        with open(folder / f"samples_{task}_{date}.jsonl", "w") as stream:
            for question in range(QUESTIONS):
                stream.write(json.dumps(sample(task, question, scores)) + "\n")


def sample(task, question, scores):
    own = [value for key, value in scores.items() if key[-3:-1] == (task, question)]
    gold = question % CHOICES
    return {
        "doc_id": question,
        "doc": {"question": f"question {question}"},
        "target": str(gold),
        "arguments": {
            f"gen_args_{choice}": {"arg_0": f"question {question}", "arg_1": f" choice {choice}"}
            for choice in range(CHOICES)
        },
        "resps": [[[str(value), "False"]] for value in own],
        "filtered_resps": [[str(value), "False"] for value in own],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": hashlib.sha256(f"{task}{question}".encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(f"p{task}{question}".encode()).hexdigest(),
        "target_hash": hashlib.sha256(str(gold).encode()).hexdigest(),
        "acc": float(own.index(max(own)) == gold) if not math.isnan(own[0]) else 0.0,
    }


if __name__ == "__main__":
    main()
