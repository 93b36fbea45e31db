"""Identity of the runs that a table or figure shows as one method, and the label that they are shown under."""

from dataclasses import dataclass

NAMES = {"iris": "IRIS", "rem": "REM", "delta_iris": "Delta-IRIS", "m3": "M3"}
OURS = "ours"
# Published names of variants, by the names of ours (``pipeline/*/params.yaml``)
PUBLISHED_VARIANTS = {
    "REM+no-pop": "no-pop",
    "REM+separate-embeddings": "separate-wm-embeddings",
    "REM+4x4-tokenizer": "tokenizer-4x4",
    "REM+no-latent-ac": "no-latent-actor-critic",
    "REM+no-action-input": "no-action-input",
    "M3+simulus-a": "Simulus-A",
}


@dataclass(frozen=True)
class RunGroupId:
    """Method, variant (with the label of its settings, where they deviate) and scale of runs, and who made them."""

    method: str
    variant: str = ""
    scale: str = ""
    origin: str = OURS

    @property
    def base(self) -> str:
        """The method's published name, for its colour and its published scores: ``Delta-IRIS``."""
        return NAMES.get(self.method, self.method)

    @property
    def name(self) -> str:
        """``Delta-IRIS+no-worst-pixel``."""
        return "+".join(filter(None, (self.base, self.variant)))

    @property
    def twin(self) -> str:
        """Name under which the same method and variant is published; of a variant that is not, a name that no
        published scores have."""
        return PUBLISHED_VARIANTS.get(self.name, self.name)

    def label(self, extent: str = "") -> str:
        """``IRIS+64-tokens (ours, smoke)``, never without the scale: a smoke run must not pass for a paper run.

        Args:
            extent: how much there is of it, for example ``2 games x 5 seeds``.
        """
        return remember(f"{self.name} ({', '.join(filter(None, (self.origin, self.scale, extent)))})", self)


_GROUPS: dict[str, RunGroupId] = {}  # by every label that was made of them


def remember(label: str, group: RunGroupId) -> str:
    """A label, after which ``group_of`` knows its group. Tables and caches hold labels: they are never parsed."""
    _GROUPS[label] = group
    return label


def group_of(label: str) -> RunGroupId | None:
    """The group of our runs that a label was made of; None for published and contributed methods."""
    return _GROUPS.get(label)
