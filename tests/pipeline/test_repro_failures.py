"""A real `python -m pipeline.repro` with a run that fails, and once more when its cause is mended."""

import functools
import json
import sys
from collections.abc import Callable

import pytest

from tests.conftest import Checkout
from tests.pipeline.support import choose, quicken

pytestmark = pytest.mark.integration

COMMAND = (sys.executable, "-m", "pipeline.repro")
FAILED, DONE = (f"Running stage 'pipeline/{method}/dvc.yaml:atari@Pong-0'" for method in ("iris", "rem"))


def test_a_failed_run_stops_no_other_and_is_all_that_is_trained_again(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    choose(checkout.folder, "Pong", methods=("iris", "rem"))
    stages = checkout.folder / "dvc.yaml"
    few = {"--kind table": "--only IRIS-T-hp", "--kind figure": "--only R16-F-leaderboard"}
    stages.write_text(functools.reduce(lambda text, pair: text.replace(*pair), few.items(), stages.read_text()))
    quicken(checkout, epochs=2)
    page = checkout.folder / "results" / "report" / "index.html"
    in_the_way = checkout.folder / "scratch" / "iris" / "atari" / "Pong"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()

    done = checkout.run(*COMMAND, status=1)
    assert FAILED in done.stdout and DONE in done.stdout and "exited with 2" in done.stderr
    end = done.stderr[done.stderr.index("1 of 2 runs of suite test have no result") :]
    assert "iris/atari/Pong/0 failed: " in end and str(in_the_way) in end and "rem/atari" not in end
    assert "<b>iris/atari/Pong/0</b> failed: " in page.read_text()
    assert [*json.loads(checkout.dvc("status", "--json").stdout)] == ["pipeline/iris/dvc.yaml:atari@Pong-0"]

    in_the_way.unlink()
    done = checkout.run(*COMMAND)
    assert FAILED in done.stdout and DONE not in done.stdout and "Running stage 'report'" in done.stdout
    assert "have no result" not in done.stderr + page.read_text()
    assert json.loads(checkout.dvc("status", "--json").stdout) == {}
