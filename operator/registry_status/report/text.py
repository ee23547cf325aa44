"""Text that is safe to show: no credentials, no control characters, no more than fits.

Messages are built without secrets in the first place; this is the last line of defence before an Event or a log line leaves.
"""

import re

REDACTED = "[redacted]"

_CREDENTIALS = re.compile(
    r"""
      (?P<named>                                # a header or a setting by its name's end, and its value
        (?i: (?: authorization | x-service-ak | x-service-shaaksk | x-auth-token | password | passwd )
                \\?["']? \s*[:=]\s*
           | (?: token | secret | (?:access|secret)[_-]?key | \b ak | \b sk ) (?: \s*=\s* | \\?["'] \s*:\s* ) )
        (?: (?P<inner> \\["'] ) | (?P<quote> ["'] ) )?
        (?i: (?: bearer | basic ) \s+ )?+ )          # possessive: the word itself is no secret
      (?! \[redacted\] )
      (?(quote) (?: \\. | (?! (?P=quote) ) . )+          # a quote within it is escaped, and within a JSON in a JSON twice
      | (?(inner) (?: \\\\ (?: \\. )? | (?! (?P=inner) ) . )+
      | [^\s"',;\\)}\]]+ ))
    | (?P<bearer> (?i: \b bearer \s+ ) ) [A-Za-z0-9._~+/-]{16,}=*
    | (?P<url> :// ) [^/\s:@]+ : [^/\s@]+ (?= @ )
    | (?s: -----BEGIN[ A-Z]*PRIVATE\ KEY----- .*? (?: -----END[ A-Z]*PRIVATE\ KEY----- | \Z ) )
    | \b eyJ[A-Za-z0-9_-]{10,} (?: \. [A-Za-z0-9_-]+ ){1,2}                                    # a JSON web token
    | \b (?= [A-Z]*[0-9] ) (?= [0-9]*[A-Z] ) [A-Z0-9]{20} \b                                   # looks like an access key
    | \b (?= [a-z0-9]*[A-Z] ) (?= [A-Z0-9]*[a-z] ) (?= [A-Za-z]*[0-9] ) [A-Za-z0-9]{40} \b     # looks like a secret key
    """,
    re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def redact(text: str) -> str:
    """Take out what looks like a credential. Registry ids (hex, UUIDs) and digests have other shapes and stay."""
    return _CREDENTIALS.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    return (found["named"] or found["bearer"] or found["url"] or "") + REDACTED


def one_line(text: str) -> str:
    """Control characters become single spaces, so that a foreign text cannot forge lines or terminal escapes."""
    return _CONTROL.sub(" ", text).strip()


def cut(text: str, limit: int) -> str:
    """Shorten to at most `limit` bytes of UTF-8, which is how Kubernetes counts, never in the middle of a character."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    ellipsis = "…"
    return encoded[: limit - len(ellipsis.encode())].decode("utf-8", "ignore").rstrip() + ellipsis


def age(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 120:
        return f"{max(0, round(seconds))} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
