"""The code that a result depends on: the modules that a program imports, with a digest of each.

A digest changes with what a module does, not with its comments, docstrings, type annotations, imports for these, or
layout. It is the same in every version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenworlds.errors import UserError

HARMLESS = {
    "pipeline": "command lines and plans: what they decide is in the settings of a run",
    "tokenworlds.__init__": "the version, and names of functions for other programs",
    "tokenworlds.__main__": "the command line of the package",
    "tokenworlds.attached": "ends processes whose parent is gone",
    "tokenworlds.checkpoints": "reads and shares agents that were trained elsewhere",
    "tokenworlds.cli": "exit status and messages of commands",
    "tokenworlds.config": "what it decides is in the settings of a run",
    "tokenworlds.doctor": "reports what is installed",
    "tokenworlds.episodes": "files of episodes that were played",
    "tokenworlds.errors": "texts of messages",
    "tokenworlds.evaluation": "evaluates agents that are trained already",
    "tokenworlds.files": "writes and reads files safely",
    "tokenworlds.inference": "acts and imagines for other programs",
    "tokenworlds.loading": "finds weights to begin with: which these are is in the settings of a run",
    "tokenworlds.locks": "keep a second process from the same work",
    "tokenworlds.redaction": "masks passwords in texts",
    "tokenworlds.runs": "names and integrity of finished runs",
    "tokenworlds.tensor_files": "writes and reads tensors as they are",
    "tokenworlds.tracking": "journal, MLflow and digests of the code",
    "tokenworlds.training.kept_episodes": "episodes and films beside the results",
    "tokenworlds.training.media": "pictures beside the results",
    "tokenworlds.training.progress": "progress bars and clocks",
    "tokenworlds.training.run_folder": "places of files",
    "tokenworlds.viewer": "watching and playing",
    "tokenworlds.world_model_env": "trained world models as environments for other programs",
}
"""Modules and packages whose edits change no result, and why. What they import counts where others import it, too."""
COUNTED = ("tokenworlds.config.spaces",)
"""Modules of harmless packages that count: this one makes the environments of Gymnasium."""
MEASURES = (
    "tokenworlds.agents.imagined_world",
    "tokenworlds.ops.similarity",
    "tokenworlds.training.classification",
    "tokenworlds.training.costs",
    "tokenworlds.training.probes",
    "tokenworlds.training.token_churn",
    "tokenworlds.training.tokenizer_quality",
    "tokenworlds.training.world_model_quality",
)
"""Modules that measure a trained world model: results depend on them, training does not. Of what they import, measures
alone count: they import every kind of agent to distinguish them."""
SEAMS = {
    "tokenworlds.backbones": ("BACKBONES", "model.backbone"),
    "tokenworlds.backbones.trunk": ("READERS", "model.world_model.trunk.init"),
    "tokenworlds.config.spaces": ("", ""),  # packages outside of the project, which register environments
    "tokenworlds.envs.registry": ("BENCHMARKS", "benchmark"),
    "tokenworlds.methods": ("METHODS", "method"),
    "tokenworlds.methods.learners": ("LEARNERS", "model.decoding"),
    "tokenworlds.tokenizers.codebook": ("QUANTISERS", "model.tokenizer.quantiser"),
    "tokenworlds.methods.delta": ("GENERATORS", "model.world_model.generator.kind"),
    "tokenworlds.tokenizers.external": ("", ""),  # modules of other programs
    "tokenworlds.tokenizers.image": ("NETWORKS", "model.tokenizer.network"),
    "tokenworlds.tokenizers.terms": ("TERMS", "model.tokenizer.loss."),
    "tokenworlds.world_models": ("DECODINGS", "model.decoding"),
}
"""Modules that import others by name -> the table of the names, and the setting that chooses an entry; a section (with
a dot at its end) chooses those of all its sections. Of a table only the chosen entries count."""
PACKAGES = {"tokenworlds": "src", "pipeline": "."}
"""Packages of the project -> the folder that holds them."""
_BY_NAME = {"import_module", "__import__", "exec_module", "run_module", "run_path"}
_HEEDED = {"ClassVar", "InitVar", "KW_ONLY"}  # annotations that dataclasses distinguish
_FIELD = 2  # an annotated name in a class, which makes a field of a dataclass; Python's own marks are 0 and 1


def is_harmless(module: str) -> bool:
    """Whether no edit of the module changes a result."""
    names = (f"{module}.__init__", *(module[:end] for end in range(len(module) + 1) if f"{module}."[end] == "."))
    return module not in COUNTED and any(name in HARMLESS for name in names)


def digest(path: Path, module: str = "") -> str:
    """Twelve hexadecimal digits of what a source file does.

    Args:
        module: full name; of a module of ``SEAMS`` the table does not count.
    """
    return _Module(path, module).digest


def closure(root: Path, start: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the modules that a module imports, by full name, where they count; of tables of names (``SEAMS``)
    those of the chosen entries, as ``<module>:<table>.<entry>``.

    Imports in functions count like all others. What is imported for annotations does not.

    Args:
        root: project whose files are read.
        start: full name of the module with which the program begins.
        settings: choices by dotted key.

    Raises:
        UserError: a module imports others by name, or a table has no entry for a choice.
    """
    found: dict[str, str] = {}
    left, known = [start], {start}
    while left:
        name = left.pop()
        module = _module_of(root, name)
        if module is None or (is_harmless(name) and name != start):
            continue
        imported = set(module.imports)
        for entry in module.entries(settings):
            imported |= _with_parents(entry.module)
            found[entry.name] = entry.digest
        if not is_harmless(name):
            found[name] = module.digest
        if name in MEASURES:
            imported &= set(MEASURES)
        left += imported - known
        known |= imported
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Entry:
    """An entry of a table of names: its own name, full name of the module that it loads, and digest of its value."""

    name: str
    module: str
    digest: str


class _Module:
    """A source file.

    Args:
        name: full name of the module.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.table, self.choice = SEAMS.get(name, ("", ""))
        try:
            self.body = _essence(ast.parse(path.read_bytes()))
        except SyntaxError as error:
            raise UserError(f"{path} line {error.lineno} is no valid Python: {error.msg}.") from error
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits, without the table of names."""
        return _digest([statement for statement in self.body if self._table_in(statement) is None])

    def entries(self, settings: Mapping[str, Any]) -> list[Entry]:
        """The entries of the table that are chosen; none without a table or a choice.

        Keys of a table are texts or members of an enumeration, values are names of modules or begin with one.
        """
        if self.choice.endswith("."):
            sections = {key.removeprefix(self.choice) for key in settings if key.startswith(self.choice)}
            return [self._entry(name) for name in sorted({key.partition(".")[0] for key in sections})]
        return [] if (choice := settings.get(self.choice)) is None else [self._entry(choice)]

    def _entry(self, choice: Any) -> Entry:
        for table in filter(None, map(self._table_in, self.body)):
            for key, value in zip(table.keys, table.values, strict=True):
                first = value.elts[0] if isinstance(value, ast.Tuple) else value
                if choice == getattr(key, "attr", getattr(key, "value", None)) and isinstance(first, ast.Constant):
                    name = f"{self.name}:{self.table}.{choice}"
                    return Entry(name, f"{self.package}.{first.value!s}", _digest([value]))
        raise UserError(
            f"{self.path}: {self.table} has no entry {choice}; add it, or mend SEAMS of tracking/closure.py."
        )

    def _table_in(self, statement: ast.stmt) -> ast.Dict | None:
        """The table, if a statement assigns it."""
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == self.table for target in targets)
        value = getattr(statement, "value", None)
        return value if named and isinstance(value, ast.Dict) else None

    @cached_property
    def imports(self) -> frozenset[str]:
        """Full names of what the module imports of the project, and of the packages around it. Those of classes and
        functions are among them."""
        own = (name for name in self._imported() if name.partition(".")[0] in PACKAGES)
        return frozenset(name for found in own for name in _with_parents(found))

    def _imported(self) -> Iterator[str]:
        by_name = 0
        for node in (node for statement in self.body for node in ast.walk(statement)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                around = self.package.split(".")[: 1 - node.level or None] if node.level else []
                origin = ".".join([*around, *([node.module] if node.module else [])])
                yield from (f"{origin}.{alias.name}" for alias in node.names)
                by_name += sum(alias.name in _BY_NAME and alias.asname is not None for alias in node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # import_module("..."), python -m ...
                yield node.value if re.fullmatch(r"\w+(\.\w+)+", node.value) else ""
            elif getattr(node, "attr", getattr(node, "id", "")) in _BY_NAME:  # also where it is not called here
                by_name += 1
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in _BY_NAME:
                name = getattr(node.args[0], "value", None) if node.args else None
                by_name -= isinstance(name, str) and not name.startswith(".")
        if by_name > (self.name in SEAMS):
            raise UserError(
                f"{self.path} imports modules by name, which digests of the code cannot follow: write an import "
                "statement, or add the table of the names to SEAMS of tracking/closure.py."
            )


def _module_of(root: Path, name: str) -> _Module | None:
    """The module of a name in a project; None where there is no such file."""
    place = root.joinpath(PACKAGES[name.partition(".")[0]], *name.split("."))
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            status = path.stat()
            return _parsed(path, name, status.st_mtime_ns, status.st_size)
    return None


@lru_cache(maxsize=512)
def _parsed(path: Path, name: str, modified: int, size: int) -> _Module:
    """Time and size distinguish a file that was edited meanwhile."""
    return _Module(path, name)


def _with_parents(name: str) -> set[str]:
    """``a.b.c``, ``a.b`` and ``a``: importing the first imports the others."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


class _Essence(ast.NodeTransformer):
    """Remove what has no effect: docstrings, annotations, blocks for type checkers. ``for_types`` are the names that
    annotations use."""

    def __init__(self) -> None:
        self.for_types = {"TYPE_CHECKING"}

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._forget(node.returns)
            node.returns = None
        return super().visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        self._forget(node.annotation)
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Fields without the types that they have."""
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign):
                statement.simple = _FIELD
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self._forget(node.annotation)
        node.annotation = ast.Constant(" ".join(sorted(_names(node.annotation) & _HEEDED)))
        self.generic_visit(node)
        if node.simple == _FIELD:
            return node
        return None if node.value is None else ast.Assign([node.target], node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Python 3.12 ends some format specifications with an empty text."""
        node.values = [value for value in node.values if getattr(value, "value", None) != ""]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        is_for_types = "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))
        if is_for_types:
            node.body = []
        self.generic_visit(node)
        return node.orelse if is_for_types else node

    def _forget(self, annotation: ast.expr | None) -> None:
        self.for_types |= set() if annotation is None else _names(annotation)


def _essence(tree: ast.Module) -> list[ast.stmt]:
    """The statements without what has no effect, imports for annotations included."""
    essence = _Essence()
    essence.visit(tree)
    nodes = list(ast.walk(tree))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # __all__
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [
                alias
                for alias in node.names
                if alias.asname == alias.name
                or (alias.asname or alias.name.partition(".")[0]) not in essence.for_types - used
            ]
    return tree.body


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, also one below an attribute."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _names(annotation: ast.expr) -> set[str]:
    """Names in an annotation, and in its texts."""
    nodes = list(ast.walk(annotation))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        word for text in texts for word in re.findall(r"\w+", text)
    }


def _digest(statements: Iterable[ast.AST]) -> str:
    return hashlib.sha256(_written(list(statements)).encode()).hexdigest()[:12]


def _written(node: Any) -> str:
    """A syntax tree as text, without empty fields: newer versions of Python have more of them."""
    if isinstance(node, ast.Import | ast.ImportFrom) and (
        not node.names or getattr(node, "module", "") == "__future__"
    ):
        return ""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        parts = (f"{name}={_written(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(parts)})"
    return f"[{', '.join(filter(None, map(_written, node)))}]" if isinstance(node, list) else repr(node)
