"""The convolutional stacks of Delta-IRIS on a CPU: all frames at once as the paper has them, in chunks that fit the
caches, and in chunks with doublings convolved before they are done.

    python -m benchmarks.convolutions [--repetitions N] [--threads N] [--chunk VALUES ...] [--preset NAME ...]
        [--fresh-memory]

Training is the loss of the tokenizer and its gradient, of 2 x 21 frames; imagination is decoding 16 frames and encoding
them again for the world model and the policy. The ways are timed in turns, by the clock and by processor time: on a
shared machine the latter, with one thread, is the steadier one.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from benchmarks.timing import Work, command_line, machine, parse
from tokenworlds.config import DeltaTokenizerConfig, EncoderConfig, StackConfig
from tokenworlds.ops import convolutions
from tokenworlds.ops.convolutions import FastUpsample, FrameEncoder, Upsample
from tokenworlds.ops.precision import keep_freed_memory
from tokenworlds.tokenizers.delta import DeltaTokenizer

LEVELS = ([1, 1, 2, 2, 4], [1, 0, 1, 1, 0])
FRAME_ENCODERS = {"atari": (32, 16), "crafter": (64, 8)}  # channels and latent channels of the decoder's view
SEGMENTS, FRAMES, IMAGINED, ACTIONS = 2, 21, 16, 17
ALL_AT_ONCE = 1 << 62


def build(preset: str) -> DeltaTokenizer:
    channels, latent_dim = FRAME_ENCODERS[preset]
    config = DeltaTokenizerConfig(
        num_tokens=4,
        vocab_size=1024,
        embed_dim=64,
        action_channels=4,
        revival_updates=0,
        l1_weight=0.1,
        l2_weight=1.0,
        worst_pixel_weight=0.01,
        commitment_weight=0.02,
        encoder=EncoderConfig(64, *LEVELS, 64),
        frame_encoder=EncoderConfig(channels, *LEVELS, latent_dim),
        decoder=StackConfig(64, *LEVELS),
    )
    return DeltaTokenizer(config, 64, 3, ACTIONS).train()


def training(tokenizer: DeltaTokenizer) -> Work:
    frames = torch.randint(256, (SEGMENTS, FRAMES, 3, 64, 64), dtype=torch.uint8)
    actions, mask = torch.randint(ACTIONS, (SEGMENTS, FRAMES)), torch.ones(SEGMENTS, FRAMES, dtype=torch.bool)

    def work() -> None:
        tokenizer.zero_grad()
        tokenizer.loss(frames, actions, mask).total.backward()

    return work


def imagination(tokenizer: DeltaTokenizer) -> Work:
    frames = torch.randint(256, (IMAGINED, 3, 64, 64), dtype=torch.uint8)
    actions, tokens = torch.randint(ACTIONS, (IMAGINED,)), torch.randint(1024, (IMAGINED, 4))
    encoders = [FrameEncoder(EncoderConfig(32, *LEVELS, latent_dim), 64, 3) for latent_dim in (8, 16)]

    @torch.no_grad()
    def work() -> None:
        decoded = tokenizer.decode(frames, actions, tokens)
        for encoder in encoders:
            encoder(decoded)

    return work


def timed(work: Work, way: tuple[int, type[Upsample]]) -> tuple[float, float]:
    """Seconds by the clock and of the processor, with a size of chunks and a kind of doubling."""
    before = convolutions.CHUNK, FastUpsample.forward
    convolutions.CHUNK, FastUpsample.forward = way[0], way[1].forward  # type: ignore[method-assign]
    try:
        started = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - started[0], time.process_time() - started[1]
    finally:
        convolutions.CHUNK, FastUpsample.forward = before  # type: ignore[method-assign]


def main() -> int:
    parser = command_line(".convolutions", __doc__, 5)
    parser.add_argument("--chunk", type=int, nargs="+", default=[convolutions.CHUNK], help="values of the widest map")
    parser.add_argument("--preset", choices=list(FRAME_ENCODERS), nargs="+", default=list(FRAME_ENCODERS))
    parser.add_argument("--fresh-memory", action="store_true", help="do not let malloc keep freed blocks, as runs do")
    options = parse(parser)
    if not options.fresh_memory:
        keep_freed_memory()
    ways: dict[str, tuple[int, type[Upsample]]] = {
        "plain": (ALL_AT_ONCE, Upsample),
        "doubling": (ALL_AT_ONCE, FastUpsample),
    }
    for chunk in options.chunk:
        ways |= {f"chunks of {chunk}": (chunk, Upsample), f"chunks of {chunk} and doubling": (chunk, FastUpsample)}
    print(f"{options.threads} threads, {machine()}")
    for preset in options.preset:
        tokenizer = build(preset)
        for phase, work in {"training": training(tokenizer), "imagination": imagination(tokenizer)}.items():
            turns = [[timed(work, way) for way in ways.values()] for _ in range(options.repetitions + 1)][1:]
            medians = {
                name: tuple(statistics.median(some) for some in zip(*times)) for name, times in zip(ways, zip(*turns))
            }
            for name, (clock, processor) in medians.items():
                print(
                    f"{preset:8s} {phase:12s} {name:32s} {clock:7.3f} s {medians['plain'][0] / clock:5.2f}x,"
                    f" processor {processor:7.3f} s {medians['plain'][1] / processor:5.2f}x",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
