"""What README.md and docs/ name exists: links, commands, paths, settings, variants, items; no line is too long."""

import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.items import ITEMS
from tests.conftest import PROJECT
from tokenworlds import config
from tokenworlds.config.run import SCHEMAS
from tokenworlds.config.values import Leaf, fields_of
from tokenworlds.errors import UserError

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
METHODS = {path.parent.name: yaml.safe_load(path.read_text()) for path in PROJECT.glob("pipeline/*/params.yaml")}
WIDTH = 120

GENERATED = re.compile(r"^<!-- table: .*?^<!-- /table -->$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = ("analysis", "benchmarks", "docs", "pipeline", "results/data", "src", "tests")
PACKAGES = tuple(f"{path.name}/" for path in (PROJECT / "src" / "tokenworlds").iterdir() if path.is_dir())
SECTIONS = ("environment", "collection", "model", "training", "quirks", "evaluation", "runtime")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))


def written(page: Path) -> str:
    """A page without the tables that the analysis fills in."""
    return GENERATED.sub("", page.read_text())


def in_line(page: Path) -> list[str]:
    """Code within the text."""
    return CODE.findall(FENCED.sub("", written(page)))


def commands(page: Path) -> list[list[str]]:
    """Shell commands of a page, in words; those of recipes are executed by tests of their own."""
    if page.name in ("extending.md", "any_environment.md"):
        return []
    text = written(page).replace("\\\n", " ")
    lines = [line for language, body in FENCED.findall(text) if not language for line in body.splitlines()]
    found = [*lines, *in_line(page)]
    parts = [part for line in found if re.match(r"(python|make|dvc) ", line) for part in re.split(r"; | && ", line)]
    return [shlex.split(part, comments=True) for part in parts]


@every_page
def test_lines_are_short_enough_to_read_side_by_side(page: Path) -> None:
    long = [line for line in written(page).splitlines() if len(line) > WIDTH and not line.startswith("|")]
    assert not long


def test_the_readme_fits_in_three_screens() -> None:
    assert len(README.read_text().splitlines()) <= 110


def anchors(page: Path) -> set[str]:
    """Those of headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", written(page))):
        path, _, anchor = target.partition("#")
        aimed = (page.parent / path).resolve() if path else page
        assert aimed.is_file(), target
        assert not anchor or anchor in anchors(aimed), target


@every_page
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        if command[0] == "make":
            assert {word for word in command[1:] if "=" not in word} <= targets, command
        elif command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]), command
        elif command[0] == "python" and command[1].endswith(".py"):
            assert (PROJECT / command[1]).is_file(), command


def trainings() -> Iterator[str]:
    for page in PAGES:
        for command in commands(page):
            if command[:3] == ["python", "-m", "pipeline.train"] and any("task=" in word for word in command):
                yield shlex.join(word for word in command[3:] if not word.startswith("-"))


@pytest.mark.parametrize("overrides", dict.fromkeys(trainings()))
def test_runs_are_configured_as_written(overrides: str) -> None:
    given = [word for word in shlex.split(overrides) if "perceptual_weights" not in word]
    if not any(word.startswith("scale=") for word in given):
        given.append("scale=smoke")
    config.load(given)


@every_page
def test_paths_exist(page: Path) -> None:
    for code in in_line(page):
        path = re.fullmatch(r"[\w./-]+\.(py|md|yaml|csv)", code)
        if path and code.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and "params.yaml/" not in code:
            assert (PROJECT / code).exists(), code
        elif path and code.startswith(PACKAGES):
            assert (PROJECT / "src" / "tokenworlds" / code).exists(), code


@functools.cache
def settings() -> set[str]:
    """Every dotted name of every method's configuration, of a section too, whether it is given or not."""

    def names(section: type[Any], prefix: str = "") -> Iterator[str]:
        for name, part in fields_of(section).items():
            yield f"{prefix}{name}"
            if not isinstance(part, Leaf):
                yield from names(part, f"{prefix}{name}.")

    return {name for schema in SCHEMAS.values() for name in names(schema)}


@every_page
def test_settings_exist(page: Path) -> None:
    for code in in_line(page):
        for word in code.split():
            name = word.partition("=")[0]
            if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.[a-z_]+)+", name) and not name.endswith((".json", ".py")):
                assert name in settings(), code


@every_page
def test_items_exist(page: Path) -> None:
    known = {item.id for item in ITEMS}
    named = {code for code in in_line(page) if re.fullmatch(r"(R\d+|IRIS|REM|DIRIS|M3|OURS)-[TF](-[\w-]+)?", code)}
    assert page.name == "extending.md" or named <= known


def test_the_number_of_items_is_that_of_the_pages() -> None:
    assert f"{len(ITEMS)} items" in (PROJECT / "docs" / "analysis.md").read_text()
    assert f"{len(ITEMS) - 1} tables" in README.read_text()


@pytest.mark.parametrize("method", METHODS)
def test_the_page_of_a_method_names_its_variants_and_the_source_of_every_number(method: str) -> None:
    page = PROJECT / "docs" / "methods" / f"{method}.md"
    assert set(METHODS[method]["variants"]) <= set(in_line(page))
    shown = GENERATED.search(page.read_text()[page.read_text().index("## Hyper-parameters") :])
    assert shown is not None
    sections = set(re.findall(r"^\| ([a-z]+[a-z_.]*) \| [a-z]", shown[0], re.MULTILINE))
    sources = re.findall(r"^\| `([a-z_.]+)` \| ", written(page), re.MULTILINE)
    assert {"model.policy", "training.actor_critic"} <= sections
    assert all(any(f"{section}.".startswith(f"{known}.") for known in sources) for section in sections)


def test_a_setting_that_is_none_would_be_found() -> None:
    assert "quirks.burn_in_actions" in settings() and "quirks.burn" not in settings()
    with pytest.raises(UserError):
        config.load(["method=iris", "task=atari/Pong", "scale=smoke", "quirks.burn=1"])
