"""Which methods an author wants compared: ``--subject NAME``, ``--baselines A B``, ``--order A B``.

``analysis.comparisons`` applies it, for every item that compares methods.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.data import naming
from analysis.data.contributed import Contribution
from analysis.data.published import ATARI, SUBJECT_ABLATIONS, SUBJECT_GAMES
from analysis.data.runs import RunGroup
from analysis.data.scores import Suite
from tokenworlds.errors import UserError, near_matches


@dataclass(frozen=True)
class Choice:
    """Names of methods as they are printed (``naming.brief``); empty where nothing is chosen."""

    subject: str = ""
    baselines: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.subject or self.baselines or self.order)

    def label(self, labels: Iterable[str]) -> str | None:
        """The subject among these labels; None if it is not one of them."""
        return next((label for label in labels if naming.brief(label) == self.subject), None)

    def among(self, labels: Iterable[str]) -> "Choice":
        """What of it concerns these methods: nothing where the subject is not one of them."""
        names = [naming.brief(label) for label in labels]
        if self.subject and self.subject not in names:
            return Choice()
        return Choice(self.subject, *(tuple(n for n in part if n in names) for part in (self.baselines, self.order)))

    def kept(self, labels: Iterable[str]) -> list[str]:
        """These labels without those that are neither subject nor a baseline, where baselines are named."""
        named = (*self.baselines, self.subject)
        return [label for label in labels if not self.baselines or naming.brief(label) in named]

    def arranged(self, labels: Iterable[str]) -> list[str]:
        """``kept`` in the order asked for: what it names, then the baselines, the subject last."""
        return sorted(self.kept(labels), key=lambda label: self._rank(naming.brief(label)))

    def _rank(self, name: str) -> tuple[int, int]:
        if name in self.order:
            return 0, self.order.index(name)
        if name == self.subject:
            return 2, 0
        return 1, self.baselines.index(name) if name in self.baselines else 0


def resolved(
    choice: Choice, suites: Mapping[str, Suite], contributed: Iterable[str], groups: Sequence[RunGroup]
) -> Choice:
    """The choice with every name as it is printed, found whatever its case.

    Raises:
        UserError: there is no such method, or the subject is one of its own baselines.
    """
    labels = [label for suite in suites.values() for label in (*suite.scores, *suite.partial)]
    labels += [*contributed, *naming.COLOURS, *naming.LABELS, *(group.short_label for group in groups)]
    known = {form.casefold(): naming.brief(label) for label in labels for form in (label, naming.brief(label))}

    def find(name: str, option: str) -> str:
        if name.casefold() not in known:
            raise UserError(f"--{option}: unknown method {name!r}: {near_matches(name, {*known.values()})}")
        return known[name.casefold()]

    baselines, order = (
        tuple(dict.fromkeys(find(name, option) for name in names))
        for names, option in ((choice.baselines, "baselines"), (choice.order, "order"))
    )
    subject = find(choice.subject, "subject") if choice.subject else ""
    if subject in baselines:
        raise UserError(f"--baselines: {subject} is the subject, too; leave it out of one of them.")
    return Choice(subject, baselines, order)


def subject_suites(choice: Choice, suites: Mapping[str, Suite], contributed: Mapping[str, Contribution]) -> list[Suite]:
    """Suites for a subject that are not there without it: the games of one that lacks some, and its ablations."""
    atari, found = suites[ATARI], []
    if subject := choice.label(atari.partial):
        games = [game for game, runs in atari.runs(subject).items() if runs]
        found.append(atari.restricted(SUBJECT_GAMES, games))
    subject = choice.label(contributed)
    agent = contributed[subject] if subject else None
    variants = [
        name for name, each in contributed.items() if agent and each.method == agent.method and each is not agent
    ]
    own = [name for name in (subject, *variants) if name and atari.runs(name)]
    if subject in own and len(own) > 1:
        games = [game for game in atari.tasks if all(atari.runs(name)[game] for name in own)]
        if games:
            every = atari.restricted(SUBJECT_ABLATIONS, games)
            scores, raw = ({name: part[name] for name in own} for part in (every.scores, every.raw))
            found.append(Suite(SUBJECT_ABLATIONS, every.tasks, scores, raw))
    return found
