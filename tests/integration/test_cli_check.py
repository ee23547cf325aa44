"""`registry-status check`: each failure that a user can make is named, with what to do, against real servers with RBAC on."""

import re
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from registry_status.registry.devserver import Answer, DevServer, Drop, Fault, Hang, NewInstance, NewService
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube import write_kubeconfig
from tests.cluster.processes import free_port, wait_for
from tests.integration.cli_runs import TLS, Ran, registry, run
from tests.integration.running import EVENTS, PODS, SERVICE, Pods, account, operator, register
from tests.pods import START

LIST_EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}
CA = ["--registry-ca-file", str(TLS / "ca.pem")]
PASSWORD = "correct-horse-Battery-1"

Server = tuple[DevServer, str]


@pytest.fixture
def server() -> Iterator[Server]:
    with registry(clock=lambda: START + 3) as (server, url):
        yield server, url
        assert server.writes == []


class Check:
    """`check` for this test's cluster and namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._flags = ["--kubeconfig", str(kubeconfig), "-n", namespace, "-o", "json"]

    def __call__(self, url: str, *words: str) -> Ran:
        ran = run("check", *self._flags, *(["--registry-address", url] if url else []), *words)
        assert ran.err == ""
        assert ran.data["ok"] is (ran.status == 0) is (not ran.findings("ERROR"))
        return ran

    def error(self, url: str, *words: str) -> str:
        """The one error that it finds: what, and what to do."""
        ran = self(url, *words)
        (found,) = ran.findings("ERROR")
        return found


@pytest.fixture
def check(control_plane: ControlPlane, pods: Pods) -> Check:
    return Check(control_plane.kubeconfig, pods.namespace)


# --- all is well --------------------------------------------------------------------------------


def test_where_all_is_well_it_says_what_it_looked_at_and_ends_with_0(
    control_plane: ControlPlane, pods: Pods, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    who = account(control_plane, pods.namespace, PODS, EVENTS, LIST_EVENTS)
    pods.create("cart", {"service": "cart", "app": "shop"})
    with registry(TLS / "server.pem", accounts={"operator": PASSWORD}) as (server, url):
        register(server, "cart")
        words = (*CA, "--registry-username", "operator", "--registry-password-file", str(password))
        ran = Check(who.kubeconfig, pods.namespace)(url, *words)
        assert [request.path for request in server.requests].count("/v4/token") == 1
        assert server.writes == []
    assert (ran.status, ran.findings("ERROR"), ran.findings("WARNING")) == (0, [], [])
    ok = "\n".join(ran.findings("OK"))
    for expected in (
        "they are valid, and fit together",
        r"Kubernetes 1\.\d+ at https://127\.0\.0\.1",
        "the clock of the API server agrees with ours",
        f"may list pods in namespace {pods.namespace}",
        f"may watch pods in namespace {pods.namespace}",
        f"may create events in namespace {pods.namespace}",
        f"may patch events in namespace {pods.namespace}",
        "its certificate is trusted, and valid until 21",
        "Service Center devserver, API 4.0.0, answers",
        "the clock of https://.* agrees with ours",
        "may read project default of domain default, which has 1 service, as operator",
        "annotated: 1 of 1 pod in namespaces ",
        "the registry is in step with 1 pod",
        "no Event of the last hour",
    ):
        assert re.search(expected, ok), f"{expected} is missing in\n{ok}"
    assert ran.data["summary"]["SKIPPED"] == 3  # workloads, the Lease of a single replica, the right to write


def test_text_has_a_line_for_each_finding_and_one_that_counts_them(
    control_plane: ControlPlane, pods: Pods, server: Server
) -> None:
    words = ["--kubeconfig", str(control_plane.kubeconfig), "-n", pods.namespace, "--registry-address", server[1]]
    ran = run("check", *words)
    *lines, empty, counts = ran.out.splitlines()
    assert empty == ""
    assert all(
        re.match(r"(OK|SKIPPED|WARNING|ERROR) +(settings|kubernetes|registry|pods|operators) +\S", line) for line in lines
    )
    assert re.fullmatch(r"\d+ OK(, \d+ (SKIPPED|WARNING|ERROR))*", counts)
    assert "\x1b" not in ran.out


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--registry-username", "operator"], "--registry-username needs --registry-password-file"),
        (["--registry-ca-file", "x"], "--registry-ca-file is of use only with a --registry-address that begins with https://"),
        (["--resync-interval", "never"], "--resync-interval: 'never' is not allowed; allowed: a number of seconds"),
    ],
)
def test_settings_that_run_would_refuse_are_errors(check: Check, words: list[str], said: str) -> None:
    assert said in check.error("http://127.0.0.1:1", *words)


def test_a_registry_that_is_not_named_is_an_error_and_the_cluster_is_checked_all_the_same(check: Check) -> None:
    ran = check("")
    (found,) = ran.findings("ERROR")
    assert "no registry is named (--registry-address)" in found
    assert any("Kubernetes 1." in one for one in ran.findings("OK"))


def test_a_password_file_that_is_missing_is_named(check: Check, server: Server) -> None:
    said = check.error(server[1], "--registry-username", "operator", "--registry-password-file", "/nowhere/password")
    assert "--registry-password-file: /nowhere/password cannot be read: No such file" in said


# --- Kubernetes ---------------------------------------------------------------------------------


def test_a_kubeconfig_that_is_missing_is_named_and_the_registry_is_checked_all_the_same(server: Server, pods: Pods) -> None:
    ran = Check(Path("/nowhere/config"), pods.namespace)(server[1])
    (found,) = ran.findings("ERROR")
    assert "kubeconfig /nowhere/config: No such file" in found
    assert "--kubeconfig and --context" in found
    assert any("Service Center devserver" in one for one in ran.findings("OK"))


def test_an_api_server_that_does_not_answer_is_named(server: Server, pods: Pods, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    kubeconfig = write_kubeconfig(tmp_path / "nowhere", server=nowhere, ca=b"", token="x")
    said = Check(kubeconfig, pods.namespace).error(server[1])
    assert f"the API server cannot be asked: {nowhere}" in said


def test_a_token_that_the_api_server_does_not_know_is_named(
    control_plane: ControlPlane, server: Server, pods: Pods, tmp_path: Path
) -> None:
    ca = (control_plane.folder / "pki" / "ca.crt").read_bytes()
    kubeconfig = write_kubeconfig(tmp_path / "stranger", server=control_plane.url, ca=ca, token="unknown")
    said = Check(kubeconfig, pods.namespace)(server[1]).findings("ERROR")
    assert any("the API server does not know who asks" in one and "log in anew" in one for one in said), said


def test_rights_that_are_missing_are_named_verb_by_verb_with_the_rule(
    control_plane: ControlPlane, server: Server, pods: Pods
) -> None:
    space = pods.namespace
    who = account(control_plane, space, PODS | {"verbs": ["list"]}, EVENTS | {"verbs": ["create"]})
    elects = ("--leader-elect", "true", "--lease-namespace", space)
    ran = Check(who.kubeconfig, space)(server[1], *elects)
    rule = f'add to a Role in namespace {space}: apiGroups: [""], resources: [pods], verbs: [get, list, watch]'
    assert f"may not watch pods in namespace {space}, so it cannot watch pods; {rule}" in ran.findings("ERROR")
    assert f"may not get pods in namespace {space}, so it cannot watch pods; {rule}" in ran.findings("WARNING")
    assert any(f"may not patch events in namespace {space}, so it cannot post Events" in one for one in ran.findings("WARNING"))
    assert any(f"may not update leases.coordination.k8s.io/registry-status-operator-leader in namespace {space}" in one
               for one in ran.findings("ERROR"))  # fmt: skip
    assert f"may list pods in namespace {space}; " in ran.findings("OK")


def test_without_the_right_to_list_pods_the_registry_is_still_checked(
    control_plane: ControlPlane, server: Server, pods: Pods
) -> None:
    who = account(control_plane, pods.namespace, EVENTS)
    ran = Check(who.kubeconfig, pods.namespace)(server[1])
    assert any("the pods cannot be listed: 403" in one for one in ran.findings("ERROR"))
    assert any("Service Center devserver" in one for one in ran.findings("OK"))


# --- the registry's address ---------------------------------------------------------------------


def test_an_address_where_nothing_listens_is_named(check: Check) -> None:
    port = free_port()
    said = check.error(f"http://127.0.0.1:{port}")
    assert f"http://127.0.0.1:{port}: the connection is refused: nothing listens on port {port}" in said
    assert "correct the port in --registry-address" in said


@contextmanager
def blackhole() -> Iterator[int]:
    """A port whose queue of connections is full, so that no further one is answered: as a firewall that drops."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting: list[socket.socket] = []
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                waiting.append(one)
            yield port
        finally:
            for one in waiting:
                one.close()


def test_a_network_that_is_blocked_is_named(check: Check) -> None:
    with blackhole() as port:
        said = check.error(f"http://127.0.0.1:{port}", "--connect-timeout", "0.5")
    assert f"http://127.0.0.1:{port}: no connection within 0.5 s (--connect-timeout): the network is blocked" in said
    assert "NetworkPolicy" in said


NO_REGISTRY: list[tuple[Answer | Drop | Hang, str]] = [
    (Answer.html_page(), "this is no Service Center: it answers HTTP 200 with text/html"),
    (Answer.html_page(404), "this is no Service Center: it answers HTTP 404 with text/html"),
    (Answer(status=200, body=b'{"hello": "world"}'), "this is no Service Center: it answers HTTP 200 with application/json"),
    (Answer.redirect("http://127.0.0.1:1/login"), "it answers with a redirect (HTTP 301)"),
    (Answer(status=502, body=b"bad gateway"), "it answers HTTP 502, and not as a Service Center does"),
    (Drop(), "it closes the connection without an answer"),
    (Hang(), "it accepts connections, but gives no answer within 0.5 s"),
]


@pytest.mark.parametrize(("fault", "said"), NO_REGISTRY, ids=[row[1] for row in NO_REGISTRY])
def test_what_is_no_service_center_is_named(check: Check, server: Server, fault: Answer | Drop | Hang, said: str) -> None:
    server[0].faults.set(Fault(fault))
    found = check.error(server[1], "--request-timeout", "0.5", "--connect-timeout", "0.5")
    assert f"{server[1]}: {said}" in found
    assert not found.endswith("; ")


def test_one_dead_address_of_two_is_an_error_and_the_other_is_used(check: Check, server: Server) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    ran = check(f"{dead},{server[1]}")
    (found,) = ran.findings("ERROR")
    assert dead in found
    assert any("may read project default" in one for one in ran.findings("OK"))


# --- TLS ----------------------------------------------------------------------------------------

DISTRUSTED: list[tuple[str, Sequence[str], str, str]] = [
    ("expired", CA, "its certificate has expired, on 2021-01-01", "renew the certificate"),
    ("foreign", CA, "is signed by an authority that is not trusted", "by --registry-ca-file"),
    ("server", [], "is signed by an authority that is not trusted", "by --registry-ca-file"),
    ("elsewhere", CA, "its certificate is made for other names than 127.0.0.1", "use a name in --registry-address"),
]


@pytest.mark.parametrize(("name", "words", "said", "fix"), DISTRUSTED, ids=[row[0] for row in DISTRUSTED])
def test_a_certificate_that_cannot_be_trusted_is_named(
    check: Check, name: str, words: Sequence[str], said: str, fix: str
) -> None:
    with registry(TLS / f"{name}.pem") as (server, url):
        found = check.error(url, *words)
        assert server.requests == []
    assert said in found
    assert fix in found


def test_a_certificate_that_ends_soon_is_a_warning_with_its_day(check: Check, tmp_path: Path) -> None:
    key, certificate = tmp_path / "soon-key.pem", tmp_path / "soon.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10", "-subj",
         "/CN=soon", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with registry(certificate) as (_, url):
        ran = check(url, "--registry-ca-file", str(certificate))
    assert any(
        re.search(r"its certificate ends on 20\d\d-\d\d-\d\d, in (9|10) days; renew", one) for one in ran.findings("WARNING")
    )


@contextmanager
def strict_server(clients: Path) -> Iterator[str]:
    """A TLS server that breaks off, with an alert (asyncio's sends none), unless it is shown this authority's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with suppress(ssl.SSLError), connection:
                    context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the server asks for a client certificate"),
        (["client", "other-ca.pem"], "the server does not accept our client certificate (--registry-client-cert-file)"),
    ],
    ids=["none is shown", "of another authority"],
)
def test_a_client_certificate_that_is_missing_or_refused_is_named(check: Check, words: list[str], said: str) -> None:
    shown = ["--registry-client-cert-file", f"{TLS}/client.pem", "--registry-client-key-file", f"{TLS}/client-key.pem"]
    with strict_server(TLS / (words[1] if words else "ca.pem")) as url:
        found = check.error(url, *CA, *(shown if words else []))
    assert said in found
    assert "name a certificate by --registry-client-cert-file that is signed by an authority which the registry trusts" in found


def test_a_server_that_breaks_off_without_a_word_may_want_a_client_certificate(check: Check) -> None:
    with registry(TLS / "server.pem", clients=TLS / "ca.pem") as (_, url):
        found = check.error(url, *CA)
    assert "the server breaks off at the TLS handshake; it may ask for a client certificate" in found


def test_a_client_certificate_that_is_accepted_is_used(check: Check) -> None:
    shown = ["--registry-client-cert-file", f"{TLS}/client.pem", "--registry-client-key-file", f"{TLS}/client-key.pem"]
    with registry(TLS / "server.pem", clients=TLS / "ca.pem") as (_, url):
        assert check(url, *CA, *shown).status == 0


def test_http_where_tls_is_spoken_is_named(check: Check) -> None:
    with registry(TLS / "server.pem") as (_, url):
        assert "write https://" in check.error(url.replace("https:", "http:"))


def test_https_where_none_is_spoken_is_named(check: Check, server: Server) -> None:
    said = check.error(server[1].replace("http:", "https:"))
    assert "does not speak TLS" in said
    assert "write http:// in --registry-address" in said


# --- credentials --------------------------------------------------------------------------------


def with_password(tmp_path: Path, password: str) -> list[str]:
    file = tmp_path / "password"
    file.write_text(password)
    return ["--registry-username", "operator", "--registry-password-file", str(file)]


def test_a_wrong_password_is_named_after_a_single_login(check: Check, pods: Pods, tmp_path: Path) -> None:
    pods.create("cart", {"service-id": SERVICE, "project": "other"})
    with registry(accounts={"operator": PASSWORD}) as (server, url):
        said = check.error(url, *with_password(tmp_path, "wrong-guess-99"), "--allow-project", "other")
        assert [request.path for request in server.requests].count("/v4/token") == 1
    assert "user name or password is wrong" in said
    assert f"put the password of account operator into {tmp_path}/password" in said
    assert "wrong-guess-99" not in said


def test_a_blocked_account_is_named(check: Check, tmp_path: Path) -> None:
    with registry(accounts={"operator": PASSWORD}) as (_, url):
        for _ in range(3):
            check(url, *with_password(tmp_path, "wrong-guess-99"))
        said = check.error(url, *with_password(tmp_path, PASSWORD))
    assert "the account is blocked" in said
    assert "wait until the account is free again" in said


def test_credentials_that_are_missing_are_named(check: Check) -> None:
    with registry(accounts={"operator": PASSWORD}) as (_, url):
        assert "give --registry-username and --registry-password-file" in check.error(url)


def test_credentials_over_plain_http_are_a_warning(check: Check, tmp_path: Path) -> None:
    with registry(accounts={"operator": PASSWORD}) as (_, url):
        ran = check(url, *with_password(tmp_path, PASSWORD))
    assert any(f"credentials go to {url} unencrypted" in one for one in ran.findings("WARNING"))


def test_a_wrong_access_key_is_named(check: Check, tmp_path: Path) -> None:
    for name, text in (("ak", "ACCESS"), ("sk", "not-the-secret")):
        (tmp_path / name).write_text(text)
    words = ["--registry-access-key-file", str(tmp_path / "ak"), "--registry-secret-key-file", str(tmp_path / "sk")]
    with registry(access_keys={"ACCESS": "secret"}) as (_, url):
        said = check.error(url, *words)
    assert f"correct the keys in {tmp_path}/ak and {tmp_path}/sk" in said
    assert "not-the-secret" not in said


def test_a_project_without_services_is_a_warning(check: Check, server: Server) -> None:
    ran = check(server[1], "--registry-project", "elsewhere")
    assert any("project elsewhere of domain default has no services" in one for one in ran.findings("WARNING"))


# --- pods ---------------------------------------------------------------------------------------


def test_pods_without_annotations_are_named_where_the_registry_has_their_instances(
    check: Check, pods: Pods, server: Server
) -> None:
    pods.create("cart", {})
    register(server[0], "cart")
    pods.create("other", {}, ip="10.244.0.9")
    ran = check(server[1])
    assert any("none of 2 pods" in one and "registry-status.io/service: NAME" in one for one in ran.findings("WARNING")), (
        ran.findings("WARNING")
    )
    assert any(f"without annotations: {pods.namespace}/cart (service cart);" in one for one in ran.findings("WARNING"))


def test_annotations_with_a_misspelt_prefix_and_labels_are_named(check: Check, pods: Pods, server: Server) -> None:
    pods.create("cart", {})
    pods.patch(
        "cart", {"metadata": {"annotations": {"registry-status/service": "cart"}, "labels": {"registry-status.io/app": "x"}}}
    )
    warnings = check(server[1]).findings("WARNING")
    for key in ("annotation registry-status/service", "label registry-status.io/app"):
        assert any(f"{key} is not read: {pods.namespace}/cart" in one for one in warnings)


def workload(annotations: dict[str, str], template: dict[str, str]) -> dict[str, Any]:
    labels = {"app": "cart"}
    pod = {"metadata": {"labels": labels, "annotations": template}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cart", "annotations": annotations},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }


OURS = {"registry-status.io/service": "cart"}


@pytest.mark.parametrize(
    ("own", "template", "warned"),
    [(OURS, {}, True), (OURS, OURS, False), ({}, OURS, False), ({"other": "x"}, {}, False)],
    ids=["on the workload only", "on both", "on the template", "of others"],
)
def test_annotations_on_the_workload_instead_of_its_template_are_named(
    control_plane: ControlPlane,
    check: Check,
    pods: Pods,
    server: Server,
    own: dict[str, str],
    template: dict[str, str],
    warned: bool,
) -> None:
    control_plane.kube.apply(workload(own, template), namespace=pods.namespace)
    said = f"annotations on the workload, not on its pod template: Deployment {pods.namespace}/cart; move them to spec.template"
    assert any(said in one for one in check(server[1]).findings("WARNING")) is warned


def test_who_may_not_list_workloads_hears_that_they_were_not_looked_at(
    control_plane: ControlPlane, pods: Pods, server: Server
) -> None:
    who = account(control_plane, pods.namespace, PODS, EVENTS)
    ran = Check(who.kubeconfig, pods.namespace)(server[1])
    assert any("workloads are not looked at" in one for one in ran.findings("SKIPPED"))


def test_an_invalid_annotation_is_named(check: Check, pods: Pods, server: Server) -> None:
    pods.create("cart", {"service-id": SERVICE, "match": "luck"})
    said = check.error(server[1])
    assert f"{pods.namespace}/cart: registry-status.io/match: 'luck' is not allowed; allowed: auto" in said


def test_a_wrong_service_name_is_named_with_the_nearest_ones(check: Check, pods: Pods, server: Server) -> None:
    for name in ("one", "two"):
        pods.create(name, {"service": "crat", "app": "shop"})
    said = check.error(server[1])
    assert "service shop/crat is not registered in project default of domain default; did you mean cart?" in said
    assert f"Ready: {pods.namespace}/one; {pods.namespace}/two: service" in said
    assert "correct the annotations" in said


def test_a_ready_pod_without_an_instance_is_named(check: Check, pods: Pods, server: Server) -> None:
    pods.create("cart")
    warnings = check(server[1]).findings("WARNING")
    assert any(f"Ready: {pods.namespace}/cart: no instance of the service is this pod's; see that the pod's SDK" in one
               for one in warnings), warnings  # fmt: skip


def test_pods_whose_ids_collide_are_named(check: Check, pods: Pods, server: Server) -> None:
    for name in ("one", "two"):
        pods.create(name, {"service-id": SERVICE, "instance-id": "the-one"})
    register(server[0], "one", instance_id="the-one")
    warnings = check(server[1], "--trust-instance-ids", "true").findings("WARNING")
    assert any("instance the-one is claimed by pod" in one for one in warnings)


@pytest.mark.parametrize("by", ["setting", "annotation"])
def test_outofservice_by_name_beside_java_chassis_3_is_a_warning(check: Check, pods: Pods, server: Server, by: str) -> None:
    new = NewService(name="java", service_id="svc-java", framework_name="ServiceComb", framework_version="3.2.1")
    server[0].registry.create_service(new)
    server[0].registry.register("svc-java", NewInstance(host_name="java-1", interval=3600, times=100))
    pods.create("cart", {"service-id": SERVICE} | ({"not-ready-status": "OUTOFSERVICE"} if by == "annotation" else {}))
    register(server[0], "cart")
    words = ["--not-ready-status", "OUTOFSERVICE"] if by == "setting" else []
    (found,) = check(server[1], *words).findings("WARNING")
    who = "--not-ready-status" if by == "setting" else f"pod {pods.namespace}/cart"
    assert f"{who} asks for OUTOFSERVICE, and service java of project default of domain default runs on Java Chassis 3" in found
    assert "take `auto` or DOWN" in found
    assert check(server[1]).findings("WARNING") == ([] if by == "setting" else [found])


# --- operators ----------------------------------------------------------------------------------


def test_that_no_operator_holds_the_lease_is_a_warning_and_who_does_is_told(
    control_plane: ControlPlane, check: Check, pods: Pods, server: Server, tmp_path: Path
) -> None:
    elects = ("--leader-elect", "true", "--lease-namespace", pods.namespace)
    lease = f"Lease {pods.namespace}/registry-status-operator-leader"
    assert any(f"{lease} does not exist: no operator has run" in one for one in check(server[1], *elects).findings("WARNING"))
    with operator(control_plane.kubeconfig, server[1], tmp_path, "--namespace", pods.namespace, *elects) as one:
        wait_for(lambda: "registry_status_leader 1.0" in one.metrics(), 20, "leading")
        assert any(f"leads ({lease})" in found for found in check(server[1], *elects).findings("OK"))
    assert any(f"nobody holds {lease}" in found for found in check(server[1], *elects).findings("WARNING"))


def test_two_operators_on_the_same_pods_are_named(control_plane: ControlPlane, pods: Pods, tmp_path: Path) -> None:
    with registry(clock=lambda: START + 3) as (server, url):
        pods.create("cart")
        register(server, "cart", status="STARTING")
        pods.show("cart", "False", 9)
        words = ("--namespace", pods.namespace, "--resync-interval", "1", "--not-ready-status")
        check = Check(control_plane.kubeconfig, pods.namespace)
        with (
            operator(control_plane.kubeconfig, url, tmp_path, *words, "DOWN"),
            operator(control_plane.kubeconfig, url, tmp_path, *words, "STARTING"),
        ):
            wait_for(lambda: any(event["reason"] == "RegistryStatusDrifted" for event in pods.events("cart")), 30, "drift")
        warnings = check(url).findings("WARNING")
    said = f"someone else writes the statuses of 1 pod too: {pods.namespace}/cart; let one operator serve each pod"
    assert any(said in one for one in warnings), warnings


def test_an_operator_of_another_namespace_is_named(
    control_plane: ControlPlane, check: Check, pods: Pods, server: Server, tmp_path: Path
) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    control_plane.kube.kubectl("create", "namespace", other)
    name = f"lease-{uuid.uuid4().hex[:8]}"
    elects = ("--leader-elect", "true", "--lease-name", name, "--lease-namespace")
    with operator(control_plane.kubeconfig, server[1], tmp_path, "--namespace", pods.namespace, *elects, other) as one:
        wait_for(lambda: "registry_status_leader 1.0" in one.metrics(), 20, "leading")
        warnings = check(server[1], *elects, pods.namespace).findings("WARNING")
    assert any("another operator runs: " in one and f"in namespace {other}" in one for one in warnings), warnings


def test_who_may_not_list_events_hears_that_they_were_not_looked_at(
    control_plane: ControlPlane, pods: Pods, server: Server
) -> None:
    who = account(control_plane, pods.namespace, PODS, EVENTS)
    ran = Check(who.kubeconfig, pods.namespace)(server[1])
    assert any("Events are not read, which tell of a second operator" in one for one in ran.findings("SKIPPED"))
