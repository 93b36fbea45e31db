"""M3's world model against the golden vectors: every mix of modalities and actions, losses, gradients, priorities, the
ensemble, the parts that stand alone, and which parameters decay."""

import pytest
import torch

from tests.golden import m3_components
from tests.golden.support import Case, load_case, load_json
from tokenworlds.agents.token import TokenAgent
from tokenworlds.tokenizers.layout import ModalityTokens
from tokenworlds.world_models.curiosity import Ensemble
from tokenworlds.world_models.embeddings import (
    ColumnsEmbedding,
    DiscreteEmbedding,
    LevelsEmbedding,
    MultiDiscreteEmbedding,
    ProjectedEmbedding,
)
from tokenworlds.world_models.token import symbol_errors

CASES = [
    "wm_image",
    "wm_vector_continuous",
    "wm_token_grid",
    "wm_image_vector_multidiscrete",
    "simulus_wm_attention_image",
    "simulus_wm_retnet_vector",
]
LOSSES = {"observations": "loss_obs", "rewards": "loss_rewards", "ends": "loss_ends", "curiosity": "curiosity_loss"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return load_case("m3", request.param)


@pytest.fixture
def agent(case: Case) -> TokenAgent:
    return m3_components.agent(case)


def test_tokens(case: Case, agent: TokenAgent) -> None:
    given = {name: values.flatten(0, 1) for name, values in m3_components.observations(case).items()}
    expected = m3_components.symbols(case)
    assert torch.equal(agent.encode(given), expected.flatten(0, 1))


@torch.no_grad()
def test_parallel_pass(case: Case, agent: TokenAgent) -> None:
    model, symbols = agent.world_model, m3_components.symbols(case)
    layout = model.layout
    embedded = model.embed(symbols, case["in.actions"]).unflatten(1, (-1, layout.block_size))
    case.assert_close(embedded, "embed.block")
    case.assert_close(embedded[:, :, : layout.num_tokens], "embed.obs")
    case.assert_close(embedded[:, :, layout.num_tokens :], "embed.actions")
    predicting, at_actions = model.outputs(symbols, case["in.actions"])
    expected = case["out.outputs"].unflatten(1, (-1, layout.block_size))
    rtol, atol = case.tolerance("out.outputs")
    torch.testing.assert_close(predicting, expected[:, :, : layout.num_tokens], rtol=rtol, atol=atol)
    torch.testing.assert_close(at_actions, expected[:, :, -1], rtol=rtol, atol=atol)
    case.assert_close(model.head_reward(predicting[:, :, -1]), "out.reward_logits")
    case.assert_close(model.rewards.mean(model.head_reward(predicting[:, :, -1])), "out.reward_pred")
    case.assert_close(model.head_end(predicting[:, :, -1]), "out.end_logits")
    for name, where in layout.slices.items():
        case.assert_close(model.head_observation[name](predicting[..., where, :]), f"out.obs_logits.{name}")
        case.assert_close(model.ensemble[name].split(predicting[..., where, :]), f"out.ensemble_logits.{name}")
        case.assert_close(model.ensemble[name].disagreement(predicting[..., where, :]), f"out.jsd.{name}")


def test_losses_and_gradients(case: Case, agent: TokenAgent) -> None:
    model = agent.world_model
    given = (case[f"in.{name}"] for name in ("actions", "rewards", "ends", "mask_padding"))
    losses = model.loss(m3_components.symbols(case), *given)
    assert set(losses.named()) == set(LOSSES)
    for name, value in losses.named().items():
        case.assert_close(value, f"out.{LOSSES[name]}")
    case.assert_close(losses.total, "out.loss_total")
    assert losses.segments is not None
    case.assert_close(losses.segments, "out.per_sample_loss")
    if any(key.startswith("grad.") for key in case.tensors):
        losses.total.backward()
        expected = m3_components.gradients(case, m3_components.model(case), model.layout.num_tokens)
        m3_components.assert_gradients(case, model, "world_model.", expected)


@torch.no_grad()
def test_ensemble_alone() -> None:
    case = load_case("m3", "ensemble_disagreement")
    config, parameters = case.config, case.group("param.ensemble.")
    ensemble = Ensemble(config["ensemble_size"], config["embed_dim"], config["vocab"])
    names = {"weight1": "0.weight", "bias1": "0.bias", "norm_weight": "1.weight", "norm_bias": "1.bias"}
    for name, theirs in (names | {"weight2": "3.weight", "bias2": "3.bias"}).items():
        stacked = torch.stack([parameters[f"{member}.{theirs}"] for member in range(config["ensemble_size"])])
        getattr(ensemble, name).copy_(stacked)
    x = case["in.x"]
    case.assert_close(ensemble.split(x), "out.forward_split")
    case.assert_close(ensemble(x.flatten(0, 1).unsqueeze(0)).unflatten(1, x.shape[:2]), "out.forward_all")
    case.assert_close(ensemble.disagreement(x), "out.jsd")
    mean = ensemble(x.flatten(0, 1).unsqueeze(0)).softmax(dim=-1).mean(dim=0).unflatten(0, x.shape[:2])
    case.assert_close(mean, "out.mean_probs")


@torch.no_grad()
def test_action_embeddings() -> None:
    case = load_case("m3", "action_encoders")
    parameters = case.group("param.")
    levels, width = parameters["continuous.embedding.weight"].shape
    continuous = LevelsEmbedding(levels, width)
    continuous.table.weight.copy_(parameters["continuous.embedding.weight"])
    case.assert_close(continuous.thresholds, "const.mid_points")
    case.assert_close(continuous.tokens(case["in.a"]), "out.tokens")
    case.assert_close(continuous(case["in.continuous"]), "out.continuous_tokenized")
    projected = ProjectedEmbedding(case["in.continuous"].shape[-1], width)
    projected.weight.copy_(parameters["continuous.action_projection.weight"])
    projected.bias.copy_(parameters["continuous.action_projection.bias"])
    case.assert_close(projected(case["in.continuous"]), "out.continuous_projected")
    tables = [value for key, value in sorted(parameters.items()) if key.startswith("multi.")]
    multi = MultiDiscreteEmbedding(tuple(len(table) for table in tables), width)
    for module, table in zip(multi.tables, tables, strict=True):
        module.weight.copy_(table)
    case.assert_close(multi(case["in.multi"]), "out.multi")
    discrete = DiscreteEmbedding(*parameters["discrete.embedding.weight"].shape)
    discrete.weight.copy_(parameters["discrete.embedding.weight"])
    case.assert_close(discrete(case["in.discrete"]), "out.discrete")


@torch.no_grad()
def test_grid_embedding_and_loss() -> None:
    case = load_case("m3", "grid_embedding_and_loss")
    tables = [value for _, value in sorted(case.group("param.").items())]
    vocab_sizes = tuple(case.config["row_vocab"])
    embedding = ColumnsEmbedding(vocab_sizes, tables[0].shape[1])
    for module, table in zip(embedding.tables, tables, strict=True):
        module.weight.copy_(table)
    tokens = case["in.tokens"]
    case.assert_close(embedding(tokens.flatten(2)), "out.embedding")
    grid = ModalityTokens("token_2d", case.config["cells"], vocab_sizes)
    logits = case["in.logits"].view(*tokens.shape[:3], -1)
    case.assert_close(symbol_errors(logits, tokens.flatten(2), grid).flatten(), "out.loss_per_cell")


def test_parameters_that_decay() -> None:
    """The published rule goes by names, ours by kinds: the same tensors decay."""
    from tokenworlds.checkpoints import m3
    from tokenworlds.config import ComponentTrainingConfig, Decay
    from tokenworlds.methods import optimisers

    groups = load_json("m3", "wm_param_groups")
    case = load_case("m3", "wm_image")
    model = m3_components.agent(case).world_model
    config = ComponentTrainingConfig(learning_rate=1e-3, weight_decay=0.5, decay=Decay.heads)
    optimiser = optimisers.build(model, config)
    decayed = {id(p) for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    ours = {f"world_model.{name}": id(p) in decayed for name, p in model.named_parameters()}
    settings, num_tokens = m3_components.model(case), model.layout.num_tokens
    published = case.group("param.world_model.")
    for kind, expected in (("weight_decay", True), ("no_weight_decay", False)):
        names = [name for name in groups[kind] if name in published]
        assert names
        marked = {f"world_model.{name}": torch.full_like(published[name], float(name in names)) for name in published}
        for key, mark in m3.from_reference(marked, settings, num_tokens).items():
            if key in ours and mark.any():
                assert ours[key] is expected, key
