"""What a results file says of the environment is what torch says of it, without a run of pip."""

from __future__ import annotations

import subprocess
import sys

import pytest
from lm_eval.loggers.utils import add_env_info
from torch.utils import collect_env

from calib_harness.harness.environment import installed, no_pip_process


def test_installed_packages_are_those_that_pip_lists():
    command = [sys.executable, "-m", "pip", "list", "--format=freeze"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert installed().splitlines() == listed.splitlines()


def test_the_results_file_says_the_same_and_pip_is_not_started(monkeypatch):
    started = []
    run = collect_env.run
    monkeypatch.setattr(collect_env, "run", lambda command: started.append(command) or run(command))
    stock, ours = {}, {}
    add_env_info(stock)
    assert any("-mpip" in command for command in started)
    started.clear()
    with no_pip_process():
        add_env_info(ours)
    assert "[pip3] torch==" in ours["pretty_env_info"]
    assert _without_speeds(ours["pretty_env_info"]) == _without_speeds(stock["pretty_env_info"])
    assert started
    assert not any("-mpip" in command for command in started)


def test_torch_asks_pip_again_afterwards():
    before = collect_env.run_and_read_all
    with pytest.raises(ZeroDivisionError), no_pip_process():
        raise ZeroDivisionError
    assert collect_env.run_and_read_all is before


def _without_speeds(told: str) -> list[str]:
    """Leave out the clocks of the CPU, which change from one look to the next."""
    return [line for line in told.splitlines() if "MHz" not in line and "BogoMIPS" not in line]
