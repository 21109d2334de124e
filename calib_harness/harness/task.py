"""`CalibrationTask`: a multiple-choice YAML plus one line becomes a calibration task."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.samplers import ContextSampler
from lm_eval.filters import build_filter_ensemble

from calib_harness.core.accuracy import choice_mass
from calib_harness.core.confidence import is_lettered, pack_scores, softmax_scores, usable_rows
from calib_harness.core.metrics import METRICS
from calib_harness.errors import UserError
from calib_harness.harness.aggregations import Aggregation, Outcome, UsableMean, total
from calib_harness.harness.choice_orders import BALANCED, Order, orders_of
from calib_harness.harness.filters import DERIVED_FILTERS, Pair
from calib_harness.harness.notices import (
    warn_of_empty_choices,
    warn_of_left_out,
    warn_of_mass,
    warn_of_unusable,
)
from calib_harness.harness.prompt_forms import Asked, shown_choices
from calib_harness.harness.question_requests import Layout, check_wanted, reordered
from calib_harness.harness.question_task import QuestionTask
from calib_harness.harness.questions import LoggedItems
from calib_harness.harness.scoring_record import take_scoring
from calib_harness.harness.seam import number_of
from calib_harness.harness.stock import complete
from calib_harness.harness.stock_metrics import (
    STOCK_METRICS,
    StockAggregation,
    is_defined,
    stock_item,
)
from calib_harness.harness.task_yaml import (
    CHOICE_FILTERS,
    CLOZE_FILTERS,
    ORDER_FILTERS,
    SCORE_METRICS,
    MetricSpec,
    check_filter_list,
    check_multiple_choice,
    check_name,
    not_kept,
    read_metric_list,
    read_options,
    with_defaults,
)
from calib_harness.harness.token_requests import REQUEST_TYPE


class CalibrationTask(QuestionTask):
    """A standard multiple-choice task whose filters are confidence methods.

    Used from a YAML as ``class: !function calib_harness.CalibrationTask``. Where the YAML names
    no filters it gets `choice` if its choices are letters (`is_lettered`: A, B, … or (A), (B),
    …), and `continuation-sum` and `continuation-min` otherwise; where it names no metric of
    calibration it gets `acc`, `ece`, `sce`, `brier_score` and `nll`, and `choice_mass` for
    lettered choices, beside those of lm-eval's own metrics that it names (`STOCK_METRICS`).
    ``stock: NAME`` stands for everything that lm-eval's task of this name says.

    Its `metadata` may hold `n_bins`, `binning` and `fewshot_by`, the name of a column: shots
    are then taken from documents that agree with the question in it; `prompt`, the form in which
    questions are asked; `orders`, in which the choices of a lettered prompt are shown; and
    `neutral_context`, after which `continuation-pmi` scores each choice once more.

    Raises
    ------
    UserError
        If the YAML is not multiple choice, names an unknown metric, filter or option, has a
        `process_results` that does not agree with its gold, or its dataset lacks a split.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        settings = complete(config or {})
        name = settings.get("task", type(self).__name__)
        check_multiple_choice(name, settings)
        self.calibration_options = read_options(name, settings.get("metadata"))
        metric_list = settings.pop("metric_list", None)
        filter_list = settings.pop("filter_list", None)
        check_filter_list(name, filter_list or [])
        specs = read_metric_list(name, metric_list or [], self.calibration_options)
        self._own_results = settings.pop("process_results", None)
        self._orders: str | int | None = None
        self._neutral: str | None = None

        self._construct(settings, **kwargs)
        warn_of_left_out(name, not_kept(metric_list or []))
        self.is_choice_prompt = is_lettered(self.doc_to_choice(self.task_docs[0]))
        self._check_own_results(self.task_docs[0], 0)
        specs = with_defaults(name, specs, self.calibration_options, lettered=self.is_choice_prompt)
        self._set_metrics(specs)
        self._orders = self._metadata("orders") if self.is_choice_prompt else None
        self._set_filters(filter_list or self._default_filter_list(specs))
        self._shots_of = self._shots_by(self._metadata("fewshot_by"))
        self._has_unusable = False

    # -- before scoring ------------------------------------------------------------------

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Build the context as lm-eval does, with shots from the question's own group."""
        if num_fewshot and self._shots_of:
            self.sampler = self._shots_for(doc)
        try:
            return super().fewshot_context(doc, num_fewshot, **kwargs)
        except AssertionError as error:
            raise UserError(
                f"{self.config.task}: num_fewshot is {num_fewshot}: {error}; ask for fewer shots"
            ) from None

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> list[Instance]:
        """Make one token_loglikelihood request per choice.

        Raises
        ------
        UserError
            If the question's choices cannot be scored (`check_choices`), or it has more than one
            gold (`only_gold`): all of this comes out before anything is scored.
        """
        number = number_of(kwargs)
        self._check_choices(doc, number)
        self._check_own_results(doc, number)
        requests: list[Instance] = super().construct_requests(doc, ctx, **kwargs)
        for index, arguments in enumerate(self._others(doc, number, ctx, requests), len(requests)):
            requests.append(
                replace(requests[0], arguments=arguments, idx=index, resps=[], filtered_resps={})
            )
        for request in requests:
            request.request_type = REQUEST_TYPE
        return requests

    def _others(
        self, doc: Any, number: int, ctx: str, requests: Sequence[Instance]
    ) -> Iterator[tuple[str, str]]:
        """Yield what is asked beside a question's choices, in the order that `Layout` says."""
        if not self._has_others:
            return
        layout, where = self.layout(doc), f"{self.config.task}, question {number}"
        continuations = [request.args[1] for request in requests]
        if len(layout.orders) > 1:
            asked = Asked(self.doc_to_text(doc), layout.choices)
            shown = shown_choices(where, doc, asked, self._stock_choices(doc))
            for order in layout.orders[1:]:
                context = reordered(where, ctx, shown, order)
                yield from ((context, continuation) for continuation in continuations)
        if layout.neutral is not None:
            yield from ((layout.neutral, continuation) for continuation in continuations)

    def layout(self, doc: Any) -> Layout:
        """Say what a question's requests are, in order."""
        choices = self.doc_to_choice(doc)
        orders: list[Order] = [tuple(range(len(choices)))]
        if self._orders is not None:
            orders = orders_of(len(choices), self._orders, str(self.doc_to_text(doc)))
        return Layout(choices, orders, self._neutral)

    @property
    def _has_others(self) -> bool:
        """Whether a question makes other requests than its choices."""
        return self._orders is not None or self._neutral is not None

    def _n_choices(self, doc: Any, n_requests: int) -> int:
        """Count a question's choices; templates are read only if there are other requests."""
        return len(self.doc_to_choice(doc)) if self._has_others else n_requests

    def build_all_requests(self, *, world_size: int = 1, **kwargs: Any) -> None:
        """Build the requests of this process's share of the questions."""
        # Of several processes lm-eval gathers the metrics that the first has from all of them, and
        # none knows whether another has questions that cannot be used: each reports how many.
        self._has_unusable = world_size > 1
        self._check_samples(kwargs.get("samples"))
        if "bypass" not in self._metric_fn_list:  # --predict_only needs no gold
            self._check_that_some_have_gold()
        super().build_all_requests(world_size=world_size, **kwargs)

    def _check_samples(self, samples: Sequence[int] | None) -> None:
        n = len(self.task_docs)
        for number in samples or ():
            if not 0 <= number < n:
                raise UserError(
                    f"--samples: {self.config.task} has no question {number}; expected numbers "
                    f"from 0 to {n - 1}"
                )
        if samples and list(samples) != sorted(set(samples)):
            # lm-eval would log them under each other's numbers.
            raise UserError(
                f"--samples: the questions of {self.config.task} are {list(samples)}, expected "
                "each once and in ascending order"
            )

    def _check_that_some_have_gold(self) -> None:
        """Refuse to score a task of which nothing could be said; most often gold is misread."""
        if any(self._gold(doc) is not None for doc in self.task_docs):
            return
        first = self.task_docs[0]
        raise UserError(
            f"{self.config.task}: no question has a gold among its choices: doc_to_target gives "
            f"{self._target(first)!r} for the first, whose choices are "
            f"{self.doc_to_choice(first)}; expected an index or the text of a choice (or add "
            "--predict_only to log scores without metrics)"
        )

    # -- after scoring -------------------------------------------------------------------

    def apply_filters(self) -> list[Instance] | None:
        """Apply the confidence methods; count and name questions that cannot be used."""
        super().apply_filters()
        self._record_scoring()
        everything: dict[int, list[Instance]] = defaultdict(list)
        for instance in self.instances:
            everything[instance.doc_id].append(instance)
        questions = {
            doc_id: requests[: self._n_choices(requests[0].doc, len(requests))]
            for doc_id, requests in everything.items()
        }
        name = str(self.config.task)
        warn_of_empty_choices(name, questions, self.config.target_delimiter)
        golds = [self._gold(requests[0].doc) for requests in questions.values()]
        gold = np.array(golds, dtype=float)  # None becomes NaN
        unusable: dict[str, list[int]] = {}
        given = []  # methods that the backend gives; the others were spoken of before scoring
        for method in (ensemble.name for ensemble in self._filters):
            scores = {
                doc_id: [request.filtered_resps[method][0] for request in requests]
                for doc_id, requests in questions.items()
            }
            usable = usable_rows(pack_scores(list(scores.values())), gold)
            unusable[method] = [i for i, good in zip(questions, usable, strict=True) if not good]
            if not any(None in row for row in scores.values()):
                given.append(method)
        self._has_unusable |= any(unusable.values())
        warn_of_unusable(name, unusable, given, len(questions))
        if self.is_choice_prompt:
            warn_of_mass(name, questions)
        return None

    def _record_scoring(self) -> None:
        """Let the results file say how the requests were scored; its configuration goes there."""
        record = take_scoring(str(self.config.task))
        if record is not None:
            self.config.metadata = {**(self.config.metadata or {}), "scoring": record}

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> Mapping[str, Any]:
        """One question's items, one per metric; `results` holds (score, is_greedy) pairs.

        The log also gets the index of the right choice and the kind of prompt.
        """
        facts: dict[str, Any] = {
            "gold": self._gold(doc),
            "prompt": "choice" if self.is_choice_prompt else "cloze",
        }
        if self._has_others:
            layout = self.layout(doc)
            facts |= {"orders": layout.orders, "neutral_context": layout.neutral}
        if "bypass" in self._metric_fn_list:  # --predict_only
            return LoggedItems({}, facts)
        return LoggedItems(self._items(doc, results), facts)

    def _items(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        results = results[: self._n_choices(doc, len(results))]
        scores = [pair[0] for pair in results]
        outcome = self._outcome(doc, scores)
        has_mass = results[0].method not in DERIVED_FILTERS
        items: dict[str, Any] = {
            metric: outcome
            for metric in self._metric_fn_list
            if metric not in STOCK_METRICS and (has_mass or metric not in SCORE_METRICS)
        }
        items.update(self._stock_items(doc, results, outcome))
        if "acc" in items:
            items["acc"] = _accuracy(outcome, scores)
        if "choice_mass" in items:
            items["choice_mass"] = (
                math.nan
                if outcome.probs is None
                else float(choice_mass(np.array([scores], dtype=float)))
            )
        if self._has_unusable:
            items["unusable"] = float(outcome.probs is None)
        return items

    def _stock_items(
        self, doc: dict[str, Any], results: Sequence[Pair], outcome: Outcome
    ) -> dict[str, Any]:
        """Items of lm-eval's own metrics, where they are defined."""
        wanted = [m for m in self._metric_fn_list if is_defined(m, results[0].method)]
        if not wanted:
            return {}
        choices = self.doc_to_choice(doc)
        gold = None if outcome.probs is None else outcome.gold
        return {metric: stock_item(metric, results, choices, gold) for metric in wanted}

    def aggregation(self) -> dict[str, Any]:
        """One aggregation per metric."""
        return {**self._aggregation_list, "unusable": total}

    def _outcome(self, doc: dict[str, Any], scores: Sequence[float | None]) -> Outcome:
        gold = self._gold(doc)
        known = [score for score in scores if score is not None]
        if gold is None or len(known) < len(scores):
            return Outcome(None, gold)
        probs = softmax_scores(pack_scores([known]))[0]
        return Outcome(None if np.isnan(probs).any() else tuple(probs.tolist()), gold)

    # -- settings ------------------------------------------------------------------------

    def _default_filter_list(self, specs: Sequence[MetricSpec]) -> list[dict[str, Any]]:
        names: tuple[str, ...] = CHOICE_FILTERS if self.is_choice_prompt else CLOZE_FILTERS
        if self._orders is not None:
            names += ORDER_FILTERS if self._orders in BALANCED else ORDER_FILTERS[:1]
        if any(spec.name == "acc_mutual_info" for spec in specs):
            names += ("continuation-pmi",)
        return [{"name": name, "filter": [{"function": name}]} for name in names]

    def _set_metrics(self, specs: Sequence[MetricSpec]) -> None:
        self._metric_fn_list = dict.fromkeys(spec.name for spec in specs)
        self._metric_fn_kwargs = {spec.name: dict(spec.options) for spec in specs}
        self._aggregation_list = {spec.name: _aggregation(spec) for spec in specs}
        self._higher_is_better = {
            spec.name: spec.name in STOCK_METRICS or METRICS[spec.name].direction == "higher"
            for spec in specs
            if spec.name in STOCK_METRICS
            or (spec.name in METRICS and METRICS[spec.name].direction != "zero")
        }
        self.config.metric_list = [{"metric": spec.name, **spec.options} for spec in specs]

    def _set_filters(self, filter_list: list[dict[str, Any]]) -> None:
        functions = {step["function"] for entry in filter_list for step in entry["filter"]}
        in_context = bool(self.multiple_input)
        check_wanted(str(self.config.task), functions, self._orders, in_context=in_context)
        if "continuation-pmi" in functions:
            self._neutral = str(self._metadata("neutral_context") or "")
        self.config.filter_list = filter_list
        ensembles = []
        for entry in filter_list:
            steps = [
                [
                    step["function"],
                    {"layout": self.layout}
                    if self._has_others or step["function"] == "continuation-bytes"
                    else None,
                ]
                for step in entry["filter"]
            ]
            ensembles.append(build_filter_ensemble(entry["name"], steps))
        self._filters = ensembles

    def _shots_by(self, column: str | None) -> dict[Any, ContextSampler]:
        """One sampler per value of `column`, over the shots that have this value."""
        if column is None:
            return {}
        shots = self.sampler.df
        for docs, columns in (("questions", self.features), ("shots", shots[0] if shots else ())):
            check_name(str(self.config.task), f"`fewshot_by` column of the {docs}", column, columns)
        groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for shot in shots:
            groups[shot[column]].append(shot)
        sampler = type(self.sampler)
        return {value: sampler(shots, rnd=None) for value, shots in groups.items()}

    def _shots_for(self, doc: dict[str, Any]) -> ContextSampler:
        column = self._metadata("fewshot_by")
        try:
            return self._shots_of[doc[column]]
        except KeyError:
            raise UserError(
                f"{self.config.task}: no shot has {column} {doc[column]!r}, which a question has; "
                "ask for no shots, or remove `fewshot_by`"
            ) from None


def _aggregation(spec: MetricSpec) -> Any:
    if spec.name == "acc":
        return mean  # by which lm-eval knows its standard error
    if spec.name in STOCK_METRICS:
        return StockAggregation(spec.name, spec.aggregation)
    return UsableMean() if spec.name in SCORE_METRICS else Aggregation(spec.name, spec.options)


def _accuracy(outcome: Outcome, scores: Sequence[float | None]) -> float:
    """1 if the largest score is the gold's, first index on ties; NaN without the method."""
    if None in scores:
        return math.nan
    if outcome.probs is None:
        return 0.0
    return float(int(np.argmax(np.array(scores, dtype=float))) == outcome.gold)
