"""Episodes as files: what training kept, what was imagined and what was recorded."""

from tokenworlds.episodes.episode import Episode, Renderer, list_episodes, load, pictures, save

__all__ = ["Episode", "Renderer", "list_episodes", "load", "pictures", "save"]
