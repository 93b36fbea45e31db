"""The command ``python -m pipeline.launch``: train what of the active suite is missing, on many GPUs or machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import preflight, repro
from pipeline.launch import snapshot
from pipeline.launch.attempts import CANCELLED, Job, attempts_at, jobs, launch_folder
from pipeline.launch.collector import Collector, finished
from pipeline.launch.engines import Engine
from pipeline.launch.engines.ray import RayEngine
from pipeline.launch.engines.slurm import SlurmEngine, SlurmOptions
from pipeline.launch.jobs import Share, is_current, job_of, keep_record
from pipeline.launch.launcher import Launcher, Options, Outcome, follow
from pipeline.launch.missing import Missing, find_missing, matching, renew_inputs, select
from pipeline.plan import Plan, active_plan
from tokenworlds.cli import STATUS_ERROR, exit_status, raise_on_sigterm
from tokenworlds.config import RunConfig, known_methods, load, project_root
from tokenworlds.envs.vector.environment import usable_processors
from tokenworlds.errors import UserError, excerpt
from tokenworlds.locks import is_held, locked
from tokenworlds.runs.identity import RunId
from tokenworlds.tasks import family_of
from tokenworlds.tracking.many import ManyJournals

COMMAND = "python -m pipeline.launch"
ANOTHER = f"another {COMMAND} is at work, python -m pipeline.status shows its runs"
INTERRUPTED = (
    f"runs on this machine or through Ray are stopped, Slurm's go on; nothing is lost, the same {COMMAND} goes on"
)
EXAMPLES = """\
what of the active suite is missing or stale:
  python -m pipeline.launch                                 on this machine, one run a GPU
  python -m pipeline.launch --gpus 8 --per-gpu 2            two runs on each of eight GPUs, each with half of its memory
  python -m pipeline.launch --cpus 4                        without GPUs: four runs at a time, a core each
  python -m pipeline.launch --on ray --address auto         on a Ray cluster: ssh hosts, Kubernetes, a cloud
  python -m pipeline.launch --on slurm --partition gpu --time 24:00:00 --max-jobs 64
  python -m pipeline.launch --select 'rem/atari/*' 'm3/*' --dry
  python -m pipeline.status --watch                         what is done, runs, waits, has failed
  python -m pipeline.launch --cancel 'rem/*'                stops these runs; without a pattern all

One launcher works on a project at a time. When it was interrupted or killed, the same command goes on: it finds what is
finished, what runs and what is missing. docs/paper_scale.md shows it, docs/launch_failures.md what happens when
something fails.
"""
AFTER_A_RUN = "for {}: launched when that and all others have ended"
AFTER_A_STAGE = "for what dvc repro --single-item {} makes: do that, then launch again"
AFTER_OTHERS = "for {}: launch again once it is there"
CORES = 4  # of a run with a GPU, at most its part of this machine's


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    os.chdir(project_root())  # settings name files from here
    raise_on_sigterm()
    if options.cancel is not None:
        return cancel(options.cancel)
    plan = active_plan()
    if plan is None:
        raise UserError("no suite is active: choose one with `make suite SUITE=...`.")
    return show(plan, options) if options.dry else launch(plan, options)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: options that do not go together.
    """
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Train what of the active suite is missing or stale, and register it with DVC.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--select", nargs="+", default=[], metavar="PATTERN", help="only runs with such names")
    parser.add_argument(
        "--dry", action="store_true", help="only show what would run, where, how long; renews results/inputs"
    )
    parser.add_argument("--cancel", nargs="*", metavar="PATTERN", help="stop runs (without a pattern: all)")
    parser.add_argument("--retries", type=_count, default=3, help="attempts in a row without a new epoch (default: 3)")
    parser.add_argument("--no-preflight", action="store_true", help="launch although something is missing")
    where = parser.add_argument_group("where")
    where.add_argument(
        "--on", choices=("ray", "slurm"), default="ray", help="default: ray, also for this machine alone"
    )
    where.add_argument(
        "--gpus", type=int, help="of this machine (default: all); 0: runs without a GPU, also on clusters"
    )
    where.add_argument("--per-gpu", type=_count, default=1, help="runs that share a GPU and its memory (default: 1)")
    where.add_argument("--cpus", type=_count, help="runs at a time on this machine without GPUs (default: its cores)")
    where.add_argument("--cores", type=_count, help=f"cores of each run (default: {CORES} with a GPU, 1 without)")
    where.add_argument("--address", help="of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT")
    slurm = parser.add_argument_group("Slurm")
    slurm.add_argument("--partition", help="default: the site's, as for all that follow")
    slurm.add_argument("--time", help="limit of a job, after which its run goes on in another: 24:00:00")
    slurm.add_argument("--max-jobs", type=_count, help="jobs in the queue at the same time (default: all)")
    slurm.add_argument("--account")
    slurm.add_argument("--qos")
    slurm.add_argument("--mem", help="memory of a job: 32G")
    options = parser.parse_args(arguments)
    _refuse_misfits(options)
    return options


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _refuse_misfits(options: argparse.Namespace) -> None:
    of_slurm = [name for name in ("partition", "time", "max_jobs", "account", "qos", "mem") if getattr(options, name)]
    if of_slurm and options.on != "slurm":
        raise UserError(f"--{of_slurm[0].replace('_', '-')} is an option of Slurm: say --on slurm, or leave it out.")
    if options.on == "slurm" and (options.address or options.per_gpu > 1 or options.cpus):
        raise UserError("--address, --per-gpu and --cpus are not for Slurm, where a run is a job: leave them out.")
    if options.address and (options.gpus or options.cpus):
        raise UserError("--gpus and --cpus count those of this machine: leave them out with --address (or --gpus 0).")
    if options.gpus is not None and options.gpus < 0:
        raise UserError(f"--gpus is {options.gpus}; it must be at least 0.")
    if options.gpus == 0 and options.per_gpu > 1:
        raise UserError("--per-gpu needs GPUs: leave it out, or leave out --gpus 0.")


@dataclass(frozen=True)
class Place:
    """Where runs are trained.

    Args:
        engine: not yet connected.
        share: what a run gets.
        at_a_time: how many runs there is room for on this machine; None on a cluster.
    """

    engine: Engine
    share: Share
    at_a_time: int | None

    def __str__(self) -> str:
        gpu = "a GPU" if self.share.gpu == 1 else f"{self.share.gpu:.2g} of a GPU" if self.share.gpu else "no GPU"
        cores = f"{self.share.cpus} core{'' if self.share.cpus == 1 else 's'}"
        where = f"on {self.engine.name.capitalize()}" if self.at_a_time is None else "on this machine"
        number = "" if self.at_a_time is None else f", {self.at_a_time} at a time"
        return f"{where}, each with {gpu} and {cores}{number}"


def place_of(options: argparse.Namespace) -> Place:
    """Where the options say that runs are trained.

    Raises:
        UserError: more GPUs are asked for than this machine has.
    """
    if options.on == "slurm" or options.address:
        share = Share(
            0 if options.gpus == 0 else 1 / options.per_gpu, options.cores or (1 if options.gpus == 0 else CORES)
        )
        if options.on == "ray":
            return Place(RayEngine(options.address), share, None)
        asked = SlurmOptions(
            options.partition, options.time, options.max_jobs, options.account, options.qos, options.mem
        )
        return Place(SlurmEngine(asked), share, None)
    there, cores = preflight.gpus(), usable_processors()
    gpus = there if options.gpus is None else options.gpus
    if gpus > there:
        raise UserError(f"--gpus {gpus}: this machine has {there}; choose fewer, or leave the option out.")
    if gpus and options.cpus:
        raise UserError("--cpus is for runs without a GPU: say --gpus 0, too, or leave it out.")
    if gpus:
        runs = gpus * options.per_gpu
        share = Share(1 / options.per_gpu, options.cores or max(1, min(CORES, cores // runs)))
        return Place(RayEngine(gpus=gpus), share, runs)
    if options.per_gpu > 1:
        raise UserError("--per-gpu: this machine has no GPU; say --cpus N for so many runs at a time.")
    runs, each = options.cpus or max(1, cores // (options.cores or 1)), options.cores or 1
    return Place(RayEngine(cpus=runs * each), Share(0, each), runs)


def show(plan: Plan, options: argparse.Namespace) -> int:
    """What would run, where, and for how long."""
    place, runs = place_of(options), select(plan.runs, options.select)
    renew_inputs({run.method for run in runs})
    found = find_missing(runs, restore=False)
    _announce(plan, len(runs), found)
    missing, waiting = ready(found)
    if missing:
        findings = _examine(plan, missing, waiting, place)
        preflight.report(plan, findings)
        print(str(place))
    return 0


def launch(plan: Plan, options: argparse.Namespace) -> int:
    """Train the missing runs, then those that begin with one of them, and so on."""
    runs, status = select(plan.runs, options.select), 0
    while True:
        outcome, collector = _launch(plan, runs, options)
        status = max(status, report(outcome, collector))
        if not outcome.waiting or not collector.registered:
            return status
        runs = outcome.waiting


def _launch(plan: Plan, runs: Sequence[RunId], options: argparse.Namespace) -> tuple[Outcome, Collector]:
    """Train those of the runs that are missing and can begin, register them, and draw the report."""
    place = place_of(options)
    with locked(launch_folder() / "lock", ANOTHER):
        collector, journals = Collector(), ManyJournals()
        try:
            outcome = _train(plan, runs, place, options, collector, journals)
        finally:
            place.engine.close()
            collector.collect()
            journals.close()  # after that, because the ends of journals come with the runs
            snapshot.prune()
    repro.reproduce(only_report=True)
    return outcome, collector


def _train(
    plan: Plan,
    runs: Sequence[RunId],
    place: Place,
    options: argparse.Namespace,
    collector: Collector,
    journals: ManyJournals,
) -> Outcome:
    renew_inputs(known_methods())  # also of those without runs, so that DVC has nothing left to do
    earlier = [job for job in finished() if is_current(job)]
    for job in earlier:
        follow(journals, job, plan.suite)
    collector(earlier)
    collector.collect()
    taken = snapshot.take(runs)
    found = find_missing(runs)
    _announce(plan, len(runs), found)
    missing, waiting = ready(found)
    if not missing:
        return Outcome(waiting=waiting)
    findings = _examine(plan, missing, waiting, place)
    preflight.report(plan, findings)
    if findings.errors and not options.no_preflight:
        raise UserError("nothing was launched; --no-preflight launches all the same.")
    wanted = [job_of(each, taken, place.share) for each in missing]
    if snapshot.current_revision() != taken.revision:
        raise UserError("files were edited while the launch was prepared; give the same command again.")
    for job in wanted:
        keep_record(job)
    hours = {run.name: cost.hours for kind, cost in findings.costs.items() if cost is not None for run in kind.runs}
    watching = Options(options.retries, hours=hours, suite=plan.suite)
    return replace(Launcher(place.engine, collector, watching, journals).run(wanted), waiting=waiting)


def _examine(plan: Plan, missing: Sequence[Missing], waiting: Sequence[RunId], place: Place) -> preflight.Findings:
    """What the runs need that begin now or later; the cost of tokenizers is not known."""
    runs = [*(each.run for each in missing if not each.tokenizer), *waiting]
    return preflight.examine(plan, runs, is_elsewhere=place.at_a_time is None)


def ready(missing: Sequence[Missing]) -> tuple[list[Missing], list[RunId]]:
    """The runs and tokenizers that can begin, and the runs that can after others of them. For each kind of what runs
    wait for one is named, with what to do."""
    configs: dict[tuple[str, ...], RunConfig] = {}  # one for all runs that differ in task and seed only
    launched = {each.stage: each.name for each in missing}
    found, waiting = [], dict[str, list[tuple[RunId, str]]]()
    for each in missing:
        kind = each.run.method, each.run.variant, family_of(each.run.task)
        lacking: str | None
        if each.tokenizer:
            lacking = None
        elif each.after:
            lacking = launched.get(each.after, each.after)
            remedy = AFTER_A_RUN if each.after in launched else AFTER_A_STAGE
        else:
            if kind not in configs:
                configs[kind] = load(list(each.overrides))
            lacking, remedy = preflight.lacking_weights(each.run, configs[kind]), AFTER_OTHERS
        if lacking is None:
            found.append(each)
        else:
            waiting.setdefault(remedy, []).append((each.run, lacking))
    for remedy, runs in waiting.items():
        (run, lacking), count = runs[0], len(runs)
        what = f"{count} run{' waits' if count == 1 else 's wait'}"
        print(f"{what}, such as {run.name} {remedy.format(lacking)}.", flush=True)
    return found, [run for run, _ in waiting.get(AFTER_A_RUN, [])]


def _announce(plan: Plan, count: int, missing: Sequence[Missing]) -> None:
    runs = sum(not each.tokenizer for each in missing)
    tokenizers = len(missing) - runs
    more = f"; {tokenizers} tokenizer{'' if tokenizers == 1 else 's'} to pretrain" if tokenizers else ""
    print(f"suite {plan.suite}: {count} runs chosen of {len(plan.runs)}, {runs} missing or stale{more}", flush=True)


def report(outcome: Outcome, collector: Collector) -> int:
    """What came of the runs, in a few lines and one for each that has failed; the exit status."""
    unfinished = outcome.failed | dict.fromkeys(outcome.cancelled, "cancelled")
    print(f"\n{len(collector.registered)} registered with DVC, {len(outcome.failed)} failed", end="")
    print(f", {len(outcome.cancelled)} cancelled" if outcome.cancelled else "")
    for name, reason in unfinished.items():
        attempts = attempts_at(launch_folder() / "runs" / name)
        log = f"  {attempts[-1].path('log')}" if attempts else ""
        print(f"  {name}: {excerpt(reason, 200)}{log}")
    for name, reason in collector.refused.items():
        print(f"  {name}: finished, not registered: {excerpt(reason, 200)}")
    return STATUS_ERROR if unfinished or collector.refused else 0


def cancel(patterns: Sequence[str]) -> int:
    """Ask for the end of runs: their workers obey within seconds, a launcher takes them out of its list, and Slurm's
    jobs are cancelled by this command itself.

    Raises:
        UserError: a pattern matches no run that was launched.
    """
    chosen = matching([*jobs()], patterns, "--cancel", "launched run")
    is_at_work = is_held(launch_folder() / "lock")  # it may be about to try runs again whose last attempts have failed
    stopped = [job for job in chosen if job.is_unfinished or (is_at_work and not job.results.exists())]
    for job in stopped:
        (job.folder / CANCELLED).touch()
        _cancel_in_slurm(job)
    print(f"{len(stopped)} runs are asked to stop; python -m pipeline.status shows when they have")
    return 0


def _cancel_in_slurm(job: Job) -> None:
    for attempt in attempts_at(job.folder)[-1:]:
        submitted = attempt.about("submitted") or {}
        if submitted.get("engine") == SlurmEngine.name and submitted.get("id"):
            SlurmEngine(SlurmOptions()).cancel(submitted["id"])


if __name__ == "__main__":
    sys.exit(exit_status(main, remedy=INTERRUPTED))
