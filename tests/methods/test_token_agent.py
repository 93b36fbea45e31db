"""IRIS and REM: every phase runs at unusual settings, and the parts have the published sizes."""

from __future__ import annotations

import pytest

from tests.methods.support import build, count, published, train


@pytest.mark.parametrize("method", ["iris", "rem"])
@pytest.mark.parametrize(
    "overrides",
    [
        ("training.actor_critic.burn_in=1",),
        ("training.actor_critic.horizon=12",),  # longer than the context
        ("training.precision=bf16",),
        ("training.actor_critic.gradient_accumulation=2", "training.world_model.gradient_accumulation=2"),
        ("model.backbone=transformer", "model.world_model.transformer.attention=block_causal"),
        ("training.sequence_length=1", "model.world_model.unscored_blocks=0"),
        ("training.sampling=episodes",),
        ("training.sampling=segments",),
        ("model.policy.recurrence=gru",),
        ("model.policy.input=codes", "model.policy.action_input=true", "model.policy.burn_in_actions=every"),
        ("model.world_model.context=3",),
        ("model.world_model.shared_prediction_token=true", "model.decoding=pop"),
        ("model.world_model.frozen_action_embeddings=true", "model.decoding=autoregressive"),
        ("model.world_model.rewards=two_hot", "model.policy.values=two_hot"),
        ("training.actor_critic.stop_at_end=true",),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_phase_runs_with(method: str, overrides: tuple[str, ...]) -> None:
    _, phases = build(method, *overrides)
    train(phases)


@pytest.mark.parametrize(
    ("variant", "tokenizer", "world_model", "policy"),
    [
        (None, 3_189_667, 4_760_581, 4_586_707),
        ("no-pop", 3_189_667, 4_743_941, 4_586_707),
        ("4x4-tokenizer", 7_339_043, 4_748_293, 3_013_843),
        ("no-latent-ac", 3_189_667, 4_760_581, 3_225_139),
    ],
)
def test_rem_has_the_published_number_of_parameters(
    variant: str | None, tokenizer: int, world_model: int, policy: int
) -> None:
    agent = published("rem", *([f"variant={variant}"] if variant else []))
    assert count(agent.tokenizer) == tokenizer and count(agent.policy) == policy
    # The original's tables have rows that nothing uses: of observation tokens (which the codebook embeds), of padding,
    # of the action among the prediction tokens.
    unused = 256 * (512 + 1 + (variant != "no-pop"))
    assert count(agent.world_model) == world_model - unused
