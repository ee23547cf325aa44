"""A watch in protobuf: the same events as in JSON, whatever the bytes are cut into, and never too few of them."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.cluster import protobuf
from registry_status.cluster.lines import (
    EXPIRED,
    LIST_ENDS,
    LONGEST_LINE,
    Known,
    Queued,
    WatchFault,
)
from registry_status.cluster.protobuf import MalformedError, decode_event, decode_object
from tests.unit.cluster.feeding import FedFrames

OURS = {"registry-status.io/service": "orders"}


def uid(number: int) -> str:
    return f"5d3f2c1b-0000-4000-8000-{number:012}"


# --- an encoder, as Go's: every text is written, also an empty one --------------------------------

MAGIC, LENGTH = b"k8s\x00", 4
"""Kubernetes' own, not what the code takes for them: an object's first bytes, and how many before a frame tell its length."""


def varint(number: int) -> bytes:
    out = b""
    number &= (1 << 64) - 1
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def delimited(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def metadata(name: str, of: str, version: int, annotations: Mapping[str, str] = {}, **times: int) -> bytes:
    out = b"".join(
        delimited(field, text.encode())
        for field, text in ((1, name), (2, ""), (3, "default"), (4, ""), (5, of), (6, str(version)))
    )
    out += number(7, 0) + delimited(8, number(1, times.get("created", 1_767_607_200)) + number(2, 0))
    for key, value in annotations.items():
        out += delimited(12, delimited(1, key.encode()) + delimited(2, value.encode()))
    return out


def envelope(kind: str, body: bytes) -> bytes:
    return MAGIC + delimited(1, delimited(1, b"v1") + delimited(2, kind.encode())) + delimited(2, body) + delimited(3, b"")


def frame(kind: str, obj: bytes) -> bytes:
    event = delimited(1, kind.encode()) + delimited(2, delimited(1, obj))
    return len(event).to_bytes(LENGTH, "big") + event


def pod(name: str, of: int, version: int = 1, annotations: Mapping[str, str] = {}) -> bytes:
    spec = delimited(2, delimited(1, b"main")) + delimited(10, b"node-1")
    status = delimited(1, b"Running") + delimited(6, b"10.1.2.3")
    meta = delimited(1, metadata(name, uid(of), version, annotations))
    return envelope("Pod", meta + delimited(2, spec) + delimited(3, status))


def added(name: str, of: int, version: int = 1, annotations: Mapping[str, str] = {}, kind: str = "ADDED") -> bytes:
    return frame(kind, pod(name, of, version, annotations))


def end_of_list(version: int = 9) -> bytes:
    return frame("BOOKMARK", envelope("Pod", delimited(1, metadata("", "", version, {LIST_ENDS: "true"}))))


def failure(code: int) -> bytes:
    return frame("ERROR", envelope("Status", delimited(2, b"Failure") + delimited(3, b"says") + number(6, code)))


def bookmarked(stream: FedFrames) -> str:
    version: str = json.loads(stream.bookmark())["object"]["metadata"]["resourceVersion"]
    return version


def told(stream: FedFrames, data: bytes) -> list[tuple[str, Any]]:
    """Types and names, or the versions of bookmarks."""
    events = [json.loads(line) for line in stream.feed(data).splitlines()]
    return [
        (event["type"], event["object"]["metadata"].get("name") or event["object"]["metadata"]["resourceVersion"])
        if event["type"] != "ERROR"
        else ("ERROR", event["object"]["code"])
        for event in events
    ]


# --- what passes -----------------------------------------------------------------------------------


def test_pods_of_ours_pass_and_others_do_not() -> None:
    data = added("a", 1, annotations=OURS) + added("b", 2) + added("c", 3, annotations={"note": "registry-status"})
    assert told(FedFrames(), data) == [("ADDED", "a")]


def test_a_pod_without_a_uid_is_not_judged_by_that_of_the_next_one() -> None:
    nameless = frame("ADDED", envelope("Pod", delimited(1, delimited(1, b"a") + delimited(6, b"1"))))
    stream = FedFrames()
    assert told(stream, nameless + added("b", 2)) == [("ERROR", 410)]
    assert stream.fault is WatchFault.MALFORMED


def test_only_a_pods_own_events_are_judged_by_a_uid() -> None:
    """A bookmark of a server that writes more into it than today's."""
    assert told(FedFrames(), frame("BOOKMARK", pod("", 2, 7))) == [("BOOKMARK", "7")]


def test_without_the_filter_all_pass() -> None:
    assert told(FedFrames(filtering=False), added("a", 1) + added("b", 2)) == [("ADDED", "a"), ("ADDED", "b")]


def test_a_pod_that_passed_before_passes_until_it_is_gone() -> None:
    stream = FedFrames()
    data = added("a", 1, annotations=OURS) + added("a", 1, 2, kind="MODIFIED") + added("a", 1, 3, kind="DELETED")
    assert told(stream, data + added("a", 1, 4)) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_tracked_pod_passes_whatever_it_holds() -> None:
    assert told(FedFrames(Known({uid(7)})), added("a", 7) + added("b", 8)) == [("ADDED", "a")]


@pytest.mark.parametrize("name", ["a", "a" * 36, "a" * 127, "a" * 128, "a" * 253, "x.5d3f2c1b-0000-4000-8000-000000000001"])
def test_names_of_any_length_are_no_trouble(name: str) -> None:
    tracked = Known({uid(7)})
    assert told(FedFrames(tracked), added(name, 7) + added(name, 8)) == [("ADDED", name)]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), st.integers(1, 6), st.booleans()), min_size=1, max_size=12
)


@given(events=EVENTS, cuts=st.lists(st.integers(1, 400), max_size=8))
def test_bytes_cut_anywhere_say_the_same(events: list[tuple[str, int, bool]], cuts: list[int]) -> None:
    data = b"".join(added(f"p{of}", of, 1, OURS if ours else {}, kind) for kind, of, ours in events)
    stream, rest, out = FedFrames(Known({uid(3)})), data, b""
    for cut in cuts:
        out += stream.feed(rest[:cut])
        rest = rest[cut:]
    out += stream.feed(rest)
    assert out == FedFrames(Known({uid(3)})).feed(data)
    assert stream.fault is None


@given(events=EVENTS)
def test_no_event_of_a_pod_that_matters_is_dropped(events: list[tuple[str, int, bool]]) -> None:
    data = b"".join(added(f"p{of}", of, 1, OURS if ours else {}, kind) for kind, of, ours in events)
    known = {3}
    expected = []
    for kind, of, ours in events:
        if ours or of in known:
            expected.append((kind, f"p{of}"))
            known = known - {of} | {3} if kind == "DELETED" else known | {of}
    assert told(FedFrames(Known({uid(3)})), data) == expected


def test_bytes_known_to_hold_nothing_of_ours_are_judged_by_their_uids_alone() -> None:
    data = added("a", 1, kind="MODIFIED") + added("b", 2)
    for may_be_ours in (True, False):
        kept, taken = FedFrames(Known({uid(1)})).take(data, len(data), may_be_ours=may_be_ours)
        assert [json.loads(kept)["object"]["metadata"]["name"], taken] == ["a", len(data)]


# --- the list, and signs of life -------------------------------------------------------------------


def test_a_list_ends_with_its_bookmark_and_no_other() -> None:
    stream = FedFrames(listing=True)
    early = frame("BOOKMARK", envelope("Pod", delimited(1, metadata("", "", 5))))
    assert told(stream, added("a", 1, annotations=OURS) + early) == [("ADDED", "a")]
    assert stream.in_list
    assert told(stream, end_of_list(9)) == [("BOOKMARK", "9")]
    assert (stream.in_list, stream.listed) == (False, {uid(1)})


def test_a_list_that_is_cut_begins_anew() -> None:
    stream = FedFrames(listing=True)
    stream.feed(added("a", 1, annotations=OURS))
    assert stream.finish() == EXPIRED
    assert stream.fault is WatchFault.INITIAL_CUT


@pytest.mark.parametrize("version", [7, 18, 4_000_000_000])
def test_a_bookmark_tells_how_far_the_stream_has_come(version: int) -> None:
    stream = FedFrames()
    assert told(stream, added("b", 2, version - 1) + added("b", 2, version)) == []
    assert bookmarked(stream) == str(version)
    assert stream.bookmark() == b""


def test_after_the_list_what_passes_goes_past_kopf() -> None:
    taken: list[tuple[str | None, Any]] = []
    queued = Queued()
    stream = FedFrames(listing=True, hand_over=lambda kind, body: taken.append((kind, body)), queued=queued)
    assert told(stream, added("a", 1, 8, OURS) + end_of_list(9)) == [("ADDED", "a"), ("BOOKMARK", "9")]
    queued.brought(uid(1))
    assert told(stream, added("a", 1, 17, kind="MODIFIED") + added("b", 2, 18) + added("c", 3, 19, OURS)) == []
    assert [(kind, body["metadata"]["name"], body["metadata"]["resourceVersion"]) for kind, body in taken] == [
        ("MODIFIED", "a", "17"), ("ADDED", "c", "19"),
    ]  # fmt: skip
    assert bookmarked(stream) == "19"


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "fault"), [(410, WatchFault.EXPIRED), (500, WatchFault.STREAM_ERROR), (403, WatchFault.STREAM_ERROR)]
)
def test_every_error_makes_kopf_list_anew(code: int, fault: WatchFault) -> None:
    stream = FedFrames()
    assert told(stream, failure(code) + added("a", 1, annotations=OURS)) == [("ERROR", 410)]
    assert stream.fault is fault
    assert f"{code}: says" in stream.detail


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    stream = FedFrames()
    data = (LONGEST_LINE * 2).to_bytes(LENGTH, "big") + b"x" * (LONGEST_LINE + 1)
    assert stream.feed(data) == EXPIRED
    assert stream.fault is WatchFault.MALFORMED


@given(st.binary(max_size=200))
def test_nonsense_makes_kopf_list_anew_and_nothing_worse(data: bytes) -> None:
    stream = FedFrames()
    out = stream.feed(len(data).to_bytes(LENGTH, "big") + data)
    assert out in (b"", EXPIRED) or stream.fault is None
    assert (stream.fault is not None) == (out == EXPIRED)


@given(cut=st.integers(0, 10_000), flip=st.integers(0, 255))
def test_a_damaged_pod_is_a_fault_or_a_pod_but_never_an_exception(cut: int, flip: int) -> None:
    whole = added("a", 1, annotations=OURS)[LENGTH:]
    position = cut % len(whole)
    damaged = whole[:position] + bytes([flip]) + whole[position + 1 :]
    stream = FedFrames()
    for line in stream.feed(len(damaged).to_bytes(LENGTH, "big") + damaged).splitlines():
        json.loads(line)
    with pytest.raises(MalformedError):
        decode_event(whole[:position] + b"\x0f")


def test_what_is_no_object_is_named() -> None:
    with pytest.raises(MalformedError, match="kind Node"):
        decode_object(envelope("Node", b""))
    with pytest.raises(MalformedError, match="does not begin"):
        decode_object(b"{}")


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 1_767_607_200, 253_402_300_799])
def test_times_are_those_of_the_json_api(seconds: int) -> None:
    body = envelope("Pod", delimited(1, metadata("a", uid(1), 1, created=seconds)))
    meta: Any = decode_object(body)["metadata"]
    assert meta["creationTimestamp"].endswith("Z")
    assert len(meta["creationTimestamp"]) == len("2026-01-05T10:00:00Z")


def test_a_time_beyond_all_calendars_is_a_fault() -> None:
    with pytest.raises(MalformedError, match="no calendar"):
        decode_object(envelope("Pod", delimited(1, metadata("a", uid(1), 1, created=1 << 60))))


@given(
    pods=st.lists(
        st.tuples(
            st.sampled_from(["node-1", "node-2"]),
            st.sampled_from([0, 1, protobuf.LONGEST_REMEMBERED]),
            st.sampled_from([0, 1_767_607_200]),
            st.sampled_from(["", "orders", "x" * protobuf.LONGEST_REMEMBERED]),
        ),
        max_size=8,
    )
)
def test_a_pod_says_what_it_says_whatever_was_decoded_before(pods: list[tuple[str, int, int, str]]) -> None:
    for node, env, created, service in pods:
        spec = delimited(2, delimited(1, node.encode()) + delimited(7, b"e" * env)) + delimited(10, node.encode())
        meta = metadata("a", uid(1), 1, {"registry-status.io/service": service}, created=created)
        read: Any = decode_object(envelope("Pod", delimited(1, meta) + delimited(2, spec)))
        assert read["spec"] == {"containers": [{"name": node}], "nodeName": node}
        assert read["metadata"]["annotations"] == {"registry-status.io/service": service}
        assert read["metadata"]["creationTimestamp"] == ("2026-01-05T10:00:00Z" if created else "1970-01-01T00:00:00Z")


def test_a_spec_that_comes_again_is_not_decoded_again() -> None:
    first, second = (decode_event(added("a", 1, version)[LENGTH:])[1] for version in (1, 2))
    assert first["spec"] is second["spec"]


def test_unknown_fields_of_every_wire_type_are_skipped() -> None:
    strange = varint(99 << 3 | 1) + b"12345678" + varint(98 << 3 | 5) + b"1234" + number(97, 5) + delimited(96, b"x")
    body = envelope("Pod", strange + delimited(1, metadata("a", uid(1), 1)) + strange)
    assert decode_object(body)["metadata"] == decode_object(envelope("Pod", delimited(1, metadata("a", uid(1), 1))))["metadata"]


def test_every_message_names_each_field_once() -> None:
    messages = [
        getattr(protobuf, name) for name in ("META", "CONTAINER", "SPEC", "STATE", "CONTAINER_STATUS", "CONDITION", "STATUS")
    ]
    for message in messages:
        assert len({known.name for known in message.values()}) == len(message)
