"""Names and colours of methods, the same in every table and figure; nothing here needs matplotlib."""

from collections.abc import Sequence

from analysis.data.families import FAMILIES
from analysis.data.identity import group_of

# Colour-blind safe: Okabe-Ito first, then tones of Paul Tol's muted set that stay apart from them in lightness, some
# moved until all methods that are drawn together can be told apart (tests/analysis/test_style.py measures it).
COLOURS = {
    "IRIS": "#0072B2",
    "REM": "#D55E00",
    "Delta-IRIS": "#56B4E9",
    "M3": "#009E73",
    "SimPLe": "#882255",
    "CURL": "#E69F00",
    "DrQ(eps)": "#CC79A7",
    "SPR": "#707579",
    "DreamerV3": "#332288",
    "DreamerV3-2025": "#955AF6",
    "TWM": "#999933",
    "STORM": "#117733",
    "DIAMOND": "#A13D88",
    "MuZero": "#B0A070",
    "EfficientZero": "#6E420A",
    # baselines on Craftax
    "PPO-RNN": "#B27E4B",
    "RND": "#4477CC",
    "E3B": "#BA5557",
    # REM's ablations, drawn with REM only: Tol's bright scheme without its red
    "no-pop": "#4477AA",
    "separate-wm-embeddings": "#66CCEE",
    "tokenizer-4x4": "#CCBB44",
    "no-latent-actor-critic": "#AA3377",
    "no-action-input": "#199140",
}
OTHER_COLOURS = ("#44AA99", "#DDCC77", "#661100", "#6699CC", "#888888")  # methods not in the papers, by position
LABELS = {
    "DrQ(eps)": "DrQ(ε)",
    "DreamerV3": "DreamerV3 (2023)",  # Atari-100k: the first arXiv version's scores
    "DreamerV3-2025": "DreamerV3 (2025)",  # and those of the journal version
    "no-pop": "No POP",
    "separate-wm-embeddings": "Separate embeddings",
    "tokenizer-4x4": "4×4 tokenizer",
    "no-latent-actor-critic": "No latent controller",
    "no-action-input": "No action input",
    "IRIS+64-tokens": "IRIS, 64 tokens",
    "DreamerV3+M": "DreamerV3 M",
    "DreamerV3+XL": "DreamerV3 XL",
    "Delta-IRIS+no-frame-tokens": "Delta-IRIS without frame tokens",
    "Delta-IRIS+no-worst-pixel": "Delta-IRIS without worst pixel",
    "Delta-IRIS+1-token": "Delta-IRIS, 1 token",
    "Delta-IRIS+16-tokens": "Delta-IRIS, 16 tokens",
    "M3+simulus-a": "Simulus-A",
    "M3+no-hl-gauss": "M3, no HL-Gauss",
    "M3+fsq": "M3, FSQ",
    "REM+no-pop": "REM, no POP",
    "REM+no-latent-ac": "REM, no latent controller",
    "REM+4x4-tokenizer": "REM, 4×4 tokenizer",
    "DreamerV3 (official curves, last point, 490k frames)": "DreamerV3 (official curves)",
}
SAME_METHODS = {  # further names of a method, or names of their own for a variant
    "Simulus-A": "M3",
    "DreamerV3 (official curves, last point, 490k frames)": "DreamerV3",
}
# Variants of ours (``pipeline/*/params.yaml``) that nobody published, in an order in which those of one method are
# neighbours: their colours, lines and hatches differ (``analysis.draw.style``)
VARIANTS = (
    "block-causal", "64-tokens",
    "no-frame-tokens", "no-worst-pixel", "1-token", "16-tokens",
    "no-intrinsic", "no-prioritised-replay", "no-hl-gauss", "no-extras", "attention", "fsq", "uniform-vectors",
    "aligned", "legacy-priorities", "simulus-a",
    *(name for family in FAMILIES.values() for name in family.names[1:]),
)  # fmt: skip


def base_method(label: str) -> str:
    """The published method that runs of ours are of (``IRIS+64-tokens (ours, ...)`` -> ``IRIS``), else the label."""
    group = group_of(label)
    return group.base if group else label


def twin(label: str) -> str:
    """The published method or variant that runs of ours repeat, else the label itself."""
    group = group_of(label)
    return group.twin if group else label


def is_ours(label: str) -> bool:
    """Whether a label names our own runs."""
    return group_of(label) is not None


def shown(label: str, separator: str = " ") -> str:
    """The label as printed in a figure, with ``separator`` between the name of our runs and their description."""
    group = group_of(label)
    if group is None:
        return LABELS.get(label, label)
    return method_name(group.name) + separator + label.removeprefix(f"{group.name} ")


def method_name(name: str) -> str:
    """A method and its variant as printed: ``M3+no-intrinsic`` -> ``M3, no intrinsic``; settings stay as they are."""
    method, _, variant = name.partition("+")
    variant = variant if "=" in variant else variant.replace("-", " ")
    return LABELS.get(name) or ", ".join(filter(None, (method, variant)))


def brief(label: str) -> str:
    """The label as printed; for our runs name and scale, without how many there are."""
    group = group_of(label)
    return shown(group.label()) if group else shown(label)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``5 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
