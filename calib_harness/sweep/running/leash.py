"""Start a program that dies with its parent: ``python leash.py PARENT_PID HOW PROGRAM ARGUMENTS``.

HOW is ``alone``, or ``group`` for a program that starts others: this process then stays, and ends
its whole group if the parent dies. vLLM's engine outlives its server, and keeps the GPU's memory.

Run by path, without the package, to start in milliseconds. Where the system has no way to tie a
process to its parent (Linux has), the program is started all the same: the lock that it inherits
then keeps a second sweep away until it has ended.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_GRACE = 10


def main() -> None:
    """Tie this process to its parent, then become the program, or stay and watch over it."""
    parent, how, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    watches = how == "group"
    if watches:
        signal.signal(signal.SIGTERM, lambda number, frame: _end_group(parent))
    if sys.platform == "linux":
        last = signal.SIGTERM if watches else signal.SIGKILL
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, last)
        if os.getppid() != parent:
            sys.exit("the sweep ended before this run began")
    if watches and (child := os.fork()):
        _, status = os.waitpid(child, 0)
        sys.exit(abs(os.waitstatus_to_exitcode(status)))
    os.execvp(program[0], program)


def _end_group(parent: int) -> None:
    """Ask the group to end, and insist after a while; a parent that lives does so itself."""
    if os.getppid() != parent:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda number, frame: os.killpg(0, signal.SIGKILL))
        signal.alarm(_GRACE)


if __name__ == "__main__":
    main()
