"""Access keys, as Huawei's CSE checks them: the key itself, and a digest of it that only who has the secret key can make."""

import hashlib
import hmac
from collections.abc import Mapping

from registry_status.registry.devserver.refusals import Code, Refusal


class AccessKeys:
    """Checks the headers of requests."""

    def __init__(self, secret_keys: Mapping[str, str]) -> None:
        """`secret_keys` by access key."""
        self._secret_keys = dict(secret_keys)

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request that has no valid X-Service-AK, X-Service-ShaAKSK and X-Service-Project."""
        access_key = headers.get("X-Service-AK", "")
        secret_key = self._secret_keys.get(access_key)
        if not access_key or not headers.get("X-Service-Project"):
            raise Refusal(Code.NO_AUTH_HEADER)
        if secret_key is None:
            raise Refusal(Code.UNAUTHORIZED, "unknown access key")
        digest = hmac.new(secret_key.encode(), access_key.encode(), hashlib.sha256).hexdigest()
        shown = headers.get("X-Service-ShaAKSK", "")
        if not hmac.compare_digest(digest.encode(), shown.encode(errors="surrogateescape")):
            raise Refusal(Code.UNAUTHORIZED, "wrong digest")

    def replace(self, secret_keys: Mapping[str, str]) -> None:
        """Let other keys be valid, as a rotation would."""
        self._secret_keys = dict(secret_keys)
