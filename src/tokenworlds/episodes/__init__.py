"""Episodes as files: what training kept, what was imagined and what was recorded."""

from tokenworlds.episodes.episode import Episode, list_episodes, load, save

__all__ = ["Episode", "list_episodes", "load", "save"]
