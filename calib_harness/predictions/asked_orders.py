"""Logs of tasks with `orders`: every question under several orders of its choices."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from calib_harness.core.checks import FloatArray, IntArray
from calib_harness.errors import UserError
from calib_harness.predictions.headers import Log
from calib_harness.predictions.load import PredictionStream
from calib_harness.predictions.records import read_records
from calib_harness.predictions.table import Header

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AskedOrders:
    """One run × task whose questions were asked under several orders of their choices.

    Attributes
    ----------
    header : Header
        What was run.
    logprobs : list of n ndarrays, shape (R_i, K_i)
        Log-probability of each letter under each order, the order given first.
    shown : list of n ndarrays of int, shape (R_i, K_i)
        Which choice stood behind each letter.
    gold : ndarray of int, shape (n,)
        Index of the right choice in the order given.
    n_left_out : int
        Questions without gold, or with a letter that could not be scored.
    """

    header: Header
    logprobs: list[FloatArray]
    shown: list[IntArray]
    gold: IntArray
    n_left_out: int


class _Facts(msgspec.Struct, gc=False):
    gold: int | None = None
    orders: list[list[int]] | None = None


class _Asked(msgspec.Struct, gc=False):
    doc_id: int
    filter: str
    resps: msgspec.Raw
    calib_harness: _Facts | None = None


_ASKED = msgspec.json.Decoder(_Asked)
_RESPONSES = msgspec.json.Decoder(list[list[list[msgspec.Raw]]])
_TOKENS = msgspec.json.Decoder(list[float], strict=False)
_SUM = msgspec.json.Decoder(float, strict=False)


def read_orders(stream: PredictionStream) -> Iterator[AskedOrders]:
    """Yield what logs hold of questions under several orders; other logs are passed over.

    Raises
    ------
    UserError
        If no log holds any.
    """
    found = False
    for log in stream.find().logs:
        asked = _read_log(log)
        if asked is not None:
            found = True
            yield asked
    if not found:
        raise UserError(
            "no log holds questions under several orders of their choices; score a lettered task "
            'with --metadata \'{"orders": "cyclic"}\' --log_samples'
        )


def _read_log(log: Log) -> AskedOrders | None:
    logprobs: list[FloatArray] = []
    shown: list[IntArray] = []
    gold: list[int] = []
    first_filter, n_left_out = None, 0
    unread: list[str | None] = []
    with log.file.open() as stream:
        for record in read_records(stream):
            try:
                asked = _ASKED.decode(record.data)
            except msgspec.DecodeError:
                unread.append(_filter_of(record.data))
                continue
            facts = asked.calib_harness
            if facts is None or facts.orders is None or len(facts.orders) < 2:
                if not gold and not n_left_out:
                    return None
                continue
            first_filter = first_filter or asked.filter
            if asked.filter != first_filter:
                continue
            table = _table(asked.resps, len(facts.orders), len(facts.orders[0]))
            if facts.gold is None or table is None:
                n_left_out += 1
                continue
            logprobs.append(table)
            shown.append(np.asarray(facts.orders, dtype=np.int64))
            gold.append(facts.gold)
    if not gold:
        return None
    # A question has a line for each filter and counts once; of a broken line that is not known.
    n_left_out += unread.count(first_filter)
    if None in unread:
        logger.warning(
            "%s: %d lines cannot be read and are left out", log.file.path, unread.count(None)
        )
    return AskedOrders(log.header, logprobs, shown, np.asarray(gold), n_left_out)


def _filter_of(data: bytes) -> str | None:
    """Return the filter of a line that holds a bare NaN, which is no JSON; None if it is broken."""
    try:
        return str(json.loads(data)["filter"])
    except (ValueError, KeyError, TypeError):
        return None


def _table(resps: msgspec.Raw, n_orders: int, n_choices: int) -> FloatArray | None:
    """Return sums of log-probabilities, (R, K); None if one is NaN, or an order has none finite."""
    try:
        responses = [answers[0] for answers in _RESPONSES.decode(resps)]
        values = np.array([_total(response) for response in responses[: n_orders * n_choices]])
    except (msgspec.DecodeError, IndexError):
        return None
    if len(values) < n_orders * n_choices or np.isnan(values).any():
        return None
    table: FloatArray = values.reshape(n_orders, n_choices)
    return table if np.isfinite(table).any(axis=1).all() else None


def _total(response: list[msgspec.Raw]) -> float:
    """Add up the tokens, as filters do; the backend's own sum where it gives no tokens."""
    if len(response) > 2:
        try:
            return math.fsum(_TOKENS.decode(response[2]))
        except msgspec.DecodeError:
            pass
    return _SUM.decode(response[0])
