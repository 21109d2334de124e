"""Half precision: how far shared prefixes and the plain path round apart.

    python benchmarks/half_precision.py --hub ../shared/hub

Scores 200 questions with real weights, in bfloat16 and float16, with shared prefixes and on the
plain path, and prints the largest difference of a sum, of a sum per token, of a single token and
of the sum of a one-token choice (nan where no choice is one token); how far the plain path itself
lies from float32; and the largest share of a run's bound (`harness/agreement.py`) that a sum, or
any token were it a choice of its own, takes up.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from pathlib import Path

# First, so that it sets the environment before anything imports datasets.
from scoring import record  # isort: skip

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from calib_harness.harness.backends.known_answer import distance
from calib_harness.harness.huggingface.double_check import tolerance
from calib_harness.harness.responses import TokenLogprobs

TOY_WORLD = Path(__file__).parent.parent / "examples" / "toy_world" / "models"
TOYS = ("base", "aligned")
COLUMNS = ("sum", "per token", "one token", "1-token sum", "plain-fp32", "of bound")


def score(lm: HFLM, requests: list[Instance], mode: str) -> list[TokenLogprobs]:
    os.environ["CALIB_HARNESS_SCORING"] = mode
    return lm.token_loglikelihood(requests)


def differences(
    shared: list[TokenLogprobs], plain: list[TokenLogprobs], exact: list[TokenLogprobs], dtype
) -> list[float]:
    """Return the largest differences, in the order of `COLUMNS`."""
    sums = [distance(a.logprob, b.logprob) for a, b in zip(shared, plain, strict=True)]
    counts = [len(result.token_logprobs) for result in plain]
    tokens = [
        distance(x, y)
        for a, b in zip(shared, plain, strict=True)
        for x, y in zip(a.token_logprobs, b.token_logprobs, strict=True)
    ]
    return [
        max(sums),
        max(total / n for total, n in zip(sums, counts, strict=True)),
        max(tokens),
        max((total for total, n in zip(sums, counts, strict=True) if n == 1), default=math.nan),
        max(distance(a.logprob, b.logprob) for a, b in zip(plain, exact, strict=True)),
        max(
            max(tokens) / tolerance(dtype, 1),
            *(total / tolerance(dtype, n) for total, n in zip(sums, counts, strict=True)),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", type=Path, default=Path("../shared/hub"))
    parser.add_argument("--questions", type=int, default=200)
    args = parser.parse_args()
    stories = args.hub.absolute().parent / "models" / "stories260K"
    for needed in (args.hub, stories):
        if not needed.is_dir():
            sys.exit(
                f"{needed} is not a folder; --hub must name ../shared/hub, or one laid out so."
            )
    os.chdir(args.hub)  # lm-eval loads a folder named like a Hub dataset in its place
    logging.disable(logging.WARNING)
    print(f"{'':39}" + "".join(f"{column:>13}" for column in COLUMNS))
    for folder, tasks in ((stories, "arc_easy"), *((TOY_WORLD / m, "toy_world") for m in TOYS)):
        for kind in ("cloze", "choice"):
            requests = record((f"{tasks}_calib_{kind}",), args.questions, 0)
            exact = score(load(folder, torch.float32), requests, "plain")
            for dtype in (torch.bfloat16, torch.float16):
                lm = load(folder, dtype)
                shared, plain = (score(lm, requests, mode) for mode in ("shared", "plain"))
                values = differences(shared, plain, exact, dtype)
                name = f"{folder.name} {tasks} {kind} {str(dtype).removeprefix('torch.')}"
                print(f"{name:39}" + "".join(f"{value:13.4f}" for value in values), flush=True)


def load(folder: Path, dtype: torch.dtype) -> HFLM:
    return HFLM(pretrained=str(folder), dtype=dtype, batch_size=16, device="cpu")


if __name__ == "__main__":
    main()
