"""Published agents from a server that speaks the Hub's interface: found, checked, imported; refused in one sentence."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenworlds
from tests.checkpoints import hub_server
from tests.checkpoints.hub_server import Hub, Repository
from tests.checkpoints.support import Published, pack, published
from tests.golden.support import load_json
from tests.tracking.support import free_port
from tokenworlds.checkpoints import card
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.checkpoints.fetch import REPOSITORIES, PublishedAgent

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub_server.running() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: Patch) -> Hub:
    """An empty server, and an empty cache."""
    server.__init__(server.url)  # type: ignore[misc]
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return server


@pytest.fixture
def agent(monkeypatch: Patch) -> Published:
    found = published("rem")
    found.play_in_golden_world(monkeypatch)
    return found


@pytest.fixture
def offer(hub: Hub, agent: Published, tmp_path: Path, monkeypatch: Patch) -> Callable[..., bytes]:
    """Puts an agent under some names of IRIS's repository, with the checksum that is known of it."""

    def put(*names: str, repository: str = "iris", is_known: bool = True) -> bytes:
        content = pack(agent.state, "optimiser", tmp_path / "packed.pt").read_bytes()
        hub.repositories[REPOSITORIES[repository].name] = held = Repository()
        held.commit(dict.fromkeys(names, content) | {"README.md": b"# agents"})
        if is_known:
            file = "Pong.pt", hashlib.sha256(content).hexdigest()
            monkeypatch.setitem(REPOSITORIES[repository].files, "atari/Pong", file)
        return content

    return put


def downloads(hub: Hub) -> int:
    return sum(request.startswith("GET /large/") for request in hub.requests)


def commit_of(hub: Hub, name: str) -> str:
    return hub.repositories[name].branches["main"]


def fetched(agent: Published, out: Path, *more: str, name: str = "iris/Pong") -> int:
    return main(["fetch", name, "--out", str(out), *more, "--set", *agent.hidden])


def refusal(capsys: Capture, out: Path) -> str:
    error = capsys.readouterr().err
    sentence = error.splitlines()[-1]  # after progress bars
    assert sentence.startswith("error: ") and len(sentence) <= 420 and not out.exists()
    return sentence


def test_the_known_checksums_are_those_of_the_published_files() -> None:
    files = load_json("iris", "published_checkpoints")["files"]
    assert dict(REPOSITORIES["iris"].files.values()) == {name: entry["sha256"] for name, entry in files.items()}


@pytest.mark.parametrize("is_silent", [True, False])
def test_an_agent_is_fetched_checked_and_imported(
    is_silent: bool, hub: Hub, agent: Published, offer: Any, tmp_path: Path, capsys: Capture
) -> None:
    offer("pretrained/Pong.pt", "pretrained/Boxing.pt")
    hub.lists_digests = not is_silent
    for _ in range(2):  # the second time from the cache
        assert fetched(agent, tmp_path / "out") == 0, capsys.readouterr().err
    assert downloads(hub) == 1
    trained = tokenworlds.load(tmp_path / "out", "cpu")
    assert trained.config.method == "rem" and trained.spec == agent.spec
    about = json.loads((tmp_path / "out" / "agent.json").read_text())
    assert about["imported_from"] == f"eloialonso/iris/pretrained/Pong.pt@{commit_of(hub, 'eloialonso/iris')}"


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(
    hub: Hub, agent: Published, offer: Any, tmp_path: Path
) -> None:
    offer("Pong.pt")
    assert fetched(agent, tmp_path / "out") == 0
    (cached,) = (tmp_path / "cache").rglob("Pong.pt")
    cached.resolve().write_bytes(cached.read_bytes()[:-1] + b"?")
    assert fetched(agent, tmp_path / "out") == 0 and downloads(hub) == 2


@pytest.mark.parametrize(
    ("names", "options", "found"),
    [
        (["Pong/last.pt", "Pong/best.pt", "Pong/optimizer.bin"], [], "Pong/last.pt"),
        (["atari/pong.pt", "atari/Boxing.pt"], [], "atari/pong.pt"),
        (["Pong/seed1.pt", "Pong/seed2.pt"], ["--file", "Pong/seed2.pt"], "Pong/seed2.pt"),
    ],
)
def test_files_of_repositories_without_a_list_are_found_by_the_task(
    hub: Hub,
    names: list[str],
    options: list[str],
    found: str,
    agent: Published,
    offer: Any,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    offer(*names, repository="m3", is_known=False)
    assert fetched(agent, tmp_path / "out", *options, name="m3/Pong") == 0, capsys.readouterr().err
    origin = json.loads((tmp_path / "out" / "agent.json").read_text())["imported_from"]
    assert origin == f"leorc/M3/{found}@{commit_of(hub, 'leorc/M3')}"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Pong/seed1.pt", "Pong/seed2.pt"], "holds 2 agents of atari/Pong (Pong/seed1.pt, Pong/seed2.pt); name the"),
        (["Boxing.pt"], "holds no agents of atari/Pong (Boxing.pt); name the file"),
        ([], "holds no agents of atari/Pong (no weights at all); name the file"),
    ],
)
def test_files_that_could_be_meant_are_named(
    names: list[str], message: str, agent: Published, offer: Any, tmp_path: Path, capsys: Capture
) -> None:
    offer(*names, repository="m3", is_known=False)
    assert fetched(agent, tmp_path / "out", name="m3/Pong") == 2
    assert message in refusal(capsys, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("iris/Breakout", "atari/Breakout"),
        ("iris/atari/Breakout", "atari/Breakout"),
        ("delta_iris/crafter", "crafter/Reward"),
        ("simulus/walker-run", "dmc/walker-run"),
    ],
)
def test_names(name: str, task: str) -> None:
    agent = PublishedAgent.named(name)
    assert agent.task == task and agent.folder.parts[-4:] == ("published", agent.name, *task.split("/"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rem/Pong", "no published agents of 'rem' are known, but of iris, delta_iris, m3, simulus"),
        ("iris/Breakot", "did you mean Breakout"),
        ("iris/Tennis", "no published agent is called 'iris/Tennis'"),
        ("m3/atari", "no published agent is called 'm3/atari'"),
        ("iris", "no published agent is called 'iris'"),
    ],
)
def test_other_names_are_refused(name: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["fetch", name, "--out", str(tmp_path / "out")]) == 2
    assert message in refusal(capsys, tmp_path / "out")


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "--list"], ["fetch", "iris/Pong", "--list"]])
def test_published_agents_are_listed(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    listed = capsys.readouterr().out
    assert "iris/TASK from eloialonso/iris: Alien, Amidar," in listed and "delta_iris/TASK from vmicheli/" in listed


BY_HAND = (
    "download Pong.pt of eloialonso/iris elsewhere and give "
    "`python -m tokenworlds.checkpoints import Pong.pt --task atari/Pong --out "
)


def test_without_network_one_sentence_says_what_to_do(
    agent: Published, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert fetched(agent, tmp_path / "out") == 2
    sentence = refusal(capsys, tmp_path / "out")
    assert "cannot be reached" in sentence and BY_HAND in sentence


def test_without_the_library_too(agent: Published, tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(card.importlib.util, "find_spec", lambda name: None)
    assert fetched(agent, tmp_path / "out") == 2
    sentence = refusal(capsys, tmp_path / "out")
    assert "pip install -c constraints.txt -e '.[hub]'" in sentence and BY_HAND in sentence


def test_a_repository_that_is_gone(hub: Hub, agent: Published, tmp_path: Path, capsys: Capture) -> None:
    assert fetched(agent, tmp_path / "out") == 2
    assert BY_HAND in refusal(capsys, tmp_path / "out")


def test_a_download_that_breaks_leaves_nothing_half_written(
    hub: Hub, agent: Published, offer: Any, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its attempts

    content = offer("Pong.pt")
    halves = iter([content[: len(content) // 2]])
    hub.damage = lambda _: next(halves, b"")
    assert fetched(agent, tmp_path / "out") == 2
    assert BY_HAND in refusal(capsys, tmp_path / "out")
    hub.damage = bytes
    assert fetched(agent, tmp_path / "out") == 0, capsys.readouterr().err


@pytest.mark.parametrize("is_silent", [True, False])
def test_another_file_than_was_published_is_refused(
    is_silent: bool, hub: Hub, agent: Published, offer: Any, tmp_path: Path, capsys: Capture
) -> None:
    offer("Pong.pt")
    held = hub.repositories["eloialonso/iris"]
    held.commit(held.files() | {"Pong.pt": held.files()["Pong.pt"] + b"more"})
    hub.lists_digests = not is_silent
    assert fetched(agent, tmp_path / "out") == 2
    sentence = refusal(capsys, tmp_path / "out")
    assert "sends another Pong.pt than was published (sha256 " in sentence and BY_HAND in sentence


def test_what_was_not_imported_is_not_replaced_and_nothing_is_asked_for(
    hub: Hub, agent: Published, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.json").write_text("{}")
    assert fetched(agent, tmp_path / "run") == 2
    assert "holds a finished run, which an import would replace" in capsys.readouterr().err and not hub.requests


def test_an_agent_of_another_task_is_refused(
    hub: Hub, offer: Any, agent: Published, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    """A file under a wrong name."""
    state = {key: value[:3] if "actor_linear" in key else value for key, value in agent.state.items()}
    agent.state.clear()
    agent.state.update(state)
    offer("Pong.pt")
    assert fetched(agent, tmp_path / "out") == 2
    assert "is an agent of REM with 3 actions, but atari/Pong has 4" in refusal(capsys, tmp_path / "out")
