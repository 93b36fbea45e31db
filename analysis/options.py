"""The options of the analysis, read from ``analysis/params.yaml``."""

import dataclasses
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenworlds.errors import UserError, near_matches
from tokenworlds.runs.settings import MIXED, REFUSE

PARAMS = Path(__file__).with_name("params.yaml")


@dataclass(frozen=True)
class Options:
    """Bootstrap repetitions (the papers' numbers are the defaults) and seed; what becomes of mixed settings."""

    repetitions_aggregates: int = 50_000
    repetitions_profiles: int = 2_000
    repetitions_improvement: int = 1_000
    seed: int = 0
    mixed: str = REFUSE  # runs of several settings under one name: refuse, or label

    def capped(self, repetitions: int | None) -> "Options":
        """These options with at most ``repetitions`` resamples of every kind (None: unchanged)."""
        if repetitions is None:
            return self
        if repetitions < 1:
            raise UserError(f"--repetitions must be at least 1, found {repetitions}: give a positive whole number.")
        names = ("repetitions_aggregates", "repetitions_profiles", "repetitions_improvement")
        return dataclasses.replace(self, **{name: min(getattr(self, name), repetitions) for name in names})

    def seeded(self, seed: int | None) -> "Options":
        """These options with another seed of the bootstrap (None: unchanged)."""
        if seed is not None and seed < 0:
            raise UserError(f"--seed must be a whole number from 0 on, found {seed}.")
        return self if seed is None else dataclasses.replace(self, seed=seed)

    def generator(self, *names: str) -> np.random.Generator:
        """Random stream of one interval, derived from its names, so that adding a method changes no other number."""
        return np.random.default_rng([self.seed, *(zlib.crc32(name.encode()) for name in names)])


def read_options(path: Path = PARAMS) -> Options:
    """Read flat ``name: value`` lines; a YAML library is not required where only figures are redrawn."""
    known = [field.name for field in dataclasses.fields(Options)]
    values: dict[str, Any] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        name, _, value = (part.strip() for part in text.partition(":"))
        if name not in known:
            raise UserError(f"{path.name} line {number}: unknown option {name!r}: {near_matches(name, known)}")
        if name == "mixed":
            if value not in MIXED:
                raise UserError(f"{path.name} line {number}: mixed is {value!r}, expected one of {', '.join(MIXED)}.")
            values[name] = value
            continue
        if not value.isdigit() or (name != "seed" and int(value) == 0):
            raise UserError(f"{path.name} line {number}: {name} must be a positive whole number, found {value!r}.")
        values[name] = int(value)
    return Options(**values)
