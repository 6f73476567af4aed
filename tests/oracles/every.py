"""All of them, by the name of their diagnostic."""

from tests.oracles import attention, sinks
from tests.oracles.view import Oracle

ORACLES: dict[str, Oracle] = {**attention.ORACLES, **sinks.ORACLES}
