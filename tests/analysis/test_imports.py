"""The packages of the analysis depend on each other in one direction, and only drawing needs matplotlib."""

import ast
from pathlib import Path

import pytest

from analysis.data.scores import ROOT

ORDER = (
    "options", "stats", "data", "context", "comparisons", "draw", "item", "papers", "studies", "items", "make_figures",
    "readme_tables",
)  # fmt: skip
MODULES = sorted(path for path in (ROOT / "analysis").rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "analysis")))
def test_modules_import_only_from_packages_before_their_own(path: Path) -> None:
    own = ORDER.index(path.relative_to(ROOT / "analysis").parts[0].removesuffix(".py"))
    names = imported(path)
    assert all(ORDER.index(name.split(".")[1]) <= own for name in names if name.startswith("analysis."))
    if own < ORDER.index("draw"):
        assert not {name.split(".")[0] for name in names} & {"matplotlib", "seaborn"}
    assert not any(name.startswith("pipeline") for name in names)
