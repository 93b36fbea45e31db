"""A server on 127.0.0.1 with the authors' repositories: the part of the Hugging Face Hub's interface that lists and
resolves files."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + 34 * "0"


@dataclass
class AuthorsHub:
    """``url``, files by repository and path, and what is done to a file on its way."""

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    on_the_way: Callable[[bytes], bytes] = bytes
    is_silent: bool = False  # about checksums
    downloads: int = 0

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        if match := re.fullmatch(r"/api/models/(\w+/[\w-]+)(/tree/\w+)?", path):
            files = self.files.get(match[1], {})
            listed = [{"type": "file", "path": name, **self.entry(content)} for name, content in files.items()]
            content = json.dumps(listed if match[2] else {"id": match[1], "sha": COMMIT}).encode()
            return (200 if files else 404), {"X-Error-Code": "" if files else "RepoNotFound"}, content
        match = re.fullmatch(rf"/(\w+/[\w-]+)/resolve/{COMMIT}/(.+)", path)
        assert match, path
        content = self.files[match[1]][match[2]]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return 200, headers | {"X-Linked-Size": str(len(content))}, content

    def entry(self, content: bytes) -> dict[str, object]:
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
        lfs = {} if self.is_silent else {"lfs": {"oid": digest, "size": size, "pointerSize": 130}}
        return {"oid": digest[:40], "size": size, **lfs}


@contextmanager
def running() -> Iterator[AuthorsHub]:
    """The server, until the block ends."""
    hub = AuthorsHub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                hub.downloads += "/resolve/" in self.path
                self.wfile.write(hub.on_the_way(content) if "/resolve/" in self.path else content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
