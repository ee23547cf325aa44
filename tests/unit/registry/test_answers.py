"""What each answer of a registry means: the table of DESIGN section 5, and everything that is no registry's answer at all."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_status.registry import answers
from registry_status.registry.answers import Answer
from registry_status.registry.base import (
    AuthError,
    BlockedError,
    Instance,
    NotFoundError,
    PermanentError,
    RegistryError,
    Service,
    TransientError,
)

ADDRESS = "http://registry:30100"
HTML = b"<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>"
Headers = dict[str, str]
Read = Callable[[Answer], object]


def answer(status: int = 200, body: object = b"", *, method: str = "GET", headers: Headers | None = None) -> Answer:
    """An answer of the registry; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(method, status, httpx.Headers(headers), content)


def refusal(code: object, detail: str = "", *, status: int | None = None, **more: Any) -> Answer:
    """An error in the registry's own form."""
    return answer(status or int(str(code)[:3]), {"errorCode": code, "errorMessage": "no", "detail": detail}, **more)


def error_of(got: Answer) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        answers.check(got, ADDRESS)
    return caught.value


# --- the table of errors ------------------------------------------------------------------------

PERMANENT, NOT_FOUND, AUTH, BLOCKED, TRANSIENT = PermanentError, NotFoundError, AuthError, BlockedError, TransientError
CODES: list[tuple[str, str, type[RegistryError]]] = [
    ("400001", "", PERMANENT),
    ("400010", "", PERMANENT),
    ("400099", "", PERMANENT),
    ("403001", "", PERMANENT),
    ("403202", "", PERMANENT),
    ("401206", "", PERMANENT),
    ("400017", "", NOT_FOUND),
    ("400012", "", NOT_FOUND),
    ("400026", "", NOT_FOUND),
    ("401201", "no valid resouce scope", NOT_FOUND),
    ("401201", "rbac: no valid resouce scope for account", NOT_FOUND),
    ("401201", "", AUTH),
    ("401201", "token is invalid", AUTH),
    ("401202", "", AUTH),
    ("401204", "", AUTH),
    ("401205", "", AUTH),
    ("401299", "", AUTH),
    ("403201", "", BLOCKED),
    ("400002", "", TRANSIENT),
    ("400100", "", TRANSIENT),
    ("429001", "", TRANSIENT),
    ("500003", "", TRANSIENT),
    ("500011", "", TRANSIENT),
    ("500101", "", TRANSIENT),
    ("503000", "", TRANSIENT),
]
SHAPES = {"errorCode": "errorMessage", "errCode": "errMsg"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("code", "detail", "kind"), CODES, ids=[f"{row[0]} {row[1][:16]}".strip() for row in CODES])
def test_a_code_stands_for_one_class_of_error_in_both_shapes(
    code: str, detail: str, kind: type[RegistryError], shape: str
) -> None:
    body = {shape: code, SHAPES[shape]: "it said no", "detail": detail}
    error = error_of(answer(int(code[:3]), body))
    assert type(error) is kind
    assert (error.code, error.address) == (code, ADDRESS)
    assert error.message == (f"it said no: {detail}" if detail else "it said no")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "500003", TRANSIENT),
        (500, "400001", TRANSIENT),
        (429, "400001", TRANSIENT),
        (403, "400001", PERMANENT),
        (200, "", None),
    ],
)
def test_code_and_http_status_may_differ(status: int, code: str, kind: type[RegistryError] | None) -> None:
    if kind is None:
        answers.check(answer(status, HTML), ADDRESS)
    else:
        assert type(error_of(refusal(code, status=status))) is kind


BARE: list[tuple[int, type[RegistryError]]] = [
    (204, TRANSIENT),
    (301, PERMANENT),
    (302, PERMANENT),
    (307, PERMANENT),
    (308, PERMANENT),
    (400, TRANSIENT),
    (401, AUTH),
    (403, PERMANENT),
    (404, PERMANENT),
    (405, PERMANENT),
    (408, TRANSIENT),
    (418, TRANSIENT),
    (429, TRANSIENT),
    (431, PERMANENT),
    (500, TRANSIENT),
    (502, TRANSIENT),
    (503, TRANSIENT),
    (504, TRANSIENT),
    (599, TRANSIENT),
]
FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "HTML": HTML,
    "truncated": b'{"errorCode": "4000',
    "an array": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "no UTF-8": b"\xff\xfe\x00{",
    "nested without end": b"[" * 100_000,
    "an object without a code": b'{"message": "no"}',
    "a code that is null": b'{"errorCode": null, "errorMessage": "no"}',
    "a code that is a list": b'{"errorCode": ["400017"]}',
    "a code that is true": b'{"errorCode": true}',
    "a code that is a word": b'{"errorCode": "NotFound"}',
    "a code of another alphabet's digits": '{"errorCode": "٤٠٠٠١٧"}'.encode(),
    "a code without end": b'{"errorCode": "' + b"4" * 5000 + b'"}',
    "a number without end": b'{"errorCode": ' + b"4" * 5000 + b"}",
}


@pytest.mark.parametrize(("status", "kind"), BARE)
def test_an_error_without_the_registrys_body_goes_by_its_http_status(status: int, kind: type[RegistryError]) -> None:
    error = error_of(answer(status, HTML))
    assert type(error) is kind
    assert error.code == f"http-{status}"


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
def test_a_body_that_is_no_registrys_makes_an_error_one_of_http(body: bytes) -> None:
    error = error_of(answer(502, body))
    assert (type(error), error.code, error.message) == (TransientError, "http-502", "HTTP 502 Bad Gateway")


def test_a_code_may_be_a_number() -> None:
    error = error_of(refusal(400017))
    assert (type(error), error.code) == (NotFoundError, "400017")


@pytest.mark.parametrize("name", ["errorCode", "errCode"])
def test_a_null_in_one_shape_does_not_hide_the_other(name: str) -> None:
    other = {"errorCode": "errCode", "errCode": "errorCode"}[name]
    error = error_of(answer(400, {name: "400017", other: None, "errorMessage": None, "errMsg": "away", "detail": None}))
    assert (error.code, error.message) == ("400017", "away")


def test_an_error_without_any_message_says_so() -> None:
    assert error_of(answer(400, {"errorCode": "400001", "errorMessage": None})).message == "no message"


@pytest.mark.parametrize(
    ("method", "status", "maybe"),
    [
        ("GET", 500, False),
        ("PUT", 500, True),
        ("PUT", 502, True),
        ("PUT", 204, True),
        ("PUT", 429, False),
        ("PUT", 400, False),
    ],
)
def test_only_a_write_can_have_been_applied_though_it_failed(method: str, status: int, maybe: bool) -> None:
    assert error_of(answer(status, HTML, method=method)).maybe_applied is maybe


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        (" 30 ", 30.0),
        ("0", None),
        ("000", None),
        ("301", 300.0),
        ("9" * 400, 300.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("1, 2", None),
        ("Wed, 25 Nov 2026 10:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_taken_in_seconds_and_never_for_more_than_five_minutes(
    status: int, text: str, seconds: float | None
) -> None:
    """No wait at all is no answer: the backoff decides."""
    error = error_of(answer(status, b"slow down", headers={"Retry-After": text}))
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("date", "now", "seconds"),
    [
        ("Wed, 25 Nov 2026 10:00:07 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", 7.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", 300.0),
        ("Wed, 25 Nov 2026 09:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Wed, 25 Nov 2026 10:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Wed, 25 Nov 2026 10:00:07 GMT", "soon", None),
        ("Wed, 99 Nov 2026 10:00:07 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Wed, 25 Nov 2026 10:00:07", "Wed, 25 Nov 2026 10:00:00 GMT", 7.0),
        (f"Wed, 25 Nov {'9' * 20} 10:00:07 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        (f"Wed, 25 Nov 2026 {'9' * 20}:00:07 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        (f"Wed, 25 Nov 2026 10:00:07 +{'9' * 20}", "Wed, 25 Nov 2026 10:00:00 GMT", None),
        ("Wed, 25 Nov 2026 10:00:07 GMT", f"Wed, 25 Nov {'9' * 20} 10:00:00 GMT", None),
    ],
)
def test_retry_after_may_be_a_date_which_is_compared_with_the_servers_own_clock(
    date: str, now: str, seconds: float | None
) -> None:
    error = error_of(answer(503, b"slow down", headers={"Retry-After": date, "Date": now}))
    assert isinstance(error, TransientError)
    assert error.retry_after == seconds


def test_retry_after_is_read_beside_the_registrys_own_code_too() -> None:
    error = error_of(refusal("429001", headers={"Retry-After": "7"}))
    assert isinstance(error, TransientError)
    assert (error.code, error.retry_after) == ("429001", 7.0)


# --- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("two\r\nlines\ttabbed", "two lines tabbed"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("\x00\x07bell\x7f", "bell"),
        ("right\u202eto left", "right to left"),
        ("half \ud800 a character", "half a character"),
        ("x" * 500, "x" * 200 + "..."),
        ("", "no message"),
        ("\n", "no message"),
    ],
)
def test_what_the_registry_says_is_shown_as_one_printable_line_of_bounded_length(sent: str, shown: str) -> None:
    assert error_of(answer(400, {"errorCode": "400001", "errorMessage": sent})).message == shown


@given(message=st.text(), detail=st.text(), reason=st.text(st.characters(codec="ascii", categories=["L", "Cc"]), max_size=9))
def test_no_text_of_the_registry_breaks_a_line_of_ours(message: str, detail: str, reason: str) -> None:
    for got in (
        answer(400, {"errorCode": "400001", "errorMessage": message, "detail": detail}),
        answer(302, HTML, headers={"Location": reason}),
    ):
        text = str(error_of(got))
        assert text.isprintable()
        assert len(text) < 400


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://sso/login", "https://sso/login"),
        ("https://user:secret@sso/login", "https://sso/login"),
        ("https://user:sec/ret@sso/login", "https://sso/login"),
        ("//user:secret@sso", "//sso"),
        ("https://sso/login?token=secret", "https://sso/login"),
        ("/login#secret", "/login"),
        ("?secret", "elsewhere"),
        ("", "elsewhere"),
    ],
)
def test_a_redirect_is_told_with_its_place_but_without_what_may_be_secret(location: str, shown: str) -> None:
    error = error_of(answer(301, headers={"redirected-to": location}))
    assert error.message == f"redirected to {shown}; give the registry's own address"


def test_an_error_says_what_and_where() -> None:
    assert str(error_of(refusal("400017", "i-1"))) == "no: i-1 (400017) from http://registry:30100"


# --- writes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b" \r\n", b"Success", b"Success\n", b'"Success"'])
def test_a_write_is_acknowledged_by_nothing_or_by_success(body: bytes) -> None:
    answers.check_done(answer(200, body, method="PUT"), ADDRESS)


@pytest.mark.parametrize("body", [HTML, b"{}", b"null", b"success!", b"Success Success", b'{"errorCode": "400017"}'])
def test_any_other_content_is_no_acknowledgement_but_may_be_one(body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        answers.check_done(answer(200, body, method="PUT", headers={"Content-Type": "text/html; a=b"}), ADDRESS)
    assert caught.value.code == "foreign-answer"
    assert caught.value.maybe_applied
    assert f"{len(body)} bytes of text/html" in caught.value.message


def test_a_refused_write_raises_what_a_refused_read_does() -> None:
    with pytest.raises(NotFoundError):
        answers.check_done(refusal("400017", method="PUT"), ADDRESS)


# --- reads --------------------------------------------------------------------------------------

NOT_A_LISTING: dict[str, bytes] = {
    "nothing": b"",
    "HTML": HTML,
    "truncated JSON": b'{"instances": [{"instanceId": "i-',
    "an array": b"[]",
    "null": b"null",
    "nested without end": b'{"instances": ' + b"[" * 100_000,
    "no UTF-8": b'{"instances": "\xff"}',
    "an error under status 200": b'{"errorCode": "500003", "errorMessage": "no"}',
    "the vendor's error under status 200": b'{"errCode": 400017}',
    "an object for the list": b'{"instances": {}, "services": {}}',
    "a text for the list": b'{"instances": "", "services": ""}',
    "false for the list": b'{"instances": false, "services": false}',
    "a list of null": b'{"instances": [null], "services": [null]}',
    "a list of texts": b'{"instances": ["i-1"], "services": ["s-1"]}',
}


@pytest.mark.parametrize("body", NOT_A_LISTING.values(), ids=NOT_A_LISTING)
@pytest.mark.parametrize(
    "read",
    [lambda got: answers.instances(got, "s-1", ADDRESS), lambda got: answers.services(got, ADDRESS)],
    ids=["instances", "services"],
)
def test_what_is_no_listing_is_transient_and_never_an_empty_one(read: Read, body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        read(answer(200, body))
    assert caught.value.code == "foreign-answer"
    assert not caught.value.maybe_applied


@pytest.mark.parametrize("body", [{}, {"instances": None}, {"instances": []}, {"services": None, "more": 1}])
def test_a_listing_of_nothing_may_lack_the_list(body: object) -> None:
    assert answers.instances(answer(200, body), "s-1", ADDRESS) == ()
    assert answers.services(answer(200, body), ADDRESS) == ()


def test_an_instance_is_read_with_all_that_matters() -> None:
    entry = {
        "instanceId": "i-1",
        "serviceId": "s-1",
        "hostName": "cart-1",
        "endpoints": ["rest://10.0.0.7:8080?sslEnabled=true", "highway://10.0.0.7:7070"],
        "status": "TESTING",
        "properties": {"podUid": "uid-1"},
        "healthCheck": {"mode": "push", "interval": 15, "times": 3},
        "timestamp": "1795600000",
        "modTimestamp": "1795600001",
        "version": "1.0.0",
        "dataCenterInfo": {"name": "dc"},
    }
    assert answers.instances(answer(200, {"instances": [entry]}), "s-1", ADDRESS) == (
        Instance(
            instance_id="i-1",
            service_id="s-1",
            status="TESTING",
            host_name="cart-1",
            endpoints=("rest://10.0.0.7:8080?sslEnabled=true", "highway://10.0.0.7:7070"),
            properties={"podUid": "uid-1"},
            registered_at=1_795_600_000,
            lease=60.0,
        ),
    )


BARE_INSTANCE = Instance(instance_id="i-1", service_id="s-1", status="")
MAY_BE_ODD = ("hostName", "endpoints", "status", "properties", "healthCheck", "timestamp")
ODD: list[object] = [None, True, 1.5, [], {}]
NOTHING: dict[str, object] = {}
ODD_MEMBERS: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("absent", {}, {}),
    *((f"all {odd!r}", dict.fromkeys(MAY_BE_ODD, odd), NOTHING) for odd in ODD),
    ("endpoints that are not texts", {"endpoints": [None, 7, "rest://a:1"]}, {"endpoints": ("", "", "rest://a:1")}),
    ("properties that are not texts", {"properties": {"a": None, "b": 7}}, {"properties": {"a": "", "b": ""}}),
    ("a timestamp that is a number", {"timestamp": 1_795_600_000}, {"registered_at": 1_795_600_000}),
    ("a timestamp without end", {"timestamp": "9" * 5000}, {}),
    ("a timestamp in milliseconds", {"timestamp": "1795600000000"}, {}),
    ("a timestamp before all time", {"timestamp": -1}, {}),
    ("a timestamp that is no number", {"timestamp": "1e9"}, {}),
    ("an interval of zero", {"healthCheck": {"interval": 0, "times": 3}}, {}),
    ("negative times", {"healthCheck": {"interval": 30, "times": -1}}, {}),
    ("times that are a text", {"healthCheck": {"interval": 30, "times": "3"}}, {}),
    ("an interval without end", {"healthCheck": {"interval": 10**400, "times": 1}}, {"lease": answers.LONGEST_LEASE}),
]


@pytest.mark.parametrize(("said", "read"), [row[1:] for row in ODD_MEMBERS], ids=[row[0] for row in ODD_MEMBERS])
def test_odd_members_of_an_instance_read_as_absent(said: dict[str, object], read: dict[str, Any]) -> None:
    got = answers.instances(answer(200, {"instances": [{"instanceId": "i-1", **said}]}), "s-1", ADDRESS)
    expected = {field: getattr(BARE_INSTANCE, field) for field in BARE_INSTANCE.__slots__} | read
    assert got == (Instance(**expected),)


@pytest.mark.parametrize("odd", [{}, {"instanceId": None}, {"instanceId": ""}, {"instanceId": 7}])
def test_an_instance_without_an_id_is_left_out_of_its_listing(odd: dict[str, object]) -> None:
    got = answers.instances(answer(200, {"instances": [odd, {"instanceId": "i-1"}]}), "s-1", ADDRESS)
    assert [found.instance_id for found in got] == ["i-1"]


def test_a_service_is_read_with_all_that_matters() -> None:
    entry = {
        "serviceId": "s-1",
        "serviceName": "cart",
        "appId": "shop",
        "version": "1.0.0",
        "environment": "production",
        "framework": {"name": "ServiceComb", "version": "3.2.0"},
    }
    assert answers.services(answer(200, {"services": [entry]}), ADDRESS) == (
        Service("s-1", "cart", "shop", "1.0.0", "production", "ServiceComb", "3.2.0"),
    )


@pytest.mark.parametrize("framework", [None, "ServiceComb", [], {}, {"name": None, "version": 3}])
def test_odd_members_of_a_service_read_as_empty(framework: object) -> None:
    entry = {"serviceId": "s-1", "serviceName": None, "version": 1, "environment": [], "framework": framework}
    assert answers.services(answer(200, {"services": [{}, entry]}), ADDRESS) == (Service("s-1", "", "", "", ""),)


@pytest.mark.parametrize("body", [{}, {"serviceId": None}, {"serviceId": ""}, {"serviceId": 7}, [], HTML])
def test_a_service_id_that_is_none_is_transient(body: object) -> None:
    with pytest.raises(TransientError) as caught:
        answers.service_id(answer(200, body), ADDRESS)
    assert caught.value.code == "foreign-answer"


def test_a_service_id_is_read() -> None:
    assert answers.service_id(answer(200, {"serviceId": "s-1"}), ADDRESS) == "s-1"


@pytest.mark.parametrize("body", [{}, {"status": "UP"}])
def test_any_object_that_is_no_error_will_do_where_the_content_does_not_matter(body: object) -> None:
    answers.check_read(answer(200, body), ADDRESS)


@pytest.mark.parametrize("body", [b"", HTML, b"[]", b'{"errorCode": "500003"}'])
def test_a_proxys_page_is_not_taken_for_an_answer_whose_content_does_not_matter(body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        answers.check_read(answer(200, body), ADDRESS)
    assert caught.value.code == "foreign-answer"


@pytest.mark.parametrize(
    "read",
    [
        lambda got: answers.instances(got, "s-1", ADDRESS),
        lambda got: answers.services(got, ADDRESS),
        lambda got: answers.service_id(got, ADDRESS),
        lambda got: answers.check_read(got, ADDRESS),
    ],
    ids=["instances", "services", "service id", "no content"],
)
def test_a_refused_read_raises_what_its_code_stands_for(read: Read) -> None:
    with pytest.raises(NotFoundError):
        read(refusal("400012"))


def test_a_server_that_speaks_tls_is_told_as_such() -> None:
    """By a Service Center in Go: other servers answer nothing, or an alert."""
    error = error_of(answer(400, b"Client sent an HTTP request to an HTTPS server.\n"))
    assert (type(error), error.code) == (TransientError, "tls")
    assert "https://" in error.message


# --- logins -------------------------------------------------------------------------------------


def test_a_token_is_read() -> None:
    assert answers.token(answer(200, {"token": "eyJh.eyJz-_~+/.sig=="}, method="POST"), ADDRESS) == "eyJh.eyJz-_~+/.sig=="


@pytest.mark.parametrize("token", [None, "", 7, "two words", "a\r\nx-domain-name: other", "x" * 20_000])
def test_what_no_header_could_carry_is_no_token(token: object) -> None:
    with pytest.raises(TransientError) as caught:
        answers.token(answer(200, {"token": token}, method="POST"), ADDRESS)
    assert caught.value.code == "foreign-answer"
    assert caught.value.maybe_applied


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("401202", AUTH, "user name or password is wrong"),
        ("401302", AUTH, "user name or password is wrong"),
        ("403201", BLOCKED, "the account is blocked"),
        ("400001", PERMANENT, "the login failed"),
        ("500003", TRANSIENT, "the login failed"),
    ],
)
def test_a_refused_login_is_told_in_words_of_ours(code: str, kind: type[RegistryError], message: str) -> None:
    """The server's may repeat the password."""
    body = {"errorCode": code, "errorMessage": "for Pa55word", "detail": "Pa55word is wrong"}
    with pytest.raises(RegistryError) as caught:
        answers.token(answer(int(code[:3]), body, method="POST"), ADDRESS)
    assert (type(caught.value), caught.value.code, caught.value.message) == (kind, code, message)


def test_a_login_that_is_sent_elsewhere_does_not_say_where() -> None:
    with pytest.raises(PermanentError) as caught:
        answers.token(answer(302, method="POST", headers={"redirected-to": "https://sso/Pa55word"}), ADDRESS)
    assert caught.value.message == "redirected to elsewhere; give the registry's own address"


def test_a_login_waits_for_as_long_as_a_proxy_asks_for() -> None:
    with pytest.raises(TransientError) as caught:
        answers.token(answer(503, HTML, method="POST", headers={"Retry-After": "7"}), ADDRESS)
    assert (caught.value.code, caught.value.retry_after) == ("http-503", 7.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["instanceId", "status", "hostName", "endpoints", "properties", "timestamp", "healthCheck", "serviceId", "framework"]


@given(
    status=st.sampled_from([200, 200, 200, 400, 401, 403, 404, 429, 500]),
    body=JSON | st.dictionaries(st.sampled_from(["errorCode", "errMsg", "detail", "serviceId"]), JSON),
    entries=JSON | st.lists(st.dictionaries(st.sampled_from(MEMBERS), JSON)),
)
def test_whatever_is_answered_is_a_value_or_an_error_of_the_registry(status: int, body: object, entries: object) -> None:
    listing = {**body, "instances": entries, "services": entries} if isinstance(body, dict) else body
    for read in (
        lambda got: answers.instances(got, "s-1", ADDRESS),
        lambda got: answers.services(got, ADDRESS),
        lambda got: answers.service_id(got, ADDRESS),
        lambda got: answers.check_done(got, ADDRESS),
        lambda got: answers.check_read(got, ADDRESS),
    ):
        with suppress(RegistryError):
            read(answer(status, listing))
