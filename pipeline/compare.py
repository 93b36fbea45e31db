"""Whether two runs are the same: ``python -m pipeline.compare RUN OTHER``.

Every number of training, every final game and every weight is compared to the last bit. Times, speeds and memory, which
are the machine's, are left out, and so is what only one of the folders holds: the committed records of a run
(``docs/laptop/runs``) have no weights. The exit status is 0 for equal runs and 1 for others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.records import read_metrics, read_values
from tokenworlds.cli import exit_status
from tokenworlds.errors import UserError, brief, excerpt
from tokenworlds.files import shortened
from tokenworlds.runs.layout import JOURNAL, MEASURES, RUN_SCORES, WEIGHTS, WORLD_MODEL

OF_MACHINE = re.compile(r"second|^system/|^memory/|^final/cost/(energy_joules|peak_memory_bytes)")
"""Metrics that differ from one execution of a run to the next."""
OF_COST = "cost,"
"""Begin of rows of ``measures.csv`` that do."""
OF_PLACE = re.compile(r"(out|replace|extend|runtime\..+)$")
"""Settings that say where and how a run is executed, not what it learns."""
SHOWN = 5  # settings that differ, by name

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Values of two runs under common names, in order."""

    title: str
    values: Values
    others: Values

    @cached_property
    def differing(self) -> list[str]:
        """Names of values that differ, or that one of the runs lacks."""
        return [name for name in self._names() if _text(self.values, name) != _text(self.others, name)]

    def lines(self, shown: int = 1) -> Iterator[str]:
        """How many are equal, and the first ones that are not."""
        differing, count = self.differing, len(self._names())
        yield f"{self.title:22} {f'{len(differing):,} of {count:,} differ' if differing else f'{count:,} equal'}"
        for name in differing[:shown]:
            one, other = (excerpt(_text(values, name), 60) for values in (self.values, self.others))
            yield f"    {name}: {one} and {other}"
        if shown > 1 and differing[shown:]:
            yield f"    and {len(differing) - shown} more"

    def _names(self) -> list[str]:
        return list(dict.fromkeys((*self.values, *self.others)))


def _text(values: Values, name: str) -> str:
    """A value in all its digits; NaN equals NaN in this form."""
    return str(values.get(name, "absent"))


def settings(run: Path, other: Path) -> Part:
    """Settings that can change what is learned, and the revision of the code."""
    return Part("settings", _settings(run), _settings(other))


def parts(run: Path, other: Path) -> list[Part]:
    """What was trained and measured: metrics by their first name, final games, tables, weights.

    Raises:
        UserError: one of the folders is none of a run, is damaged, or the two have nothing in common.
    """
    for folder in (run, other):
        if not folder.is_dir():
            raise UserError(f"there is no folder {shortened(folder)}; give the folder of a run.")
    is_common = lambda name: (run / name).is_file() and (other / name).is_file()  # noqa: E731
    found = []
    if is_common(JOURNAL):
        one, two = _metrics(run / JOURNAL), _metrics(other / JOURNAL)
        found += [Part(first, one.get(first, {}), two.get(first, {})) for first in dict.fromkeys((*one, *two))]
    for name, read in ((RUN_SCORES, _scores), (WORLD_MODEL, _rows), (MEASURES, _rows), (WEIGHTS, _weights)):
        if is_common(name):
            found.append(Part(name, read(run / name), read(other / name)))
    if not found:
        raise UserError(
            f"{shortened(run)} and {shortened(other)} have no file of a run in common; give two run folders."
        )
    return found


def _settings(run: Path) -> Values:
    learned = {name: value for name, value in read_values(run / JOURNAL, "params").items() if not OF_PLACE.match(name)}
    return {"revision": read_values(run / JOURNAL, "tags").get("git_revision"), **learned}


def _metrics(journal: Path) -> dict[str, dict[str, Any]]:
    """By their first name, then as ``epoch 3: world_model/train/loss``."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for epoch, values in read_metrics(journal, with_final=True):
        for name, value in values.items():
            if not OF_MACHINE.search(name):
                found[name.partition("/")[0]][f"epoch {epoch}: {name}"] = value
    return found


def _scores(file: Path) -> Values:
    try:
        record = json.loads(file.read_bytes())
        played = {"final": record, "random": record.get("random") or {"returns": []}}
        games = {
            f"{of} game {number}: {what}": value
            for of, games in played.items()
            for what, values in (("return", games["returns"]), ("length", games.get("lengths", [])))
            for number, value in enumerate(values)
        }
        return {name: record.get(name) for name in ("budget", "protocol")} | games
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{shortened(file)} is damaged ({brief(error, 60)}); restore it.") from error


def _rows(file: Path) -> Values:
    lines = file.read_bytes().decode(errors="replace").split("\n")
    return {f"line {number}": line for number, line in enumerate(lines) if not line.startswith(OF_COST)}


def _weights(file: Path) -> Values:
    """Kind, shape and digest of every tensor; the header of the file, which names the revision, is left out."""
    import torch

    from tokenworlds.tensor_files import read

    digest = lambda value: hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy()).hexdigest()[:16]  # noqa: E731
    return {name: f"{value.dtype} {tuple(value.shape)} {digest(value)}" for name, value in read(file).items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.compare", description="Compare two runs, number by number and weight by weight."
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("other", type=Path, help="run folder")
    options = parser.parse_args(arguments)
    found = parts(options.run, options.other)
    print(*settings(options.run, options.other).lines(SHOWN), sep="\n")
    for part in found:
        print(*part.lines(), sep="\n")
    differs = any(part.differing for part in found)
    print("the runs differ" if differs else "the runs are equal to the last bit")
    return int(differs)


if __name__ == "__main__":
    sys.exit(exit_status(main))
