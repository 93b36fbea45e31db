"""What Ray runs on its nodes. Ray sends this module's functions by their code, because a node need not have the module:
they use nothing but the standard library and Ray.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Files = dict[str, tuple[str, bytes]]
"""sha256 and content, by relative path."""


def read(path: str) -> str | None:
    """Content of a file; None where the node does not see it."""
    try:
        return Path(path).read_text()
    except OSError:
        return None


def train(
    folder: str,
    number: int,
    code: str,
    environment: Mapping[str, str],
    name: str,
    place: str,
    job: Mapping[str, Any],
    sent: list[Any],
) -> dict[str, Files] | None:
    """Run the worker of an attempt to its end.

    Args:
        folder: of the launcher's files about the run, and ``code`` its snapshot of the sources. Where the node does not
            see them, the attempt is made in its own scratch folder ($TOKENWORLDS_SCRATCH, or in the temporary files).
        environment: variables of the worker.
        name: of the run, or of the tokenizer.
        place: folder of what it makes, relative to the code.
        job: content of ``job.json``, with a ``scratch`` relative to the scratch folder.
        sent: reference to the packed code.

    Returns:
        Files of the attempt and of the run folder, from a node with a file system of its own.
    """
    if os.path.isdir(folder):
        _work(Path(folder), number, code, environment)
        return None
    root = Path(os.environ.get("TOKENWORLDS_SCRATCH") or Path(tempfile.gettempdir(), f"tokenworlds-{os.getuid()}"))
    here = _unpacked(root / "launch" / "code", sent)
    own = root / "launch" / "runs" / name
    own.mkdir(parents=True, exist_ok=True)
    about = {**job, "code": str(here), "scratch": str(root / job["scratch"])}
    (own / "job.json").write_text(json.dumps(about))
    (own / f"{number:03d}.submitted.json").write_text(json.dumps({"gpu_share": job["gpu_share"]}))
    search_path = os.pathsep.join([str(here / "src"), str(here)])
    _work(own, number, str(here), {**environment, "PYTHONPATH": search_path, "TOKENWORLDS_SCRATCH": str(root)})
    prefix = f"{number:03d}."
    return {
        "attempt": {path.name.removeprefix(prefix): _content(path) for path in own.glob(f"{prefix}*")},
        "results": _tree(here / place),
    }


def _work(folder: Path, number: int, code: str, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "pipeline.launch.worker", str(folder), str(number)]
    with (folder / f"{number:03d}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=code,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,  # it closes when this process dies, in whatever way, and then the worker ends
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C of the launcher is not meant for it
        )
    assert process.stdin is not None
    try:
        while process.poll() is None:
            time.sleep(0.2)  # where a cancelled task is interrupted
    finally:
        process.stdin.close()
        process.wait()


def _unpacked(codes: Path, sent: list[Any]) -> Path:
    """Folder of the code that was sent."""
    import ray

    packed = ray.get(sent[0])
    here = codes / packed["digest"][:12]
    if not here.is_dir():
        codes.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=codes))
        with zipfile.ZipFile(io.BytesIO(packed["content"])) as archive:
            archive.extractall(staging)
        try:
            staging.rename(here)
        except OSError:  # another task was faster
            shutil.rmtree(staging)
    return here


def _tree(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): _content(path) for path in folder.rglob("*") if path.is_file()}


def _content(path: Path) -> tuple[str, bytes]:
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), content
