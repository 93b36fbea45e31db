"""constraints.txt pins every dependency once for every supported version of Python; make names the same versions."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import PROJECT

SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PINS = [Requirement(line) for line in (PROJECT / "constraints.txt").read_text().splitlines()]
EXTRAS = SETTINGS["project"]["optional-dependencies"]
WANTED = [Requirement(text) for needs in (SETTINGS["project"]["dependencies"], *EXTRAS.values()) for text in needs]
VERSIONS = ("3.11", "3.12", "3.13")


def holds(requirement: Requirement, python: str) -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("python", VERSIONS)
def test_every_dependency_is_pinned_once(python: str) -> None:
    pins: dict[str, list[str]] = {}
    for pin in PINS:
        if holds(pin, python):
            pins.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for wanted in WANTED:
        if wanted.name != "torch" and holds(wanted, python):
            (version,) = pins[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(version), wanted
    assert all(len(found) == 1 for found in pins.values())
    assert "torch" not in pins, "its build is chosen on the machine"


def test_old_versions_of_pip_take_the_pins() -> None:
    assert not any(pin.extras or pin.url for pin in PINS)


def test_the_makefile_agrees_with_the_project() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    exact = {wanted.name: str(wanted.specifier) for wanted in WANTED}
    for name in ("torch", "dm-control"):
        assert set(re.findall(rf"\b{name}(==[\d.]+\d)", makefile)) == {exact[name]}
    assert f"{' '.join(VERSIONS)})" in makefile
    assert SETTINGS["project"]["requires-python"] == ">=3.11,<3.14"
    assert set(re.search(r"^EXTRAS \?= (.*)$", makefile, re.MULTILINE)[1].split(",")) <= set(EXTRAS)  # type: ignore[index]
