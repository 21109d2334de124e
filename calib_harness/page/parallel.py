"""Work shared among processes: the same results, in the same order, whatever their number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from calib_harness.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_AT_ONCE = 16  # items handed to a process at a time: fewer messages
_ROUNDS = 8  # but each process gets that many times something to do, so that all end together
_MOST_PROCESSES = 61  # Windows waits for no more
_LARGE = 31 * 2**20  # bytes; glibc's limit is 32 MB


def in_order(
    work: Callable[[_Item], _Result], items: Sequence[_Item], n_jobs: int
) -> Iterator[_Result]:
    """Yield ``work(item)`` for each item, computed by `n_jobs` processes.

    Processes are started anew (never forked: libraries hold threads) and end with this one,
    which alone is told of Ctrl-C. An exception of `work` is raised here, and ends all work.

    Parameters
    ----------
    work : callable
        A function of a module, or a ``partial`` of one; its result may depend on the item only.
    items : sequence
    n_jobs : int
        With 1, everything is computed in this process.

    Raises
    ------
    UserError
        If a process ended without a result.
    """
    n_jobs = min(n_jobs, len(items), _MOST_PROCESSES)
    _keep_freed_blocks()  # what this process does later goes through arrays as well
    if n_jobs <= 1:
        with threadpool_limits(1, user_api="blas"):
            yield from map(work, items)
        return
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_jobs, mp_context=spawn, initializer=_begin, initargs=(work,))
    try:
        chunk = min(max(1, len(items) // (_ROUNDS * n_jobs)), _MOST_AT_ONCE)
        with _interrupts_blocked():
            found = pool.map(work, items, chunksize=chunk)
        yield from found
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process that shared the work ended without a result (was it killed, or out of "
                "memory? or called from a script without `if __name__ == '__main__':`?); with "
                "--jobs 1 (n_jobs=1) there is one process only."
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable[..., object]) -> None:
    """Prepare a process; receiving `work` has imported what it needs, whose threads are limited.

    One thread each: products that wait for one another's threads take three times the CPU time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, user_api="blas")
    _keep_freed_blocks()


def _keep_freed_blocks() -> None:
    """Tell glibc to keep the blocks of arrays, by having freed a large one once.

    Otherwise it gives each back to the system and asks for it again: that took as long as the work.
    """
    bytearray(_LARGE)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, not even before their first line."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
