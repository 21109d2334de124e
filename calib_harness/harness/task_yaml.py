"""What a calibration task's YAML and `--metadata` may say, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib_harness.core.metrics import METRICS
from calib_harness.core.options import DEFAULTS, check_options
from calib_harness.errors import UserError
from calib_harness.harness.filters import FILTERS
from calib_harness.text import did_you_mean

CLOZE_FILTERS = ("continuation-sum", "continuation-min")
CHOICE_FILTERS = ("choice",)
DEFAULT_METRICS = ("acc", "ece", "sce", "brier_score", "nll")
#: Metrics of a question's scores, not of its probabilities; only `choice_mass` so far.
SCORE_METRICS = ("choice_mass",)

# Keys of a metric_list entry that are lm-eval's; everything else is an option of the metric.
_LM_EVAL_KEYS = frozenset({"metric", "aggregation", "higher_is_better", "hf_evaluate"})


#: Options that `metadata` may hold, for every metric of the task that takes them.
SHARED_OPTIONS = ("n_bins", "binning")
_METADATA_KEYS = (*SHARED_OPTIONS, "fewshot_by")


@dataclass(frozen=True)
class MetricSpec:
    """One entry of a metric_list: a metric's name and its options."""

    name: str
    options: Mapping[str, Any]


def read_options(task: str, metadata: Any) -> dict[str, Any]:
    """Shared options that a task's metadata holds; lm-eval merges much else into it.

    Raises
    ------
    UserError
        If an option has a value it cannot have, or a name that is nearly an option's.
    """
    if not isinstance(metadata, Mapping):
        return {}
    for key in metadata:
        hint = did_you_mean(str(key), _METADATA_KEYS, cutoff=0.8)
        if hint and key not in _METADATA_KEYS:
            raise UserError(f"{task}: metadata holds {key!r}; {hint}")
    options = {key: metadata[key] for key in SHARED_OPTIONS if key in metadata}
    _check_values(f"{task}: metadata", options)
    return options


def _check_values(where: str, options: Mapping[str, Any]) -> None:
    try:
        check_options(**options)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def read_metric_list(
    task: str, metric_list: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> list[MetricSpec]:
    """Metric specifications from a YAML's metric_list, options filled in.

    Raises
    ------
    UserError
        If an entry is no mapping, a metric stands twice, or a metric, one of its options or
        an option's value is not known.
    """
    specs = []
    for entry in check_entries(task, "metric_list", metric_list, keys=("metric",)):
        name = str(entry.get("metric"))
        check_name(task, "metric", name, [*METRICS, *SCORE_METRICS])
        accepted = METRICS[name].options if name in METRICS else ()
        given = {key: value for key, value in entry.items() if key not in _LM_EVAL_KEYS}
        for key in given:
            check_name(task, f"option of metric '{name}'", key, accepted)
        _check_values(f"{task}: metric '{name}'", given)
        shared = {key: options.get(key, DEFAULTS[key]) for key in SHARED_OPTIONS if key in accepted}
        specs.append(MetricSpec(name, {**shared, **given}))
    _check_distinct(task, "metric_list", [spec.name for spec in specs])
    return specs


def check_filter_list(task: str, filter_list: Sequence[Mapping[str, Any]]) -> None:
    """Refuse filters that do not hand on a score per choice.

    Raises
    ------
    UserError
        If an entry is no mapping, a name stands twice, or a step of a filter is not one of ours.
    """
    for entry in check_entries(task, "filter_list", filter_list, keys=("name", "filter")):
        where = f"filter of '{entry['name']}'"
        for step in check_entries(task, where, entry["filter"], keys=("function",)):
            check_name(task, where, step["function"], FILTERS)
    _check_distinct(task, "filter_list", [entry["name"] for entry in filter_list])


def _check_distinct(task: str, what: str, names: Sequence[str]) -> None:
    """Refuse a name that stands twice: results are kept by name, so one would be lost."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{task}: {what} holds {name!r} {names.count(name)} times, expected once; "
                "leave out all but one, or make a second task"
            )


def check_entries(
    task: str, what: str, entries: Any, *, keys: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """Return `entries` if it is a list of mappings that have `keys`, else raise a UserError."""
    expected = ", ".join(f"{key}: …" for key in keys)
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise UserError(f"{task}: {what} is {entries!r}; expected a list of entries `{expected}`")
    for entry in entries:
        if not isinstance(entry, Mapping) or any(key not in entry for key in keys):
            raise UserError(f"{task}: {what} holds {entry!r}; expected an entry `{expected}`")
    return entries


def check_name(task: str, what: str, name: Any, known: Iterable[str]) -> None:
    """Raise a UserError that names the nearest valid name if `name` is not in `known`."""
    valid = sorted(known)
    if name in valid:
        return
    hint = did_you_mean(str(name), valid)
    raise UserError(
        f"{task}: unknown {what} {name!r}; {hint}{' ' if hint else ''}"
        f"known: {', '.join(valid) or 'none'}"
    )
