"""Name the best agent of every method, task and scale as an artifact of DVC, in ``results/best/dvc.yaml``.

python -m pipeline.artifacts [--scores results/scores] [--runs results/runs] [--out results/best/dvc.yaml]

No stage, because DVC reads every ``dvc.yaml`` before it runs one. The best is chosen by the score of the final
evaluation, among the runs whose folder is here; of equal ones the lowest seed.
"""

import argparse
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.options import read_options
from pipeline.collect import Row, check_folders, collect, folders
from tokenworlds.cli import exit_status
from tokenworlds.files import require_file, sha256, write_atomic
from tokenworlds.runs.layout import RUN_SCORES, WEIGHTS
from tokenworlds.runs.manifest import MANIFEST, read_manifest
from tokenworlds.tracking.summary import read_scores

COMMAND = "python -m pipeline.artifacts"
HEAD = f"# Made by `{COMMAND}`, which replaces it: write artifacts of your own into another dvc.yaml.\n"
GROUP = ("method", "variant", "task", "scale")  # one agent of each
FOLDER = "folder"  # of the run, in its row
SPACER = re.compile(r"[^a-z0-9]+")  # in names, which DVC wants of letters, digits and dashes


def best(rows: Iterable[Row]) -> Iterator[tuple[Row, int]]:
    """The best run of each group, and how many it was chosen from; groups in the order of their names."""

    def group(row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in GROUP)

    for _, found in itertools.groupby(sorted(rows, key=group), group):
        runs = list(found)
        yield max(runs, key=lambda row: (row["score"], -int(row["seed"]))), len(runs)


def artifact_name(row: Row) -> str:
    """``rem-no-pop-atari-pong-paper``."""
    return SPACER.sub("-", "-".join(filter(None, (row[name] for name in GROUP))).lower()).strip("-")


def artifact(row: Row, seeds: int, folder: Path, file: Path) -> dict[str, Any]:
    """What ``file``, a ``dvc.yaml``, says of the agent in the run folder ``folder``."""
    choice = (
        f"the best of {seeds} seeds by this score, which is therefore higher than one can expect of a seed"
        if seeds > 1
        else "the only seed"
    )
    return {
        "path": Path(os.path.relpath(folder, file.parent)).as_posix(),
        "type": "model",
        "desc": f"{row['method']} on {row['task']}, scale {row['scale']}, seed {row['seed']}: {choice}.",
        "labels": [SPACER.sub("-", row[name].lower()) for name in ("method", "task", "scale")],
        "meta": {
            "made_by": COMMAND,
            **{name: row[name] for name in (*GROUP, "seed", "score", "config_hash", "git_revision")},
            "seeds": seeds,
            "protocol": read_scores(folder / RUN_SCORES).get("protocol"),
            "sha256": weights_digest(folder),
        },
    }


def weights_digest(folder: Path) -> str:
    """SHA-256 of a run's weights; from its manifest, where it has one."""
    listed = read_manifest(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    return listed[WEIGHTS][1] if WEIGHTS in listed else sha256(folder / WEIGHTS)


def is_own(file: Path) -> bool:
    """Whether a ``dvc.yaml`` holds nothing but artifacts of this command."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        artifacts = content["artifacts"].values()
        return content.keys() == {"artifacts"} and all(entry["meta"]["made_by"] == COMMAND for entry in artifacts)
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return False


def artifacts(rows: Iterable[Row], places: Iterable[Path | None], file: Path) -> dict[str, Mapping[str, Any]]:
    """By name; two groups whose names DVC could not tell apart are numbered."""
    here = [row | {FOLDER: place} for row, place in zip(rows, places) if place and (place / WEIGHTS).is_file()]
    result: dict[str, Mapping[str, Any]] = {}
    for row, seeds in best(here):
        names = (artifact_name(row) + suffix for suffix in itertools.chain([""], map("-{}".format, itertools.count(2))))
        result[next(name for name in names if name not in result)] = artifact(row, seeds, row[FOLDER], file)
    return result


def write(scores: Path, runs: Path, file: Path) -> None:
    """Write the file, if that changes it."""
    require_file(file, is_own, "move what you wrote into it to another dvc.yaml, or name another place with --out")
    rows = collect(scores, read_options().mixed)
    check_folders(rows, runs)
    found = artifacts(rows, folders(rows, scores, runs), file)
    if not found:
        print(f"no agents in {runs}, so {file} stays as it is")
        return
    content = (HEAD + yaml.safe_dump({"artifacts": found}, sort_keys=False, width=120)).encode()
    if not file.is_file() or file.read_bytes() != content:
        write_atomic(file, content)
    print(f"{len(found)} artifacts -> {file}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, default=Path("results/scores"), help="folder of the runs' scores")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="folder of the runs' folders")
    parser.add_argument("--out", type=Path, default=Path("results/best/dvc.yaml"), help="file to write")
    options = parser.parse_args(arguments)
    return exit_status(lambda: write(options.scores, options.runs, options.out))


if __name__ == "__main__":
    raise SystemExit(main())
