"""What annotations may say, and what is told of those that may not."""

import pytest

from registry_status.config import Settings
from registry_status.model import MatchMode, Reason, ServiceName, Target, Tenant
from registry_status.pods.annotations import KNOWN
from registry_status.pods.status import desired
from tests.pods import pod

TENANT = Tenant()


def target(annotations: dict[str, str], **settings: object) -> Target | None:
    return desired(pod(annotations), Settings(**settings)).target  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"service-id": "svc-1"}, Target(TENANT, service_id="svc-1")),
        ({"service": "cart"}, Target(TENANT, service=ServiceName("cart"))),
        (
            {"service": "cart", "app": "shop", "environment": "testing", "version": "1.0.0"},
            Target(TENANT, service=ServiceName("cart", "shop", "testing", "1.0.0")),
        ),
        ({"service": "cart", "environment": ""}, Target(TENANT, service=ServiceName("cart"))),
        ({"service-id": "s", "instance-id": "fixed"}, Target(TENANT, service_id="s", instance_id="fixed")),
        ({"service-id": "s", "instance-id": "{pod.name}"}, Target(TENANT, service_id="s", instance_id="cart-1")),
        (
            {"service-id": "s", "instance-id": "{pod.namespace}.{pod.name}.{pod.uid}"},
            Target(TENANT, service_id="s", instance_id="shop.cart-1.uid-1"),
        ),
        (
            {"service-id": "s", "instance-id": "{pod.ip}_{node.name}"},
            Target(TENANT, service_id="s", instance_id="10.244.0.7_node-1"),
        ),
        ({"service-id": "s", "match": "endpoint"}, Target(TENANT, service_id="s", match=MatchMode.ENDPOINT)),
        ({"service-id": "s", "project": "default", "domain": "default"}, Target(TENANT, service_id="s")),
    ],
)
def test_valid_annotations_name_a_target(annotations: dict[str, str], expected: Target) -> None:
    assert target(annotations) == expected


def test_a_key_that_does_not_exist_is_told_so_and_its_value_is_not() -> None:
    (found,) = desired(pod({"service": "cart", "pasword": "hunter2"}), Settings()).problems
    assert str(found).startswith("registry-status.io/pasword: there is no such key; allowed: the keys service-id, service,")
    assert "hunter2" not in str(found)


def test_a_key_that_is_missing_is_told_so() -> None:
    (found,) = desired(pod({"app": "shop"}), Settings()).problems
    assert str(found).startswith("registry-status.io/service: it is missing; allowed: `service` with letters")


def test_an_empty_value_is_told_as_what_it_is() -> None:
    (found,) = desired(pod({"service": ""}), Settings()).problems
    assert str(found).startswith("registry-status.io/service: '' is not allowed; allowed: letters")


@pytest.mark.parametrize(
    ("annotations", "own_class", "why"),
    [
        ({}, "", "no annotations registry-status.io/*"),
        (
            {"service": "cart", "class": "blue"},
            "",
            "annotation registry-status.io/class says 'blue', and this operator serves pods without a class",
        ),
        (
            {"service": "cart"},
            "blue",
            "annotation registry-status.io/class says '', and this operator serves pods of class 'blue'",
        ),
    ],
)
def test_why_a_pod_is_not_managed_is_told(annotations: dict[str, str], own_class: str, why: str) -> None:
    answer = desired(pod(annotations), Settings(operator_class=own_class))
    assert (answer.reason, answer.message) == (Reason.NOT_MANAGED, why)


def test_a_template_waits_for_what_the_pod_does_not_have_yet() -> None:
    answer = desired(pod({"service-id": "s", "instance-id": "{pod.ip}"}, ip=""), Settings()).target
    assert answer is not None
    assert answer.pending
    assert answer.instance_id is None


BAD = [
    ({"instance-id": "x"}, "service", "service-id"),
    ({"service-id": ""}, "service-id", "1 to 64"),
    ({"service-id": "a/b"}, "service-id", "1 to 64"),
    ({"service-id": ".."}, "service-id", "dots"),
    ({"service-id": "x" * 65}, "service-id", "1 to 64"),
    ({"service-id": "a\r\nx-domain-name: other"}, "service-id", "1 to 64"),
    ({"service-id": "s", "service": "cart"}, "service", "service-id"),
    ({"service-id": "s", "version": "1.0"}, "version", "service-id"),
    ({"service": "../x"}, "service", "letters"),
    ({"service": "cart", "version": "latest"}, "version", "1.0.0"),
    ({"service": "cart", "app": "a b"}, "app", "letters"),
    ({"service": "cart", "environment": "ä"}, "environment", "letters"),
    ({"service": "cart", "environment": "e" * 129}, "environment", "at most 128"),
    ({"service": "cart", "version": "1.0.40000"}, "version", "1 to 4 numbers with dots, such as 1.0.0, each at most 32767"),
    ({"service": "cart", "version": "32768"}, "version", "each at most 32767"),
    ({"service-id": "s", "instance-id": ""}, "instance-id", "1 to 64"),
    ({"service-id": "s", "instance-id": "."}, "instance-id", "dots"),
    ({"service-id": "s", "instance-id": "a/../b"}, "instance-id", "1 to 64"),
    ({"service-id": "s", "instance-id": "{pod.label}"}, "instance-id", "{pod.name}"),
    ({"service-id": "s", "instance-id": "{pod.name"}, "instance-id", "1 to 64"),
    ({"service-id": "s", "instance-id": "{pod.name}" * 11}, "instance-id", "1 to 64"),
    ({"service-id": "s", "instance-id": "x", "match": "auto"}, "match", "instance-id"),
    ({"service-id": "s", "match": "luck"}, "match", "auto, property, endpoint, hostname"),
    ({"service-id": "s", "container": "nope"}, "container", "main"),
    ({"service-id": "s", "kubectl.kubernetes.io/default-container": "nope"}, "kubectl.kubernetes.io/default-container", "main"),
    ({"service-id": "s", "starting-status": "UP"}, "starting-status", "STARTING"),
    ({"service-id": "s", "not-ready-status": "up"}, "not-ready-status", "auto"),
    ({"service-id": "s", "terminating-status": "auto"}, "terminating-status", "DOWN"),
    ({"service-id": "s", "paused": "yes"}, "paused", "true, false"),
    ({"service-id": "s", "servce": "x"}, "servce", "service-id"),
    ({"service-id": "s", "project": "other"}, "project", "default"),
    ({"service-id": "s", "domain": "other"}, "domain", "default"),
    ({"service-id": "s", "domain": "a\r\nb"}, "domain", "letters"),
]


@pytest.mark.parametrize(
    ("annotations", "key", "allowed"), BAD, ids=[f"{row[1]}={list(row[0].values())[-1][:20]!r}" for row in BAD]
)
def test_a_wrong_annotation_is_named_with_value_and_allowed_form(annotations: dict[str, str], key: str, allowed: str) -> None:
    answer = desired(pod(annotations), Settings())
    assert (answer.status, answer.reason, answer.target) == (None, Reason.INVALID, None)
    found = next(problem for problem in answer.problems if problem.key.endswith(f"/{key.rsplit('/', maxsplit=1)[-1]}"))
    said = annotations.get(key, "") if key in KNOWN or "/" in key else ""  # what an unknown key says may be a password
    assert found.value.startswith(said[:100])
    assert bool(found.value) is bool(said)
    assert allowed in found.allowed
    assert found.key in answer.message


def test_a_wrong_match_beside_an_id_is_told_as_it_was_written() -> None:
    answer = desired(pod({"service-id": "s", "instance-id": "x", "match": "luck"}), Settings())
    assert [problem.value for problem in answer.problems] == ["luck", "luck"]
    assert "MatchMode" not in answer.message


def test_names_as_long_as_the_registry_takes_them_are_valid() -> None:
    found = target({"service": "cart", "environment": "e" * 128, "version": "32767.0.32767.1"})
    assert found is not None


def test_a_template_that_is_longer_than_any_needs_to_be_is_not_filled() -> None:
    template = "{pod.namespace}" * 18
    answer = desired(pod({"service-id": "s", "instance-id": template}, namespace="x"), Settings())
    assert [problem.key for problem in answer.problems] == ["registry-status.io/instance-id"]


def test_of_many_containers_the_first_are_named() -> None:
    names = tuple(f"c{number}" for number in range(12))
    (problem,) = desired(pod({"service-id": "s", "container": "x"}, containers=names), Settings()).problems
    assert problem.allowed == "one of the pod's containers: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more"


def test_of_very_many_problems_the_first_are_told() -> None:
    wrong = {f"key-{number:04}": "x" for number in range(5000)}
    answer = desired(pod({"service-id": "s", "match": "luck", **wrong}), Settings())
    assert [problem.key for problem in answer.problems] == [f"registry-status.io/key-{number:04}" for number in range(8)]


def test_every_problem_is_told_at_once() -> None:
    answer = desired(pod({"service-id": "s", "match": "luck", "paused": "maybe", "container": "x"}), Settings())
    assert {problem.key.partition("/")[2] for problem in answer.problems} == {"match", "paused", "container"}


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (("other",), True),
        (("oth*",), True),
        (("shop/other",), True),
        (("sh*/o*",), True),
        (("web/other",), False),
        (("x",), False),
    ],
)
def test_settings_allow_foreign_projects_by_namespace(patterns: tuple[str, ...], allowed: bool) -> None:
    answer = desired(pod({"service-id": "s", "project": "other"}), Settings(allowed_projects=patterns))
    assert (answer.target is not None) is allowed
    if answer.target is not None:
        assert answer.target.tenant == Tenant(project="other")


def test_the_prefix_is_a_setting() -> None:
    assert target({"corp.example/service-id": "s"}, annotation_prefix="corp.example") == Target(TENANT, service_id="s")
    assert target({"service-id": "s"}, annotation_prefix="corp.example") is None


def test_a_class_picks_its_operator() -> None:
    assert target({"service-id": "s", "class": "blue"}, operator_class="blue") is not None
    assert target({"service-id": "s"}, operator_class="blue") is None
