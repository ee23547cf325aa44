"""Single looks at pods: one of them, all of them, or who they are; and lists of any other kind."""

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from urllib.parse import quote

from registry_status.cluster.api import ApiError, ApiServer, Json, mapping

PAGE = 500
GONE = 410
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ALL: Mapping[str, str] = MappingProxyType({})
SHARD = "shardSelector"


class ShardingError(ApiError):
    """The API server does not share out pods: it would show all of them, and each would have several operators."""

    def __init__(self) -> None:
        """It passes over the question with status 200."""
        super().__init__(
            200,
            "NoShards",
            "the API server does not share out pods: --shard needs Kubernetes 1.36 or newer with its feature gate "
            "ShardedListAndWatch switched on",
        )


async def read_pod(api: ApiServer, namespace: str, name: str) -> Json | None:
    """Read one pod as it is now; None if there is none. Raises `ApiError`."""
    try:
        return await api.get(pod_path(namespace, name))
    except ApiError as error:
        if error.not_found:
            return None
        raise


async def list_pods(
    api: ApiServer, namespace: str = "", *, selection: Mapping[str, str] = ALL, page: int = PAGE
) -> AsyncIterator[Json]:
    """List the pods of a namespace, or of the whole cluster, page by page. Raises `ApiError`.

    `selection` picks some of them (`Settings.selection`). A list that takes longer than the server remembers ends with status
    410; what was yielded is right, but not all.
    """
    async for items in pages(api, _pods(namespace), selection=selection, size=page):
        for item in items:
            yield item


async def list_pod_uids(
    api: ApiServer, namespace: str = "", *, selection: Mapping[str, str] = ALL, page: int = 4 * PAGE
) -> frozenset[str]:
    """Return the uids of all pods there are, from their metadata alone: complete, or an `ApiError`."""
    uids: set[str] = set()
    async for items in pages(api, _pods(namespace), selection=selection, size=page, accept=METADATA_ONLY):
        for item in items:
            uid = mapping(item.get("metadata")).get("uid")
            if not isinstance(uid, str):
                raise ApiError(0, "NoUid", "a pod of the list has no uid")
            uids.add(uid)
    return frozenset(uids)


async def pages(
    api: ApiServer, path: str, *, selection: Mapping[str, str] = ALL, size: int = PAGE, accept: str = "application/json"
) -> AsyncIterator[list[Json]]:
    """Ask for a list of any kind, page by page. Raises `ApiError`, and `ShardingError` where all were sent, not a share."""
    query = {"limit": str(size), **selection}
    while True:
        answer = await api.get(path, query, accept=accept)
        items, metadata = answer.get("items") or [], answer.get("metadata") or {}
        if not isinstance(items, list) or not isinstance(metadata, dict):
            raise ApiError(0, "NoList", f"the answer is no list of {path.rpartition('/')[2]}")
        if SHARD in selection and mapping(metadata.get("shardInfo")).get("selector") != selection[SHARD]:
            raise ShardingError
        yield items
        if not metadata.get("continue"):
            return
        query["continue"] = str(metadata["continue"])


def pod_path(namespace: str, name: str) -> str:
    """Where the API server has a pod."""
    return f"{_pods(namespace)}/{quote(name, safe='')}"


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else "/api/v1/pods"
