"""Rooms and who may call whom: the walls that docs/architecture.md names, checked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "calib_harness"

# Room -> rooms it may import. `errors`, `parallel`, `paths` and `text` are open to all but core.
ALLOWED = {
    "core": set(),
    "predictions": {"core"},
    "scoring": {"core"},
    "harness": {"core", "scoring"},
    "comparison": {"core", "predictions", "summary"},
    "summary": {"core", "predictions"},
    "report": {"core", "predictions", "comparison", "summary"},
    "sweep": {"core", "predictions", "comparison", "summary"},
    "cli": {
        *("core", "predictions", "scoring", "harness", "comparison", "summary", "report", "sweep"),
        "demo",
    },
    "demo": {"core", "predictions", "harness", "summary", "comparison"},
}
OPEN = {"errors", "parallel", "paths", "text"}

# Third-party packages that some rooms must do without, wherever the import stands.
FORBIDDEN = {
    "core": {"torch", "lm_eval", "transformers", "pandas", "pyarrow"},
    "predictions": {"torch", "lm_eval", "transformers"},
    "scoring": {"lm_eval"},
    "comparison": {"torch", "lm_eval", "transformers"},
    "summary": {"torch", "lm_eval", "transformers"},
    "report": {"torch", "lm_eval", "transformers"},
    "sweep": {"torch", "transformers"},
}


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
            if target not in ALLOWED[room] | {room} | (OPEN if room != "core" else set()):
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


def test_the_check_notices_a_trespass():
    assert trespasses("core", "from calib_harness.harness import CalibrationTask")
    assert trespasses("core", "def f():\n    import torch")
    assert trespasses("scoring", "import lm_eval.api.model")
    assert not trespasses("harness", "from calib_harness.core.metrics import ece\nimport torch")
