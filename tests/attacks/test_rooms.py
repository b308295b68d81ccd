"""The rooms of the attacks: every file is in one, and imports run from room to room in one direction."""

import ast
from pathlib import Path

import pytest

from jaxdiff import attacks

ROOT = Path(attacks.__file__).parent
FLOORS = (
    {"threats", "objectives", "stepwise"},
    {"precision"},
    {"attack"},
    {"transforms", "pool"},
    {"cascade"},
    {"ascents"},
    {"least", "queries", "universal", "stadv", "synthesis"},
    {"multi"},
    {"autoattack"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def _rooms(path: Path) -> set[str]:
    """The rooms of the attacks that a file imports from."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    return {name.split(".")[2] for name in names if name.startswith("jaxdiff.attacks.")}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_from_lower_floors_and_its_own_room(path):
    if path == ROOT / "__init__.py":
        return
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert {r for r in _rooms(path) if FLOOR[r] >= FLOOR[room]} <= {room}
