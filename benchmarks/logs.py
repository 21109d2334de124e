"""How fast logs are read and tables are made, and how much memory that takes.

    python benchmarks/logs.py [--runs 100] [--questions 10000] [--folder DIR] [--parts read ...]
    python benchmarks/logs.py --parts read --against TREE
    python benchmarks/logs.py --parts tables --rows 10000000

Makes logs of imaginary runs (seeded), several GB for the defaults, in a temporary folder or in DIR,
where they stay for the next part, and prints: reading speed per core for three kinds of log, the
time to read all runs again from Parquet, the time of the whole `calib-harness metrics` table with
1,000 resamples, and the peak memory of a process that goes through few and through all runs one
by one. With --against, the reading speed of another tree of this project is measured in turn, and
the ratio printed. The part `tables` reads tables of that many rows, each form as CSV and Parquet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from calib_harness.predictions import find_logs, iter_predictions

DATE = "2025-01-01T00-00-00.000000"
WORDS = [
    *("the", "energy", "of", "a", "system", "plants", "animals", "water", "heat", "light"),
    *("cells", "which", "process", "best", "explains", "change", "during", "temperature"),
]


def sentence(rng: np.random.Generator, n_words: int) -> str:
    return " ".join(rng.choice(WORDS, n_words))


def documents(n: int, rng: np.random.Generator) -> list[dict]:
    return [
        {
            "id": f"q{i}",
            "question": sentence(rng, 25),
            "choices": [sentence(rng, int(k)) for k in rng.integers(3, 9, size=4)],
            "gold": int(rng.integers(4)),
        }
        for i in range(n)
    ]


def choice_prompt(doc: dict) -> str:
    options = "\n".join(f"{'ABCD'[k]}. {text}" for k, text in enumerate(doc["choices"]))
    return f"Question: {doc['question']}\n{options}\nAnswer:"


class LogWriter:
    """Writes logs over one set of questions; what does not change is serialised once."""

    def __init__(self, docs: list[dict], *, kind: str) -> None:
        self.kind = kind
        self.filters = ("continuation-sum", "continuation-min") if kind == "cloze" else ("choice",)
        if kind == "stock":
            self.filters = ("none",)
        self.parts = [self._parts(number, doc) for number, doc in enumerate(docs)]
        self.n_tokens = [[len(text.split()) + 1 for text in doc["choices"]] for doc in docs]

    def _parts(self, number: int, doc: dict) -> tuple[str, str]:
        if self.kind == "choice":
            prompt, continuations = choice_prompt(doc), [" A", " B", " C", " D"]
        else:
            prompt = f"Question: {doc['question']}\nAnswer:"
            continuations = [f" {text}" for text in doc["choices"]]
        head = {
            "doc_id": number,
            "doc": doc,
            "target": str(doc["gold"]),
            "arguments": {
                f"gen_args_{k}": {"arg_0": prompt, "arg_1": text}
                for k, text in enumerate(continuations)
            },
        }
        tail = {
            "metrics": ["acc"],
            "doc_hash": hashlib.sha256(json.dumps(doc).encode()).hexdigest(),
            "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest(),
            "target_hash": hashlib.sha256(str(doc["gold"]).encode()).hexdigest(),
        }
        return json.dumps(head)[:-1] + ', "resps": [', json.dumps(tail)[1:] + "\n"

    def write(self, folder: Path, model: str, rng: np.random.Generator) -> int:
        """Write one run; returns the size of its log in bytes."""
        task = f"bench_{self.kind}"
        run = folder / model.replace("/", "__")
        run.mkdir(parents=True, exist_ok=True)
        results = {
            "results": {task: {}},
            "configs": {task: {"target_delimiter": " "}},
            "n-shot": {task: 0},
            "config": {"model_args": {"pretrained": model}},
            "model_name": model,
            "chat_template": None,
        }
        (run / f"results_{DATE}.json").write_text(json.dumps(results))
        log = run / f"samples_{task}_{DATE}.jsonl"
        log.write_text("".join(self._lines(rng)))
        return log.stat().st_size

    def _lines(self, rng: np.random.Generator) -> Iterator[str]:
        logits = rng.normal(size=(len(self.parts), 4)) * 2
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for (head, tail), row, n_tokens in zip(self.parts, logprobs, self.n_tokens, strict=True):
            pairs = [f'"{score!r}", "False"' for score in row.tolist()]
            resps = [f"[[{pair}]]" for pair in pairs]
            if self.kind == "cloze":
                resps = [
                    f"[[{pair}, [{self._tokens(score, n)}]]]"
                    for pair, score, n in zip(pairs, row.tolist(), n_tokens, strict=True)
                ]
            filtered = ", ".join(f"[{pair}]" for pair in pairs)
            for name in self.filters:
                middle = f'], "filtered_resps": [{filtered}], "filter": "{name}", '
                yield head + ", ".join(resps) + middle + tail

    @staticmethod
    def _tokens(score: float, n: int) -> str:
        return ", ".join(f'"{score / n * (0.5 + i / n)!r}"' for i in range(n))


def peak_mb() -> float:
    """Peak resident memory of this process since it was started."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include the parent's memory at the time of the fork
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reading_speed(folder: Path) -> float:
    """MB of log per second of this process's CPU time, the best of three passes."""
    reader = find_logs(folder, cache=False)
    size = sum(Path(log.file.path).stat().st_size for log in reader.logs)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for _ in reader:
            pass
        seconds.append(time.process_time() - start)
    return size / 1e6 / min(seconds)


def compare_trees(folder: Path, other: Path) -> None:
    """Print how fast this tree reads the same logs as another, in turn, by CPU seconds."""
    here = Path(__file__).parents[1]
    speeds: dict[Path, list[float]] = {here: [], other: []}
    for _ in range(3):
        for tree, found in speeds.items():
            command = [sys.executable, __file__, "--child", "speed", str(folder), str(folder)]
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            done = subprocess.run(command, check=True, capture_output=True, env=environment)
            found.append(json.loads(done.stdout.splitlines()[-1])["speed"])
    ratio = max(speeds[here]) / max(speeds[other])
    print(f"     against {other}: {max(speeds[other]):.0f} MB/s, so {ratio:.2f} times its speed")


def table_block(form: str, start: int, n: int, rng: np.random.Generator) -> pa.Table:
    """Return rows of a table: logits of four choices, one choice a row, or confidences."""
    if form == "question":
        logits = np.round(rng.normal(size=(n, 4)), 4)
        columns = {f"logit_{k}": logits[:, k] for k in range(4)}
        return pa.table(
            {**columns, "gold": rng.integers(4, size=n), "id": np.arange(start, start + n)}
        )
    if form == "choice":
        number, choice = np.divmod(np.arange(start, start + n), 4)
        logit, gold = np.round(rng.normal(size=n), 4), number % 4
        return pa.table({"id": number, "choice": choice, "logit": logit, "gold": gold})
    confidence = np.round(rng.uniform(0.25, 1, size=n), 4)
    correct = (rng.uniform(size=n) < confidence).astype(np.int8)
    return pa.table({"confidence": confidence, "correct": correct})


def write_tables(folder: Path, n_rows: int, rng: np.random.Generator) -> list[Path]:
    """Write a table of each form as CSV and as Parquet."""
    written = []
    for form in ("question", "choice", "confidence"):
        paths = [folder / f"{form}_{n_rows}.{suffix}" for suffix in ("csv", "parquet")]
        writers: list[Any] = []
        for start in range(0, n_rows, _TABLE_BLOCK):
            table = table_block(form, start, min(_TABLE_BLOCK, n_rows - start), rng)
            if not writers:
                writers = [
                    pacsv.CSVWriter(paths[0], table.schema),
                    pq.ParquetWriter(paths[1], table.schema),
                ]
            for writer in writers:
                writer.write_table(table)
        for writer in writers:
            writer.close()
        written += paths
    return written


def walk(folder: Path, cache: Path) -> tuple[int, float]:
    """Go through all runs one by one; number of tables and seconds."""
    start = time.perf_counter()
    n = sum(1 for _ in iter_predictions(folder, cache=cache))
    return n, time.perf_counter() - start


def in_child(mode: str, folder: Path, cache: Path) -> dict:
    """Run `walk` in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--child", mode, str(folder), str(cache)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def child(mode: str, folder: Path, cache: Path) -> None:
    start = time.perf_counter()
    if mode == "speed":
        print(json.dumps({"speed": reading_speed(folder)}))
        return
    if mode == "metrics":
        from calib_harness.cli import app

        arguments = ["metrics", str(folder), "--cache", str(cache), "--jobs", "2"]
        app([*arguments, "--output", str(cache / "table.csv")], standalone_mode=False)
        n = len((cache / "table.csv").read_text().splitlines()) - 1
    else:
        n, _ = walk(folder, cache)
    seconds = time.perf_counter() - start
    cpu = time.process_time()
    print(json.dumps({"n": n, "seconds": seconds, "cpu": cpu, "peak_mb": peak_mb()}))


PARTS = ("make", "read", "again", "metrics", "tables")
_TABLE_BLOCK = 1_000_000


def reading(folder: Path, docs: list[dict], rng: np.random.Generator, against: Path | None) -> None:
    """Print the reading speed of each kind of log."""
    for kind in ("choice", "cloze", "stock"):
        writer = LogWriter(docs, kind=kind)
        size = sum(writer.write(folder / kind, f"org/m{i}", rng) for i in range(2))
        per_entry = size / 2 / len(docs) / len(writer.filters)
        speed = reading_speed(folder / kind)
        print(f"read {kind:7s} {speed:6.0f} MB/s per core ({per_entry:.0f} bytes per entry)")
        if against is not None:
            compare_trees(folder / kind, against)


def make(folder: Path, docs: list[dict], n_runs: int, few: int, rng: np.random.Generator) -> None:
    """Write the runs that are not there yet."""
    writer = LogWriter(docs, kind="choice")
    for i in range(n_runs):
        place, model = folder / "all" / ("few" if i < few else "rest"), f"org/model-{i:03d}"
        if not (place / model.replace("/", "__")).exists():
            writer.write(place, model, rng)


def report(label: str, mode: str, where: Path, cache: Path) -> None:
    done = in_child(mode, where, cache)
    print(
        f"{label:45s} {done['seconds']:7.2f} s ({done['cpu']:6.2f} s of CPU), "
        f"peak {done['peak_mb']:5.0f} MB, "
        f"{done['n']} rows",
        flush=True,
    )


def main(
    n_runs: int,
    n_questions: int,
    folder: Path,
    parts: list[str],
    *,
    n_rows: int,
    against: Path | None,
) -> None:
    rng = np.random.default_rng(0)
    docs = documents(n_questions, rng)
    few, cache, everything = max(n_runs // 10, 1), folder / "cache", folder / "all"
    print(f"{os.cpu_count()} cores; {n_runs} runs of {n_questions} four-choice questions")
    if "read" in parts:
        reading(folder, docs, rng, against)
    if "tables" in parts:
        for path in write_tables(folder, n_rows, rng):
            size = path.stat().st_size / 1e6
            report(f"{path.name}, {size:.0f} MB", "walk", path, cache)
    if {"make", "again", "metrics"} & set(parts):
        make(folder, docs, n_runs, few, rng)
    if {"again", "metrics"} & set(parts):
        for label, part in ((f"{few} runs", "few"), (f"the other {n_runs - few} runs", "rest")):
            report(f"first read, {label}", "walk", everything / part, cache)
    if "again" in parts:
        report(f"read again from Parquet, {few} runs", "walk", everything / "few", cache)
        report(f"read again from Parquet, {n_runs} runs", "walk", everything, cache)
    if "metrics" in parts:
        for number, where in ((few, everything / "few"), (n_runs, everything)):
            label = f"metrics table, {number} runs, 1,000 resamples"
            report(label, "metrics", where, cache)


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
        parser.add_argument("--runs", type=int, default=100)
        parser.add_argument("--questions", type=int, default=10_000)
        parser.add_argument("--rows", type=int, default=1_000_000, help="of each table")
        parser.add_argument("--against", type=Path, help="another tree, e.g. an older checkout")
        parser.add_argument("--folder", type=Path, help="keep logs and Parquet files here")
        parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
        arguments = parser.parse_args()
        kept = arguments.folder
        with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as name:
            main(
                arguments.runs,
                arguments.questions,
                Path(name),
                arguments.parts,
                n_rows=arguments.rows,
                against=arguments.against,
            )
