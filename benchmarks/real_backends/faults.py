"""What faults between lm-eval and a server cost: what is printed, lost, scored twice, and wrong."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agreement import completions_arguments  # isort: skip
from faulty_proxy import CACHED, digest  # isort: skip
from trial import CLOZE, LETTERS, Ended, Trial, read_samples, report  # isort: skip

from calib_harness.sweep.running.model_server import free_port

BACKENDS = {"local-completions": "vllm serve", "sums-only": "fallback"}
FAULTS = (
    *("drop_echo", "bos", "null", "null 40", "forget", "every500 7"),
    *("half 20", "hang 50", "slow 2", "die 50", "restart 50"),
)
_QUESTIONS = 20
_TASKS = f"{CLOZE},{LETTERS}"
_REFERENCE = "hf-faults"


def try_faults(trial: Trial, address: str, restart: Callable[[], str]) -> None:
    """Put each fault between us and a served vLLM, and between lm-eval's own way and it.

    Parameters
    ----------
    restart
        Kills the server with -9, starts it again, and returns its address.
    """
    import sums_only  # noqa: F401 registers the stand-in

    reference = f"pretrained={trial.models['tiny']},dtype=float32"
    trial.run(_REFERENCE, "hf", reference, _TASKS, questions=_QUESTIONS)
    asked = _digests(trial)
    for backend in BACKENDS:
        for fault in FAULTS:
            _try_fault(trial, address, backend, fault, asked)
        _try_wrong_model(trial, address, backend)
        _try_killed_run(trial, address, backend, asked)
    _try_killed_server(trial, address, restart, asked)


def _try_fault(trial: Trial, address: str, backend: str, fault: str, asked: frozenset[str]) -> None:
    case = _Case(trial, backend, fault)
    with case.proxy(address, *fault.split()) as through:
        ended = case.run(through)
    case.report(fault, ended)
    if ended.status and fault.startswith(("die", "restart")):
        _go_on(case, address, "the same command again", asked)
    elif not ended.status:
        report("", case.scored_twice(asked))


def _try_wrong_model(trial: Trial, address: str, backend: str) -> None:
    case = _Case(trial, backend, "wrong-model")
    arguments = completions_arguments(trial, address).replace("model=", "model=absent-", 1)
    arguments += f",tokenizer={trial.models['tiny']}"
    case.report("a wrong model's name", case.run(address, arguments))


def _try_killed_run(trial: Trial, address: str, backend: str, asked: frozenset[str]) -> None:
    case = _Case(trial, backend, "killed-run")
    with case.proxy(address, "pass") as through:
        ended = case.run(through, kill_when=lambda: len(case.scored()) >= 50)
    case.report("the run is killed after 50", ended)
    _go_on(case, address, "the same command again", asked)


def _try_killed_server(
    trial: Trial, address: str, restart: Callable[[], str], asked: frozenset[str]
) -> None:
    case = _Case(trial, "local-completions", "killed-server")
    later: list[str] = []

    def kill() -> bool:
        if not later and len(case.scored()) >= 50:
            later.append(restart())
        return False

    with case.proxy(address, "pass") as through:
        ended = case.run(through, kill_when=kill)
    case.report("the server is killed by -9", ended)
    if later:
        _go_on(case, later[0], "it is started, the same again", asked)


def _go_on(case: _Case, address: str, title: str, asked: frozenset[str]) -> None:
    with case.proxy(address, "pass") as through:
        ended = case.run(through)
    kept = ended.printed.partition("Cached requests: ")[2].splitlines()[:1]
    case.report(f"  {title}", ended)
    report("", f"kept: {kept[0] if kept else 'nothing'}; {case.scored_twice(asked)}")


class _Case:
    """One fault on one backend: its cache, the proxy's record, its lines of the report."""

    def __init__(self, trial: Trial, backend: str, fault: str) -> None:
        self._trial, self._backend = trial, backend
        self._name = f"fault-{backend}-{fault.replace(' ', '-')}"
        self._cache = trial.work / f"{self._name}.cache"
        self._record = trial.work / f"{self._name}.record"
        for old in trial.work.glob(f"{self._name}.*"):
            old.unlink()

    @contextmanager
    def proxy(self, address: str, *mode: str) -> Iterator[str]:
        """Run the proxy for the length of the block; yield its address."""
        port = free_port()
        program = Path(__file__).with_name("faulty_proxy.py")
        argv = [sys.executable, str(program), str(port), address, str(self._record), *mode]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.kill()

    def run(
        self,
        address: str,
        arguments: str | None = None,
        kill_when: Callable[[], bool] | None = None,
    ) -> Ended:
        """Run through an address; waits for a proxy that is just starting, as for any server."""
        arguments = arguments or completions_arguments(self._trial, address)
        arguments = arguments.replace("timeout=120", "timeout=20") + ",max_retries=6"
        return self._trial.run(
            self._name,
            self._backend,
            arguments,
            _TASKS,
            f"--use_cache={self._cache}",
            questions=_QUESTIONS,
            kill_when=kill_when,
        )

    def scored(self) -> list[str]:
        """Return what the server has scored so far."""
        return self._record.read_text().split() if self._record.exists() else []

    def scored_twice(self, asked: frozenset[str]) -> str:
        """Say how many of the task's requests the server scored more than once."""
        counts = Counter(name for name in self.scored() if name in asked)
        return f"scored twice: {sum(counts.values()) - len(counts)} of {len(counts)} requests"

    def report(self, title: str, ended: Ended) -> None:
        """Say how a run ended, what it printed, and what numbers came out."""
        printed = (
            f"{ended.count('trying again') + ended.count('Retry')} × trying again, "
            f"{ended.count('Traceback')} tracebacks"
        )
        said = self._trial.compare(self._name, _REFERENCE)
        report(
            f"{BACKENDS[self._backend]}: {title}",
            f"status {ended.status}; {said}; {printed}{ended.why}",
        )


def _digests(trial: Trial) -> frozenset[str]:
    """Name all requests of the tasks as the proxy's record does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trial.models["tiny"])
    found = set()
    for path in (trial.work / _REFERENCE).rglob("samples_*.jsonl"):
        for entry in read_samples(path):
            pairs = [tuple(pair.values()) for pair in entry["arguments"].values()]
            whole = [tokenizer(context + choice).input_ids for context, choice in pairs]
            found |= {digest(tokens, way) for tokens in whole for way in (None, CACHED)}
            named = sorted({tokens[-1] for tokens in whole})
            found.add(digest(whole[0][:-1], named))
    return frozenset(found)
