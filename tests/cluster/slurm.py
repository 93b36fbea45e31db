"""A Slurm cluster of this one machine, in a folder of its own, from Debian's packages ``slurm-wlm`` and ``munge``.

``python -m tests.cluster.slurm [COMMAND ...]`` runs a command (default: a shell) in which ``sbatch``, ``squeue`` and
the others talk to it, and stops it afterwards. It has four processors and four GPUs, both pretended, and two
partitions: jobs of ``urgent`` take the place of jobs of ``main``, which are requeued.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel")
CPUS = GPUS = 4
READY_SECONDS = 60
STOP_SECONDS = 20

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
DefMemPerCPU=500
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:{gpus}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """Programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    """Where programs are found: daemons are in folders that the path of ordinary users may not hold."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster with its files in ``folder``, and stop it and all its jobs at the end of the block.

    Yields:
        Environment in which Slurm's commands talk to it.
    """
    environment = os.environ | {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    _configure(folder)
    munged = (
        "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log",
    )  # fmt: skip
    with contextlib.ExitStack() as daemons:
        for command in (munged, ("slurmctld", "-D"), ("slurmd", "-D")):
            daemons.enter_context(_daemon(command, folder, environment))
        _wait_until_ready(folder, environment)
        try:
            yield environment
        finally:
            _cancel_all(environment)


def _configure(folder: Path) -> None:
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    devices = [folder / f"gpu{number}" for number in range(GPUS)]
    for device in devices:
        device.touch()
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            controller_port=_free_port(),
            node_port=_free_port(),
            user=getpass.getuser(),
            folder=folder,
            cpus=CPUS,
            gpus=GPUS,
        )
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _daemon(command: tuple[str, ...], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a daemon while the context lasts; it ends, too, when this process is killed, which closes the pipe."""
    guarded = ["sh", "-c", '"$@" & read _; kill $!; wait', "sh", *command]
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(
            guarded, env=environment, stdout=output, stderr=output, stdin=subprocess.PIPE, start_new_session=True
        )
    try:
        yield
    finally:
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        if set(found.stdout.split()) == {"idle"}:
            return
        time.sleep(0.2)
    logs = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm is not ready after {READY_SECONDS} s\n{logs}")


def _cancel_all(environment: dict[str, str]) -> None:
    """Cancel all jobs and wait until their processes are gone."""
    subprocess.run(["scancel", "--full", f"--user={getpass.getuser()}"], env=environment, check=False)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        left = subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True, text=True, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.2)


def main() -> int:
    """Run a command while the cluster runs."""
    if absent := missing():
        print(f"not installed: {', '.join(absent)}; apt-get install slurm-wlm munge", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_slurm(Path(folder)) as environment:
        command = sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
