"""Credentials of kubeconfigs that a program (`exec`) or a provider (`auth-provider`) hands out.

A module of its own, imported only when a kubeconfig has such a user. Programs are run here and not by `kubernetes.aio.config`,
which lets one run on that nobody waits for any more. Providers are its own.
"""

import asyncio
import datetime as dt
import json
import os
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry_status.cluster.access import AccessError, Fetched, Grant, Tls, bearer
from registry_status.cluster.kubeconfig import load_pair
from registry_status.cluster.words import said, shown
from registry_status.report.text import REDACTED

NEVER = float("inf")
EARLY = 60.0
"""Seconds before its end at which a credential is fetched anew; half its time, where it has less than twice as much."""
PROVIDER_ASKED_EVERY = 60.0
PATIENCE = 60.0
"""Seconds that a plugin may take: it may ask a person to log in."""
BURIED_WITHIN = 1.0
"""Seconds for a plugin that was killed to be gone: one that hangs in the system cannot be."""
STDOUT, STDERR = 1, 2
SECRET = re.compile(r"(?i)secret|token|passw|key|credential")
"""What is in the name of a variable whose value is for nobody's log..."""
PLACE = re.compile(r"(?i)(file|path|dir)$|^GOOGLE_APPLICATION_CREDENTIALS$")
"""...unless it says where a secret lies, which is what people need to know."""
SHORTEST_SECRET = 4
"""Characters. To take out each `1` or `on` would only garble the words."""

Status = Mapping[str, object]
"""What a plugin says, as `ExecCredentialStatus` of client.authentication.k8s.io describes it."""
Pair = tuple[bytes, bytes]
"""A client certificate and its key, PEM."""


def plugin(where: str, settings: object, tls: Tls) -> Fetched:
    """Run an exec plugin whenever what it said last has expired."""
    return Fetched(plugin_of(where, settings, tls).fetch)


def plugin_of(where: str, settings: object, tls: Tls) -> "Plugin":
    """Read the description of a plugin. Raises `AccessError`."""
    return Plugin(_program(f"{where}: exec plugin", settings), tls)


@dataclass(frozen=True, slots=True)
class Program:
    """An exec plugin, as a kubeconfig describes it."""

    where: str
    arguments: tuple[str, ...]
    version: str
    """The `apiVersion` in which it is to answer."""
    variables: Mapping[str, str] = field(repr=False)
    """What its environment has besides ours."""

    async def run(self) -> bytes:
        """Run it; returns what it has written. Raises `AccessError`. It never outlives this call."""
        start, environment = asyncio.get_running_loop().subprocess_exec, self._environment()
        try:
            process, told = await start(_Told, *self.arguments, stdin=None, stdout=PIPE, stderr=PIPE, env=environment)
        except (OSError, ValueError) as error:
            raise AccessError(f"{self.where}: {self.arguments[0]}: {said(error)}") from None
        try:
            async with asyncio.timeout(PATIENCE):
                await told.everything.wait()
        except TimeoutError:
            raise AccessError(f"{self.where}: gave no answer within {PATIENCE:g} s") from None
        finally:
            process.close()  # kills it, if need be
            await told.buried()
        if code := process.get_returncode():
            why = shown(self._concealed(told.by[STDERR].decode("utf-8", "replace")))
            raise AccessError(f"{self.where}: process returned {code}{': ' if why else ''}{why}")
        return bytes(told.by[STDOUT])

    def _concealed(self, text: str) -> str:
        """What it has written, without the secrets that the kubeconfig gives it."""
        for name, value in self.variables.items():
            if len(value) >= SHORTEST_SECRET and SECRET.search(name) and not PLACE.search(name):
                text = text.replace(value, REDACTED)
        return text

    def _environment(self) -> Mapping[str, str]:
        asked = {"apiVersion": self.version, "kind": "ExecCredential", "spec": {"interactive": sys.stdout.isatty()}}
        return {**os.environ, **self.variables, "KUBERNETES_EXEC_INFO": json.dumps(asked)}

    def status(self, output: bytes) -> Status:
        """Read its answer. Raises `AccessError`, which does not show it."""
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            raise AccessError(f"{self.where}: failed to decode its answer: it must be an ExecCredential in JSON") from None
        version = answer.get("apiVersion") if isinstance(answer, dict) else None
        if version != self.version:
            raise AccessError(f"{self.where}: its answer must be an ExecCredential of apiVersion {self.version}")
        if not isinstance(answer.get("status"), dict):
            raise AccessError(f"{self.where}: status must be a mapping")
        status: Status = answer["status"]
        return status


class _Told(asyncio.SubprocessProtocol):
    """What a program has written, and how far it has got."""

    def __init__(self) -> None:
        self.by = {STDOUT: bytearray(), STDERR: bytearray()}
        self.everything = asyncio.Event()
        """It has ended, and so has everybody who could write for it."""
        self._exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written something."""
        self.by[fd] += data

    def process_exited(self) -> None:
        """It has ended."""
        self._exited.set()

    def connection_lost(self, _: Exception | None) -> None:
        """Nothing more will come."""
        self.everything.set()

    async def buried(self) -> None:
        """Wait until it has ended, also when nobody waits for its answer any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BURIED_WITHIN):
                await self._exited.wait()


def _program(where: str, settings: object) -> Program:
    if not isinstance(settings, Mapping):
        raise AccessError(f"{where}: must be a mapping with command and apiVersion")
    for key in ("command", "apiVersion"):
        if not isinstance(settings.get(key), str) or not settings[key]:
            raise AccessError(f"{where}: {key} must be a text")
    arguments, variables = settings.get("args") or [], settings.get("env") or []
    if not isinstance(arguments, list) or not all(isinstance(argument, str) for argument in arguments):
        raise AccessError(f"{where}: args must be a list of texts")
    return Program(where, (settings["command"], *arguments), settings["apiVersion"], _variables(where, variables))


def _variables(where: str, listed: object) -> Mapping[str, str]:
    variables = {}
    for one in listed if isinstance(listed, list) else [None]:
        name, value = (one.get("name"), one.get("value")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise AccessError(f"{where}: env must be a list of entries with name and value, both texts")
        variables[name] = value
    return variables


class Plugin:
    """Runs a program, and uses what it gives: a token, a client certificate, or both."""

    def __init__(self, program: Program, tls: Tls) -> None:
        self._program = program
        self._tls = tls
        self._pair: Pair | None = None

    async def fetch(self) -> Grant:
        """Run it once. Raises `AccessError`."""
        program = self._program
        status = program.status(await program.run())
        pair, token = _pair(program.where, status), status.get("token")
        if pair is not None:
            self._show(pair)
        elif not isinstance(token, str) or not token:
            raise AccessError(f"{program.where}: gave neither a token nor a client certificate with its key")
        header = bearer(token, f"{program.where}: token") if isinstance(token, str) and token else None
        end = _end(program.where, status.get("expirationTimestamp"))
        return Grant(header, _early(end, time.time()), end)

    def _show(self, pair: Pair) -> None:
        """Show this certificate from the next connection on; for the same one again the connections there are stay in use."""
        if pair != self._pair:
            self._tls.adapt(lambda context: load_pair(context, *pair, self._program.where))
            self._pair = pair


def _pair(where: str, status: Status) -> Pair | None:
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if not isinstance(certificate, str) or not isinstance(key, str):
        return None
    try:
        return certificate.encode(), key.encode()
    except UnicodeEncodeError:  # JSON can carry half a character
        raise AccessError(f"{where}: clientCertificateData and clientKeyData must be PEM") from None


def _early(end: float, now: float) -> float:
    return end if end == NEVER else end - min(EARLY, max(end - now, 0.0) / 2)


def _end(where: str, timestamp: object) -> float:
    if not timestamp:
        return NEVER
    try:
        moment = dt.datetime.fromisoformat(str(timestamp))
    except ValueError:
        raise AccessError(f"{where}: expirationTimestamp must be a time such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


def provider(where: str, folder: Path, user: Mapping[str, object]) -> Fetched:
    """Ask an auth provider (oidc, gcp) for a token; it is asked again each minute, and knows when to refresh."""
    from kubernetes.aio.client import Configuration  # noqa: PLC0415 - 0.4 CPU-seconds, which a plugin need not pay
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415 - as before
    from kubernetes.aio.config.kube_config import KubeConfigLoader  # noqa: PLC0415 - as before

    where = f"{where}: auth-provider"
    document = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {}}],
        "users": [{"name": "it", "user": {"auth-provider": user["auth-provider"]}}],
    }

    async def fetch() -> Grant:
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
        bearer(header.removeprefix("Bearer "), f"{where}: token")
        until = time.time() + PROVIDER_ASKED_EVERY
        return Grant(header, until, until)

    return Fetched(fetch)
