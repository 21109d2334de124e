"""Start a sweep with the stand-in for lm-eval, as a process that a test can kill."""

import sys
from pathlib import Path

from calib_harness.sweep.commands import run_sweep

if __name__ == "__main__":
    launcher = [sys.executable, str(Path(__file__).with_name("fake_run.py"))]
    sys.exit(run_sweep(sys.argv[1], executor=sys.argv[2], launcher=launcher))
