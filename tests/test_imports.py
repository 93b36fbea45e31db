"""The networks of a method import what it uses and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = """
import sys
from tokenworlds import backbones, config, world_models
from tokenworlds.envs.spec import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.tokenizers import observation

model = config.load(["method={method}", "task=atari/Breakout", "scale=smoke"]).model
spec = EnvironmentSpec({{"image": ImageSpec(64, 64)}}, DiscreteActions(4))
tokenizer = observation.build(model.tokenizer, spec)
backbone = backbones.build(model.backbone, model.world_model, tokenizer.layout.block_size, spare_blocks=1)
world_models.build(model.decoding, model.world_model, backbone, tokenizer.layout, spec.actions, tokenizer.coded)
print(*(name.removeprefix("tokenworlds.") for name in sys.modules if name.startswith("tokenworlds.")))
"""
ALTERNATIVES = {
    *("backbones.transformer", "backbones.retnet", "backbones.recurrent", "ops.retention"),
    *("tokenizers.resnet", "tokenizers.conv", "tokenizers.fsq", "tokenizers.delta", "tokenizers.quantiser"),
    *("tokenizers.lpips", "tokenizers.vector", "tokenizers.symbolic"),
    *("world_models.autoregressive", "world_models.parallel", "world_models.delta"),
}
USED = {
    "iris": {"backbones.transformer", "tokenizers.resnet", "world_models.autoregressive"},
    "rem": {"backbones.retnet", "ops.retention", "tokenizers.conv", "world_models.parallel"},
}


@pytest.mark.parametrize("method", USED)
def test_a_method_imports_the_networks_that_it_uses_alone(method: str) -> None:
    command = [sys.executable, "-c", BUILD.format(method=method)]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert ALTERNATIVES & set(imported) == USED[method]
