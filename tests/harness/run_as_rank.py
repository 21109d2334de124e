"""Evaluate tasks as one of several processes; the first writes what came of all of them.

    python -m torch.distributed.run --standalone --nproc_per_node 2 run_as_rank.py MODEL TASKS OUT

lm-eval shares questions among processes on GPUs only, so the ranks are set by hand here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, tasks: str, out: str) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=model, device="cpu", batch_size=4)
    lm._rank, lm._world_size = lm.accelerator.process_index, lm.accelerator.num_processes
    manager = TaskManager(include_path=tasks, include_defaults=False)
    names = sorted(manager.all_subtasks)
    output = simple_evaluate(model=lm, tasks=names, task_manager=manager, bootstrap_iters=0)
    if lm.rank == 0:
        kept = {"n_ranks": lm.world_size, **{key: output[key] for key in ("results", "samples")}}
        Path(out).write_text(json.dumps(kept, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
