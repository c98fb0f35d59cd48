"""Many keys through the gateway: in as many batches as their bytes need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from cm_platform.cloudflare.frame import MAX_BODY, MAX_OPERATIONS
from cm_platform.errors import PlatformError, UnavailableError

from .backend import Values
from .packing import packed

if TYPE_CHECKING:
    from cm_platform.cloudflare.gateway import Gateway
    from cm_platform.cloudflare.outcome import Operation, Outcome

# For the JSON of a hundred operations, with keys of a kilobyte that are escaped.
_ROOM: Final = MAX_BODY - MAX_OPERATIONS * 8192


async def read_all(gateway: Gateway, partition: str, operations: Sequence[Operation]) -> Values:
    """The field `value` of each outcome, in order.

    What found no room in the reply is asked for again; the first of a batch always finds some.
    """
    found: list[bytes | None] = [None] * len(operations)
    left = list(range(len(operations)))
    while left:
        asked = left[:MAX_OPERATIONS]
        outcomes = await gateway.batch(partition, [operations[index] for index in asked])
        crowded: list[int] = []
        for index, outcome in zip(asked, outcomes, strict=True):
            if _is_crowded(outcome) and len(asked) > 1:
                crowded.append(index)
            else:
                found[index] = outcome.checked()["value"]
        if len(crowded) == len(asked):
            outcomes[0].checked()
        left = crowded + left[len(asked) :]
    return found


def _is_crowded(outcome: Outcome) -> bool:
    # Not one that is refused for its rate: to ask again at once would make that worse.
    error = outcome.error
    return isinstance(error, UnavailableError) and error.not_sent


async def write_all(
    gateway: Gateway, partition: str, operations: Mapping[str, Operation]
) -> Mapping[str, PlatformError]:
    """Carry out an operation for each key; the failures by key."""
    failures: dict[str, PlatformError] = {}
    for keys in packed(_sizes(operations), room=_ROOM, most=MAX_OPERATIONS):
        outcomes = await gateway.batch(partition, [operations[key] for key in keys])
        failures |= {
            key: outcome.error
            for key, outcome in zip(keys, outcomes, strict=True)
            if outcome.error is not None
        }
    return failures


def _sizes(operations: Mapping[str, Operation]) -> dict[str, int]:
    values = {key: operation.get("value") for key, operation in operations.items()}
    return {key: len(value) if isinstance(value, bytes) else 0 for key, value in values.items()}


__all__ = ["read_all", "write_all"]
