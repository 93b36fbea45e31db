"""Our modules with the parameters of a golden case of the consistency model, under the names that they have there."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden import delta_components
from tests.golden.support import Case, load_case
from tokenworlds.checkpoints import delta_iris
from tokenworlds.config import (
    ConsistencyConfig,
    Context,
    DeltaTokenizerConfig,
    DeltaWorldModelConfig,
    EncoderConfig,
    Generator,
    LossWeights,
    Scalar,
    StackConfig,
)
from tokenworlds.envs import ImageSpec
from tokenworlds.tokenizers.continuous_delta import ContinuousDeltaTokenizer
from tokenworlds.world_models.consistency.world_model import ConsistencyWorldModel

NETWORK = "consistency_model.inner_model."
WAYS = {"d": "down", "u": "up"}
INSIDE: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # of the network, in this order
    (r"noise_emb\.weight", "frequencies"),
    (r"act_emb\.0\.", "embed_action."),
    (r"cond_proj\.", "condition."),
    (r"norm_out\.norm\.", "norm_out."),
    (r"unet\.mid_blocks\.resblocks\.", "unet.middle."),
    (r"unet\.(d|u)_blocks\.(\d+)\.resblocks\.", lambda match: f"unet.{WAYS[match[1]]}.{match[2]}."),
    (r"unet\.downsamples\.(\d+)\.conv\.", lambda match: f"unet.downsample.{int(match[1]) - 1}."),
    (r"unet\.upsamples\.(\d+)\.", lambda match: f"unet.upsample.{int(match[1]) - 1}."),
)
BLOCK = (
    (r"^proj\.", "shortcut."),
    (r"^attn\.norm\.norm\.", "attention.norm."),
    (r"^attn\.qkv_proj\.", "attention.query_key_value."),
    (r"^attn\.out_proj\.", "attention.projection."),
)


def in_block(key: str) -> str:
    """Our name of a parameter inside a block."""
    for pattern, name in BLOCK:
        key = re.sub(pattern, name, key)
    return key


def in_network(key: str) -> str:
    """Our name of a parameter of the network."""
    for pattern, name in INSIDE:
        key = re.sub(rf"^{pattern}", name, key)
    if match := re.fullmatch(r"(unet\.(?:down\.\d+|up\.\d+|middle)\.\d+\.)(.*)", key):
        key = match[1] + in_block(match[2])
    return key


def in_world_model(key: str) -> str:
    """Our name of a parameter of the world model."""
    if key.startswith(NETWORK):
        return f"function.network.{in_network(key.removeprefix(NETWORK))}"
    if key.startswith("frame_cnn."):
        (renamed,) = delta_iris.from_reference({f"tokenizer.{key}": torch.empty(0)})
        return renamed.removeprefix("tokenizer.")
    return key.replace("conv_emb.", "mixer.")


def load(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load parameters under our names into a module; ``frequencies`` have a row of their own there."""
    shaped = {key: value.squeeze(0) if key.endswith("frequencies") else value for key, value in state.items()}
    missing, unexpected = module.load_state_dict(shaped, strict=False)
    assert unexpected == [] and set(missing) <= {"mean_square", "is_measured"}


def generator(config: dict[str, Any], **changes: Any) -> ConsistencyConfig:
    return ConsistencyConfig(
        **{
            "kind": Generator.consistency,
            "context_states": config.get("num_steps_conditioning", 1),
            "channels": config.get("channels", [8]),
            "depths": config.get("depths", [1]),
            "attention": config.get("attn_depths", [0]),
            "condition_dim": config.get("cond_channels", 2),
            **{name: config[name] for name in ("sigma_min", "sigma_max", "sigma_data", "rho") if name in config},
            **changes,
        }
    )


def stack(config: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    halve = list(config.get("down", like["down"]))
    return {"channels": config["channels"], "multipliers": list(config.get("mult", like["mult"])), "halve": halve}


def encoder(config: dict[str, Any], like: dict[str, Any]) -> EncoderConfig:
    return EncoderConfig(**stack(config, like), latent_dim=config["latent_dim"])


def tokenizer(dtype: torch.dtype = torch.float32) -> ContinuousDeltaTokenizer:
    """That of all cases, in evaluation mode."""
    case = load_case("delta_consistency", "tokenizer_continuous")
    config = case.config
    like = config["encoder"]
    ours = DeltaTokenizerConfig(
        num_tokens=1,
        vocab_size=2,
        embed_dim=1,
        action_channels=config["decoder_act_channels"],
        revival_updates=None,
        l1_weight=0.1,
        l2_weight=1.0,
        worst_pixel_weight=0.01,
        commitment_weight=0.0,
        encoder=encoder(like, like),
        frame_encoder=encoder(config["frame_cnn"], like),
        decoder=StackConfig(**stack(config["decoder"], like)),
    )
    module = ContinuousDeltaTokenizer(ours, config["image_size"], config["image_channels"], config["num_actions"])
    delta_components.load(module, "tokenizer", case.group("param."))
    return module.eval().to(dtype)


def world_model(
    dtype: torch.dtype = torch.float32, context: Context = Context.generated, **changes: Any
) -> ConsistencyWorldModel:
    """That of all cases, in evaluation mode; changes are of the generator."""
    case = load_case("delta_consistency", "world_model")
    config, weights = case.config, case.config["weights"]
    settings = generator(config, context=context, prediction_weight=weights["prediction"], **changes)
    module = ConsistencyWorldModel(
        DeltaWorldModelConfig(
            rewards=Scalar[config["rewards"]],
            frame_encoder=encoder(config["frame_cnn"], config["frame_cnn"]),
            weights=LossWeights(weights["latents"], weights["rewards"], weights["ends"]),
        ),
        settings,
        ImageSpec(config["image_size"], config["image_size"], 3),
        (config["img_channels"], config["height"], config["width"]),
        config["num_actions"],
    )
    load(module, {in_world_model(key): value for key, value in case.group("param.").items()})
    module = module.eval().to(dtype)
    module.mean_square.fill_(config["delta_rms"] ** 2)
    return module


def assert_gradients(case: Case, module: nn.Module, names: Iterable[tuple[str, str]]) -> None:
    """Of the parameters with the names (theirs, ours); those that vanish in exact arithmetic stay small."""
    rtol, atol = (case.json["tolerances"]["grad"][key] for key in ("rtol", "atol"))
    parameters = dict(module.named_parameters())
    vanishing = case.json["zero_gradients"]
    for theirs, ours in names:
        gradient = parameters[ours].grad
        assert gradient is not None, ours
        expected = torch.zeros_like(gradient) if theirs in vanishing else case[f"grad.{theirs}"]
        torch.testing.assert_close(
            gradient,
            expected,
            rtol=rtol,
            atol=1e-5 if theirs in vanishing else atol,
            check_dtype=False,
            msg=f"{theirs} differs",
        )
