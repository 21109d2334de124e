"""Scores in lm-eval's cache (`--use_cache`), each kept for the model that gave it.

lm-eval's own entries know the request only: one file used for two models hands the first one's
numbers to the second.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, hash_args

from calib_harness.harness.backends.dispatch import gives_tokens
from calib_harness.harness.backends.identity import describe, digest, knows_weights
from calib_harness.harness.responses import TokenLogprobs

logger = logging.getLogger(__name__)

REQUEST_TYPE = "token_loglikelihood"

# A table of its own: each row of lm-eval's is a request.
_MODELS_TABLE = "models"


class CachedScores:
    """The part of lm-eval's cache that holds our results for one model.

    Attributes
    ----------
    knows_weights : bool
        Whether entries of a model with other weights are surely told apart.
    """

    def __init__(self, lm: LM) -> None:
        self._lm = lm
        self._store: Any = lm.cache_hook.dbdict
        self._written: list[str] = []
        if self._store is None:
            return
        description = describe(lm)
        self._model = digest(description)
        self.knows_weights = knows_weights(description)
        self._others = self._note_model(description)

    def read(self, requests: Sequence[Instance]) -> list[TokenLogprobs | None]:
        """Return each request's cached result, None where there is none; count them once."""
        if self._store is None:
            return [None] * len(requests)
        found = [self._read_one(request) for request in requests]
        logger.info("Cached requests: %d of %d", sum(r is not None for r in found), len(found))
        missing = [
            request for request, result in zip(requests, found, strict=True) if result is None
        ]
        self._say_what_is_not_used(missing)
        return found

    def write(self, request: Instance, result: TokenLogprobs) -> None:
        """Keep one result."""
        if self._store is not None:
            self._lm.cache_hook.add_partial(REQUEST_TYPE, self._key(request.args), result)
            self._written.append(hash_args(REQUEST_TYPE, self._key(request.args)))

    def forget_written(self) -> None:
        """Take back what was written: it has turned out wrong."""
        for key in self._written:
            self._store.pop(key, None)
        self._written.clear()

    def forget(self, requests: Iterable[Instance]) -> None:
        """Take back what is cached of requests."""
        for request in requests:
            self._store.pop(hash_args(REQUEST_TYPE, self._key(request.args)), None)

    @contextmanager
    def redirected(self) -> Iterator[None]:
        """Have what a backend itself caches of `loglikelihood` written as ours, by model.

        So a run on a backend that is asked for all requests at once resumes too.
        """
        if self._store is None:
            yield
            return
        hook = self._lm.cache_hook
        self._lm.set_cache_hook(_Redirect(self, hook))
        try:
            yield
        finally:
            self._lm.set_cache_hook(hook)

    def _key(self, arguments: Iterable[Any]) -> tuple[Any, ...]:
        return (*arguments, self._model)

    def _read_one(self, request: Instance) -> TokenLogprobs | None:
        cached: Any = self._store.get(hash_args(REQUEST_TYPE, self._key(request.args)))
        return None if cached is None else TokenLogprobs(*cached)

    def _note_model(self, description: dict[str, str]) -> dict[str, dict[str, str]]:
        """Write this model beside the others that the cache holds; return those."""
        from sqlitedict import SqliteDict

        self._store.commit()
        with closing(
            SqliteDict(self._store.filename, tablename=_MODELS_TABLE, autocommit=True)
        ) as models:
            others = {key: value for key, value in models.items() if key != self._model}
            models[self._model] = description
        return others

    def _say_what_is_not_used(self, missing: Sequence[Instance]) -> None:
        """Count what the cache holds of requests that are scored all the same."""
        of_others: Counter[str] = Counter()
        nameless = sums = 0
        for request in missing:
            for other in self._others:
                arguments = (*request.args, other)
                of_others[other] += hash_args(REQUEST_TYPE, arguments) in self._store
            nameless += hash_args(REQUEST_TYPE, request.args) in self._store
            sums += hash_args("loglikelihood", request.args) in self._store
        for other, count in of_others.items():
            if count:
                logger.warning(
                    "The cache holds %d of these requests scored by another model (%s); they are "
                    "scored again.",
                    count,
                    self._difference(self._others[other]),
                )
        if nameless:
            logger.warning(
                "The cache holds %d of these requests without saying which model scored them "
                "(an earlier version wrote them); they are scored again.",
                nameless,
            )
        if sums:
            logger.warning(
                "The cache holds %d of these requests as sums only, written by lm-eval without %s; "
                "they are scored again.",
                sums,
                "token log-probabilities" if gives_tokens(self._lm) else "the model's name",
            )

    def _difference(self, other: dict[str, str]) -> str:
        own = describe(self._lm)
        names = [name for name in {**other, **own} if other.get(name) != own.get(name)]
        return ", ".join(f"{name}: {other.get(name)}, now {own.get(name)}" for name in names)


class _Redirect:
    """A cache hook that writes `loglikelihood` under a model's own key."""

    def __init__(self, cache: CachedScores, hook: Any) -> None:
        self._cache, self._hook = cache, hook
        self.dbdict = hook.dbdict

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        if attr == REQUEST_TYPE:
            self._hook.add_partial(attr, req, res)
        elif attr == "loglikelihood":
            logprob, is_greedy = res
            result = TokenLogprobs(float(logprob), bool(is_greedy), None)
            arguments = self._cache._key(req)
            self._hook.add_partial(REQUEST_TYPE, arguments, result)
            self._cache._written.append(hash_args(REQUEST_TYPE, arguments))
