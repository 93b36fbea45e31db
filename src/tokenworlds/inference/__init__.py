"""What ``tokenworlds.load`` offers on numpy arrays: acting in environments, and imagining."""

from tokenworlds.inference.acting import Acting
from tokenworlds.inference.imagining import Imagined, imagine

__all__ = ["Acting", "Imagined", "imagine"]
