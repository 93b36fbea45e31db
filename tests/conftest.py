"""What all tests share: nothing is written into the project, and copies of the project to run the pipeline in."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from jaxtyping import install_import_hook

from tests.browser import Browser, find_browser
from tests.golden import left_out

# Shape annotations of the numerical packages are checked at every call (in production they cost nothing).
CHECKED = (
    "actor_critic", "agents", "backbones", "losses", "ops", "replay", "rng", "tokenizers", "world_models"
)  # fmt: skip
install_import_hook([f"tokenworlds.{name}" for name in CHECKED], "beartype.beartype")

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for every core: torch, not imported yet, takes one thread in each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault of a test, and deliberate faults (tests/mutations) need no shrinking.
settings.register_profile("tests", settings(), suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.register_profile("mutations", settings.get_profile("tests"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("tests")

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(*cases): golden vectors that the test reads, where no parameter says so")


def pytest_report_header() -> str:
    if left_out.is_full_set():
        return f"golden vectors: all of {os.environ['GOLDEN_DIR']}"
    return f"golden vectors: the copy of the project, without {', '.join(left_out.LEFT_OUT)} (GOLDEN_DIR has all)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out.deselect(config, items)


@pytest.fixture(scope="session", autouse=True)
def outside_the_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Scratch and tracking database of the session lie in a temporary folder."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENWORLDS_SCRATCH", str(folder / "scratch"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("DO_NOT_TRACK", "true")
        yield


class Checkout:
    """A copy of the project's sources with a git repository of its own, as a fresh clone would be."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
            "PYTHONWARNINGS": "default",
            "TOKENWORLDS_SCRATCH": str(folder / "scratch"),
            "DVC_NO_ANALYTICS": "true",
        }

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.environment,
            "text": True,
            "start_new_session": True,
        }
        return subprocess.Popen(command, **(settings | options))

    def run(self, *command: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``status`` None accepts any exit status."""
        settings: dict[str, Any] = {"cwd": self.folder, "env": self.environment, "text": True}
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, **settings)
        output = f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, output
        return done

    def train(self, *overrides: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "pipeline.train", *overrides, status=status)

    def dvc(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *arguments, status=status)

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")


def copy_sources(target: Path) -> None:
    """Copy what git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = PROJECT / name
        if not source.is_file() or source.name == "dvc.lock":  # deleted in the work tree; results of another checkout
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(source.read_bytes())


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    """Makes copies of the project to run commands in."""

    def make() -> Checkout:
        folder = tmp_path_factory.mktemp("checkout")
        copy_sources(folder)
        checkout = Checkout(folder, home=tmp_path_factory.mktemp("home"))
        checkout.run("git", "init", "--quiet")
        for key, value in {"user.name": "test", "user.email": "test@example.com"}.items():  # `dvc exp run` needs them
            checkout.run("git", "config", key, value)
        checkout.commit()
        return checkout

    return make


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a file; without one they are skipped: it is no Python package."""
    name = find_browser()
    if name is None:
        pytest.skip("no Chromium or Chrome found; name one in the environment variable CHROMIUM")
    running = Browser(name, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def without_tf32() -> Iterator[None]:
    """A GPU's products in float32 as exact as the host's."""
    import torch  # not above: see OMP_NUM_THREADS

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
