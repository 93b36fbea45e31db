"""What every suite lacks, for ``python -m tokenworlds doctor``: prints its lines as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import yaml

from pipeline.plan import Plan, active_plan, plan_of
from pipeline.preflight import COMMAND, examine
from pipeline.suite import grid_text, known_suites
from tokenworlds.doctor import Line, Status
from tokenworlds.errors import UserError, excerpt


def lines() -> Iterator[Line]:
    """A line for the active suite, which is marked, then one for each other. What another one lacks is a note."""
    active = ""
    try:
        if (plan := active_plan()) is None:
            yield Line(Status.mend, "suite", "none is active; choose one with make suite SUITE=smoke")
        else:
            active = plan.suite
            yield _line(f"suite {active} *", lambda: plan, Status.mend, COMMAND)
    except UserError as error:
        yield Line(Status.mend, "suite", str(error))
    for name in known_suites():
        if name != active:
            found = lambda name=name: plan_of(yaml.safe_load(grid_text(name))["grid"])  # noqa: E731
            yield _line(f"suite {name}", found, Status.note, f"make suite SUITE={name}, then {COMMAND}")


def _line(subject: str, read: Callable[[], Plan], fault: Status, remedy: str) -> Line:
    try:
        plan = read()
        findings = examine(plan, plan.runs)
    except UserError as error:
        return Line(fault, subject, excerpt(str(error), 200))
    problems = [*findings.errors, *findings.warnings]
    if not problems:
        return Line(Status.ok, subject, f"{len(plan.runs)} runs at {plan.scale} scale, nothing is missing")
    more = f"; {len(problems) - 1} more: {remedy}" if problems[1:] else ""
    return Line(fault if findings.errors else Status.note, subject, excerpt(problems[0].rstrip("."), 200) + more)


if __name__ == "__main__":
    print(json.dumps([asdict(line) for line in lines()]))
