"""TLS to the registry: which authorities are trusted, which certificate we show, and what went wrong in plain words.

Certificates are rotated while the operator runs, so the files are read again when they change. New connections use what was
read last; those that are open stay, until they are idle.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from registry_status.config import SettingsError
from registry_status.registry.files import unusable
from registry_status.trust import trusting
from registry_status.watched import Watched

UNTRUSTED = "its certificate is signed by an authority that is not trusted; name the authority by --registry-ca-file"
VERIFY_TEXTS = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is signed by itself; name it or its authority by --registry-ca-file",
    19: UNTRUSTED,
    20: UNTRUSTED,
    21: UNTRUSTED,
    23: "its certificate was revoked",
    26: "its certificate is not made for servers",
}
"""OpenSSL's verify codes that people meet; others are told in OpenSSL's words."""
HANDSHAKE_TEXTS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port; if it is meant to be plain, write http://",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS on this port; if it is meant to be plain, write http://",
    "UNSUPPORTED_PROTOCOL": "the server speaks only TLS versions that are not safe any more",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server and we have no version of TLS in common",
}
CLIENT_WANTED = "the server asks for a client certificate: see --registry-client-cert-file"
CLIENT_REFUSED = "the server does not accept our client certificate (--registry-client-cert-file)"
ALERT_TEXTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": CLIENT_WANTED,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server broke off the handshake; it may ask for a client certificate"
    " (--registry-client-cert-file)",
    "TLSV1_ALERT_UNKNOWN_CA": f"{CLIENT_REFUSED}: it does not know the authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": CLIENT_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{CLIENT_REFUSED}: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{CLIENT_REFUSED}: it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": CLIENT_REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": CLIENT_REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": CLIENT_REFUSED,
}
"""What a server says of the client's certificate. In TLS 1.3 it does so after the client's side of the handshake, thus when
the first request is on its way, which it never looks at."""

logger = logging.getLogger(__name__)


class TlsFiles:
    """Gives the context for the next connection, made anew when a file has changed."""

    def __init__(
        self, authorities: Path | None, certificate: Path | None, key: Path | None, *, clock: Callable[[], float]
    ) -> None:
        """Raise `SettingsError` if a file is missing or holds something else."""
        self._authorities = authorities
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._watched = Watched(*(path for path in (authorities, certificate, key) if path is not None))
        self._watched.changed(clock())
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        """The context; files that cannot be used leave it as it was."""
        if self._watched.changed(self._clock()):
            try:
                self._context = self._load()
            except SettingsError as error:
                if self._watched.failed(str(error)):
                    logger.warning("TLS files have changed and cannot be used, so the ones before stay: %s", error)
            else:
                logger.info("TLS files have changed: new connections to the registry use them")
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = self._trusting()
        if self._certificate is not None and self._key is not None:
            _show(context, self._certificate, self._key)
        return context

    def _trusting(self) -> ssl.SSLContext:
        path = self._authorities
        if path is None:
            return trusting()
        try:
            return trusting(cafile=path)
        except ssl.SSLError:
            raise unusable("registry_ca_file", path, "holds no certificate in the form PEM") from None
        except OSError as error:
            raise unusable("registry_ca_file", path, f"cannot be read: {error.strerror}") from None


def explain(error: ssl.SSLError) -> str:
    """Say in words what went wrong, so that it can be mended."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = VERIFY_TEXTS.get(error.verify_code)
        return f"the server cannot be trusted: {known or error.verify_message.rstrip('.')}"
    reason = error.reason or ""
    return HANDSHAKE_TEXTS.get(reason) or ALERT_TEXTS.get(reason) or f"TLS failed: {reason or 'no reason given'}"


def refused_us(error: ssl.SSLError) -> bool:
    """Whether the server did not accept us, and so has looked at no request."""
    return error.reason in ALERT_TEXTS


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for setting, path in (("registry_client_cert_file", certificate), ("registry_client_key_file", key)):
        _check_readable(setting, path)
    try:
        # A key with a passphrase would be asked for on the terminal, if none is given here.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise unusable("registry_client_key_file", key, f"is not the key of the certificate in {certificate}") from None
        if not _holds_certificate(certificate):
            raise unusable("registry_client_cert_file", certificate, "holds no certificate in the form PEM") from None
        raise unusable("registry_client_key_file", key, "holds no key in the form PEM without passphrase") from None


def _holds_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _check_readable(setting: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise unusable(setting, path, f"cannot be read: {error.strerror}") from None
