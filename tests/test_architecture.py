"""Rooms and who may call whom: the walls that docs/architecture.md names, checked."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "calib_harness"

# Room -> rooms it may import. `errors`, `output`, `paths` and `text` are open to all; of them core
# needs `errors` alone, so that a wrong option is a sentence for whoever gave it, from wherever.
ALLOWED = {
    "core": set(),
    "predictions": {"core"},
    "scoring": {"core"},
    "harness": {"core", "scoring"},
    "analysis": {"core", "predictions"},
    "figures": {"core", "predictions", "analysis"},
    "page": {"core", "predictions", "analysis", "figures"},
    "sweep": {"core", "predictions", "analysis"},
    "demo": {"core", "predictions", "harness", "analysis"},
    "cli": {
        *("core", "predictions", "scoring", "harness", "analysis", "figures", "page", "sweep"),
        "demo",
    },
}
OPEN = {"derived_names", "errors", "output", "paths", "text", "waiting"}
OPEN_TO_CORE = {"errors"}

# Third-party packages that some rooms must do without, wherever the import stands.
FORBIDDEN = {
    "core": {"torch", "lm_eval", "transformers", "pandas", "pyarrow"},
    "predictions": {"torch", "lm_eval", "transformers"},
    "scoring": {"lm_eval"},
    "analysis": {"torch", "lm_eval", "transformers"},
    "figures": {"torch", "lm_eval", "transformers"},
    "page": {"torch", "lm_eval", "transformers"},
    "sweep": {"torch", "lm_eval", "transformers"},
}

# Files of `cli` are named after commands; an `__init__` is a folder's face.
NAMED_AFTER_COMMANDS = "cli"


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def modules_imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from calib_harness import x` names rooms, too.
            if node.module == "calib_harness":
                found |= {f"calib_harness.{alias.name}" for alias in node.names}
            else:
                found.add(str(node.module))
    return found


def trespasses(room: str, source: str) -> list[str]:
    wrong = []
    for name in modules_imported(source):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == "calib_harness" and target:
            if target not in ALLOWED[room] | {room} | (OPEN if room != "core" else OPEN_TO_CORE):
                wrong.append(name)
        elif top in FORBIDDEN.get(room, set()):
            wrong.append(name)
    return wrong


FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if room_of(path) in ALLOWED  # __init__, __main__ and what is open belong to no room
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_it_may(path):
    assert trespasses(room_of(path), path.read_text(encoding="utf-8")) == []


def test_every_file_belongs_to_a_room():
    known = set(ALLOWED) | OPEN | {"__init__", "__main__"}
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} <= known


def test_the_floor_plan_names_every_room_and_every_file_that_it_names_exists():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    plan = page[page.index("## Rooms") : page.index("## One question")]
    assert [name for name in (set(ALLOWED) | OPEN) if f"`{name}`" not in plan] == []
    named = re.findall(r"`([\w/]+\.(?:py|js|html|pyi))`", page)
    there = [f"/{path.relative_to(PACKAGE.parent)}" for path in PACKAGE.rglob("*.*")]
    there += [
        f"/{path.relative_to(PACKAGE.parent)}" for path in (PACKAGE.parent / "tests").glob("*.py")
    ]
    assert len(named) > 40
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


def test_the_check_notices_a_trespass():
    assert trespasses("core", "from calib_harness.harness import CalibrationTask")
    assert trespasses("core", "def f():\n    import torch")
    assert trespasses("scoring", "import lm_eval.api.model")
    assert not trespasses("harness", "from calib_harness.core.metrics import ece\nimport torch")


def base_names() -> list[str]:
    return [
        path.stem
        for path in PACKAGE.rglob("*.py")
        if path.stem not in ("__init__", "__main__") and room_of(path) != NAMED_AFTER_COMMANDS
    ]


def test_no_two_modules_have_one_base_name():
    names = base_names()
    assert sorted({name for name in names if names.count(name) > 1}) == []


def imports_of_ours(path: Path) -> set[str]:
    """Modules of the package that a file imports, a name taken from a folder's face aside."""
    found = set()
    for name in modules_imported(path.read_text(encoding="utf-8")):
        if name.startswith("calib_harness."):
            target = PACKAGE.joinpath(*name.split(".")[1:])
            if target.with_suffix(".py").is_file():
                found.add(name)
            elif (target / "__init__.py").is_file():
                found.add(f"{name}.__init__")
    return found


def test_no_module_imports_itself_by_way_of_others():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if room_of(path) != "__init__":  # the package's face is lazy
            graph[name] = imports_of_ours(path) - {name}  # a face's own lazy names
    TopologicalSorter(graph).prepare()  # raises CycleError naming the circle
