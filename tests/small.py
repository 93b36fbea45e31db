"""Small components that many tests share: pictures of 16 pixels, 4 tokens an observation, everything in
milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import world_models
from tokenworlds.actor_critic import Policy, build_frame_policy
from tokenworlds.actor_critic.actions import LevelsHead, MultiDiscreteHead
from tokenworlds.actor_critic.token_policy import build_policy
from tokenworlds.agents.base import Agent
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import (
    Attention,
    Backbone,
    BurnInActions,
    ConsistencyConfig,
    ConvConfig,
    CuriosityConfig,
    Decoding,
    DeltaPolicyConfig,
    DeltaTokenizerConfig,
    DeltaWorldModelConfig,
    Embeddings,
    EncoderConfig,
    EndsAlignment,
    Generator,
    Heads,
    ImageTokenizerConfig,
    Initialisation,
    LossWeights,
    Perceptual,
    PolicyInput,
    ReadOut,
    Reconstruction,
    Recurrence,
    ResNetConfig,
    RetNetConfig,
    Scalar,
    StackConfig,
    TokenizerNetwork,
    TokenPolicyConfig,
    TokenQuirks,
    TokenWorldModelConfig,
    TransformerConfig,
)
from tokenworlds.config.backbones import BackboneSections
from tokenworlds.config.values import fields_of
from tokenworlds.envs import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    GridSpec,
    ImageSpec,
    ModalitySpec,
    MultiDiscreteActions,
    TokenSpec,
    VectorSpec,
)
from tokenworlds.replay import ReplayBuffer
from tokenworlds.tokenizers import observation
from tokenworlds.tokenizers.continuous_delta import ContinuousDeltaTokenizer
from tokenworlds.tokenizers.delta import DeltaTokenizer
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.layout import ModalityTokens, TokenLayout
from tokenworlds.tokenizers.observation import ObservationTokenizer
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.consistency.world_model import ConsistencyWorldModel
from tokenworlds.world_models.delta import DeltaWorldModel
from tokenworlds.world_models.embeddings import CodedTokenizer, action_tokens
from tokenworlds.world_models.token import TokenWorldModel

RESOLUTION = 16
ACTIONS = 3
CPU = torch.device("cpu")
IMAGE = ImageSpec(RESOLUTION, RESOLUTION)
DISCRETE = DiscreteActions(ACTIONS)
MODALITIES: dict[str, ModalitySpec] = {
    "image": IMAGE,
    "vector": VectorSpec(2),
    "token": TokenSpec(3, vocab_size=5),
    "token_2d": GridSpec(1, 2, vocab_sizes=(4, 3)),
}

Module = TypeVar("Module", bound=nn.Module)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(module: Module, std: float = 0.3, seed: int = 0) -> Module:
    """The module with parameters so far from zero that every one of them matters."""
    draws = generator(seed)
    for parameter in module.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=draws) * std).to(parameter)
    return module


def image_tokenizer_config(
    levels: int = 4, vocab_size: int = 8, network: TokenizerNetwork = TokenizerNetwork.resnet, **changes: Any
) -> ImageTokenizerConfig:
    """(16 / 2^(levels - 1))^2 tokens."""
    return ImageTokenizerConfig(
        **{
            "network": network,
            "vocab_size": vocab_size,
            "embed_dim": 8,
            "z_channels": 16,
            "beta": 1.0,
            "reconstruction": Reconstruction.l1,
            "perceptual": Perceptual.none,
            "resnet": ResNetConfig(ch=32, ch_mult=[1] * levels, num_res_blocks=1, attn_resolutions=[4], dropout=0.0),
            "conv": ConvConfig(ch=4, num_halvings=levels - 1, num_groups=2, decoder_groups=2),
            **changes,
        }
    )


def image_tokenizer(levels: int = 4, vocab_size: int = 8, seed: int = 0, **changes: Any) -> ImageTokenizer:
    """Changes as of ``image_tokenizer_config``; codes far apart, so that different frames get different tokens."""
    config = image_tokenizer_config(levels, vocab_size, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = ImageTokenizer(config, RESOLUTION).eval()
        if isinstance(tokenizer.embedding, nn.Embedding):
            tokenizer.embedding.weight.data.normal_(std=0.3)
    return tokenizer


def sequence_models(changes: dict[str, Any]) -> dict[str, Any]:
    """What the world models of all methods have; ``changes`` that belong to the transformer's section are taken out."""
    transformer = {
        "num_layers": 2,
        "num_heads": 2,
        "attention": Attention.causal,
        "embed_dropout": 0.0,
        "residual_dropout": 0.0,
        "attention_dropout": 0.0,
    }
    transformer |= {key: changes.pop(key) for key in list(changes) if key in transformer}
    return {name: _section(kind) for name, kind in get_type_hints(BackboneSections).items()} | {
        "max_blocks": 4,
        "embed_dim": 8,
        "rewards": Scalar.sign,
        "transformer": TransformerConfig(**transformer),
        "retnet": RetNetConfig(num_layers=2, num_heads=2, value_dim=16, hidden_dim=12, dropout=0.0),
    }


def _section(kind: Any) -> Any:
    """Settings of a backbone (a class or None): two layers and heads, widths of 6, no dropout."""
    section, _ = get_args(kind)
    required = [field.name for field in fields(section) if field.default == MISSING]
    sizes = {name: 0.0 if name.endswith("dropout") else 2 if name.startswith("num_") else 6 for name in required}
    return section(**sizes)


def world_model_config(**changes: Any) -> TokenWorldModelConfig:
    """Width 8; the changes are of the section itself or of the backbone section that knows the key (the transformer's
    first)."""
    values: dict[str, Any] = sequence_models(changes) | {
        "context": 1,
        "unscored_blocks": 0,
        "embeddings": Embeddings.own,
        "initialisation": Initialisation.gpt,
    }
    return TokenWorldModelConfig(**(values | changes))


class Codes:
    """A tokenizer of which only the code vectors are known."""

    def __init__(self, codes: Tensor) -> None:
        self.codes, self.embed_dim = codes, codes.shape[1]

    def vectors(self, tokens: Tensor) -> Tensor:
        return self.codes[tokens]


def layout_of(action_tokens: int = 1, **modalities: tuple[int, ...]) -> TokenLayout:
    """name=(tokens, vocabulary), or name=(tokens, vocabulary of the first symbol, of the second, ...)."""
    parts = (ModalityTokens(name, count, tuple(sizes)) for name, (count, *sizes) in modalities.items())
    return TokenLayout(tuple(parts), action_tokens)


def world_model(layout: TokenLayout, seed: int = 0, **changes: Any) -> TokenWorldModel:
    """Changes as of ``fresh_world_model``."""
    return spread(fresh_world_model(layout, **changes), seed=seed).eval()


def fresh_world_model(
    layout: TokenLayout,
    backbone: Backbone = Backbone.transformer,
    decoding: Decoding = Decoding.autoregressive,
    coded: dict[str, CodedTokenizer] | None = None,
    actions: ActionSpec = DISCRETE,
    **changes: Any,
) -> TokenWorldModel:
    """With its initial weights."""
    quirks = TokenQuirks(**{name: changes.pop(name) for name in list(changes) if name in fields_of(TokenQuirks)})
    config = world_model_config(**changes)
    sequence_model = world_models.build_backbone(decoding, backbone, config, layout)
    return world_models.build(decoding, config, sequence_model, layout, actions, coded, quirks)


def policy(
    tokenizer: ImageTokenizer,
    seed: int = 0,
    *,
    input: PolicyInput = PolicyInput.pixels,
    recurrence: Recurrence = Recurrence.lstm,
    action_input: bool = False,
    burn_in_actions: BurnInActions = BurnInActions.every,
) -> Policy:
    config = TokenPolicyConfig(recurrence, 8, Scalar.regression, input, action_input)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = build_policy(
            config, picture_spec(), ObservationTokenizer({"image": tokenizer}), burn_in_actions=burn_in_actions
        )
        result.actor.weight.data.mul_(10)  # actions that depend on what is seen
    return result


def agent(seed: int = 0, **changes: Any) -> TokenAgent:
    """IRIS in small; changes as of ``world_model``."""
    part = image_tokenizer(seed=seed)
    tokenizer = ObservationTokenizer({"image": part})
    return TokenAgent(tokenizer, world_model(tokenizer.layout, seed, **changes), policy(part, seed)).eval()


TOKENWISE = (Decoding.autoregressive, Decoding.pop)  # predictions of each token of its own
DECODINGS = (*TOKENWISE, Decoding.frame)  # of agents with a world model


POP: dict[str, Any] = {
    "backbone": Backbone.retnet,
    "decoding": Decoding.pop,
    "embeddings": Embeddings.codebook,
    "context": 2,
    "unscored_blocks": 2,
    "initialisation": Initialisation.torch,
}


def rem_agent(
    seed: int = 0, *, action_input: bool = True, recurrence: Recurrence = Recurrence.lstm, **changes: Any
) -> TokenAgent:
    """REM in small; changes as of ``world_model``."""
    part = image_tokenizer(seed=seed, network=TokenizerNetwork.conv)
    tokenizer = ObservationTokenizer({"image": part})
    settings = POP | changes
    model = world_model(tokenizer.layout, seed, coded=tokenizer.coded, **settings)
    acting = policy(part, seed, input=PolicyInput.codes, recurrence=recurrence, action_input=action_input)
    return TokenAgent(tokenizer, model, acting, PolicyInput.codes, settings["context"]).eval()


def m3_agent(seed: int = 0, *, actions: ActionSpec = DISCRETE, **changes: Any) -> TokenAgent:
    """M3 in small, over every modality; changes as of ``world_model``."""
    spec = mixed_spec(actions)
    m3 = {
        "rewards": Scalar.hl_gauss,
        "heads": Heads.normed,
        "read_out": ReadOut.prediction,
        "ends_alignment": EndsAlignment.legacy,
        "action_levels": 5,
        "curiosity": CuriosityConfig(members=2, real_weight=1.0, intrinsic_weight=1.0),
    }
    settings = POP | m3 | changes
    image = image_tokenizer_config(network=TokenizerNetwork.conv)
    acting = TokenPolicyConfig(Recurrence.lstm, 8, Scalar.hl_gauss, PolicyInput.tokens, True)
    acting.fuser, acting.token_dim, acting.separate_critic, acting.value_bins = [8], 4, True, 9
    count = action_tokens(actions, settings.get("tokenized_actions", True))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = observation.build(image, spec, count).eval()
        tokenizer.image.embedding.weight.data.normal_(std=0.3)
        model = world_model(tokenizer.layout, seed, coded=tokenizer.coded, actions=actions, **settings)
        policy = spread(
            build_policy(acting, spec, tokenizer, settings["action_levels"], BurnInActions.never), seed=seed
        )
    return TokenAgent(tokenizer, model, policy, PolicyInput.tokens, settings["context"]).eval()


# Delta-IRIS: stacks of 32 channels, maps of 4 x 4


def stack(latent_dim: int) -> EncoderConfig:
    return EncoderConfig(channels=32, multipliers=[1, 1], halve=[1, 1], latent_dim=latent_dim)


def delta_tokenizer(seed: int = 0, **changes: Any) -> DeltaTokenizer:
    """4 tokens of 8 codes; different transitions get different tokens, and pictures are grey rather than black."""
    config = DeltaTokenizerConfig(
        **{
            "num_tokens": 4,
            "vocab_size": 8,
            "embed_dim": 4,
            "action_channels": 1,
            "revival_updates": None,
            "l1_weight": 0.1,
            "l2_weight": 1.0,
            "worst_pixel_weight": 0.01,
            "commitment_weight": 0.02,
            "encoder": stack(latent_dim=4),
            "frame_encoder": stack(latent_dim=2),
            "decoder": StackConfig(channels=32, multipliers=[1, 1], halve=[1, 1]),
            **changes,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = DeltaTokenizer(config, RESOLUTION, 3, ACTIONS).eval()
        for part in tokenizer.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                part.weight.data.normal_(std=0.3)
        tokenizer.quantiser.codebook.copy_(F.normalize(torch.randn_like(tokenizer.quantiser.codebook), dim=1))
        tokenizer.decoder.layers[-1].bias.data.fill_(0.5)
    return tokenizer


def delta_world_model_config(**changes: Any) -> DeltaWorldModelConfig:
    """Width 16; changes as of ``world_model_config``."""
    values: dict[str, Any] = sequence_models(changes) | {
        "embed_dim": 16,
        "frame_tokens": True,
        "frame_encoder": stack(latent_dim=1),
        "weights": LossWeights(observations=0.5, rewards=2.0, ends=3.0),
    }
    return DeltaWorldModelConfig(**(values | changes))


def fresh_delta_world_model(
    backbone: Backbone = Backbone.transformer, num_tokens: int = 4, vocab_size: int = 8, **changes: Any
) -> DeltaWorldModel:
    """With its initial weights."""
    return DeltaWorldModel(delta_world_model_config(**changes), backbone, IMAGE, num_tokens, vocab_size, ACTIONS)


def delta_world_model(seed: int = 0, **changes: Any) -> DeltaWorldModel:
    return spread(fresh_delta_world_model(**changes), seed=seed).eval()


def frame_policy(seed: int = 0, values: Scalar = Scalar.regression, recurrence: Recurrence = Recurrence.lstm) -> Policy:
    """Actions and values that depend on what is seen."""
    config = DeltaPolicyConfig(recurrence, 8, values, stack(latent_dim=2))
    return spread(build_frame_policy(config, picture_spec()), seed=seed)


def delta_agent(
    seed: int = 0,
    *,
    context_frames: int = 3,
    values: Scalar = Scalar.regression,
    recurrence: Recurrence = Recurrence.lstm,
    **changes: Any,
) -> DeltaAgent:
    """Delta-IRIS in small; changes as of ``delta_world_model``."""
    policy, target = frame_policy(seed, values, recurrence), frame_policy(seed + 1, values, recurrence)
    world_model = delta_world_model(seed, **({"max_blocks": 8} | changes))
    return DeltaAgent(delta_tokenizer(seed), world_model, policy, target, context_frames).eval()


def continuous_deltas(latent_dim: int, levels: int) -> DeltaTokenizerConfig:
    """Settings of a tokenizer without codes, whose stacks halve at each of so many levels."""
    sizes: dict[str, Any] = {"channels": 32, "multipliers": [1] * levels, "halve": [1] * levels}
    encoder = EncoderConfig(**sizes, latent_dim=latent_dim)
    return DeltaTokenizerConfig(
        num_tokens=1,
        vocab_size=2,
        embed_dim=1,
        action_channels=1,
        revival_updates=None,
        l1_weight=0.1,
        l2_weight=1.0,
        worst_pixel_weight=0.01,
        commitment_weight=0.0,
        encoder=encoder,
        frame_encoder=encoder,
        decoder=StackConfig(**sizes),
    )


def consistency_agent(seed: int = 0, *, context_frames: int = 3, **changes: Any) -> ConsistencyAgent:
    """Consistency models in Delta-IRIS in small; changes as of ``consistency_world_model``."""
    config = continuous_deltas(latent_dim=2, levels=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = ContinuousDeltaTokenizer(config, RESOLUTION, 3, ACTIONS).eval()
    tokenizer.decoder.layers[-1].bias.data.fill_(0.5)
    model = spread(consistency_world_model(seed, **changes), seed=seed).eval()
    return ConsistencyAgent(tokenizer, model, frame_policy(seed), frame_policy(seed + 1), context_frames).eval()


def consistency_world_model(seed: int = 0, rewards: Scalar = Scalar.sign, **changes: Any) -> ConsistencyWorldModel:
    """With its initial weights, over deltas of 2 x 4 x 4; changes are of the generator."""
    generator = ConsistencyConfig(
        **{
            "kind": Generator.consistency,
            "context_states": 2,
            "channels": [32, 32],
            "depths": [1, 1],
            "attention": [0, 1],
            "condition_dim": 8,
            **changes,
        }
    )
    weights = LossWeights(observations=0.5, rewards=2.0, ends=3.0)
    config = DeltaWorldModelConfig(rewards=rewards, frame_encoder=stack(latent_dim=1), weights=weights)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConsistencyWorldModel(config, generator, IMAGE, (2, 4, 4), ACTIONS)


class Call(NamedTuple):
    given: tuple[Any, ...]
    result: Any


def calls_of(owner: Any, name: str) -> list[Call]:
    """Positional arguments and result of every call of ``owner.name`` from now on."""
    calls, call = [], getattr(owner, name)

    def recording(*given: Any, **options: Any) -> Any:
        calls.append(Call(given, call(*given, **options)))
        return calls[-1].result

    setattr(owner, name, recording)
    return calls


@contextmanager
def observed_tokens(agent: TokenAgent) -> Iterator[list[Tensor]]:
    """The tokens that the policy observes meanwhile, (B, S) a step."""
    observed, policy_input = [], agent.policy_input

    def recording(tokens: Tensor) -> Tensor:
        observed.append(tokens)
        return policy_input(tokens)

    agent.policy_input = recording
    yield observed
    del agent.policy_input


def frames(*shape: int, seed: int = 0) -> Tensor:
    """Random uint8 pictures of leading dimensions ``shape``."""
    return torch.randint(0, 256, (*shape, 3, RESOLUTION, RESOLUTION), generator=generator(seed), dtype=torch.uint8)


def tokens(layout: TokenLayout, *shape: int, seed: int = 0) -> Tensor:
    """Random symbols (*shape, S), each below its vocabulary."""
    draws = generator(seed)
    parts = [
        torch.stack([torch.randint(size, (*shape, m.count), generator=draws) for size in m.vocab_sizes], dim=-1)
        for m in layout.modalities
    ]
    return torch.cat([part.flatten(-2) for part in parts], dim=-1)


def actions(spec: ActionSpec, *shape: int, draws: torch.Generator) -> Tensor:
    """Random actions (*shape, ...)."""
    match spec:
        case DiscreteActions(count=count):
            return torch.randint(count, shape, generator=draws)
        case MultiDiscreteActions(counts=counts):
            return torch.stack([torch.randint(count, shape, generator=draws) for count in counts], dim=-1)
        case ContinuousActions(size=size):
            return torch.rand(*shape, size, generator=draws) * 2 - 1


def observations(spec: EnvironmentSpec, *shape: int, seed: int = 0) -> dict[str, Tensor]:
    """Random ones (*shape, ...), as they are stored; pictures as ``frames``."""
    draws = np.random.default_rng(seed)

    def random(one: ModalitySpec) -> Tensor:
        size = (*shape, *one.shape)
        match one:
            case VectorSpec():
                return torch.from_numpy(draws.normal(scale=5, size=size).astype(one.dtype))
            case TokenSpec(vocab_size=below) | GridSpec(vocab_sizes=below):
                return torch.from_numpy(draws.integers(below, size=size).astype(one.dtype))
            case _:
                return torch.randint(0, 256, size, generator=generator(seed), dtype=torch.uint8)

    return {name: random(one) for name, one in spec.observation.items()}


def mixed_spec(actions: ActionSpec = DISCRETE) -> EnvironmentSpec:
    """Every modality at once."""
    return EnvironmentSpec(MODALITIES, actions)


def spec_of(agent: Agent) -> EnvironmentSpec:
    """Every modality, of which most agents look at one, and the actions that the agent chooses."""
    match agent.policy.actions:
        case MultiDiscreteHead(parts=parts):
            return mixed_spec(MultiDiscreteActions(tuple(part.width for part in parts)))
        case LevelsHead(draws=size):
            return mixed_spec(ContinuousActions(size))
        case _:
            return mixed_spec()


def step_noise(layout: TokenLayout, batch: int, seed: int = 0) -> StepNoise:
    return ImaginationNoise.sample(1, layout.num_symbols, batch, generator(seed)).step(0)


def picture_spec(*shape: int, actions: ActionSpec = DISCRETE) -> EnvironmentSpec:
    """One picture (C, Y, X), by default as ``frames`` are."""
    channels, height, width = shape or (3, RESOLUTION, RESOLUTION)
    return EnvironmentSpec({"image": ImageSpec(height, width, channels)}, actions)


def buffer(
    lengths: list[int],
    capacity: int | None = None,
    seed: int = 0,
    is_open: bool = False,
    spec: EnvironmentSpec | None = None,
    device: torch.device = CPU,
) -> ReplayBuffer:
    """Episodes of random steps, by default of pictures; each ends with an end flag, the last one goes on if
    ``is_open``."""
    spec = spec or picture_spec()
    result = ReplayBuffer(spec, capacity or sum(lengths), device)
    draws = generator(seed)
    for index, length in enumerate(lengths):
        ends = torch.zeros(length, dtype=torch.bool)
        ends[-1] = not (is_open and index == len(lengths) - 1)
        result.extend(
            observations(spec, length, seed=seed + index),
            actions(spec.actions, length, draws=draws),
            torch.randn(length, generator=draws),
            ends,
        )
    return result
