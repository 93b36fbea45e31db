"""REM's world model against the golden vectors: parallel observation prediction and its imagination step, the model
without it, losses, gradients, an optimiser step."""

import pytest
import torch
from torch import Tensor, nn

from tests.golden import rem_components
from tests.golden.rem_components import assert_close
from tests.golden.support import Case, load_case, load_json
from tokenworlds.config import ComponentTrainingConfig, Decay
from tokenworlds.methods import optimisers
from tokenworlds.world_models.base import StepNoise, WorldModelLosses
from tokenworlds.world_models.token import TokenWorldModel, WorldModelState

IGNORED = -100  # what published labels hold where nothing is predicted
FORWARD = ["pop_forward_shared_emb", "pop_forward_separate_emb", "pop_forward_shared_pred_token"]
LOSSES = ["wm_loss_pop", "wm_loss_pop_separate_emb", "wm_loss_nopop", "wm_loss_nopop_separate_emb"]
PARTS = {"observations": "obs", "rewards": "rewards", "ends": "ends"}


def tokens_and_actions(model: TokenWorldModel, case: Case) -> tuple[Tensor, Tensor]:
    """The ids of the case: observation tokens, then an action behind the vocabulary."""
    ids = case["in.tokens"]
    return ids[..., :-1], ids[..., -1] - case.config["V"]


@pytest.mark.parametrize("name", [*FORWARD, "pop_forward_shared_emb_f64"])
@torch.no_grad()
def test_parallel_pass(name: str) -> None:
    case = load_case("rem", name)
    model = rem_components.world_model(case)
    tokens, actions = tokens_and_actions(model, case)
    assert_close(case, model.embed(tokens, actions).unflatten(1, (-1, model.layout.block_size)), "out.embedded")
    predicting, read_out = model.outputs(tokens, actions)
    hidden = torch.cat([predicting, read_out.unsqueeze(2)], dim=2)
    assert_close(case, hidden.flatten(1, 2), "out.hidden")
    assert_close(case, model.head_observation["image"](hidden).flatten(1, 2), "out.logits_obs")
    assert_close(case, model.head_reward(read_out), "out.logits_rewards")
    assert_close(case, model.head_end(read_out), "out.logits_ends")


@pytest.mark.parametrize("name", [*FORWARD, "pop_forward_shared_emb_f64"])
@torch.no_grad()
def test_states_after_every_block(name: str) -> None:
    case = load_case("rem", name)
    model = rem_components.world_model(case)
    state = model.backbone.init_state(len(case["in.tokens"]))
    states = []
    for block in model.embed(*tokens_and_actions(model, case)).split(model.layout.block_size, dim=1):
        _, state = model.backbone.step(state, block)
        states.append(rem_components.states(state))
    assert_close(case, torch.stack(states, dim=1), "out.block_states")


@pytest.fixture
def prescribed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Draws are taken from the noise, which holds the drawn values themselves; the logits of every draw are kept."""
    return rem_components.choose_draws(monkeypatch, lambda _, values: values.long())


def imagined(model: TokenWorldModel, case: Case, seen: list[Tensor]) -> tuple[dict[str, Tensor], list[WorldModelState]]:
    """Logits along the prescribed trajectory, and the states after every step."""
    frames, past, actions, drawn = (
        case[f"in.{key}"] for key in ("context_obs", "context_actions", "actions", "sampled_obs")
    )
    state, states, logits = model.start(frames, past), [], {"rewards": [], "ends": [], "obs": []}
    horizon, count = actions.shape[1], torch.zeros(len(actions))
    for t in range(horizon):
        is_last = t == horizon - 1
        noise = StepNoise(count, count, drawn[:, t].T.float() if not is_last else torch.zeros(0, 0))
        seen.clear()
        state, _, _ = model.step(state, actions[:, t], noise, predict_observation=not is_last)
        *observation, reward, end = seen
        logits["rewards"].append(reward)
        logits["ends"].append(end)
        if not is_last:
            parts = [part if part.ndim == 3 else part.unsqueeze(1) for part in observation]
            logits["obs"].append(torch.cat(parts, dim=1))
        states.append(state)
    return {key: torch.stack(values, dim=1) for key, values in logits.items()}, states


@pytest.mark.parametrize("name", ["pop_imagination", "nopop_imagination"])
@torch.no_grad()
def test_imagination(name: str, prescribed: list[Tensor]) -> None:
    case = load_case("rem", name)
    model = rem_components.world_model(case)
    logits, states = imagined(model, case, prescribed)
    for key, value in logits.items():
        case.assert_close(value, f"out.logits_{key}")
    if "out.states" in case.tensors:
        case.assert_close(torch.stack([rem_components.states(state.backbone) for state in states], dim=1), "out.states")


def losses_of(model: TokenWorldModel, case: Case) -> WorldModelLosses:
    tokens, actions = tokens_and_actions(model, case)
    return model.loss(tokens, actions, case["in.rewards"], case["in.ends"], case["in.mask_padding"])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_gradients_and_an_optimiser_step(name: str) -> None:
    case = load_case("rem", name)
    settings = case.config
    model = rem_components.world_model(case)
    rate, decay, limit = (settings[key] for key in ("learning_rate", "weight_decay", "max_grad_norm"))
    optimizer = optimisers.build(model, ComponentTrainingConfig(1, 1, limit, rate, decay, Decay.linear, 0, None, 1))
    losses = losses_of(model, case)
    losses.total.backward()
    for key, value in losses.named().items():
        case.assert_close(value, f"out.loss_{PARTS[key]}")
    case.assert_close(losses.total, "out.loss_total")
    compare(case, "grad.", {key: p.grad for key, p in model.named_parameters() if p.requires_grad}, "float")
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    case.assert_close(norm, "out.grad_norm")
    optimizer.step()
    compare(case, "updated.", {key: p.detach() for key, p in model.named_parameters()}, "updated")


def compare(case: Case, group: str, ours: dict[str, Tensor], tolerance: str) -> None:
    """Under our names; what we leave frozen has no gradient in the reference either."""
    renamed = rem_components.renamed("world_model", case.group(group), rem_components.world_model_model(case))
    expected = {key.removeprefix("world_model."): value for key, value in renamed.items()}
    torch.testing.assert_close(ours, {key: expected[key] for key in ours}, **case.json["tolerances"][tolerance])
    if group == "grad.":
        assert not any(expected[key].any() for key in expected.keys() - ours.keys())


@pytest.mark.parametrize("name", ["wm_loss_pop", "wm_loss_pop_separate_emb"])
def test_labels(name: str) -> None:
    case = load_case("rem", name)
    model = rem_components.world_model(case)
    labels = torch.where(model.counted(case["in.mask_padding"]), case["in.tokens"][..., :-1], IGNORED)
    labels[:, : case.config["ctx"]] = IGNORED
    assert torch.equal(labels, case["out.labels_obs"][..., :-1])
    assert model.unscored_blocks == case.config["ctx"]


def test_optimiser_groups() -> None:
    """The case shows some layers, which stand for all; shapes are those of a model of any sizes."""
    stated = load_json("rem", "wm_param_groups")
    case = load_case("rem", "wm_loss_pop")
    model = rem_components.world_model(case)
    found = dict(zip(("decay", "no_decay"), optimisers.parameter_groups(model)))
    parameters = case.group("param.")
    for group, names in found.items():
        tensors = {key: parameters[key] for key in stated[group]}
        expected = rem_components.renamed("world_model", tensors, rem_components.world_model_model(case))
        layers = {layer_of(key) for key in expected}
        shown = {f"world_model.{key}" for key in names}
        assert {key for key in shown if layer_of(key) in layers} == expected.keys()
        first = min(layers - {None})  # the others have the same parameters
        assert {f"world_model.backbone.layers.{first}.{key.split('.', 4)[4]}" for key in shown if layer_of(key)} == {
            key for key in expected if layer_of(key) == first
        }


def layer_of(key: str) -> str | None:
    """The number of the layer of the backbone that a parameter of ours is in."""
    return key.split(".")[3] if ".layers." in key else None
