"""What may be shown."""

import pytest

from registry_status.report.text import age, cut, one_line, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("authorization=Basic dXNlcjpwYXNz;", "authorization=Basic [redacted];"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer [redacted]'}"),
        ('{"X-Service-AK":"ABC","X-Service-ShaAKSK":"0123"}', '{"X-Service-AK":"[redacted]","X-Service-ShaAKSK":"[redacted]"}'),
        ('{"name":"root","password":"pa55"}', '{"name":"root","password":"[redacted]"}'),
        (r"{\"password\":\"pa55\"}", r"{\"password\":\"[redacted]\"}"),
        ("token=s3cr3t, next", "token=[redacted], next"),
        ("client_secret=s3cr3t&grant_type=x", "client_secret=[redacted]"),
        ('{"refresh_token": "s3cr3t", "error": "expired"}', '{"refresh_token": "[redacted]", "error": "expired"}'),
        ('{"clientSecret":"s3cr3t"}', '{"clientSecret":"[redacted]"}'),
        ("AWS_SECRET_ACCESS_KEY=s3cr3t", "AWS_SECRET_ACCESS_KEY=[redacted]"),
        ("REGISTRY_PASSWORD=s3cr3t", "REGISTRY_PASSWORD=[redacted]"),
        ('{"password":"pa, 55","name":"root"}', '{"password":"[redacted]","name":"root"}'),
        (r"{\"password\":\"pa 55\",\"name\":\"root\"}", r"{\"password\":\"[redacted]\",\"name\":\"root\"}"),
        (r'{"password":"pa\"55\\","name":"root"}', '{"password":"[redacted]","name":"root"}'),
        (r"{\"password\":\"pa\\\"55\",\"name\":\"root\"}", r"{\"password\":\"[redacted]\",\"name\":\"root\"}"),
        ("got -----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY----- here", "got [redacted] here"),
        ("cut off: -----BEGIN PRIVATE KEY----- MHc=", "cut off: [redacted]"),
        ("the header was bearer ABCDEFGH12345678==", "the header was bearer [redacted]"),
        ("http://root:pa55@registry:30100/v4", "http://[redacted]@registry:30100/v4"),
        ("got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyb290In0.c2ln", "got [redacted]"),
        ("key HSTE0ABCDEFGHIJ1KLMN used", "key [redacted] used"),
        ("key abcdEFGH1234abcdEFGH1234abcdEFGH1234abcd used", "key [redacted] used"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "service 7062417bf9ebd4c646bb23059003cea42180894a",
        "instance 5b2bb7e2a1c011ef9a5b0242ac110002",
        "uid 0f1d2c3b-4a59-6877-8695-a4b3c2d1e0ff",
        "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "pod web-7d4b9c6f5d-x2x7k of default/orders version 1.0.0",
        "the token: it expired and was fetched anew",
        "bearer tokens are not accepted here",
        "max_tokens=5, task=7, risk=8, mask=9",
        "-----BEGIN CERTIFICATE----- MHc= -----END CERTIFICATE-----",
        "RegistryUpdateFailed RegistryInstanceNotFound",
        "http://registry.svc:30100/v4/default/registry/microservices",
    ],
)
def test_what_people_need_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("short", 10, "short"),
        ("exactly 10", 10, "exactly 10"),
        ("more than 10", 10, "more th…"),
        ("üüüüüü", 10, "üüü…"),
        ("lone \ud800 surrogate", 99, "lone ? surrogate"),
    ],
)
def test_text_is_cut_by_bytes_between_characters(text: str, limit: int, shown: str) -> None:
    assert cut(text, limit) == shown
    assert len(shown.encode()) <= limit


def test_control_characters_become_spaces() -> None:
    assert one_line(" a\r\n\tb\x1b[0m\u2028c\x85 ") == "a b [0m c"


@pytest.mark.parametrize(("seconds", "said"), [(-1, "0 s"), (0.4, "0 s"), (75, "75 s"), (600, "10 min"), (10_000, "3 h")])
def test_ages_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert age(seconds) == said
