"""What M3 says of rewards, values and actions, its returns and their scale, against the golden vectors."""

import pytest
import torch
from torch import Tensor, nn

from tests.golden.support import Case, load_case
from tokenworlds.actor_critic import ActionHead, ReturnScale, action_head, lambda_returns
from tokenworlds.config import Scalar
from tokenworlds.envs import ContinuousActions, MultiDiscreteActions
from tokenworlds.ops.symlog import symlog
from tokenworlds.world_models import heads as scalars
from tokenworlds.world_models.heads import HLGaussHead

HEADS = ["hl_gauss_reward", "hl_gauss_critic"]


def head_of(case: Case) -> HLGaussHead:
    config = case.config
    head = scalars.build(Scalar.hl_gauss, width=config["num_bins"], scale=float(config["reward_scale_divisor"] or 1))
    assert isinstance(head, HLGaussHead)
    assert (config["smoothness"], config["linspace"]) == (head.SMOOTHNESS, [-head.LIMIT, head.LIMIT])
    return head


def last_layer(case: Case) -> nn.Linear:
    parameters = case.group("param.head.linear.")
    layer = nn.Linear(*parameters["weight"].T.shape)
    layer.load_state_dict(parameters)
    return layer


@pytest.mark.parametrize("name", HEADS)
def test_buckets(name: str) -> None:
    case = load_case("m3", name)
    head = head_of(case)
    edges = head.edges(torch.zeros(1))
    case.assert_close(edges, "const.edges")
    case.assert_close(edges.diff().mean(), "const.bin_width")
    torch.testing.assert_close(head.initial_bias(), -head.SLOPE * case["const.bias_support"].abs())


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_mean(name: str) -> None:
    case = load_case("m3", name)
    head = head_of(case)
    logits = last_layer(case)(case["in.features"])
    case.assert_close(logits, "out.logits")
    case.assert_close(head.weights(symlog(case["in.targets"])), "out.target_probs")
    losses = head.loss(logits, case["in.targets"])
    case.assert_close(losses, "out.loss_none")
    case.assert_close(losses.mean(), "out.loss_mean")
    case.assert_close(head.mean(logits), "out.decoded")


def test_the_whole_reward_head() -> None:
    case = load_case("m3", "hl_gauss_reward")
    hidden = case.group("param.model.0.")
    first = nn.Linear(*hidden["weight"].T.shape)
    first.load_state_dict(hidden)
    logits = nn.Sequential(first, nn.SiLU(), last_layer(case))(case["in.latent"])
    case.assert_close(head_of(case).mean(logits), "out.head_of_latent")


def assert_distribution(case: Case, head: ActionHead, logits: Tensor, actions: Tensor, prefix: str) -> None:
    case.assert_close(head.log_probability(logits, actions), f"out.{prefix}log_prob")
    case.assert_close(head.entropy(logits), f"out.{prefix}entropy")


def test_continuous_actions() -> None:
    case = load_case("m3", "action_distributions")
    size = case["in.index"].shape[-1]
    head = action_head(ContinuousActions(size), case.config["levels"])
    logits = case["in.logits"].flatten(-2)
    assert logits.shape[-1] == head.width
    assert_distribution(case, head, logits, case["out.values"], "")
    certain = 1e4 * nn.functional.one_hot(case["in.index"], case.config["levels"]).float().flatten(-2)
    uniforms = torch.rand(size, *certain.shape[:-1], generator=torch.Generator().manual_seed(0))
    case.assert_close(head.sample(certain, uniforms), "out.values")


def test_multi_discrete_actions() -> None:
    case = load_case("m3", "action_distributions")
    head = action_head(MultiDiscreteActions(tuple(case.config["nvec"])), 0)
    assert_distribution(case, head, case["in.multi_logits"], case["in.multi_index"], "multi_")


def test_lambda_returns() -> None:
    """The last reward and end are not used; the return of the last look is its value."""
    case = load_case("m3", "lambda_returns")
    rewards, values, ends = (case[f"in.{key}"] for key in ("rewards", "values", "ends"))
    returns = lambda_returns(rewards[:, :-1], values, ends[:, :-1], case.config["gamma"], case.config["lambda_"])
    case.assert_close(torch.cat([returns, values[:, -1:]], dim=1), "out.returns")


def test_return_scale() -> None:
    case = load_case("m3", "return_scaler")
    scale, found = ReturnScale(case.config["window_size_limit"]), []
    quantile = case.config["quantile"]
    assert (1 - quantile, quantile) == pytest.approx(scale.QUANTILES)
    for returns in case["in.returns"]:
        divisor = scale(returns)
        found.append(torch.cat([scale.quantiles(), divisor.unsqueeze(0)]))
    case.assert_close(torch.stack(found), "out.low_high_divisor")
