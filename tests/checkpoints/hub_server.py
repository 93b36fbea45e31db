"""A server on 127.0.0.1 that speaks the part of the Hugging Face Hub's interface that ``huggingface_hub`` 2.4 uses to
make repositories, commit, list and download. Large files go through git LFS; xet is not offered."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

READ, WRITE = "reads", "writes"  # tokens
LARGE = (".safetensors", ".pt", ".png", ".mp4")
Files = dict[str, bytes]


@dataclass
class Repository:
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        state = json.dumps([len(self.commits), sorted((name, digest(content)) for name, content in files.items())])
        oid = hashlib.sha1(state.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.branches.get(revision, revision)]


@dataclass
class Hub:
    """What the server holds and how it fails; ``url`` is its address."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: Files = field(default_factory=dict)  # by digest
    statuses: dict[str, int] = field(default_factory=dict)  # part of a path -> what requests for it are answered with
    damage: Any = bytes  # done to large files on their way to a client
    before_commit: Any = lambda: None
    lists_digests: bool = True
    requests: list[str] = field(default_factory=list)


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.response = JSONResponse(
            {"error": message or code}, status, {"X-Error-Code": code, "X-Error-Message": message}
        )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def oid_of(name: str, content: bytes) -> str:
    """What the client compares: the digest of a large file, the blob of git of another one."""
    return digest(content) if name.endswith(LARGE) else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def place(request: Request) -> str:
    return "{owner}/{name}".format(**request.path_params)


def repository(hub: Hub, request: Request, writes: bool = False) -> Repository:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in ("", READ, WRITE):
        raise Refusal(401, message="Invalid credentials in Authorization header")
    found = hub.repositories.get(place(request))
    if found is None or (found.private and not token):
        raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
    if writes and token != WRITE:
        raise Refusal(403 if token else 401, message="You don't have the required permissions")
    return found


def files(hub: Hub, request: Request) -> tuple[Repository, str, Files]:
    found = repository(hub, request)
    revision = request.path_params.get("revision", "main")
    if revision not in found.branches and revision not in found.commits:
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return found, found.branches.get(revision, revision), found.files(revision)


async def create(hub: Hub, request: Request) -> Response:
    given = await request.json()
    name = f"{given['organization']}/{given['name']}"
    if request.headers.get("Authorization") != f"Bearer {WRITE}":
        raise Refusal(403, message="You don't have the rights to create a model under this namespace")
    if name in hub.repositories:
        raise Refusal(409, message="You already created this model repo")
    hub.repositories[name] = Repository(given.get("visibility") == "private")
    hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
    return JSONResponse({"url": f"{hub.url}/{name}", "name": name})


async def create_branch(hub: Hub, request: Request) -> Response:
    found = repository(hub, request, writes=True)
    found.branches[request.path_params["branch"]] = found.branches["main"]
    return JSONResponse({})


async def validate_yaml(hub: Hub, request: Request) -> Response:
    return JSONResponse({"errors": [], "warnings": []})


async def info(hub: Hub, request: Request) -> Response:
    found, commit, _ = files(hub, request)
    name = place(request)
    return JSONResponse(
        {"id": name, "modelId": name, "sha": commit, "private": found.private, "siblings": [], "tags": []}
    )


async def tree(hub: Hub, request: Request) -> Response:
    _, _, held = files(hub, request)
    return JSONResponse([entry(name, content, hub.lists_digests) for name, content in held.items()])


def entry(name: str, content: bytes, has_digest: bool) -> dict[str, Any]:
    listed = {"type": "file", "path": name, "size": len(content), "oid": oid_of(name, content)}
    lfs = {"lfs": {"oid": digest(content), "size": len(content), "pointerSize": 130}}
    return listed | (lfs if has_digest and name.endswith(LARGE) else {})


async def preupload(hub: Hub, request: Request) -> Response:
    repository(hub, request, writes=True)
    _, _, held = files(hub, request)
    asked = [one["path"] for one in (await request.json())["files"]]
    answer = [
        {
            "path": name,
            "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
            "shouldIgnore": False,
            "oid": oid_of(name, held[name]) if name in held else None,
        }
        for name in asked
    ]
    return JSONResponse({"files": answer})


async def batch(hub: Hub, request: Request) -> Response:
    repository(hub, request, writes=True)
    objects = (await request.json())["objects"]
    for one in objects:
        if one["oid"] not in hub.large:
            one["actions"] = {"upload": {"href": f"{hub.url}/large/{one['oid']}", "header": {}}}
    return JSONResponse({"transfer": "basic", "objects": objects})


async def upload(hub: Hub, request: Request) -> Response:
    content = await request.body()
    assert digest(content) == request.path_params["oid"]
    hub.large[request.path_params["oid"]] = content
    return Response()


async def commit(hub: Hub, request: Request) -> Response:
    found = repository(hub, request, writes=True)
    await run_in_threadpool(hub.before_commit)  # it may send requests of its own
    _, head, held = files(hub, request)
    changed = dict(held)
    for line in (await request.body()).splitlines():
        operation = json.loads(line)
        value = operation["value"]
        match operation["key"]:
            case "header":
                if value.get("parentCommit", head) != head:
                    raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
            case "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                changed[value["path"]] = hub.large[value["oid"]]
            case "deletedFile":
                del changed[value["path"]]
    oid = found.commit(changed, request.path_params["revision"])
    return JSONResponse({"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{place(request)}/commit/{oid}"})


async def resolve(hub: Hub, request: Request) -> Response:
    _, head, held = files(hub, request)
    name = request.path_params["path"]
    if name not in held:
        raise Refusal(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": head, "ETag": f'"{oid_of(name, held[name])}"'}
    if not name.endswith(LARGE):
        return Response(held[name], headers=headers)
    hub.large[digest(held[name])] = held[name]
    headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(held[name]))}
    elsewhere = hub.url.replace("127.0.0.1", "localhost")  # large files come from another host
    return RedirectResponse(f"{elsewhere}/large/{digest(held[name])}", 302, headers)


async def download(hub: Hub, request: Request) -> Response:
    return Response(hub.damage(hub.large[request.path_params["oid"]]))


ROUTES = [
    ("/api/repos/create", "POST", create),
    ("/api/validate-yaml", "POST", validate_yaml),
    ("/api/models/{owner}/{name}", "GET", info),
    ("/api/models/{owner}/{name}/revision/{revision}", "GET", info),
    ("/api/models/{owner}/{name}/tree/{revision}", "GET", tree),
    ("/api/models/{owner}/{name}/preupload/{revision}", "POST", preupload),
    ("/api/models/{owner}/{name}/branch/{branch}", "POST", create_branch),
    ("/api/models/{owner}/{name}/commit/{revision}", "POST", commit),
    ("/{owner}/{name}.git/info/lfs/objects/batch", "POST", batch),
    ("/large/{oid}", "PUT", upload),
    ("/large/{oid}", "GET", download),
    ("/{owner}/{name}/resolve/{revision}/{path:path}", "GET", resolve),
]


async def answer(hub: Hub, handler: Any, request: Request) -> Response:
    hub.requests.append(f"{request.method} {request.url.path}")
    for part, status in hub.statuses.items():
        if part in request.url.path:
            return Response(status_code=status)
    try:
        return await handler(hub, request)
    except Refusal as refusal:
        return refusal.response


@contextmanager
def running() -> Iterator[Hub]:
    """The server, until the block ends."""
    hub = Hub()
    routes = [Route(path, partial(answer, hub, handler), methods=[method]) for path, method, handler in ROUTES]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield hub
    finally:
        server.should_exit = True
        thread.join()
