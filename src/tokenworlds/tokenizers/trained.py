"""Which part of a tokenizer of observations is trained; the rest needs no gradients."""

from collections.abc import Callable

from torch import nn

from tokenworlds.config import TokenizerTraining
from tokenworlds.tokenizers.observation import ObservationTokenizer


def _whole(tokenizer: ObservationTokenizer) -> nn.Module | None:
    return tokenizer if tokenizer.learns else None


def _nothing(tokenizer: ObservationTokenizer) -> nn.Module | None:
    return None


def _decoders(tokenizer: ObservationTokenizer) -> nn.Module | None:
    """From code vectors to pictures. Encoder and codebook stay in evaluation mode: neither noise nor a moving average
    changes a token."""
    parts = [(part.post_quant_conv, part.decoder) for part in tokenizer.coded.values()]
    return nn.ModuleList(module for modules in parts for module in modules) if parts else None


TRAINED: dict[TokenizerTraining, Callable[[ObservationTokenizer], nn.Module | None]] = {
    TokenizerTraining.always: _whole,
    TokenizerTraining.never: _nothing,
    TokenizerTraining.decoder_only: _decoders,
}


def trained_part(tokenizer: ObservationTokenizer, choice: TokenizerTraining | None) -> nn.Module | None:
    """The module whose parameters an optimiser gets (None: nothing is trained); all others of the tokenizer lose their
    gradients."""
    module = TRAINED[choice or TokenizerTraining.always](tokenizer)
    trained = {id(parameter) for parameter in module.parameters()} if module is not None else set()
    for parameter in tokenizer.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)
    return module
