"""What Ray's engine does without Ray: files from nodes with a file system of their own, and refusals."""

import hashlib
import json
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from pipeline.launch.attempts import Attempt, Job
from pipeline.launch.engines import ray_node
from pipeline.launch.engines.ray import RayEngine, authentication, packed, store
from tests.launch.jobs import make_job
from tokenworlds.errors import UserError


def sent(**files: bytes) -> ray_node.Files:
    return {name: (hashlib.sha256(content).hexdigest(), content) for name, content in files.items()}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("TOKENWORLDS_SCRATCH", str(tmp_path / "scratch"))
    return make_job(code=tmp_path / "code")


FILES = {"ended.json": b'{"status": 0}', "log": b"epoch 1\n"}
SCORES = {"scores.json": json.dumps({"config_hash": "hash"}).encode(), "media/a.png": b"picture"}


def test_a_run_folder_and_the_attempts_files_are_stored(job: Job) -> None:
    attempt = Attempt(job.folder, 1)
    found = {"attempt": sent(**FILES), "results": sent(**SCORES)}
    store(found, job, attempt)
    assert attempt.status == 0 and attempt.last_line == "epoch 1"
    assert {name: (job.results / name).read_bytes() for name in SCORES} == SCORES
    store(found, job, attempt)  # once more: the run is there


@pytest.mark.parametrize("part", ["attempt", "results"])
@pytest.mark.parametrize("damage", ["content", "../../place", "/place"])
def test_what_has_not_arrived_as_it_was_sent_is_refused(part: str, damage: str, job: Job) -> None:
    found = {"attempt": sent(**FILES), "results": sent(**SCORES)}
    name, (digest, content) = next(iter(found[part].items()))
    found[part] |= {name: (digest, content + b"x")} if damage == "content" else {damage: (digest, content)}
    with pytest.raises(ValueError, match="was damaged on its way"):
        store(found, job, Attempt(job.folder, 1))
    assert not job.results.exists() and Attempt(job.folder, 1).status is None


def test_code_is_packed_as_git_knows_it(tmp_path: Path) -> None:
    for name in ("src/a.py", "tests/b.py", "results/c.txt", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "src", "tests", "params.yaml"], cwd=tmp_path, check=True)
    archive = packed(tmp_path)
    assert zipfile.ZipFile(BytesIO(archive["content"])).namelist() == ["params.yaml", "src/a.py"]
    (tmp_path / "src/a.py").touch()
    assert packed(tmp_path) == archive


def test_without_ray_a_sentence_says_what_to_install(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^launching runs needs the package ray; .*cluster"):
        (engine := RayEngine()).check([job])
    engine.close()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1", "127.0.0.1:99999999"])
def test_an_address_at_which_nobody_listens_is_refused(address: str, job: Job) -> None:
    with pytest.raises(UserError, match=f"^no Ray at {address} "):
        RayEngine(address).check([job])


def test_a_token_of_the_user_or_the_environment_is_shown_to_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert not authentication()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    assert authentication() == {"RAY_AUTH_MODE": "token"}
    (tmp_path / ".ray" / "auth_token").unlink()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a")
    assert authentication()
