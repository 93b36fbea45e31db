"""Check an installation: versions, hardware, folders, tracking, games, and what every suite needs.

All checks run at the same time, in threads. What may abort, or imports much, is done by a process of its own. A check
that fails itself, or gives no answer, becomes a line of the report like any other.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psutil

from tokenworlds.config import PERCEPTUAL_FILES, project_root
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.envs.film import DISABLED, RENDERERS, SWITCH
from tokenworlds.envs.registry import BENCHMARKS
from tokenworlds.envs.vector.environment import usable_processors
from tokenworlds.errors import UserError, brief, installing
from tokenworlds.files import require_room
from tokenworlds.locks import is_held
from tokenworlds.redaction import redact
from tokenworlds.tracking.revision import git_revision
from tokenworlds.tracking.store import is_local, resolve_uri
from tokenworlds.training.run_folder import scratch_root

SECONDS = 60.0  # for all checks together; without a fault they take less than ten
LITTLE_ROOM = 1_000_000_000  # bytes; the smoke suite writes 140 MB, with DVC's cache and MLflow's store
INSTALL = "pip install -c constraints.txt -e"


class Status(StrEnum):
    ok = "ok"
    note = "note"  # works without
    mend = "mend"  # needed by the active suite


@dataclass(frozen=True)
class Line:
    """One finding; where the status is not ok, the text says what to do."""

    status: Status
    subject: str
    text: str

    def __str__(self) -> str:
        return redact(f"{self.status:<5} {self.subject:<18} {self.text}")


Check = Callable[[], Iterable[Line]]


class ProbeError(Exception):
    """A process that ended badly, and why."""


def probe(*arguments: str, variables: Mapping[str, str] | None = None, cwd: Path | None = None) -> Any:
    """The last line that another Python prints, which is JSON.

    Args:
        arguments: of the interpreter.
        variables: added to the environment.

    Raises:
        ProbeError: it failed, was killed by a signal (an abort in a library), or did not end.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments], env={**os.environ, **(variables or {})}, cwd=cwd, text=True, check=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS - 5,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        how = f"killed by signal {-error.returncode}: " if error.returncode < 0 else ""
        raise ProbeError(how + re.sub(r"^[\w.]+(Error|Exception): ", "", said).rstrip(".")) from error
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise ProbeError(f"no answer ({brief(error, 60)})") from error


# Python and its packages


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements() -> tuple[str, dict[str, list[str]]]:
    """The versions of Python, and the packages by extra (``""``: those of every installation)."""
    path = project_root() / "pyproject.toml"
    if path.is_file():
        project = tomllib.loads(path.read_text())["project"]
        return project["requires-python"], {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {"": []}
    for each in metadata.requires("tokenworlds") or ():
        name, _, marker = each.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        found.setdefault(extra[1] if extra else "", []).append(name)
    return metadata.metadata("tokenworlds")["Requires-Python"], found


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _missing(requirements: Iterable[str]) -> list[str]:
    names = (re.split(r"[^\w.-]", each.strip())[0] for each in requirements)
    return [name for name in names if _installed(name) is None]


def _tested() -> dict[str, set[str]]:
    """The versions of each package with which everything was tested; those of other Pythons may differ."""
    path, tested = project_root() / "constraints.txt", dict[str, set[str]]()
    for line in [*_requirements()[1][""], *(path.read_text().splitlines() if path.is_file() else ())]:
        if match := re.match(r"([\w.-]+)==([\w.]+)", line):
            tested.setdefault(_normalised(match[1]), set()).add(match[2])
    return tested


def python() -> Iterator[Line]:
    """The interpreter."""
    wanted, found = _requirements()[0], platform.python_version()
    lowest, *highest = (tuple(map(int, each.split("."))) for each in re.findall(r"[\d.]+", wanted))
    fits = lowest <= sys.version_info[: len(lowest)] and all(sys.version_info[: len(each)] < each for each in highest)
    if fits:
        yield Line(Status.ok, "Python", f"{found}, {sys.prefix}")
    else:
        yield Line(Status.mend, "Python", f"{found} is not {wanted}; make setup PYTHON=/path/to/another")


def packages() -> Iterator[Line]:
    """What every installation needs, in the versions that were tested."""
    needed, tested = _requirements()[1][""], _tested()
    if missing := _missing(needed):
        yield Line(Status.mend, "packages", f"missing: {', '.join(missing)}; {INSTALL} . installs them")
        return
    found = {name: (_installed(name) or "").partition("+")[0] for name in tested}
    other = [
        f"{name} {version} ({' or '.join(sorted(tested[name]))})"
        for name, version in found.items()
        if version and version not in tested[name]
    ]
    if other:
        shown = ", ".join(other[:4]) + (" ..." if len(other) > 4 else "")
        yield Line(Status.note, "packages", f"other versions than tested: {shown}; {INSTALL} . installs those")
    else:
        yield Line(Status.ok, "packages", f"{len(needed)} that are needed, in the versions of constraints.txt")


def extras() -> Iterator[Line]:
    """Packages for single purposes."""
    missing = {name: _missing(needed) for name, needed in _requirements()[1].items() if name}
    if complete := [name for name, lacking in missing.items() if not lacking]:
        yield Line(Status.ok, "extras", ", ".join(complete))
    for name, lacking in missing.items():
        if lacking:
            yield Line(Status.note, f"extra {name}", f"without {', '.join(lacking)}; {installing(name)}")


# The machine


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU.

    Raises:
        Exception: NVML's, where there is no driver.
    """
    import pynvml

    pynvml.nvmlInit()
    driver, found = pynvml.nvmlSystemGetDriverVersion(), []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
        found.append(f"{pynvml.nvmlDeviceGetName(handle)}, {memory / 1e9:.0f} GB, driver {driver}")
    return found


TORCH = """
import json, torch
available = torch.cuda.is_available()
for index in range(torch.cuda.device_count() if available else 0):
    assert torch.ones(2, device=f"cuda:{index}").sum().item() == 2
print(json.dumps([torch.__version__, torch.version.cuda, available, torch.backends.mps.is_available()]))
"""


def torch() -> Iterator[Line]:
    """The build of torch and the GPUs that it can use."""
    try:
        found, why = gpus(), "the driver knows none"
    except Exception as error:  # no driver, or no library for it
        found, why = [], brief(error, 60)
    for index, name in enumerate(found):
        yield Line(Status.ok, f"GPU {index}", name)
    try:
        version, cuda, available, mps = probe("-c", TORCH)
    except ProbeError as error:
        yield Line(Status.mend, "torch", f"cannot compute here ({brief(error)}); install it again: make setup")
        return
    build = f"{version}, {f'CUDA {cuda}' if cuda else 'built for CPUs'}"
    if found and not cuda:
        remedy = f"pip install torch=={version.partition('+')[0]} from an index that has the CUDA build first"
        yield Line(Status.note, "torch", f"{build}: it does not use the GPU here; {remedy}")
    elif found and not available:
        yield Line(Status.note, "torch", f"{build}: it cannot use the GPU here; update NVIDIA's driver")
    else:
        yield Line(Status.ok, "torch", build)
    if mps:
        yield Line(Status.ok, "GPU", "Apple's (runtime.device=mps)")
    elif not found:
        yield Line(
            Status.note, "GPU", f"no NVIDIA GPU was found ({why}); the suites of paper scale need one, others do not"
        )


def machine() -> Iterator[Line]:
    """Processors and memory."""
    cores = usable_processors()
    memory = psutil.virtual_memory()
    yield Line(
        Status.ok, "machine",
        f"{cores} cores, {memory.available / 1e9:.0f} of {memory.total / 1e9:.0f} GB of memory available",
    )  # fmt: skip


# Places


def folders() -> Iterator[Line]:
    """Where results and scratch are: writable, and how much room there is."""
    for name, folder, remedy in (
        ("results", project_root() / "results", "make it writable, or choose another project folder"),
        ("scratch", scratch_root(), "name another folder with $TOKENWORLDS_SCRATCH"),
    ):
        try:
            require_room(folder, remedy)
        except UserError as error:
            yield Line(Status.mend, name, str(error).rstrip("."))
            continue
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        room = f"{free / 1e9:.1f} GB free"
        if free < LITTLE_ROOM:
            yield Line(Status.note, name, f"{folder}: {room} alone; make room, or {remedy}")
        else:
            yield Line(Status.ok, name, f"{folder}: writable, {room}")


STORE = """
import json, sys
from pathlib import Path
from tokenworlds.tracking.database import has_current_tables
print(json.dumps(has_current_tables(Path(sys.argv[1]))))
"""


def store() -> Iterator[Line]:
    """The database or server of MLflow."""
    address, remedy = resolve_uri(), "name another place with $MLFLOW_TRACKING_URI (sqlite:////path/mlflow.db)"
    if not is_local():
        yield _server(address)
        return
    database = Path(address.removeprefix("sqlite:///"))
    try:
        require_room(database.parent, remedy)
        if not database.exists():
            yield Line(Status.ok, "MLflow", f"{database}: the first run makes it")
        elif not os.access(database, os.W_OK):
            yield Line(Status.mend, "MLflow", f"{database} cannot be written; make it writable, or {remedy}")
        elif probe("-c", STORE, str(database)):
            yield Line(Status.ok, "MLflow", f"{database}: writable, its tables are those of MLflow here")
        else:
            upgrade = "the next run upgrades it, or python -m tokenworlds.tracking prepare"
            yield Line(Status.note, "MLflow", f"{database}: its tables are those of an older MLflow; {upgrade}")
    except (UserError, ProbeError) as error:
        yield Line(Status.mend, "MLflow", str(error).rstrip("."))


def _server(address: str) -> Line:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return Line(Status.ok, "MLflow", f"{address} (not asked)")
    host = parts.netloc.rpartition("@")[2]  # who has no access is answered, too
    try:
        urllib.request.urlopen(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        sent = "runs go on without it, and python -m tokenworlds.tracking sync sends them later"
        return Line(Status.note, "MLflow", f"{address} does not answer ({brief(error, 60)}); {sent}")
    return Line(Status.ok, "MLflow", f"{address} answers")


def _git(*arguments: str) -> str | None:
    """What git says; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project_root()), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def git() -> Iterator[Line]:
    """The revision that runs record."""
    if shutil.which("git") is None:
        yield Line(Status.note, "git", "is not installed: runs record no revision, and dvc exp needs it")
    elif _git("rev-parse", "HEAD") is None:
        without = "runs record no revision, and dvc exp needs git init and a commit"
        yield Line(Status.note, "git", f"{project_root()} is no repository with a commit: {without}")
    elif _git("config", "user.email") is None:
        remedy = "git config user.name NAME; git config user.email ADDRESS"
        yield Line(Status.note, "git", f"revision {git_revision()}; dvc exp needs an identity: {remedy}")
    else:
        yield Line(Status.ok, "git", f"revision {git_revision()}")


def dvc() -> Iterator[Line]:
    """The state of DVC's folder."""
    folder = project_root() / ".dvc"
    settings = "".join(path.read_text() for path in folder.glob("config*") if path.is_file())
    if not folder.is_dir():
        yield Line(Status.mend, "DVC", f"{project_root()} has no .dvc; clone the project again, or dvc init")
    elif _git("rev-parse", "HEAD") is None and "no_scm" not in settings:
        yield Line(Status.note, "DVC", "has to be told that there is no git; make repro does it")
    elif is_held(folder / "tmp" / "lock"):
        yield Line(Status.note, "DVC", "another dvc command is running in this project; wait for its end")
    else:
        yield Line(Status.ok, "DVC", f"{_installed('dvc')}, {folder}")


# Games, films, weights

GAME = """
import importlib, json, sys
from tokenworlds import config, envs
benchmark, module, *actions = sys.argv[1:]
names = importlib.import_module(f"tokenworlds.envs.{module}").names()
if names:
    environment = envs.make(f"{benchmark}/{names[0]}", config.EnvironmentConfig())
    environment.reset(seed=0)
    if actions:
        environment.render()
print(json.dumps(names))
"""


def game(benchmark: str) -> Iterator[Line]:
    """Whether the first task of a benchmark can be played; nothing of one that lists none."""
    try:
        if names := probe("-c", GAME, benchmark, BENCHMARKS[benchmark][0]):
            yield Line(Status.ok, benchmark, f"{names[0]}, the first of {len(names)}, can be played")
    except ProbeError as error:
        is_extra = BENCHMARKS[benchmark][1] is not None  # a suite that needs it says so
        yield Line(Status.note if is_extra else Status.mend, benchmark, str(error))


def renderer() -> Iterator[Line]:
    """What draws the bodies of DeepMind Control, as films of episodes are made."""
    chosen = os.environ.get(SWITCH, "").strip().lower()
    if chosen in DISABLED:
        yield Line(Status.note, "GL", f"{SWITCH}={chosen}: no films of DeepMind Control; unset it for these")
        return
    reasons = []
    for name in (chosen,) if chosen else RENDERERS:
        try:
            probe("-c", GAME, "dmc", "dmc", "render", variables={SWITCH: name})
            yield Line(Status.ok, "GL", f"DeepMind Control is drawn by {name}")
            return
        except ProbeError as error:
            reasons.append(f"{name}: {brief(error, 60)}")
    remedy = "install a graphics driver with EGL, or OSMesa (Debian: libosmesa6)"
    yield Line(Status.note, "GL", f"no films of DeepMind Control ({'; '.join(reasons)}); {remedy}")


FILM = """
import json
import imageio.v2 as imageio, imageio_ffmpeg, numpy
imageio.mimwrite("<bytes>", [numpy.zeros((16, 16, 3), "uint8")] * 2, "mp4", fps=15, macro_block_size=1)
print(json.dumps(imageio_ffmpeg.get_ffmpeg_version()))
"""


def films() -> Iterator[Line]:
    """The encoder of films."""
    try:
        yield Line(Status.ok, "films", f"ffmpeg {probe('-c', FILM)}")
    except ProbeError as error:
        remedy = f"{INSTALL} . brings one, or name yours in $IMAGEIO_FFMPEG_EXE"
        yield Line(Status.note, "films", f"no films of episodes: ffmpeg fails ({brief(error, 80)}); {remedy}")


def perceptual() -> Iterator[Line]:
    """Weights of the perceptual loss, which only the suites of paper scale use."""
    subject, remedy = "LPIPS weights", "docs/paper_scale.md, Perceptual loss"
    values: Any = read_mapping(project_root() / "params.yaml", "params.yaml")
    for key in ("model", "tokenizer", "perceptual_weights"):
        values = values.get(key) if isinstance(values, Mapping) else None
    if values is None:
        yield Line(Status.note, subject, f"params.yaml names none: IRIS, REM and M3 at paper scale need them; {remedy}")
        return
    path = project_root() / str(values)
    if not path.exists():
        yield Line(Status.note, subject, f"there is no {path}, which params.yaml names; {remedy}")
    elif path.is_dir() and not (path / PERCEPTUAL_FILES[0]).is_file():
        yield Line(Status.note, subject, f"{path} holds no {PERCEPTUAL_FILES[0]}; {remedy}")
    else:
        yield Line(Status.ok, subject, str(path))


def suites() -> Iterator[Line]:
    """What every suite of the project around the working folder lacks. The library does not know suites."""
    root = project_root()
    if not (root / "pipeline" / "doctor.py").is_file():
        yield Line(Status.note, "suites", "no checkout of the project here: nothing can be trained from this folder")
        return
    for line in probe("-m", "pipeline.doctor", cwd=root):
        yield Line(Status(line["status"]), line["subject"], line["text"])


def checks() -> dict[str, Check]:
    """All checks by their subject, in the order of the report."""
    of_module: dict[str, str] = {}  # one benchmark of each
    for benchmark, (module, _) in BENCHMARKS.items():
        of_module.setdefault(module, benchmark)
    games = {benchmark: partial(game, benchmark) for benchmark in of_module.values()}
    return {
        "Python": python, "packages": packages, "extras": extras, "torch": torch, "machine": machine,
        "folders": folders, "MLflow": store, "git": git, "DVC": dvc,
        **games, "GL": renderer, "films": films, "LPIPS weights": perceptual, "suites": suites,
    }  # fmt: skip


def examine(chosen: Mapping[str, Check], seconds: float = SECONDS) -> Iterator[Line]:
    """Lines of all checks in their order, as soon as they are known."""
    answers = {subject: _start(check) for subject, check in chosen.items()}
    end = monotonic() + seconds
    for subject, answer in answers.items():
        try:
            yield from answer.result(max(end - monotonic(), 0))
        except TimeoutError:
            yield Line(Status.mend, subject, f"no answer within {seconds:g} s; is a disk or a server hanging?")
        except Exception as error:
            yield Line(Status.mend, subject, f"this check failed: {type(error).__name__}: {brief(error)}")


def _start(check: Check) -> Future[list[Line]]:
    """Run a check in a thread that does not keep the program from ending."""
    answer: Future[list[Line]] = Future()

    def run() -> None:
        try:
            answer.set_result(list(check()))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


def report(as_json: bool = False) -> int:
    """Print all lines.

    Returns:
        0, or 1 if something has to be mended.
    """
    lines = []
    for line in examine(checks()):
        lines.append(line)
        if not as_json:
            print(line, flush=True)
    is_ok = all(line.status is not Status.mend for line in lines)
    if as_json:
        print(redact(json.dumps({"ok": is_ok, "lines": [asdict(line) for line in lines]}, indent=2)))
    return 0 if is_ok else 1
