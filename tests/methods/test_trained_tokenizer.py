"""What of a tokenizer is trained: nothing of what is fixed changes, whatever the others do."""

import pytest
import torch
from torch import Tensor

from tests import small
from tests.methods.support import EPOCH, build, configure
from tokenworlds.agents.token import TokenAgent
from tokenworlds.errors import UserError
from tokenworlds.methods.component import ComponentTrainer

METHODS = ("iris", "rem", "m3")
BEGUN = ("initialization.tokenizer=elsewhere", "training.tokenizer.learning_rate=0.01")
every_method = pytest.mark.parametrize("method", METHODS)


def built(method: str, train: str) -> tuple[TokenAgent, list[ComponentTrainer]]:
    agent, components = build(method, *BEGUN, f"training.tokenizer.train={train}")
    return agent, components


def frames(agent: TokenAgent) -> dict[str, Tensor]:
    size = agent.decode(torch.zeros(1, agent.num_tokens, dtype=torch.int64))["image"].shape[-1]
    draws = torch.Generator().manual_seed(1)
    return {"image": torch.randint(256, (24, 3, size, size), generator=draws, dtype=torch.uint8)}


def train(components: list[ComponentTrainer], epochs: int = 3) -> None:
    for epoch in range(EPOCH, EPOCH + epochs):
        for some in components:
            some.config.start_after_epochs = 0
            some.train(epoch)


@every_method
@pytest.mark.parametrize(("choice", "same_tokens", "same_pictures"), [
    ("always", False, False), ("never", True, True), ("decoder_only", True, False),
])  # fmt: skip
def test_tokens_of_frames_after_three_epochs(method: str, choice: str, same_tokens: bool, same_pictures: bool) -> None:
    agent, components = built(method, choice)
    shown = frames(agent)
    tokens = agent.encode(shown)
    pictures = agent.decode(tokens)["image"]
    train(components)
    assert torch.equal(agent.encode(shown), tokens) == same_tokens
    assert torch.equal(agent.decode(tokens)["image"], pictures) == same_pictures


@every_method
def test_nothing_of_a_fixed_tokenizer_has_an_optimiser_or_gradients(method: str) -> None:
    agent, components = built(method, "never")
    assert [some.name for some in components] == ["world_model", "actor_critic"]
    before = {name: value.clone() for name, value in agent.tokenizer.state_dict().items()}
    train(components, epochs=1)
    assert not agent.tokenizer.training and not any(one.requires_grad for one in agent.tokenizer.parameters())
    assert all(torch.equal(value, before[name]) for name, value in agent.tokenizer.state_dict().items())


@every_method
def test_only_the_decoder_has_an_optimiser(method: str) -> None:
    agent, components = built(method, "decoder_only")
    trained = {id(one) for group in components[0].optimizer.param_groups for one in group["params"]}
    named = dict(agent.tokenizer.named_parameters())
    assert {name for name, one in named.items() if id(one) in trained} == {
        name for name in named if name.startswith(("parts.image.decoder.", "parts.image.post_quant_conv."))
    }
    assert all(one.requires_grad == (id(one) in trained) for one in named.values())


@pytest.mark.parametrize("choice", ["never", "decoder_only"])
def test_fresh_weights_are_not_left_as_they_are(choice: str) -> None:
    with pytest.raises(UserError, match=r"needs a trained tokenizer: give initialization.tokenizer=RUN"):
        configure("iris", f"training.tokenizer.train={choice}")


def test_the_cache_keeps_the_tokens_of_a_fixed_tokenizer() -> None:
    """Frames are encoded once, not once an epoch."""
    for choice, times in (("never", 1), ("always", 2)):
        agent, components = built("iris", choice)
        calls = small.calls_of(agent.tokenizer, "encode")
        train(components, epochs=1)
        first = len(calls)
        train(components, epochs=1)
        assert (len(calls) > first) == (times > 1), choice
