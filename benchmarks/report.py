"""How long the page of a large sweep takes to make and to open, and how large it is.

    python benchmarks/report.py [--models 100] [--tasks 20] [--questions 1000]

Makes runs of imaginary models (seeded; half of them base, half aligned), three methods each, as
read logs in a Parquet cache, then prints: the time that `calib-harness report` takes from there
with its default options, its peak memory, the size of the page, and, with Playwright and a
Chromium, the time from opening the file with the network off until its table stands.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from calib_harness.predictions.headers import Log
from calib_harness.predictions.kept import Store
from calib_harness.predictions.load import find_logs
from calib_harness.predictions.table import LogContents, Predictions

DATE = "2025-01-01T00-00-00.000000"
METHODS = ("continuation-sum", "continuation-min", "choice")


def write_stubs(folder: Path, n_models: int, n_tasks: int) -> list[tuple[str, str, str]]:
    """Write what tells which runs there are; returns the pairs."""
    names = [f"org/model-{i // 2:03d}{'-chat' if i % 2 else ''}" for i in range(n_models)]
    tasks = [f"task_{k:02d}" for k in range(n_tasks)]
    for name in names:
        run = folder / name.replace("/", "__")
        run.mkdir(parents=True)
        results = {
            "results": {task: {} for task in tasks},
            "configs": {
                task: {"target_delimiter": " ", "doc_to_text": "{{question}}"} for task in tasks
            },
            "versions": dict.fromkeys(tasks, 1.0),
            "n-shot": dict.fromkeys(tasks, 0),
            "config": {"model_args": {"pretrained": name}},
            "model_name": name,
            "chat_template": None,
            "lm_eval_version": "0.4.13",
        }
        (run / f"results_{DATE}.json").write_text(json.dumps(results))
        for task in tasks:
            (run / f"samples_{task}_{DATE}.jsonl").write_text("{}\n")
    return [
        (f"family-{i % 7}", base, aligned)
        for i, (base, aligned) in enumerate(zip(names[::2], names[1::2], strict=False))
    ]


def fill_cache(folder: Path, cache: Path, n_questions: int) -> None:
    """Put imaginary scores where the reader keeps what it has read."""
    store = Store(cache)
    rng = np.random.default_rng(0)
    doc_id = np.arange(n_questions)
    hashes = {}
    golds = {}

    def imagined(log: Log) -> LogContents:
        task = log.header.task
        if task not in golds:
            golds[task] = rng.integers(4, size=n_questions)
            hashes[task] = np.array([f"{task}-{i}" for i in doc_id], dtype=object)
        ability, sharpness = rng.uniform(0.3, 2.0), rng.uniform(0.7, 2.0)
        if "chat" in log.header.model:
            sharpness *= 1.6
        runs = []
        for method in METHODS:
            logits = rng.normal(size=(n_questions, 4))
            logits[doc_id, golds[task]] += ability
            header = replace(log.header, method=method)
            runs.append(
                Predictions(header, sharpness * logits - 5.0, golds[task], doc_id, hashes[task])
            )
        return LogContents(log.header, tuple(runs), {}, ())

    for log in find_logs(folder, cache=False).logs:
        store.get(log, imagined)


def make_page(folder: Path, cache: Path, pairs: Path, page: Path) -> dict[str, float]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "calib_harness", "report", str(folder)]
    command += ["--pairs", str(pairs), "--cache", str(cache), "-o", str(page)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return {
        "seconds": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
        "size_mb": page.stat().st_size / 1e6,
    }


def open_page(page: Path) -> list[tuple[str, float]]:
    """Open the page in Chromium, network off; seconds until each thing stands."""
    from playwright.sync_api import sync_playwright

    from tests.page.browser import ARGUMENTS, find_chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.goto("about:blank")
        marks = []
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("#leaderboard-table .tabulator-row")
        marks.append(("leaderboard stands", time.perf_counter() - start))
        start = time.perf_counter()
        tab.evaluate("location.hash = '#/model?model=org/model-000-chat'")
        tab.wait_for_selector("#reliability .main-svg")
        marks.append(("model and its first diagram", time.perf_counter() - start))
        start = time.perf_counter()
        tab.evaluate("location.hash = '#/compare'")
        tab.wait_for_selector("#risk .main-svg")  # the last of them without a chain
        marks.append(("all charts of the comparison", time.perf_counter() - start))
        browser.close()
    return marks


def main(n_models: int, n_tasks: int, n_questions: int, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, cache, page = Path(name) / "logs", Path(name) / "cache", Path(name) / "page.html"
        pairs = write_stubs(folder, n_models, n_tasks)
        table = "\n".join(["family,base,aligned", *map(",".join, pairs)])
        (Path(name) / "pairs.csv").write_text(table)
        fill_cache(folder, cache, n_questions)
        print(
            f"{os.cpu_count()} cores; {n_models} models x {n_tasks} tasks x {len(METHODS)} "
            f"methods, {n_questions} four-choice questions each, {len(pairs)} pairs"
        )
        done = make_page(folder, cache, Path(name) / "pairs.csv", page)
        print(
            f"made in {done['seconds']:.1f} s ({done['cpu']:.1f} s of CPU), peak "
            f"{done['peak_mb']:.0f} MB; {done['size_mb']:.2f} MB"
        )
        if keep is not None:
            keep.write_bytes(page.read_bytes())
        for what, seconds in open_page(page):
            print(f"{what}: {seconds:.2f} s")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="Copy the page here.")
    arguments = parser.parse_args()
    main(arguments.models, arguments.tasks, arguments.questions, arguments.keep)
