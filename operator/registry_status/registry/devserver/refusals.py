"""How a Service Center says no: its error codes and the body that carries them.

The first three digits of a code are the HTTP status. "Not found" is a 400, which is why a client must look at the code.
"""

import json
from enum import Enum


class Code(Enum):
    """The codes this server gives, each with the message that the real one sends."""

    INVALID_PARAMS = 400001, "Invalid parameter(s)"
    SERVICE_ALREADY_EXISTS = 400010, "Micro-service already exists"
    SERVICE_NOT_EXISTS = 400012, "Micro-service does not exist"
    DEPLOYED_INSTANCE = 400013, "Micro-service has deployed instance(s)"
    INSTANCE_NOT_EXISTS = 400017, "Instance does not exist"
    VERSION_NOT_EXISTS = 400026, "Micro-service version does not exist"
    UNAUTHORIZED = 401201, "Request unauthorized"
    WRONG_PASSWORD = 401202, "User name or password is wrong"
    NO_AUTH_HEADER = 401204, "No authorization header"
    TOKEN_EXPIRED = 401205, "Token is expired"
    ACCOUNT_BLOCKED = 403201, "Account blocked"
    INTERNAL = 500003, "Internal server error"
    BACKEND_UNAVAILABLE = 500011, "Registry service is unavailable"

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status that goes with the code."""
        return self.number // 1000

    def body(self, detail: str = "") -> bytes:
        """The error as JSON; the code is a string in it, and no detail is left out rather than empty."""
        said = {"errorCode": str(self.number), "errorMessage": self.message}
        return json.dumps(said | ({"detail": detail} if detail else {})).encode()


class Refusal(Exception):  # noqa: N818 - it is an answer that the server gives, not a fault of the server
    """The request is answered with an error code."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.message} ({code.number}) {detail}".rstrip())
        self.code = code
        self.detail = detail
