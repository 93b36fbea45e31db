"""Write stand-ins for pretrained weights: ``python -m pipeline.stand_ins``.

At the scales smoke and small the trunks of IRIS's variants are smaller than any published model. So that these variants
run there nevertheless, every file below ``results/pretrained/stand-ins`` that one of them names is written in the
format of the real one and in the variant's size, with random weights: what such a run shows is that everything works,
never what pretraining does. Runs say so (``trunk.stand_in`` in scores.json).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from pipeline.suite import known_variants
from tokenworlds.cli import exit_status
from tokenworlds.config import load
from tokenworlds.config.backbones import LlamaConfig, TransformerConfig
from tokenworlds.config.trunk import STAND_INS, TrunkInit, weights_file
from tokenworlds.config.world_models import WorldModelConfig
from tokenworlds.files import write_atomic

METHOD, TASK, SCALES = "iris", "atari/Breakout", ("smoke", "small")
ABOUT = {"stand_in": "random weights, made by pipeline.stand_ins of tokenworlds"}

Shape = tuple[int, ...]
Tensors = dict[str, NDArray[np.float32]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stand_ins", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    for place, init, model in wanted():
        if init is TrunkInit.llama and find_spec("gguf") is None:
            print(f"{place}: not made, for the package gguf is not installed")
            continue
        shapes, written = FORMATS[init]
        content = written(drawn(place, shapes(model)), model)
        file = weights_file(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
        print(f"{place}: a stand-in of random weights, {len(content):,} bytes")


def wanted() -> Iterator[tuple[str, TrunkInit, WorldModelConfig]]:
    """Every file that a variant names, once: its place, its kind, and the world model that it has to fit."""
    found = set()
    for scale, variant in itertools.product(SCALES, known_variants(METHOD)):
        model = load([f"method={METHOD}", f"task={TASK}", f"scale={scale}", f"variant={variant}"]).model.world_model
        trunk = model.trunk
        if trunk and trunk.weights and trunk.weights.startswith(STAND_INS) and trunk.weights not in found:
            found.add(trunk.weights)
            yield trunk.weights, trunk.init, model


def drawn(name: str, shapes: dict[str, Shape]) -> Tensors:
    """N(0, 0.02^2) for matrices, ones for the weights of norms, zeros for biases; the same for the same name."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    tensors: Tensors = {}
    for key, shape in shapes.items():
        values = generator.normal(0, 0.02, shape) if len(shape) > 1 else np.full(shape, not key.endswith("bias"))
        tensors[key] = values.astype(np.float32)
    return tensors


def gpt2_shapes(model: WorldModelConfig) -> dict[str, Shape]:
    """As GPT-2's file names and lays out its trunk."""
    section, width = model.transformer, model.embed_dim
    assert isinstance(section, TransformerConfig)
    matrices = {"attn.c_attn": 3 * width, "attn.c_proj": width, "mlp.c_fc": 4 * width}
    layer: dict[str, Shape] = {}
    for name, out in matrices.items():
        layer |= {f"{name}.weight": (width, out), f"{name}.bias": (out,)}
    layer |= {"mlp.c_proj.weight": (4 * width, width), "mlp.c_proj.bias": (width,)}
    layer |= {f"ln_{half}.{kind}": (width,) for half in (1, 2) for kind in ("weight", "bias")}
    last = {f"ln_f.{kind}": (width,) for kind in ("weight", "bias")}
    return {f"h.{i}.{name}": shape for i in range(section.num_layers) for name, shape in layer.items()} | last


def run_shapes(model: WorldModelConfig) -> dict[str, Shape]:
    """As an agent of this program names and lays out its trunk."""
    names = {
        "ln_1": "norm1", "ln_2": "norm2", "attn.c_attn": "attention.query_key_value",
        "attn.c_proj": "attention.projection", "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2",
    }  # fmt: skip
    found = {}
    for name, shape in gpt2_shapes(model).items():
        where, _, kind = name.rpartition(".")
        head, layer, part = (*where.split(".", 2), "", "")[:3]
        ours = "norm" if head == "ln_f" else f"blocks.{layer}.{names[part]}"
        found[f"world_model.backbone.{ours}.{kind}"] = shape[::-1]
    return found


def llama_shapes(model: WorldModelConfig) -> dict[str, Shape]:
    """As a GGUF file names its trunk, (out, in)."""
    section, width = model.llama, model.embed_dim
    assert isinstance(section, LlamaConfig)
    shared = width // section.num_heads * section.num_kv_heads
    layer: dict[str, Shape] = {
        "attn_norm": (width,), "attn_q": (width, width), "attn_k": (shared, width), "attn_v": (shared, width),
        "attn_output": (width, width), "ffn_norm": (width,), "ffn_gate": (section.hidden_dim, width),
        "ffn_up": (section.hidden_dim, width), "ffn_down": (width, section.hidden_dim),
    }  # fmt: skip
    layers = range(section.num_layers)
    found = {f"blk.{i}.{name}.weight": shape for i in layers for name, shape in layer.items()}
    return found | {"output_norm.weight": (width,)}


def as_safetensors(tensors: Tensors, model: WorldModelConfig) -> bytes:
    return save(tensors, ABOUT)


def as_gguf(tensors: Tensors, model: WorldModelConfig) -> bytes:
    import gguf

    section = model.llama
    assert isinstance(section, LlamaConfig)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_description(ABOUT["stand_in"])
        writer.add_block_count(section.num_layers)
        writer.add_embedding_length(model.embed_dim)
        writer.add_feed_forward_length(section.hidden_dim)
        writer.add_head_count(section.num_heads)
        writer.add_head_count_kv(section.num_kv_heads)
        writer.add_layer_norm_rms_eps(section.norm_epsilon)
        writer.add_rope_freq_base(section.rope_base)
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file.read_bytes()


FORMATS: dict[
    TrunkInit, tuple[Callable[[WorldModelConfig], dict[str, Shape]], Callable[[Tensors, WorldModelConfig], bytes]]
] = {
    TrunkInit.gpt2: (gpt2_shapes, as_safetensors),
    TrunkInit.run: (run_shapes, as_safetensors),
    TrunkInit.llama: (llama_shapes, as_gguf),
}


if __name__ == "__main__":
    sys.exit(exit_status(main))
