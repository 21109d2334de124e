"""One task over the questions of several: the mean of their ECEs is not the ECE of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import DatasetDict, concatenate_datasets

from calib_harness.errors import UserError
from calib_harness.harness.task import CalibrationTask

#: The column that says which task a question is of.
COLUMN = "pooled_from"
# What all members must agree on, since a task has one of each.
_SHARED = ("target_delimiter", "num_fewshot", "repeats")


class PooledTask(CalibrationTask):
    """A calibration task over all questions of several stock tasks.

    Used from a YAML as ``class: !function calib_harness.PooledTask`` with
    ``stock: [NAME, NAME, …]``. Each question is asked as its own task asks it, with shots of its
    own task's.

    Raises
    ------
    UserError
        If the members' prompts, delimiters or shots differ in kind, their columns do not fit
        together, or one of them is no calibration task.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        settings = dict(config or {})
        name, stock = settings.get("task"), settings.pop("stock", None)
        if not isinstance(stock, Sequence) or isinstance(stock, str) or not stock:
            raise UserError(f"{name}: stock is {stock!r}; expected a list of tasks to pool")
        metadata = settings.get("metadata") or {}
        self.members = {
            member: CalibrationTask({"task": member, "stock": member, "metadata": metadata})
            for member in stock
        }
        for key in ("is_choice_prompt", *_SHARED):
            self._check_alike(str(name), key)
        first = next(iter(self.members.values())).config
        super().__init__(
            {
                **settings,
                **{key: getattr(first, key) for key in _SHARED},
                "output_type": "multiple_choice",
                "custom_dataset": self._pool,
                "test_split": "test",
                "doc_to_text": lambda doc: self._member(doc).doc_to_text(doc),
                "doc_to_choice": lambda doc: self._member(doc).doc_to_choice(doc),
                "doc_to_target": lambda doc: self._member(doc).doc_to_target(doc),
            },
            **kwargs,
        )

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **kwargs: Any) -> Any:
        """Build the context as the question's own task does."""
        return self._member(doc).fewshot_context(doc, num_fewshot, **kwargs)

    def doc_to_prefix(self, doc: dict[str, Any]) -> Any:
        """Return what the question's own task begins its answer with."""
        return self._member(doc).doc_to_prefix(doc)

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        """Seed every member's choice of shots."""
        super().set_fewshot_seed(seed)
        for member in self.members.values():
            member.set_fewshot_seed(seed)

    def _member(self, doc: Mapping[str, Any]) -> CalibrationTask:
        return self.members[doc[COLUMN]]

    def _check_own_results(self, doc: Any, number: int) -> None:
        self._member(doc)._check_own_results(doc, number)

    def _pool(self, **_: Any) -> DatasetDict:
        parts = []
        for name, member in self.members.items():
            docs = member.task_docs
            parts.append(docs.add_column(COLUMN, [name] * len(docs)))
        try:
            return DatasetDict({"test": concatenate_datasets(parts)})
        except ValueError as error:
            raise UserError(
                f"the columns of {', '.join(self.members)} do not fit into one table ({error}); "
                "pool tasks of one dataset"
            ) from None

    def _check_alike(self, name: str, key: str) -> None:
        values = {
            member: getattr(task, key) if hasattr(task, key) else getattr(task.config, key)
            for member, task in self.members.items()
        }
        if len(set(values.values())) > 1:
            what = "kind of prompt" if key == "is_choice_prompt" else key
            first, other = (
                next(member for member, value in values.items() if value == one)
                for one in list(dict.fromkeys(values.values()))[:2]
            )
            raise UserError(
                f"{name}: {first} and {other} differ in their {what} ({values[first]!r}, "
                f"{values[other]!r}); pool tasks that ask alike"
            )
