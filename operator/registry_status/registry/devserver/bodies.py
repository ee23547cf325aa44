"""Request bodies, from JSON to what the registry state understands.

A wrong type anywhere is a 400001, as in the real server.
"""

import json
from collections.abc import Iterable

from registry_status.registry.devserver.records import (
    DEFAULT_APP,
    DEFAULT_INTERVAL,
    DEFAULT_TIMES,
    DEFAULT_VERSION,
    Json,
    JsonObject,
    NewInstance,
    NewService,
)
from registry_status.registry.devserver.refusals import Code, Refusal

SERVICE_MEMBERS = frozenset(("serviceId", "appId", "serviceName", "version", "environment", "alias", "framework", "properties"))
INSTANCE_MEMBERS = frozenset(("instanceId", "endpoints", "hostName", "status", "properties", "healthCheck"))
SET_BY_THE_SERVER = frozenset(("serviceId", "timestamp", "modTimestamp"))


def parse_object(body: bytes) -> JsonObject:
    """Any JSON object."""
    try:
        parsed: Json = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(Code.INVALID_PARAMS, "Unmarshal error") from error
    if not isinstance(parsed, dict):
        raise Refusal(Code.INVALID_PARAMS, "Unmarshal error")
    return parsed


def parse_service(body: bytes) -> NewService:
    """The body that creates a service."""
    said = _object(parse_object(body), "service")
    framework = _object(said, "framework")
    return NewService(
        name=_text(said, "serviceName"),
        app=_text(said, "appId") or DEFAULT_APP,
        version=_text(said, "version") or DEFAULT_VERSION,
        environment=_text(said, "environment"),
        service_id=_text(said, "serviceId"),
        alias=_text(said, "alias"),
        framework_name=_text(framework, "name"),
        framework_version=_text(framework, "version"),
        properties=_texts(said, "properties"),
        extra=_rest(said, SERVICE_MEMBERS),
    )


def parse_instance(body: bytes) -> NewInstance:
    """The body that registers an instance."""
    said = _object(parse_object(body), "instance")
    health = _object(said, "healthCheck")
    return NewInstance(
        host_name=_text(said, "hostName"),
        endpoints=_endpoints(said),
        status=_text(said, "status"),
        instance_id=_text(said, "instanceId"),
        mode=_text(health, "mode") if health else "push",
        interval=_number(health, "interval") if health else DEFAULT_INTERVAL,
        times=_number(health, "times") if health else DEFAULT_TIMES,
        properties=_texts(said, "properties"),
        extra=_rest(said, INSTANCE_MEMBERS | {"version"}),
    )


def parse_properties(body: bytes) -> dict[str, str]:
    """The body that replaces an instance's properties."""
    return _texts(parse_object(body), "properties")


def parse_login(body: bytes) -> tuple[str, str]:
    """Account name and password."""
    said = parse_object(body)
    return _text(said, "name"), _text(said, "password")


def _wrong(member: str) -> Refusal:
    return Refusal(Code.INVALID_PARAMS, f"The field '{member}' is missing or of a wrong type.")


def _object(said: JsonObject, member: str) -> JsonObject:
    value = said.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(member)
    return value


def _text(said: JsonObject, member: str) -> str:
    value = said.get(member)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(member)
    return value


def _texts(said: JsonObject, member: str) -> dict[str, str]:
    value = _object(said, member)
    return {key: _text(value, key) for key in value}


def _number(said: JsonObject, member: str) -> int:
    value = said.get(member, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(member)
    return value


def _endpoints(said: JsonObject) -> tuple[str, ...]:
    value = said.get("endpoints")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong("endpoints")
    found = tuple(one for one in value if isinstance(one, str) and one.strip())
    if len(found) != len(value):
        raise _wrong("endpoints")
    return found


def _rest(said: JsonObject, known: Iterable[str]) -> JsonObject:
    return {key: value for key, value in said.items() if key not in known and key not in SET_BY_THE_SERVER}
