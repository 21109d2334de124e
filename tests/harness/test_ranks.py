"""Several processes, each with its share of the questions, give what one gives."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from tests.conftest import CHOICE, CLOZE, QUESTIONS

SCRIPT = Path(__file__).parent / "run_as_rank.py"


def scores(samples):
    return {
        (sample["doc_id"], sample["filter"]): [float(pair[0]) for pair in sample["filtered_resps"]]
        for sample in samples
    }


@pytest.mark.slow
@pytest.mark.skipif(
    transformers.__version__ < "4.57",
    reason="this transformers cannot load a model for the second of two processes on CPUs",
)
def test_two_processes_give_the_numbers_of_one(make_model, tokenizer, write_task, tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = tmp_path / "model"
    make_model("llama").save_pretrained(model)
    tokenizer.save_pretrained(model)
    # Shares of 12 and 11 questions; one that cannot be used, with the first process or the second.
    for name, yaml, bad in (("cloze", CLOZE, 4), ("letters", CHOICE, 7)):
        docs = [{**doc, "gold": 99} if i == bad else doc for i, doc in enumerate(QUESTIONS[:23])]
        folder = write_task(name, yaml, docs)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    one = simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", batch_size=4),
        tasks=["cloze", "letters"],
        task_manager=manager,
        bootstrap_iters=0,
    )

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, SCRIPT, model, folder, tmp_path / "out.json"],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "out.json").read_text())

    assert two["n_ranks"] == 2
    for name in ("cloze", "letters"):
        ours, expected = scores(two["samples"][name]), scores(one["samples"][name])
        assert ours.keys() == expected.keys()
        for key, values in expected.items():
            assert ours[key] == pytest.approx(values, abs=1e-4)  # other batches, other rounding
        assert two["results"][name].keys() == one["results"][name].keys()
        for key, value in one["results"][name].items():
            if isinstance(value, float) and not math.isnan(value):
                assert two["results"][name][key] == pytest.approx(value, abs=1e-5), key
    assert two["results"]["cloze"]["unusable,continuation-sum"] == 1
    assert two["results"]["letters"]["unusable,choice"] == 1
