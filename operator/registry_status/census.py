"""The safety net under the watch: once an hour the pods are counted, by their metadata alone (DESIGN section 6).

A watch that loses the end of a pod without a word would leave that pod's instance UP for ever. None is known to; this finds it
if one does.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from registry_status.cluster.api import ApiError
from registry_status.model import PodRef

EVERY = 3600.0
"""Seconds between two counts..."""
JITTER = 0.1
"""...and by how much of itself that varies, so that operators do not march in step."""

ListUids = Callable[[str], Awaitable[frozenset[str]]]
"""Lists the uids of all pods that there are in a namespace; in the cluster for an empty one. May raise `ApiError`."""
logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Who knows what the watch has told so far."""

    def tracked(self, namespace: str) -> Sequence[PodRef]:
        """The pods of a namespace (empty: of all) that are tracked and not known to be gone."""
        ...

    def missed(self, namespace: str, pods: Sequence[PodRef]) -> None:
        """These pods are gone, and the watch has not told."""
        ...


async def keep_counting(tracker: Tracker, list_uids: ListUids, namespaces: Sequence[str], chance: random.Random) -> None:
    """Count for ever; ends by being cancelled."""
    while True:
        await asyncio.sleep(EVERY * chance.uniform(1 - JITTER, 1 + JITTER))
        for namespace in namespaces:
            await count(tracker, list_uids, namespace)


async def count(tracker: Tracker, list_uids: ListUids, namespace: str) -> None:
    """Count once. Only pods known before the list began can be missing from it: newer ones it may be too old for."""
    before = tracker.tracked(namespace)
    try:
        present = await list_uids(namespace)
    except ApiError as error:
        logger.info("the pods could not be counted: %s", error)
        return
    if missing := [pod for pod in before if pod.uid not in present]:
        tracker.missed(namespace, missing)
