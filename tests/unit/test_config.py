"""Settings: where each comes from, what each may say, and what is told when one is wrong."""

import argparse
import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from registry_status.config import (
    NEEDS,
    LogFormat,
    LogLevel,
    NotReady,
    Settings,
    SettingsError,
    add_arguments,
    allows,
    flag,
    read_settings,
    require,
    variable,
)
from registry_status.model import InstanceStatus, Tenant

NAMES = [field.name for field in dataclasses.fields(Settings)]


def settings(*words: str, **environment: str) -> Settings:
    """What these flags and variables (without their prefix) give."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return read_settings(parser.parse_args(words), {f"REGISTRY_STATUS_{key}": text for key, text in environment.items()})


def problems(*words: str, **environment: str) -> Sequence[str]:
    with pytest.raises(SettingsError) as caught:
        settings(*words, **environment)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return caught.value.problems


# --- names and precedence -----------------------------------------------------------------------

SPELLINGS = {
    "registry_address": ("--registry-address", "REGISTRY_STATUS_REGISTRY_ADDRESS"),
    "namespaces": ("--namespace", "REGISTRY_STATUS_NAMESPACE"),
    "operator_class": ("--class", "REGISTRY_STATUS_CLASS"),
    "allowed_projects": ("--allow-project", "REGISTRY_STATUS_ALLOW_PROJECT"),
    "allowed_domains": ("--allow-domain", "REGISTRY_STATUS_ALLOW_DOMAIN"),
    "log_format": ("--log-format", "REGISTRY_STATUS_LOG_FORMAT"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_setting_is_spelled_as_a_flag_and_as_a_variable(name: str) -> None:
    assert (flag(name), variable(name)) == SPELLINGS[name]


def test_no_two_settings_share_a_spelling() -> None:
    assert len({flag(name) for name in NAMES}) == len({variable(name) for name in NAMES}) == len(NAMES)


def test_without_flags_and_variables_the_defaults_hold() -> None:
    assert settings() == Settings()


def test_a_variable_wins_over_the_default() -> None:
    assert settings(CONCURRENCY="7").concurrency == 7


def test_a_flag_wins_over_the_variable() -> None:
    assert settings("--concurrency", "9", CONCURRENCY="7").concurrency == 9


def test_a_flag_wins_over_a_wrong_variable_too() -> None:
    assert settings("--concurrency", "9", CONCURRENCY="many").concurrency == 9


def test_a_list_of_flags_takes_the_place_of_the_variables_list() -> None:
    assert settings("--namespace", "a", NAMESPACE="b,c").namespaces == ("a",)


def test_the_last_of_several_flags_counts() -> None:
    assert settings("--concurrency", "9", "--concurrency", "8").concurrency == 8


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--namespace", "a", "--namespace", "b"], {}),
        (["--namespace", "a,b"], {}),
        (["--namespace", " a , ,b,"], {}),
        (["--namespace", "a,b", "--namespace", "a"], {}),
        ([], {"NAMESPACE": "a,b"}),
    ],
)
def test_a_list_is_given_by_repeating_the_flag_or_with_commas(words: list[str], environment: dict[str, str]) -> None:
    assert settings(*words, **environment).namespaces == ("a", "b")


def test_dry_run_may_stand_alone() -> None:
    assert settings("--dry-run").dry_run is True
    assert settings("--dry-run", "--log-level", "debug").dry_run is True
    assert settings("--dry-run=false").dry_run is False
    assert settings(DRY_RUN="true").dry_run is True
    assert settings().dry_run is False


def test_an_empty_list_is_the_default() -> None:
    assert settings(NAMESPACE="", ALLOW_PROJECT=" ", REGISTRY_ADDRESS=",") == Settings()


def company(name: str) -> dict[str, str]:
    """Values for the settings without which this one is of no use."""
    needed = [other for needing, other in NEEDS if needing == name]
    for other in needed:
        needed += [more for needing, more in NEEDS if needing == other and more not in (*needed, name)]
    return dict.fromkeys(needed, "x")


@pytest.mark.parametrize(("name", "other"), NEEDS)
def test_a_setting_that_is_of_no_use_without_another_says_so(name: str, other: str) -> None:
    found = problems(f"{flag(name)}=x")
    assert f"{flag(name)} needs {flag(other)} (or {variable(other)})" in found


# --- what each setting may say ------------------------------------------------------------------

URL = "http://registry:30100"
GOOD: list[tuple[str, str, Any]] = [
    ("kubeconfig", "/etc/kube", Path("/etc/kube")),
    ("context", "kind-dev", "kind-dev"),
    ("namespaces", "shop", ("shop",)),
    ("label_selector", "app in (a, b)", "app in (a, b)"),
    ("label_selector", " team=a\n", "team=a"),
    ("label_selector", "", ""),
    ("label_selector", " ", ""),
    ("leader_elect", "true", True),
    ("lease_name", "registry-status.blue", "registry-status.blue"),
    ("lease_namespace", "ops", "ops"),
    ("lease_namespace", "", ""),
    ("registry_address", URL, (URL,)),
    ("registry_address", URL + "/", (URL,)),
    ("registry_address", "HTTPS://Registry.shop.svc.cluster.local.", ("https://registry.shop.svc.cluster.local.",)),
    ("registry_address", "http://10.0.0.1:80", ("http://10.0.0.1:80",)),
    ("registry_address", "http://[FD00::1]:30100", ("http://[fd00::1]:30100",)),
    ("registry_address", "http://my_registry:030100", ("http://my_registry:30100",)),
    ("registry_address", "http://a:1,http://b:2", ("http://a:1", "http://b:2")),
    ("registry_project", "eu-1_x.y", "eu-1_x.y"),
    ("registry_domain", "acme", "acme"),
    ("registry_username", "operator@shop", "operator@shop"),
    ("registry_password_file", "/etc/password", Path("/etc/password")),
    ("registry_access_key_file", "/etc/ak", Path("/etc/ak")),
    ("registry_secret_key_file", "/etc/sk", Path("/etc/sk")),
    ("registry_access_key_project", "eu-1", "eu-1"),
    ("registry_access_key_project", "", ""),
    ("registry_ca_file", "/etc/ca.crt", Path("/etc/ca.crt")),
    ("registry_client_cert_file", "/etc/tls.crt", Path("/etc/tls.crt")),
    ("registry_client_key_file", "/etc/tls.key", Path("/etc/tls.key")),
    ("allowed_projects", "eu-*,shop/us-?", ("eu-*", "shop/us-?")),
    ("allowed_domains", "*/acme", ("*/acme",)),
    ("request_timeout", "0.1", 0.1),
    ("request_timeout", "60", 60.0),
    ("connect_timeout", "1.5", 1.5),
    ("concurrency", "1", 1),
    ("concurrency", "1000", 1000),
    ("annotation_prefix", "corp.example", "corp.example"),
    ("operator_class", "blue", "blue"),
    ("operator_class", "", ""),
    ("terminating_status", "OUTOFSERVICE", InstanceStatus.OUTOFSERVICE),
    ("starting_status", "DOWN", InstanceStatus.DOWN),
    ("not_ready_status", "auto", NotReady.AUTO),
    ("not_ready_status", "DOWN", NotReady.DOWN),
    ("trust_instance_ids", "true", True),
    ("readiness_gate", "true", True),
    ("trust_instance_ids", "False", False),
    ("resync_interval", "3600", 3600.0),
    ("registration_window", "0", 0.0),
    ("dry_run", "true", True),
    ("watch_filter", "false", False),
    ("shard", "", ""),
    ("shard", "1/1", "1/1"),
    ("shard", "4/4", "4/4"),
    ("listen", "127.0.0.1:0", ("127.0.0.1", 0)),
    ("listen", "[::]:8080", ("::", 8080)),
    ("listen", "localhost:65535", ("localhost", 65535)),
    ("report_updates", "TRUE", True),
    ("log_format", "json", LogFormat.JSON),
    ("log_level", "warning", LogLevel.WARNING),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_a_good_value_is_read_from_flag_and_variable_alike(name: str, text: str, value: object) -> None:
    given = {name: text} | company(name)
    flags = [f"{flag(key)}={word}" for key, word in given.items()]
    variables = {variable(key).removeprefix("REGISTRY_STATUS_"): word for key, word in given.items()}
    for got in (settings(*flags), settings(**variables)):
        assert getattr(got, name) == value


def test_every_setting_has_a_good_value_in_this_table() -> None:
    assert {row[0] for row in GOOD} == set(NAMES)


WRONG_URLS = [
    "registry",
    "registry:30100",
    "//registry:30100",
    "ftp://registry:30100",
    "http:registry",
    "http://",
    "http://:30100",
    "http://registry:0",
    "http://registry:65536",
    "http://registry:port",
    "http://registry:30100/v4",
    "http://registry:30100?a=b",
    "http://registry:30100#a",
    "http://a b:30100",
    "http://a..b:30100",
    "http://-a:30100",
    "http://" + "a" * 64,
    "http://" + "a." * 127 + "a",
    "http://régistre:30100",
    "http://a\x00b:30100",
    "http://a\nb:30100",
    "http://a*:30100",
    "http://[fd00::zz]:30100",
    "http://[fd00::1",
    "http://[v1.a]",
]
FILES = ("password", "access_key", "secret_key", "ca", "client_cert", "client_key")
BAD: list[tuple[str, str, str]] = [
    ("kubeconfig", "", "the path of a file"),
    ("context", "", "the name of a context"),
    ("namespaces", "Shop", "the name of a namespace"),
    ("namespaces", "shop/cart", "the name of a namespace"),
    ("label_selector", "app in a", "requirements joined by commas, each like app, !app, app=cart,"),
    ("label_selector", "app=b\x00", "requirements joined by commas"),
    ("leader_elect", "yes", "true or false"),
    ("lease_name", "", "lower-case letters"),
    ("lease_name", "Blue", "lower-case letters"),
    ("lease_namespace", "Ops", "the name of a namespace"),
    *(("registry_address", text, "a URL such as http://registry:30100") for text in WRONG_URLS),
    ("registry_project", "", "1 to 64 letters"),
    ("registry_project", "a/b", "1 to 64 letters"),
    ("registry_project", "..", "1 to 64 letters"),
    ("registry_domain", "a" * 65, "1 to 64 letters"),
    ("registry_domain", "a\r\nb", "1 to 64 letters"),
    ("registry_username", "a b", "the name of an account"),
    *((f"registry_{file}_file", "", "the path of a file") for file in FILES),
    ("registry_access_key_project", "a/b", "1 to 64 letters"),
    ("allowed_projects", "a b", "NAMESPACE-PATTERN/PATTERN"),
    ("allowed_projects", "a/b/c", "NAMESPACE-PATTERN/PATTERN"),
    ("allowed_projects", "shop/", "NAMESPACE-PATTERN/PATTERN"),
    ("allowed_domains", "/acme", "NAMESPACE-PATTERN/PATTERN"),
    ("allowed_domains", "[a-z]", "NAMESPACE-PATTERN/PATTERN"),
    ("request_timeout", "", "a number of seconds from 0.1 to 60"),
    ("request_timeout", "5s", "a number of seconds from 0.1 to 60"),
    ("request_timeout", "nan", "a number of seconds from 0.1 to 60"),
    ("request_timeout", "inf", "a number of seconds from 0.1 to 60"),
    ("request_timeout", "0", "a number of seconds from 0.1 to 60"),
    ("connect_timeout", "-1", "a number of seconds from 0.1 to 60"),
    ("concurrency", "0", "a whole number from 1 to 1000"),
    ("concurrency", "1001", "a whole number from 1 to 1000"),
    ("concurrency", "3.5", "a whole number from 1 to 1000"),
    ("concurrency", "-3", "a whole number from 1 to 1000"),
    ("concurrency", "٣", "a whole number from 1 to 1000"),
    ("concurrency", "9" * 5000, "a whole number from 1 to 1000"),
    ("annotation_prefix", "corp.example/", "a DNS name such as registry-status.io"),
    ("annotation_prefix", "", "a DNS name such as registry-status.io"),
    ("operator_class", "a b", "letters, digits"),
    ("operator_class", "a" * 64, "at most 63"),
    ("terminating_status", "UP", "one of STARTING, OUTOFSERVICE, DOWN"),
    ("terminating_status", "down", "one of STARTING, OUTOFSERVICE, DOWN"),
    ("starting_status", "TESTING", "one of STARTING, OUTOFSERVICE, DOWN"),
    ("not_ready_status", "UP", "one of auto, OUTOFSERVICE, STARTING, DOWN"),
    ("trust_instance_ids", "yes", "true or false"),
    ("readiness_gate", "1", "true or false"),
    ("dry_run", "yes", "true or false"),
    ("watch_filter", "no", "true or false"),
    ("shard", "0/4", "NUMBER/COUNT such as 1/4, from 1/1 to 9999/9999"),
    ("shard", "5/4", "NUMBER/COUNT such as 1/4, from 1/1 to 9999/9999"),
    ("shard", "1", "NUMBER/COUNT such as 1/4, from 1/1 to 9999/9999"),
    ("shard", "-1/4", "NUMBER/COUNT such as 1/4, from 1/1 to 9999/9999"),
    ("trust_instance_ids", "", "true or false"),
    ("resync_interval", "0.5", "a number of seconds from 1 to 3600"),
    ("registration_window", "3601", "a number of seconds from 0 to 3600"),
    ("listen", "8080", "HOST:PORT"),
    ("listen", ":8080", "HOST:PORT"),
    ("listen", "localhost:", "HOST:PORT"),
    ("listen", "localhost:65536", "HOST:PORT"),
    ("listen", "a..b:8080", "HOST:PORT"),
    ("listen", "ü:8080", "HOST:PORT"),
    ("listen", "localhost:" + "9" * 5000, "HOST:PORT"),
    ("listen", "::1:8080", "HOST:PORT"),
    ("listen", "[::1:8080", "HOST:PORT"),
    ("listen", "a b:8080", "HOST:PORT"),
    ("report_updates", "1", "true or false"),
    ("log_format", "xml", "one of plain, json"),
    ("log_level", "INFO", "one of debug, info, warning, error"),
]


@pytest.mark.parametrize(("name", "text", "allowed"), BAD, ids=[f"{row[0]}={row[1][:24]!r}" for row in BAD])
def test_a_wrong_value_is_told_with_its_source_the_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    key = variable(name).removeprefix("REGISTRY_STATUS_")
    for source, (problem,) in (
        (flag(name), problems(f"{flag(name)}={text}")),
        (variable(name), problems(**{key: text})),
    ):
        assert problem.startswith(f"{source}: {text!r} is not allowed; allowed: ")
        assert allowed in problem
        assert problem.isprintable()


def test_every_setting_is_in_this_table() -> None:
    assert {row[0] for row in BAD} == set(NAMES)


def test_of_a_list_the_wrong_part_is_told() -> None:
    (problem,) = problems("--registry-address", f"{URL},http://b:99999")
    assert problem.startswith("--registry-address: 'http://b:99999' is not allowed")


def test_all_problems_are_told_at_once() -> None:
    found = problems("--log-level", "loud", CONCURRENCY="many", COLOUR="red")
    assert [problem.partition(":")[0] for problem in found] == [
        "REGISTRY_STATUS_CONCURRENCY",
        "--log-level",
        "REGISTRY_STATUS_COLOUR",
    ]


@pytest.mark.parametrize("url", ["http://user:secret@registry:30100", "http://user:s/ecret@registry", "http://secret@registry"])
def test_a_password_in_an_address_is_refused_without_being_shown(url: str) -> None:
    (problem,) = problems(REGISTRY_ADDRESS=url)
    assert "user" not in problem.partition("allowed:")[0]
    assert "ecret" not in problem
    assert "'http://***@registry" in problem


@pytest.mark.parametrize("url", [
    "admin:ecret@registry:30100", "http:/admin:ecret@registry", "http://admin:se,ecret@registry", "//admin:ecret@registry",
    "http://one,http://admin:ec,ret,ecret@registry", "http://admin:pass\necret@registry",
])  # fmt: skip
def test_nor_is_one_shown_whatever_else_is_wrong_with_the_address(url: str) -> None:
    told = " ".join(problems(REGISTRY_ADDRESS=url)).replace("without path, query, user or password", "")
    assert "***" in told
    assert not [word for word in ("admin", "ec", "ret", "pass") if word in told]


# --- unknown variables --------------------------------------------------------------------------


def test_an_unknown_variable_is_named() -> None:
    (problem,) = problems(REGISTRY_ADRESS="http://registry")
    assert problem.startswith("REGISTRY_STATUS_REGISTRY_ADRESS: there is no such setting")
    assert "--help" in problem


@pytest.mark.parametrize(
    "name",
    [
        "OPERATOR_SERVICE_HOST",
        "OPERATOR_SERVICE_PORT",
        "OPERATOR_SERVICE_PORT_METRICS",
        "OPERATOR_PORT",
        "OPERATOR_PORT_8080_TCP",
        "OPERATOR_PORT_8080_TCP_ADDR",
        "OPERATOR_PORT_8080_TCP_PORT",
        "OPERATOR_PORT_8080_TCP_PROTO",
        "SERVICE_HOST",
    ],
)
def test_what_kubernetes_adds_for_a_service_is_no_setting(name: str) -> None:
    assert settings(**{name: "tcp://10.96.0.1:8080"}) == Settings()


def test_variables_of_others_do_not_matter() -> None:
    assert (
        read_settings(argparse.Namespace(), {"PATH": "/bin", "REGISTRY_STATUSES": "x", "registry_status_x": "y"}) == Settings()
    )


# --- the rest -----------------------------------------------------------------------------------


def test_what_is_needed_and_missing_is_told_by_both_its_names() -> None:
    with pytest.raises(SettingsError) as caught:
        require(Settings(), "registry_address", "concurrency")
    assert caught.value.problems == ("--registry-address is needed (or REGISTRY_STATUS_REGISTRY_ADDRESS)",)
    require(Settings(registry_address=(URL,)), "registry_address")


def test_help_names_every_flag_variable_and_default() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for name in NAMES:
        assert f"{flag(name)} " in text
        assert f"[{variable(name)}]" in text
    for default in ("Default: 32.", "Default: 5.", "Default: 0.0.0.0:8080.", "Default: false.", "Default: DOWN."):
        assert default in text


def test_a_command_may_take_only_some_of_the_flags() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser, ["concurrency"])
    assert read_settings(parser.parse_args(["--concurrency", "3"]), {}).concurrency == 3
    with pytest.raises(SystemExit):
        parser.parse_args(["--log-level", "info"])


def test_the_tenant_and_the_prefix_come_from_their_settings() -> None:
    got = Settings(registry_project="eu-1", registry_domain="acme", annotation_prefix="corp.example")
    assert (got.tenant, got.prefix) == (Tenant("acme", "eu-1"), "corp.example/")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [("eu-1", True), ("eu-*", True), ("eu-?", True), ("eu", False), ("EU-1", False), ("shop/eu-1", True), ("web/*", False)],
)
def test_patterns_allow_names_everywhere_or_in_some_namespaces(pattern: str, allowed: bool) -> None:
    assert allows(("none", pattern), "shop", "eu-1") is allowed


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 9999])
def test_the_shares_of_one_count_have_neither_gaps_nor_overlaps(count: int) -> None:
    ranges = []
    for number in range(1, count + 1):
        selector = Settings(shard=f"{number}/{count}").shard_selector
        found = re.fullmatch(r"shardRange\(object\.metadata\.uid, '(0x[0-9a-f]{16,17})', '(0x[0-9a-f]{16,17})'\)", selector)
        assert found is not None, selector
        ranges.append((int(found[1], 16), int(found[2], 16)))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1 << 64
    assert all(high == low for (_, high), (low, _) in itertools.pairwise(ranges))
