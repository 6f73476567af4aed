"""All of them, by the name of their diagnostic."""

from tests.oracles import attention, collapse
from tests.oracles.view import Oracle

ORACLES: dict[str, Oracle] = {**attention.ORACLES, **collapse.ORACLES}
