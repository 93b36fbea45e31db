"""The parts of the report about experiments: of every family its variants, its answers and a figure."""

from collections.abc import Callable
from functools import partial

from analysis.data.families import (
    CHANGED,
    CLEAN,
    CONSISTENCY,
    FAMILIES,
    IMAGINED,
    LOSSES,
    NOISE,
    PERPLEXITY,
    PREDICTED,
    PROBES,
    PSNR,
    SCORE,
    SEQUENCE,
    TOKENIZER,
    TRANSFORMER,
    UPDATE,
    Family,
)
from analysis.draw.artefacts import Drawing
from analysis.item import Item
from analysis.studies.experiment_figures import cost_figure, loss_figure, measures_figure, noise_figure
from analysis.studies.experiment_tables import answers_table, variants_table
from analysis.studies.experiments import boards

COMPARED = ("", "gpt2-scratch", "gpt2", "gpt2-frozen", "gpt2-random-frozen", "smollm2-frozen")  # of family A

FIGURES: dict[str, tuple[str, str, Callable[..., Drawing]]] = {
    TRANSFORMER.key: ("loss", "Validation loss", partial(loss_figure, COMPARED)),
    TOKENIZER.key: ("frames", "Frames of the late policy, and scores", partial(measures_figure, (PSNR, SCORE))),
    SEQUENCE.key: ("cost", "Loss and score against cost", cost_figure),
    LOSSES.key: ("kept", "What tokens keep, and scores", partial(measures_figure, (CHANGED, *PROBES, SCORE))),
    NOISE.key: ("noise", "Codes and scores", partial(noise_figure, (PERPLEXITY, "token_churn_late", CLEAN, SCORE))),
    CONSISTENCY.key: (
        "measures",
        "Predicted frames, time and scores",
        partial(measures_figure, (PREDICTED, UPDATE, IMAGINED, SCORE)),
    ),
}
"""Figure of a family: end of its id, what it shows, and the function that draws it."""


def _items(family: Family) -> tuple[Item, ...]:
    stem, data = f"X-{family.letter}", partial(boards, family)
    name, shows, draw = FIGURES[family.key]
    return (
        Item(f"{stem}-T-answers", family.key, "table", "Answers", partial(answers_table, family), data),
        Item(f"{stem}-F-{name}", family.key, "figure", shows, partial(draw, family), data),
        Item(f"{stem}-T-variants", family.key, "table", "Variants", partial(variants_table, family), data),
    )


ITEMS = tuple(item for family in FAMILIES.values() for item in _items(family))
