"""Showing the registry who we are: access keys, tokens, and when a login is sent, or rather not (virtual time, no network)."""

import asyncio
import hashlib
import hmac
import os
import random
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.config import SettingsError
from registry_status.registry.auth import HIDDEN, AccessKeyAuth, NoAuth, hidden
from registry_status.registry.base import (
    AuthError,
    BlockedError,
    FencedError,
    LoggedOutError,
    PermanentError,
    RegistryError,
    TransientError,
    UnavailableError,
)
from registry_status.registry.files import LARGEST, SecretFile
from registry_status.registry.login import (
    BLOCKED_PAUSE,
    FETCH_EVERY,
    FETCHES,
    REFRESH,
    REFRESH_AGAIN,
    TOKEN_LIFE,
    UNANSWERED,
    UNANSWERED_PAUSE,
    WRONG_MOST,
    WRONG_PAUSES,
    WRONG_WITHIN,
    Attempts,
    TokenAuth,
)
from registry_status.report.text import redact
from registry_status.watched import LOOK_EVERY
from tests.virtual_time import run_virtual

HOUR = 3600.0
WRONG = AuthError("401202", "user name or password is wrong", address="http://registry")
BLOCKED = BlockedError("403201", "the account is blocked", address="http://registry")
SILENCE = TransientError("timeout", "no answer in time", address="http://registry", maybe_applied=True)
REFUSED = TransientError("connect", "cannot connect: Connection refused", address="http://registry")
BAD_TOKEN = AuthError("401201", "Request unauthorized")


class FakeDoor:
    """Gives out tokens t-1, t-2, ... unless `troubles` has something else to say, for the next logins or for all of them."""

    def __init__(self) -> None:
        self.logins: list[tuple[str, str]] = []
        self.times: list[float] = []
        self.knocks = 0
        self.troubles: list[RegistryError] = []
        self.trouble: RegistryError | None = None
        self.knock_trouble: TransientError | None = None
        self.delay = 0.0

    async def knock(self) -> None:
        self.knocks += 1
        if self.knock_trouble is not None:
            raise self.knock_trouble

    async def log_in(self, name: str, password: str) -> str:
        self.logins.append((name, password))
        self.times.append(now())
        await asyncio.sleep(self.delay)
        if self.troubles:
            raise self.troubles.pop(0)
        if self.trouble is not None:
            raise self.trouble
        return f"t-{len(self.logins)}"


def now() -> float:
    return asyncio.get_running_loop().time()


class Login:
    """A `TokenAuth` with its password file and what is behind the door."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "password"
        self.file.write_text("secret-1\n")
        self.door = FakeDoor()
        self.woken: list[float] = []
        self.auth = TokenAuth("operator", self.file, self.door, clock=now, chance=random.Random(1))
        self.auth.on_available(lambda: self.woken.append(now()))

    async def token(self) -> str:
        return (await self.auth.headers("default"))["authorization"].removeprefix("Bearer ")

    async def trouble(self) -> RegistryError:
        with pytest.raises(RegistryError) as caught:
            await self.auth.headers("default")
        return caught.value

    def refuse(self, token: str, error: AuthError = BAD_TOKEN) -> bool:
        return self.auth.refused({"authorization": f"Bearer {token}"}, error)


def with_login(test: Callable[[Login], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Make it a test on virtual time."""

    async def main(folder: Path) -> None:
        login = Login(folder)
        try:
            await test(login)
        finally:
            await login.auth.aclose()

    def run(tmp_path: Path) -> None:
        run_virtual(main(tmp_path))

    run.__name__ = test.__name__
    return run


# --- tokens -------------------------------------------------------------------------------------


@with_login
async def test_a_token_is_fetched_once_and_kept(login: Login) -> None:
    assert [await login.token() for _ in range(3)] == ["t-1"] * 3
    assert login.door.logins == [("operator", "secret-1")]


@with_login
async def test_all_who_need_a_token_wait_for_one_login(login: Login) -> None:
    login.door.delay = 1.0
    assert set(await asyncio.gather(*(login.token() for _ in range(1000)))) == {"t-1"}
    assert len(login.door.logins) == 1


@with_login
async def test_who_stops_waiting_does_not_stop_the_login_of_the_others(login: Login) -> None:
    login.door.delay = 1.0
    first, second = asyncio.create_task(login.token()), asyncio.create_task(login.token())
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == "t-1"
    assert len(login.door.logins) == 1


@with_login
async def test_a_token_is_replaced_ahead_of_its_end_and_nobody_waits_for_it(login: Login) -> None:
    await login.token()
    await asyncio.sleep(TOKEN_LIFE * REFRESH[1])
    login.door.delay = 1.0
    assert [await login.token(), await login.token()] == ["t-1", "t-1"]
    await asyncio.sleep(2)
    assert await login.token() == "t-2"
    assert len(login.door.logins) == 2


def test_replacements_are_jittered(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")

    async def first_refresh(seed: int) -> float:
        door = FakeDoor()
        auth = TokenAuth("operator", tmp_path / "password", door, clock=now, chance=random.Random(seed))
        while len(door.logins) < 2:
            await auth.headers("default")
            await asyncio.sleep(60)
        return door.times[1] - door.times[0]

    waits = [run_virtual(first_refresh(seed)) for seed in range(10)]
    assert len(set(waits)) > 5
    assert all(REFRESH[0] * TOKEN_LIFE <= wait <= REFRESH[1] * TOKEN_LIFE + 120 for wait in waits)


@with_login
async def test_a_replacement_that_fails_is_tried_again_and_the_old_token_stays(login: Login) -> None:
    await login.token()
    await asyncio.sleep(TOKEN_LIFE * REFRESH[1])
    login.door.trouble = REFUSED
    for _ in range(100):
        assert await login.token() == "t-1"
        await asyncio.sleep(REFRESH_AGAIN / 10)
    assert 8 <= len(login.door.logins) - 1 <= 11
    login.door.trouble = None
    await asyncio.sleep(REFRESH_AGAIN)
    await login.token()
    await asyncio.sleep(1)
    assert await login.token() != "t-1"


@with_login
async def test_a_password_that_is_wrong_at_the_replacement_leaves_the_token_until_its_end(login: Login) -> None:
    await login.token()
    await asyncio.sleep(TOKEN_LIFE * REFRESH[1])
    login.door.trouble = WRONG
    for _ in range(10):
        assert await login.token() == "t-1"
        await asyncio.sleep(60)
    assert len(login.door.logins) == 2
    await asyncio.sleep(TOKEN_LIFE * (1 - REFRESH[1]))
    assert isinstance(await login.trouble(), LoggedOutError)


@with_login
async def test_a_token_that_has_ended_is_not_sent(login: Login) -> None:
    await login.token()
    await asyncio.sleep(TOKEN_LIFE)
    assert await login.token() == "t-2"


@pytest.mark.parametrize("code", ["401201", "401204", "401205"])
def test_a_refused_token_is_replaced(tmp_path: Path, code: str) -> None:
    @with_login
    async def test(login: Login) -> None:
        assert login.refuse(await login.token(), AuthError(code, ""))
        assert await login.token() == "t-2"

    test(tmp_path)


@pytest.mark.parametrize("code", ["401202", "401203", "http-401", "403201"])
def test_what_a_new_token_does_not_mend_fetches_none(tmp_path: Path, code: str) -> None:
    @with_login
    async def test(login: Login) -> None:
        assert not login.refuse(await login.token(), AuthError(code, ""))
        assert await login.token() == "t-1"

    test(tmp_path)


@with_login
async def test_an_old_token_refused_late_does_not_cost_the_new_one(login: Login) -> None:
    await login.token()
    assert [login.refuse("t-1"), login.refuse("t-1")] == [True, True]
    assert await login.token() == "t-2"
    assert login.refuse("t-1")
    assert await login.token() == "t-2"


@with_login
async def test_tokens_that_are_refused_one_after_the_other_are_not_fetched_without_end(login: Login) -> None:
    for _ in range(1000):
        login.refuse(await login.token())
        await asyncio.sleep(0.3)
    assert len(login.door.logins) <= 1 + FETCHES + 300 / FETCH_EVERY


@with_login
async def test_a_probe_shows_the_token_that_there_is_and_fetches_none(login: Login) -> None:
    assert login.auth.known_headers("default") == {}
    await login.token()
    assert login.auth.known_headers("default") == {"authorization": "Bearer t-1"}
    assert len(login.door.logins) == 1


# --- wrong passwords ----------------------------------------------------------------------------


@with_login
async def test_a_wrong_password_is_sent_once_however_many_ask(login: Login) -> None:
    login.door.trouble, login.door.delay = WRONG, 0.01
    told = await asyncio.gather(*(login.trouble() for _ in range(1000)))
    for _ in range(100):
        told.append(await login.trouble())
        await asyncio.sleep(30)
    assert len(login.door.logins) == 1
    assert {type(error) for error in told} == {LoggedOutError}
    said = (
        f"login as operator with the password in {login.file} failed: user name or password is wrong; no other login is sent "
        "until that file changes or an hour passes (401202) from http://registry"
    )
    assert {str(error) for error in told} == {said}


@pytest.mark.parametrize("name", ["password", "secret", "token", "authorization"])
def test_what_is_told_of_a_wrong_password_survives_the_redaction_whatever_its_file_is_called(name: str) -> None:
    attempts = Attempts()
    attempts.failed(WRONG, 0)
    said = str(attempts.refusal("operator", Path("/etc/registry-status/auth") / name))
    assert redact(said) == said


@with_login
async def test_a_wrong_password_is_sent_three_times_in_all_and_hours_apart(login: Login) -> None:
    login.door.trouble = WRONG
    for _ in range(2 * 24 * 6):
        await login.trouble()
        await asyncio.sleep(600)
    assert len(login.door.logins) == 3
    apart = [after - before for before, after in pairwise(login.door.times)]
    assert [apart[0] >= WRONG_PAUSES[0][0] > HOUR, apart[1] >= WRONG_PAUSES[1][0] > HOUR] == [True, True]
    assert "until that file changes or the operator restarts" in str(await login.trouble())


@with_login
async def test_a_password_that_became_right_on_the_server_is_found_out_by_itself(login: Login) -> None:
    login.door.troubles = [WRONG]
    await login.trouble()
    await asyncio.sleep(WRONG_PAUSES[0][0] + 2 * LOOK_EVERY)
    assert len(login.woken) == 1
    assert await login.token() == "t-2"


@with_login
async def test_a_new_password_is_tried_at_once_and_those_who_wait_are_woken(login: Login) -> None:
    login.door.troubles = [WRONG]
    await login.trouble()
    await asyncio.sleep(100)
    replace(login.file, "secret-2")
    changed = now()
    await asyncio.sleep(3 * LOOK_EVERY)
    assert login.door.logins == [("operator", "secret-1"), ("operator", "secret-2")]
    assert len(login.woken) == 1
    assert login.woken[0] - changed <= 2 * LOOK_EVERY
    assert await login.token() == "t-2"


@with_login
async def test_each_new_password_that_is_wrong_too_is_sent_once_and_no_fourth_within_an_hour(login: Login) -> None:
    """A file that changes and changes, or is written piece by piece, must not lock the account either."""
    login.door.trouble = WRONG
    for number in range(1, 6):
        replace(login.file, f"secret-{number}")
        for _ in range(10):
            said = str(await login.trouble())
            await asyncio.sleep(LOOK_EVERY)
    assert [password for _, password in login.door.logins] == ["secret-1", "secret-2", "secret-3"]
    assert "3 were refused within an hour" in said


@with_login
async def test_a_refusal_counts_though_the_file_changed_while_the_login_was_under_way(login: Login) -> None:
    """The token is good for hours, so requests go on meanwhile, and each of them may look at the file."""
    await login.token()
    await asyncio.sleep(TOKEN_LIFE * REFRESH[1])
    login.door.trouble, login.door.delay = WRONG, LOOK_EVERY + 2
    for number in range(2, WRONG_MOST + 4):
        await login.token()
        await asyncio.sleep(LOOK_EVERY + 1)
        replace(login.file, f"secret-{number}")
        await login.token()
        await asyncio.sleep(REFRESH_AGAIN + 2)
    assert len(login.door.logins) == 1 + WRONG_MOST


@with_login
async def test_the_password_that_had_to_wait_is_tried_by_itself_when_the_hour_is_over(login: Login) -> None:
    login.door.troubles = [WRONG] * WRONG_MOST
    for number in range(1, 5):
        replace(login.file, f"secret-{number}")
        await login.trouble()
        await asyncio.sleep(2 * LOOK_EVERY)
    await asyncio.sleep(WRONG_WITHIN + 2 * LOOK_EVERY)
    assert [password for _, password in login.door.logins][WRONG_MOST:] == ["secret-4"]
    assert login.door.times[WRONG_MOST] - login.door.times[0] >= HOUR
    assert len(login.woken) == 1


@with_login
async def test_a_file_written_anew_with_the_same_password_is_no_reason_to_try(login: Login) -> None:
    login.door.trouble = WRONG
    await login.trouble()
    for _ in range(5):
        replace(login.file, "secret-1\n")
        await asyncio.sleep(2 * LOOK_EVERY)
        await login.trouble()
    assert len(login.door.logins) == 1


@with_login
async def test_a_file_that_vanishes_or_is_empty_leaves_the_password(login: Login) -> None:
    login.file.unlink()
    assert await login.token() == "t-1"
    login.file.write_text("")
    await asyncio.sleep(LOOK_EVERY)
    login.refuse("t-1")
    assert await login.token() == "t-2"
    assert {password for _, password in login.door.logins} == {"secret-1"}


@with_login
async def test_a_blocked_account_is_left_alone_for_a_quarter_of_an_hour(login: Login) -> None:
    login.door.trouble = BLOCKED
    assert "the account is blocked; no other login is sent until" in str(await login.trouble())
    while now() - login.door.times[0] < BLOCKED_PAUSE - LOOK_EVERY:
        assert isinstance(await login.trouble(), LoggedOutError)
        await asyncio.sleep(1)
    assert len(login.door.logins) == 1
    login.door.trouble = None
    await asyncio.sleep(3 * LOOK_EVERY)
    assert await login.token() == "t-2"
    assert len(login.woken) == 1


@with_login
async def test_a_registry_without_logins_is_asked_again_after_a_minute(login: Login) -> None:
    login.door.trouble = PermanentError("http-404", "HTTP 404 Not Found", address="http://registry")
    for _ in range(100):
        said = await login.trouble()
        await asyncio.sleep(6)
    assert isinstance(said, LoggedOutError)
    assert "nothing takes logins there: HTTP 404 Not Found" in str(said)
    assert 9 <= len(login.door.logins) <= 11


# --- logins without an answer -------------------------------------------------------------------


@with_login
async def test_a_login_without_an_answer_is_sent_again_only_to_a_registry_that_answers(login: Login) -> None:
    login.door.trouble = SILENCE
    assert await login.trouble() is SILENCE
    login.door.knock_trouble = REFUSED
    for _ in range(100):
        assert isinstance(await login.trouble(), TransientError)
        await asyncio.sleep(1)
    assert len(login.door.logins) == 1
    login.door.trouble = login.door.knock_trouble = None
    assert await login.token() == "t-2"


@with_login
async def test_logins_that_are_never_answered_are_sent_once_a_minute(login: Login) -> None:
    login.door.trouble = SILENCE
    for _ in range(10 * 60):
        await login.trouble()
        await asyncio.sleep(1)
    assert len(login.door.logins) <= UNANSWERED + 10 * 60 / UNANSWERED_PAUSE
    assert "3 in a row got no answer, the last: no answer in time" in str(await login.trouble())
    login.door.trouble = None
    await asyncio.sleep(UNANSWERED_PAUSE + 2 * LOOK_EVERY)
    assert len(login.woken) == 1


@with_login
async def test_a_password_that_was_right_is_not_doubted_for_want_of_an_answer(login: Login) -> None:
    login.refuse(await login.token())
    login.door.trouble = SILENCE
    for _ in range(10):
        assert isinstance(await login.trouble(), TransientError)
        await asyncio.sleep(5)
    login.door.trouble = None
    assert await login.token() == "t-12"
    assert login.door.knocks == 0


@pytest.mark.parametrize("trouble", [
    REFUSED,
    UnavailableError("unavailable", "the registry does not work"),
    TransientError("500003", "the login failed", maybe_applied=True),
    FencedError("fenced", "this replica does not lead any more"),
])  # fmt: skip
def test_what_cannot_be_a_failed_login_is_no_reason_to_wait_long(tmp_path: Path, trouble: RegistryError) -> None:
    @with_login
    async def test(login: Login) -> None:
        login.door.trouble = trouble
        for _ in range(20):
            assert not isinstance(await login.trouble(), LoggedOutError)
            await asyncio.sleep(2)
        login.door.trouble = None
        assert await login.token() == "t-21"
        assert login.door.knocks == 0

    test(tmp_path)


@with_login
async def test_failing_logins_are_no_storm(login: Login) -> None:
    login.door.trouble = REFUSED
    for _ in range(1000):
        error = await login.trouble()
        assert (str(error), type(error)) == (str(REFUSED), TransientError)
        await asyncio.sleep(0.01)
    assert len(login.door.logins) <= 3 + 10 + 1
    assert isinstance(error, TransientError)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 1


@with_login
async def test_a_registry_that_asks_for_patience_gets_it(login: Login) -> None:
    login.door.trouble = TransientError("http-429", "HTTP 429", retry_after=20)
    for _ in range(100):
        await login.trouble()
        await asyncio.sleep(1)
    assert len(login.door.logins) == 5


@with_login
async def test_an_end_in_the_middle_leaves_nothing_running(login: Login) -> None:
    login.door.troubles = [WRONG]
    await login.trouble()
    replace(login.file, "secret-2")
    login.door.delay = 100
    await asyncio.sleep(3 * LOOK_EVERY)
    assert len(login.door.logins) == 2
    await login.auth.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@given(st.lists(st.tuples(st.sampled_from(["another", "right", "wrong", "blocked"]), st.floats(0, 2 * HOUR)), max_size=60))
def test_whatever_passwords_there_are_no_four_of_them_are_refused_within_an_hour(steps: list[tuple[str, float]]) -> None:
    attempts, time, sent = Attempts(), 0.0, list[float]()
    for what, pause in steps:
        time += pause
        if what == "another":
            attempts = attempts.with_another_password(time)
        elif attempts.allowed(time) and what == "right":
            attempts.succeeded()
        elif attempts.allowed(time) and what == "blocked":
            attempts.failed(BLOCKED, time)
        elif attempts.allowed(time):
            attempts.failed(WRONG, time)
            sent.append(time)
    assert all(fourth - first > HOUR for first, fourth in zip(sent, sent[WRONG_MOST:], strict=False))


@given(st.lists(st.tuples(st.sampled_from(["right", "wrong", "blocked"]), st.floats(0, 24 * HOUR)), max_size=60))
def test_no_password_is_refused_more_than_three_times(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, and however long it takes: the server's fourth failure within an hour would block the account."""
    attempts, time, sent = Attempts(), 0.0, list[float]()
    for what, pause in steps:
        time += pause
        if not attempts.allowed(time):
            continue
        if what == "right":
            attempts.succeeded()
            sent.clear()
        elif what == "blocked":
            attempts.failed(BLOCKED, time)
        else:
            attempts.failed(WRONG, time)
            sent.append(time)
    assert len(sent) <= 3
    assert all(after - before > HOUR for before, after in pairwise(sent))


# --- access keys --------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def replace(file: Path, text: str) -> None:
    """Put another file in its place, as a kubelet does."""
    other = file.with_name("other")
    other.write_text(text)
    other.rename(file)


def digest(access_key: str, secret_key: str) -> str:
    return hmac.new(secret_key.encode(), access_key.encode(), hashlib.sha256).hexdigest()


def keys(folder: Path, access_key: str, secret_key: str) -> tuple[Path, Path]:
    for name, text in (("ak", access_key), ("sk", secret_key)):
        replace(folder / name, text)
    return folder / "ak", folder / "sk"


@pytest.mark.parametrize(("own", "expected"), [("", "of%20request"), ("cn-east-2", "cn-east-2")])
async def test_an_access_key_shows_itself_its_digest_and_a_project(tmp_path: Path, own: str, expected: str) -> None:
    auth = AccessKeyAuth(*keys(tmp_path, "AKEXAMPLE\n", "sk-example\n"), own, clock=Clock())
    assert await auth.headers("of request") == auth.known_headers("of request") == {
        "x-service-ak": "AKEXAMPLE",
        "x-service-shaaksk": digest("AKEXAMPLE", "sk-example"),
        "x-service-project": expected,
    }  # fmt: skip


async def test_a_known_digest() -> None:
    """The one of RFC 4231's second case, so that key and message cannot be mixed up."""
    assert digest("what do ya want for nothing?", "Jefe").startswith("5bdcc146bf60754e6a042426089575c7")


async def test_a_rotated_access_key_is_used_within_seconds(tmp_path: Path) -> None:
    clock = Clock()
    auth = AccessKeyAuth(*keys(tmp_path, "AK1", "sk1"), "", clock=clock)
    before = await auth.headers("p")
    keys(tmp_path, "AK2", "sk2")
    assert await auth.headers("p") == before
    assert not auth.refused(before, BAD_TOKEN)
    clock.now += LOOK_EVERY
    assert auth.refused(before, BAD_TOKEN)
    assert (await auth.headers("p"))["x-service-shaaksk"] == digest("AK2", "sk2")


async def test_a_rotated_access_key_is_hidden_and_the_key_before_is_hidden_too(tmp_path: Path) -> None:
    """The answer to a request that was sent before the rotation may come after it, and repeat what was sent."""
    clock = Clock()
    auth = AccessKeyAuth(*keys(tmp_path, "AK1", "sk1"), "", clock=clock)
    keys(tmp_path, "AK2", "sk2")
    clock.now += LOOK_EVERY
    await auth.headers("p")
    for secret in ("AK1", digest("AK1", "sk1"), "AK2", digest("AK2", "sk2")):
        assert auth.hide(f"you sent {secret}") == f"you sent {HIDDEN}"


async def test_an_access_key_that_is_gone_or_no_key_leaves_the_one_before(tmp_path: Path) -> None:
    clock = Clock()
    files = keys(tmp_path, "AK1", "sk1")
    auth = AccessKeyAuth(*files, "", clock=clock)
    before = await auth.headers("p")
    for spoil in (files[0].unlink, lambda: files[0].write_text("A\nB"), lambda: files[0].write_bytes(b"\xff")):
        spoil()
        clock.now += LOOK_EVERY
        assert await auth.headers("p") == before


@pytest.mark.parametrize("late", [0, 1], ids=["access key", "secret key"])
@pytest.mark.parametrize("second", ["sk1", "sk2"], ids=["the same secret key", "another secret key"])
async def test_a_rotation_of_one_key_file_after_the_other_never_shows_a_key_with_the_digest_of_another(
    tmp_path: Path, late: int, second: str
) -> None:
    clock = Clock()
    files = keys(tmp_path, "AK1", "sk1")
    auth = AccessKeyAuth(*files, "", clock=clock)
    before = await auth.headers("p")
    keys(tmp_path, "AK2", second)
    replace(files[late], "")
    for _ in range(3):
        clock.now += LOOK_EVERY
        assert await auth.headers("p") == before
    keys(tmp_path, "AK2", second)
    clock.now += LOOK_EVERY
    shown = await auth.headers("p")
    assert (shown["x-service-ak"], shown["x-service-shaaksk"]) == ("AK2", digest("AK2", second))


async def test_both_key_files_are_looked_at_together_also_after_one_was_unusable(tmp_path: Path) -> None:
    """Else a rotation between two looks would join a key with the digest of another, until the other look."""
    clock = Clock()
    files = keys(tmp_path, "AK1", "sk1")
    auth = AccessKeyAuth(*files, "", clock=clock)
    replace(files[0], "")
    clock.now += LOOK_EVERY
    before = await auth.headers("p")
    replace(files[0], "AK1")
    for _ in range(2):
        clock.now += LOOK_EVERY / 2
        assert await auth.headers("p") == before
    keys(tmp_path, "AK2", "sk2")
    clock.now += LOOK_EVERY / 2
    shown = await auth.headers("p")
    assert shown["x-service-shaaksk"] == digest(shown["x-service-ak"], "sk" + shown["x-service-ak"][-1])


async def test_what_is_wrong_with_both_key_files_is_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    files = keys(tmp_path, "AK1", "sk1")
    auth = AccessKeyAuth(*files, "", clock=clock)
    for file in files:
        replace(file, "")
    for _ in range(3):
        clock.now += LOOK_EVERY
        await auth.headers("p")
    (told,) = caplog.messages
    assert all(str(file) in told for file in files)
    with pytest.raises(SettingsError) as caught:
        AccessKeyAuth(*files, "", clock=clock)
    assert len(caught.value.problems) == 2


async def test_without_credentials_nothing_is_shown() -> None:
    auth = NoAuth()
    assert await auth.headers("p") == auth.known_headers("p") == {}
    assert not auth.refused({}, BAD_TOKEN)
    assert auth.hide("a") == "a"


# --- files --------------------------------------------------------------------------------------


def secret(file: Path) -> SecretFile:
    return SecretFile(file, "registry_password_file")


@pytest.mark.parametrize(
    ("content", "text"),
    [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a \n", " a "), ("pä\n", "pä"), ("\ufeffa\r\n", "a"), ("a\ufeff", "a\ufeff")],
)
def test_a_secret_is_the_file_without_the_last_line_break_and_the_mark_of_utf_8(
    tmp_path: Path, content: str, text: str
) -> None:
    (tmp_path / "x").write_text(content, "utf-8")
    file = secret(tmp_path / "x")
    assert file.look(0.0)
    assert file.text == text


@pytest.mark.parametrize(("content", "why"), [
    (None, "cannot be read: No such file or directory"),
    (b"", "is empty"),
    (b"\n", "is empty"),
    (b"\xef\xbb\xbf\r\n", "is empty"),
    (b"hunter\xff2", "is no text in UTF-8"),
    (b"x" * (LARGEST + 1), "holds something else than what is asked for"),
])  # fmt: skip
def test_a_file_without_a_secret_is_told_with_the_setting_that_names_it(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        secret(path).look(0.0)
    assert str(caught.value) == f"--registry-password-file: {path} {why}"


def test_a_file_is_looked_at_every_few_seconds_and_not_more_often(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a")
    file = secret(path)
    assert file.look(0.0)
    replace(path, "b")
    assert not file.look(LOOK_EVERY - 0.1)
    assert file.look(LOOK_EVERY)
    assert file.text == "b"
    assert not file.look(2 * LOOK_EVERY)


def test_a_change_in_place_of_the_same_length_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a")
    file = secret(path)
    file.look(0.0)
    path.write_text("b")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert file.look(LOOK_EVERY)


def test_a_swapped_link_is_seen_as_kubernetes_swaps_it(tmp_path: Path) -> None:
    """A Secret's volume: password -> ..data/password, ..data -> a folder named after the time."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "password").write_text(f"secret-{number}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "password").symlink_to("..data/password")
    file = secret(tmp_path / "password")
    file.look(0.0)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert file.look(LOOK_EVERY)
    assert file.text == "secret-2"


# --- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "say {}.", '{{"detail": "{}"}}', "{}{}"])
@pytest.mark.parametrize("word", ["abc", "a/b+c==", 'quo"ted'])
def test_secrets_are_taken_out_of_texts(text: str, word: str) -> None:
    for form in (word, word.replace("/", "\\/"), word.replace('"', '\\"'), quote(word, safe="")):
        shown = hidden(text.format(form, form), ("", word))
        assert form not in shown
        assert HIDDEN in shown


@with_login
async def test_tokens_are_hidden_and_the_one_before_too(login: Login) -> None:
    await login.token()
    assert login.auth.hide("t-1") == HIDDEN
    login.refuse("t-1")
    assert login.auth.hide("t-1") == HIDDEN
    await login.token()
    assert login.auth.hide("t-1 t-2") == f"{HIDDEN} {HIDDEN}"


@with_login
async def test_a_token_is_hidden_as_long_as_an_answer_to_it_may_be_under_way(login: Login) -> None:
    """Rights that are missing cost several tokens at once, and a slow answer may repeat the first of them."""
    shown = [await login.token()]
    for _ in range(FETCHES):
        assert login.refuse(shown[-1])
        shown.append(await login.token())
    assert login.auth.hide(" ".join(shown)) == " ".join([HIDDEN] * len(shown))


@with_login
async def test_nothing_shows_a_secret_by_accident(login: Login) -> None:
    token = await login.token()
    folder = login.file.parent
    key = AccessKeyAuth(*keys(folder, "AKEXAMPLE", "sk-example"), "", clock=now)
    shown = f"{login.auth!r} {login.auth!s} {login.auth._token!r} {login.auth._file!r} {key!r} {key!s} {key._secret_key!r}"
    shown = shown.replace(str(folder), "FOLDER")  # pytest's folders may be named as the token is
    for word in ("secret-1", token, "AKEXAMPLE", "sk-example", digest("AKEXAMPLE", "sk-example")):
        assert word not in shown
