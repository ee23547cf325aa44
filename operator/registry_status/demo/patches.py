"""The three ways in which Kubernetes lets a client patch an object, as pure functions that leave their arguments alone."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from registry_status.demo.kinds import ApiError, KubeObject, bad_request

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"

MERGE_KEYS: Final = {"conditions": "type", "containers": "name", "ownerReferences": "uid", "volumes": "name"}
"""Lists that a strategic patch merges item by item, by this key of theirs; all others it replaces."""


def patched(item: KubeObject, patch: object, media_type: str) -> KubeObject:
    """Apply a patch of the given media type."""
    if media_type == JSON_PATCH and isinstance(patch, list):
        return _json_patched(item, patch)
    if media_type in (MERGE_PATCH, STRATEGIC_PATCH) and isinstance(patch, dict):
        merged: KubeObject = _merged(item, patch, strategic=media_type == STRATEGIC_PATCH)
        return merged
    if media_type in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
        raise bad_request(f"this is no patch of the form {media_type}")
    raise ApiError(415, "UnsupportedMediaType", f"the emulator knows {JSON_PATCH}, {MERGE_PATCH} and {STRATEGIC_PATCH}")


def _merged(old: object, patch: object, *, strategic: bool) -> Any:  # noqa: ANN401 - JSON of any shape
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif strategic and key in MERGE_KEYS and isinstance(value, list):
            result[key] = _merged_list(result.get(key) or [], value, MERGE_KEYS[key])
        else:
            result[key] = _merged(result.get(key), value, strategic=strategic)
    return result


def _merged_list(old: Sequence[KubeObject], patch: Sequence[KubeObject], key: str) -> list[KubeObject]:
    result = {item[key]: item for item in old}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item[key], None)
        else:
            result[item[key]] = _merged(result.get(item[key]), item, strategic=True)
    return list(result.values())


def _json_patched(item: KubeObject, operations: Sequence[KubeObject]) -> KubeObject:
    document = deepcopy(item)
    for operation in operations:
        _apply(document, operation)
    return document


def _apply(document: KubeObject, operation: KubeObject) -> None:
    *parents, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    holder: Any = document
    try:
        for step in parents:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        _apply_at(holder, last, operation)
    except (KeyError, IndexError, ValueError, TypeError):
        raise ApiError(422, "Invalid", f"the server rejected our request: no such path: {operation['path']}") from None


def _apply_at(holder: Any, last: str, operation: KubeObject) -> None:  # noqa: ANN401 - a list or an object
    place: Any = last
    if isinstance(holder, list):
        place = len(holder) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(holder, list):
            holder.insert(place, deepcopy(operation["value"]))
        case "add":
            holder[place] = deepcopy(operation["value"])
        case "replace":
            _ = holder[place]
            holder[place] = deepcopy(operation["value"])
        case "remove":
            del holder[place]
        case "test":
            if holder[place] != operation["value"]:
                raise ApiError(422, "Invalid", f"the server rejected our request: test failed at {operation['path']}")
        case other:
            raise bad_request(f"the emulator knows no JSON patch operation {other!r}")
