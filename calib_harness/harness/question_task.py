"""How a calibration task reads its questions: what lm-eval makes of a YAML, checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from calib_harness.errors import UserError
from calib_harness.harness.prompt_forms import Asked, Form, form_of
from calib_harness.harness.questions import (
    check_choices,
    check_own_results,
    gold_among,
    only_gold,
)
from calib_harness.harness.seam import StockTask


class QuestionTask(StockTask):
    """A multiple-choice task whose mistakes are sentences, and whose prompt may be another.

    `metadata` may hold ``prompt: cloze`` or ``prompt: choice``.
    """

    _own_results: Callable[..., Any] | None = None
    _form: Form | None = None

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
        if self._metadata("prompts") is not None:
            raise UserError(
                f"{self.config.task}: of prompts in metadata `calib-harness derive` makes tasks, "
                "one each; a task itself has one prompt"
            )
        wanted = self._metadata("prompt")
        if wanted is not None:
            self._form = form_of(
                str(self.config.task),
                wanted,
                self.task_docs,
                lambda doc: Asked(self._stock_text(doc), self._stock_choices(doc)),
                self._gold,
            )

    # -- reading a question --------------------------------------------------------------

    def doc_to_text(self, doc: Any, doc_to_text: Any = None) -> Any:
        """Read a question's context, as lm-eval does, in the form that is wanted."""
        text = self._stock_text(doc, doc_to_text)
        return text if self._form is None else self._ask(doc, text).text

    def doc_to_choice(self, doc: Any, doc_to_choice: Any = None) -> Any:
        """Read a question's choices, as lm-eval does, in the form that is wanted."""
        choices = self._stock_choices(doc, doc_to_choice)
        if self._form is None:
            return choices
        return self._ask(doc, self._stock_text(doc), choices).choices

    def doc_to_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        """Read a question's gold, as lm-eval does; a list of one gold is this gold."""
        gold = self._stock_target(doc, doc_to_target)
        if self._form is None:
            return gold
        choices = self._stock_choices(doc)
        index = gold_among(choices, gold)
        if index is None:
            return gold
        order = self._ask(doc, self._stock_text(doc), choices).order
        return index if order is None else list(order).index(index)

    def _stock_text(self, doc: Any, doc_to_text: Any = None) -> Any:
        return self._read("doc_to_text", super().doc_to_text, doc, doc_to_text)

    def _stock_target(self, doc: Any, doc_to_target: Any = None) -> Any:
        target = self._read("doc_to_target", super().doc_to_target, doc, doc_to_target)
        return only_gold(str(self.config.task), target)

    def _stock_choices(self, doc: Any, doc_to_choice: Any = None) -> Any:
        return self._read("doc_to_choice", super().doc_to_choice, doc, doc_to_choice)

    def _ask(self, doc: Any, text: Any, choices: Any = None) -> Asked:
        if self._form is None:
            raise RuntimeError("a question is asked in another form only if there is one")
        stock = Asked(text, self._stock_choices(doc) if choices is None else choices)
        return self._form.ask(str(self.config.task), doc, stock)

    def _read(self, key: str, read: Callable[..., Any], doc: Any, template: Any) -> Any:
        try:
            return read(doc, template)
        except (TemplateError, ValueError, SyntaxError) as error:
            source = getattr(self.config, key)
            if isinstance(error, TemplateError):
                why = str(error)
            elif isinstance(error.__cause__, TemplateError):  # as lm-eval 0.5 hands it on
                why = str(error.__cause__)
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
        if self._own_results is None:
            return
        # It knows the stock order of the choices, not one that a lettered form may have shuffled.
        choices = self._stock_choices(doc)
        target = self._stock_text(doc) if self.multiple_input else self._stock_target(doc)
        where, gold = f"{self.config.task}, question {number}", gold_among(choices, target)
        check_own_results(where, self._own_results, doc, len(choices), gold)

    # -- the dataset ---------------------------------------------------------------------

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the dataset; a split that the YAML names and the dataset lacks is an error."""
        super().download(dataset_kwargs, **kwargs)
        for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
            split = getattr(self.config, key)
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

    @cached_property
    def eval_docs(self) -> Any:
        """The questions; lm-eval runs the YAML's `process_docs` anew each time it asks for them."""
        return super().eval_docs

    def _target(self, doc: dict[str, Any]) -> Any:
        return self.doc_to_text(doc) if self.multiple_input else self.doc_to_target(doc)

    def _gold(self, doc: dict[str, Any]) -> int | None:
        """Index of the right choice, or None if it is not among the choices."""
        return gold_among(self.doc_to_choice(doc), self._target(doc))

    def _metadata(self, key: str) -> Any:
        return (self.config.metadata or {}).get(key)
