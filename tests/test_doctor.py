"""The doctor names what is missing, whatever it is; a check that fails, hangs or aborts itself is a line, too."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import doctor as pipeline_doctor
from pipeline import preflight, suite
from tests.conftest import PROJECT
from tokenworlds import doctor
from tokenworlds.__main__ import main
from tokenworlds.config import trunk
from tokenworlds.doctor import Line, Status, report

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

PYPROJECT = """
[project]
requires-python = "{python}"
dependencies = ["numpy>=2", {dependency}]
[project.optional-dependencies]
drawing = ["pillow>=10"]
flying = ["no-such-wings[feathers]>=1"]
"""
KILLED = "import os; os.kill(os.getpid(), 9)"  # as an abort, but without a core file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A project of its own around the working folder, without results."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "params.yaml").write_text("model: {}\n")
    monkeypatch.chdir(tmp_path)
    for name in ("TOKENWORLDS_SCRATCH", "MLFLOW_TRACKING_URI", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT / "src"), str(PROJECT)]))
    return tmp_path


def declare(project: Path, python: str = ">=3.11", dependency: str = "") -> None:
    (project / "pyproject.toml").write_text(PYPROJECT.format(python=python, dependency=dependency))


def only(check: Callable[[], object]) -> Line:
    """The one line of a check."""
    (line,) = check()  # type: ignore[misc]
    assert isinstance(line, Line)
    return line


@pytest.mark.parametrize(
    ("wanted", "status"),
    [(">=3.11", "ok"), (">=3.8,<4", "ok"), (">=3.99", "mend"), (">=3.8,<3.10", "mend"), (">=3.11,<3.11.1", "mend")],
)
def test_the_interpreter_is_one_of_those_that_are_declared(project: Path, wanted: str, status: str) -> None:
    declare(project, python=wanted)
    line = only(doctor.python)
    assert line.status == status and (status == "ok" or f"is not {wanted}; make setup" in line.text)


def test_packages_are_there_in_the_versions_that_were_tested(project: Path) -> None:
    declare(project)
    assert only(doctor.packages).status is Status.ok
    (project / "constraints.txt").write_text("numpy==0.1\nno-such-package==1\n")
    line = only(doctor.packages)
    assert line.status is Status.note and "(0.1)" in line.text and "no-such" not in line.text
    declare(project, dependency='"no_such-package[all]>=1; python_version > 3"')
    line = only(doctor.packages)
    assert line.status is Status.mend and line.text.startswith("missing: no_such-package; pip install -c")


def test_an_extra_is_missing_if_one_of_its_packages_is(project: Path) -> None:
    declare(project)
    complete, lacking = doctor.extras()
    assert (complete.status, complete.text) == (Status.ok, "drawing")
    assert lacking.status is Status.note and "no-such-wings; pip install" in lacking.text and "[flying]" in lacking.text


def test_without_a_checkout_the_installed_package_says_what_it_needs(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "project_root", lambda: tmp_path)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy", 'no-wings>1; extra == "flying"'])
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    assert doctor._requirements() == (">=3.11", {"": ["numpy"], "flying": ["no-wings>1"]})
    assert only(doctor.suites).status is Status.note


NVML = SimpleNamespace(
    nvmlInit=lambda: None, nvmlSystemGetDriverVersion=lambda: "570.1", nvmlDeviceGetCount=lambda: 1,
    nvmlDeviceGetHandleByIndex=lambda index: index, nvmlDeviceGetName=lambda handle: "H200",
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=141e9),
)  # fmt: skip


@pytest.mark.parametrize(
    ("nvml", "found", "expected"),
    [
        (NVML, ["2.13.0", "13.0", True, False], {"GPU 0": "ok", "torch": "ok"}),
        (NVML, ["2.13.0", "13.0", False, False], {"GPU 0": "ok", "torch": "note update NVIDIA's driver"}),
        (NVML, ["2.13.0+cpu", None, False, False], {"GPU 0": "ok", "torch": "note pip install torch==2.13.0 from"}),
        (None, ["2.13.0+cpu", None, False, False], {"torch": "ok", "GPU": "note no NVIDIA GPU was found"}),
        (None, ["2.13.0", None, False, True], {"torch": "ok", "GPU": "ok"}),
    ],
)
def test_a_gpu_that_is_there_is_used_by_torch(
    monkeypatch: Patch, nvml: object, found: list[object], expected: dict[str, str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # None: the import fails
    monkeypatch.setattr(doctor, "probe", lambda *arguments: found)
    lines = {line.subject: line for line in doctor.torch()}
    assert lines.keys() == expected.keys()
    for subject, wanted in expected.items():
        status, _, text = wanted.partition(" ")
        assert lines[subject].status == status and text in lines[subject].text
    assert "GPU 0" not in lines or lines["GPU 0"].text == "H200, 141 GB, driver 570.1"


def test_a_torch_that_aborts_is_a_line(monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "TORCH", KILLED)
    line = next(line for line in doctor.torch() if line.subject == "torch")
    assert line.status is Status.mend and "killed by signal 9" in line.text


def test_folders_that_cannot_be_written_are_named(project: Path, monkeypatch: Patch) -> None:
    assert [line.status for line in doctor.folders()] == [Status.ok, Status.ok]
    (project / "results").touch()
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(project / "results" / "scratch"))
    results, scratch = doctor.folders()
    assert results.status is scratch.status is Status.mend
    assert str(project / "results") in results.text and "$TOKENWORLDS_SCRATCH" in scratch.text


def test_a_full_disk_is_named(project: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=20_000_000))
    assert all(line.status is Status.note and "make room" in line.text for line in doctor.folders())


def tables(database: Path, revision: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for name in ("experiments", "runs", "metrics"):
            connection.execute(f"create table {name} (id integer)")
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values (?)", (revision,))
        connection.commit()


@pytest.mark.integration  # imports MLflow, twice
def test_a_tracking_database_of_an_older_or_newer_mlflow_is_recognised(project: Path) -> None:
    database = project / "mlflow.db"
    assert only(doctor.store).status is Status.ok  # the first run makes it
    tables(database, "451aebb31d03")  # of 2019
    before = (database.read_bytes(), sorted(project.iterdir()))
    line = only(doctor.store)
    assert line.status is Status.note and "tokenworlds.tracking prepare" in line.text
    assert (database.read_bytes(), sorted(project.iterdir())) == before
    database.unlink()
    tables(database, "0123456789ab")
    line = only(doctor.store)
    assert line.status is Status.mend and "does not know its revision 0123456789ab" in line.text


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_damaged_tracking_database_is_named(project: Path, content: bytes) -> None:
    (project / "mlflow.db").write_bytes(content)
    line = only(doctor.store)
    assert line.status is Status.mend and "is no complete MLflow database" in line.text


def test_a_place_for_the_tracking_database_that_cannot_be_written(project: Path, monkeypatch: Patch) -> None:
    (project / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/file/mlflow.db")
    line = only(doctor.store)
    assert line.status is Status.mend and "$MLFLOW_TRACKING_URI" in line.text


def test_a_tracking_database_that_cannot_be_written(project: Path, monkeypatch: Patch) -> None:
    (project / "mlflow.db").touch()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # for root every file can be
    line = only(doctor.store)
    assert line.status is Status.mend and "cannot be written" in line.text


@pytest.mark.parametrize("status", [200, 401])
def test_a_server_answers_or_not_and_its_password_is_masked(monkeypatch: Patch, status: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{server.server_port}/mlflow/")
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        line = only(doctor.store)
        thread.join()
    assert line.status is Status.ok and asked == ["/mlflow/health"] and "hunter2" not in str(line)
    line = only(doctor.store)
    assert line.status is Status.note and "tokenworlds.tracking sync" in line.text and "hunter2" not in str(line)


def repository(folder: Path) -> None:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
    for command in (["init", "--quiet"], [*identity, "commit", "--quiet", "--allow-empty", "--message", "state"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def test_git_is_there_with_a_commit_and_an_identity(project: Path, monkeypatch: Patch) -> None:
    line = only(doctor.git)
    assert line.status is Status.note and "no repository" in line.text
    repository(project)
    line = only(doctor.git)
    assert line.status is Status.note and "git config user.name" in line.text
    subprocess.run(["git", "-C", str(project), "config", "user.email", "me@example.com"], check=True)
    assert only(doctor.git).status is Status.ok
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert "is not installed" in only(doctor.git).text


def test_dvc_is_initialised_knows_about_git_and_is_not_in_use(project: Path) -> None:
    assert only(doctor.dvc).status is Status.mend
    (project / ".dvc" / "tmp").mkdir(parents=True)
    line = only(doctor.dvc)
    assert line.status is Status.note and "make repro" in line.text
    (project / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    assert only(doctor.dvc).status is Status.ok
    with (project / ".dvc" / "tmp" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = only(doctor.dvc)
        assert line.status is Status.note and "wait" in line.text
    assert only(doctor.dvc).status is Status.ok  # the file has stayed


@pytest.mark.parametrize(("extra", "status"), [(None, "mend"), ("no-such-simulator", "note")])
def test_a_benchmark_that_cannot_be_played(monkeypatch: Patch, extra: str | None, status: str) -> None:
    monkeypatch.setitem(doctor.BENCHMARKS, "atari", ("no_such_module", extra))
    line = only(lambda: doctor.game("atari"))
    assert line.status == status and "no_such_module" in line.text


def test_a_benchmark_that_can_be_played() -> None:
    line = only(lambda: doctor.game("minigrid_symbolic"))
    assert line.status is Status.ok and "can be played" in line.text


def test_a_benchmark_of_any_environments_has_no_line(monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "probe", lambda *arguments: [])
    assert not list(doctor.game("atari"))


@pytest.mark.parametrize(
    ("chosen", "said"), [("off", "MUJOCO_GL=off"), ("", "egl: killed by signal 9: "), ("glass", "(glass: killed by")]
)
def test_bodies_that_cannot_be_drawn_are_a_note(monkeypatch: Patch, chosen: str, said: str) -> None:
    """Graphics libraries abort the process in which they fail."""
    monkeypatch.setenv("MUJOCO_GL", chosen)
    monkeypatch.setattr(doctor, "GAME", KILLED)
    line = only(doctor.renderer)
    assert line.status is Status.note and said in line.text


def test_a_missing_encoder_is_a_note(monkeypatch: Patch, tmp_path: Path) -> None:
    assert only(doctor.films).status is Status.ok
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    line = only(doctor.films)
    assert line.status is Status.note and "no films" in line.text


def test_perceptual_weights_are_where_the_settings_say(project: Path) -> None:
    assert "names none" in only(doctor.perceptual).text
    (project / "params.yaml").write_text("model: {tokenizer: {perceptual_weights: weights}}\n")
    assert "there is no" in only(doctor.perceptual).text
    (project / "weights").mkdir()
    assert "vgg16" in only(doctor.perceptual).text
    (project / "weights" / "vgg16-397923af.pth").touch()
    assert only(doctor.perceptual).status is Status.ok


@pytest.fixture
def suites(project: Path, monkeypatch: Patch) -> Path:
    """The suites of the project, with everything that they need."""
    shutil.rmtree(project / "pipeline")
    shutil.copytree(PROJECT / "pipeline", project / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "params.yaml").write_text("model: {tokenizer: {perceptual_weights: params.yaml}}\n")
    monkeypatch.setattr(preflight, "is_installed", lambda module: True)
    monkeypatch.setattr(preflight, "gpus", lambda: 1)
    monkeypatch.setattr(preflight, "torch_build", lambda: "2.13.0")
    monkeypatch.setattr(preflight, "physical_memory", lambda: 10**12)
    monkeypatch.setattr(preflight, "_free", lambda place: 10**13)
    suite.activate("dmc")
    return project


def statuses() -> dict[str, str]:
    return {line.subject: str(line.status) for line in pipeline_doctor.lines()}


def test_every_suite_has_a_line_and_the_active_one_is_what_counts(suites: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(trunk, "digest_of_weights", lambda place: "0" * 12)  # language models, for everybody to bring
    names = {f"suite {name}" for name in suite.known_suites()} - {"suite dmc"} | {"suite dmc *"}
    assert statuses() == dict.fromkeys(names, "ok")
    monkeypatch.setattr(preflight, "gpus", lambda: 0)  # a warning
    found = statuses()
    assert found["suite dmc *"] == found["suite craftax"] == "note" and found["suite smoke"] == "ok"
    monkeypatch.setattr(preflight, "is_installed", lambda module: module not in ("dm_control", "jax"))
    found = statuses()
    assert found["suite dmc *"] == "mend" and found["suite craftax"] == found["suite smoke"] == "note"


@pytest.mark.parametrize(("grid", "said"), [(None, "none is active"), ("grid: {suite: 1}", "write it anew")])
def test_without_an_active_suite_one_is_to_be_chosen(suites: Path, grid: str | None, said: str) -> None:
    path = suites / "pipeline" / "grid.yaml"
    path.unlink() if grid is None else path.write_text(grid)
    (suites / "pipeline" / "suites" / "smoke.yaml").write_text("scale: none\n")
    lines = {line.subject: line for line in pipeline_doctor.lines()}
    assert lines["suite"].status is Status.mend and said in lines["suite"].text
    assert lines["suite smoke"].status is Status.note and "line 1: scale" in lines["suite smoke"].text
    assert lines["suite dmc"].status is Status.ok


@pytest.mark.integration
def test_the_suites_of_the_project_are_asked_for_in_a_process_of_their_own(suites: Path) -> None:
    lines = list(doctor.suites())
    assert len(lines) == len(suite.known_suites()) and lines[0].subject == "suite dmc *"


def fine() -> list[Line]:
    return [Line(Status.ok, "fine", "well")]


def fails() -> list[Line]:
    raise ZeroDivisionError("by nothing")


def hangs() -> list[Line]:
    time.sleep(2)
    return fine()


def test_a_check_that_fails_or_hangs_is_a_line_and_the_others_go_on() -> None:
    started = time.monotonic()
    lines = list(doctor.examine({"A": fine, "B": hangs, "C": fails, "D": fine}, seconds=0.2))
    assert time.monotonic() - started < 1.5
    assert [line.status for line in lines] == ["ok", "mend", "mend", "ok"]
    assert "no answer within 0.2 s" in lines[1].text and "ZeroDivisionError: by nothing" in lines[2].text


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("status", list(Status))
def test_the_status_of_the_command_says_whether_something_has_to_be_mended(
    monkeypatch: Patch, capsys: Capture, status: Status, as_json: bool
) -> None:
    lines = [Line(status, "MLflow", "http://me:hunter2@host"), Line(Status.ok, "fine", "well")]
    monkeypatch.setattr(doctor, "checks", lambda: {"MLflow": lambda: lines})
    assert report(as_json) == (1 if status is Status.mend else 0)
    printed = capsys.readouterr().out
    assert "hunter2" not in printed and "***@host" in printed
    if as_json:
        assert json.loads(printed)["ok"] is (status is not Status.mend)
        assert json.loads(printed)["lines"][1] == {"status": "ok", "subject": "fine", "text": "well"}
    else:
        assert printed.splitlines()[1].split() == ["ok", "fine", "well"]


def test_help_is_there_without_torch(capsys: Capture) -> None:
    code = "import sys, tokenworlds.__main__ as m\ntry: m.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "--json" in capsys.readouterr().out


@pytest.mark.integration
def test_the_whole_report_of_this_machine() -> None:
    """Every check has an answer, and none is that the check itself failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tokenworlds", "doctor", "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = json.loads(done.stdout)["lines"]
    subjects = {line["subject"] for line in lines}
    assert {
        "Python",
        "packages",
        "torch",
        "results",
        "MLflow",
        "DVC",
        "atari",
        "GL",
        "films",
        "suite paper",
    } <= subjects
    assert not [line for line in lines if line["text"].startswith(("this check failed", "no answer"))]
    assert done.returncode == int(any(line["status"] == "mend" for line in lines)) and not done.stderr
