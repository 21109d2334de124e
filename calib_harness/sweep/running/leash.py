"""Start a program that dies with its parent: ``python leash.py PARENT_PID PROGRAM ARGUMENTS...``.

Run by path, without the package, to start in milliseconds. Where the system has no way to tie a
process to its parent (Linux has), the program is started all the same: the lock that it inherits
then keeps a second sweep away until it has ended.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the sweep ended before this run began")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
