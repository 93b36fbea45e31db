"""Image tokenizers of other programs behind the adapter."""

import pytest
import torch
from torch import Tensor, nn

from examples.patch_quantiser import PatchQuantiser
from tests import small
from tests.methods.support import EPOCH, build, configure
from tokenworlds.config import ExternalConfig, TokenizerNetwork
from tokenworlds.errors import UserError
from tokenworlds.tokenizers import external, observation
from tokenworlds.training import token_churn, tokenizer_quality

EXAMPLE = "examples.patch_quantiser:PatchQuantiser"
CHOSEN = (
    "model.tokenizer.network=external",
    f"model.tokenizer.external.factory={EXAMPLE}",
    "training.tokenizer.train=never",
)


class Odd(PatchQuantiser):
    """Says something else than it does."""

    tokens_per_obs = 3


class Unfinished(nn.Module):
    """Decodes nothing."""

    vocab_size, tokens_per_obs = 4, 1

    def __init__(self, size: int) -> None:
        super().__init__()

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(frames), 1), frames


def tokenizer(factory: str) -> observation.ObservationTokenizer:
    config = small.image_tokenizer_config(network=TokenizerNetwork.external, external=ExternalConfig(factory))
    return observation.build(config, small.picture_spec(3, small.RESOLUTION, small.RESOLUTION))


def test_the_example_is_a_tokenizer_of_pictures() -> None:
    found = tokenizer(EXAMPLE)
    assert found.layout.num_symbols == 16 and found.image.vocab_sizes == (512,)
    patches = torch.rand(2, 3, 4, 4, generator=small.generator()).mul(7).round() / 7  # of the palette
    frames = patches.repeat_interleave(4, 2).repeat_interleave(4, 3)
    tokens = found.encode({"image": frames})
    assert torch.equal(tokens, found.encode({"image": frames}))
    torch.testing.assert_close(found.decode(tokens)["image"], frames)
    losses = found.loss({"image": frames}).named()
    assert losses["commitment"] == 0 and losses["reconstruction"] < 1e-6
    stored = found.stored(found.decode(tokens))["image"]
    assert stored.dtype == torch.uint8 and torch.equal(found.encode({"image": stored}), tokens)


def test_an_agent_learns_on_it_and_leaves_it_as_it_is() -> None:
    agent, components = build("iris", *CHOSEN)
    assert [some.name for some in components] == ["world_model", "actor_critic"]
    before = {name: value.clone() for name, value in agent.tokenizer.state_dict().items()}
    assert before.keys() == {"parts.image.network.palette"}
    for some in components:
        some.train(EPOCH)
    assert all(torch.equal(value, before[name]) for name, value in agent.tokenizer.state_dict().items())


def test_it_is_measured_like_any_other_but_for_code_vectors() -> None:
    agent, buffer = small.agent(), small.buffer([20, 15])
    agent.tokenizer = tokenizer(EXAMPLE)
    found = {row["measure"] for row in tokenizer_quality.measure(configure("iris"), agent, buffer, 9)}
    assert found >= {"psnr", "l1_changed", "codebook_perplexity", "codes_used", "probe_return_r2_latents"}
    assert "probe_return_r2_tokens" not in found
    before = token_churn.tokens(agent, buffer)
    assert token_churn.churn(before, token_churn.tokens(agent, buffer)) == {token_churn.NAME: 0.0}


@pytest.mark.parametrize(("factory", "said"), [
    ("tests.tokenizers.test_external:Odd", "not as whole numbers (2, 3) below 512"),
    ("tests.tokenizers.test_external:Unfinished", "it lacks decode"),
    ("tests.tokenizers.test_external:Missing", "cannot be imported here"),
    ("no_such_module:Tokenizer", "cannot be imported here"),
    ("builtins:float", "must return a torch module"),
])  # fmt: skip
def test_a_module_that_is_no_tokenizer_is_refused(factory: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        tokenizer(factory)
    assert said in str(refused.value) and external.KEY in str(refused.value)


@pytest.mark.parametrize(("overrides", "said"), [
    ((), "an external tokenizer needs training.tokenizer.train=never"),
    (("training.tokenizer.train=never", "model.policy.input=codes"), "its codes are not known"),
    (("model.tokenizer.external.factory=nothing",), "must be module:function"),
    (("training.tokenizer.train=never", "model.tokenizer.loss.ssim.weight=1"), "leave out model.tokenizer.loss"),
])  # fmt: skip
def test_what_it_cannot_do_is_refused_before_training(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as refused:
        configure("iris", *CHOSEN[:2], *overrides)
    assert said in str(refused.value)
