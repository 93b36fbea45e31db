"""A kit of small wheels, collected from a folder in place of an index, and what is said of one that does not fit."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import kit
from tests.conftest import PROJECT
from tokenworlds.errors import UserError

PLATFORM = "manylinux_2_17_" + os.uname().machine
PIP = (sys.executable, "-m", "pip")
BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        for path, text in {files!r}.items():
            wheel.writestr(path, text)
    return name

build_editable = build_wheel
"""


def files_of(name: str, version: str, needs: tuple[str, ...] = ()) -> dict[str, str]:
    """Path -> text in a wheel with one empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {
        f"{name}.py": "",
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }


def add_wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files_of(name, version, needs).items():
            wheel.writestr(path, text)


def write_sources(folder: Path, name: str, version: str, settings: str, needs: tuple[str, ...] = ()) -> None:
    """A project that builds itself: nothing has to be installed for that."""
    folder.mkdir(parents=True, exist_ok=True)
    system = 'build-system = {requires = [], build-backend = "backend", backend-path = ["."]}\n'
    (folder / "pyproject.toml").write_text(system + settings)
    backend = BACKEND.format(name=name, version=version, files=files_of(name, version, needs))
    (folder / "backend.py").write_text(backend)
    (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one dependency of every kind, beside the folder ``index`` with their releases."""
    project = tmp_path_factory.mktemp("place") / "my project"
    index = project.parent / "index"
    index.mkdir()
    for name, version in (
        ("torch", "2.13.0"),
        ("plain", "1.5"),
        ("plain", "1.6"),
        ("inner", "3.0"),
        ("labmaze", "1.0"),
    ):
        add_wheel(index, name, version, *(["inner"] if version == "1.5" else []))
    add_wheel(index, "dm_control", "1.0.50", "labmaze")
    write_sources(index / "sources-0.3", "sources", "0.3", "")
    with tarfile.open(index / "sources-0.3.tar.gz", "w:gz") as archive:
        archive.add(index / "sources-0.3", "sources-0.3")
    needs = ("sources==0.*", "plain>=1", "torch==2.13.0")
    settings = (
        f"[project]\ndependencies = {list(needs)}\n[project.optional-dependencies]\ndmc = ['inner']\nother = []\n"
    )
    write_sources(project, "tokenworlds", "0.1.0", settings, needs)
    (project / "constraints.txt").write_text("plain==1.5\ninner==3.0 ; python_version > '3'\nsources==0.3\n")
    return project


@pytest.fixture(scope="module")
def collected(project: Path) -> Path:
    """The kit of that project, with the environment of pip that finds its releases."""
    folder = project.parent / "my kit"
    with pytest.MonkeyPatch.context() as patch:
        use_index(patch, project)
        collector = kit.Collector(PIP, folder, project / "constraints.txt", PLATFORM)
        kit.collect(collector, ["dmc"], project, bare=["dm-control==1.0.50"], sources=["sources"])
    return folder


def use_index(patch: pytest.MonkeyPatch, project: Path) -> None:
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", (project.parent / "index").as_uri())


WHEELS = {"torch-2.13.0", "plain-1.5", "inner-3.0", "sources-0.3", "dm_control-1.0.50"}


def test_a_kit_holds_the_pinned_wheels_and_one_built_from_sources(project: Path, collected: Path) -> None:
    found = kit.read(collected)
    assert found and set(found.wheels) == {f"{name}-py3-none-any.whl" for name in WHEELS}
    assert (found.python, found.platform, found.extras) == (kit.running_python(), PLATFORM, ["dmc"])
    kit.check(collected, ["dmc"], project)


def change(name: str, value: Any) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        content = json.loads((folder / kit.MANIFEST).read_text())
        (folder / kit.MANIFEST).write_text(json.dumps(content | {name: value}))

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / kit.MANIFEST).unlink(), r"holds no complete kit \(kit.json is missing or damaged"),
        (lambda folder: (folder / kit.MANIFEST).write_text("{"), "holds no complete kit"),
        (change("python", "3.10"), "is for Python 3.10, this is 3.1.: say make setup KIT=.* PYTHON=python3.10, or"),
        (change("platform", "manylinux_2_17_z80"), "is for manylinux_2_17_z80, this is .* KIT_PLATFORM="),
        (change("platform", "manylinux_2_99_" + os.uname().machine), "is for manylinux_2_99_.*, this is "),
        (change("extras", []), "lacks the extra dmc: on a machine with network, make kit KIT=.* EXTRAS=dmc adds it"),
        (change("versions", "0"), "was made for other versions than pyproject.toml and constraints.txt name now"),
        (lambda folder: (folder / "torch-2.13.0-py3-none-any.whl").unlink(), "1 of the 5 wheels in .* torch-2.13"),
        (lambda folder: (folder / "plain-1.5-py3-none-any.whl").write_bytes(b"PK"), "missing or cut off, plain-1.5"),
    ],
)  # fmt: skip
def test_a_kit_that_does_not_fit_is_refused(
    project: Path, collected: Path, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    folder = shutil.copytree(collected, tmp_path / "kit")
    damage(folder)
    with pytest.raises(UserError, match=said):
        kit.check(folder, ["dmc"], project)


def test_a_broken_wheel_of_somebody_else_is_not_removed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine-1-py3-none-any.whl").write_bytes(b"PK")
    collector = kit.Collector(PIP, tmp_path, project / "constraints.txt", PLATFORM)
    with pytest.raises(UserError, match=r"mine-1-py3-none-any.whl is cut off, .* remove it"):
        kit.collect(collector, ["dmc"], project)
    assert (tmp_path / "mine-1-py3-none-any.whl").read_bytes() == b"PK"


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit.sys, "platform", "linux")  # where kits for Linux are made
    (tmp_path / "file").touch()
    assert kit.main(["collect", str(tmp_path / "file" / "kit"), "--only", "plain"]) == 2
    assert "name another folder with KIT=" in capsys.readouterr().err


def test_changed_pins_make_a_kit_stale(project: Path, collected: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(project, tmp_path / "changed")
    with (changed / "constraints.txt").open("a") as file:
        file.write("more==1\n")
    with pytest.raises(UserError, match="was made for other versions"):
        kit.check(collected, ["dmc"], changed)


def test_a_kit_for_something_else_is_not_mixed_with_it(project: Path, collected: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(collected, tmp_path / "kit")
    collector = kit.Collector(PIP, folder, project / "constraints.txt", "manylinux_2_28_z80")
    with pytest.raises(UserError, match=rf"holds a kit for Python \S+ on {PLATFORM}: give another"):
        kit.collect(collector, ["dmc"], project)
    assert (folder / kit.MANIFEST).exists()


@pytest.mark.integration
def test_an_interrupted_kit_is_completed(
    project: Path, collected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel that was cut off is fetched again. What nobody has is told, and the manifest stays."""
    use_index(monkeypatch, project)
    folder = shutil.copytree(collected, tmp_path / "kit")
    cut = folder / "torch-2.13.0-py3-none-any.whl"
    content = cut.read_bytes()
    cut.write_bytes(content[:100])
    collector = kit.Collector(PIP, folder, project / "constraints.txt", PLATFORM)
    with pytest.raises(UserError, match="pip could not get everything for manylinux_2_17_"):
        kit.collect(collector, ["dmc"], project, bare=["nowhere"], sources=[])
    assert cut.read_bytes() == content
    kit.check(folder, ["dmc"], project)


def test_wheels_for_older_systems_are_taken_too() -> None:
    assert kit.platforms("macosx_14_0_arm64") == ["macosx_14_0_arm64"]
    names = kit.platforms("manylinux_2_28_x86_64")
    assert names[0] == "manylinux_2_28_x86_64" and "manylinux_2_29_x86_64" not in names
    assert names[-4:] == ["manylinux_2_5_x86_64", *(f"manylinux{n}_x86_64" for n in (2014, 2010, 1))]
    assert kit.platforms("manylinux_2_14_x86_64")[-2:] == ["manylinux2010_x86_64", "manylinux1_x86_64"]


def test_an_unknown_extra_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="there is no extra nothing; known: dmc, other"):
        kit.requirements(["nothing"], project)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("linux_x86_64", "expected a platform such as manylinux_2_28_x86_64, found linux_x86_64"),
        ("macosx_14_0_arm64", "a kit for macosx_14_0_arm64 is made on that system"),
    ],
)
def test_a_platform_that_pip_cannot_collect_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert kit.main(["collect", str(tmp_path / "kit"), "--platform", name]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "kit").exists()


@pytest.mark.integration
def test_packages_alone_come_without_what_they_need(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_index(monkeypatch, project)
    collector = kit.Collector(PIP, tmp_path / "kit", project / "constraints.txt", PLATFORM)
    kit.collect_only(collector, ["plain"])
    assert list(kit.wheels(tmp_path / "kit")) == ["plain-1.5-py3-none-any.whl"]


@pytest.mark.integration
def test_setup_installs_from_the_kit_alone(project: Path, collected: Path, tmp_path: Path) -> None:
    """Twice: first with a wheel missing, which is said before anything is made."""
    folder = shutil.copytree(project, tmp_path / "my checkout")
    shutil.copy(PROJECT / "Makefile", folder)
    (folder / "pipeline").mkdir()
    for name in ("__init__.py", "kit.py"):
        shutil.copy(PROJECT / "pipeline" / name, folder / "pipeline")
    (folder / "src").symlink_to(PROJECT / "src")
    moved = collected / "plain-1.5-py3-none-any.whl"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_INDEX_URL": "http://127.0.0.1:9"}
    command = ["make", "setup", f"KIT={collected}", f"PYTHON={sys.executable}", "EXTRAS=dmc"]

    def setup() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    moved.rename(tmp_path / moved.name)
    refused = setup()
    (tmp_path / moved.name).rename(moved)
    assert refused.returncode == 2 and "1 of the 5 wheels in" in refused.stderr and not (folder / ".venv").exists()
    done = setup()
    assert done.returncode == 0, done.stderr
    script = "import torch, plain, sources, dm_control; from importlib.metadata import version; print(version('plain'))"
    found = subprocess.run(
        [folder / ".venv" / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "1.5\n"
