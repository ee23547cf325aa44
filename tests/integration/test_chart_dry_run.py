"""The chart and the manifests before a real API server: it takes every object, and grants what is needed and no more.

No kubelet runs here; tests/e2e lets the operator live on what the chart makes.
"""

import asyncio
import json
import shlex
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import yaml

from registry_status.cluster.access import load_access
from registry_status.cluster.api import ApiServer
from registry_status.cluster.lease import RETRY, Elector, LeaseRef
from registry_status.cluster.rights import Need, Use, find_lacks, needed_rights
from registry_status.config import Settings
from tests.charts.golden import VARIANTS
from tests.charts.rendering import ADDRESS, BASE, CHART, DEMO, ROOT, Chart, Object, kind, objects, one
from tests.cluster import levels, tools
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import Kube
from tests.cluster.processes import CommandError
from tests.docs.pages import Page
from tests.integration import crds

WATCH_RIGHTS = {("pods", "get"), ("pods", "list"), ("pods", "watch")}
EVENT_RIGHTS = {("events", "create"), ("events", "get"), ("events", "patch")}
LEASES = "leases.coordination.k8s.io"
LEASE_RIGHTS = {(LEASES, "create"), (LEASES, "get"), (LEASES, "update")}
Rights = set[tuple[str, str]]


@pytest.fixture
def kube(control_plane: ControlPlane) -> Kube:
    return control_plane.kube


@pytest.fixture(scope="module", autouse=True)
def chart(request: pytest.FixtureRequest) -> Chart:
    """The chart, and the Helm that all tests here need."""
    if why := tools.why_not("helm"):
        levels.not_run(request.config, "integration", why)
    return Chart(tools.program("helm"))


@pytest.fixture
def namespace(kube: Kube) -> str:
    return new_namespace(kube, "chart")


@pytest.fixture
def release(kube: Kube, namespace: str) -> Iterator[str]:
    """The name of a release that is gone afterwards."""
    yield "status"
    kube.helm("uninstall", "status", "--namespace", namespace, "--ignore-not-found")


def new_namespace(kube: Kube, what: str, **labels: str) -> str:
    name = f"{what}-{uuid.uuid4().hex[:8]}"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return name


def dry_run(kube: Kube, documents: list[Object]) -> list[str]:
    """Let the API server check the objects, strictly: unknown fields are errors. Return the names of those it took."""
    words = ("apply", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    return kube.kubectl(*words, input=yaml.safe_dump_all(documents)).split()


@pytest.fixture(scope="module")
def monitored(control_plane: ControlPlane) -> Iterator[Kube]:
    """A cluster with the custom resources of the Prometheus Operator and the External Secrets Operator."""
    kube = control_plane.kube
    kube.apply(*crds.definitions())
    for name in crds.names():
        kube.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    yield kube
    kube.kubectl("delete", "crd", *crds.names())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_object_of_a_variant_is_taken(monitored: Kube, chart: Chart, name: str) -> None:
    rendered = chart.render(VARIANTS[name], tests=True)
    for space in {document["metadata"].get("namespace", "system") for document in rendered}:
        monitored.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    assert len(dry_run(monitored, rendered)) == len(rendered)


@pytest.mark.parametrize("what", ["ServiceMonitor", "PrometheusRule", "NetworkPolicy", "Lease"])
def test_a_field_in_the_wrong_place_would_not_be(monitored: Kube, chart: Chart, namespace: str, what: str) -> None:
    values = VARIANTS["prometheus"] | VARIANTS["network-policy"]
    found = one(chart.render(values, namespace=namespace), what)
    assert len(dry_run(monitored, [found])) == 1
    found.setdefault("spec", {})["selectors"] = {}
    with pytest.raises(CommandError, match="selectors"):
        dry_run(monitored, [found])


def test_an_unknown_field_would_not_be(kube: Kube, chart: Chart, namespace: str) -> None:
    rendered = chart.render(namespace=namespace)
    one(rendered, "Deployment")["spec"]["replcas"] = 1
    with pytest.raises(CommandError, match="replcas"):
        dry_run(kube, rendered)


@pytest.mark.parametrize("folder", [BASE, DEMO], ids=["base", "demo"])
def test_every_object_of_the_manifests_is_taken(kube: Kube, folder: Any) -> None:
    built = objects(kube.kubectl("kustomize", folder))
    for each in kind(built, "Namespace"):  # a dry run makes none for what comes after
        kube.apply(each)
    assert len(dry_run(kube, built)) == len(built)


@pytest.mark.parametrize("what", ["chart", "base", "demo"])
def test_pods_are_admitted_where_the_restricted_standard_is_enforced(kube: Kube, chart: Chart, what: str) -> None:
    restricted = new_namespace(kube, "restricted", **{"pod-security.kubernetes.io/enforce": "restricted"})
    rendered = chart.render() if what == "chart" else objects(kube.kubectl("kustomize", BASE if what == "base" else DEMO))
    for deployment in kind(rendered, "Deployment"):
        name = deployment["metadata"]["name"]
        meta = {"name": name, "namespace": restricted}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": deployment["spec"]["template"]["spec"]}
        assert dry_run(kube, [pod]) == [f"pod/{name}"]
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(CommandError, match="violates PodSecurity"):
            dry_run(kube, [pod])


class TestRights:
    """What the API server itself says that the service account may do."""

    def test_in_the_whole_cluster(self, kube: Kube, namespace: str, release: str, control_plane: ControlPlane) -> None:
        operator, nobody = self.accounts(control_plane, namespace, release)
        other = new_namespace(kube, "other")
        extra = {space: rights(operator, space) - rights(nobody, space) for space in (namespace, other)}
        assert extra == {namespace: WATCH_RIGHTS | EVENT_RIGHTS | LEASE_RIGHTS, other: WATCH_RIGHTS | EVENT_RIGHTS}

    def test_in_some_namespaces(self, kube: Kube, namespace: str, release: str, control_plane: ControlPlane) -> None:
        watched, other = new_namespace(kube, "watched"), new_namespace(kube, "other")
        operator, nobody = self.accounts(control_plane, namespace, release, f"watch.namespaces={{{watched}}}")
        extra = {space: rights(operator, space) - rights(nobody, space) for space in (watched, namespace, other)}
        assert extra == {watched: WATCH_RIGHTS | EVENT_RIGHTS, namespace: EVENT_RIGHTS | LEASE_RIGHTS, other: set()}

    def test_of_leases_only_its_own(self, kube: Kube, namespace: str, release: str, control_plane: ControlPlane) -> None:
        operator, _ = self.accounts(control_plane, namespace, release)
        lease = f"{LEASES}/{release}-registry-status-operator-leader"
        for question in (("get", lease), ("update", lease), ("create", LEASES)):
            assert operator.kubectl("auth", "can-i", *question, "-n", namespace) == "yes\n"
        for question in (("get", f"{LEASES}/other"), ("update", f"{LEASES}/other"), ("delete", lease), ("list", LEASES)):
            with pytest.raises(CommandError, match="no"):
                operator.kubectl("auth", "can-i", *question, "-n", namespace)

    def test_are_what_the_operator_asks_for_at_its_start(
        self, namespace: str, release: str, control_plane: ControlPlane
    ) -> None:
        """It finds nothing missing, and says what is when the chart's roles are not there."""
        operator, nobody = self.accounts(control_plane, namespace, release)
        lease = LeaseRef(namespace, f"{release}-registry-status-operator-leader")
        for who, lacking in ((operator, []), (nobody, [Use.PODS, Use.EVENTS, Use.LEASE])):
            assert asyncio.run(lacks(who, needed_rights(Settings(), lease))) == lacking

    def test_can_ask_for_its_own_rights_and_use_them(self, namespace: str, release: str, control_plane: ControlPlane) -> None:
        operator, _ = self.accounts(control_plane, namespace, release)
        assert ("selfsubjectaccessreviews.authorization.k8s.io", "create") in rights(operator, namespace)
        for question in ("list pods", "watch pods", "create events", "patch events", "get events"):
            assert operator.kubectl("auth", "can-i", *question.split(), "--all-namespaces") == "yes\n"
        everything = ("get", "pods", "--all-namespaces", "-o", "name")
        assert operator.kubectl(*everything) == control_plane.kube.kubectl(*everything)
        for question in ("patch pods", "list secrets", "list nodes", "delete pods", "list events", "get configmaps"):
            with pytest.raises(CommandError, match="no"):
                operator.kubectl("auth", "can-i", *question.split(), "--all-namespaces")

    @staticmethod
    def accounts(control_plane: ControlPlane, namespace: str, release: str, *values: str) -> tuple[Kube, Kube]:
        """Install the chart; return the API as the operator sees it, and as an account without any grant does."""
        kube = control_plane.kube
        install(kube, namespace, release, *values)
        kube.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
        account = f"{release}-registry-status-operator"
        return control_plane.service_account(namespace, account), control_plane.service_account(namespace, "nobody")


async def lacks(kube: Kube, needs: Sequence[Need]) -> list[Use]:
    async with ApiServer(await load_access(kube.kubeconfig, None, {})) as api:
        return [lack.need.use for lack in await find_lacks(api, needs)]


def rights(kube: Kube, namespace: str) -> Rights:
    """Ask the API server for all that somebody may do in a namespace."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    words = ("create", "--validate=false", "-o", "json", "-f", "-")  # kubectl's validation would need more rights
    answer = json.loads(kube.kubectl(*words, input=json.dumps(review)))
    assert not answer["status"]["incomplete"]
    return {
        (f"{resource}.{group}".rstrip("."), verb)
        for rule in answer["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def install(kube: Kube, namespace: str, release: str, *values: str, verb: str = "install") -> str:
    sets = [word for value in (f"registry.addresses={{{ADDRESS}}}", *values) for word in ("--set", value)]
    return kube.helm(verb, release, CHART, "--namespace", namespace, *sets)


def test_install_upgrade_rollback_uninstall_leave_nothing_behind(kube: Kube, namespace: str, release: str) -> None:
    everything = ("networkPolicy.enabled=true", "monitoring.dashboard.enabled=true")
    assert "kubectl describe pod POD" in install(kube, namespace, release, *everything)
    before = left(kube, namespace, release)
    assert len(before) == 11
    install(kube, namespace, release, "registry.project=shop", f"watch.namespaces={{{namespace}}}", verb="upgrade")
    assert left(kube, namespace, release) != before
    kube.helm("rollback", release, "1", "--namespace", namespace)
    assert left(kube, namespace, release) == before
    kube.helm("uninstall", release, "--namespace", namespace)
    assert left(kube, namespace, release) == []


def test_without_a_registry_nothing_is_installed(kube: Kube, namespace: str, release: str) -> None:
    with pytest.raises(CommandError, match=r"registry\.addresses is empty: name your Service Center"):
        kube.helm("install", release, CHART, "--namespace", namespace)
    assert left(kube, namespace, release) == []


class Led:
    """Waits for its elector to lead."""

    def __init__(self) -> None:
        self.leads = asyncio.Event()

    def led(self) -> None:
        self.leads.set()

    def lost(self) -> None:
        self.leads.clear()


class TestLease:
    """The chart makes the Lease and takes it away again; who holds it is the operators' business."""

    def test_is_taken_and_no_upgrade_takes_it_away(self, namespace: str, release: str, control_plane: ControlPlane) -> None:
        kube = control_plane.kube
        operator = self.operator(control_plane, namespace, release)
        asyncio.run(self.lead(operator, namespace, release))
        held = self.lease(kube, namespace)
        assert held["spec"]["holderIdentity"] == "first"
        install(kube, namespace, release, "commonLabels.team=platform", "replicaCount=3", verb="upgrade")
        upgraded = self.lease(kube, namespace)
        assert upgraded["metadata"]["labels"]["team"] == "platform"
        assert upgraded["spec"] == held["spec"]
        kube.helm("rollback", release, "1", "--namespace", namespace)
        rolled_back = self.lease(kube, namespace)
        assert "team" not in rolled_back["metadata"]["labels"]
        assert rolled_back["spec"] == held["spec"]

    def test_is_the_releases_with_one_replica_as_with_several(self, kube: Kube, namespace: str, release: str) -> None:
        for verb, count in (("install", 2), ("upgrade", 1), ("upgrade", 2)):
            install(kube, namespace, release, f"replicaCount={count}", verb=verb)
            assert self.lease(kube, namespace)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"

    def test_that_an_operator_made_is_handed_over_as_the_docs_say(self, kube: Kube, namespace: str, release: str) -> None:
        install(kube, namespace, release, "leaderElection.createLease=false")
        name = f"{release}-registry-status-operator-leader"
        spec = {"holderIdentity": "first", "leaseDurationSeconds": 6}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
        kube.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(lease))
        with pytest.raises(CommandError, match="invalid ownership metadata"):
            install(kube, namespace, release, verb="upgrade")
        told = Page(ROOT / "docs" / "operations.md")
        for line in [line for block in told.blocks for line in block.commands if " lease " in line]:
            own = line.replace("registry-status-operator-leader", name).replace("registry-status-system", namespace)
            own = own.replace("release-name=registry-status-operator", f"release-name={release}")
            kube.kubectl(*shlex.split(own)[1:])
        install(kube, namespace, release, verb="upgrade")
        assert self.lease(kube, namespace)["spec"] == spec

    def test_is_gone_with_the_release_though_its_leader_still_renews_it(
        self, namespace: str, release: str, control_plane: ControlPlane
    ) -> None:
        operator = self.operator(control_plane, namespace, release)

        async def uninstall_under_it() -> None:
            async with ApiServer(await load_access(operator.kubeconfig, None, {})) as api:
                elector, office = self.elector(api, namespace, release), Led()
                elector.begin(office)
                await asyncio.wait_for(office.leads.wait(), 15)
                await asyncio.to_thread(control_plane.kube.helm, "uninstall", release, "--namespace", namespace)
                await asyncio.sleep(3 * RETRY)  # it finds it gone, and would make it anew
                await elector.resign()

        asyncio.run(uninstall_under_it())
        assert left(control_plane.kube, namespace, release) == []
        assert control_plane.kube.get("leases", namespace=namespace)["items"] == []

    async def lead(self, operator: Kube, namespace: str, release: str) -> None:
        """Lead once, and die without a word."""
        async with ApiServer(await load_access(operator.kubeconfig, None, {})) as api:
            office = Led()
            elector = self.elector(api, namespace, release)
            elector.begin(office)
            await asyncio.wait_for(office.leads.wait(), 15)

    @staticmethod
    def elector(api: ApiServer, namespace: str, release: str) -> Elector:
        return Elector(api, LeaseRef(namespace, f"{release}-registry-status-operator-leader"), "first")

    @staticmethod
    def operator(control_plane: ControlPlane, namespace: str, release: str) -> Kube:
        """Install the chart; return the API as the operator sees it."""
        install(control_plane.kube, namespace, release)
        return control_plane.service_account(namespace, f"{release}-registry-status-operator")

    @staticmethod
    def lease(kube: Kube, namespace: str) -> Object:
        (found,) = kube.get("leases", namespace=namespace)["items"]
        lease: Object = found
        return lease


def left(kube: Kube, namespace: str, release: str) -> list[str]:
    """Name all objects of the release, wherever they are."""
    kinds = (
        "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,configmaps,pods,"
        "poddisruptionbudgets,leases,networkpolicies"
    )
    selector = f"app.kubernetes.io/instance={release}"
    everywhere = kube.get(kinds, "--all-namespaces", "--selector", selector)["items"]
    of_release = [item for item in everywhere if namespace in (item["metadata"].get("namespace"), *name_parts(item))]
    return sorted(f"{item['kind']} {item['metadata']['name']}" for item in of_release)


def name_parts(item: Object) -> list[str]:
    return str(item["metadata"]["name"]).split(":")
