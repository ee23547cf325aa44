"""The parts of `check` that need no cluster: clocks, names, and what is told of each."""

import asyncio
import json
import socket
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from registry_status.cli.checks import kubernetes
from registry_status.cli.checks.addresses import check_addresses
from registry_status.cli.checks.clocks import check_clock
from registry_status.cli.checks.finding import LISTED, Area, Finding, Findings, Level, failed, listed
from registry_status.cli.checks.pods import check_pods, see, unlisted
from registry_status.cli.checks.registry import check_access
from registry_status.cli.checks.settings import check_settings
from registry_status.cli.reading import Register, Snapshot
from registry_status.cluster.access import Access
from registry_status.cluster.api import ApiError, ApiServer
from registry_status.cluster.connection import open_session
from registry_status.cluster.read import ShardingError
from registry_status.config import Settings
from registry_status.model import Tenant
from registry_status.registry.connect import registry_client
from registry_status.registry.devserver import Answer, Code, DevServer, Fault
from tests.pods import GATE, GATED, condition, pod

NOW = 1_800_000_000.0
told = Findings(Area.REGISTRY)


@pytest.mark.parametrize(
    ("ahead", "took", "level", "said"),
    [
        (0, 0.1, Level.OK, "agrees with ours"),
        (5, 0, Level.OK, "agrees"),
        (-5, 0, Level.OK, "agrees"),
        (-6, 0, Level.OK, "agrees"),  # the header's second has only begun
        (6, 0, Level.WARNING, "is 6 s ahead of ours"),
        (-7, 0, Level.WARNING, "is 6 s behind ours"),
        (3600, 2, Level.WARNING, "ahead of ours"),
        (10, 8, Level.OK, "agrees"),  # a slow answer: nobody knows when it was written
    ],
)
def test_clocks_that_differ_by_more_than_five_seconds_are_a_warning(ahead: int, took: float, level: Level, said: str) -> None:
    found = check_clock(told, "the registry", formatdate(NOW + ahead, usegmt=True), NOW, NOW + took)
    assert found.level is level
    assert said in found.what
    assert ("NTP" in found.fix) is (level is Level.WARNING)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Mon, 99 Foo 2026",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
    ],
)
def test_an_answer_without_a_date_is_skipped(date: str) -> None:
    assert check_clock(told, "the registry", date, NOW, NOW).level is Level.SKIPPED


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "DNS does not know the name registry.shop (Name or service not known)",
        ),
        (TimeoutError(), "DNS gave no answer for registry.shop"),
    ],
)
async def test_a_name_that_dns_does_not_know_is_named(trouble: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    (reached,) = await check_addresses(Settings(registry_address=("http://registry.shop:30100",)))
    (found,) = reached.findings
    assert (reached.usable, found.level) == (False, Level.ERROR)
    assert found.what == f"http://registry.shop:30100: {said}"
    assert found.fix


@pytest.mark.parametrize("padding", [0, 100_000])
async def test_an_answer_is_read_to_its_end_in_however_many_pieces_it_comes(padding: int) -> None:
    body = json.dumps({"version": "2.2.0", "apiVersion": "4.0.0"}).encode() + b" " * padding
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body[:20])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(body[20:])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (reached,) = await check_addresses(Settings(registry_address=(f"http://127.0.0.1:{port}",)))
    assert reached.usable
    assert "Service Center 2.2.0, API 4.0.0, answers" in reached.findings[0].what


@pytest.mark.parametrize(("version", "level"), [((1, 24), Level.WARNING), ((1, 25), Level.OK), ((2, 0), Level.OK)])
async def test_a_kubernetes_that_is_too_old_is_a_warning(
    version: tuple[int, int], level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told_version(_: ApiServer) -> tuple[int, int]:
        return version

    monkeypatch.setattr(kubernetes, "server_version", told_version)
    access = Access(server="http://127.0.0.1:1", source="test")
    async with open_session(access) as session:
        found = await anext(kubernetes.check_kubernetes(ApiServer(access, session), session, Settings(), None))
    assert found.level is level
    assert f"Kubernetes {version[0]}.{version[1]} at http://127.0.0.1:1 (test)" in found.what


def test_lists_are_short() -> None:
    assert listed(["a"]) == "a"
    assert listed(map(str, range(LISTED + 5))).endswith("9; and 5 more")


@pytest.mark.parametrize("level", Level)
def test_only_errors_fail(level: Level) -> None:
    assert failed([Finding(level, Area.PODS, "x")]) is (level is Level.ERROR)


def test_a_connect_timeout_longer_than_the_requests_is_a_warning() -> None:
    settings = Settings(registry_address=("http://r",), connect_timeout=9, request_timeout=5)
    (found,) = check_settings(settings)
    assert found.level is Level.WARNING
    assert "--connect-timeout (9 s) exceeds --request-timeout (5 s)" in found.what
    assert [one.level for one in check_settings(replace(settings, connect_timeout=2))] == [Level.OK]


STRANGE: list[tuple[dict[str, Any], list[str]]] = [
    ({"registry-status/service": "cart"}, ["annotation registry-status/service"]),
    ({"registrystatus.io/service-id": "x"}, ["annotation registrystatus.io/service-id"]),
    ({"app.kubernetes.io/version": "1"}, []),
    ({"registry-status.io/service": "cart"}, []),
    ({"registry-status/owner": "me"}, []),
]


@pytest.mark.parametrize(("annotations", "strangers"), STRANGE)
def test_keys_that_look_like_ours_are_found(annotations: dict[str, str], strangers: list[str]) -> None:
    assert list(see(pod(annotations), Settings()).strangers) == strangers


@pytest.mark.parametrize(("switched_on", "state", "errors"), [
    (False, GATED, [f"ready but for the gate {GATE}, which nobody opens: shop/cart-1"]),
    (True, GATED, []),
    (False, GATED | {"containers_ready": "False"}, []),
    (False, GATED | {"ready": "True", "conditions": [condition(GATE, "True", 6)]}, []),
    (False, {}, []),
])  # fmt: skip
def test_pods_whose_gate_nobody_opens_are_an_error(*, switched_on: bool, state: dict[str, Any], errors: list[str]) -> None:
    settings = Settings(readiness_gate=switched_on)
    found = check_pods([see(pod({"service": "cart"}, **state), settings)], settings)
    assert [each.what for each in found if each.level is Level.ERROR] == errors


def test_the_class_of_pods_that_lack_is_told() -> None:
    settings = Settings(operator_class="blue", namespaces=("shop",), label_selector="a=b")
    (found,) = check_pods([see(pod({"service": "cart"}), settings)], settings)
    assert found.what == "none of 1 pod in namespaces shop with labels a=b is annotated of class blue"


BAD_SELECTOR = ApiError(400, "BadRequest", "400: unable to parse requirement")
NO_RIGHT = kubernetes.told.error("may not list pods", "add it")


@pytest.mark.parametrize(
    ("error", "settings", "before", "fix"),
    [
        (ShardingError(), Settings(shard="1/2"), [NO_RIGHT], "switch it on, or leave out --shard"),
        (BAD_SELECTOR, Settings(label_selector="a=b"), [], "correct --label-selector, which says 'a=b'"),
        (BAD_SELECTOR, Settings(label_selector="a=b"), [NO_RIGHT], "correct --label-selector, which says 'a=b'"),
        (BAD_SELECTOR, Settings(), [], "look at what it says"),
        (
            ApiError(403, "Forbidden", "403: no"),
            Settings(label_selector="a=b"),
            [NO_RIGHT],
            "mend the errors of kubernetes above",
        ),
        (ApiError(403, "Forbidden", "403: no"), Settings(), [told.error("no registry", "x")], "look at what it says"),
        (ApiError(403, "Forbidden", "403: no"), Settings(), [kubernetes.told.ok("may list pods")], "look at what it says"),
        (ApiError(0, "Unreachable", "Connection reset"), Settings(), [], "check again in a moment"),
        (ApiError(500, "Broken", "500: no"), Settings(label_selector="a=b"), [], "check again in a moment"),
    ],
)
def test_pods_that_cannot_be_listed_are_told_with_what_mends_it(
    error: ApiError, settings: Settings, before: list[Finding], fix: str
) -> None:
    found = unlisted(error, settings, before)
    assert (found.level, found.area) == (Level.ERROR, Area.PODS)
    assert found.what == f"the pods cannot be listed: {error}"
    assert found.fix.startswith(fix)


NO_RIGHTS = Fault(Answer.refusal(Code.UNAUTHORIZED), path="microservices")


@pytest.mark.parametrize(
    ("server", "fault", "fix"),
    [
        (DevServer(), None, "if it has no accounts, leave --registry-username out"),
        (DevServer(), Fault(Answer.redirect("/login", 302), path="token"), "the address of the Service Center itself"),
        (DevServer(accounts={"operator": "another"}), None, "put the password of account operator into"),
        (DevServer(accounts={"operator": "right"}), NO_RIGHTS, "give the account a role"),
    ],
    ids=["no accounts", "no registry", "wrong password", "no rights"],
)
async def test_what_to_do_depends_on_whether_the_login_or_the_account_is_refused(
    tmp_path: Path, server: DevServer, fault: Fault | None, fix: str
) -> None:
    (tmp_path / "password").write_text("right")
    server.faults.set(*([fault] if fault is not None else []))
    async with server.listening() as url:
        settings = Settings(registry_address=(url,), registry_username="operator", registry_password_file=tmp_path / "password")
        async with registry_client(settings) as client:
            found, let_in = await check_access(Register(Snapshot(client)), settings, [Tenant()])
    assert (found[0].level, let_in) == (Level.ERROR, False)
    assert fix in found[0].fix
