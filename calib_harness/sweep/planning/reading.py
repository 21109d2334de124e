"""Read a spec file; every mistake becomes a sentence that says where it is and what would do."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from calib_harness.errors import UserError
from calib_harness.sweep.planning.schema import Section, Spec
from calib_harness.sweep.planning.secrets import secret_place
from calib_harness.text import did_you_mean

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # libyaml's loader reads a spec of a thousand models several times faster.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(SafeLoader):
    """Safe loader that refuses a key given twice, of which PyYAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of `node`, raising ConstructorError for a repeated key."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: what it brings may be overridden
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep=deep)


def load_spec(path: str | Path) -> Spec:
    """Read and check a sweep's spec.

    Parameters
    ----------
    path : str or Path
        A YAML file.

    Returns
    -------
    Spec
        The spec as written; paths in it are still relative to the file.

    Raises
    ------
    UserError
        If the file cannot be read, is no YAML, or says something that :class:`Spec` does not
        allow. All mistakes are listed, one a line.
    """
    path = Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UserError(
            f"SPEC: expected a YAML file, got {str(path)!r}: {error.strerror or error}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        told = " ".join(str(error).split()).replace('"<unicode string>", ', "")
        raise UserError(f"{path}: not YAML: {told}") from None
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected a mapping with output, tasks and models, got {show(data)}"
        )
    try:
        place, mistake = secret_place(data), _not_json(data)
    except RecursionError:
        raise UserError(
            f"{path}: expected lists and mappings a few levels deep, got hundreds of levels, or an "
            "anchor that holds its own alias; write out what is meant"
        ) from None
    if mistake:
        raise UserError(f"{path}: {mistake}")
    if place:
        raise UserError(
            f"{path}: {place}: expected no secret in a spec, got what looks like one; export it in "
            "the shell and list the variable's name under environment.pass instead"
        )
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in _sentences(error, data))) from None


def _not_json(value: object, at: str = "") -> str | None:
    """Return a sentence about the first key or value that lm-eval's arguments cannot hold, or None.

    YAML has more than JSON: dates, bytes, sets, keys that are no texts.
    """
    if value is None or isinstance(value, (str, int, float)):
        return None
    parts: list[tuple[str, object]]
    if isinstance(value, dict):
        parts = [(f"{at}.{key}" if at else str(key), part) for key, part in value.items()]
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None or None in value:
            where = f"{at}: " if at else ""
            return f"{where}expected texts for keys, got {show(odd)}; put it in quotes"
    elif isinstance(value, list):
        parts = [(f"{at}[{place}]", part) for place, part in enumerate(value)]
    else:
        return (
            f"{at}: expected a text, a number, true, false, null, a list or a mapping, got "
            f"{show(value)}; put it in quotes"
        )
    return next((found for where, part in parts if (found := _not_json(part, where))), None)


def _sentences(error: ValidationError, data: object) -> list[str]:
    """Return one sentence per key that is wrong; a union's alternatives count once."""
    found: dict[str, str] = {}
    for item in error.errors():
        mistake = _Mistake(item, data)
        found.setdefault(mistake.location, mistake.sentence())
    # A wrong part also makes the alternatives of the union around it fail: name only the part.
    return [
        sentence
        for location, sentence in found.items()
        if not any(other.startswith((f"{location}.", f"{location}[")) for other in found)
        or not location
    ]


class _Mistake:
    """One entry of a ValidationError, found again in the data it is about.

    pydantic's locations also hold the names of a union's alternatives. Only what can be looked up
    in the data is a key of the file.
    """

    def __init__(self, item: Any, data: object) -> None:
        self._item = item
        self._section: type[BaseModel] = Spec
        self._field = ""
        self.location = ""
        value: Any = data
        for place, part in enumerate(item["loc"]):
            last = place == len(item["loc"]) - 1
            if (isinstance(value, dict) and part in value) or _is_index(value, part):
                value = value[part]
            elif not (item["type"] == "missing" and last):
                continue
            self._step(part)
        self._value = value

    def _step(self, part: int | str) -> None:
        if isinstance(part, int):
            self.location += f"[{part}]"
            return
        self.location += f".{part}" if self.location else part
        below = _section_of(self._section, self._field)
        if not self._field:
            self._field = part
        elif below is not None:
            self._section, self._field = below, part

    def sentence(self) -> str:
        """Return the mistake as one sentence, without the file's name."""
        kind, at = self._item["type"], f"{self.location}: " if self.location else ""
        if kind == "extra_forbidden":
            known = _keys(self._section)
            hint = (
                did_you_mean(self._field, known, cutoff=0.5)
                or f"expected one of {', '.join(known)}"
            )
            return f"{at}unknown key; {hint}"
        expected = _description(self._section, self._field)
        if self.location.endswith("]") and expected.startswith("a list of "):
            expected = f"an entry of {expected}"
        if kind == "missing":
            return f"{at}this key is needed; expected {expected}"
        whole = _section_of(self._section, self._field) or not self._field
        if kind == "value_error" and isinstance(self._value, dict) and whole:
            return f"{at}{self._item['ctx']['error']}"
        hint = did_you_mean(str(self._value), _literals(self._section, self._field), cutoff=0.5)
        return f"{at}expected {expected}, got {show(self._value)}" + (f"; {hint}" if hint else "")


def _is_index(value: object, part: object) -> bool:
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a section's fields by the key that stands in the file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _keys(section: type[BaseModel]) -> list[str]:
    return list(_fields(section))


def _description(section: type[BaseModel], key: str) -> str:
    field = _fields(section).get(key)
    return (field.description if field else None) or "something else"


def _parts(annotation: object) -> Iterator[object]:
    yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts(argument)


def _section_of(section: type[BaseModel], key: str) -> type[Section] | None:
    """Return the section that stands under `key`, if one does."""
    field = _fields(section).get(key)
    for part in _parts(field.annotation) if field else ():
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def _literals(section: type[BaseModel], key: str) -> list[str]:
    field = _fields(section).get(key)
    annotation = field.annotation if field else None
    is_literal = typing.get_origin(annotation) is typing.Literal
    return [str(value) for value in typing.get_args(annotation)] if is_literal else []


def show(value: object) -> str:
    """Return `value` for a message, cut to one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
