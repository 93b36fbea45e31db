"""`python -m pipeline.train initialization.path=...` and `extend=...` from the command line to the published run."""

import json
import shutil
import sys
from collections.abc import Callable

import pytest

from tests.conftest import Checkout
from tests.pipeline.support import edit_yaml
from tests.training.test_resume import OWN, TINY

pytestmark = pytest.mark.integration

COMMAND = ("method=iris", "task=minigrid/Empty-5x5", *TINY, *OWN["iris"])


def test_a_run_begins_with_parts_of_another_which_it_outlives(make_checkout: Callable[[], Checkout]) -> None:
    checkout = make_checkout()
    checkout.train(*COMMAND, "seed=1", "out=source", "runtime.keep_replay=false")
    source, warm = checkout.folder / "source", checkout.folder / "warm"
    parts = ("initialization.path=source", "initialization.tokenizer=true", "initialization.world_model=true")
    command = (*COMMAND, *parts, "training.tokenizer.stop_after_epochs=0", "out=warm")
    done = checkout.train(*command)
    assert "tokenizer from iris/minigrid/Empty-5x5/1, weights " in done.stdout
    scores, own = (json.loads((run / "scores.json").read_text()) for run in (warm, source))
    record = scores["initialization"]
    assert record["tokenizer"] == record["world_model"] and record["world_model"]["config_hash"] == own["config_hash"]
    assert str(checkout.folder) not in json.dumps(record) and scores["budget"]["agent_updates"]["tokenizer"] == 0
    assert scores["overrides"]["initialization"] == "tokenizer-world_model"
    assert (warm / "media" / "imagination.png").is_file()
    metrics = [json.loads(line) for line in (warm / "metrics.jsonl").read_text().splitlines()]
    assert any("tokenizer/eval/loss_total" in one.get("values", {}) for one in metrics)  # frozen, but measured

    shutil.rmtree(source)
    assert "holds this run already" in checkout.train(*command).stdout
    checkout.run(sys.executable, "-m", "pipeline.evaluate", "warm", "--episodes", "1")
    done = checkout.train(*command[:-1], "out=other", "seed=3", status=2)
    assert "source does not exist" in done.stderr and done.stderr.count("\n") == 1

    edit_yaml(checkout.folder / "params.yaml", {"initialization": {"actor_critic": "warm"}})  # for all runs
    checkout.train(*COMMAND, "out=third")
    assert json.loads((checkout.folder / "third" / "scores.json").read_text())["overrides"]["initialization"] == (
        "actor_critic"
    )
    checkout.train("extend=third", "training.epochs=5", "collection.train.stop_after_epochs=5", "out=longer")
    longer = json.loads((checkout.folder / "longer" / "scores.json").read_text())
    assert longer["initialization"]["actor_critic"]["weights"] and longer["extended_from"]["epochs"] == 4
