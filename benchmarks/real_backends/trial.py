"""Runs of one machine: where they write, what they are compared with, and what they printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from calib_harness.harness.backends.known_answer import distance
from calib_harness.paths import toy_world_path
from calib_harness.sweep.planning.secrets import Redactor
from calib_harness.sweep.running.model_server import serving
from calib_harness.sweep.running.process import OutputLog, Stop, signal_group

ROOT = Path(__file__).resolve().parents[2]
CLOZE, LETTERS, TOY = "arc_easy_calib_cloze", "arc_easy_calib_choice", "toy_world_calib"
TASKS = {"tiny": f"{CLOZE},{LETTERS}", "toy": TOY}
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

Requests = dict[tuple[str, int, int], tuple[float, list[float]]]
Values = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Ended:
    """A run that ended: its status (negative: the signal), and what it printed."""

    status: int
    printed: str

    @property
    def last_words(self) -> str:
        """The sentence that ended it, or the last line of another end."""
        lines = [line.strip() for line in self.printed.splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("calib-harness:")]
        return (ours or lines or ["nothing was printed"])[-1]

    @property
    def why(self) -> str:
        """What it said last, if it did not end well."""
        return "" if self.status == 0 else f"; {self.last_words[:300]}"

    def count(self, words: str) -> int:
        """How often it printed these words."""
        return self.printed.count(words)


class Trial:
    """The models and runs of one machine; each run's logs lie in a folder of its name."""

    def __init__(self, shared: Path, work: Path, questions: int) -> None:
        self.shared, self.work, self.questions = shared, work, questions
        toy = Path(toy_world_path()) / "models" / "base"
        self.models = {"tiny": work / "tiny", "bos": work / "tiny-bos", "toy": toy}
        os.environ.update(QUIET, HF_HOME=str(work / "hf-home"), PYTHONPATH=str(ROOT))
        work.mkdir(parents=True, exist_ok=True)

    def make_tiny(self) -> None:
        """Write a Llama of random weights, large enough for vLLM's kernels, and one with BOS."""
        import torch
        from tokenizers.processors import TemplateProcessing
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
        model = LlamaForCausalLM(config).float()
        tokenizer = AutoTokenizer.from_pretrained(self.shared / "tokenizers" / "gpt2")
        bos = tokenizer.bos_token
        for name in ("tiny", "bos"):
            model.save_pretrained(self.models[name])
            tokenizer.save_pretrained(self.models[name])
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
            )

    def run(
        self,
        name: str,
        backend: str,
        arguments: str,
        tasks: str,
        *extra: str,
        python: Path | None = None,
        questions: int | None = None,
        kill_when: Callable[[], bool] | None = None,
    ) -> Ended:
        """Run lm-eval with the plugin: in a fork, which has imported it, or by another Python.

        Parameters
        ----------
        kill_when
            Asked until it is true; the run is then killed.
        """
        out = self.work / name
        shutil.rmtree(out, ignore_errors=True)
        argv = ["run", "--model", backend, "--model_args", arguments, "--tasks", tasks]
        argv += ["--output_path", str(out), "--log_samples"]
        argv += ["--limit", str(questions or self.questions), *extra]
        log = self.work / f"{name}.log"
        if python is None:
            status = self._forked(argv, log, kill_when)
        else:
            command = [str(python), "-W", "ignore", "-m", "calib_harness", *argv]
            environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
            with log.open("wb") as output:
                status = subprocess.run(
                    command,
                    cwd=self.shared / "hub",
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                ).returncode
        return Ended(status, log.read_text(errors="replace"))

    def _forked(self, argv: list[str], log: Path, kill_when: Callable[[], bool] | None) -> int:
        import lm_eval.models.openai_completions  # noqa: F401 once for all forks

        from calib_harness.cli import main

        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            with log.open("wb") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            os.chdir(self.shared / "hub")
            sys.argv = ["calib-harness", *argv]
            os._exit(_status_of(main))
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if kill_when is not None and kill_when():
                os.kill(child, signal.SIGKILL)
                kill_when = None
            time.sleep(0.05)

    @contextmanager
    def serve(self, name: str, command: str, **more: str) -> Iterator[str]:
        """Start a server for the length of the block; yield its address."""
        environment = {**os.environ, **more}
        del environment["PYTHONPATH"]
        log = OutputLog(self.work / f"{name}.server.log", Redactor(environment), _ignore)
        with serving(
            command, log=log, environment=environment, working_dir=self.work, stop=Stop()
        ) as address:
            yield address

    def kill_servers(self) -> None:
        """Kill every server that was started here, and all of its processes, by signal 9."""
        for group in server_groups():
            signal_group(group, signal.SIGKILL)

    def compare(self, name: str, reference: str) -> str:
        """Say by how much a run differs from the reference, where it has results."""
        ours, values = read_run(self.work / name)
        theirs, expected = read_run(self.work / reference)
        if not ours:
            return "no numbers came out"
        sums = tokens = least = 0.0
        with_tokens = False
        for key, (total, parts) in ours.items():
            sums = max(sums, distance(total, theirs[key][0]))
            if parts:
                with_tokens = True
                pairs = list(zip(parts, theirs[key][1], strict=True))
                tokens = max(tokens, *(distance(a, b) for a, b in pairs))
                least = max(least, distance(min(parts), min(theirs[key][1])))
        both = values.keys() & expected.keys()
        common = [key for key in both if not isnan(values[key])]
        lost = sum(isnan(values[key]) and not isnan(expected[key]) for key in both)
        differ = sum(_printed(values[key]) != _printed(expected[key]) for key in common)
        of_tokens = (
            f"tokens by {tokens:.1e}, least tokens by {least:.1e}" if with_tokens else "no tokens"
        )
        return (
            f"{len(ours)} requests; sums differ by {sums:.1e}, {of_tokens}; "
            f"{differ} of {len(common)} printed values differ"
            + (f", {lost} more are NaN" if lost else "")
        )


def server_groups() -> list[int]:
    """Return the process groups that children of this process lead: the servers."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for each in children for pid in each.read_text().split()]
    return [pid for pid in pids if os.getpgid(pid) == pid]


def read_run(folder: Path) -> tuple[Requests, Values]:
    """Read every request's sum and tokens, and every printed value, of one run."""
    requests: Requests = {}
    values: Values = {}
    for path in folder.rglob("samples_*.jsonl"):
        task = path.name.removeprefix("samples_").partition("_20")[0]
        for entry in read_samples(path):
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


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a sample log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(what: str, said: str) -> None:
    """Print one line of the trial."""
    print(f"{what:34} {said}", flush=True)


def _printed(value: float) -> str:
    return f"{value:.4f}"  # as lm-eval's table has it


def _status_of(main: Callable[[], None]) -> int:
    """Run a command line; return the status that its process would end with."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _ignore(line: str) -> None:
    """Do nothing: what a server prints is in its log."""
