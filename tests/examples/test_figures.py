"""The example draws a figure and says what its numbers say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import calib_harness as ch
from calib_harness.predictions.samples import write_example_log

ROOT = Path(__file__).parents[2]


def test_figure_is_written_and_the_text_has_its_numbers(tmp_path: Path) -> None:
    for model, sharpness in (("m", 1.0), ("m-chat", 4.0)):
        write_example_log(tmp_path / "logs", model=model, task="toy", n=300, sharpness=sharpness)
    pairs, output = tmp_path / "pairs.csv", tmp_path / "new" / "figure.pdf"
    pairs.write_text("family,base,aligned\nM,m,m-chat\n")
    script = str(ROOT / "examples" / "figures.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path / "logs"), str(pairs), str(output)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    runs = {run.header.model: run for run in ch.load_predictions(tmp_path / "logs", cache=False)}
    chat = runs["m-chat"]
    assert output.read_bytes().startswith(b"%PDF")
    assert f"m-chat: ECE {ch.ece(chat.probs, chat.gold, n_bins=10):.3f} [" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("m-chat:"))
    assert "], more than a calibrated model would show" in line
    assert "1 of 1 pairs are worse calibrated after alignment" in done.stdout
