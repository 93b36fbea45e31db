"""Costs of a run, from a journal that is written down."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests import small
from tests.methods.support import configure
from tokenworlds import methods
from tokenworlds.config import RunConfig
from tokenworlds.rng import RandomStreams
from tokenworlds.tracking.journal import Journal
from tokenworlds.tracking.system import ENERGY
from tokenworlds.training import costs

EPOCHS: list[dict[str, Any]] = [
    {"budget/env_steps": 200, "seconds/collection": 2.0, "seconds/tokenizer": 6.0},
    {"budget/env_steps": 300, "seconds/collection": 3.0, "seconds/tokenizer": 3.0, "seconds/actor_critic": 8.0},
    {"budget/env_steps": 300, "seconds/collection": 0.001, "seconds/tokenizer": 3.0, "seconds/actor_critic": 4.0},
]


def found(tmp_path: Path, method: str, epochs: list[dict[str, Any]], *changes: str) -> dict[tuple[str, str], float]:
    config = configure(method, *changes)
    agent = {"iris": small.agent, "delta_iris": small.delta_agent}[method]()
    buffer = small.buffer([4], spec=small.spec_of(agent))
    components = methods.get(method).build_components(config, agent, buffer, RandomStreams(0, small.CPU))
    journal = Journal(tmp_path / "metrics.jsonl")
    for epoch, values in enumerate(epochs, 1):
        journal.append("metrics", step=epoch, values=values)
    journal.append("metrics", step=len(epochs), final=True, values={"final/return_mean": 1.0})
    rows = costs.measures(config, agent, components, journal, 60.0)
    assert {row["group"] for row in rows} == {"cost"}
    return {(row["measure"], row["part"]): row["value"] for row in rows}


def updates(config: RunConfig, name: str) -> int:
    return int(getattr(config.training, name).updates_per_epoch)


@pytest.mark.parametrize(("method", "bootstraps"), [("iris", 1), ("delta_iris", 0)])
def test_seconds_are_those_of_the_journal_by_update_frame_and_step(
    tmp_path: Path, method: str, bootstraps: int
) -> None:
    """Of epochs in which a component was trained, and in which steps were collected."""
    config = configure(method, "training.tokenizer.updates_first_epoch=2")
    values = found(tmp_path, method, EPOCHS, "training.tokenizer.updates_first_epoch=2")
    assert values["seconds_per_update", "tokenizer"] == pytest.approx(12 / (2 + 2 * updates(config, "tokenizer")))
    per_update = 12 / (2 * updates(config, "actor_critic"))
    assert values["seconds_per_update", "actor_critic"] == pytest.approx(per_update)
    training = config.training.actor_critic
    frames = training.gradient_accumulation * training.batch_size * (training.horizon - bootstraps)
    assert values["seconds_per_imagined_frame", ""] == pytest.approx(per_update / frames)
    assert values["environment_steps_per_second", ""] == pytest.approx(300 / 5)
    assert values["wall_clock_seconds", ""] == 60.0
    absent = ("seconds_per_update", "world_model"), ("energy_joules", ""), ("peak_memory_bytes", "")
    assert not values.keys() & {*absent}


def test_a_gpu_tells_its_memory_and_energy(tmp_path: Path) -> None:
    epochs = [{**values, "memory/peak_bytes": 10 + index, ENERGY: 100.0} for index, values in enumerate(EPOCHS)]
    values = found(tmp_path, "iris", epochs)
    assert (values["peak_memory_bytes", ""], values["energy_joules", ""]) == (12, 300)


def test_parameters_are_counted_by_component_without_the_perceptual_network() -> None:
    agent = small.agent()
    agent.tokenizer.image.lpips = nn.Linear(1000, 1000)
    agent.world_model.backbone.requires_grad_(False)
    sizes = {(measure, part): value for measure, part, value in costs._sizes(agent)}
    own = {"tokenizer": agent.tokenizer, "world_model": agent.world_model, "actor_critic": agent.policy}
    expected = {name: sum(value.numel() for value in module.parameters()) for name, module in own.items()}
    expected["tokenizer"] -= 1000 * 1001
    assert {part: value for (measure, part), value in sizes.items() if measure == "parameters"} == {
        **expected, "": sum(expected.values()),
    }  # fmt: skip
    frozen = sum(value.numel() for value in agent.world_model.backbone.parameters())
    assert sizes["trainable_parameters", "world_model"] == expected["world_model"] - frozen
    assert sizes["trainable_parameters", ""] == sizes["parameters", ""] - frozen


def test_an_agent_without_a_world_model_of_its_own_has_no_costs_of_one() -> None:
    sizes = {(measure, part): value for measure, part, value in costs._sizes(small.agent(), has_world_model=False)}
    assert ("state_bytes", "") not in sizes and {part for _, part in sizes} == {"tokenizer", "actor_critic", ""}
    assert sizes["parameters", ""] == sizes["parameters", "tokenizer"] + sizes["parameters", "actor_critic"]


def test_steps_that_were_taken_before_the_run_count_for_no_speed() -> None:
    (speed,) = costs._speeds(configure("iris"), [], list(enumerate(EPOCHS, 1)), steps_before=150)
    assert speed == ("environment_steps_per_second", "", pytest.approx((50 + 100) / 5))


def test_the_state_of_a_transformer_is_its_keys_and_values() -> None:
    """Two of them, of every layer and token, in float32."""
    model = small.agent().world_model
    tokens, width, layers = model.backbone.max_tokens, model.backbone.embed_dim, 2
    (found,) = (value for measure, _, value in costs._sizes(small.agent()) if measure == "state_bytes")
    assert found == 4 * 2 * layers * tokens * width
