"""Whom TLS trusts, towards the API server and the registry alike."""

import ssl
from pathlib import Path


def trusting(*, cafile: Path | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Make a TLS context that trusts this authority, or the system's where none is given. Raises `OSError` and `ValueError`."""
    context = ssl.create_default_context(cafile=cafile, cadata=cadata)
    if cafile or cadata:
        # Python 3.13 asks for extensions that many a private authority lacks; Go, and so kubectl, does not.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context
