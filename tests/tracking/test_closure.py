"""Digests of the code: what changes them, and which modules count."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tokenworlds.errors import UserError
from tokenworlds.tracking import closure
from tokenworlds.tracking.closure import COUNTED, HARMLESS, MEASURES, SEAMS, digest

SOURCE = '''"""A module."""

from dataclasses import dataclass
from torch import nn


@dataclass
class Layer(nn.Module):
    """With a size."""

    size: int
    """in units"""
    depth: int = 2


def loss(x: float) -> float:
    """Of x."""
    y: float = 2 * x  # twice
    return y
'''


@pytest.mark.parametrize(
    ("old", "new", "is_change"),
    [
        ("  # twice", "", False),
        ('"""A module."""\n', "", False),
        ('    """Of x."""\n', "", False),
        ('    """in units"""\n', "", False),
        ("2 * x", "2*(x)", False),
        ("2 * x", "3 * x", True),
        ("x: float", "y: float", True),
        ("x: float", "x", False),
        ("x: float", "x: nn.Module", False),
        (" -> float", "", False),
        (" -> float", ' -> "nn.Module"', False),
        ("y: float", "y", False),
        ("    y: float", "    z: int\n    y: float", False),
        ("size: int", "size: float", False),
        ("size: int", "width: int", True),
        ("depth: int = 2", "depth = 2", True),  # no field any more
        ("depth: int = 2", "depth: ClassVar[int] = 2", True),
        ("depth: int", "depth: list[int]", False),
        ("from dataclasses", "from __future__ import annotations\n\nfrom dataclasses", False),
        ("from torch", "from collections.abc import Iterable\nfrom torch", True),  # who knows what it is for
        ("x: float", "x: Any", False),
        ("\n@dataclass", "\nif TYPE_CHECKING:\n    import numpy\n\n@dataclass", False),
        ("\n@dataclass", "\nif typing.TYPE_CHECKING:\n    import numpy\nelse:\n    import math\n\n@dataclass", True),
    ],
)
def test_what_a_program_does_is_a_change(tmp_path: Path, old: str, new: str, is_change: bool) -> None:
    path, other = tmp_path / "one.py", tmp_path / "other.py"
    assert old in SOURCE
    path.write_text(SOURCE)
    other.write_text(SOURCE.replace(old, new))
    assert (digest(path) != digest(other)) is is_change


@pytest.mark.parametrize(
    ("imported", "annotation", "code", "is_change"),
    [
        ("from typing import Any, TYPE_CHECKING\n", "Any", "", False),
        ("from typing import Any\n", "Any", "\nkinds = [Any]\n", True),
        ("import numpy as np\n", "np.ndarray", "", False),
        ("from numpy import ndarray as array\n", "'array | None'", "", False),
        ("from numpy import ndarray as ndarray\n", "ndarray", "", True),  # for others to import
        ("from numpy import ndarray\n", "ndarray", "\n__all__ = ['ndarray']\n", True),
        ("import numpy\n", "float", "", True),  # for its effect
    ],
)
def test_an_import_for_annotations_is_no_change(
    tmp_path: Path, imported: str, annotation: str, code: str, is_change: bool
) -> None:
    path, other = tmp_path / "one.py", tmp_path / "other.py"
    path.write_text("def f(x): ...\n")
    other.write_text(f"{imported}def f(x: {annotation}): ...\n{code}")
    assert (digest(path) != digest(other)) is is_change


def test_digests_are_those_of_every_version_of_python(tmp_path: Path) -> None:
    """Computed with Python 3.11, 3.12 and 3.13: the files in git hold for all of them."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE + "\n\ndef text(x, *, n=0, **options):\n    return f'{x!r:>{n}}' f'{x:{n}}', None, ...\n")
    assert digest(path) == "24c025f029cb"


Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Writes modules of tokenworlds; ``envs__registry`` is tokenworlds.envs.registry."""

    def write(**modules: str) -> Path:
        for name, source in modules.items():
            path = tmp_path / "src" / "tokenworlds" / f"{name.replace('__', '/')}.py"
            for folder in (*reversed(path.relative_to(tmp_path).parents),):
                (tmp_path / folder).mkdir(exist_ok=True)
                if "tokenworlds" in folder.parts:
                    (tmp_path / folder / "__init__.py").touch()
            path.write_text(source)
        return tmp_path

    return write


def counted(root: Path, **settings: str) -> set[str]:
    """Names of what counts for tokenworlds.start."""
    choices = {name.replace("__", "."): value for name, value in settings.items()}
    return {name.removeprefix("tokenworlds.") for name in closure.closure(root, "tokenworlds.start", choices)}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tokenworlds.ops.other", {"ops", "ops.other"}),
        ("from tokenworlds import losses", {"losses"}),
        ("from tokenworlds.ops.other import f", {"ops", "ops.other"}),
        ("from .ops import other", {"ops", "ops.other"}),
        ("def f():\n    from tokenworlds import losses", {"losses"}),
        ("from importlib import import_module\nimport_module('tokenworlds.losses')", {"losses"}),
        ("command = ['python', '-m', 'tokenworlds.losses']", {"losses"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tokenworlds import losses", set()),
        ("from tokenworlds.losses import Losses\ndef f(x: Losses): ...", set()),
        ("from tokenworlds import errors, tracking", set()),
        ("import numpy, tokenworlds.absent", set()),
    ],
)
def test_imports_are_followed_in_every_form(project: Project, source: str, found: set[str]) -> None:
    root = project(start=source, losses="", ops__other="", errors="import tokenworlds.ops.other", tracking__journal="")
    assert counted(root) == {"start", *found}


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module\nimport_module(f'tokenworlds.{name}')",
        "from importlib import import_module as load\nload(name)",
        "import importlib\nload = importlib.import_module\nload(name)",
        "import importlib\nmap(importlib.import_module, names)",
        "from importlib import import_module\nimport_module('.losses', 'tokenworlds')",
        "__import__(name)",
        "import runpy\nrunpy.run_path(name)",
    ],
)
def test_an_import_by_name_is_refused(project: Project, source: str) -> None:
    with pytest.raises(UserError, match=r"ops/other\.py imports modules by name"):
        counted(project(start="import tokenworlds.ops.other", ops__other=source))


BACKBONES = "BACKBONES = {Name.retnet: ('retnet', 'RetNet'), Name.gru: ('recurrent', 'GRU')}\n"
BUILD = "def build(name):\n    return import_module(f'{__name__}.{BACKBONES[name][0]}')\n"


def test_of_a_table_the_chosen_entry_counts(project: Project) -> None:
    modules = {"start": "import tokenworlds.backbones.base", "backbones__retnet": "", "backbones__recurrent": ""}
    root = project(backbones__base="", **modules)
    package = root / "src" / "tokenworlds" / "backbones" / "__init__.py"
    package.write_text(BACKBONES + BUILD)
    before = closure.closure(root, "tokenworlds.start", {"model.backbone": "retnet"})
    entry = "backbones:BACKBONES.retnet"
    expected = {"start", "backbones", "backbones.base", "backbones.retnet", entry}
    assert {name.removeprefix("tokenworlds.") for name in before} == expected
    package.write_text(BACKBONES.replace("'GRU')", "'GRU'), Name.mean: ('mean', 'Mean')") + BUILD)
    assert closure.closure(root, "tokenworlds.start", {"model.backbone": "retnet"}) == before
    package.write_text(BACKBONES.replace("'RetNet'", "'Other'") + BUILD)
    after = closure.closure(root, "tokenworlds.start", {"model.backbone": "retnet"})
    assert {name for name in after if after[name] != before[name]} == {f"tokenworlds.{entry}"}
    assert counted(root) == {"start", "backbones", "backbones.base"}  # a method without backbones
    with pytest.raises(UserError, match="BACKBONES has no entry mean"):
        counted(root, model__backbone="mean")


def test_a_section_chooses_an_entry_for_each_of_its_own_sections(project: Project) -> None:
    modules = {f"tokenizers__terms__{name}": "" for name in ("base", "value", "similarity", "motion")}
    root = project(start="import tokenworlds.tokenizers.terms", **modules)
    table = "TERMS = {'value': ('value', 'V'), 'ssim': ('similarity', 'S'), 'motion': ('motion', 'M')}\n"
    build = "def build(name):\n    return import_module(f'{__name__}.{TERMS[name][0]}')\n"
    (root / "src" / "tokenworlds" / "tokenizers" / "terms" / "__init__.py").write_text(table + build)
    package = {"start", "tokenizers", "tokenizers.terms"}
    assert counted(root) == package
    chosen = {f"model__tokenizer__loss__{name}": "1" for name in ("value__weight", "value__gamma", "motion__weight")}
    entries = {f"tokenizers.terms:TERMS.{name}" for name in ("value", "motion")}
    assert counted(root, **chosen) == package | entries | {"tokenizers.terms.value", "tokenizers.terms.motion"}


def test_a_second_import_by_name_beside_a_table_is_refused(project: Project) -> None:
    root = project(start="import tokenworlds.backbones.base", backbones__base="")
    (root / "src/tokenworlds/backbones/__init__.py").write_text(BACKBONES + BUILD + BUILD)
    with pytest.raises(UserError, match="imports modules by name"):
        counted(root)


def test_every_listed_module_exists() -> None:
    """One that was renamed would count, or not, without anybody noticing."""
    for name in (*HARMLESS, *COUNTED, *MEASURES, *SEAMS):
        place = PROJECT.joinpath("" if name == "pipeline" else "src", *name.split("."))
        assert place.is_dir() or place.with_name(f"{place.name}.py").is_file(), name
