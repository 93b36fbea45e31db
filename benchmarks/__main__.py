"""Costs of the phases of a method at published sizes, and the ratio to the original implementation.

    python -m benchmarks [--method rem] [--only PHASE ...] [--repetitions N] [--threads N] [--device cuda] [--json FILE]

Prints median seconds per phase. Where the costs of the original are at hand (``--reference``), they are scaled to this
machine: the calibration beside them is run just before and just after every phase, and a phase's cost goes with the
unit that dominates it. Ratios below 1.5 in either direction are within the noise of that scaling.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.phases import AGENTS, build
from benchmarks.timing import Work, command_line, machine, once, parse
from tokenworlds.tracking.revision import git_revision
from tokenworlds.training.publication import hardware

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "bench" / "reference_costs.json"
CONV, MATMUL, SMALL = "calib_conv", "calib_matmul", "calib_small"
Units = dict[str, tuple[str, ...]]
UNITS: Units = {  # the units that dominate a phase of the original; of two, the geometric mean
    "tokenizer_update": (CONV,),
    "tokenizer_update_lpips": (CONV,),
    "world_model_update": (CONV,),
    "imagination": (CONV,),
    "imagination_no_burn_in": (CONV, SMALL),
    "behaviour_update": (CONV,),
    "act": (CONV, SMALL),
    "replay_sample": (SMALL,),
    "replay_sample_full": (SMALL,),
    "env_step_300": (SMALL,),
}
IMAGE_UNITS: Units = {  # of methods whose world model costs more than the encoding of its frames
    "world_model_update": (MATMUL,),
    "imagination": (CONV, MATMUL),
    "imagination_no_burn_in": (CONV, MATMUL),
    "behaviour_update": (CONV, MATMUL),
}
VECTOR_UNITS: Units = {"world_model_update": (MATMUL,), "imagination": (MATMUL,), "behaviour_update": (MATMUL,)}
OWN_UNITS: dict[str, dict[str, tuple[str, ...]]] = {
    "rem": IMAGE_UNITS,
    "m3_atari": IMAGE_UNITS,
    "m3_dmc_vector": VECTOR_UNITS,
}


def measure(work: Work, repetitions: int, device: torch.device) -> float:
    """Median seconds of a call after two warm-up calls; short calls are timed in groups of at least 0.2 s."""
    work()
    group = max(1, math.ceil(0.2 / max(once(work, device), 1e-6)))

    def repeated() -> None:
        for _ in range(group):
            work()

    return statistics.median(once(repeated, device) for _ in range(repetitions)) / group


def calibrate(script: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, str(script), "--threads", str(threads), "--json"]
    printed: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {unit: float(printed[unit]) for unit in (CONV, MATMUL, SMALL)}


def predicted(
    method: str, phase: str, reference: dict[str, Any], calibrations: list[dict[str, float]]
) -> tuple[float, float]:
    """What the original would cost on this machine, and by what share the calibrations before and after differ."""
    units = (UNITS | OWN_UNITS.get(method, {}))[phase]
    ratios = [
        statistics.fmean(here[unit] for here in calibrations) / reference["calibration_median"][unit] for unit in units
    ]
    before, after = (math.prod(here[unit] for unit in units) ** (1 / len(units)) for here in calibrations)
    seconds = float(reference["phases"][method][phase]["seconds"])
    return seconds * math.prod(ratios) ** (1 / len(ratios)), abs(after / before - 1)


def main() -> int:
    parser = command_line("", __doc__, 5, device=True)
    parser.add_argument("--method", choices=AGENTS, default="iris")
    parser.add_argument("--only", nargs="+", default=[""], metavar="PHASE", help="some phases, by their beginnings")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="costs of the original implementation, JSON")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parse(parser)
    device = options.device
    has_reference = options.reference.exists() and device.type == "cpu"
    nothing: dict[str, Any] = {"phases": {options.method: {}}}
    reference = json.loads(options.reference.read_text()) if has_reference else nothing
    script = options.reference.parent / "calibrate.py"
    phases = build(options.method, device).all()
    chosen = {name: make for name, make in phases.items() if name.startswith(tuple(options.only))}
    if not chosen:
        print(f"error: no phase begins with {', '.join(options.only)}; known: {', '.join(phases)}.", file=sys.stderr)
        return 2
    print(f"{options.method}, published sizes, {machine(device)}")
    if has_reference:
        print("beside ours the original, scaled to this machine; ratio = original / ours; drift between calibrations")
    rows = []
    for name, make in tqdm(chosen.items(), leave=False, disable=not sys.stderr.isatty()):
        work, phase = make(), name.split(":")[0]
        is_known = phase in reference["phases"][options.method]
        calibrations = [calibrate(script, options.threads)] if is_known else []
        seconds = measure(work, options.repetitions, device)
        calibrations += [calibrate(script, options.threads)] if is_known else []
        original, drift = predicted(options.method, phase, reference, calibrations) if is_known else (None, None)
        ratio = original / seconds if original else None
        row = {"phase": name, "seconds": seconds, "original": original, "ratio": ratio, "calibrations": calibrations}
        rows.append(row)
        beside = f"{original:10.4f} s  {ratio:6.2f}x  {drift:4.0%}" if is_known else ""
        tqdm.write(f"{name:44s} {seconds:10.4f} s  {beside}")
    if options.json:
        made_by = {"hardware": hardware(device), "torch": torch.__version__, "revision": git_revision()}
        options.json.write_text(json.dumps({**made_by, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
