"""The page's server: who is served what, one clock for all browsers, and nonsense that ends nothing."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.viewer.dot import SECONDS, Dot, serving
from tokenworlds.errors import UserError
from tokenworlds.viewer.frame import Frame, Panel
from tokenworlds.viewer.server import IN_FLIGHT, LONGEST_MESSAGE, Server, encode, serve

LOCAL = "127.0.0.1"


@pytest.fixture
def session(tmp_path: Path) -> Dot:
    return Dot(tmp_path)


@pytest.fixture
def server(session: Dot) -> Iterator[Server]:
    with serving(session) as running:
        yield running


def browser(server: Server, path: str = "/socket", **options: Any) -> ClientConnection:
    """A connection as a page of this server opens it."""
    settings = {"origin": f"http://{LOCAL}:{server.port}", "compression": None, "close_timeout": 1} | options
    return connect(f"ws://{LOCAL}:{server.port}{server.base}{path}", **settings)


def decode(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Header and pictures of a frame."""
    (length,) = struct.unpack(">I", message[:4])
    header, start, pictures = json.loads(message[4 : 4 + length]), 4 + length, []
    for panel in header["panels"]:
        pictures.append(message[start : start + panel["bytes"]])
        start += panel["bytes"]
    assert start == len(message)
    return header, pictures


def frames(connection: ClientConnection, answer: bool = True) -> Iterator[dict[str, Any]]:
    """Statuses as they come, each answered as by a page that has drawn it."""
    while True:
        message = connection.recv(SECONDS)
        if isinstance(message, bytes):
            header, _ = decode(message)
            if answer:
                connection.send(json.dumps({"shown": header["number"]}))
            yield header["status"] | {"files": header["files"]}


def until(connection: ClientConnection, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status that fulfils a condition."""
    deadline = time.monotonic() + SECONDS
    for status in frames(connection):
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
    raise AssertionError


def answer(connection: ClientConnection, text: str | bytes) -> dict[str, Any]:
    """What a message is answered with, frames left out."""
    connection.send(text)
    while isinstance(reply := connection.recv(SECONDS), bytes):
        connection.send(json.dumps({"shown": 0}))
    return json.loads(reply)


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; the path as it is, nothing in it resolved."""
    connection = http.client.HTTPConnection(LOCAL, server.port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


def test_a_frame_is_one_message_small_pictures_without_loss() -> None:
    small = np.random.default_rng(0).integers(0, 255, (64, 48, 3), np.uint8)
    large = np.full((97, 210, 3), 90, np.uint8)
    frame = Frame((Panel("small", small), Panel("large", large, 2)), {"value": float("nan"), "all": [1, float("inf")]})
    header, pictures = decode(encode(7, frame))
    assert header["number"] == 7 and header["status"] == {"value": None, "all": [1, None]}
    assert [panel["type"] for panel in header["panels"]] == ["image/png", "image/jpeg"]
    assert [(panel["width"], panel["height"], panel["zoom"]) for panel in header["panels"]] == [
        (48, 64, 1),
        (210, 97, 2),
    ]
    opened = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    assert np.array_equal(opened[0], small) and np.abs(opened[1].astype(int) - large).max() <= 2


def test_keys_of_a_browser_move_the_game_until_they_are_released(server: Server, session: Dot) -> None:
    with browser(server) as one:
        assert json.loads(one.recv(SECONDS))["controls"] == session.controls()
        start = until(one, lambda _: True)["place"]
        one.send(json.dumps({"keys": ["d"]}))
        until(one, lambda status: status["place"][1] == (start[1] + 4) % 16)
        one.send(json.dumps({"keys": []}))
        until(one, lambda status: not session.inputs[-1].keys)
        place = until(one, lambda _: True)["place"]
        assert all(status["place"] == place for status, _ in zip(frames(one), range(5)))
    assert session.threads == {"session"}


def test_a_key_that_is_released_at_once_counts_once(server: Server, session: Dot) -> None:
    with browser(server) as one:
        one.send(json.dumps({"set": "fps", "value": 5}))
        until(one, lambda status: status["fps"] == 5)
        begin = len(session.inputs)
        for keys in (["w"], [], ["a"], []):
            one.send(json.dumps({"keys": keys}))
        step = until(one, lambda _: True)["step"]
        until(one, lambda status: status["step"] > step + 2)
    held = [one.keys for one in session.inputs[begin:]]
    assert sum("w" in keys for keys in held) == sum("a" in keys for keys in held) == 1


def test_two_browsers_hold_keys_together_and_a_vanished_one_holds_none(server: Server, session: Dot) -> None:
    with browser(server) as one, browser(server) as two:
        one.send(json.dumps({"keys": ["w"]}))
        two.send(json.dumps({"keys": ["d"]}))
        until(one, lambda _: session.inputs[-1].keys == {"w", "d"})
        two.socket.shutdown(socket.SHUT_RDWR)  # no goodbye
        until(one, lambda _: session.inputs[-1].keys == {"w"})


def test_sliders_reach_the_session(tmp_path: Path) -> None:
    session = Dot(tmp_path, continuous=True)
    with serving(session) as server, browser(server) as one:
        one.send(json.dumps({"action": [0.5, -1]}))
        until(one, lambda _: session.inputs[-1].action == (0.5, -1.0))
        for wrong in ([0.5], [0.5, 2], [0.5, True], [0.5, None], "no", {}):
            assert "2 numbers" in answer(one, json.dumps({"action": wrong}))["error"]
        assert session.inputs[-1].action == (0.5, -1.0)


def test_a_browser_that_shows_nothing_gets_few_frames_and_delays_nobody(server: Server, session: Dot) -> None:
    with browser(server) as slow, browser(server) as fast:
        fast.send(json.dumps({"set": "fps", "value": 60}))
        start = until(fast, lambda status: status["fps"] == 60)["step"]
        begin = time.monotonic()
        until(fast, lambda status: status["step"] > start + 30)
        assert time.monotonic() - begin < 5  # seconds, of half a second without the slow one
        got = []
        with contextlib.suppress(TimeoutError):
            while True:
                if isinstance(message := slow.recv(0.5), bytes):
                    got.append(decode(message)[0])
        assert len(got) == IN_FLIGHT
        slow.send(json.dumps({"shown": got[0]["number"]}))
        while isinstance(message := slow.recv(SECONDS), str):
            pass
        assert decode(message)[0]["status"]["step"] > start + 30  # the newest frame, not the one that came next


def test_nothing_happens_while_nobody_watches_and_a_new_browser_sees_a_paused_game(
    server: Server, session: Dot
) -> None:
    with browser(server) as one:
        one.send(json.dumps({"do": "pause"}))
        step = until(one, lambda status: status["paused"])["step"]
    with browser(server) as two:
        assert until(two, lambda _: True)["step"] == step
    while server.clients:
        time.sleep(0.01)
    time.sleep(0.2)
    ticks = len(session.inputs)
    time.sleep(0.3)
    assert len(session.inputs) == ticks


def test_a_browser_that_comes_while_others_are_looked_for_sees_a_paused_game(server: Server) -> None:
    class Late(threading.Event):
        """Set right after it was first found unset."""

        def is_set(self) -> bool:
            was_set = super().is_set()
            if not was_set and not came:
                came.append(True)
                self.set()
            return was_set

    came: list[bool] = []
    with browser(server) as one:
        one.send(json.dumps({"do": "pause"}))
        until(one, lambda status: status["paused"])
        with contextlib.suppress(TimeoutError):
            while True:
                one.recv(0.3)  # until all is shown
        server.joined = Late()
        assert until(one, lambda _: True)["paused"]


MESSAGES = [
    "", "{", "[]", "null", "1e999", '{"set": "fps", "value": NaN}', "[" * 3000, '{"keys": "w"}', '{"keys": [1]}',
    '{"keys": ["' + "x" * 30 + '"]}', json.dumps({"keys": ["w"] * 40}), '{"action": [0]}', '{"do": "fly"}',
    '{"do": ["reset"]}', '{"set": "fps", "value": 1e9}', '{"set": "world", "value": "moon"}', '{"do": "reset", "x": 1}',
    "x" * (LONGEST_MESSAGE + 1), "1" * 4000, '{"set": "fps", "value": ' + "9" * 4000 + "}", b"\x00\xff", '"\\ud800"',
    '{"do": "\\ud800"}', '{"set": "\\ud800", "value": 1}', '{"set": "world", "value": "\\ud800"}', '{"\\ud800": 1}',
    '{"keys": ["' + "\\udfff" * 30 + '"]}', '{"action": "\\udfff"}',
]  # fmt: skip


@pytest.mark.parametrize("text", MESSAGES, ids=range(len(MESSAGES)))
def test_nonsense_is_answered_with_one_sentence(server: Server, text: str | bytes) -> None:
    with browser(server) as one:
        one.recv(SECONDS)
        error = answer(one, text)["error"]
        assert error.endswith((".", "?")) and "\n" not in error and len(error) < 400
        step = until(one, lambda _: True)["step"]
        until(one, lambda status: status["step"] > step + 1)


TEXT = st.text(max_size=30) | st.text("\ud800\udfffa", max_size=9)  # halves of characters, too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
MESSAGE = st.dictionaries(st.sampled_from(["keys", "action", "shown", "do", "set", "value", "x"]), JSON, max_size=3)


def test_no_message_ends_anything(server: Server) -> None:
    with browser(server) as one:
        one.recv(SECONDS)

        @settings(max_examples=200)
        @given(st.text(max_size=200) | st.binary(max_size=50) | JSON.map(json.dumps) | MESSAGE.map(json.dumps))
        def check(text: str | bytes) -> None:
            one.send(text)
            error = answer(one, '{"do": "?"}')["error"]
            while "unknown command '?'" not in error:
                assert error.endswith((".", "?")) and "\n" not in error
                error = answer(one, '{"shown": 0}')["error"]

        check()
        step = until(one, lambda _: True)["step"]
        until(one, lambda status: status["step"] > step + 1)


def test_a_message_beyond_all_limits_closes_only_its_connection(server: Server) -> None:
    with browser(server) as one, browser(server) as two:
        one.send("x" * (1 << 20))
        with pytest.raises(ConnectionClosed):
            list(frames(one))
        until(two, lambda _: True)


def test_the_page_needs_nothing_from_elsewhere_and_has_strict_headers(server: Server) -> None:
    status, headers, page = get(server, "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and b"<script type" in page
    assert headers["content-security-policy"].startswith("default-src 'self'; connect-src 'self' ws://127.0.0.1:")
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers and "server" not in headers
    status, headers, _ = get(server, "/page.js")
    assert status == 200 and headers["content-type"].startswith("text/javascript")
    assert get(server, "/", "POST")[0] == 405


TRAVERSALS = [
    "/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/files/../server.py", "/files/%2e%2e%2fsecret.txt",
    "/files/..%2f..%2fetc/passwd", "/files//etc/passwd", "/%2fetc%2fpasswd", "/files/secret.txt", "/files/link.npz",
    "/files/", "/socket", "/.", "/..", "/page.js/", "/files/dot.npz/..", "/files/dot.npz%00", "/PAGE.JS",
    "/__init__.py",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_only_the_pages_files_and_finished_recordings_are_served(server: Server, session: Dot, path: str) -> None:
    names = {"dot.npz": "dot", "secret.txt": "secret"}
    paths = {name: session.folder / name for name in names}
    for name, text in names.items():
        paths[name].write_text(text)
    link = session.folder / "link.npz"
    link.symlink_to("/etc/passwd")
    session.finished = {"dot.npz": paths["dot.npz"], "link.npz": link}
    with browser(server) as one:
        until(one, lambda status: "link.npz" in status["files"])
    assert get(server, "/files/dot.npz")[2] == b"dot"
    status, _, body = get(server, path)
    assert status in (404, 307) and b"secret" not in body and b"root:" not in body


def test_a_finished_recording_can_be_downloaded_and_none_that_is_written(server: Server, session: Dot) -> None:
    with browser(server) as one:
        one.send(json.dumps({"do": "record"}))
        until(one, lambda status: status["recording"] is not None)
        assert get(server, "/files/dot.npz")[0] == 404
        one.send(json.dumps({"do": "record"}))
        status = until(one, lambda status: status["files"])
    code, headers, body = get(server, f"/files/{status['files'][0]}")
    assert code == 200 and "attachment" in headers["content-disposition"]
    assert 0 < np.load(io.BytesIO(body))["steps"] < status["step"]
    assert get(server, "/files/dot.npz", Range="bytes=0-9")[2] == body[:10]


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"])
def test_a_page_of_another_site_gets_no_socket(server: Server, origin: str | None) -> None:
    with pytest.raises(InvalidStatus, match="403"), browser(server, origin=origin):
        pass


def test_a_name_that_was_bound_to_this_address_is_refused(server: Server) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "a b", ""):
        assert get(server, "/", Host=host)[0] in (400, 403)
    for host in ("localhost:9000", "127.0.0.1", "[::1]:8000"):  # `ssh -L` changes the port
        assert get(server, "/", Host=host)[0] == 200


def test_elsewhere_nothing_is_served_without_the_token(session: Dot) -> None:
    with serving(session, host="0.0.0.0") as server:
        assert server.token is not None and len(server.token) > 20
        assert server.address().endswith(f":{server.port}/{server.token}/")
        for path in ("/", "/page.js", "/files/dot.npz", "/x" + server.token + "/", f"/?token={server.token}", "/é"):
            assert get(server, path.encode().decode("latin-1") if path.isascii() else "/%c3%a9")[0] == 403
        assert get(server, f"/{server.token}/", Host="my-machine:8000")[0] == 200
        address = f"{LOCAL}:{server.port}"
        with pytest.raises(InvalidStatus, match="403"), connect(f"ws://{address}/socket", origin=f"http://{address}"):
            pass
        with browser(server) as one:
            until(one, lambda _: True)
    with serving(session, token="mine") as server:
        assert get(server, "/")[0] == 403 and get(server, "/mine/")[0] == 200


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [(LOCAL, None, "port {port} is taken"), ("203.0.113.9", 0, "cannot listen on 203.0.113.9"),
     (LOCAL, 70000, "--port"), ("no such host", 0, "--host")],
)  # fmt: skip
def test_an_address_that_cannot_be_had_is_one_sentence(
    session: Dot, host: str, port: int | None, sentence: str
) -> None:
    with socket.create_server((LOCAL, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(UserError, match=sentence.format(port=taken)):
            serve(session, host, taken if port is None else port)
    assert session.closed


def test_an_error_of_the_session_ends_the_server_and_is_raised(session: Dot) -> None:
    session.failure = UserError("the disk is full; make room.")
    ended = pytest.raises((ConnectionClosed, TimeoutError))
    with pytest.raises(UserError, match="disk is full"), serving(session) as server, browser(server) as one, ended:
        list(frames(one))


PROGRAM = """
import signal, sys
from pathlib import Path
from tests.viewer.dot import Dot
from tokenworlds.cli import exit_status, raise_on_sigterm
from tokenworlds.viewer.server import serve

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
raise_on_sigterm()
sys.exit(exit_status(lambda: serve(Dot(Path(sys.argv[1])), port=0, announce=lambda text: print(text, flush=True))))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_closes_the_recording_and_leaves_no_traceback(tmp_path: Path, number: int, status: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        address = program.stdout.readline().strip()
        with connect(f"{address.replace('http', 'ws')}/socket", origin=address) as one:
            one.send(json.dumps({"do": "record"}))
            until(one, lambda status: status["recording"] is not None)
            program.send_signal(number)
            assert program.wait(SECONDS) == status
        assert "Traceback" not in program.stderr.read()
    assert np.load(tmp_path / "dot.npz")["steps"] > 0
