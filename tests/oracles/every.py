"""All of them, by the name of their diagnostic."""

from tests.oracles import attention, queries
from tests.oracles.view import Oracle

ORACLES: dict[str, Oracle] = {**attention.ORACLES, **queries.ORACLES}
