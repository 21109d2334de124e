"""Importing the package must stay cheap: no torch, no lm-eval."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "lm_eval", "transformers", "datasets")
CHECK = (
    "import sys; {body}; loaded = [m for m in {heavy} if m in sys.modules]; "
    "sys.exit(', '.join(loaded))"
)


def loaded_by(body: str) -> str:
    code = CHECK.format(body=body, heavy=HEAVY)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return process.stderr.strip()


@pytest.mark.parametrize(
    "body",
    [
        "import calib_harness",
        "import calib_harness as c; c.ece([[0.4, 0.6]], [1]); c.METRICS; c.task_path()",
        "import calib_harness.cli",
    ],
)
def test_importing_loads_neither_torch_nor_lm_eval(body):
    assert loaded_by(body) == ""


def test_the_check_itself_notices_a_heavy_import():
    assert "lm_eval" in loaded_by("import calib_harness; calib_harness.CalibrationTask")
