"""Log lines: plain or JSON, on stderr, without floods and without credentials."""

import json
import logging
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import TextIOBase
from typing import TextIO

from registry_status.config import LogFormat, LogLevel
from registry_status.report.text import one_line, redact

Field = str | int | float | bool | None | list[str]

SILENT = "kopf._cogs.clients.watching"
"""It reports each failed try of a watch as an error: the feed says it in one line, and counts it."""
QUIET = ("httpx", "httpcore", "aiohttp", "asyncio", "kubernetes", "kopf.objects")
"""Libraries that narrate each request or each event: only their warnings are news. kopf itself tells little and stays."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FOREIGN = frozenset({"k8s_skip", "k8s_ref", "settings"})
"""What kopf hangs on its records for its own use."""
_TAKEN = frozenset({"time", "level", "logger", "exception"})


class _DryRun(logging.Filter):
    """Marks every line, so that nobody takes one for a deed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let all pass."""
        record.msg = f"dry run: {record.msg}"
        return True


def configure(
    log_format: LogFormat, level: LogLevel, stream: TextIO | TextIOBase | None = None, *, dry_run: bool = False
) -> None:
    """Send all logging to the stream (stderr by default) in the format asked for. May be called again: the last call holds."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    if dry_run:
        handler.addFilter(_DryRun())
    handler.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(SILENT).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the extra fields, then `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Build the line from clean parts: a secret is taken out of each value, so that the JSON stays whole."""
        line: dict[str, Field] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        line |= _extras(record)
        trouble = _exception(record)
        if trouble:
            line["exception"] = trouble
        return json.dumps(line, separators=(",", ":"))  # in ASCII, which stays JSON in whatever encoding stderr has


class PlainFormatter(logging.Formatter):
    """For people: `2026-01-31T12:00:00.000Z WARNING registry_status.sync: message pod=web-1 namespace=shop`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the stack below it where there is an exception."""
        message = one_line(redact(record.getMessage()))
        extras = "".join(f" {name}={_word(value)}" for name, value in _extras(record).items())
        trouble = _exception(record)
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}{extras}"
        return f"{line}\n{trouble}" if trouble else line


def _time(record: logging.LogRecord) -> str:
    seconds, milliseconds = divmod(round(record.created * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"


def _extras(record: logging.LogRecord) -> dict[str, Field]:
    return {
        name: _value(value)
        for name, value in vars(record).items()
        if name not in _STANDARD and name not in _FOREIGN and name not in _TAKEN
    }


def _value(value: object) -> Field:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(str(part)) for part in value]
    return redact(str(value))


def _word(value: Field) -> str:
    if isinstance(value, list):
        return ",".join(map(_word, value))
    text = one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def _exception(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts += traceback.format_exception(record.exc_info[1])
    if record.stack_info:
        parts.append(record.stack_info)
    return redact("".join(parts).rstrip())


@dataclass(slots=True)
class _Run:
    began: float
    admitted: int = 0
    suppressed: int = 0


class LogLimiter:
    """Makes one line of a flood: `burst` lines of one key in each `interval`, and the next one tells how many were left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, interval: float = 60.0, burst: int = 1) -> None:
        self._clock, self._interval, self._burst = clock, interval, burst
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def admit(self, key: str) -> int | None:
        """None: keep silent. Else how many were left out since the last line of this key."""
        now = self._clock()
        run = self._runs.get(key)
        if run is None or now - run.began >= self._interval:
            left_out = run.suppressed if run else 0
            self._runs.pop(key, None)
            self._runs[key] = _Run(now, admitted=1)
            if len(self._runs) > KEYS:
                self._runs.popitem(last=False)
            return left_out
        if run.admitted < self._burst:
            run.admitted += 1
            return 0
        run.suppressed += 1
        return None

    def log(
        self, logger: logging.Logger, level: int, key: str, message: str, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log the message unless its key had its share; what was left out before is told in `suppressed`."""
        if not logger.isEnabledFor(level):
            return
        left_out = self.admit(key)
        if left_out is None:
            return
        more = {**(extra or {}), "suppressed": left_out} if left_out else extra
        logger.log(level, "%s", message, extra=more)


KEYS = 1000
"""Keys that a limiter remembers; beyond, the longest silent one is forgotten."""
