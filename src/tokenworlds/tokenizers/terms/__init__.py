"""Further terms of the image tokenizer's loss, by name; a module is imported when its term is chosen.

A further one is a section of ``TokenizerLossConfig`` and a line here.
"""

from importlib import import_module

from torch import nn

from tokenworlds.config import ImageTokenizerConfig

TERMS = {  # module, and class, which takes its section, the number of latents of a frame, and the frame's channels
    "value": ("value", "ValueTerm"),
    "ssim": ("similarity", "SimilarityTerm"),
    "ffl": ("focal_frequency", "FocalFrequencyTerm"),
    "adversarial": ("adversarial", "AdversarialTerm"),
    "motion": ("motion", "MotionTerm"),
}


def build(config: ImageTokenizerConfig, latents: int, channels: int) -> nn.ModuleDict:
    """The terms with a weight above 0."""
    terms = nn.ModuleDict()
    for name, (module, kind) in TERMS.items():
        settings = getattr(config.loss, name, None)
        if settings is not None and settings.weight > 0:
            terms[name] = getattr(import_module(f"{__name__}.{module}"), kind)(settings, latents, channels)
    return terms
