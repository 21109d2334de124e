"""`CalibrationTask`: a multiple-choice YAML plus one line becomes a calibration task."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.filters import build_filter_ensemble

from calib_harness.core.accuracy import choice_mass
from calib_harness.core.confidence import is_lettered, pack_scores, softmax_scores, usable_rows
from calib_harness.core.metrics import METRICS
from calib_harness.errors import UserError
from calib_harness.harness.aggregations import Aggregation, Outcome, UsableMean, total
from calib_harness.harness.filters import Pair
from calib_harness.harness.notices import (
    warn_of_empty_choices,
    warn_of_left_out,
    warn_of_mass,
    warn_of_unusable,
)
from calib_harness.harness.questions import (
    LoggedItems,
    check_choices,
    check_own_results,
    gold_among,
    only_gold,
)
from calib_harness.harness.stock import complete
from calib_harness.harness.stock_metrics import (
    STOCK_METRICS,
    SUMS,
    StockAggregation,
    stock_item,
)
from calib_harness.harness.task_yaml import (
    CHOICE_FILTERS,
    CLOZE_FILTERS,
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


class CalibrationTask(ConfigurableTask):
    """A standard multiple-choice task whose filters are confidence methods.

    Used from a YAML as ``class: !function calib_harness.CalibrationTask``. Where the YAML names
    no filters it gets `choice` if its choices are letters (`is_lettered`: A, B, … or (A), (B),
    …), and `continuation-sum` and `continuation-min` otherwise; where it names no metric of
    calibration it gets `acc`, `ece`, `sce`, `brier_score` and `nll`, and `choice_mass` for
    lettered choices, beside those of lm-eval's own metrics that it names (`STOCK_METRICS`).
    ``stock: NAME`` stands for everything that lm-eval's task of this name says.

    Its `metadata` may hold `n_bins`, `binning` and `fewshot_by`, the name of a column: shots
    are then taken from documents that agree with the question in it.

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

        self._construct(settings, **kwargs)
        warn_of_left_out(name, not_kept(metric_list or []))
        self.is_choice_prompt = is_lettered(self.doc_to_choice(self.task_docs[0]))
        self._check_own_results(self.task_docs[0], 0)
        specs = with_defaults(name, specs, self.calibration_options, lettered=self.is_choice_prompt)
        self._set_metrics(specs)
        self._set_filters(filter_list or self._default_filter_list())
        self._shots_of = self._shots_by(self._metadata("fewshot_by"))
        self._has_unusable = False

    def _construct(self, settings: dict[str, Any], **kwargs: Any) -> None:
        """Run lm-eval's constructor; a first question that it cannot digest is no obstacle.

        The constructor ends with a trial of the first question, for debug messages only, which
        raises IndexError if gold is outside the choices or a choice is empty. Here such questions
        are counted, or refused by their number, wherever they stand.
        """
        try:
            super().__init__(config=settings, **kwargs)
        except (IndexError, TypeError) as error:
            if not hasattr(self, "multiple_target"):  # the trial had not begun
                raise
            if len(self.task_docs) == 0:
                raise UserError(
                    f"{self.config.task}: the split to evaluate has no questions; check the "
                    "YAML's splits and its process_docs"
                ) from None
            for read in (self.doc_to_text, self.doc_to_target):
                read(self.task_docs[0])  # an error of the YAML's own comes out again
            self._check_choices(self.task_docs[0], 0)
            if isinstance(error, TypeError):
                raise
        else:
            self._check_choices(self.task_docs[0], 0)

    # -- reading a question --------------------------------------------------------------

    def doc_to_text(self, doc: Any, doc_to_text: Any = None) -> Any:
        """Read a question's context, as lm-eval does; a template may fail with a sentence."""
        return self._read("doc_to_text", super().doc_to_text, doc, doc_to_text)

    def doc_to_choice(self, doc: Any, doc_to_choice: Any = None) -> Any:
        """Read a question's choices, as lm-eval does; a template may fail with a sentence."""
        return self._read("doc_to_choice", super().doc_to_choice, doc, doc_to_choice)

    def doc_to_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        """Read a question's gold, as lm-eval does; a list of one gold is this gold."""
        target = self._read("doc_to_target", super().doc_to_target, doc, doc_to_target)
        return only_gold(str(self.config.task), target)

    def _read(self, key: str, read: Callable[..., Any], doc: Any, template: Any) -> Any:
        try:
            return read(doc, template)
        except (TemplateError, ValueError, SyntaxError) as error:
            source = getattr(self.config, key)
            if isinstance(error, TemplateError):
                why = str(error)
            elif key == "doc_to_choice" and isinstance(source, str):
                why = "what it gives is not written as a list"  # lm-eval reads a Python literal
            else:
                raise  # of a function of the YAML's own
            raise UserError(
                f"{self.config.task}: {key} is {source!r}, which is neither a column nor a "
                f"template that fits the questions ({why}); columns are "
                f"{', '.join(map(str, self.features))}"
            ) from None

    def _check_choices(self, doc: Any, number: int) -> None:
        check_choices(f"{self.config.task}, question {number}", self.doc_to_choice(doc))

    def _check_own_results(self, doc: Any, number: int) -> None:
        if self._own_results is not None:
            where, n = f"{self.config.task}, question {number}", len(self.doc_to_choice(doc))
            check_own_results(where, self._own_results, doc, n, self._gold(doc))

    # -- before scoring ------------------------------------------------------------------

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the dataset; a split that the YAML names and the dataset lacks is an error."""
        super().download(dataset_kwargs, **kwargs)
        for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
            split = self.config[key]
            if split is not None and split not in self.dataset:
                raise UserError(
                    f"{self.config.task}: {key} is {split!r}, but the dataset has only "
                    f"{', '.join(map(repr, self.dataset))}; name one of these in the YAML"
                )
        if self.config.test_split is None and self.config.validation_split is None:
            raise UserError(
                f"{self.config.task}: there is nothing to evaluate; name a test_split or a "
                f"validation_split (the dataset has {', '.join(map(repr, self.dataset))})"
            )

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
        number = kwargs["metadata"][1]
        self._check_choices(doc, number)
        self._check_own_results(doc, number)
        requests: list[Instance] = super().construct_requests(doc, ctx, **kwargs)
        for request in requests:
            request.request_type = REQUEST_TYPE
        return requests

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
        questions: dict[int, list[Instance]] = defaultdict(list)
        for instance in self.instances:
            questions[instance.doc_id].append(instance)
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

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> Mapping[str, Any]:
        """One question's items, one per metric; `results` holds (score, is_greedy) pairs.

        The log also gets the index of the right choice and the kind of prompt.
        """
        facts = {
            "gold": self._gold(doc),
            "prompt": "choice" if self.is_choice_prompt else "cloze",
        }
        if "bypass" in self._metric_fn_list:  # --predict_only
            return LoggedItems({}, facts)
        return LoggedItems(self._items(doc, results), facts)

    def _items(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        scores = [pair[0] for pair in results]
        outcome = self._outcome(doc, scores)
        items: dict[str, Any] = {
            metric: outcome for metric in self._metric_fn_list if metric not in STOCK_METRICS
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
        """Items of lm-eval's own metrics, which are defined for sums of log-probabilities."""
        wanted = [metric for metric in self._metric_fn_list if metric in STOCK_METRICS]
        if not wanted or results[0].method not in SUMS:
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

    def _target(self, doc: dict[str, Any]) -> Any:
        return self.doc_to_text(doc) if self.multiple_input else self.doc_to_target(doc)

    def _gold(self, doc: dict[str, Any]) -> int | None:
        """Index of the right choice, or None if it is not among the choices."""
        return gold_among(self.doc_to_choice(doc), self._target(doc))

    # -- settings ------------------------------------------------------------------------

    def _metadata(self, key: str) -> Any:
        return (self.config.metadata or {}).get(key)

    def _default_filter_list(self) -> list[dict[str, Any]]:
        names = CHOICE_FILTERS if self.is_choice_prompt else CLOZE_FILTERS
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
        self.config.filter_list = filter_list
        self._filters = []
        for entry in filter_list:
            steps = [
                [
                    step["function"],
                    {"doc_to_choice": self.doc_to_choice}
                    if step["function"] == "continuation-bytes"
                    else None,
                ]
                for step in entry["filter"]
            ]
            self._filters.append(build_filter_ensemble(entry["name"], steps))

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
