"""What a calibration task's YAML and `--metadata` may say, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.registry import metric_registry

from calib_harness.core.metrics import METRICS
from calib_harness.core.options import DEFAULTS, check_options
from calib_harness.errors import UserError
from calib_harness.harness.choice_orders import check_orders
from calib_harness.harness.filters import FILTERS, is_method_filter
from calib_harness.harness.stock_metrics import STOCK_METRICS
from calib_harness.text import did_you_mean

CLOZE_FILTERS = ("continuation-sum", "continuation-min")
CHOICE_FILTERS = ("choice",)
#: Beside `choice` where choices are shown in several orders; the last needs balanced ones.
ORDER_FILTERS = ("choice-permuted", "choice-prior-free")
DEFAULT_METRICS = ("acc", "ece", "sce", "brier_score", "nll")
#: Metrics of a question's scores, not of its probabilities; only `choice_mass` so far.
SCORE_METRICS = ("choice_mass",)

# Keys of a metric_list entry that are lm-eval's; everything else is an option of the metric.
# Those that begin with "ignore" are for generated texts; some stock tasks say them of `acc`, too.
_LM_EVAL_KEYS = frozenset(
    {
        *("metric", "aggregation", "higher_is_better", "hf_evaluate"),
        *("ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore"),
        "weight_by_size",  # of groups; AfroBench says it of tasks
    }
)


#: Options that `metadata` may hold, for every metric of the task that takes them.
SHARED_OPTIONS = ("n_bins", "binning")
_METADATA_KEYS = (*SHARED_OPTIONS, "fewshot_by", "prompt", "orders", "neutral_context")


@dataclass(frozen=True)
class MetricSpec:
    """One entry of a metric_list.

    Attributes
    ----------
    name : str
        The metric's name.
    options : mapping
        Its options, by name.
    aggregation : str or callable, optional
        How lm-eval's own metric is aggregated, where the YAML says.
    """

    name: str
    options: Mapping[str, Any]
    aggregation: Any = None


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
    if metadata.get("orders") is not None:
        check_orders(f"{task}: metadata", metadata["orders"])
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

    Metrics of lm-eval's that say nothing of a question's choices are left out; `not_kept` names
    them.

    Raises
    ------
    UserError
        If an entry is no mapping, a metric stands twice, or a metric, one of its options or
        an option's value is not known.
    """
    entries = check_entries(task, "metric_list", metric_list, keys=("metric",))
    names = [_metric_name(entry["metric"]) for entry in entries]
    _check_distinct(task, "metric_list", names)
    specs = []
    for name, entry in zip(names, entries, strict=True):
        if name in STOCK_METRICS:
            specs.append(MetricSpec(name, {}, entry.get("aggregation")))
        elif not _is_foreign(name, entry):
            specs.append(_spec(task, name, entry, options))
    return specs


def not_kept(metric_list: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the metrics of a metric_list that `read_metric_list` leaves out."""
    names = [_metric_name(entry["metric"]) for entry in metric_list]
    return [
        name for name, entry in zip(names, metric_list, strict=True) if _is_foreign(name, entry)
    ]


def with_defaults(
    task: str, specs: Sequence[MetricSpec], options: Mapping[str, Any], *, lettered: bool
) -> list[MetricSpec]:
    """Return `specs`, or the defaults and what of `specs` they lack if none is of calibration.

    A stock task asks for `acc` and perhaps `acc_norm`, and nobody who makes a calibration task of
    it means these alone.
    """
    if any(spec.name not in ("acc", *STOCK_METRICS) for spec in specs):
        return list(specs)
    names = DEFAULT_METRICS + (("choice_mass",) if lettered else ())
    defaults = [_spec(task, name, {}, options) for name in names]
    return [*defaults, *(spec for spec in specs if spec.name not in names)]


def _is_foreign(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a metric is one of lm-eval's, or of a YAML that has its own function to sum it up."""
    known = name in METRICS or name in SCORE_METRICS or name in STOCK_METRICS
    return not known and (name in metric_registry or callable(entry.get("aggregation")))


def _metric_name(metric: Any) -> str:
    return str(getattr(metric, "__name__", metric))  # a YAML may name a function


def _spec(task: str, name: str, entry: Mapping[str, Any], options: Mapping[str, Any]) -> MetricSpec:
    check_name(task, "metric", name, [*METRICS, *SCORE_METRICS, *STOCK_METRICS])
    accepted = METRICS[name].options if name in METRICS else ()
    given = {key: value for key, value in entry.items() if key not in _LM_EVAL_KEYS}
    for key in given:
        check_name(task, f"option of metric '{name}'", key, accepted)
    _check_values(f"{task}: metric '{name}'", given)
    shared = {key: options.get(key, DEFAULTS[key]) for key in SHARED_OPTIONS if key in accepted}
    return MetricSpec(name, {**shared, **given})


def check_multiple_choice(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a YAML of which no question with choices could be made.

    Raises
    ------
    UserError
        If it is not multiple choice, or lacks a key that every multiple-choice task has.
    """
    output_type = settings.get("output_type", "generate_until")
    if output_type != "multiple_choice" or settings.get("doc_to_choice") is None:
        raise UserError(
            f"{name}: a calibration task needs `output_type: multiple_choice` and "
            f"`doc_to_choice`; the YAML has output_type {output_type!r} and doc_to_choice "
            f"{settings.get('doc_to_choice')!r}"
        )
    for key in ("doc_to_text", "doc_to_target"):
        if settings.get(key) is None and settings.get("use_prompt") is None:
            raise UserError(f"{name}: {key} is missing; name a column, or give a template")


def check_filter_list(task: str, filter_list: Sequence[Mapping[str, Any]]) -> None:
    """Refuse filters that do not hand on a score per choice.

    Raises
    ------
    UserError
        If an entry is no mapping, a name stands twice, or a step of a filter is
        no `MethodFilter`.
    """
    for entry in check_entries(task, "filter_list", filter_list, keys=("name", "filter")):
        where = f"filter of '{entry['name']}'"
        for step in check_entries(task, where, entry["filter"], keys=("function",)):
            if not is_method_filter(step["function"]):
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
