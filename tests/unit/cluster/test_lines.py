"""What passes the byte filter: never too little, whatever the bytes are cut into; and how a stream ends."""

import json
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_status.cluster.lines import (
    EXPIRED,
    LIST_ENDS,
    LONGEST_LINE,
    Known,
    MalformedPageError,
    Queued,
    WatchFault,
    sift_page,
)
from tests.unit.cluster.feeding import PREFIX, FedLines

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "owner-1"}


def pod(name: str, uid: str, version: int = 1, *, annotations: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Make a pod whose fields are in Go's order."""
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    metadata |= more
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": [{"name": "main"}]}, "status": {}}


def go(value: object) -> bytes:
    """Write JSON as Go does."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def line(kind: str, body: dict[str, Any]) -> bytes:
    return go({"type": kind, "object": body}) + b"\n"


def ours(name: str, uid: str, version: int = 1) -> dict[str, Any]:
    return pod(name, uid, version, annotations={"registry-status.io/service": "orders"})


def end_of_list(version: int = 9) -> bytes:
    metadata = {"resourceVersion": str(version), "annotations": {LIST_ENDS: "true"}}
    return line(
        "BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": None}, "status": {}}
    )


def name_of(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["name"])


def events(kept: bytes) -> list[dict[str, Any]]:
    return [json.loads(text) for text in kept.splitlines()]


# --- what passes -----------------------------------------------------------------------------------


def test_a_line_with_the_annotation_prefix_passes_unchanged() -> None:
    text = line("ADDED", ours("a", "uid-a"))
    assert FedLines().feed(text) == text


def test_a_line_of_a_stranger_is_dropped() -> None:
    assert FedLines().feed(line("MODIFIED", pod("a", "uid-a"))) == b""


def test_a_tracked_pod_passes_without_its_annotation() -> None:
    text = line("MODIFIED", pod("a", "uid-a"))
    assert FedLines(Known({"uid-a"})).feed(text) == text


def test_a_pod_that_passed_once_passes_without_its_annotation_even_before_anybody_tracks_it() -> None:
    lines = FedLines()
    lost = line("MODIFIED", pod("a", "uid-a", 2))
    assert lines.feed(line("ADDED", ours("a", "uid-a")) + lost).endswith(lost)


def test_a_deleted_pod_passes_and_is_forgotten() -> None:
    known = Known()
    lines = FedLines(known)
    lines.feed(line("ADDED", ours("a", "uid-a")))
    gone = line("DELETED", pod("a", "uid-a", 2))
    assert lines.feed(gone) == gone
    assert "uid-a" not in known


@pytest.mark.parametrize(
    "more",
    [
        {"ownerReferences": [OWNER]},
        {"generateName": "a-"},
        {"managedFields": [{"fieldsV1": {"f:metadata": {"f:ownerReferences": {'k:{"uid":"owner-1"}': {}}}}}]},
        {"annotations": {"note": '{"uid":"owner-1"}'}, "labels": {"uid": "owner-1"}},
    ],
)
def test_the_uid_of_a_line_is_the_pods_own(more: dict[str, Any]) -> None:
    """Owners' uids, and texts that look like uids, come later in Go's order: neither takes part."""
    text = line("MODIFIED", pod("a", "uid-a", **more))
    assert FedLines(Known({"uid-a"})).feed(text) == text
    assert FedLines(Known({"owner-1"})).feed(text) == b""


def test_fields_in_any_other_order_are_not_trusted_and_pass() -> None:
    """Another server's JSON: sorted keys put ownerReferences before the pod's uid."""
    body = pod("a", "uid-a", ownerReferences=[OWNER])
    for text in (
        json.dumps({"type": "MODIFIED", "object": body}, sort_keys=True, separators=(",", ":")).encode() + b"\n",
        json.dumps({"type": "MODIFIED", "object": body}).encode() + b"\n",
        json.dumps({"object": body, "type": "MODIFIED"}, separators=(",", ":")).encode() + b"\n",
    ):
        assert FedLines().feed(text) == text


def test_with_filtering_off_every_line_passes() -> None:
    text = line("ADDED", pod("a", "uid-a")) + line("MODIFIED", pod("b", "uid-b"))
    assert FedLines(filtering=False).feed(text) == text


def test_an_unknown_kind_of_event_is_dropped() -> None:
    assert FedLines().feed(line("SURPRISE", pod("a", "uid-a"))) == b""


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
uids = st.sampled_from([f"uid-{number}" for number in range(6)])
texts = st.text(max_size=12)
annotation = st.dictionaries(st.one_of(texts, st.just("registry-status.io/service")), texts, max_size=3)
bodies = st.builds(
    lambda name, uid, version, marks, owned, where: pod(
        name, uid, version, annotations=marks, **({"ownerReferences": [OWNER]} if owned else {}), **where
    ),
    names, uids, st.integers(1, 99), annotation, st.booleans(),
    st.dictionaries(st.sampled_from(["labels", "managedFields", "generateName"]), texts, max_size=2),
)  # fmt: skip
writers = st.sampled_from(
    [go, lambda value: json.dumps(value, sort_keys=True).encode(), lambda value: json.dumps(value).encode()]
)
streams = st.lists(st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), bodies, writers), max_size=12)
cuts = st.lists(st.integers(0, 4000), max_size=12)


def written(stream: Any) -> list[bytes]:
    return [writer({"type": kind, "object": body}) + b"\n" for kind, body, writer in stream]


@given(streams, cuts, st.frozensets(uids))
@settings(deadline=None)
def test_where_the_bytes_are_cut_does_not_matter(stream: Any, cut: list[int], tracked: frozenset[str]) -> None:
    data = b"".join(written(stream))
    whole, pieces = FedLines(Known(tracked)), FedLines(Known(tracked))
    places = [0, *sorted(place for place in cut if place < len(data)), len(data)]
    kept = b"".join(pieces.feed(data[start:stop]) for start, stop in pairwise(places))
    assert kept == whole.feed(data)


@given(streams, st.frozensets(uids))
@settings(deadline=None)
def test_what_matters_is_never_dropped(stream: Any, tracked: frozenset[str]) -> None:
    kept = FedLines(Known(tracked)).feed(b"".join(written(stream))).splitlines(keepends=True)
    passed: set[str] = set()
    for text, (kind, body, _) in zip(written(stream), stream, strict=True):
        uid = body["metadata"]["uid"]
        annotated = any(key.startswith("registry-status.io/") for key in body["metadata"].get("annotations", {}))
        if annotated or uid in tracked | passed:
            assert text in kept
            passed.add(uid) if kind != "DELETED" else passed.discard(uid)


def test_bytes_known_to_hold_nothing_of_ours_are_judged_by_their_uids_alone() -> None:
    data = line("MODIFIED", pod("a", "uid-a")) + line("MODIFIED", pod("b", "uid-b"))
    for may_be_ours in (True, False):
        kept, taken = FedLines(Known({"uid-a"})).take(data, len(data), may_be_ours=may_be_ours)
        assert (kept, taken) == (line("MODIFIED", pod("a", "uid-a")), len(data))


# --- the list within the stream --------------------------------------------------------------------


def test_the_list_is_complete_with_its_bookmark_and_tells_who_passed() -> None:
    lines, in_list = FedLines(listing=True), []
    for data in (line("ADDED", ours("a", "uid-a")) + line("ADDED", pod("b", "uid-b")), end_of_list()):
        in_list.append(lines.in_list)
        kept = lines.feed(data)
    assert kept == end_of_list()
    assert [*in_list, lines.in_list] == [True, True, False]
    assert lines.listed == {"uid-a"}


def test_an_empty_list_is_complete_too() -> None:
    lines = FedLines(listing=True)
    assert lines.feed(end_of_list()) == end_of_list()
    assert (lines.in_list, lines.listed) == (False, set())


def test_within_the_list_kopf_sees_no_bookmark_for_it_would_take_it_for_the_end() -> None:
    lines = FedLines(listing=True)
    early = line("BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}})
    assert lines.feed(early + line("ADDED", pod("a", "uid-a"))) == b""
    assert lines.in_list


def test_a_list_cut_short_starts_anew() -> None:
    lines = FedLines(listing=True)
    lines.feed(line("ADDED", ours("a", "uid-a")) + b'{"type":"AD')
    assert lines.finish() == EXPIRED
    assert lines.fault is WatchFault.INITIAL_CUT


def test_a_stream_that_ends_after_its_list_just_ends() -> None:
    lines = FedLines(listing=True)
    lines.feed(end_of_list() + b'{"type":"AD')
    assert lines.finish() == b""
    assert lines.fault is None


def test_a_complete_list_forgets_pods_that_are_no_longer_there() -> None:
    known = Known()
    FedLines(known).feed(line("ADDED", ours("a", "uid-a")) + line("ADDED", ours("b", "uid-b")))
    FedLines(known, listing=True).feed(line("ADDED", ours("b", "uid-b")) + end_of_list())
    assert "uid-a" not in known
    assert "uid-b" in known


# --- bookmarks -------------------------------------------------------------------------------------


def test_after_the_list_a_bookmark_tells_once_how_far_the_stream_has_come() -> None:
    lines = FedLines()
    lines.feed(line("MODIFIED", pod("a", "uid-a", 7)) + line("MODIFIED", pod("b", "uid-b", 8)))
    (bookmark,) = events(lines.bookmark())
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"] == {"resourceVersion": "8"}
    assert lines.bookmark() == b""


def test_the_last_thing_a_stream_tells_is_how_far_it_came() -> None:
    lines = FedLines()
    lines.feed(line("MODIFIED", pod("a", "uid-a", 7)))
    (bookmark,) = events(lines.finish())
    assert bookmark["object"]["metadata"] == {"resourceVersion": "7"}


def test_a_line_that_passes_is_as_good_as_a_bookmark() -> None:
    lines = FedLines()
    lines.feed(line("MODIFIED", pod("b", "uid-b", 7)) + line("MODIFIED", ours("a", "uid-a", 8)))
    assert lines.bookmark() == b""


def test_within_the_list_there_is_no_bookmark_of_ours() -> None:
    lines = FedLines(listing=True)
    lines.feed(line("ADDED", pod("b", "uid-b", 7)))
    assert lines.bookmark() == b""


def test_a_stream_with_a_fault_tells_nothing_behind_it() -> None:
    lines = FedLines()
    lines.feed(line("MODIFIED", pod("b", "uid-b", 7)))
    assert lines.feed(b"nonsense\n") == EXPIRED
    assert lines.bookmark() + lines.finish() == b""


def test_the_servers_own_bookmarks_pass() -> None:
    text = line("BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}})
    assert FedLines().feed(text) == text


@pytest.mark.parametrize("past_kopf", [True, False])
@given(steps=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_versions_never_run_backwards(steps: list[tuple[bool, bool]], past_kopf: bool) -> None:
    """A bookmark made up must not set kopf back behind what was taken, nor ahead of what was not."""
    taken: list[int] = []

    def take(_: str | None, body: Mapping[str, Any]) -> None:
        taken.append(int(body["metadata"]["resourceVersion"]))

    lines, seen = FedLines(hand_over=take if past_kopf else None), []
    for version, (annotated, asked) in enumerate(steps, start=1):
        body = ours("a", f"uid-{version}", version) if annotated else pod("a", f"uid-{version}", version)
        for event in events(lines.feed(line("ADDED", body)) + (lines.bookmark() if asked else b"")):
            seen.append(int(event["object"]["metadata"]["resourceVersion"]))
            assert max(taken, default=0) <= seen[-1] <= version
        assert not asked or seen[-1] == version
    assert seen == sorted(seen)
    assert len(taken) == (sum(annotated for annotated, _ in steps) if past_kopf else 0)


# --- past kopf -------------------------------------------------------------------------------------


def test_after_the_list_what_passes_goes_past_kopf() -> None:
    taken: list[tuple[str | None, str]] = []
    queued = Queued()
    lines = FedLines(listing=True, hand_over=lambda kind, body: taken.append((kind, name_of(body))), queued=queued)
    first = line("ADDED", ours("a", "uid-a"))
    assert lines.feed(first + end_of_list()) == first + end_of_list()
    queued.brought("uid-a")
    changes = [("MODIFIED", pod("a", "uid-a", 10)), ("DELETED", ours("a", "uid-a", 11)), ("ADDED", ours("c", "uid-c", 12))]
    assert lines.feed(b"".join(line(*change) for change in changes)) == b""
    assert taken == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "c")]


def test_what_goes_past_kopf_counts_as_passed() -> None:
    known = Known()
    lines = FedLines(known, hand_over=lambda *_: None)
    lines.feed(line("ADDED", ours("a", "uid-a", 7)) + line("ADDED", ours("b", "uid-b", 8)))
    lines.feed(line("DELETED", ours("b", "uid-b", 9)))
    assert ("uid-a" in known, "uid-b" in known) == (True, False)


def test_events_queue_up_behind_what_kopf_has_not_brought_yet() -> None:
    """Else a pod that was listed and then deleted would be gone before anybody had heard of it."""
    taken: list[str] = []

    def take(_: str | None, body: Mapping[str, Any]) -> None:
        taken.append(body["metadata"]["resourceVersion"])

    queued = Queued()
    lines = FedLines(listing=True, hand_over=take, queued=queued)
    changes = [line("MODIFIED", ours("a", "uid-a", version)) for version in range(10, 13)]
    lines.feed(line("ADDED", ours("a", "uid-a")) + end_of_list())
    assert lines.feed(changes[0]) == changes[0]
    queued.brought("uid-a")
    assert lines.feed(changes[1]) == changes[1]
    for _ in range(2):
        queued.brought("uid-a")
    assert lines.feed(changes[2]) == b""
    assert taken == ["12"]


@pytest.mark.parametrize("text", [b'{"type":"BOOKMARK"', b'{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1"}}'])
def test_what_is_no_pod_never_goes_past_kopf(text: bytes) -> None:
    lines = FedLines(hand_over=lambda *_: pytest.fail("taken"))
    assert lines.feed(text + b"\n") == EXPIRED


def test_a_line_that_only_looks_whole_is_a_fault_once_it_would_go_past_kopf() -> None:
    lines = FedLines(hand_over=lambda *_: pytest.fail("taken"))
    assert lines.feed(line("ADDED", ours("a", "uid-a")).replace(b'"spec":', b'"spec"')) == EXPIRED
    assert lines.fault is WatchFault.MALFORMED


def test_what_kopf_was_given_is_in_its_queues_until_it_has_brought_each_of_it() -> None:
    queued = Queued()
    queued.given("uid-a")
    queued.given("uid-a")
    queued.brought("uid-a")
    assert "uid-a" in queued
    queued.brought("uid-a")
    queued.brought("uid-b")
    assert "uid-a" not in queued
    assert "uid-b" not in queued
    queued.given("uid-b")
    assert "uid-b" in queued, "what was never given is nobody's debt"


def test_what_kopf_lost_with_its_queues_is_not_waited_for() -> None:
    queued = Queued()
    queued.given("uid-a")
    queued.lost()
    assert "uid-a" not in queued


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "fault"), [(410, WatchFault.EXPIRED), (500, WatchFault.STREAM_ERROR)])
def test_every_error_in_the_stream_becomes_the_one_kopf_survives(code: int, fault: WatchFault) -> None:
    lines = FedLines()
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "etcdserver: no leader", "code": code}
    text = line("ADDED", ours("a", "uid-a"))
    assert lines.feed(text + line("ERROR", status) + line("ADDED", ours("b", "uid-b"))) == text + EXPIRED
    assert lines.fault is fault
    assert "etcdserver: no leader" in lines.detail
    assert lines.feed(text) == lines.finish() == b""


@pytest.mark.parametrize(
    "text",
    [
        b"upstream request timeout\n",
        b"<html></html>\n",
        b'{"type":"ADDED","object":{"kind":"Pod"\n',
        b'{"type":"ADDED","object":7}\n',
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":{"metadata":{}}}\n',
        b'{"type":"ADDED","object":{}}\n',
        b"[]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        line("ADDED", ours("a", "uid-a"))[:-9] + b"\n",
        line("ADDED", ours("a", "uid-a"))[:-40] + b"}}\n",
    ],
)
def test_a_line_that_is_no_event_makes_the_stream_start_anew(text: bytes) -> None:
    lines = FedLines()
    assert lines.feed(text) == EXPIRED
    assert lines.fault is WatchFault.MALFORMED
    assert lines.detail


def test_empty_lines_are_nothing() -> None:
    assert FedLines().feed(b"\n\r\n\n") == b""


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    lines = FedLines()
    piece = b"x" * (1 << 20)
    fed = [lines.feed(piece) for _ in range(LONGEST_LINE // len(piece) + 1)]
    assert fed[-1] == EXPIRED
    assert lines.fault is WatchFault.MALFORMED


def test_a_long_line_in_small_pieces_takes_no_quadratic_time() -> None:
    text = line("ADDED", ours("a", "uid-a") | {"spec": {"x": "y" * (4 << 20)}})
    lines, started = FedLines(), time.process_time()
    kept = b"".join(lines.feed(text[at : at + 1024]) for at in range(0, len(text), 1024))
    assert kept == text
    assert time.process_time() - started < 2


# --- pages of a list -------------------------------------------------------------------------------


def page(*items: dict[str, Any], more: str = "") -> bytes:
    metadata = {"resourceVersion": "9"} | ({"continue": more, "remainingItemCount": 3} if more else {})
    listed = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return go({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": listed}) + b"\n"


def test_a_page_keeps_annotated_and_known_pods() -> None:
    body = page(ours("a", "uid-a"), pod("b", "uid-b"), pod("c", "uid-c", ownerReferences=[OWNER]), more="token")
    sifted = sift_page(body, prefix=PREFIX, known=Known({"uid-c"}))
    assert sifted.uids == {"uid-a", "uid-c"}
    assert not sifted.last
    kept = json.loads(sifted.body)
    assert [item["metadata"]["name"] for item in kept["items"]] == ["a", "c"]
    assert kept["metadata"] == json.loads(body)["metadata"]


def test_the_last_page_says_so() -> None:
    assert sift_page(page(), prefix=PREFIX, known=Known()).last
    assert sift_page(page(pod("a", "uid-a")), prefix=PREFIX, known=Known()).last


def test_a_null_list_is_an_empty_list() -> None:
    """A Go server may write `null` for an empty slice, which kopf would try to iterate."""
    sifted = sift_page(b'{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":null}', prefix=PREFIX, known=Known())
    assert json.loads(sifted.body)["items"] == []


def test_a_page_in_another_form_passes_whole() -> None:
    body = json.dumps(json.loads(page(pod("a", "uid-a"), ours("b", "uid-b"))), indent=2).encode()
    sifted = sift_page(body, prefix=PREFIX, known=Known())
    assert sifted.body == body
    assert sifted.uids == {"uid-a", "uid-b"}


def test_with_filtering_off_a_page_passes_whole() -> None:
    body = page(pod("a", "uid-a"))
    assert sift_page(body, prefix=PREFIX, known=Known(), filtering=False).body == body


@given(st.lists(bodies, max_size=8), st.frozensets(uids))
@settings(deadline=None)
def test_a_page_never_loses_what_matters(items: list[dict[str, Any]], tracked: frozenset[str]) -> None:
    sifted = sift_page(page(*items), prefix=PREFIX, known=Known(tracked))
    kept = json.loads(sifted.body)["items"]
    for item in items:
        metadata = item["metadata"]
        if metadata["uid"] in tracked or any(key.startswith("registry-status.io/") for key in metadata.get("annotations", {})):
            assert {key: value for key, value in item.items() if key not in ("kind", "apiVersion")} in kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"1"},"items":[7]}',
        b'{"metadata":{"resourceVersion":"1"},"items":{}}',
        b'{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{}}]}',
        page(ours("a", "uid-a"), pod("b", "uid-b"))[:-20],
    ],
)
def test_what_is_no_list_of_pods_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedPageError):
        sift_page(body, prefix=PREFIX, known=Known())
