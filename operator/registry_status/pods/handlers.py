"""Where kopf hands pods over: nothing happens here but that.

Only `kopf.on.event` will do, and only a handler that returns nothing: every other kind patches the pod or adds a finalizer.
"""

from collections.abc import Callable, Mapping

import kopf

Take = Callable[[str | None, Mapping[str, object]], None]


def pod_handlers(take: Take) -> kopf.OperatorRegistry:
    """Make the one handler: each event of a pod goes to `take`, as its type (None: from the list) and the pod.

    `take` only notes what it is given and returns at once. It must not raise: kopf would log the error and forget the event.
    """
    registry = kopf.OperatorRegistry()

    async def pod_event(event: kopf.RawEvent, **_: object) -> None:
        take(event["type"], event["object"])

    kopf.on.event("", "v1", "pods", registry=registry, id="pod")(pod_event)
    return registry
