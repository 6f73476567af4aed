"""All of them, by the name of their diagnostic."""

from tests.oracles import attention, collapse, queries, sinks
from tests.oracles.view import Oracle

ORACLES: dict[str, Oracle] = {
    **attention.ORACLES,
    **sinks.ORACLES,
    **collapse.ORACLES,
    **queries.ORACLES,
}
