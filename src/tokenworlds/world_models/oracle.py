"""The empty place of a world model where a policy learns in the environment itself (``methods.oracle``)."""

from __future__ import annotations

from typing import Any, NoReturn

from tokenworlds.errors import UserError
from tokenworlds.world_models.base import WorldModel
from tokenworlds.world_models.token import TokenWorldModel


class NoWorldModel(TokenWorldModel):
    """Has no parameters, and refuses to be asked for anything."""

    def __init__(self, *_: Any) -> None:
        WorldModel.__init__(self)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError(
            "this agent has no world model: it learned in the environment itself (model.decoding=oracle); imagine with "
            "an agent of another variant."
        )

    pending = property(_refuse)
    outputs = predict = start = step = loss = _refuse
