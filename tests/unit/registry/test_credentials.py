"""The real client with credentials, against a real registry over HTTP: what is sent, what is repeated, and what never shows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from registry_status.config import Settings, SettingsError
from registry_status.model import InstanceStatus, Tenant
from registry_status.registry import login
from registry_status.registry.base import AuthError, LoggedOutError, NotFoundError, Operation, RegistryError, TransientError
from registry_status.registry.connect import registry_client
from registry_status.registry.devserver import (
    Answer,
    Code,
    DevServer,
    Drop,
    Fault,
    Hang,
    NewInstance,
    NewService,
    When,
)
from registry_status.registry.servicecomb import ServiceComb

SERVICE = "svc-1"
TENANT = Tenant()
DOWN = InstanceStatus.DOWN
PASSWORD = "correct-horse-Battery-1"
NO_SCOPE = "no valid resouce scope"


@dataclass
class Seen:
    """What is measured."""

    requests: list[tuple[Operation, str]] = field(default_factory=list)

    def request_finished(self, operation: Operation, code: str, seconds: float) -> None:
        self.requests.append((operation, code))

    def circuit_changed(self, address: str, *, is_open: bool) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_600_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def server(clock: Clock) -> DevServer:
    """A registry with an account `operator`, in which service svc-1 has the instance i-1."""
    server = DevServer(clock=clock, accounts={"operator": PASSWORD})
    populate(server)
    return server


def populate(server: DevServer) -> None:
    server.registry.create_service(NewService(name="cart", service_id=SERVICE))
    server.registry.register(SERVICE, NewInstance(host_name="cart-1", instance_id="i-1", interval=3600, times=100))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
async def url(server: DevServer) -> AsyncIterator[str]:
    async with server.listening() as url:
        yield url


@pytest.fixture
def settings(url: str, password_file: Path) -> Settings:
    return Settings(
        registry_address=(url,), registry_username="operator", registry_password_file=password_file, request_timeout=2.0
    )


@pytest.fixture
async def client(settings: Settings, seen: Seen, clock: Clock) -> AsyncIterator[ServiceComb]:
    async with registry_client(settings, observer=seen, clock=clock) as client:
        yield client


def logins(server: DevServer) -> int:
    return sum(request.path == "/v4/token" for request in server.requests)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not happen")


def swap(path: Path, text: str) -> None:
    """Put another file in its place, as a kubelet does."""
    other = path.with_name("other")
    other.write_text(text)
    other.rename(path)


async def write(client: ServiceComb) -> None:
    await client.write_status(TENANT, SERVICE, "i-1", DOWN)


async def read(client: ServiceComb) -> object:
    return await client.list_instances(TENANT, SERVICE)


both = pytest.mark.parametrize("call", [read, write])
Call = Callable[[ServiceComb], Awaitable[object]]


# --- tokens -------------------------------------------------------------------------------------


async def test_one_login_lets_in(client: ServiceComb, server: DevServer, seen: Seen) -> None:
    await write(client)
    await read(client)
    assert [request.path for request in server.requests] == [
        "/v4/token",
        f"/v4/default/registry/microservices/{SERVICE}/instances/i-1/status",
        f"/v4/default/registry/microservices/{SERVICE}/instances",
    ]
    assert [request.authorization for request in server.requests] == [False, True, True]
    assert seen.requests == [("log-in", "ok"), ("write-status", "ok"), ("list-instances", "ok")]


@pytest.mark.parametrize("spoil", ["expire_tokens", "revoke_tokens"])
@both
async def test_a_token_that_is_no_good_any_more_is_replaced_and_the_request_repeated_once(
    client: ServiceComb, server: DevServer, call: Call, spoil: str
) -> None:
    await call(client)
    assert server.accounts is not None
    getattr(server.accounts, spoil)()
    server.journal.clear()
    await call(client)
    assert [request.status for request in server.requests] == [401, 200, 200]
    assert len(server.writes) == (1 if call is write else 0)


async def test_a_token_that_ends_under_a_crowd_costs_one_login(client: ServiceComb, server: DevServer) -> None:
    await read(client)
    assert server.accounts is not None
    server.accounts.expire_tokens()
    await asyncio.gather(*(read(client) for _ in range(200)))
    assert logins(server) == 2


async def test_a_request_is_repeated_only_once(client: ServiceComb, server: DevServer) -> None:
    server.faults.set(Fault(Answer.refusal(Code.UNAUTHORIZED, "no role"), path="/status$"))
    with pytest.raises(AuthError) as caught:
        await write(client)
    assert [request.path.rpartition("/")[2] for request in server.requests] == ["token", "status", "token", "status"]
    assert str(caught.value).startswith("Request unauthorized: no role; check the rights of the account operator (401201)")


async def test_rights_that_are_missing_for_some_services_cost_few_logins(client: ServiceComb, server: DevServer) -> None:
    server.faults.set(Fault(Answer.refusal(Code.UNAUTHORIZED, "no role"), path="/status$"))
    for _ in range(50):
        with pytest.raises(AuthError):
            await write(client)
        await read(client)
    assert logins(server) <= 1 + login.FETCHES


@both
async def test_what_is_not_there_for_a_restricted_account_is_no_bad_token(
    client: ServiceComb, server: DevServer, call: Call
) -> None:
    server.faults.set(Fault(Answer.refusal(Code.UNAUTHORIZED, NO_SCOPE), path=f"/{SERVICE}/"))
    with pytest.raises(NotFoundError):
        await call(client)
    assert logins(server) == 1


async def test_a_token_is_replaced_before_it_ends(client: ServiceComb, server: DevServer, clock: Clock) -> None:
    await read(client)
    clock.now += login.TOKEN_LIFE * login.REFRESH[1]
    await read(client)
    await until(lambda: logins(server) == 2)
    clock.now += login.TOKEN_LIFE * (1 - login.REFRESH[1]) + 1
    await read(client)
    assert {request.status for request in server.requests} == {200}
    assert logins(server) == 2


async def test_requests_that_hold_every_place_can_still_be_let_in(settings: Settings, server: DevServer) -> None:
    """The login takes no place of its own: else those that wait for it would hold them all."""
    async with registry_client(replace(settings, concurrency=1)) as client:
        await asyncio.gather(*(read(client) for _ in range(5)))
        assert server.accounts is not None
        server.accounts.expire_tokens()
        await asyncio.wait_for(asyncio.gather(*(read(client) for _ in range(5))), 5)


# --- wrong passwords ----------------------------------------------------------------------------


async def test_a_wrong_password_is_one_login_with_a_thousand_pods(
    client: ServiceComb, server: DevServer, password_file: Path, clock: Clock
) -> None:
    swap(password_file, "wrong")
    clock.now += 2
    for _ in range(3):
        told = await asyncio.gather(*(read(client) for _ in range(1000)), return_exceptions=True)
        assert {type(error) for error in told} == {LoggedOutError}
    assert [request.path for request in server.requests] == ["/v4/token"]
    assert server.accounts is not None
    assert server.accounts.login("operator", PASSWORD), "the account is not blocked"


async def test_a_password_changed_on_both_sides_is_used_at_once(
    client: ServiceComb, server: DevServer, password_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First on the server, then in the file: in between there is nothing to do but wait, and the wait is short."""
    monkeypatch.setattr(login, "LOOK_EVERY", 0.01)
    woken = asyncio.Event()
    client.on_available(woken.set)
    await read(client)
    assert server.accounts is not None
    server.accounts.set_password("operator", "new")
    server.accounts.revoke_tokens()
    with pytest.raises(LoggedOutError):
        await read(client)
    swap(password_file, "new")
    clock.now += 2
    await asyncio.wait_for(woken.wait(), 5)
    await read(client)
    assert logins(server) == 3


async def test_a_blocked_account_is_left_alone(
    client: ServiceComb, server: DevServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "LOOK_EVERY", 0.01)
    woken = asyncio.Event()
    client.on_available(woken.set)
    assert server.accounts is not None
    for _ in range(3):
        with pytest.raises(Exception, match="wrong"):
            server.accounts.login("operator", "somebody else's try")
    with pytest.raises(LoggedOutError) as caught:
        await read(client)
    assert caught.value.code == "403201"
    for _ in range(10):
        with pytest.raises(LoggedOutError):
            await read(client)
    clock.now += login.BLOCKED_PAUSE - 1
    await asyncio.sleep(0.05)
    assert logins(server) == 1
    server.accounts.unblock()
    clock.now += 2
    await asyncio.wait_for(woken.wait(), 5)
    await read(client)
    assert logins(server) == 2


async def test_a_registry_without_accounts_says_that_there_is_nothing_to_log_in_to(settings: Settings) -> None:
    server = DevServer()
    async with server.listening() as url, registry_client(replace(settings, registry_address=(url,))) as client:
        with pytest.raises(LoggedOutError, match="nothing takes logins there: HTTP 404 Not Found"):
            await read(client)


async def test_without_credentials_the_error_says_which_setting_would_help(url: str) -> None:
    async with registry_client(Settings(registry_address=(url,))) as client:
        with pytest.raises(AuthError) as caught:
            await read(client)
    assert str(caught.value) == (
        "No authorization header; no credentials are set: see --registry-username and --registry-access-key-file (401204) "
        f"from {url}"
    )


# --- logins and the registry's troubles ---------------------------------------------------------


@pytest.mark.parametrize("effect", [Drop(), Hang(), Answer.refusal(Code.BACKEND_UNAVAILABLE), Answer.html_page(200)])
async def test_a_login_that_fails_by_the_transport_is_transient_and_never_repeated_by_itself(
    settings: Settings, server: DevServer, effect: Any
) -> None:
    server.faults.set(Fault(effect, path="/v4/token"))
    async with registry_client(replace(settings, request_timeout=0.2)) as client:
        with pytest.raises(TransientError):
            await read(client)
        assert logins(server) == 1
        server.faults.clear()
        await read(client)
    assert logins(server) == 2


async def test_a_login_fails_over(settings: Settings, server: DevServer, url: str) -> None:
    dead = DevServer()
    async with dead.listening() as dead_url:
        pass
    async with registry_client(replace(settings, registry_address=(dead_url, url))) as client:
        with pytest.raises(TransientError, match="cannot connect"):
            await read(client)
        await read(client)


async def test_an_unanswered_login_is_repeated_only_once_the_registry_answers(
    settings: Settings, server: DevServer, password_file: Path
) -> None:
    """It may have been a wrong password: three such in a row, unseen, would block the account."""
    swap(password_file, "wrong")
    server.faults.set(Fault(Drop(), when=When.AFTER))
    async with registry_client(settings) as client:
        for _ in range(30):
            with pytest.raises(TransientError):
                await read(client)
        assert logins(server) == 1
        server.faults.clear()
        for _ in range(100):
            with pytest.raises(RegistryError) as caught:
                await read(client)
            if isinstance(caught.value, LoggedOutError):
                break
            await asyncio.sleep(0.05)
        assert isinstance(caught.value, LoggedOutError)
    assert logins(server) == 2
    assert server.accounts is not None
    assert server.accounts.login("operator", PASSWORD), "the account is not blocked"


async def test_probes_show_the_token(settings: Settings, server: DevServer) -> None:
    """A registry with a broken backend still refuses those without one, which says nothing of whether it works."""
    async with registry_client(settings) as client:
        await read(client)
        server.faults.set(Fault(Drop()))
        for _ in range(5):
            with pytest.raises(TransientError):
                await read(client)
        server.journal.clear()
        server.faults.clear()
        await until(lambda: bool(server.requests))
    assert server.requests[0].authorization


# --- access keys --------------------------------------------------------------------------------


@pytest.fixture
def key_files(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "ak", tmp_path / "sk"
    files[0].write_text("AKIDEXAMPLE123456789")
    files[1].write_text("sk-very-secret-1")
    return files


@asynccontextmanager
async def keyed(files: tuple[Path, Path], clock: Clock) -> AsyncIterator[tuple[ServiceComb, DevServer]]:
    server = DevServer(access_keys={"AKIDEXAMPLE123456789": "sk-very-secret-1"})
    populate(server)
    async with server.listening() as url:
        settings = Settings(registry_address=(url,), registry_access_key_file=files[0], registry_secret_key_file=files[1])
        async with registry_client(settings, clock=clock) as client:
            yield client, server


@both
async def test_an_access_key_lets_in(key_files: tuple[Path, Path], clock: Clock, call: Call) -> None:
    async with keyed(key_files, clock) as (client, server):
        await call(client)
    assert [request.status for request in server.requests] == [200]


async def test_a_rotated_access_key_repeats_the_request_once(key_files: tuple[Path, Path], clock: Clock) -> None:
    async with keyed(key_files, clock) as (client, server):
        await read(client)
        assert server.access_keys is not None
        server.access_keys.replace({"AKID2": "sk-2"})
        with pytest.raises(AuthError, match=f"check the access key in {key_files[0]} and its rights"):
            await read(client)
        swap(key_files[0], "AKID2")
        swap(key_files[1], "sk-2")
        clock.now += 2
        await read(client)


# --- files at the start -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["registry_password_file", "registry_access_key_file", "registry_secret_key_file"])
def test_a_missing_file_is_told_by_its_setting_and_its_name(tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    there.write_text("x")
    files = {"registry_password_file": there} if "password" in name else {
        "registry_access_key_file": there, "registry_secret_key_file": there
    }  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        registry_client(Settings(registry_address=("http://a",), **{**files, name: tmp_path / "none"}))  # type: ignore[arg-type]
    flag = "--" + name.replace("_", "-")
    assert caught.value.problems == (f"{flag}: {tmp_path / 'none'} cannot be read: No such file or directory",)


def test_credentials_over_plain_http_are_warned_of(caplog: pytest.LogCaptureFixture, password_file: Path) -> None:
    addresses = ("http://a", "https://b")
    registry_client(Settings(registry_address=addresses, registry_username="operator", registry_password_file=password_file))
    assert [record.getMessage() for record in caplog.records] == ["credentials go to http://a unencrypted"]
