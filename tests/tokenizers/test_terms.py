"""Further terms of the image tokenizer's loss."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests import small
from tests.methods.support import EPOCH, are_equal, build, configure, count, snapshot
from tests.synchronisation import without_synchronisation
from tokenworlds.config import (
    AdversarialTermConfig,
    FocalFrequencyTermConfig,
    MotionTermConfig,
    Reconstruction,
    ReturnTarget,
    SimilarityTermConfig,
    TermConfig,
    TokenizerLossConfig,
    ValueTermConfig,
)
from tokenworlds.errors import UserError
from tokenworlds.methods import optimisers
from tokenworlds.ops.similarity import structural_similarity
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.tokenizers.pixels import distance
from tokenworlds.tokenizers.terms.adversarial import Discriminator
from tokenworlds.tokenizers.terms.base import Scene
from tokenworlds.tokenizers.terms.focal_frequency import FocalFrequencyTerm
from tokenworlds.tokenizers.terms.motion import MotionTerm
from tokenworlds.tokenizers.terms.value import ValueTerm

TERMS: dict[str, TermConfig] = {
    "value": ValueTermConfig(weight=0.5, hidden_dim=8),
    "ssim": SimilarityTermConfig(weight=0.5),
    "ffl": FocalFrequencyTermConfig(weight=0.5),
    "adversarial": AdversarialTermConfig(weight=0.5, start_step=1, channels=2, num_layers=2),
    "motion": MotionTermConfig(weight=0.5),
}
every_term = pytest.mark.parametrize("name", TERMS)


def tokenizer_with(name: str, **changes: Any) -> ImageTokenizer:
    return small.image_tokenizer(loss=TokenizerLossConfig(**{name: TERMS[name]}), **changes).train()


def given_for(batch: int = 3) -> dict[str, Tensor]:
    return {"returns": torch.arange(batch) / 2 - 0.5, "previous": small.frames(batch, seed=5)}


def scene(frames: Tensor, made: Tensor, given: dict[str, Tensor] | None = None, **changes: Any) -> Scene:
    config, parameter = small.image_tokenizer_config(**changes), torch.nn.Parameter(torch.zeros(1))
    codes, zero = torch.zeros(len(frames), 8, 2, 2), torch.zeros(())
    return Scene(frames, made, codes, given or {}, distance(config), (zero, zero), parameter)


def pictures(seed: int, size: int = 16) -> Tensor:
    return torch.rand(2, 3, size, size, generator=small.generator(seed)) * 2 - 1


@every_term
def test_a_term_is_logged_without_its_weight_and_summed_with_it(name: str) -> None:
    tokenizer, frames = tokenizer_with(name), small.frames(3)
    tokenizer.loss(frames, given_for())
    losses = tokenizer.loss(frames, given_for())  # the second: the adversarial term has begun
    base = losses.commitment + losses.reconstruction + losses.perceptual
    value = losses.measured[f"loss_{name}"]
    expected = 0.5 * value
    if name == "adversarial":
        expected = losses.measured["adversarial_weight"] * value + losses.measured["loss_discriminator"]
    torch.testing.assert_close(losses.total, base + expected)
    assert list(losses.named()) == ["commitment", "reconstruction", "perceptual"]


@every_term
def test_a_term_moves_the_encoder_and_its_own_parameters(name: str) -> None:
    tokenizer = tokenizer_with(name)
    tokenizer.loss(small.frames(3), given_for())
    losses = tokenizer.loss(small.frames(3), given_for())
    assert losses.further is not None
    losses.further.backward()
    for part in (tokenizer.encoder, tokenizer.terms[name]):
        gradients = [parameter.grad for parameter in part.parameters()]
        assert not gradients or any(gradient is not None and bool(gradient.any()) for gradient in gradients)
        assert all(gradient is not None for gradient in gradients)
    assert tokenizer.embedding.weight.grad is None


@every_term
def test_weight_zero_is_the_base(name: str) -> None:
    """No parameters, no tensors, no draws, no other batches: the same weights after the same updates."""
    state = []
    for overrides in ((), (f"model.tokenizer.loss.{name}.weight=0",)):
        torch.manual_seed(0)
        agent, components = build("iris", *overrides)
        means = components[0].train(EPOCH)
        assert f"loss_{name}" not in means and not agent.tokenizer.needs
        state.append(snapshot(agent) | {"draw": torch.rand(3)})
    assert state[0].keys() == state[1].keys() and are_equal(*state)


@every_term
def test_without_a_section_the_hash_is_that_of_before(name: str) -> None:
    """And with one it is another."""
    base = configure("iris")
    assert base.hash() != configure("iris", f"model.tokenizer.loss.{name}.weight=0.5").hash()
    assert base.model.tokenizer.loss is None  # type: ignore[attr-defined]


@every_term
@torch.no_grad()
def test_evaluation_leaves_everything_as_it_is(name: str) -> None:
    tokenizer = tokenizer_with(name).eval()
    before = snapshot(tokenizer)
    one, other = (tokenizer.loss(small.frames(3), given_for()) for _ in range(2))
    assert one.total == other.total and are_equal(before, snapshot(tokenizer))


@every_term
@pytest.mark.parametrize("method", ["iris", "rem", "m3"])
def test_every_method_trains_with_every_term_without_waiting(method: str, name: str) -> None:
    smaller = {"value": ("unfinished=1",), "adversarial": ("channels=2", "num_layers=2", "start_step=0")}
    overrides = [f"model.tokenizer.loss.{name}.{one}" for one in ("weight=0.5", *smaller.get(name, ()))]
    _, (component, *_) = build(method, *overrides)
    assert component.train(EPOCH)[f"loss_{name}"].isfinite()
    component.module.train()
    with without_synchronisation():
        component.update()


# Value


def test_the_critic_of_published_size() -> None:
    with torch.device("meta"):
        term = ValueTerm(ValueTermConfig(weight=1.0), 512 * 4 * 4, 3)
    assert count(term) == 4_457_985


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ReturnTarget.raw, [-3.0, 0.0, 8.0]),
        (ReturnTarget.symlog, [-math.log(4), 0.0, math.log(9)]),
        (ReturnTarget.sign, [-1.0, 0.0, 1.0]),
    ],
)
def test_the_value_is_compared_with_the_return(target: ReturnTarget, expected: list[float]) -> None:
    term = ValueTerm(ValueTermConfig(weight=1.0, hidden_dim=4, target=target), 32, 3)
    frames = torch.zeros(3, 3, 16, 16)
    seen = scene(frames, frames, {"returns": torch.tensor([-3.0, 0.0, 8.0])})
    values = term.critic(seen.codes).squeeze(1)
    torch.testing.assert_close(term.value(seen), (values - torch.tensor(expected)).square().mean())


def test_the_critic_reads_the_codes_and_its_gradient_passes_straight_through() -> None:
    """The encoder gets what the codes get."""
    tokenizer, frames = tokenizer_with("value"), small.frames(3)
    z = tokenizer.latents(frames)
    codes = tokenizer.quantise(z)[1].detach().requires_grad_()
    critic = tokenizer.terms["value"].critic  # type: ignore[union-attr]
    loss = 0.5 * (critic(codes).squeeze(1) - given_for()["returns"]).square().mean()
    loss.backward()
    straight = torch.autograd.grad(z, tokenizer.pre_quant_conv.weight, codes.grad)[0]
    further = tokenizer.loss(frames, given_for()).further
    assert further is not None
    torch.testing.assert_close(further, loss)
    torch.testing.assert_close(torch.autograd.grad(further, tokenizer.pre_quant_conv.weight)[0], straight)


# Similarity


def test_the_similarity_is_that_of_pixels_in_0_to_1() -> None:
    tokenizer, frames = tokenizer_with("ssim"), small.frames(3)
    losses = tokenizer.loss(frames)
    made = (tokenizer.decode_codes(tokenizer.quantise(tokenizer.latents(frames))[1]) + 1) / 2
    torch.testing.assert_close(losses.measured["loss_ssim"], 1 - structural_similarity(made, to_float(frames)).mean())


@pytest.mark.parametrize(("size", "scales"), [(64, 4), (64, 5), (32, 3), (16, 2), (8, 1)])
def test_scales_that_do_not_fit_are_refused_by_name(size: int, scales: int) -> None:
    needed = 10 * 2 ** (scales - 1)
    with pytest.raises(UserError, match=rf"loss\.ssim\.scales={scales} needs frames of more than {needed} pixels"):
        SimilarityTermConfig(weight=1.0, scales=scales).check("model.tokenizer.loss.ssim", size)
    with pytest.raises(UserError, match="at most 2 fit"):
        configure("iris", "model.tokenizer.loss.ssim.weight=1", "model.tokenizer.loss.ssim.scales=3")


@pytest.mark.parametrize(("size", "scales"), [(64, 3), (32, 2), (16, 1)])
def test_scales_that_fit_are_taken(size: int, scales: int) -> None:
    SimilarityTermConfig(weight=1.0, scales=scales).check("ssim", size)


# Frequencies


@given(st.integers(0, 1000), st.integers(8, 20), st.floats(0, 2))
def test_the_focal_frequency_loss_is_zero_only_for_equal_pictures(seed: int, size: int, alpha: float) -> None:
    term = FocalFrequencyTerm(FocalFrequencyTermConfig(weight=1.0, alpha=alpha), 0, 3)
    x = pictures(seed, size)
    assert term.value(scene(x, x.clone())) == 0
    y = x.clone()
    y[seed % 2, seed % 3, seed % 8, seed % 7] += 0.5
    assert term.value(scene(x, y)) > 0


def test_the_focal_frequency_loss_is_that_of_its_definition() -> None:
    """The spectra of both pictures, channel by channel."""
    x, y = pictures(0), pictures(1)
    total = 0.0
    for a, b in zip(x.flatten(0, 1), y.flatten(0, 1)):
        error = (torch.fft.fft2(b.double(), norm="ortho") - torch.fft.fft2(a.double(), norm="ortho")).abs()
        total += float((error / error.max() * error.square()).mean())
    term = FocalFrequencyTerm(FocalFrequencyTermConfig(weight=1.0), 0, 3)
    assert term.value(scene(x, y)).item() == pytest.approx(total / 6, rel=1e-5)


def test_the_weights_of_frequencies_have_no_gradient() -> None:
    """With alpha 1 the gradient is that of fixed weights: doubling the error doubles it twice in the loss, and the
    weights, being shares of the largest, stay."""
    x, error = torch.zeros(1, 1, 8, 8), torch.randn(1, 1, 8, 8, generator=small.generator())
    y = error.requires_grad_()
    term = FocalFrequencyTerm(FocalFrequencyTermConfig(weight=1.0), 0, 1)
    (gradient,) = torch.autograd.grad(term.value(scene(x, y)), y)
    spectrum = torch.fft.fft2(y.detach(), norm="ortho")
    weights = spectrum.abs() / spectrum.abs().max()
    expected = torch.fft.ifft2(weights * spectrum, norm="ortho").real * 2 / 64
    torch.testing.assert_close(gradient, expected)


# Motion


@pytest.mark.parametrize("kind", [Reconstruction.l1, Reconstruction.mse])
def test_beside_the_distance_motion_weights_pixels_by_how_much_they_changed(kind: Reconstruction) -> None:
    x, y, before = pictures(0), pictures(1), small.frames(2, seed=3)
    changes = (x - (to_float(before) * 2 - 1)).abs()
    changes[1] = 0
    before = torch.stack([to_float(before[0]), (x[1] + 1) / 2])  # the second did not move, as in a first frame
    error = (x - y).abs() if kind is Reconstruction.l1 else (x - y).square()
    seen = scene(x, y, {"previous": before}, reconstruction=kind)
    weights = 1 + 0.7 * changes / changes[:1].mean()
    loss = seen.distance(y, x) + 0.7 * MotionTerm(MotionTermConfig(weight=0.7), 0, 3).value(seen)
    torch.testing.assert_close(loss, (weights * error).mean())


# Adversarial


def test_no_gradient_of_the_one_side_reaches_the_other() -> None:
    tokenizer = tokenizer_with("adversarial")
    term, frames = tokenizer.terms["adversarial"], small.frames(3)
    measured = tokenizer.loss(frames).measured
    for loss, moved, still in (
        ("loss_adversarial", tokenizer.decoder, term),
        ("loss_discriminator", term, tokenizer.decoder),
    ):
        tokenizer.zero_grad()
        measured[loss].backward(retain_graph=True)
        assert all(p.grad is not None for p in moved.parameters()) and all(p.grad is None for p in still.parameters())


def test_the_weight_is_the_ratio_of_the_gradients_at_the_last_layer() -> None:
    tokenizer, frames = tokenizer_with("adversarial"), small.frames(3)
    losses, last = tokenizer.loss(frames), tokenizer.decoder.conv_out.weight

    def norm(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, last, retain_graph=True)[0].norm()

    expected = norm(losses.reconstruction) / (norm(losses.measured["loss_adversarial"]) + 1e-4)
    torch.testing.assert_close(losses.measured["adversarial_weight"], 0.5 * expected)
    assert losses.measured["adversarial_weight"] > 0


def test_a_weight_out_of_all_proportion_is_clipped() -> None:
    tokenizer = tokenizer_with("adversarial")
    term = tokenizer.terms["adversarial"]
    for parameter in term.parameters():
        parameter.data.zero_()  # no gradient for the decoder
    with torch.no_grad():
        tokenizer.decoder.conv_out.weight.mul_(1e6)
    frames = small.frames(3)
    scale = 1e4 * tokenizer.loss(frames).reconstruction  # a steep distance
    tokenizer.distance = lambda x, y, reduction="mean": scale.detach() * (x - y).abs().mean()
    assert tokenizer.loss(frames).measured["adversarial_weight"] == 0.5 * 1e4


def test_before_the_start_nothing_is_learned_from_it() -> None:
    tokenizer = tokenizer_with("adversarial")
    first, second = (tokenizer.loss(small.frames(3)).further for _ in range(2))
    assert first == 0 and second != 0
    assert tokenizer.terms["adversarial"].updates == 2


def test_the_hinge_loss_is_that_of_logits() -> None:
    tokenizer, frames = tokenizer_with("adversarial").eval(), small.frames(3)
    judge = tokenizer.terms["adversarial"].discriminator  # type: ignore[union-attr]
    x = to_float(frames) * 2 - 1
    made = tokenizer.decode_codes(tokenizer.quantise(tokenizer.latents(frames))[1])
    expected = ((1 - judge(x)).clamp(min=0).mean() + (1 + judge(made)).clamp(min=0).mean()) / 2
    with torch.no_grad():
        torch.testing.assert_close(tokenizer.loss(frames).measured["loss_discriminator"], expected.detach())


def test_the_discriminator_has_an_optimiser_of_its_own() -> None:
    section = "model.tokenizer.loss.adversarial"
    agent, (component, *_) = build("iris", f"{section}.weight=0.1", f"{section}.channels=2", f"{section}.start_step=0")
    own = {id(p) for p in agent.tokenizer.image.terms["adversarial"].discriminator.parameters()}
    others, group = component.optimizer.param_groups
    assert {id(p) for p in group["params"]} == own and not own & {id(p) for p in others["params"]}
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.9), 0.0)
    assert others["betas"] == (0.9, 0.999)
    assert {id(p) for p in optimisers.clipped(component.optimizer)} == {id(p) for p in others["params"]}


def test_the_patches_of_published_size() -> None:
    """Halved three times, less two pixels: 6 x 6 of 64 x 64."""
    judge = Discriminator(AdversarialTermConfig(weight=0.1), 3).eval()
    assert judge(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 6, 6)
    assert [p.shape[0] for name, p in judge.named_parameters() if p.ndim == 4] == [64, 128, 256, 512, 1]
    with pytest.raises(UserError, match=r"num_layers=3 needs frames of at least 24 pixels a side"):
        AdversarialTermConfig(weight=0.1).check("adversarial", 16)


@pytest.mark.parametrize("name", ["adversarial", "value"])
def test_terms_that_learn_are_refused_where_the_decoder_alone_does(name: str) -> None:
    fixed = ("training.tokenizer.train=decoder_only", "initialization.tokenizer=run")
    with pytest.raises(UserError, match=rf"not what model\.tokenizer\.loss\.{name} learns"):
        configure("iris", *fixed, f"model.tokenizer.loss.{name}.weight=1")
    configure("iris", *fixed, f"model.tokenizer.loss.{name}.weight=0", "model.tokenizer.loss.ssim.weight=1")


def test_the_weight_of_a_perceptual_distance_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="perceptual_weight needs a perceptual distance"):
        configure("iris", "model.tokenizer.perceptual_weight=2")
