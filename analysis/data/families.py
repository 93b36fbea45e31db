"""The families of experiments: which variants answer which question, and by what comparison (docs/experiments.md).

A family is a section of the report. Its first variant is the method as published, which the others are compared with.
"""

from dataclasses import dataclass

from analysis.data.identity import NAMES
from tokenworlds.runs.columns import OF_RANDOM_PLAY

SEED, EXTENSION = "seed study", "extension"
SCORE, LOSS, PSNR, PERPLEXITY, CLEAN = "score", "loss_observations", "psnr", "codebook_perplexity", "psnr_clean"
PREDICTED, RANDOM_PLAY, CHANGED = "psnr +5", "loss_random_play", f"l1_changed{OF_RANDOM_PLAY}"
PROBES = f"probe_return_r2_tokens{OF_RANDOM_PLAY}", f"probe_reward_f1_tokens{OF_RANDOM_PLAY}"
UPDATE, IMAGINED = "seconds_per_update world_model", "seconds_per_imagined_frame"
"""Measures (``analysis.studies.experiments.MEASURES`` has all)."""


@dataclass(frozen=True)
class Variant:
    """A line of a family's table.

    Args:
        id: number in the plan of the experiments.
        name: below ``variants:`` of the method's params.yaml; "" is the method as published.
        what: what is different.
        origin: the seed study, with its numbers, or an extension of ours.
        is_control: without which the others say nothing.
        beyond: why its scores are no result of 100k steps; "" where they are. Such runs are shown apart, in no
            comparison.
        amount: of what the family varies, where that is a number.
        has_other_loss: its loss of a token is of another kind: it predicts the tokens of a frame without those before
            them, or sees in training what it predicts.
    """

    id: str
    name: str
    what: str
    origin: str = EXTENSION
    is_control: bool = False
    beyond: str = ""
    amount: float | None = None
    has_other_loss: bool = False


@dataclass(frozen=True)
class Claim:
    """A question, the comparisons (variant, variant) in all of which the first must be better for a yes, and the
    measures that it is asked of; none: those of the family."""

    question: str
    pairs: tuple[tuple[str, str], ...]
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """Variants of a method that answer a question.

    Args:
        key: name of its suites and of its part of the report.
        control: which comparison keeps the answer honest, in a sentence.
        measures: by which its claims are judged.
        columns: further ones in its table.
    """

    key: str
    letter: str
    title: str
    question: str
    control: str
    method: str
    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]
    measures: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variants; the first is "", the method as published."""
        return tuple(variant.name for variant in self.variants)

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)

    def shown(self, name: str) -> str:
        """How a variant is called in texts: by its name, the first by that of the method."""
        return name or NAMES[self.method]


TRANSFORMER = Family(
    "pretrained-transformer",
    "A",
    "A. Pretrained transformers",
    "Do language-model weights speed up or improve a token world model, and is the gain due to the weights or to size?",
    "The same shapes without the weights: gpt2-scratch for what is trained, gpt2-random-frozen for what is frozen. "
    "Pretraining helps only where both comparisons say so. At the scales smoke and small GPT-2 is a stand-in of random "
    "weights.",
    "iris",
    (
        Variant("A0", "", "IRIS: 10 layers, 4 heads, width 256, from scratch", SEED),
        Variant("A1", "gpt2-scratch", "shape of GPT-2 (12, 12, 768), from scratch", SEED, is_control=True),
        Variant("A2", "gpt2", "GPT-2, all of it trained", SEED),
        Variant("A3", "gpt2-frozen", "GPT-2, attention and MLPs frozen", SEED),
        Variant("A4", "gpt2-frozen-but-last", "A3, the last block trained", SEED),
        Variant("A5", "gpt2-medium-frozen", "GPT-2 medium (24, 16, 1024), frozen as A3", SEED),
        Variant("A6", "gpt2-large-frozen", "GPT-2 large (36, 20, 1280), frozen as A3", SEED),
        Variant("A7", "gpt2-random-frozen", "shape of GPT-2, random weights, frozen as A3", SEED, is_control=True),
        Variant("A8", "gpt2-frozen-projections", "A3, a projection before and after it", SEED),
        Variant("A9", "gpt2-lora", "A3, adapters of rank 32"),
        Variant("A3w", "gpt2-frozen-wide-embeddings", "A3, embeddings of standard deviation 0.14"),
        Variant("A7w", "gpt2-random-frozen-wide-embeddings", "A7, embeddings as in A3w", is_control=True),
        Variant("A10", "smollm2-frozen", "SmolLM2-135M, frozen as A3"),
        Variant("A11", "pretrained-world-model", "IRIS, weights of a world model of other games"),
        Variant("A11f", "pretrained-world-model-frozen", "A11, frozen as A3"),
    ),
    (
        Claim("Does pretraining on language help?", (("gpt2", "gpt2-scratch"), ("gpt2-frozen", "gpt2-random-frozen"))),
        Claim("Does size alone help?", (("gpt2-scratch", ""),)),
        Claim(
            "Does it help with embeddings as large as those of a language model?",
            (("gpt2-frozen-wide-embeddings", "gpt2-random-frozen-wide-embeddings"),),
        ),
        Claim(
            "Is a newer language model better than frozen random weights of another shape?",
            (("smollm2-frozen", "gpt2-random-frozen"),),
        ),
        Claim("Is a frozen language model better than IRIS?", (("smollm2-frozen", ""),)),
        Claim("Does pretraining on other games help?", (("pretrained-world-model", ""),)),
    ),
    (RANDOM_PLAY, SCORE),
    (LOSS, UPDATE, IMAGINED),
)

SAME_GAME = "its tokenizer is that of a finished run of the same game"
TOKENIZER = Family(
    "pretrained-tokenizer",
    "B",
    "B. Pretrained tokenizers",
    "How much of IRIS's sample budget goes into learning to see, and does a fixed tokenizer help or hurt the dynamics?",
    "The tokenizer of a finished run of the same game is the upper bound; joint training is what the others replace.",
    "iris",
    (
        Variant("B0", "", "IRIS: trained with the world model", SEED),
        Variant("B1", "tokenizer-same-game", "of a finished run of the same game, fixed", SEED, True, SAME_GAME),
        Variant("B2", "tokenizer-same-game-trained", "B1, trained on", SEED, beyond=SAME_GAME),
        Variant("B3", "tokenizer-random-policy", "pretrained on frames of a random policy, fixed"),
        Variant("B4", "tokenizer-random-policy-trained", "B3, trained on"),
        Variant("B5", "tokenizer-other-games", "pretrained on frames of other games, fixed"),
        Variant("B6", "tokenizer-other-games-trained", "B5, trained on"),
        Variant("B7", "tokenizer-until-100", "IRIS, fixed from epoch 100 on"),
        Variant("B8", "tokenizer-same-game-early", "B1, the others begin early", beyond=SAME_GAME),
        Variant("B9", "tokenizer-external", "a tokenizer from elsewhere, fixed"),
    ),
    (
        Claim("Is a fixed tokenizer of random play better than joint training?", (("tokenizer-random-policy", ""),)),
        Claim("Does it help to train it on?", (("tokenizer-random-policy-trained", "tokenizer-random-policy"),)),
        Claim("Is a fixed tokenizer of other games better than joint training?", (("tokenizer-other-games", ""),)),
        Claim("Does it help to train that on?", (("tokenizer-other-games-trained", "tokenizer-other-games"),)),
        Claim("Does a code that stays from epoch 100 on help?", (("tokenizer-until-100", ""),)),
    ),
    (PSNR, SCORE),
    (LOSS, "ssim", PERPLEXITY, "token_churn_late"),
)

SEQUENCE = Family(
    "sequence-models",
    "C",
    "C. Sequence models",
    "Which sequence model should predict the tokens?",
    "At the published size all but C1, whose opponent in size is A1, and C2 have as many weights as the transformer, "
    "within 5 %; C11w is C11 with half of the connections; and the oracle is what the policy reaches with a perfect "
    "model. The losses of C1 and C12, which predict a frame at once, and of C5, which sees in training the tokens that "
    "it predicts, are of another kind than the others.",
    "iris",
    (
        Variant("C4", "", "IRIS: transformer, causal", SEED),
        Variant("C1", "ncp-frame", "a circuit of CfC cells, a step a frame", SEED, has_other_loss=True),
        Variant("C2", "ncp-token", "a circuit of CfC cells, a step a token", SEED),
        Variant("C3", "oracle", "the environment itself", SEED, True, "it imagines in the environment"),
        Variant("C5", "block-causal", "transformer, full attention inside a frame", has_other_loss=True),
        Variant("C6", "transformer-xl", "Transformer-XL: relative positions, a memory"),
        Variant("C7", "retnet", "retentive network"),
        Variant("C8", "lstm", "LSTM"),
        Variant("C9", "gru", "GRU"),
        Variant("C10", "mamba", "Mamba, a selective state space model"),
        Variant("C11", "cfc-dense", "CfC cells without wiring", is_control=True),
        Variant("C11w", "cfc-wired", "C11 over a wiring, half of the connections"),
        Variant("C12", "pop-retnet", "retentive network, all tokens of a frame at once", has_other_loss=True),
    ),
    (
        *(
            Claim(f"Is {what} better than the transformer?", ((name, ""),))
            for name, what in {
                "block-causal": "attention inside a frame", "transformer-xl": "Transformer-XL",
                "retnet": "a retentive network", "lstm": "an LSTM", "gru": "a GRU", "mamba": "Mamba",
            }.items()
        ),
        Claim("Is predicting a frame at once better than token after token?", (("pop-retnet", "retnet"),)),
        Claim("Is a step a frame better than the transformer?", (("ncp-frame", ""),)),
        Claim("Does the wiring of a circuit help?", (("cfc-wired", "cfc-dense"),)),
        Claim("Is a small wired circuit better than large dense cells?", (("ncp-token", "cfc-dense"),)),
    ),
    (RANDOM_PLAY, SCORE),
    (LOSS, PREDICTED, "parameters world_model", UPDATE, IMAGINED, "state_bytes"),
)  # fmt: skip

LOSSES = Family(
    "tokenizer-losses",
    "D",
    "D. Losses and quantisers of the tokenizer",
    "Which loss makes a tokenizer keep what matters for the game?",
    "random-perceptual has the perceptual loss without what its network learned from photographs; no-perceptual has "
    "none. At the scales smoke and small IRIS has no perceptual loss, so that no-perceptual is the same agent; at "
    "small l2 is, too.",
    "iris",
    (
        Variant("D0", "", "IRIS: L1, LPIPS, a learned codebook", SEED),
        Variant("D1/0.01", "value-loss-001", "predicts the return, weight 0.01", SEED),
        Variant("D1/0.1", "value-loss-01", "predicts the return, weight 0.1", SEED),
        Variant("D1", "value-loss", "predicts the return, weight 1", SEED),
        Variant("D2", "value-loss-symlog", "D1, symlog of the return"),
        Variant("D3", "no-perceptual", "no perceptual loss", is_control=True),
        Variant("D4", "l2", "squared error of pixels"),
        Variant("D5", "ssim", "structural similarity"),
        Variant("D6", "ms-ssim", "structural similarity at three scales"),
        Variant("D7", "focal-frequency", "focal frequency loss"),
        Variant("D8", "adversarial", "an adversary (VQGAN)"),
        Variant("D9", "motion-weighted", "pixels that change count more"),
        Variant("D10", "ema-codebook", "codebook by moving averages"),
        Variant("D11", "fsq", "finite scalar quantisation, 8 x 8 x 8 levels"),
        Variant("D12", "lfq", "lookup-free quantisation, 9 bits"),
        Variant("D13", "random-perceptual", "perceptual loss with random weights", is_control=True),
    ),
    (
        Claim("Does predicting the return help?", (("value-loss", ""),)),
        Claim("Do features learned from photographs help?", (("", "random-perceptual"), ("", "no-perceptual"))),
        Claim("Does weighting what moves help?", (("motion-weighted", ""),)),
        Claim("Is structural similarity of help?", (("ssim", ""),)),
        Claim("Is an adversary of help?", (("adversarial", ""),)),
        Claim("Is a codebook of moving averages better than a learned one?", (("ema-codebook", ""),)),
        Claim("Are scalar levels better than a learned codebook?", (("fsq", ""),)),
        Claim("Is a codebook without look-up better than a learned one?", (("lfq", ""),)),
    ),
    (CHANGED, SCORE),
    (f"{PSNR}{OF_RANDOM_PLAY}", *PROBES, f"{PERPLEXITY}{OF_RANDOM_PLAY}", "token_churn_late", LOSS),
)

NOISE = Family(
    "noise",
    "E",
    "E. Noise in observations",
    "Does the tokenizer waste its codes on noise?",
    "The same agent on clean frames.",
    "iris",
    (
        Variant("E0", "", "IRIS: clean frames", SEED, amount=0.0),
        Variant("E0.05", "noise-005", "noise of standard deviation 0.05", SEED, amount=0.05),
        Variant("E0.1", "noise-01", "noise of standard deviation 0.1", SEED, amount=0.1),
        Variant("E0.2", "noise-02", "noise of standard deviation 0.2", SEED, amount=0.2),
    ),
    tuple(
        claim
        for name, amount in {"noise-005": 0.05, "noise-01": 0.1, "noise-02": 0.2}.items()
        for claim in (
            Claim(f"Does noise of {amount} take codes?", ((name, ""),), (PERPLEXITY,)),
            Claim(f"Is the agent of clean frames better than that of noise of {amount}?", (("", name),)),
        )
    ),
    (SCORE,),
    (PERPLEXITY, "token_churn_late", CLEAN, LOSS),
)

CONSISTENCY = Family(
    "consistency",
    "CM",
    "Consistency models in Delta-IRIS",
    "Can a consistency model over continuous deltas take the place of Delta-IRIS's transformer over tokens?",
    "Delta-IRIS as published; and the consistency model without the loss of its prediction.",
    "delta_iris",
    (
        Variant("CM0", "", "Delta-IRIS: a transformer over tokens", EXTENSION),
        Variant("CM1", "consistency", "a consistency model over continuous deltas", EXTENSION),
        Variant("CM2", "consistency-no-prediction", "CM1 without the loss of the prediction", is_control=True),
        Variant("CM3", "consistency-published-noise", "CM1 with the noise of the public fork"),
    ),
    (
        Claim("Is the consistency model better than the transformer?", (("consistency", ""),)),
        Claim("Does the loss of the prediction help?", (("consistency", "consistency-no-prediction"),)),
        Claim(
            "Is our reading of the noise better than the published one?",
            (("consistency", "consistency-published-noise"),),
        ),
    ),
    (PREDICTED, SCORE),
    (PSNR, UPDATE, IMAGINED),
)  # fmt: skip

FAMILIES = {family.key: family for family in (TRANSFORMER, TOKENIZER, SEQUENCE, LOSSES, NOISE, CONSISTENCY)}
