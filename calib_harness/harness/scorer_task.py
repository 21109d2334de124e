"""The task of lm-eval 0.5 with the attributes of 0.4's; loaded with 0.5 only.

In 0.5 a task has scorers, each with its filters and metrics. Here a method's scorer keeps what
`process_results` gives of a question, and the task's `aggregation` says how it is summed up, as
0.4 does by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api import task as stock
from lm_eval.config.templates import _coerce_list, process_field
from lm_eval.scorers import LLScorer

from calib_harness.errors import UserError


@dataclass
class MethodScorer(LLScorer):
    """One method: its filters, and the items that `process_results` made of each question."""

    def set_results(self, scored_docs: dict[int, Any]) -> None:
        """Keep the questions' items; nothing is left to reduce."""
        self._reduced_docs = scored_docs


class ScorerTask(stock.MultipleChoiceTask):
    """The task of 0.5 with the attributes of 0.4's."""

    multiple_input = 0

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(dict(config))
        if self._multiple_inputs:
            raise UserError(
                f"{self.config.task}: its contexts differ from choice to choice "
                "(multiple_inputs), which is not supported with lm-eval 0.5; use 0.4"
            )
        self.download(self.config.dataset_kwargs)
        self.task_docs = self.eval_docs
        self.features = list(self.task_docs.features)
        self.multiple_target = 0
        self.doc_to_text(self.task_docs[0])  # an IndexError without questions, as in 0.4

    @property
    def _filters(self) -> list[Any]:
        return [scorer.filter for scorer in self._scorers]

    @_filters.setter
    def _filters(self, ensembles: Sequence[Any]) -> None:
        self._scorers = [
            MethodScorer(name=ensemble.name, filter=ensemble) for ensemble in ensembles
        ]

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the splits that the YAML names, when the task is made."""
        try:
            super().download(dataset_kwargs, **kwargs)
        except ValueError as error:  # of a split that is not there
            raise UserError(f"{self.config.task}: {error}") from None

    @property
    def eval_docs(self) -> Any:
        """Give the questions of the split to evaluate, be it empty."""
        return self._get_split_docs(self.config.test_split or self.config.validation_split)

    @staticmethod
    def _ll_pair(ctx: str, delimiter: str, *, cont: str) -> tuple[str, str]:
        """Join as 0.5 does, which looks at an empty choice's first character."""
        if not cont:
            return ctx, delimiter
        pair: tuple[str, str] = stock.MultipleChoiceTask._ll_pair(ctx, delimiter, cont=cont)
        return pair

    def doc_to_choice(self, doc: Any, doc_to_choice: Any = None) -> Any:
        """Read a question's choices as they are; what is no list is refused by a sentence."""
        wanted = self.config.doc_to_choice if doc_to_choice is None else doc_to_choice
        return _coerce_list(process_field(doc, wanted))

    def doc_to_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        """Read a question's gold as it is; 0.5 would leave a question out if it fits none."""
        return stock.Task.doc_to_target(self, doc, doc_to_target)

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Any:
        """Make the requests; 0.5 would leave a question without gold out, and not say so."""
        requests = super().construct_requests(doc, ctx, **kwargs)
        if requests is None:
            raise UserError(
                f"{self.config.task}, question {kwargs['doc_id']}: it has no gold, and "
                "lm-eval 0.5 scores no such question; leave it out with process_docs"
            )
        return requests

    def override_metric(self, metric_name: str) -> None:
        """Have no metric but one: `bypass`, of --predict_only."""
        self._metric_fn_list = {metric_name: None}

    def higher_is_better(self) -> dict[str, bool]:
        """Say of each metric whether more is better."""
        return dict(self._higher_is_better)

    def _try_process_results(
        self, instances: Mapping[int, Sequence[Any]], filter_key: str
    ) -> dict[int, Any]:
        return {
            number: self.process_results(
                requests[0].doc, [request.filtered_resps[filter_key] for request in requests]
            )
            for number, requests in instances.items()
        }
