"""Credentials of kubeconfigs that a program (`exec`) or a provider (`auth-provider`) hands out, fetched by `kubernetes.aio`.

A module of its own, imported only when a kubeconfig has such a user, because importing `kubernetes` takes its time.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.exec_provider import ExecProvider
from kubernetes.aio.config.kube_config import ConfigNode, KubeConfigLoader

from registry_status.cluster.access import AccessError, Fetched, Tls
from registry_status.cluster.kubeconfig import load_pair

NEVER = float("inf")
EARLY = 60.0
"""Seconds before its end at which a credential is fetched anew."""
PROVIDER_ASKED_EVERY = 60.0
PATIENCE = 60.0
"""Seconds that a plugin may take: it may ask a person to log in."""


def plugin(where: str, settings: object, tls: Tls) -> Fetched:
    """Run an exec plugin whenever what it said last has expired."""
    where = f"{where}: exec plugin"
    try:
        program = ExecProvider(ConfigNode("exec", settings))  # type: ignore[no-untyped-call]  # a library without annotations
    except (ConfigException, TypeError, KeyError, AttributeError) as error:
        raise AccessError(f"{where}: {str(error) or 'is not described as it must be'}") from None

    async def fetch() -> tuple[str | None, float]:
        try:
            status = await asyncio.wait_for(program.run(), PATIENCE)  # type: ignore[no-untyped-call]  # a library without annotations
        except TimeoutError:
            raise AccessError(f"{where}: gave no answer within {PATIENCE:g} s") from None
        except (ConfigException, OSError, TypeError, ValueError) as error:
            raise AccessError(f"{where}: {error}") from None
        return _granted(where, status, tls)

    return Fetched(fetch)


def _granted(where: str, status: object, tls: Tls) -> tuple[str | None, float]:
    """Use what a plugin gave: a token, a client certificate, or both; and until when."""
    if not isinstance(status, dict):
        raise AccessError(f"{where}: status must be a mapping")
    token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if isinstance(certificate, str) and isinstance(key, str):
        pair = certificate.encode(), key.encode()
        tls.adapt(lambda context: load_pair(context, *pair, where))
    elif not isinstance(token, str) or not token:
        raise AccessError(f"{where}: gave neither a token nor a client certificate with its key")
    return (f"Bearer {token}" if token else None), _end(where, status.get("expirationTimestamp"))


def _end(where: str, timestamp: object) -> float:
    if not timestamp:
        return NEVER
    try:
        moment = dt.datetime.fromisoformat(str(timestamp))
    except ValueError:
        raise AccessError(f"{where}: expirationTimestamp must be a time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp() - EARLY


def provider(where: str, folder: Path, user: Mapping[str, object]) -> Fetched:
    """Ask an auth provider (oidc, gcp) for a token; it is asked again each minute, and knows when to refresh."""
    where = f"{where}: auth-provider"
    document = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {}}],
        "users": [{"name": "it", "user": {"auth-provider": user["auth-provider"]}}],
    }

    async def fetch() -> tuple[str | None, float]:
        configuration = Configuration()
        try:
            loader = KubeConfigLoader(document, config_base_path=str(folder))  # type: ignore[no-untyped-call]  # a library without annotations
            await asyncio.wait_for(loader.load_and_set(configuration), PATIENCE)  # type: ignore[no-untyped-call]  # a library without annotations
        except TimeoutError:
            raise AccessError(f"{where}: gave no answer within {PATIENCE:g} s") from None
        except (ConfigException, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise AccessError(f"{where}: {type(error).__name__}: it must be a working oidc or gcp provider") from None
        header = configuration.api_key.get("BearerToken")
        if not header:
            raise AccessError(f"{where}: gave no token; oidc and gcp are supported")
        return header, time.time() + PROVIDER_ASKED_EVERY

    return Fetched(fetch)
