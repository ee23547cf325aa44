"""A microservice that behaves as one with a ServiceComb SDK, and does what a test tells it. Only the standard library.

It registers itself, sends heartbeats, registers again when it has expired, and on SIGTERM leaves the registry or does not.

Settings, by environment:
    REGISTRY                    the registry's URL; without it nothing is registered
    PROJECT, DOMAIN             both `default`
    SERVICE_NAME, APP, VERSION, ENVIRONMENT, FRAMEWORK_NAME, FRAMEWORK_VERSION     the microservice
    POD_NAME, POD_UID           properties of the instance, where set
    HOST_NAME, POD_IP, PORT     its host name and endpoint; the port is served too
    INSTANCE_ID                 a fixed id instead of one that the registry gives
    STATUS                      its first status (UP)
    HEARTBEAT, LOST_HEARTBEATS  seconds between heartbeats (30), and how many may be lost before it expires (3)
    DELAY                       seconds from start to registration (0), or `never`: only when told
    READY, LIVE, STARTED        what the probes answer first (true)
    ON_SIGTERM                  `leave` (default), `stay` (end without a word), or `ignore`
    EXIT_DELAY                  seconds from SIGTERM to the end (0)

    GET /ready /live /started   probes: 200 or 503
    GET /                       what it believes, as JSON
    POST /control/ready?value=false, /control/live..., /control/started...
    POST /control/register, /control/unregister, /control/stop-heartbeats, /control/crash?code=1
"""

import http.client
import json
import logging
import math
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

log = logging.getLogger("service")

NO_SUCH_INSTANCE, NO_SUCH_SERVICE = "400017", "400012"
RETRY_SECONDS = 0.5
TIMEOUT_SECONDS = 5


class RegistryError(Exception):
    """The registry answered with an error, or did not answer; `code` is empty then."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    registry: str
    root: str
    domain: str
    service: dict[str, Any]
    instance: dict[str, Any]
    port: int
    heartbeat: float
    delay: float | None
    on_sigterm: str
    exit_delay: float

    @classmethod
    def read(cls, env: dict[str, str]) -> "Settings":
        port, heartbeat, delay = int(env.get("PORT", "8080")), float(env.get("HEARTBEAT", "30")), env.get("DELAY", "0")
        return cls(
            registry=env.get("REGISTRY", "").rstrip("/"),
            root=f"/v4/{env.get('PROJECT', 'default')}/registry",
            domain=env.get("DOMAIN", "default"),
            service=_service(env),
            instance=_instance(env, port, heartbeat),
            port=port,
            heartbeat=heartbeat,
            delay=None if delay == "never" else float(delay),
            on_sigterm=env.get("ON_SIGTERM", "leave"),
            exit_delay=float(env.get("EXIT_DELAY", "0")),
        )


def _service(env: dict[str, str]) -> dict[str, Any]:
    service: dict[str, Any] = {
        "serviceName": env.get("SERVICE_NAME", "sample"),
        "appId": env.get("APP", "default"),
        "version": env.get("VERSION", "1.0.0"),
        "environment": env.get("ENVIRONMENT", ""),
    }
    if "FRAMEWORK_NAME" in env:
        service["framework"] = {"name": env["FRAMEWORK_NAME"], "version": env.get("FRAMEWORK_VERSION", "1.0.0")}
    return service


def _instance(env: dict[str, str], port: int, heartbeat: float) -> dict[str, Any]:
    host = env.get("HOST_NAME") or socket.gethostname()
    ip = env.get("POD_IP") or socket.gethostbyname(socket.gethostname())
    properties = {"podName": env.get("POD_NAME"), "podUid": env.get("POD_UID")}
    times = int(env.get("LOST_HEARTBEATS", "3"))
    instance: dict[str, Any] = {
        "hostName": host,
        "endpoints": [f"rest://{ip}:{port}?sslEnabled=false"],
        "status": env.get("STATUS", "UP"),
        "healthCheck": {"mode": "push", "interval": max(1, math.ceil(heartbeat)), "times": times},
        "properties": {name: value for name, value in properties.items() if value},
    }
    if "INSTANCE_ID" in env:
        instance["instanceId"] = env["INSTANCE_ID"]
    return instance


class Registry:
    """The few calls that an SDK makes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def service_id(self) -> str:
        """Find the microservice; create it where it is not there."""
        service = self._settings.service
        query = {"type": "microservice", "appId": service["appId"], "serviceName": service["serviceName"]}
        query |= {"version": service["version"], "env": service["environment"]}
        try:
            answer = self._call("GET", f"/existence?{urllib.parse.urlencode(query)}")
        except RegistryError as error:
            if error.code != NO_SUCH_SERVICE:
                raise
            answer = self._call("POST", "/microservices", {"service": service})
        return str(answer["serviceId"])

    def register(self, service_id: str) -> str:
        body = {"instance": self._settings.instance}
        return str(self._call("POST", f"/microservices/{service_id}/instances", body)["instanceId"])

    def heartbeat(self, service_id: str, instance_id: str) -> None:
        self._call("PUT", f"/microservices/{service_id}/instances/{instance_id}/heartbeat")

    def unregister(self, service_id: str, instance_id: str) -> None:
        self._call("DELETE", f"/microservices/{service_id}/instances/{instance_id}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = self._settings.registry + self._settings.root + path
        headers = {"Content-Type": "application/json", "x-domain-name": self._settings.domain}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return _json(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            raise RegistryError(f"{method} {path}: {error.code} {text!r}", str(_json(text).get("errorCode"))) from error
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(f"{method} {path}: {error}") from error


def _json(text: bytes) -> dict[str, Any]:
    """Read a JSON object; some good answers have an empty body, some bad ones are not JSON."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass
class State:
    """What the service believes; GET / shows it."""

    ready: bool = True
    live: bool = True
    started: bool = True
    wanted: bool = False
    beating: bool = True
    service_id: str = ""
    instance_id: str = ""
    registrations: int = 0
    heartbeats: int = 0


class Sdk:
    """Keeps the instance registered, in a thread of its own."""

    def __init__(self, settings: Settings, state: State) -> None:
        self._settings, self._state, self._registry = settings, state, Registry(settings)
        self._wake = threading.Event()
        self._lock = threading.RLock()

    def run(self) -> None:
        """Do what is due, and wait for the next heartbeat or for a word from outside."""
        while True:
            self._wake.wait(self._step())
            self._wake.clear()

    def register(self) -> None:
        """Register, again if it is registered already."""
        with self._lock:
            self._state.wanted, self._state.beating, self._state.instance_id = True, True, ""
        self._wake.set()

    def stop_heartbeats(self) -> None:
        self._state.beating = False

    def unregister(self) -> None:
        """Leave, and stay away."""
        with self._lock:
            state, self._state.wanted = self._state, False
            if state.instance_id:
                self._registry.unregister(state.service_id, state.instance_id)
                log.info("left the registry: %s", state.instance_id)
            state.instance_id = ""

    def _step(self) -> float | None:
        """Return the seconds until the next step."""
        with self._lock:
            if not (self._settings.registry and self._state.wanted and self._state.beating):
                return None
            try:
                self._beat() if self._state.instance_id else self._enter()
            except RegistryError as error:
                log.warning("%s", error)
                return self._after(error)
        return self._settings.heartbeat

    def _after(self, error: RegistryError) -> float:
        """Forget what the registry does not know any more; it is then registered anew."""
        if error.code in {NO_SUCH_INSTANCE, NO_SUCH_SERVICE}:
            expired, self._state.instance_id = bool(self._state.instance_id), ""
            return 0.01 if expired else RETRY_SECONDS
        return RETRY_SECONDS

    def _enter(self) -> None:
        state = self._state
        state.service_id = self._registry.service_id()
        state.instance_id = self._registry.register(state.service_id)
        state.registrations += 1
        log.info("registered: service %s, instance %s", state.service_id, state.instance_id)

    def _beat(self) -> None:
        self._registry.heartbeat(self._state.service_id, self._state.instance_id)
        self._state.heartbeats += 1


class Handler(BaseHTTPRequestHandler):
    """Probes for the kubelet, controls for the test."""

    state: State
    sdk: Sdk

    def do_GET(self) -> None:
        probe = self.path.strip("/")
        if probe in {"ready", "live", "started"}:
            fine = getattr(self.state, probe)
            self._answer(200 if fine else 503, {probe: fine})
        elif not probe:
            self._answer(200, asdict(self.state))
        else:
            self._answer(404, {"error": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query, name = dict(urllib.parse.parse_qsl(url.query)), url.path.removeprefix("/control/")
        if name == "crash":
            self._crash(int(query.get("code", "1")))
        control = self._control(name, query)
        if control is None:
            self._answer(404, {"error": f"no such control: {url.path}"})
            return
        log.info("told: %s", self.path)
        try:
            control()
        except RegistryError as error:
            self._answer(502, {"error": str(error)})
        else:
            self._answer(200, asdict(self.state))

    def _control(self, name: str, query: dict[str, str]) -> Callable[[], object] | None:
        controls: dict[str, Callable[[], object]] = {
            "register": self.sdk.register,
            "unregister": self.sdk.unregister,
            "stop-heartbeats": self.sdk.stop_heartbeats,
        }
        for probe in ("ready", "live", "started"):
            controls[probe] = lambda probe=probe: setattr(self.state, probe, _true(query.get("value", "true")))  # type: ignore[misc]  # a default binds it
        return controls.get(name)

    def _crash(self, code: int) -> NoReturn:
        """End at once, as a crash does: no farewell to the registry. The answer goes out first."""
        log.info("told: %s", self.path)
        self._answer(200, asdict(self.state))
        os._exit(code)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name; probes are not worth a line
        pass


class Server(ThreadingHTTPServer):
    """Serves each request in a thread; a caller that goes away is no error."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("request of %s failed", client_address)


def _true(text: str) -> bool:
    return text.lower() in {"1", "true", "yes"}


def _wait_for_sigterm(settings: Settings) -> None:
    """Return when it is time to go."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    signal.signal(signal.SIGINT, lambda *_: told.set())
    told.wait()
    while settings.on_sigterm == "ignore":
        time.sleep(1)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    env = dict(os.environ)
    settings = Settings.read(env)
    ready, live, started = (_true(env.get(probe, "true")) for probe in ("READY", "LIVE", "STARTED"))
    state = State(ready, live, started)
    sdk = Sdk(settings, state)
    handler = type("BoundHandler", (Handler,), {"state": state, "sdk": sdk})
    threading.Thread(target=Server(("", settings.port), handler).serve_forever, daemon=True).start()
    threading.Thread(target=sdk.run, daemon=True).start()
    if settings.delay is not None:
        registering = threading.Timer(settings.delay, sdk.register)
        registering.daemon = True
        registering.start()
    _wait_for_sigterm(settings)
    log.info("SIGTERM: %s", settings.on_sigterm)
    if settings.on_sigterm == "leave":
        try:
            sdk.unregister()
        except RegistryError as error:
            log.warning("%s", error)
    time.sleep(settings.exit_delay)


if __name__ == "__main__":
    main()
