"""The page of a session: pictures out and keys in over one WebSocket, any number of browsers.

One thread steps the session at its frames per second; the newest frame wins. Each browser has room for one frame that
waits to be sent, and gets the next once it has shown what it got before, so a slow one skips frames and delays nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import math
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from tokenworlds.errors import UserError, brief, excerpt
from tokenworlds.viewer.base import BaseSession
from tokenworlds.viewer.frame import Frame, Input

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("", "0.0.0.0", "::")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)  # a Host header
PIXEL_ART = 96  # pixels: pictures up to this side are sent without loss
QUALITY = 90  # of JPEG
IN_FLIGHT = 3  # frames that a browser may owe an answer to, so that a long way to it does not slow its pictures
LONGEST_MESSAGE = 4096  # characters
LARGEST_FRAME = 1 << 16  # bytes: above it the connection is closed
KEYS = 32  # held at once
GRACE = 2  # seconds that browsers have to say goodbye
LAST_PORT = 65535
FPS = 15  # until the session has shown a frame
POLICY = (
    "default-src 'self'; connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(
    session: BaseSession, host: str = "127.0.0.1", port: int = 8000, token: str | None = None,
    announce: Callable[[str], object] = print,
) -> None:  # fmt: skip
    """Serve the page of ``session`` until Ctrl-C or SIGTERM, then close the session.

    Args:
        host: address to listen on. Where it is not this machine's own (127.0.0.1), a token is required.
        port: 0 for any free one.
        token: first part of the page's path, without which nothing is served; made up where it is required.
        announce: gets the page's address once it can be opened.

    Raises:
        UserError: the port is taken, or the address is none of this machine's.
    """
    try:
        server = Server(session, host, port, token)
        announce(server.address())
        server.run()
    finally:
        session.close()


def encode(number: int, frame: Frame, files: Iterable[str] = ()) -> bytes:
    """One message: length of the header (4 bytes, big endian), header (JSON), and the panels as PNG or JPEG."""
    panels, pictures = [], []
    for panel in frame.panels:
        height, width = panel.picture.shape[:2]
        file = io.BytesIO()
        if max(height, width) <= PIXEL_ART:
            kind, options = "png", {"compress_level": 1}
        else:
            kind, options = "jpeg", {"quality": QUALITY, "subsampling": 0}  # coloured pixels keep their borders
        Image.fromarray(panel.picture).save(file, kind, **options)
        pictures.append(file.getvalue())
        panels.append(
            {"name": panel.name, "zoom": panel.zoom, "width": width, "height": height, "type": f"image/{kind}",
             "bytes": len(pictures[-1])}
        )  # fmt: skip
    header = json.dumps(
        {"number": number, "panels": panels, "status": _finite(frame.status), "files": [*files]}
    ).encode()
    return b"".join([struct.pack(">I", len(header)), header, *pictures])


def _finite(value: Any) -> Any:
    """Without NaN and infinite numbers, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Inputs:
    """Keys of all browsers between two steps of the clock. Written by the server's thread, read by the session's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[object, frozenset[str]] = {}
        self._pressed: frozenset[str] = frozenset()
        self._action: tuple[float, ...] | None = None

    def hold(self, client: object, keys: frozenset[str]) -> None:
        """The keys that a client holds from now on; none when it vanishes."""
        with self._lock:
            self._held[client] = keys
            self._pressed |= keys
            if not keys:
                del self._held[client]

    def act(self, action: tuple[float, ...]) -> None:
        """The position of the sliders from now on, whoever moved them."""
        with self._lock:
            self._action = action

    def take(self) -> Input:
        """Whatever is held, and what was pressed since the last call even if it was released."""
        with self._lock:
            keys = self._pressed.union(*self._held.values())
            self._pressed = frozenset()
            return Input(keys, self._action)


@dataclass(eq=False)
class Client:
    """One browser."""

    mailbox: bytes | None = None
    owed: int = 0
    """Frames that were sent and not yet shown."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def post(self, message: bytes) -> None:
        """Have a frame sent next, instead of one that waits."""
        self.mailbox = message
        self.ready.set()

    def answered(self) -> None:
        """A frame was shown."""
        self.owed = max(0, self.owed - 1)
        self.ready.set()

    async def next(self) -> bytes:
        """The newest frame, once there is one and few are owed."""
        while self.mailbox is None or self.owed >= IN_FLIGHT:
            self.ready.clear()
            await self.ready.wait()
        message, self.mailbox, self.owed = self.mailbox, None, self.owed + 1
        return message


class Server:
    """A session, the thread that steps it, and its browsers."""

    def __init__(self, session: BaseSession, host: str, port: int, token: str | None = None) -> None:
        """Take the port.

        Raises:
            UserError: it is taken, or the address is none of this machine's.
        """

        self.session, self.controls = session, session.controls()
        self.host, self.local = host, host in LOOPBACK
        self.token = token if token or self.local else secrets.token_urlsafe(16)
        self.inputs = Inputs()
        self.clients: set[Client] = set()
        self.joined, self.watched, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.files: dict[str, Path] = {}
        """Finished recordings by name; replaced, never changed."""
        self.failure: BaseException | None = None
        self.socket = _listen(host, port)
        self.port = self.socket.getsockname()[1]
        self.base = f"/{self.token}" if self.token else ""
        config = uvicorn.Config(
            self.application(), log_level="error", access_log=False, server_header=False, lifespan="off",
            ws_max_size=LARGEST_FRAME, ws_per_message_deflate=False, timeout_graceful_shutdown=GRACE,
        )  # fmt: skip
        self.uvicorn = uvicorn.Server(config)

    def address(self) -> str:
        """The page's address; of all addresses of this machine its name."""
        host = socket.gethostname() if self.host in EVERYWHERE else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.base}{'/' if self.base else ''}"

    def run(self) -> None:
        """Serve until ``stop``, Ctrl-C, SIGTERM or an error of the session, which is raised."""
        try:
            asyncio.run(self._serve())
        finally:
            self.socket.close()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """End ``run``, from any thread."""
        self.ended.set()
        self.watched.set()
        self.uvicorn.should_exit = True

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._step_session, name="session")
        thread.start()
        try:
            await self.uvicorn.serve(sockets=[self.socket])
        finally:
            self.stop()
            thread.join()

    def _step_session(self) -> None:
        """Tick while anybody watches; what goes wrong ends the server."""
        frame: Frame | None = None
        number, due = 0, 0.0
        try:
            while self.watched.wait() and not self.ended.is_set():
                due = max(due, time.monotonic())
                latest = self.session.tick(self.inputs.take()) or frame
                self.files = self.session.files()
                if renew := self.joined.is_set():
                    self.joined.clear()
                if latest is not None and (renew or latest is not frame):
                    frame, number = latest, number + 1
                    self.loop.call_soon_threadsafe(self._post, encode(number, frame, self.files))
                due += 1 / max(1, frame.status.get("fps", FPS) if frame else FPS)
                self.ended.wait(due - time.monotonic())
        except BaseException as error:
            self.failure = error
            self.stop()

    def _post(self, message: bytes) -> None:
        for client in self.clients:
            client.post(message)

    def application(self) -> ASGIApp:
        """The page, its files, recordings, and the socket, behind the checks of ``Guard``."""
        routes = [
            Route(f"{self.base}/", self._page),
            Route(f"{self.base}/files/{{name:path}}", self._file),
            Route(f"{self.base}/{{name}}", self._page),
            WebSocketRoute(f"{self.base}/socket", self._talk),
        ]
        return Guard(Starlette(routes=routes), self.token, self.local)

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in {file.name for file in PAGE.iterdir()}:
            return PlainTextResponse("There is no such file.", 404)
        return Response((PAGE / name).read_bytes(), media_type=TYPES[Path(name).suffix])

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        file = self.files.get(name)
        if file is None or file.is_symlink() or not file.is_file():
            return PlainTextResponse("There is no such recording.", 404)
        return FileResponse(file, filename=name)

    async def _talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        client = Client()
        sender = asyncio.create_task(self._send(websocket, client))
        try:
            await websocket.send_text(json.dumps({"controls": self.controls}))
            self.clients.add(client)
            self.joined.set()
            self.watched.set()
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                try:
                    self._receive(client, message.get("text"))
                except UserError as error:
                    # in ASCII, as `json` writes it: a message may hold halves of characters, which have no bytes
                    await websocket.send_text(json.dumps({"error": str(error)}))
        except WebSocketDisconnect:
            pass
        finally:
            sender.cancel()
            self.inputs.hold(client, frozenset())
            self.clients.discard(client)
            if not self.clients and not self.ended.is_set():
                self.watched.clear()

    @staticmethod
    async def _send(websocket: WebSocket, client: Client) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.send_bytes(await client.next())

    def _receive(self, client: Client, text: str | None) -> None:
        """One message of a browser.

        Raises:
            UserError: it is no message that this page sends; nothing has changed.
        """
        match parse(text):
            case {"shown": _}:
                client.answered()
            case {"keys": keys}:
                self.inputs.hold(client, _checked_keys(keys))
            case {"action": action}:
                self.inputs.act(_checked_action(action, self.controls["actions"].get("names", ())))
            case message:
                self.session.command(message)


class Guard:
    """Refuses whoever lacks the token or comes from another page, and adds the security headers."""

    def __init__(self, app: ASGIApp, token: str | None, local: bool) -> None:
        self.app, self.token, self.local = app, token, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        is_socket = scope["type"] == "websocket"
        origin = headers.get("origin", "").lower().partition("://")[2] if is_socket else host
        if not self._knows(host) or origin != host or not self._has_token(scope["path"]):
            refusal = PlainTextResponse("Open the address that the command printed.", 403)
            await (WebSocketClose() if is_socket else refusal)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS | {"Content-Security-Policy": POLICY.format(host=host)})
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this machine, so that no other name was bound to its address (DNS rebinding)."""
        match = HOST.fullmatch(host)
        return match is not None and (not self.local or match[1].strip("[]") in LOOPBACK)

    def _has_token(self, path: str) -> bool:
        given = path.split("/")[1] if "/" in path else ""
        return self.token is None or secrets.compare_digest(given.encode(), self.token.encode())


def parse(text: str | None) -> dict[str, Any]:
    """The message in a text.

    Raises:
        UserError: it is no JSON object of at most 4096 characters.
    """
    if text is None or len(text) > LONGEST_MESSAGE:
        raise UserError(f"a message is a text of at most {LONGEST_MESSAGE} characters.")
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise UserError(f"a message is a JSON object, not {excerpt(text)!r}.")
    return message


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _checked_keys(keys: Any) -> frozenset[str]:
    if (
        not isinstance(keys, list)
        or len(keys) > KEYS
        or not all(isinstance(key, str) and len(key) < 20 for key in keys)
    ):
        raise UserError(f"keys are a list of at most {KEYS} names, not {excerpt(keys)}.")
    return frozenset(keys)


def _checked_action(action: Any, names: Sequence[str]) -> tuple[float, ...]:
    given = action if isinstance(action, list) else []
    numbers = [float(one) for one in given if type(one) in (int, float) and -1 <= one <= 1]
    if not len(numbers) == len(given) == len(names) > 0:
        raise UserError(f"an action is a list of {len(names)} numbers from -1 to 1, not {excerpt(action)}.")
    return tuple(numbers)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= LAST_PORT:  # beyond it `getaddrinfo` begins again at 0
        raise UserError(f"there is no port {port}; give one from 0 to {LAST_PORT} with --port (0: any free one).")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is taken by another program; end it, or choose another with --port (0: any free one)."
            ) from error
        raise UserError(
            f"cannot listen on {host}, port {port}: {brief(error, 60)}; change --host or --port."
        ) from error
