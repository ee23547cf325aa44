"""What the chart makes of its values."""

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from registry_status.config import Settings, read_settings, variable
from registry_status.model import InstanceStatus
from tests.charts.rendering import ADDRESS, CHART, FULL, ROOT, Chart, Object, at, kind, one, settings
from tests.cluster.processes import CommandError, run

NOT_IN_A_CLUSTER = {"kubeconfig", "context"}
"""Settings for somebody's own machine: in a cluster, the operator speaks as its service account."""
LOGIN = {"registry_username", "registry_password_file"}
"""Settings that exclude FULL's access key."""
EXTERNAL = [{"secretKey": "password", "remoteRef": {"key": "registry"}}]
"""What an ExternalSecret fetches."""
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.fixture(scope="module")
def by_default(chart: Chart) -> list[Object]:
    return chart.render()


@pytest.fixture(scope="module")
def full(chart: Chart) -> list[Object]:
    return chart.render(FULL)


def read(environment: dict[str, str]) -> Settings:
    return read_settings(argparse.Namespace(), environment)


class TestHelm:
    @pytest.mark.parametrize("values", [{}, at("registry.project", "shop"), FULL], ids=["nothing set", "something set", "full"])
    def test_lint_finds_nothing(self, chart: Chart, values: dict[str, Any]) -> None:
        said = run(
            [chart.helm, "lint", "--strict", "--kube-version", "1.36.0", CHART, "--values", "-"], input=json.dumps(values)
        )
        assert "0 chart(s) failed" in said
        assert "[WARNING]" not in said
        assert "[ERROR]" not in said

    def test_versions_are_the_packages(self) -> None:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        about = yaml.safe_load((CHART / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (version, version)

    def test_without_a_registry_the_release_is_refused_by_the_values_name(self, chart: Chart) -> None:
        assert "registry.addresses is empty: name your Service Center" in chart.refusal(at("registry.addresses", []))

    @pytest.mark.parametrize("elsewhere", [
        {"extraEnv": [{"name": "REGISTRY_STATUS_REGISTRY_ADDRESS", "value": ADDRESS}]},
        {"extraEnvFrom": [{"configMapRef": {"name": "settings"}}]},
    ])  # fmt: skip
    def test_the_registry_may_be_named_in_the_environment(self, chart: Chart, elsewhere: dict[str, Any]) -> None:
        assert chart.render(at("registry.addresses", []) | elsewhere)

    def test_works_as_a_dependency_of_another_chart(self, chart: Chart, tmp_path: Path) -> None:
        parent = tmp_path / "parent"
        (parent / "charts").mkdir(parents=True)
        (parent / "charts" / "registry-status-operator").symlink_to(CHART)
        (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
        values = {"global": {"x": 1}, "registry-status-operator": {"enabled": True, "registry": {"addresses": [ADDRESS]}}}
        assert one(Chart(chart.helm, parent).render(values), "Deployment")


class TestSettings:
    def test_every_setting_can_be_reached(self, chart: Chart) -> None:
        names = {field.name for field in dataclasses.fields(Settings)} - NOT_IN_A_CLUSTER - LOGIN
        expected = {variable(name) for name in names}
        assert set(chart.settings(FULL)) == expected, "templates/_helpers.tpl lists the settings"

    def test_every_value_arrives(self, chart: Chart) -> None:
        read_back = read(chart.settings(FULL))
        expected = Settings(
            namespaces=("shop", "stock"),
            label_selector="registry-status=enabled,tier in (a, b)",
            leader_elect=True,
            lease_name="writer.lease",
            lease_namespace="leases",
            registry_address=("https://one.example:30100", "http://[fd00::1]:30100"),
            registry_project="shop",
            registry_domain="acme",
            allowed_projects=("team-*", "shop/legacy"),
            allowed_domains=("acme",),
            request_timeout=2.5,
            connect_timeout=1,
            concurrency=8,
            registry_access_key_file=Path("/etc/registry-status/auth/access-key"),
            registry_secret_key_file=Path("/etc/registry-status/auth/secret"),
            registry_access_key_project="gate",
            registry_ca_file=Path("/etc/registry-status/tls/authorities.pem"),
            registry_client_cert_file=Path("/etc/registry-status/tls/tls.crt"),
            registry_client_key_file=Path("/etc/registry-status/tls/tls.key"),
            annotation_prefix="status.example.org",
            operator_class="blue",
            terminating_status=InstanceStatus.OUTOFSERVICE,
            starting_status=InstanceStatus.DOWN,
            not_ready_status=type(read_back.not_ready_status).DOWN,
            trust_instance_ids=True,
            readiness_gate=True,
            resync_interval=3600,
            registration_window=0,
            dry_run=True,
            watch_filter=False,
            shard="2/3",
            listen=("::", 9090),
            report_updates=True,
            log_format=type(read_back.log_format).JSON,
            log_level=type(read_back.log_level).DEBUG,
        )
        unset = {field.name for field in dataclasses.fields(Settings) if getattr(expected, field.name) == field.default}
        assert unset == NOT_IN_A_CLUSTER | LOGIN, "FULL gives each setting a value that is not its default"
        assert read_back == expected

    @pytest.mark.parametrize("account", ["a$$b", "$(POD_NAME)", "a$b", "$"])
    def test_an_account_is_what_it_is_called_whatever_kubernetes_makes_of_a_dollar(self, chart: Chart, account: str) -> None:
        auth = {"username": account, "existingSecret": "login"}
        told = chart.settings(at("registry.auth", auth))["REGISTRY_STATUS_REGISTRY_USERNAME"]
        assert "$" not in told.replace("$$", ""), "each is escaped"
        assert told.replace("$$", "$") == account

    def test_an_account_logs_in_with_the_password_of_a_secret(self, chart: Chart) -> None:
        values = at("registry.auth", {"username": "operator", "existingSecret": "login"})
        told = read(chart.settings(values))
        assert {name: getattr(told, name) for name in LOGIN} == {
            "registry_username": "operator",
            "registry_password_file": Path("/etc/registry-status/auth/password"),
        }
        spec = one(chart.render(values), "Deployment")["spec"]["template"]["spec"]
        assert {"name": "registry-auth", "secret": {"secretName": "login"}} in spec["volumes"]
        mount = {"name": "registry-auth", "mountPath": "/etc/registry-status/auth", "readOnly": True}
        assert mount in spec["containers"][0]["volumeMounts"]

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            (at("registry.auth", {"username": "operator"}), "registry.auth.existingSecret"),
            (at("registry.auth", {"accessKeyKey": "ak"}), "registry.auth.existingSecret"),
            (at("registry.auth", {"username": "x", "accessKeyKey": "ak", "existingSecret": "s"}), "only one of them"),
            (at("registry.tls", {"certKey": "tls.crt"}), "registry.tls.existingSecret"),
            (at("registry.auth", {"existingSecret": "s"}), "set registry.auth.username or registry.auth.accessKeyKey"),
            (
                at("registry.auth.externalSecret", {"enabled": True, "storeName": "vault", "data": EXTERNAL}),
                "set registry.auth.username or registry.auth.accessKeyKey",
            ),
        ],
    )
    def test_incomplete_credentials_are_refused_by_name(self, chart: Chart, values: dict[str, Any], named: str) -> None:
        assert named in chart.refusal(values)

    @pytest.mark.parametrize("added", [
        {"extraEnv": [{"name": "REGISTRY_STATUS_REGISTRY_USERNAME", "value": "operator"}]},
        {"extraEnvFrom": [{"configMapRef": {"name": "settings"}}]},
        {"extraArgs": ["--registry-username=operator"]},
    ])  # fmt: skip
    def test_credentials_may_be_completed_by_what_the_user_adds(self, chart: Chart, added: dict[str, Any]) -> None:
        volumes = chart.pod(at("registry.auth", {"existingSecret": "login"}) | added)["volumes"]
        assert {"name": "registry-auth", "secret": {"secretName": "login"}} in volumes

    def test_what_the_user_sets_in_the_environment_takes_the_place_of_every_variable_of_ours(self, chart: Chart) -> None:
        login = at("registry.auth", {"username": "operator", "existingSecret": "login"})
        ours = {entry["name"] for values in (FULL, login) for entry in chart.container(values)["env"]} - {"TZ"}
        assert ours >= {variable(name) for name in LOGIN} | {"POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME"}
        theirs = [{"name": name, "value": "theirs"} for name in sorted(ours)]
        for values in (FULL, login):
            values = values | {"extraEnv": theirs}
            (check,) = chart.test_pod(values)["spec"]["containers"]
            assert chart.container(values)["env"] == check["env"] == theirs

    def test_variables_that_the_user_does_not_set_stay(self, chart: Chart) -> None:
        before = chart.container()["env"]
        theirs = {"name": "REGISTRY_STATUS_LOG_LEVEL", "value": "debug"}
        after = chart.container({"extraEnv": [theirs]})["env"]
        assert after == [*(entry for entry in before if entry["name"] != theirs["name"]), theirs]

    def test_the_defaults_are_the_operators(self, chart: Chart) -> None:
        elects: dict[str, Any] = {"leader_elect": True, "lease_name": "status-registry-status-operator-leader"}
        assert read(chart.settings()) == Settings(registry_address=(ADDRESS,), **elects)
        assert read(chart.settings({"replicaCount": 1})) == Settings(registry_address=(ADDRESS,))

    def test_a_value_set_to_null_leaves_it_to_the_operator(self, chart: Chart) -> None:
        values = at("pods.annotationPrefix", None) | {"delivery": {"resyncInterval": None}, "watch": {"namespaces": None}}
        assert read(chart.settings(values | {"replicaCount": 1})) == Settings(registry_address=(ADDRESS,))

    def test_port_and_probes_follow_the_setting(self, chart: Chart) -> None:
        container = chart.container(FULL)
        assert container["ports"] == [{"name": "http", "containerPort": 9090, "protocol": "TCP"}]
        assert {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")} == {"http"}


class TestPod:
    def test_says_who_it_is(self, chart: Chart) -> None:
        fields = {
            entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"]
            for entry in chart.container()["env"]
            if "valueFrom" in entry
        }
        assert fields == {
            "POD_NAME": "metadata.name",
            "POD_NAMESPACE": "metadata.namespace",
            "POD_UID": "metadata.uid",
            "NODE_NAME": "spec.nodeName",
        }

    def test_meets_the_restricted_standard(self, chart: Chart) -> None:
        for values in ({}, FULL):
            pod = chart.pod(values)
            assert pod["securityContext"] == {
                "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}
            }  # fmt: skip
            (container,) = pod["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
            }  # fmt: skip
            assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)

    def test_a_platform_that_picks_the_user_can(self, chart: Chart) -> None:
        pod = chart.pod({"podSecurityContext": {"runAsUser": None, "runAsGroup": None}})
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

    def test_is_probed(self, chart: Chart) -> None:
        container = chart.container()
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}

    @pytest.mark.parametrize("probe", PROBES)
    def test_a_probe_set_to_null_is_switched_off_and_no_other(self, chart: Chart, probe: str) -> None:
        container = chart.container({probe: None})
        assert {name for name in container if name.endswith("Probe")} == set(PROBES) - {probe}

    @pytest.mark.parametrize("probe", PROBES)
    def test_a_probe_without_any_timing_has_kubernetes_own(self, chart: Chart, probe: str) -> None:
        timing = dict.fromkeys(("periodSeconds", "timeoutSeconds", "failureThreshold"))
        assert chart.container({probe: {}})[probe] == chart.container()[probe], "Helm adds the defaults"
        assert set(chart.container({probe: timing})[probe]) == {"httpGet"}

    def test_no_stray_environment(self, chart: Chart) -> None:
        assert chart.pod()["enableServiceLinks"] is False

    def test_is_bounded(self, chart: Chart) -> None:
        resources = chart.container()["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}, "a CPU limit delays statuses"

    def test_has_time_to_deliver(self, chart: Chart) -> None:
        assert chart.pod()["terminationGracePeriodSeconds"] == 15

    @pytest.mark.parametrize(("image", "expected"), [
        ({}, "registry-status-operator:{version}"),
        ({"tag": "1.2.3"}, "registry-status-operator:1.2.3"),
        ({"repository": "r.example:5000/a/b", "tag": "x"}, "r.example:5000/a/b:x"),
        ({"digest": "sha256:" + "a" * 64}, "registry-status-operator@sha256:" + "a" * 64),
        ({"digest": "sha256:" + "a" * 64, "tag": "1.2.3"}, "registry-status-operator@sha256:" + "a" * 64),
    ])  # fmt: skip
    def test_image(self, chart: Chart, image: dict[str, str], expected: str) -> None:
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        assert chart.container({"image": image})["image"] == expected.format(version=version)

    def test_what_users_add_is_added(self, chart: Chart) -> None:
        pod = chart.pod(FULL)
        (container,) = pod["containers"]
        assert container["args"] == ["run", "--log-level=warning"]
        assert {"name": "TZ", "value": "UTC"} in container["env"]
        assert container["envFrom"] == FULL["extraEnvFrom"]
        assert container["imagePullPolicy"] == "Always"
        assert container["volumeMounts"] == [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "registry-auth", "mountPath": "/etc/registry-status/auth", "readOnly": True},
            {"name": "registry-tls", "mountPath": "/etc/registry-status/tls", "readOnly": True},
            *FULL["extraVolumeMounts"],
        ]
        assert [volume["name"] for volume in pod["volumes"]] == ["tmp", "registry-auth", "registry-tls", "ca"]
        same = (
            "imagePullSecrets", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName",
            "terminationGracePeriodSeconds", "hostAliases", "dnsConfig",
        )  # fmt: skip
        assert {name: pod[name] for name in same} == {name: FULL[name] for name in same}
        deployment = one(chart.render(FULL), "Deployment")
        assert deployment["metadata"]["annotations"] == FULL["deploymentAnnotations"]
        assert deployment["spec"]["revisionHistoryLimit"] == 3
        template = deployment["spec"]["template"]["metadata"]
        assert template["annotations"] == {"note": "x"}
        assert template["labels"].items() >= {"sidecar": "false", "team": "platform"}.items()


class TestReplicas:
    """Two never write at once: there is a Lease, or one replica that stops before the next one starts."""

    def test_are_two_by_default_and_replaced_one_after_the_other(self, by_default: list[Object]) -> None:
        deployment = one(by_default, "Deployment")["spec"]
        assert deployment["replicas"] == 2
        assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}

    @pytest.mark.parametrize("count", [0, 1])
    def test_a_single_one_has_no_election_no_budget_and_no_successor_beside_it(self, chart: Chart, count: int) -> None:
        rendered = chart.render({"replicaCount": count})
        deployment = one(rendered, "Deployment")["spec"]
        assert (deployment["replicas"], deployment["strategy"]) == (count, {"type": "Recreate"})
        assert "affinity" not in deployment["template"]["spec"]
        assert not kind(rendered, "PodDisruptionBudget") + kind(rendered, "Role")
        assert one(rendered, "Lease"), "it is there for the day when there are several: see templates/lease.yaml"
        told = chart.settings({"replicaCount": count})
        assert {name: value for name, value in told.items() if "LEA" in name} == {"REGISTRY_STATUS_LEADER_ELECT": "false"}

    def test_releases_share_no_lease(self, chart: Chart) -> None:
        env = [one(chart.render(release=release), "Deployment")["spec"]["template"]["spec"] for release in ("blue", "green")]
        names = {settings(pod["containers"][0]["env"])["REGISTRY_STATUS_LEASE_NAME"] for pod in env}
        assert names == {"blue-registry-status-operator-leader", "green-registry-status-operator-leader"}

    def test_one_at_a_time_may_be_drained(self, by_default: list[Object]) -> None:
        budget = one(by_default, "PodDisruptionBudget")["spec"]
        selector = one(by_default, "Deployment")["spec"]["selector"]
        assert budget == {"maxUnavailable": 1, "selector": selector}

    def test_the_budget_can_be_left_out(self, chart: Chart) -> None:
        assert not kind(chart.render(at("podDisruptionBudget.enabled", False)), "PodDisruptionBudget")

    def test_they_keep_away_from_each_others_nodes_if_they_can(self, chart: Chart, by_default: list[Object]) -> None:
        selector = one(by_default, "Deployment")["spec"]["selector"]
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
        assert chart.pod()["affinity"] == {
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
        }
        assert chart.pod({"antiAffinity": "hard"})["affinity"] == {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        }
        assert "affinity" not in chart.pod({"antiAffinity": "none"})

    def test_where_they_must_an_old_one_makes_room(self, chart: Chart) -> None:
        strategy = one(chart.render({"antiAffinity": "hard"}), "Deployment")["spec"]["strategy"]
        assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}

    def test_the_users_affinity_counts_too(self, chart: Chart) -> None:
        nodes: dict[str, Any] = FULL["affinity"]
        added = chart.pod({"affinity": nodes})["affinity"]
        assert set(added) == {"nodeAffinity", "podAntiAffinity"}
        assert added["nodeAffinity"] == nodes["nodeAffinity"]
        theirs: dict[str, Any] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
        assert chart.pod({"affinity": theirs})["affinity"] == theirs


class TestRights:
    WATCH: ClassVar = {("", "pods"): {"get", "list", "watch"}, ("", "events"): {"create", "get", "patch"}}
    EVENTS: ClassVar = {("", "events"): {"create", "get", "patch"}}
    GATED: ClassVar = WATCH | {("", "pods/status"): {"patch"}}

    @staticmethod
    def leases(documents: list[Object]) -> tuple[Object, Object]:
        """The Role for the Lease and its binding, taken out of the documents."""
        found = [document for document in documents if document["metadata"]["name"].endswith(":lease")]
        for document in found:
            documents.remove(document)
        role, binding = found
        assert (role["kind"], binding["kind"]) == ("Role", "RoleBinding")
        return role, binding

    @staticmethod
    def granted(role: Object) -> dict[tuple[str, str], set[str]]:
        assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in role["rules"])
        return {
            (group, resource): set(rule["verbs"])
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }

    def test_in_the_whole_cluster_they_are_the_least_set(self, by_default: list[Object]) -> None:
        role, binding = one(by_default, "ClusterRole"), one(by_default, "ClusterRoleBinding")
        assert self.granted(role) == self.WATCH
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        account = one(by_default, "ServiceAccount")["metadata"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]
        others = list(by_default)
        self.leases(others)
        assert not kind(others, "Role") + kind(others, "RoleBinding")

    @pytest.mark.parametrize(("values", "namespace", "name"), [
        ({}, "system", "status-registry-status-operator-leader"), (FULL, "leases", "writer.lease")
    ])  # fmt: skip
    def test_of_leases_it_gets_its_own(self, chart: Chart, values: dict[str, Any], namespace: str, name: str) -> None:
        rendered = chart.render(values)
        role, binding = self.leases(rendered)
        coordination = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
        assert role["rules"] == [
            coordination | {"verbs": ["create"]},
            coordination | {"resourceNames": [name], "verbs": ["get", "update"]},
        ]
        assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == namespace
        account = one(rendered, "ServiceAccount")["metadata"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": "system"}]
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]
        }  # fmt: skip

    def test_with_namespaces_they_end_there(self, full: list[Object]) -> None:
        assert not kind(full, "ClusterRole") + kind(full, "ClusterRoleBinding")
        full = list(full)
        self.leases(full)
        granted = {role["metadata"]["namespace"]: self.granted(role) for role in kind(full, "Role")}
        assert granted == {"shop": self.GATED, "stock": self.GATED, "system": self.EVENTS}, "its own pod gets events, too"
        bindings = kind(full, "RoleBinding")
        assert {binding["metadata"]["namespace"] for binding in bindings} == set(granted)
        for binding in bindings:
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "writer", "namespace": "system"}]
            assert binding["roleRef"]["kind"] == "Role"

    def test_of_pods_it_may_patch_the_status_only_where_it_sets_the_readiness_gate(self, chart: Chart) -> None:
        role = one(chart.render(at("pods.readinessGate", True)), "ClusterRole")
        assert self.granted(role) == self.GATED

    def test_its_own_namespace_may_be_one_of_them(self, chart: Chart) -> None:
        roles = kind(chart.render(at("watch.namespaces", ["shop", "system"]) | {"replicaCount": 1}), "Role")
        assert {role["metadata"]["namespace"]: self.granted(role) for role in roles} == {
            "shop": self.WATCH,
            "system": self.WATCH,
        }

    def test_releases_of_one_name_in_two_namespaces_share_no_role(self, chart: Chart) -> None:
        names = {one(chart.render(namespace=space), "ClusterRole")["metadata"]["name"] for space in ("blue", "green")}
        assert len(names) == 2

    def test_can_be_left_to_somebody_else(self, chart: Chart) -> None:
        rendered = chart.render({"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "theirs"}})
        assert {document["kind"] for document in rendered} == {"Deployment", "Service", "PodDisruptionBudget", "Lease"}
        assert one(rendered, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"

    def test_only_the_operators_pod_gets_the_token(self, by_default: list[Object]) -> None:
        assert one(by_default, "ServiceAccount")["automountServiceAccountToken"] is False
        assert one(by_default, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


class TestObjects:
    def test_no_finalizers_no_hooks_no_owners(self, by_default: list[Object], full: list[Object]) -> None:
        for document in by_default + full:
            assert not {"finalizers", "ownerReferences"} & set(document["metadata"])
            assert not any(name.startswith("helm.sh/hook") for name in document["metadata"].get("annotations", {}))

    def test_what_is_of_use_for_some_only_is_off_by_default(self, chart: Chart) -> None:
        assert {document["kind"] for document in chart.render(tests=True)} == {
            "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Lease", "Deployment", "Service",
            "PodDisruptionBudget", "Pod",
        }  # fmt: skip

    def test_each_says_what_it_belongs_to(self, by_default: list[Object], full: list[Object]) -> None:
        for document in by_default + full:
            labels = document["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == "registry-status-operator"
            assert labels["app.kubernetes.io/instance"] == "status"
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert all(document["metadata"]["labels"]["team"] == "platform" for document in full)

    def test_own_labels_win(self, chart: Chart) -> None:
        ours = {"app.kubernetes.io/name": "other", "app.kubernetes.io/instance": "other"}
        for document in chart.render({"commonLabels": ours, "podLabels": ours}):
            assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "registry-status-operator"
            if document["kind"] == "Deployment":
                assert self.selected(document, document["spec"]["selector"]["matchLabels"])

    def test_the_selector_never_changes(self, by_default: list[Object], full: list[Object]) -> None:
        for documents in (by_default, full):
            selector = one(documents, "Deployment")["spec"]["selector"]["matchLabels"]
            assert selector == {
                "app.kubernetes.io/name": "registry-status-operator", "app.kubernetes.io/instance": "status"
            }  # fmt: skip

    def test_the_service_finds_the_pod(self, full: list[Object]) -> None:
        service = one(full, "Service")
        assert self.selected(one(full, "Deployment"), service["spec"]["selector"])
        assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
        assert service["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}

    def test_the_service_can_be_left_out(self, chart: Chart) -> None:
        assert not kind(chart.render(at("service.enabled", False)), "Service")

    @pytest.mark.parametrize(("release", "values", "expected"), [
        ("status", {}, "status-registry-status-operator"),
        ("registry-status-operator", {}, "registry-status-operator"),
        ("status", {"nameOverride": "rso"}, "status-rso"),
        ("status", {"fullnameOverride": "rso"}, "rso"),
        ("r" * 53, {}, f"{'r' * 53}-registry-"[:63].rstrip("-")),
    ])  # fmt: skip
    def test_names(self, chart: Chart, release: str, values: dict[str, str], expected: str) -> None:
        rendered = chart.render(values, release=release)
        named = {one(rendered, what)["metadata"]["name"] for what in ("Deployment", "Service", "ServiceAccount")}
        assert named == {expected}

    @staticmethod
    def named(chart: Chart, name: str, own: str) -> Iterator[str]:
        """Every object of a release whose names are these, wherever a user may choose one."""
        place = {"namespace": name}
        secret = {"enabled": True, "storeName": name, "data": EXTERNAL}
        values = FULL | {
            "nameOverride": own, "fullnameOverride": own, "priorityClassName": name, "serviceAccount": {"name": name},
            "watch": FULL["watch"] | {"namespaces": [name]},
            "leaderElection": {"leaseName": name, "leaseNamespace": name},
            "registry": FULL["registry"] | {
                part: FULL["registry"][part] | {"existingSecret": existing, "externalSecret": secret}
                for part, existing in (("auth", name), ("tls", own))
            },
            "monitoring": {part: told | place for part, told in FULL["monitoring"].items()},
        }  # fmt: skip
        for document in chart.render(values, release=name, namespace=name, tests=True):
            yield json.dumps(document, sort_keys=True)

    @pytest.mark.parametrize(("name", "own"), [("42", "on"), ("0x1f", "null"), ("1e3", "true")])
    def test_stay_texts_where_yaml_would_read_something_else(self, chart: Chart, name: str, own: str) -> None:
        usual = self.named(chart, "other-name", "other-own")
        expected = {document.replace("other-name", name).replace("other-own", own) for document in usual}
        assert set(self.named(chart, name, own)) == expected

    @pytest.mark.parametrize(("release", "kubernetes"), [("1st", "1.33.4"), ("42", "1.25.0"), ("a.b", "1.36.0")])
    def test_one_that_no_service_can_have_is_refused_with_what_mends_it(
        self, chart: Chart, release: str, kubernetes: str
    ) -> None:
        with pytest.raises(CommandError, match=rf"no Service can be called {release}-.*: set fullnameOverride"):
            chart.render(release=release, kubernetes=kubernetes)
        assert chart.render({"fullnameOverride": "rso"}, release=release, kubernetes=kubernetes)
        assert chart.render({"service": {"enabled": False}}, release=release, kubernetes=kubernetes), "everything else can"

    @pytest.mark.parametrize("kubernetes", ["1.36.0", "v1.34.2-gke.1", "1.35.0-rc.1"])
    def test_a_digit_first_is_left_to_kubernetes_where_it_may_be_taken(self, chart: Chart, kubernetes: str) -> None:
        assert chart.render(release="1st", kubernetes=kubernetes)

    def test_all_is_in_the_releases_namespace(self, by_default: list[Object]) -> None:
        namespaced = [document for document in by_default if not document["kind"].startswith("Cluster")]
        assert len(namespaced) == 7
        assert {document["metadata"]["namespace"] for document in namespaced} == {"system"}

    @staticmethod
    def selected(deployment: Object, selector: dict[str, str]) -> bool:
        return bool(deployment["spec"]["template"]["metadata"]["labels"].items() >= selector.items())


class TestLease:
    def test_is_the_releases_so_that_it_goes_with_it(self, by_default: list[Object]) -> None:
        lease = one(by_default, "Lease")["metadata"]
        assert (lease["namespace"], lease["name"]) == ("system", "status-registry-status-operator-leader")

    def test_has_nothing_in_its_spec_that_an_upgrade_could_put_back(self, by_default: list[Object]) -> None:
        assert "spec" not in one(by_default, "Lease")

    def test_is_the_one_that_the_operator_is_told_of(self, full: list[Object]) -> None:
        lease = one(full, "Lease")["metadata"]
        (container,) = one(full, "Deployment")["spec"]["template"]["spec"]["containers"]
        told = settings(container["env"])
        names = ("REGISTRY_STATUS_LEASE_NAMESPACE", "REGISTRY_STATUS_LEASE_NAME")
        assert (lease["namespace"], lease["name"]) == tuple(told[name] for name in names)

    def test_can_be_left_to_the_operator(self, chart: Chart) -> None:
        assert not kind(chart.render(at("leaderElection.createLease", False)), "Lease")


class TestExternalSecrets:
    def secret(self, **more: Any) -> dict[str, Any]:
        return {"enabled": True, "storeName": "vault", "data": EXTERNAL, **more}

    def test_make_the_secret_that_is_mounted(self, chart: Chart) -> None:
        rendered = chart.render(at("registry.auth", {"username": "operator", "externalSecret": self.secret()}))
        made = one(rendered, "ExternalSecret")
        assert made["spec"] == {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"},
            "target": {"name": "status-registry-status-operator-auth"},
            "data": EXTERNAL,
        }
        volumes = one(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]
        assert {"name": "registry-auth", "secret": {"secretName": made["spec"]["target"]["name"]}} in volumes

    def test_make_one_for_certificates_too(self, chart: Chart) -> None:
        values = at("registry.tls", {"existingSecret": "ours", "externalSecret": self.secret()})
        assert one(chart.render(values), "ExternalSecret")["spec"]["target"] == {"name": "ours"}
        assert chart.settings(values)["REGISTRY_STATUS_REGISTRY_CA_FILE"] == "/etc/registry-status/tls/ca.crt"

    @pytest.mark.parametrize("missing", [{"storeName": ""}, {"data": []}])
    def test_need_a_store_and_what_to_fetch(self, chart: Chart, missing: dict[str, Any]) -> None:
        refusal = chart.refusal(at("registry.auth.externalSecret", self.secret(**missing)))
        assert "registry.auth.externalSecret.enabled needs its storeName and data" in refusal

    def test_two_of_them_make_no_secret_together(self, chart: Chart) -> None:
        auth = {"username": "operator", "existingSecret": "ours", "externalSecret": self.secret()}
        tls = {"existingSecret": "ours", "externalSecret": self.secret()}
        both = at("registry.auth", auth)
        both["registry"]["tls"] = tls
        refusal = chart.refusal(both)
        assert "registry.auth.existingSecret and registry.tls.existingSecret are both ours" in refusal
        both["registry"]["tls"] = tls | {"externalSecret": {"enabled": False}}
        assert one(chart.render(both), "ExternalSecret"), "one may make what both are read from"


class TestMonitoring:
    def test_a_service_monitor_finds_the_service(self, chart: Chart) -> None:
        rendered = chart.render(at("monitoring.serviceMonitor", {"enabled": True}))
        monitor, service = one(rendered, "ServiceMonitor")["spec"], one(rendered, "Service")
        assert monitor["namespaceSelector"] == {"matchNames": ["system"]}
        assert service["metadata"]["labels"].items() >= monitor["selector"]["matchLabels"].items()
        assert monitor["endpoints"] == [{"port": service["spec"]["ports"][0]["name"], "path": "/metrics"}]

    def test_a_pod_monitor_finds_the_pods_and_names_the_job_as_a_service_would(self, full: list[Object]) -> None:
        monitor = one(full, "PodMonitor")
        pod = one(full, "Deployment")["spec"]["template"]
        assert pod["metadata"]["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        job, theirs = endpoint["relabelings"]
        assert job == {"targetLabel": "job", "replacement": one(full, "Service")["metadata"]["name"]}
        told = FULL["monitoring"]["podMonitor"]
        assert [theirs] == told["relabelings"]
        assert {name: endpoint[name] for name in ("interval", "scrapeTimeout", "metricRelabelings")} == {
            name: told[name] for name in ("interval", "scrapeTimeout", "metricRelabelings")
        }

    def test_each_object_is_where_and_labelled_as_those_who_read_it_look(self, full: list[Object]) -> None:
        for what, values in (("PodMonitor", "podMonitor"), ("PrometheusRule", "prometheusRule"), ("ConfigMap", "dashboard")):
            metadata = one(full, what)["metadata"]
            assert metadata["namespace"] == "monitoring"
            assert metadata["labels"].items() >= FULL["monitoring"][values]["labels"].items()
        assert one(full, "ConfigMap")["metadata"]["annotations"] == {"grafana_folder": "Platform"}

    @pytest.mark.parametrize(("values", "named"), [
        ({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "only one of them can be used"),
        ({"serviceMonitor": {"enabled": True}}, "needs service.enabled"),
    ])  # fmt: skip
    def test_scraping_twice_or_not_at_all_is_refused(self, chart: Chart, values: dict[str, Any], named: str) -> None:
        service = {"service": {"enabled": "podMonitor" in values}}
        assert named in chart.refusal(at("monitoring", values) | service)


class TestNetworkPolicy:
    @staticmethod
    def policy(chart: Chart, **values: Any) -> Object:
        found: Object = one(chart.render(at("networkPolicy", {"enabled": True, **values})), "NetworkPolicy")["spec"]
        return found

    @staticmethod
    def ports(rule: Object) -> set[tuple[int, str]]:
        return {(port["port"], port["protocol"]) for port in rule["ports"]}

    def test_lets_out_what_the_operator_needs_and_in_who_scrapes_it_from_its_own_namespace(self, chart: Chart) -> None:
        policy = self.policy(chart)
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        (scrapes,) = policy["ingress"]
        assert (scrapes["from"], self.ports(scrapes)) == ([{"podSelector": {}}], {(8080, "TCP")})
        names, api, registry = policy["egress"]
        assert self.ports(names) == {(53, "UDP"), (53, "TCP")}
        assert names["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
        assert (self.ports(api), "to" in api) == ({(443, "TCP"), (6443, "TCP")}, False)
        assert (self.ports(registry), "to" in registry) == ({(30100, "TCP")}, False)

    def test_is_about_the_operators_pods_and_that_of_helm_test(self, chart: Chart) -> None:
        rendered = chart.render({"networkPolicy": {"enabled": True}}, tests=True)
        selector = one(rendered, "NetworkPolicy")["spec"]["podSelector"]
        (names,) = selector["matchExpressions"]
        for labels in (
            one(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"],
            one(rendered, "Pod")["metadata"]["labels"],
        ):
            assert labels.items() >= selector["matchLabels"].items()
            assert labels[names["key"]] in names["values"]

    @pytest.mark.parametrize(("addresses", "ports"), [
        (["http://a"], [80]), (["https://a/"], [443]), (["https://[fd00::1]:30100", "http://[fd00::1]"], [30100, 80]),
        (["http://a:30100", "http://b:30100/"], [30100]),
    ])  # fmt: skip
    def test_the_registrys_ports_are_those_of_its_addresses(self, chart: Chart, addresses: list[str], ports: list[int]) -> None:
        values = {"registry": {"addresses": addresses}, "networkPolicy": {"enabled": True}}
        registry = one(chart.render(values), "NetworkPolicy")["spec"]["egress"][2]
        assert [port["port"] for port in registry["ports"]] == ports

    def test_where_the_addresses_are_elsewhere_its_ports_must_be_named(self, chart: Chart) -> None:
        elsewhere = at("registry.addresses", []) | {"extraEnvFrom": [{"configMapRef": {"name": "settings"}}]}
        assert "networkPolicy.registry.ports is empty" in chart.refusal(elsewhere | {"networkPolicy": {"enabled": True}})
        assert chart.render(elsewhere | {"networkPolicy": {"enabled": True, "registry": {"ports": [30100]}}})

    @pytest.mark.parametrize("ports", [[], None])
    def test_the_way_to_the_api_server_is_never_open_to_all_ports(self, chart: Chart, ports: list[int] | None) -> None:
        refusal = chart.refusal({"networkPolicy": {"enabled": True, "apiServer": {"ports": ports}}})
        assert "ports" in refusal.partition("apiServer")[2]

    def test_can_be_narrowed_and_widened(self, full: list[Object]) -> None:
        policy, told = one(full, "NetworkPolicy")["spec"], FULL["networkPolicy"]
        scrapes, ingress = policy["ingress"]
        assert (scrapes["from"], self.ports(scrapes)) == (told["scrapeFrom"], {(9090, "TCP")})
        assert [ingress] == told["extraIngress"]
        names, api, registry, egress = policy["egress"]
        assert (names["to"], self.ports(names)) == (told["dns"]["to"], {(5353, "UDP"), (5353, "TCP")})
        assert (api["to"], self.ports(api)) == ([{"ipBlock": {"cidr": "10.0.0.1/32"}}], {(6443, "TCP")})
        blocks = [{"ipBlock": {"cidr": cidr}} for cidr in told["registry"]["cidrs"]]
        assert registry["to"] == [*blocks, *told["registry"]["to"]]
        assert [egress] == told["extraEgress"]


class TestNull:
    @pytest.mark.parametrize(("path", "empty"), [
        ("commonLabels", {}), ("podLabels", {}), ("podAnnotations", {}), ("deploymentAnnotations", {}), ("extraEnv", []),
        ("hostAliases", []), ("dnsConfig", {}), ("monitoring.podMonitor.labels", {}), ("monitoring.serviceMonitor.labels", {}),
        ("monitoring.prometheusRule.labels", {}), ("monitoring.prometheusRule.alertLabels", {}),
        ("monitoring.dashboard.labels", {"grafana_dashboard": None}),
    ])  # fmt: skip
    def test_means_that_there_are_none(self, chart: Chart, path: str, empty: object) -> None:
        nothing, none = at(path, None), at(path, empty)
        for values in (nothing, none):
            for part in values.get("monitoring", {}).values():
                part["enabled"] = True
        assert chart.render(nothing, tests=True) == chart.render(none, tests=True)

    @pytest.mark.parametrize("path", [
        "http.port", "service.port", "image.repository", "networkPolicy.dns.port", "monitoring.prometheusRule.runbookUrl",
        *(f"monitoring.prometheusRule.alerts.RegistryStatusLoopLag.{part}" for part in ("for", "severity", "threshold")),
    ])  # fmt: skip
    def test_is_refused_of_what_cannot_be_left_out(self, chart: Chart, path: str) -> None:
        """A rule without its threshold takes all others with it, and a policy without a port opens all of them."""
        values = at(path, None)
        values.setdefault("monitoring", {}).setdefault("prometheusRule", {})["enabled"] = True
        assert f"{path} is null: leave it out to have its default" in chart.refusal(values)

    @pytest.mark.parametrize("section", ["networkPolicy", "networkPolicy.dns", "monitoring.prometheusRule"])
    def test_a_null_in_place_of_a_whole_section_that_is_off_by_default_leaves_it_off(self, chart: Chart, section: str) -> None:
        assert chart.render(at(section, None)) == chart.render()

    def test_of_an_alert_leaves_it_out(self, chart: Chart) -> None:
        alerts = {"enabled": True, "alerts": {"RegistryStatusLoopLag": None}}
        (group,) = one(chart.render(at("monitoring.prometheusRule", alerts)), "PrometheusRule")["spec"]["groups"]
        assert "RegistryStatusLoopLag" not in {rule["alert"] for rule in group["rules"]}


class TestHelmTest:
    def test_checks_with_all_that_the_operator_has(self, chart: Chart) -> None:
        pod, operator = chart.test_pod(FULL)["spec"], chart.pod(FULL)
        (check,), (run_,) = pod["containers"], operator["containers"]
        assert check["args"] == ["check", *run_["args"][1:]]
        same = ("image", "imagePullPolicy", "env", "envFrom", "resources", "securityContext", "volumeMounts")
        assert {name: check[name] for name in same} == {name: run_[name] for name in same}
        of_pod = (
            "serviceAccountName", "securityContext", "imagePullSecrets", "volumes", "nodeSelector", "tolerations",
            "hostAliases", "dnsConfig",
        )  # fmt: skip
        assert {name: pod[name] for name in of_pod} == {name: operator[name] for name in of_pod}
        assert pod["restartPolicy"] == "Never"

    def test_is_run_by_helm_test_alone_and_stays_until_the_next_one_as_its_log_is_read_after_its_end(
        self, chart: Chart
    ) -> None:
        annotations = chart.test_pod()["metadata"]["annotations"]
        assert annotations == {"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation"}

    def test_is_found_by_the_label_by_which_the_documentation_deletes_it(self, chart: Chart) -> None:
        rendered = chart.render(FULL, tests=True)
        found = [document for document in rendered if document["metadata"]["labels"]["app.kubernetes.io/component"] == "test"]
        assert found == kind(rendered, "Pod")
        told = "kubectl -n registry-status-system delete pod -l app.kubernetes.io/component=test"
        for path in (ROOT / "docs" / "install.md", ROOT / "docs" / "operations.md", CHART / "README.md"):
            assert told in path.read_text("utf-8"), path

    def test_is_found_by_neither_service_nor_budget_nor_deployment(self, chart: Chart) -> None:
        rendered = chart.render(FULL | {"podLabels": {"app.kubernetes.io/name": "registry-status-operator"}}, tests=True)
        labels = one(rendered, "Pod")["metadata"]["labels"]
        selectors = [one(rendered, "Service")["spec"]["selector"]]
        selectors += [one(rendered, what)["spec"]["selector"]["matchLabels"] for what in ("Deployment", "PodDisruptionBudget")]
        assert not [selector for selector in selectors if labels.items() >= selector.items()]

    def test_can_be_left_out(self, chart: Chart) -> None:
        assert not kind(chart.render(at("helmTest.enabled", False), tests=True), "Pod")


class TestSpread:
    def test_one_without_a_selector_means_the_operators_pods(self, chart: Chart) -> None:
        theirs = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        deployment = one(chart.render({"topologySpreadConstraints": [theirs]}), "Deployment")["spec"]
        assert deployment["template"]["spec"]["topologySpreadConstraints"] == [
            theirs | {"labelSelector": deployment["selector"]}
        ]


class TestNotes:
    def test_tell_what_to_annotate_and_where_to_look(self, chart: Chart, tmp_path: Path) -> None:
        notes = chart.notes(tmp_path)
        for word in (ADDRESS, "the whole cluster", "registry-status.io/service:", "kubectl describe pod", "/metrics"):
            assert word in notes
        assert "registry-status.io/class" not in notes
        assert "2, one of which writes: kubectl --namespace system get lease" in notes

    def test_leave_the_port_forward_time_to_begin(self, chart: Chart, tmp_path: Path) -> None:
        assert "8080 & sleep 3; curl localhost:8080/metrics" in chart.notes(tmp_path)

    def test_say_of_a_dry_run_that_nobody_writes(self, chart: Chart, tmp_path: Path) -> None:
        notes = chart.notes(tmp_path, {"delivery": {"dryRun": True}})
        assert "2, in a dry run: nothing is written" in notes
        assert "one of which writes" not in notes

    def test_follow_the_values(self, chart: Chart, tmp_path: Path) -> None:
        notes = chart.notes(tmp_path, FULL | {"rbac": {"create": False}})
        for word in (
            "shop, stock",
            "status.example.org/class: blue",
            "deployment/status-writer",
            "writer needs pods get",
            "It also needs pods/status patch",
            "namespace leases it also needs leases",
        ):
            assert word in notes


def strings(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


def test_nothing_of_the_templates_is_left_unrendered(chart: Chart) -> None:
    full = chart.render(FULL, tests=True)
    for_others = kind(full, "PrometheusRule") + kind(full, "ConfigMap")  # Prometheus and Grafana have braces of their own
    assert not [text for document in full for text in strings(document) if "<no value>" in text]
    assert not [text for document in full if document not in for_others for text in strings(document) if "{{" in text]
