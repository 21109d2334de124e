"""Pages of the reference that are read off the code: commands, metrics, methods, specs, names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import typer
from pydantic import BaseModel

import calib_harness
from calib_harness.cli import app
from calib_harness.core.confidence import METHODS
from calib_harness.core.metrics import METRICS
from calib_harness.sweep.planning import schema


def write_pages(folder: Path) -> None:
    """Write every generated page; a page whose text has not changed is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "commands": "\n".join(commands()),
        "metrics": metrics_table(),
        "methods": methods_table(),
        "sweep-spec": "\n".join(spec_tables()),
        "api": "\n".join(api()),
    }
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def commands() -> Iterator[str]:
    """Every command with its help, as the terminal shows it without colours."""
    yield from _command(typer.main.get_command(app), "calib-harness", 2)


def _command(command: click.Command, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, max_content_width=88)
    yield f"{'#' * level} `{name}`\n"
    yield f"```text\n{_plain_help(command, context)}\n```\n"
    for child in sorted(getattr(command, "commands", {})):
        yield from _command(command.commands[child], f"{name} {child}", min(level + 1, 4))


def _plain_help(command: click.Command, context: click.Context) -> str:
    """Help by Click's own formatter: Typer's draws boxes for a terminal."""
    formatter = context.make_formatter()
    click.Command.format_usage(command, context, formatter)
    formatter.write_paragraph()
    for line in inspect.cleandoc(command.help or "").splitlines():
        formatter.write(f"  {line}".rstrip() + "\n")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    with formatter.section("Arguments and options"):
        formatter.write_dl([record for record in records if record])
    return formatter.getvalue().rstrip()


def metrics_table() -> str:
    """Every metric: name, formula, which way is better, whose it is, its options."""
    rows = ["| name | formula | better | options | source |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        formula = metric.formula.replace("|", "\\|")
        options = ", ".join(f"`{option}`" for option in metric.options)
        rows.append(
            f"| `{metric.name}` | {formula} | {metric.direction} | {options} | {metric.source} |"
        )
    return "\n".join(rows) + "\n"


def methods_table() -> str:
    """Every method: name, prompt, score of a choice, whether tokens are needed."""
    rows = [
        "| name | prompt | score of a choice | needs token log-probabilities |",
        "|---|---|---|---|",
    ]
    for method in METHODS.values():
        needs = "yes" if method.needs_token_logprobs else "no"
        rows.append(f"| `{method.name}` | {method.prompt} | {method.description} | {needs} |")
    return "\n".join(rows) + "\n"


def spec_tables() -> Iterator[str]:
    """Every section of a sweep's spec: keys, defaults and what they take."""
    sections: list[tuple[str, type[BaseModel], tuple[str, ...]]] = [
        ("The spec", schema.Spec, ()),
        ("`defaults`, and every model", schema.Settings, ()),
        ("`models`", schema.ModelEntry, tuple(schema.Settings.model_fields)),
        ("`steps`", schema.Steps, ()),
        ("`resources`", schema.Resources, ()),
        ("`environment`", schema.Environment, ()),
        ("`execution`", schema.Execution, ()),
    ]
    for title, section, left_out in sections:
        yield f"## {title}\n\n{inspect.getdoc(section)}\n"
        yield "| key | expected | default |\n|---|---|---|"
        for name, field in section.model_fields.items():
            if name in left_out:
                continue
            default = "must be given" if field.is_required() else _default(field.default)
            yield f"| `{field.alias or name}` | {field.description} | {default} |"
        yield ""


def _default(value: object) -> str:
    if value is None or value == {} or value == [] or isinstance(value, BaseModel):
        return ""
    return f"`{value}`"


def api() -> Iterator[str]:
    """Every public name of the package, from its docstring."""
    for name in calib_harness.__all__:
        thing = getattr(calib_harness, name)
        kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
        yield f"## `{name}`\n\n```{{eval-rst}}\n.. auto{kind}:: calib_harness.{name}"
        if kind == "class":
            yield "   :members:"
        yield "```\n"
