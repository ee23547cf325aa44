"""Events on a real API server: what `kubectl describe pod` shows, with the operator's rights and no others."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import new_client_from_config

from registry_status.model import InstanceStatus, Outcome, OutcomeKind, PodRef
from registry_status.pods.observation import observe
from registry_status.report.events import EventRecorder, KubernetesEventApi
from registry_status.report.metrics import Metrics
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube

RULES = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "get", "patch"]}]


class Desk:
    """A recorder on a real API server, with a clock that tests may put forward."""

    def __init__(self, api: KubernetesEventApi, operator: PodRef | None = None) -> None:
        self.offset = 0.0
        self.metrics = Metrics()
        self.recorder = EventRecorder(api, self.metrics, operator=operator, clock=self.clock, wall=self.wall)

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.offset

    def wall(self) -> float:
        return 1_767_225_600.0 + self.clock()

    async def report(self, kind: OutcomeKind, pod: PodRef, message: str) -> None:
        self.recorder.report(Outcome(pod, kind, InstanceStatus.UP, message))
        await self.recorder.drain(30)

    async def later(self, seconds: float) -> None:
        self.offset += seconds
        await self.recorder.drain(30)

    def dropped(self) -> dict[str, float]:
        families = [family for family in self.metrics.registry.collect() if family.name == "registry_status_events_dropped"]
        samples = [sample for family in families for sample in family.samples if sample.name.endswith("_total")]
        return {sample.labels["cause"]: sample.value for sample in samples}


@asynccontextmanager
async def desk(kubeconfig: Path, operator: PodRef | None = None) -> AsyncIterator[Desk]:
    client: ApiClient = await new_client_from_config(str(kubeconfig))
    async with client:

        async def factory() -> ApiClient:
            return client

        yield Desk(KubernetesEventApi(factory), operator)


@pytest.fixture
def kube(control_plane: ControlPlane) -> Kube:
    return control_plane.kube


@pytest.fixture
def namespace(kube: Kube) -> str:
    name = f"events-{uuid.uuid4().hex[:8]}"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
def pod(kube: Kube, namespace: str) -> PodRef:
    return make_pod(kube, namespace, "web-1")


@pytest.fixture
def operator(kube: Kube, namespace: str, control_plane: ControlPlane) -> Kube:
    """The API as an operator sees it that has its Events' rights only."""
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "operator"}, "rules": RULES},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"},
            "subjects": [subject],
        },
        namespace=namespace,
    )
    return control_plane.service_account(namespace, "operator")


def make_pod(kube: Kube, namespace: str, name: str) -> PodRef:
    containers = [{"name": "main", "image": "example.invalid/nothing"}]
    kube.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}}, namespace=namespace
    )
    made = kube.get("pod", name, namespace=namespace)
    return PodRef(made["metadata"]["uid"], namespace, name)


def described(kube: Kube, pod: PodRef) -> list[list[str]]:
    """The Events table of `kubectl describe pod`: type, reason, age, from, message."""
    text = kube.kubectl("describe", "pod", pod.name, "-n", pod.namespace)
    _, _, table = text.partition("\nEvents:")
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()[3:]]


async def test_describe_shows_one_warning_and_one_normal_when_it_recovered(operator: Kube, kube: Kube, pod: PodRef) -> None:
    async with desk(operator.kubeconfig) as at:
        await at.report(OutcomeKind.FAILING, pod, "UP could not be written: registry:30100 refuses connections")
        assert described(kube, pod) == []
        await at.later(6)
        for second in range(5):
            await at.report(OutcomeKind.FAILING, pod, f"another try {second}")
        ((kind, reason, _, source, message),) = described(kube, pod)
        assert (kind, reason, source) == ("Warning", "RegistryUpdateFailed", "registry-status-operator")
        assert message == "UP could not be written: registry:30100 refuses connections"
        await at.later(60)
        await at.report(OutcomeKind.DELIVERED, pod, "UP is in the registry")
        _, (kind, reason, _, _, message) = described(kube, pod)
        assert (kind, reason) == ("Normal", "RegistryUpdateRecovered")
        assert message == "After 66 s of RegistryUpdateFailed: UP is in the registry"
        assert at.dropped() == {}


async def test_describe_shows_the_events_of_a_static_pod(operator: Kube, kube: Kube, namespace: str) -> None:
    mirror = {"name": "static-node-1", "annotations": {"kubernetes.io/config.mirror": "6a1f33d2b3e9410c"}}
    spec = {"nodeName": "node-1", "containers": [{"name": "main", "image": "example.invalid/nothing"}]}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": mirror, "spec": spec}, namespace=namespace)
    static = observe(kube.get("pod", "static-node-1", namespace=namespace), "registry-status.io/").subject.ref
    async with desk(operator.kubeconfig) as at:
        await at.report(OutcomeKind.REJECTED, static, "the registry says no")
    ((kind, reason, _, _, message),) = described(kube, static)
    assert (kind, reason, message) == ("Warning", "RegistryUpdateFailed", "the registry says no")


async def test_repetitions_are_one_event_with_a_count(operator: Kube, kube: Kube, pod: PodRef) -> None:
    for _ in range(2):  # the second recorder knows nothing of the first
        async with desk(operator.kubeconfig) as at:
            for _ in range(2):
                await at.later(301)
                await at.report(OutcomeKind.REJECTED, pod, "the registry says no")
    (event,) = kube.get("events", namespace=pod.namespace)["items"]
    assert event["count"] == 4
    assert event["lastTimestamp"] > event["firstTimestamp"]
    assert event["involvedObject"]["uid"] == pod.uid
    assert event["type"] == "Warning"
    ((_, _, age, _, _),) = described(kube, pod)
    assert "(x4 over " in age


async def test_the_operators_pod_tells_of_an_outage(kube: Kube, namespace: str) -> None:
    own = make_pod(kube, namespace, "operator-1")
    pods = [make_pod(kube, namespace, f"web-{number}") for number in range(10)]
    async with desk(kube.kubeconfig, own) as at:
        for each in pods:
            at.recorder.report(Outcome(each, OutcomeKind.FAILING, InstanceStatus.UP, "registry:30100 refuses connections"))
        await at.later(6)
    ((kind, reason, _, _, message),) = described(kube, own)
    assert (kind, reason) == ("Warning", "RegistryUpdateFailed")
    assert message.startswith("10 pods or more cannot be brought up to date in the registry.")
    assert all(len(described(kube, each)) == 1 for each in pods[:2])


async def test_a_namespace_that_terminates_or_is_gone_is_no_error(
    kube: Kube, pod: PodRef, caplog: pytest.LogCaptureFixture
) -> None:
    kube.kubectl("delete", "namespace", pod.namespace, "--wait=false")  # nobody here finalises it: it terminates for ever
    caplog.set_level(logging.INFO)
    async with desk(kube.kubeconfig) as at:
        await at.report(OutcomeKind.REJECTED, pod, "the registry says no")
        await at.report(OutcomeKind.REJECTED, PodRef("uid", "never-was", "web-1"), "the registry says no")
        assert at.dropped() == {"namespace-gone": 2}
    assert caplog.records == []


async def test_missing_rights_are_told_once(operator: Kube, pod: PodRef, caplog: pytest.LogCaptureFixture) -> None:
    async with desk(operator.kubeconfig) as at:
        for number in range(3):
            await at.report(OutcomeKind.REJECTED, PodRef(f"uid-{number}", "kube-system", "web"), "the registry says no")
        assert at.dropped() == {"denied": 3}
        await at.report(OutcomeKind.REJECTED, pod, "the registry says no")
        assert at.dropped() == {"denied": 3}, "other namespaces go on"
    (line,) = caplog.records
    assert 'cannot create resource "events" in API group "" in the namespace "kube-system"' in line.getMessage()
    assert line.getMessage().endswith("; the operator needs create, get and patch on events")


async def test_the_longest_message_and_name_are_taken(kube: Kube, namespace: str) -> None:
    longest = make_pod(kube, namespace, ".".join(["a" * 62 + "9"] * 3 + ["b" * 61]))
    async with desk(kube.kubeconfig) as at:
        await at.report(OutcomeKind.INVALID, longest, "ü" * 5000)
        assert at.dropped() == {}
    (event,) = kube.get("events", namespace=namespace)["items"]
    assert len(event["message"].encode()) <= 1024


async def test_an_api_server_that_is_away_costs_nothing_but_the_event(unused_tcp_port: int, kube: Kube, tmp_path: Path) -> None:
    away = tmp_path / "kubeconfig"
    server = str(kube.document()["clusters"][0]["cluster"]["server"])
    away.write_text(kube.kubeconfig.read_text().replace(server, f"https://127.0.0.1:{unused_tcp_port}"))
    async with desk(away) as at:
        task = asyncio.create_task(at.recorder.run())
        at.recorder.report(Outcome(PodRef("uid", "shop", "web-1"), OutcomeKind.REJECTED, InstanceStatus.UP, "no"))
        await asyncio.sleep(0.2)
        assert not task.done()
        assert at.dropped() == {}, "it is still tried"
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
