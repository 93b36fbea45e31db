"""Every table and figure, in the order of the report; each is declared beside the function that makes it."""

from collections.abc import Iterable, Sequence

from analysis.draw.artefacts import FAILED, MISSING
from analysis.item import PAPERS, Item
from analysis.papers import delta_iris, iris, m3, ours, rem
from analysis.studies import (
    experiment_pages,
    r01_uncertainty,
    r02_games,
    r02_pairs,
    r03_differences,
    r04_partial_pooling,
    r05_coverage,
    r06_run_numbers,
    r07_game_choice,
    r08_ranks,
    r09_cost,
    r10_curves,
    r11_noise,
    r12_effects,
    r13_agreement,
    r14_world_model,
    r15_data_defects,
    r16_leaderboard,
)
from tokenworlds.errors import UserError, near_matches

__all__ = ["FAILED", "ITEMS", "MISSING", "PAPERS", "Item", "select"]

MODULES = (
    iris, rem, delta_iris, m3,
    r16_leaderboard,
    r01_uncertainty, r02_games, r02_pairs, r03_differences, r08_ranks, r05_coverage, r06_run_numbers, r07_game_choice,
    r09_cost, r10_curves, r11_noise, r12_effects, r13_agreement, r14_world_model, r15_data_defects, r04_partial_pooling,
    ours,
    experiment_pages,
)  # fmt: skip
ITEMS: tuple[Item, ...] = tuple(item for module in MODULES for item in module.ITEMS)


def select(ids: Sequence[str] = (), kind: str = "all", papers: Sequence[str] = ()) -> list[Item]:
    """The items of these ids, whatever their kind and paper; without ids, those of that kind and these papers."""
    known = {item.id: item for item in ITEMS}
    ids, papers = (_named(names, of, what) for names, of, what in ((ids, known, "item"), (papers, PAPERS, "paper")))
    if ids:
        return [known[name] for name in ids]
    chosen = [item for item in ITEMS if kind in ("all", item.kind) and (not papers or item.paper in papers)]
    if not chosen:
        raise UserError(f"no item of {' or '.join(papers)} is a {kind}; see --list.")
    return chosen


def _named(names: Sequence[str], known: Iterable[str], what: str) -> list[str]:
    """The names as they are known, each once, found whatever their case."""
    spelled = {name.casefold(): name for name in known}
    for name in names:
        if name.casefold() not in spelled:
            raise UserError(f"unknown {what} {name!r}: {near_matches(name, known)}")
    return list(dict.fromkeys(spelled[name.casefold()] for name in names))
