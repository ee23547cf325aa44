from collections.abc import Callable
from typing import Any

import pytest

from registry_status.demo import store as store_module
from registry_status.demo.kinds import EVENTS, LEASES, NAMESPACES, PODS, ApiError
from registry_status.demo.selectors import everything, selector
from registry_status.demo.store import DeleteOptions, Store

MakePod = Callable[..., dict[str, Any]]
NO_OPTIONS = DeleteOptions()


@pytest.fixture
def bound(store: Store, pod: MakePod) -> dict[str, Any]:
    store.create(PODS, "shop", pod("cart"))
    return store.bind("shop", "cart", "node-1", [{"type": "PodScheduled", "status": "True"}])


def seen(store: Store, since: int, labels: str = "") -> list[tuple[str, str]]:
    news, _ = store.changes(PODS, "", selector(labels), since)
    return [(one.type, one.item["metadata"]["name"]) for one in news]


class TestCreating:
    def test_gives_what_the_server_gives_in_the_order_of_go(self, store: Store, pod: MakePod) -> None:
        created = store.create(PODS, "shop", pod("cart", labels={"app": "cart"}))
        assert list(created) == ["kind", "apiVersion", "metadata", "spec", "status"]
        assert list(created["metadata"]) == [
            "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "labels",
        ]  # fmt: skip
        assert created["metadata"]["creationTimestamp"] == "2026-09-21T14:13:20Z"
        assert created["metadata"]["resourceVersion"] == str(store.version)
        assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}

    def test_ignores_a_status_given_with_a_pod(self, store: Store, pod: MakePod) -> None:
        created = store.create(PODS, "shop", pod("cart") | {"status": {"phase": "Running"}})
        assert created["status"]["phase"] == "Pending"

    def test_refuses_a_name_that_is_taken(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("cart"))
        with pytest.raises(ApiError, match='pods "cart" already exists') as raised:
            store.create(PODS, "shop", pod("cart"))
        assert (raised.value.code, raised.value.reason) == (409, "AlreadyExists")

    def test_the_same_name_in_another_namespace_is_free(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("cart"))
        store.create(PODS, "default", pod("cart"))
        assert len(store.select(PODS)) == 2
        assert len(store.select(PODS, "shop")) == 1

    def test_makes_a_name_from_its_beginning(self, store: Store) -> None:
        created = store.create(EVENTS, "shop", {"metadata": {"generateName": "cart-"}, "reason": "Test"})
        assert created["metadata"]["name"].startswith("cart-0")

    @pytest.mark.parametrize(
        ("namespace", "metadata", "code"),
        [
            ("nowhere", {"name": "a"}, 404),
            ("shop", {}, 422),
            ("shop", {"name": "a", "namespace": "default"}, 400),
            ("shop", {"name": "a", "resourceVersion": "7"}, 400),
        ],
    )
    def test_refuses_what_makes_no_sense(self, store: Store, namespace: str, metadata: dict[str, Any], code: int) -> None:
        with pytest.raises(ApiError) as raised:
            store.create(EVENTS, namespace, {"metadata": metadata})
        assert raised.value.code == code

    def test_refuses_new_content_in_a_namespace_that_terminates(self, store: Store) -> None:
        shop = store.get(NAMESPACES, "", "shop")
        store.replace(NAMESPACES, "", "shop", shop | {"status": {"phase": "Terminating"}}, status=True)
        with pytest.raises(ApiError, match="because it is being terminated") as raised:
            store.create(EVENTS, "shop", {"metadata": {"name": "a"}})
        assert raised.value.code == 403
        assert raised.value.details["causes"][0]["reason"] == "NamespaceTerminating"


class TestReplacing:
    def test_each_change_has_a_higher_version(self, store: Store, bound: dict[str, Any]) -> None:
        changed = store.replace(PODS, "shop", "cart", bound | {"status": {"phase": "Running"}}, status=True)
        assert int(changed["metadata"]["resourceVersion"]) > int(bound["metadata"]["resourceVersion"])

    def test_nothing_new_is_no_change(self, store: Store, bound: dict[str, Any]) -> None:
        version = store.version
        assert store.replace(PODS, "shop", "cart", bound) == bound
        assert store.version == version

    def test_an_old_version_is_a_conflict(self, store: Store, bound: dict[str, Any]) -> None:
        store.replace(PODS, "shop", "cart", bound | {"status": {"phase": "Running"}}, status=True)
        with pytest.raises(ApiError, match="the object has been modified") as raised:
            store.replace(PODS, "shop", "cart", bound | {"status": {"phase": "Failed"}}, status=True)
        assert (raised.value.code, raised.value.reason) == (409, "Conflict")

    def test_another_uid_is_a_conflict(self, store: Store, bound: dict[str, Any]) -> None:
        other = bound | {"metadata": {"name": "cart", "uid": "other"}}
        with pytest.raises(ApiError, match="Precondition failed: UID") as raised:
            store.replace(PODS, "shop", "cart", other)
        assert raised.value.code == 409

    def test_a_lease_needs_a_version(self, store: Store) -> None:
        store.create(LEASES, "shop", {"metadata": {"name": "lead"}, "spec": {}})
        with pytest.raises(ApiError, match="must be specified for an update") as raised:
            store.replace(LEASES, "shop", "lead", {"metadata": {"name": "lead"}, "spec": {"holderIdentity": "me"}})
        assert raised.value.code == 422

    def test_the_status_changes_by_its_subresource_only(self, store: Store, bound: dict[str, Any]) -> None:
        changed = bound | {"spec": bound["spec"] | {"priority": 7}, "status": {"phase": "Running"}}
        by_body = store.replace(PODS, "shop", "cart", changed)
        assert (by_body["spec"]["priority"], by_body["status"]["phase"]) == (7, "Pending")
        assert by_body["metadata"]["generation"] == 2
        mixed = by_body | {"spec": {}, "status": {"phase": "Running"}}
        by_status = store.replace(PODS, "shop", "cart", mixed, status=True)
        assert (by_status["spec"]["priority"], by_status["status"]["phase"]) == (7, "Running")

    def test_what_was_read_before_does_not_change(self, store: Store, bound: dict[str, Any]) -> None:
        store.replace(PODS, "shop", "cart", bound | {"status": {"phase": "Running"}}, status=True)
        assert bound["status"]["phase"] == "Pending"


class TestPages:
    @pytest.fixture
    def five(self, store: Store, pod: MakePod) -> Store:
        for name in ("e", "c", "a", "d", "b"):
            store.create(PODS, "shop", pod(name))
        return store

    def names(self, store: Store, limit: int) -> list[list[str]]:
        found: list[list[str]] = []
        token = ""
        while not found or token:
            page = store.page(PODS, "", everything, limit, token)
            found.append([item["metadata"]["name"] for item in page.items])
            token = page.token
        return found

    def test_follow_each_other_in_order(self, five: Store) -> None:
        assert self.names(five, 2) == [["a", "b"], ["c", "d"], ["e"]]
        assert self.names(five, 5) == [["a", "b", "c", "d", "e"]]
        assert self.names(five, 0) == [["a", "b", "c", "d", "e"]]

    def test_show_one_moment_whatever_happens_between(self, five: Store, pod: MakePod) -> None:
        first = five.page(PODS, "", everything, 2)
        five.create(PODS, "shop", pod("cc"))
        five.delete(PODS, "shop", "d", NO_OPTIONS)
        changed = five.get(PODS, "shop", "e") | {"status": {"phase": "Running"}}
        five.replace(PODS, "shop", "e", changed, status=True)
        rest = five.page(PODS, "", everything, 0, first.token)
        assert [item["metadata"]["name"] for item in rest.items] == ["c", "d", "e"]
        assert rest.items[-1]["status"]["phase"] == "Pending"
        assert rest.version == first.version < five.version
        assert first.remaining == 3

    def test_expire_with_the_history(self, five: Store, pod: MakePod) -> None:
        first = five.page(PODS, "", everything, 2)
        five.create(PODS, "shop", pod("f"))
        five.compact()
        with pytest.raises(ApiError, match="too old") as raised:
            five.page(PODS, "", everything, 2, first.token)
        assert (raised.value.code, raised.value.reason) == (410, "Expired")

    def test_refuse_a_token_of_somebody_elses(self, five: Store) -> None:
        with pytest.raises(ApiError) as raised:
            five.page(PODS, "", everything, 2, "nonsense")
        assert raised.value.code == 400


class TestChanges:
    def test_are_those_after_a_version(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("a"))
        since = store.version
        store.create(PODS, "shop", pod("b"))
        store.create(EVENTS, "shop", {"metadata": {"name": "not-a-pod"}})
        assert seen(store, since) == [("ADDED", "b")]

    def test_tell_up_to_which_version_they_go(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("a"))
        store.create(EVENTS, "shop", {"metadata": {"name": "later"}})
        assert store.changes(PODS, "", everything, 0)[1] == store.version

    def test_before_a_compaction_are_forgotten(self, store: Store, pod: MakePod) -> None:
        since = store.version
        store.create(PODS, "shop", pod("a"))
        store.compact()
        with pytest.raises(ApiError, match="too old resource version") as raised:
            store.changes(PODS, "", everything, since)
        assert raised.value.code == 410
        assert seen(store, store.version) == []

    def test_are_kept_to_a_limit(self, store: Store, pod: MakePod, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_module, "HISTORY_LIMIT", 10)
        since = store.version
        for number in range(12):
            store.create(PODS, "shop", pod(f"p{number:02}"))
        with pytest.raises(ApiError):
            store.changes(PODS, "", everything, since)
        assert seen(store, store.version - 2) == [("ADDED", "p10"), ("ADDED", "p11")]

    def test_into_and_out_of_a_selection(self, store: Store, pod: MakePod) -> None:
        since = store.version
        created = store.create(PODS, "shop", pod("a", labels={"app": "cart"}))
        changed = created | {"metadata": created["metadata"] | {"labels": {"app": "other"}}}
        changed = store.replace(PODS, "shop", "a", changed)
        store.replace(PODS, "shop", "a", changed | {"metadata": changed["metadata"] | {"labels": {"app": "cart"}}})
        assert seen(store, since, "app=cart") == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
        assert seen(store, since, "app=none") == []

    def test_call_listeners_until_they_leave(self, store: Store, pod: MakePod) -> None:
        calls: list[int] = []
        leave = store.subscribe(lambda: calls.append(store.version))
        store.create(PODS, "shop", pod("a"))
        leave()
        store.create(PODS, "shop", pod("b"))
        assert calls == [store.version - 1]


class TestDeleting:
    def test_marks_a_pod_on_a_node_and_waits_for_its_kubelet(self, store: Store, bound: dict[str, Any]) -> None:
        since = store.version
        marked = store.delete(PODS, "shop", "cart", NO_OPTIONS)["metadata"]
        assert marked["deletionTimestamp"] == "2026-09-21T14:13:24Z"
        assert (marked["deletionGracePeriodSeconds"], marked["generation"]) == (4, bound["metadata"]["generation"] + 1)
        store.delete(PODS, "shop", "cart", DeleteOptions(grace_seconds=0))
        assert seen(store, since) == [("MODIFIED", "cart"), ("MODIFIED", "cart"), ("DELETED", "cart")]
        with pytest.raises(ApiError, match="not found"):
            store.get(PODS, "shop", "cart")

    def test_the_last_state_has_the_deletions_version(self, store: Store, bound: dict[str, Any]) -> None:
        store.delete(PODS, "shop", "cart", DeleteOptions(grace_seconds=0))
        news, version = store.changes(PODS, "", everything, int(bound["metadata"]["resourceVersion"]))
        assert news[-1].type == "DELETED"
        assert news[-1].item["metadata"]["resourceVersion"] == str(version)
        assert news[-1].item["metadata"]["deletionGracePeriodSeconds"] == 0

    @pytest.mark.usefixtures("bound")
    def test_a_second_request_only_shortens(self, store: Store) -> None:
        marked = store.delete(PODS, "shop", "cart", NO_OPTIONS)
        assert store.delete(PODS, "shop", "cart", DeleteOptions(grace_seconds=9)) == marked
        shorter = store.delete(PODS, "shop", "cart", DeleteOptions(grace_seconds=1))["metadata"]
        assert (shorter["deletionGracePeriodSeconds"], shorter["generation"]) == (1, marked["metadata"]["generation"])

    def test_a_pod_without_a_node_goes_at_once(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("cart"))
        since = store.version
        store.delete(PODS, "shop", "cart", NO_OPTIONS)
        assert seen(store, since) == [("MODIFIED", "cart"), ("DELETED", "cart")]

    def test_a_finished_pod_goes_at_once(self, store: Store, bound: dict[str, Any]) -> None:
        store.replace(PODS, "shop", "cart", bound | {"status": {"phase": "Succeeded"}}, status=True)
        store.delete(PODS, "shop", "cart", NO_OPTIONS)
        assert store.select(PODS) == []

    def test_finalizers_hold_an_object_until_the_last_is_gone(self, store: Store, pod: MakePod) -> None:
        store.create(PODS, "shop", pod("cart", finalizers=["example/hold"]))
        held = store.delete(PODS, "shop", "cart", NO_OPTIONS)
        assert held["metadata"]["deletionTimestamp"]
        assert store.get(PODS, "shop", "cart") == held
        store.replace(PODS, "shop", "cart", held | {"metadata": held["metadata"] | {"finalizers": []}})
        assert store.select(PODS) == []

    @pytest.mark.parametrize("options", [DeleteOptions(uid="other"), DeleteOptions(version="1")])
    @pytest.mark.usefixtures("bound")
    def test_preconditions_protect_another_object(self, store: Store, options: DeleteOptions) -> None:
        with pytest.raises(ApiError) as raised:
            store.delete(PODS, "shop", "cart", options)
        assert raised.value.code == 409

    def test_other_kinds_go_without_a_goodbye(self, store: Store) -> None:
        store.create(LEASES, "shop", {"metadata": {"name": "lead"}})
        store.delete(LEASES, "shop", "lead", NO_OPTIONS)
        assert store.select(LEASES) == []
