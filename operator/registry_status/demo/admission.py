"""Who may pass the emulated API server, and what it spoils on purpose: the token, denied rights, injected failures."""

from dataclasses import dataclass, field

from registry_status.demo.kinds import ApiError, Kind, KubeObject


@dataclass(frozen=True, slots=True)
class Call:
    """A request as authorization sees it."""

    verb: str
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """As RBAC rules name it: `pods`, `pods/status`."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural


@dataclass(frozen=True, slots=True)
class Denial:
    """Rights taken away: of a verb on a resource, in one namespace or (empty) in all."""

    verb: str
    resource: str
    namespace: str = ""

    def covers(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether it forbids this."""
        return (self.verb, self.resource) == (verb, resource) and self.namespace in ("", namespace)


@dataclass(slots=True)
class Failure:
    """An answer that the next requests get instead of their own; empty words match everything."""

    times: int
    code: int
    verb: str = ""
    resource: str = ""
    retry_after: int | None = None

    def matches(self, call: Call) -> bool:
        """Whether the request is one of those to be spoilt."""
        return self.times > 0 and self.verb in ("", call.verb) and self.resource in ("", call.resource)


@dataclass(slots=True)
class Admission:
    """The rules in force, which tests change while the server runs."""

    token: str | None = None
    denials: set[Denial] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)

    def check_token(self, authorization: str) -> None:
        """Raise `ApiError` 401 unless the header bears the token, where there is one."""
        if self.token is not None and authorization != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized", "Unauthorized")

    def check_rights(self, call: Call) -> None:
        """Raise `ApiError` 403 for what is denied."""
        if self._denied(call.verb, call.resource, call.namespace):
            where = f' in the namespace "{call.namespace}"' if call.namespace else " at the cluster scope"
            what = f'cannot {call.verb} resource "{call.resource}" in API group "{call.kind.group}"{where}'
            name = f' "{call.name}"' if call.name else ""
            raise ApiError(403, "Forbidden", f'{call.kind.qualified}{name} is forbidden: User "demo" {what}')

    def review(self, review: KubeObject) -> KubeObject:
        """Answer a SelfSubjectAccessReview."""
        asked = review.get("spec", {}).get("resourceAttributes") or {}
        resource = "/".join(part for part in (asked.get("resource", ""), asked.get("subresource", "")) if part)
        denied = self._denied(asked.get("verb", ""), resource, asked.get("namespace", ""))
        verdict: KubeObject = {"allowed": not denied} | ({"reason": "denied by the emulator"} if denied else {})
        return {**review, "status": verdict}

    def take_failure(self, call: Call) -> Failure | None:
        """Use up one of the injected failures, if one is meant for this request."""
        for failure in self.failures:
            if failure.matches(call):
                failure.times -= 1
                return failure
        return None

    def _denied(self, verb: str, resource: str, namespace: str) -> bool:
        return any(denial.covers(verb, resource, namespace) for denial in self.denials)
