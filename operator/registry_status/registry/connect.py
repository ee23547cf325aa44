"""The registry's client as the settings have it."""

import logging
import random
from collections.abc import Callable
from time import monotonic

from registry_status.config import Settings
from registry_status.registry.auth import AccessKeyAuth, Auth, Door, NoAuth
from registry_status.registry.base import Fence, RequestObserver
from registry_status.registry.login import TokenAuth
from registry_status.registry.servicecomb import ServiceComb
from registry_status.registry.tls import TlsFiles

logger = logging.getLogger(__name__)


def registry_client(
    settings: Settings,
    *,
    observer: RequestObserver | None = None,
    fence: Fence | None = None,
    clock: Callable[[], float] = monotonic,
) -> ServiceComb:
    """Make the client. Raises `SettingsError` for a file that is missing or holds something else than it should."""

    def auth(door: Door) -> Auth:
        return _auth(settings, door, clock)

    client = ServiceComb(
        settings.registry_address,
        request_timeout=settings.request_timeout,
        connect_timeout=settings.connect_timeout,
        concurrency=settings.concurrency,
        observer=observer,
        fence=fence,
        auth=auth,
        tls=_tls(settings, clock),
        clock=clock,
    )
    _warn_of_clear_text(settings)
    if observer is not None:
        for address in settings.registry_address:  # one that never failed is to be seen, too
            observer.circuit_changed(address, is_open=False)
    return client


def _auth(settings: Settings, door: Door, clock: Callable[[], float]) -> Auth:
    if settings.registry_password_file is not None:
        chance = random.Random()  # noqa: S311 - jitter, not secrets
        return TokenAuth(settings.registry_username, settings.registry_password_file, door, clock=clock, chance=chance)
    if settings.registry_access_key_file is not None and settings.registry_secret_key_file is not None:
        keys = settings.registry_access_key_file, settings.registry_secret_key_file
        return AccessKeyAuth(*keys, settings.registry_access_key_project, clock=clock)
    return NoAuth()


def _tls(settings: Settings, clock: Callable[[], float]) -> TlsFiles | None:
    files = settings.registry_ca_file, settings.registry_client_cert_file, settings.registry_client_key_file
    return TlsFiles(*files, clock=clock) if any(files) else None


def _warn_of_clear_text(settings: Settings) -> None:
    if settings.registry_password_file is None and settings.registry_access_key_file is None:
        return
    for address in settings.registry_address:
        if address.startswith("http:"):
            logger.warning("credentials go to %s unencrypted", address)
