"""The page of findings is what its script writes from the public logs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
PAGE = ROOT / "docs" / "background" / "findings.md"
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?")


@pytest.mark.skipif(
    not (SHARED / "logs" / "coane").exists(), reason="needs the logs of thirty models at ../shared"
)
def test_the_page_is_what_the_script_writes(tmp_path: Path) -> None:
    output = tmp_path / "findings.md"
    command = [sys.executable, str(ROOT / "examples" / "findings.py"), "--output", str(output)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    written, committed = output.read_text("utf-8"), PAGE.read_text("utf-8")
    assert _NUMBER.sub("#", written) == _NUMBER.sub("#", committed)
    numbers = [list(map(float, _NUMBER.findall(text))) for text in (written, committed)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.011)  # other versions round otherwise
