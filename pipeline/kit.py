"""A kit is a folder with the wheels that ``make setup KIT=folder`` installs on a machine without network.

``make kit KIT=folder`` runs ``python -m pipeline.kit collect``, ``make setup`` runs ``python -m pipeline.kit check``.
Neither has the environment yet: Python and its venv are all that this module needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenworlds.cli import exit_status
from tokenworlds.errors import UserError
from tokenworlds.files import require_room, write_atomic

MANIFEST = "kit.json"
STEP = 8
"""Requirements in one call of pip: what a finished call has brought is not fetched again."""
LINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
SOURCES = ("antlr4-python3-runtime", "crafter", "rliable")
"""Packages that are published without wheels: a kit has wheels built from their sources."""
SETS = {
    "training": (
        *("hydra-core", "omegaconf", "antlr4-python3-runtime", "pyyaml", "packaging", "filelock", "psutil", "tqdm"),
        *("gymnasium", "cloudpickle", "farama-notifications", "ale-py", "minigrid", "pygame-ce", "pillow", "imageio"),
        *("pytest", "pluggy", "iniconfig", "pygments", "pytest-timeout", "pytest-xdist", "execnet"),
        *("hypothesis", "sortedcontainers", "beartype"),
    ),
}
"""Name -> packages that do what it says beside torch, numpy, pandas, einops, safetensors and jaxtyping: training, and
the tests that need a GPU."""
OLD_NAMES = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
"""Version of glibc -> name of the platform before versions were part of it."""


@dataclass(frozen=True)
class Kit:
    """What the wheels of a folder are for, and their sizes in bytes."""

    python: str
    platform: str
    extras: list[str]
    versions: str
    wheels: dict[str, int]


def running_python() -> str:
    """``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def requirements(extras: Iterable[str], project: Path) -> list[str]:
    """What the project, its extras and its build ask for, torch first."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    known = settings["project"]["optional-dependencies"]
    for extra in extras:
        if extra not in known:
            raise UserError(f"there is no extra {extra}; known: {', '.join(known)}.")
    wanted = [*settings["project"]["dependencies"], *settings["build-system"]["requires"]]
    wanted += [requirement for extra in extras for requirement in known[extra]]
    return sorted(wanted, key=lambda requirement: not re.match(r"torch\b", requirement))


def versions(extras: Iterable[str], project: Path) -> str:
    """Digest of what is asked for and of the versions that are pinned."""
    content = [*requirements(extras, project), (project / "constraints.txt").read_text()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def read(folder: Path) -> Kit | None:
    """The kit in a folder; None where there is no complete one."""
    try:
        return Kit(**json.loads((folder / MANIFEST).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def wheels(folder: Path) -> dict[str, int]:
    """Name -> bytes."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.whl"))}


def runs_here(name: str) -> bool:
    """Whether wheels for a platform can be installed on this machine."""
    if linux := LINUX.fullmatch(name):
        library, version = platform.libc_ver()
        least = (int(linux[1]), int(linux[2]))
        return library == "glibc" and tuple(map(int, version.split("."))) >= least and linux[3] == platform.machine()
    return name.startswith("macosx") and sys.platform == "darwin" and name.endswith(platform.machine())


def platforms(name: str) -> list[str]:
    """The platform and those older ones whose wheels run on it; pip takes a name of manylinux literally."""
    linux = LINUX.fullmatch(name)
    if not linux:
        return [name]
    major, newest, machine = int(linux[1]), int(linux[2]), linux[3]
    found = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)]
    return found + [f"{old}_{machine}" for version, old in OLD_NAMES.items() if version <= (major, newest)]


def check(folder: Path, extras: Sequence[str], project: Path) -> None:
    """Refuse a kit that cannot be installed here.

    Raises:
        UserError: it is incomplete, or for another Python, platform, set of extras or of versions.
    """
    mend = f"on a machine with network, make kit KIT={folder}"
    kit = read(folder)
    if kit is None:
        raise UserError(f"{folder} holds no complete kit ({MANIFEST} is missing or damaged): {mend} completes it.")
    if kit.python != running_python():
        raise UserError(
            f"the kit in {folder} is for Python {kit.python}, this is {running_python()}: say make setup KIT={folder} "
            f"PYTHON=python{kit.python}, or make another one with KIT_PYTHON={running_python()}."
        )
    if not runs_here(kit.platform):
        here = f"{' '.join(platform.libc_ver())} on {platform.machine()}".strip()
        raise UserError(
            f"the kit in {folder} is for {kit.platform}, this is {here}: make another one with KIT_PLATFORM=..."
        )
    if missing := [extra for extra in extras if extra not in kit.extras]:
        raise UserError(f"the kit in {folder} lacks the extra {missing[0]}: {mend} EXTRAS={','.join(extras)} adds it.")
    if kit.versions != versions(kit.extras, project):
        raise UserError(
            f"the kit in {folder} was made for other versions than pyproject.toml and constraints.txt name now: {mend} "
            "brings it up to date."
        )
    present = wheels(folder)
    if damaged := [name for name, size in kit.wheels.items() if present.get(name) != size]:
        raise UserError(
            f"{len(damaged)} of the {len(kit.wheels)} wheels in {folder} are missing or cut off, {damaged[0]} first: "
            f"copy the kit again, or {mend} completes it."
        )


@dataclass(frozen=True)
class Collector:
    """Fetches wheels for a platform into a folder.

    Args:
        pip: the command, run by the Python that the kit is for: pip takes the conditions in requirements
            (``python_version < "3.13"``) from the interpreter that runs it.
    """

    pip: Sequence[str]
    folder: Path
    constraints: Path
    platform: str

    def fetch(self, wanted: Sequence[str], *options: str) -> None:
        """Download wheels with all that they need."""
        for_platform = [f"--platform={name}" for name in platforms(self.platform)]
        self._run("download", "--only-binary=:all:", *for_platform, "-d", self.folder, *options, *wanted)

    def build(self, name: str) -> None:
        """Make the wheel of a package that is published without one."""
        with tempfile.TemporaryDirectory() as scratch:
            self._run("wheel", "--no-deps", "-w", scratch, name)
            for wheel in Path(scratch).iterdir():
                if not wheel.name.endswith("-none-any.whl"):
                    raise UserError(
                        f"{name} has no wheel for {self.platform}, and {wheel.name} runs on this system only."
                    )
                write_atomic(self.folder / wheel.name, wheel.read_bytes())

    def _run(self, verb: str, *options: str | Path) -> None:
        command: list[str | Path] = [*self.pip, verb, "-q", "--disable-pip-version-check", "-c", self.constraints]
        command += ["--find-links", self.folder, *options]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise UserError(
                f"pip could not get everything for {self.platform} (its reason is above): the same command continues; "
                "a package without wheels belongs into SOURCES of pipeline/kit.py."
            )


def collect(
    collector: Collector,
    extras: Sequence[str],
    project: Path,
    torch: str = "",
    bare: Sequence[str] = (),
    sources: Sequence[str] = SOURCES,
) -> None:
    """Fetch what a kit lacks, then write its manifest.

    Args:
        torch: a wheel of torch or the address of an index that has it, instead of pip's own.
        bare: requirements whose own needs are left out.
        sources: packages that are published without wheels.

    Raises:
        UserError: the folder holds a kit for something else, or pip cannot get a wheel.
    """
    folder = collector.folder
    earlier = read(folder)
    if earlier and (earlier.python, earlier.platform) != (running_python(), collector.platform):
        raise UserError(f"{folder} holds a kit for Python {earlier.python} on {earlier.platform}: give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob("*.whl"):
        if not zipfile.is_zipfile(wheel):
            if earlier is None or wheel.name not in earlier.wheels:
                raise UserError(
                    f"{wheel} is cut off, by a command that was stopped or by another program: remove it, then give "
                    "the same command again."
                )
            wheel.unlink()
    first, *others = requirements(extras, project)
    is_wheel = torch.endswith(".whl")
    first = torch if is_wheel else first
    print("kit       torch (200 MB, with CUDA some GB)", flush=True)
    collector.fetch([first], *([] if is_wheel or not torch else ["--index-url", torch]))
    for name in sources:
        collector.build(name)
    for start in range(0, len(others), STEP):
        _report(f"{start} of {len(others)} requirements", folder)
        collector.fetch([first, *others[start : start + STEP]])
    for requirement in bare:
        collector.fetch([requirement], "--no-deps")
    kit = Kit(running_python(), collector.platform, list(extras), versions(extras, project), wheels(folder))
    write_atomic(folder / MANIFEST, json.dumps(asdict(kit), indent=1).encode())
    _report(f"complete for Python {kit.python} on {kit.platform}", folder)


def collect_only(collector: Collector, names: Sequence[str]) -> None:
    """Fetch these packages, or sets of packages, without what they need, for a machine that has the rest."""
    collector.folder.mkdir(parents=True, exist_ok=True)
    names = [package for name in names for package in SETS.get(name, (name,))]
    for name in set(names).intersection(SOURCES):
        collector.build(name)
    collector.fetch(names, "--no-deps")
    _report("complete", collector.folder)


def _report(state: str, folder: Path) -> None:
    found = wheels(folder)
    print(f"kit       {state}: {len(found)} wheels, {sum(found.values()) / 1e6:.0f} MB in {folder}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.kit", description=__doc__)
    parser.add_argument("verb", choices=("collect", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extras", default="", help="separated by commas")
    parser.add_argument(
        "--platform", default="manylinux_2_28_x86_64", help="as wheels name it; older ones are included"
    )
    parser.add_argument("--torch", default="", help="a wheel of torch, or the address of an index that has it")
    parser.add_argument("--bare", default="", help="requirements whose own needs are left out, separated by commas")
    parser.add_argument(
        "--only",
        default="",
        help=f"these packages, or sets of them ({', '.join(SETS)}), without what they need, separated by commas",
    )
    options = parser.parse_args(arguments)
    project = Path(__file__).resolve().parents[1]
    extras, bare, only = (text.split(",") if text else [] for text in (options.extras, options.bare, options.only))

    def command() -> None:
        if options.verb == "check":
            return check(options.folder, extras, project)
        if "linux" in options.platform and not LINUX.fullmatch(options.platform):
            raise UserError(f"expected a platform such as manylinux_2_28_x86_64, found {options.platform}.")
        if ("linux" in options.platform) != (sys.platform == "linux"):
            raise UserError(
                f"a kit for {options.platform} is made on that system: pip takes what a package needs from its own."
            )
        require_room(options.folder, "name another folder with KIT=")
        with tempfile.TemporaryDirectory() as scratch:
            venv.create(scratch, with_pip=True)
            pip = (f"{scratch}/bin/python", "-m", "pip")
            collector = Collector(pip, options.folder, project / "constraints.txt", options.platform)
            if only:
                return collect_only(collector, only)
            collect(collector, extras, project, options.torch, bare)

    return exit_status(command, "the same command goes on with what is there")


if __name__ == "__main__":
    sys.exit(main())
