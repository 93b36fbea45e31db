"""Nothing but observations and actions crosses between host and device: all runs on torch's ``meta`` device
(``benchmarks.stand_in``). The number of elements that a mask selects is stood in for, too, once an epoch;
``test_updates_wait_for_nothing`` refuses it in an update.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.stand_in import META, Generator, like_a_gpu
from tests import small
from tests.methods.support import EPOCH, build, configure, experience
from tokenworlds import methods
from tokenworlds.agents.actor import AgentActor
from tokenworlds.envs import ContinuousActions, EnvironmentSpec, MultiDiscreteActions
from tokenworlds.training import media

TERMS = (  # all that a tokenizer's loss can hold, on frames of 32 pixels
    *("value.weight=1", "value.unfinished=1", "ssim.weight=1", "ssim.scales=2", "ffl.weight=1", "motion.weight=1"),
    *("adversarial.weight=1", "adversarial.channels=2"),
)
TOKENIZERS = {
    "terms": tuple(f"model.tokenizer.loss.{one}" for one in TERMS),
    "ema": ("model.tokenizer.quantiser=ema", "model.tokenizer.ema.reset_after=1"),
    "lfq": ("model.tokenizer.quantiser=lfq", "model.tokenizer.projections=false"),
}
SPECS = {
    "image": None,
    "vector": EnvironmentSpec({"vector": small.MODALITIES["vector"]}, ContinuousActions(2)),
    "mixture": EnvironmentSpec(small.MODALITIES, MultiDiscreteActions((3, 2))),
}
CASES = [(method, backbone, "image") for method in methods.METHODS for backbone in ("transformer", "retnet")]
CASES += [("m3", backbone, seen) for backbone in ("transformer", "retnet") for seen in ("vector", "mixture")]
CASES += [("iris", backbone, "image") for backbone in ("transformer_xl", "mamba", "cfc")]
CASES += [("iris", "gru", "image"), ("rem", "lstm", "image")]  # which take ten times as long on this device
VARIANTS = {"llama": "smollm2-frozen", "transformer with additions": "gpt2-lora"}
CASES += [("iris", name, "image") for name in VARIANTS]


@pytest.fixture(autouse=True)
def stand_ins() -> Iterator[None]:
    with like_a_gpu():
        yield


@pytest.mark.parametrize("which", TOKENIZERS)
def test_other_losses_and_quantisers_stay_on_the_device(which: str) -> None:
    agent, (component, *_) = build("iris", *TOKENIZERS[which], device=META)
    assert {value.device for value in component.train(EPOCH).values()} == {META}
    config = configure("iris", *TOKENIZERS[which])
    with torch.no_grad():
        for losses in methods.get("iris").held_out(config, agent, experience(config, None, META), "tokenizer"):
            assert losses.total.device == META


@pytest.mark.parametrize(("method", "backbone", "seen"), CASES)
def test_updates_actions_and_evaluation_stay_on_the_device(method: str, backbone: str, seen: str) -> None:
    variant = VARIANTS.get(backbone)
    check(method, variant, SPECS[seen], *([] if variant else [f"model.backbone={backbone}"]))


@pytest.mark.parametrize("variant", ["consistency", "consistency-published-noise"])
def test_so_do_those_of(variant: str) -> None:
    check("delta_iris", variant, None)


def check(method: str, variant: str | None, spec: EnvironmentSpec | None, *overrides: str) -> None:
    agent, components = build(method, *overrides, variant=variant, seen=spec, device=META)
    for component in components:
        means = component.train(EPOCH)
        assert {value.device for value in means.values()} == {META}
    config = configure(method, *overrides, variant=variant)
    buffer, generator = experience(config, spec, META), Generator()
    actor = AgentActor(agent, config.collection.train, generator)
    state = actor.start(buffer, [0, None])
    rows = torch.ones(2, dtype=torch.int64, device=META)
    actions, _ = actor.act(buffer.observations(rows), state)
    assert actions.device == META
    with torch.no_grad():
        for component in components[:-1]:
            for losses in methods.get(method).held_out(config, agent, buffer, component.name):
                assert losses.total.device == META
    segments = buffer.segments(torch.zeros(2, dtype=torch.int64, device=META), rows, 4)
    returns, lengths = media.imagined_episodes(agent, segments, 3, generator)
    assert returns.device == lengths.device == META
