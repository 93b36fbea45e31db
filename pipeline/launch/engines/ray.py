"""Ray: one task an attempt, on this machine alone or on a cluster. Ray counts GPUs, and fractions of them, and queues
what does not fit; what is tried again is decided above (``max_retries=0``).

A node that sees the launcher's files makes the attempt as if it were this machine. To any other node the code is sent,
and the run folder comes back from it, checked by hash.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.launch.attempts import Attempt, Job, launch_folder, worker_environment
from pipeline.launch.engines import ray_node
from tokenworlds.errors import UserError, brief, installing
from tokenworlds.files import new_folder, write_atomic

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning in every process; `submit` hides GPUs itself
}
STORE_BYTES = 100_000_000  # shared memory of this machine's Ray, through which next to nothing passes
CLOSE_SECONDS = 30.0
PROBE_SECONDS = 120.0
UNUSED = ("docs/", "tests/")  # by a training
FILES = ("started.json", "log", "ended.json")  # of an attempt on a node that does not share ours; the end comes last


class RayEngine:
    """Attempts as tasks of Ray.

    Args:
        address: of a cluster (``auto``, ``host:port``, ``ray://host:port``); None: this machine alone.
        gpus: of this machine, that runs may use.
        cpus: how many runs without a GPU this machine trains at a time, where each gets one core.
    """

    name = "ray"

    def __init__(self, address: str | None = None, gpus: int = 0, cpus: int = 1) -> None:
        self._address, self._gpus, self._cpus = address, gpus, cpus
        self._active: dict[str, tuple[Any, Job, Attempt]] = {}  # with the reference to the task's result
        self._sent: dict[str, Any] = {}  # reference to the code, by folder

    def check(self, jobs: Sequence[Job]) -> str:
        """Connect, refuse runs that fit nowhere, and find out which nodes see the launcher's files."""
        if self._address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # other users of this machine cannot use its Ray
        elif self._address != "auto":
            _require_listener(self._address)
        ray = _import_ray(QUIET if self._address is None else QUIET | authentication())
        handler = signal.getsignal(signal.SIGTERM)
        options: dict[str, Any] = {"address": self._address}
        if self._address is None:
            cpus, gpus = self._cpus, [job.gpu_share for job in jobs if job.gpu_share]
            if gpus:  # a core is not what limits them
                cpus = max(job.cpus for job in jobs) * math.ceil(self._gpus / min(gpus))
            options = {"address": "local", "num_cpus": cpus, "num_gpus": self._gpus, "include_dashboard": False}
            options["object_store_memory"] = STORE_BYTES
        try:
            ray.init(**options, logging_level="ERROR", log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            raise UserError(f"no Ray {where}: {brief(error)}; `ray status` says what there is.") from error
        signal.signal(signal.SIGTERM, handler)  # Ray has set its own
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._refuse_too_large(jobs, nodes)
        return f"{_description(nodes)}; {self._probe(nodes)}"

    def _refuse_too_large(self, jobs: Sequence[Job], nodes: Sequence[Mapping[str, Any]]) -> None:
        for cpus, gpu in sorted({(job.cpus, job.gpu_share) for job in jobs}):
            if not any(_has(node, "CPU") >= cpus and _has(node, "GPU") >= gpu for node in nodes):
                needed = f"{cpus} core{'s' if cpus > 1 else ''}" + (f" and {gpu:g} of a GPU" if gpu else "")
                raise UserError(f"a run needs {needed}, which no node has: {_description(nodes)}.")

    def _probe(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        """Let every node read a file in the launch folder, and say what follows."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

        probe, secret = launch_folder() / "probe", secrets.token_hex(8)
        write_atomic(probe, secret.encode())
        task = ray.remote(num_cpus=0, max_retries=0)(ray_node.read)
        places = [Affinity(node["NodeID"], soft=False) for node in nodes]
        asked = [task.options(scheduling_strategy=place).remote(str(probe)) for place in places]
        try:
            answers = ray.get(asked, timeout=PROBE_SECONDS)
        except ray.exceptions.RayError as error:
            raise UserError(f"a node of Ray does not answer: {brief(error)}.") from error
        blind = [node["NodeManagerHostname"] for node, answer in zip(nodes, answers) if answer != secret]
        if not blind:
            return "an interrupted run goes on from its last checkpoint, on whichever node"
        return (
            f"{', '.join(blind[:3])}{' and others' if len(blind) > 3 else ''} cannot see {launch_folder()}: there an "
            "interrupted run begins anew unless it comes to the same node again ($TOKENWORLDS_SCRATCH names a folder "
            "that all share)"
        )

    def submit(self, job: Job, attempt: Attempt) -> str:
        """Queue a task."""
        environment = worker_environment(job.code) | ({} if job.gpu_share else {"CUDA_VISIBLE_DEVICES": ""})
        name, identifier = job.name, secrets.token_hex(8)
        there = asdict(job) | {"scratch": str(PurePosixPath(job.run.name).with_name(Path(job.scratch).name))}
        reference = self._task.options(name=name, num_cpus=job.cpus, num_gpus=job.gpu_share).remote(
            str(attempt.folder), attempt.number, job.code, environment, name, str(job.place), there, self._code(job)
        )
        self._active[identifier] = reference, job, attempt
        return identifier

    @cached_property
    def _task(self) -> Any:
        import ray

        return ray.remote(max_retries=0)(ray_node.train)

    def _code(self, job: Job) -> list[Any]:
        """The code for nodes that do not see it, in a list, so that Ray does not fetch it for those that do."""
        import ray

        if self._address is None:
            return []
        if job.code not in self._sent:
            self._sent[job.code] = ray.put(packed(Path(job.code)))
        return [self._sent[job.code]]

    def ended(self) -> Mapping[str, str]:
        """Tasks that have ended; what comes from other file systems is stored first."""
        import ray

        references = {reference: identifier for identifier, (reference, _, _) in self._active.items()}
        if not references:
            return {}
        ready, _ = ray.wait(list(references), num_returns=len(references), timeout=0)
        return {references[reference]: self._end(references[reference]) for reference in ready}

    def _end(self, identifier: str) -> str:
        """Why a task has ended, in words; empty where its attempt has recorded that."""
        import ray

        reference, job, attempt = self._active.pop(identifier)
        try:
            found = ray.get(reference)
            if found is not None:
                store(found, job, attempt)
        except ray.exceptions.TaskCancelledError:
            return "cancelled"
        except (ray.exceptions.RayError, OSError, ValueError) as error:
            return f"Ray: {brief(error)}"
        return "" if attempt.status is not None else "its worker could not record how it ended"

    def is_active(self, identifier: str) -> bool | None:
        """Tasks end with the launcher that has submitted them, but not at once."""
        return True if identifier in self._active else None

    def cancel(self, identifier: str) -> None:
        """Stop a task: one that waits never starts, in one that runs the worker is stopped."""
        import ray

        if identifier in self._active:
            ray.cancel(self._active[identifier][0], force=False)

    def close(self) -> None:
        """Stop all tasks, which would end with this process anyway, in an orderly way, and leave the cluster."""
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        for identifier in self._active:
            self.cancel(identifier)
        references = [reference for reference, _, _ in self._active.values()]
        if references:
            ray.wait(references, num_returns=len(references), timeout=CLOSE_SECONDS)
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address at which nobody listens; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"no Ray at {address} ({brief(error)}): expected HOST:PORT of a node on which `ray start --head` was given."
        ) from error


def authentication() -> dict[str, str]:
    """Variables with which a cluster is joined. `ray start` asks everybody for the token of this user where there is
    one, which `ray.init` shows only if it is told so; a cluster that asks for none does not mind."""
    is_given = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return {"RAY_AUTH_MODE": "token"} if is_given or Path("~/.ray/auth_token").expanduser().exists() else {}


def _import_ray(variables: Mapping[str, str]) -> Any:
    os.environ.update({key: value for key, value in variables.items() if key not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UserError(f"launching runs needs the package ray; {installing('cluster')}.") from error
    ray.cloudpickle.register_pickle_by_value(ray_node)
    return ray


def _has(node: Mapping[str, Any], resource: str) -> float:
    return float(node["Resources"].get(resource, 0.0))


def _description(nodes: Sequence[Mapping[str, Any]]) -> str:
    gpus, cpus = (sum(_has(node, resource) for node in nodes) for resource in ("GPU", "CPU"))
    return f"Ray has {len(nodes)} node{'s' if len(nodes) != 1 else ''} with {gpus:g} GPUs and {cpus:g} cores"


def packed(code: Path) -> dict[str, Any]:
    """What trains of a snapshot, as an archive with its digest; the same files make the same archive."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=code, capture_output=True, check=True, text=True).stdout
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(filter(None, names.split("\0"))):
            if (code / name).is_file() and not name.startswith(UNUSED):
                archive.writestr(zipfile.ZipInfo(name), (code / name).read_bytes(), zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return {"digest": hashlib.sha256(content).hexdigest(), "content": content}


def store(found: Mapping[str, ray_node.Files], job: Job, attempt: Attempt) -> None:
    """Store what an attempt has left on a node: its run folder in the snapshot of the code, then its own files.

    Args:
        found: content and sha256 of the files of the ``attempt`` and of the ``results``, by name.

    Raises:
        ValueError: a file has not arrived as it was sent.
    """
    for name, (digest, content) in (*found["attempt"].items(), *found["results"].items()):
        if hashlib.sha256(content).hexdigest() != digest or ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise ValueError(f"{name} was damaged on its way from the node")
    if found["results"] and not job.is_made_in(job.results):
        with new_folder(job.results) as folder:
            for name, (_, content) in found["results"].items():
                write_atomic(folder / name, content)
    for name in FILES:
        if name in found["attempt"]:
            write_atomic(attempt.path(name), found["attempt"][name][1])
