"""Cost of standard errors: three methods, five metrics, 10,000 four-choice questions.

Run with `python benchmarks/stderr.py`. Prints seconds of

- the vectorised bootstrap as lm-eval asks for it: one call per method and metric, one seed;
- the same numbers from a loop that makes one resample at a time and evaluates one metric on
  it, as lm-eval's own bootstrap does (here on arrays, which is already faster than its lists);
- every metric of the table by itself.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from calib_harness import METRICS, bootstrap, softmax_scores
from calib_harness.core.checks import FloatArray, IntArray

REPORTED = ("acc", "ece", "sce", "brier_score", "nll")
METHODS = ("continuation-sum", "continuation-min", "choice")
SEED = 1234


def questions(n: int, method: int) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng([SEED, method])
    probs = softmax_scores(rng.normal(scale=1 + method, size=(n, 4)))
    return probs, rng.integers(4, size=n)


def loop(name: str, probs: FloatArray, gold: IntArray, n_resamples: int) -> float:
    rng = np.random.default_rng(SEED)
    function = METRICS[name].function
    draws = [
        function(probs[rows], gold[rows])
        for rows in (rng.integers(len(gold), size=len(gold)) for _ in range(n_resamples))
    ]
    return float(np.std(draws, ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--no-loop", action="store_true", help="leave the slow loop out")
    args = parser.parse_args()
    data = [questions(args.questions, i) for i in range(len(METHODS))]
    bootstrap(REPORTED, *questions(100, 0), n_resamples=10, rng=0)  # load what is loaded once

    start = time.perf_counter()
    found = [
        {
            name: bootstrap([name], *table, n_resamples=args.resamples, rng=SEED)[name]
            for name in REPORTED
        }
        for table in data
    ]
    vectorised = time.perf_counter() - start
    size = f"{len(METHODS)} methods x {len(REPORTED)} metrics, {args.questions} questions, "
    print(f"{size}{args.resamples} resamples")
    print(f"  vectorised bootstrap        {vectorised:8.2f} s")

    if not args.no_loop:
        start = time.perf_counter()
        looped = [[loop(name, *table, args.resamples) for name in REPORTED] for table in data]
        slow = time.perf_counter() - start
        print(f"  one resample at a time      {slow:8.2f} s   ratio {slow / vectorised:.1f}")
        apart = [
            abs(np.log(estimates[name].stderr / value))
            for estimates, values in zip(found, looped, strict=True)
            for name, value in zip(REPORTED, values, strict=True)
        ]
        print(f"  largest relative difference, same draws: {np.expm1(np.max(apart)):.1e}")

    print(f"each metric alone, one method, {args.questions} questions, counts drawn anew")
    for name in METRICS:
        start = time.perf_counter()
        bootstrap([name], *data[0], n_resamples=args.resamples, rng=np.random.default_rng(SEED))
        print(f"  {name:27s} {time.perf_counter() - start:8.2f} s")
    for name, binning in (("ece", "equal_mass"), ("sce", "equal_mass")):
        start = time.perf_counter()
        rng = np.random.default_rng(SEED)
        bootstrap([name], *data[0], n_resamples=args.resamples, rng=rng, binning=binning)
        print(f"  {name + ', ' + binning:27s} {time.perf_counter() - start:8.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the whole process: {peak:.0f} MB")


if __name__ == "__main__":
    main()
