"""Agents that the authors of the methods have published on the Hugging Face Hub (the extra ``hub``): which there are,
and the file of one. ``$HF_ENDPOINT`` names another server."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenworlds.checkpoints.hub import connected
from tokenworlds.config import project_root
from tokenworlds.envs import known_tasks
from tokenworlds.errors import UserError, brief, near_matches
from tokenworlds.files import sha256, shortened

COMMAND = "python -m tokenworlds.checkpoints"
WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
LAST = "last"  # the agent after its last epoch, in the authors' programs
IRIS = {  # SHA-256 of <Game>.pt
    "Alien": "5e75195c53d33c64649f303836da97b7ad2e9f13d5f73b98c40fc21fa1352152",
    "Amidar": "7bac665810cca325deae7885458c675e4f70f7f68537d9740d0da35754aae819",
    "Assault": "b2c0d61c253e57644206a6c1d2f8c483863b9fdb492b75ead8f6cf8af619877f",
    "Asterix": "da3175853640f62be5e0fff4fd2823f0139fcd62a35d091e1fbd993f972564e2",
    "BankHeist": "8a44a9151de1c2dbc42ddf9fe9600a7c47bc08e259adae28de609f3a77be5051",
    "BattleZone": "426da88aca45b59e3863c356d62b1cee6628eecfa6cdb51ec5887b662b4aa764",
    "Boxing": "b0f48bb855477e6af1c85dce9e68f79661406308a743bf881f56842754c7eaf4",
    "Breakout": "169e3669b7d1901990b4ebce35ff8f3355610fae393e6a587fd62c40faf790f4",
    "ChopperCommand": "0bec1bb70fbd11d043f216f5beb66c6d2f6e9f229eda1deaa48de5faffdc339f",
    "CrazyClimber": "5918803c67c87fdb6b838c91e132a51c43b3c7d521c93f92287308772e691514",
    "DemonAttack": "3537324054586499756c6446beddf031c9cc6a5ccf127b21827e70157af6f87b",
    "Freeway": "0f64e2f39052d24026dd13732b0699ea1724f602658ac5b0a929570580fb6d36",
    "Frostbite": "af7f5cc2d1db900506285aee881511f477b56bab761e62503c5f5fde97ad0872",
    "Gopher": "ee9c3dfbf5eaf68d23186073edd530ea83bbb828ad4f122fed4655913fe5ad1d",
    "Hero": "36340869915c6896a5f5d8c8611832065aa9f0f0ef47c92ffc323b159c20ff40",
    "Jamesbond": "c579ddad64338ee98d23a6a5ef5fd81777919cc897cdb2a9fbf8ad75e5473eb7",
    "Kangaroo": "c1ca5c60a1c6391ac60c59f8ae60a70a1628ef2b957edef50df35f4580085e5a",
    "Krull": "5aa5b18d34f8dad4cd24def83c1a068d5128394fbfffd1be6b5074f2049231aa",
    "KungFuMaster": "f8ff162f5699eb53740b5abff542877418e9bff7b3114cdf9419748ffb784830",
    "MsPacman": "aae809a57fc3b5b72f4cddf4b64836083d374244f765d7371425a5fdbcaa4e55",
    "Pong": "b180b9145b086fb00a7bcb9918da9ee373bde7dd2e0d04d6a7054aa1d10284be",
    "PrivateEye": "613113ad8e82b52897d266ff7685f0d71591e6b47c9ed6d101d281f671e1d34a",
    "Qbert": "be23c4ba1d7385697e82a06f8309d607189066db1bac1de048f7a0833d7bfc9a",
    "RoadRunner": "6557d60333bb4a3d4bb5877498b911436056ae8f32a9d68e98d8b484b53c2ca4",
    "Seaquest": "3be1c167b9b2ddb54d02cbde9bcdd9cdd4d448ff886f6f9f1262d5d1493ad5b2",
    "UpNDown": "8df15d4ba520e77df9d3e8a090da57d8e397da5c44da7c2a88b898d8b4c3fc86",
}


@dataclass(frozen=True)
class Repository:
    """A repository with agents of one method."""

    name: str
    benchmarks: tuple[str, ...]
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name and SHA-256 by task; empty where only the repository knows what it holds."""
    settings: tuple[str, ...] = ()
    """What the shapes of its agents do not show, as overrides."""

    def tasks(self) -> list[str]:
        """Those of the known files, else all that there could be."""
        return list(self.files) or [task for task in known_tasks() if task.partition("/")[0] in self.benchmarks]


BENCHMARKS = ("atari", "dmc", "craftax")
REPOSITORIES = {
    "iris": Repository(
        "eloialonso/iris", ("atari",), {f"atari/{game}": (f"{game}.pt", found) for game, found in IRIS.items()}
    ),
    "delta_iris": Repository(
        "vmicheli/delta-iris",
        ("crafter",),
        {"crafter/Reward": ("last.pt", "1d45e9496e2b97c1e59327d4f3e7f356baf04d74b1b5f0c1861c3232dc8aaf3d")},
    ),
    "m3": Repository("leorc/M3", BENCHMARKS),
    "simulus": Repository("leorc/Simulus", BENCHMARKS, settings=("variant=simulus-a",)),
}
"""By the name that ``fetch`` takes. No published agents of REM are known."""


@dataclass(frozen=True)
class PublishedAgent:
    """One agent of a repository."""

    name: str
    repository: Repository
    task: str

    @classmethod
    def named(cls, text: str) -> PublishedAgent:
        """From ``iris/Breakout``, or with the benchmark: ``iris/atari/Breakout``.

        Raises:
            UserError: none of that name is published.
        """
        name, _, wanted = text.partition("/")
        if name not in REPOSITORIES:
            raise UserError(
                f"no published agents of '{brief(name, 40)}' are known, but of {', '.join(REPOSITORIES)}; "
                f"`{COMMAND} fetch --list` shows them."
            )
        tasks = REPOSITORIES[name].tasks()
        found = [task for task in tasks if wanted in (task, *task.split("/"))]
        if len(found) != 1:
            near = near_matches(wanted, (task if found else task.partition("/")[2] for task in found or tasks))
            raise UserError(f"no published agent is called '{brief(text, 60)}'; after {name}/, {near}")
        return cls(name, REPOSITORIES[name], found[0])

    @property
    def folder(self) -> Path:
        """Where it is imported to."""
        return project_root() / "results" / "published" / self.name / self.task

    def file_among(self, names: Collection[str]) -> str:
        """Its file in the repository: of the known name, else of a path with the task's name in it.

        Raises:
            UserError: there is none, or several.
        """
        if self.task in self.repository.files:
            found = [name for name in names if Path(name).name == self.repository.files[self.task][0]]
        else:
            names = [name for name in names if name.endswith(WEIGHTS)]
            found = [name for name in names if _plain(self.task.partition("/")[2]) in map(_plain, _parts(name))]
            found = [name for name in found if Path(name).stem == LAST] or found
        if len(found) != 1:
            shown = brief(", ".join(found or names) or "no weights at all", 100)
            raise UserError(
                f"{self.repository.name} holds {len(found) or 'no'} agents of {self.task} ({shown}); "
                "name the file that you mean with --file."
            )
        return found[0]


def _parts(name: str) -> tuple[str, ...]:
    return Path(name).with_suffix("").parts


def _plain(text: str) -> str:
    """``Walker_Run`` and ``walker-run`` alike."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def overview() -> str:
    """What is published, a paragraph for each repository."""
    return "\n".join(
        f"{name}/TASK from {found.name}: "
        + (", ".join(task.partition("/")[2] for task in found.files) or f"tasks of {', '.join(found.benchmarks)}")
        for name, found in REPOSITORIES.items()
    )


def download(agent: PublishedAgent, file: str | None, out: Path) -> tuple[Path, str]:
    """The file of an agent, in the cache of ``huggingface_hub``, which continues a broken download; and where it is
    from.

    Args:
        file: its path in the repository, where that is not to be found out.
        out: the folder that it is to be imported to, for what a person can do without network.

    Raises:
        UserError: it cannot be fetched, or is not what its checksum says.
    """
    repository = agent.repository
    known, digest = repository.files.get(agent.task, (None, None))
    if file:
        known, digest = file, None
    local = Path(known).name if known else "FILE"
    settings = f" --set {' '.join(repository.settings)}" if repository.settings else ""
    by_hand = (
        f"download {known or f'the weights of {agent.task}'} of {repository.name} elsewhere and give "
        f"`{COMMAND} import {local} --task {agent.task} --out {shortened(out, 60)}{settings}`"
    )
    with connected(repository.name, is_reading=True, ending=f"; or {by_hand}.") as api:
        commit, listed = _listing(api, repository.name)
        name = file or agent.file_among(listed)
        found = listed.get(name)
        digest = digest or found
        if found in (None, digest):
            for is_again in (False, True):  # a cached file may be damaged
                path = Path(api.hf_hub_download(repository.name, name, revision=commit, force_download=is_again))
                if digest in (None, found := sha256(path)):
                    return path, f"{repository.name}/{name}@{commit}"
    raise UserError(
        f"{repository.name} sends another {name} than was published (sha256 {brief(found, 12)}, expected "
        f"{brief(digest, 12)}); where you trust it, {by_hand}."
    )


def _listing(api: Any, name: str) -> tuple[str, dict[str, str | None]]:
    """The newest commit of a repository, and the SHA-256 of its large files by path; None for small ones."""
    commit = api.model_info(name).sha
    tree = api.list_repo_tree(name, revision=commit, recursive=True)
    return commit, {entry.path: entry.lfs.sha256 if entry.lfs else None for entry in tree if hasattr(entry, "lfs")}
