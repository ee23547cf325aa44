"""What is odd about the settings, beyond what `run` would refuse."""

from collections.abc import Iterator

from registry_status.cli.checks.finding import Area, Finding, Findings
from registry_status.config import Settings, SettingsError

told = Findings(Area.SETTINGS)


def refused(error: SettingsError) -> list[Finding]:
    """Return what `run` would not begin with."""
    return [told.error(problem, "correct the flag or the environment variable") for problem in error.problems]


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Look at settings that are valid one by one."""
    if not settings.registry_address:
        fix = "name your Service Center, such as --registry-address http://registry:30100"
        yield told.error("no registry is named (--registry-address)", fix)
    odd = [*_clear_text(settings), *_timeouts(settings)]
    yield from odd
    if not odd and settings.registry_address:
        yield told.ok("they are valid, and fit together")


def _clear_text(settings: Settings) -> Iterator[Finding]:
    if settings.registry_password_file is None and settings.registry_access_key_file is None:
        return
    for address in settings.registry_address:
        if address.startswith("http:"):
            yield told.warning(f"credentials go to {address} unencrypted", "use https:// if the network is not yours alone")


def _timeouts(settings: Settings) -> Iterator[Finding]:
    if settings.connect_timeout > settings.request_timeout:
        yield told.warning(
            f"--connect-timeout ({settings.connect_timeout:g} s) exceeds --request-timeout ({settings.request_timeout:g} s)",
            "make --connect-timeout the shorter one: the other counts for the whole request",
        )
