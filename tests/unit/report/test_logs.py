"""Log lines, as people and as machines read them."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from registry_status.config import LogFormat, LogLevel
from registry_status.report.logs import KEYS, LogLimiter, configure
from tests.unit.report.fakes import FakeClock

Configure = Callable[[LogFormat, LogLevel], io.StringIO]


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Configures logging into a string, and puts everything back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    manager = logging.Logger.manager.loggerDict
    levels = {name: logger.level for name, logger in manager.items() if isinstance(logger, logging.Logger)}

    def into_text(log_format: LogFormat, level: LogLevel) -> io.StringIO:
        stream = io.StringIO()
        configure(log_format, level, stream)
        return stream

    yield into_text
    root.handlers[:], root.level = before
    logging.captureWarnings(False)
    for name, logger in manager.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))


def record(
    name: str, message: str, /, *args: object, created: float = 1_767_225_599.9996, **extra: object
) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": name, "msg": message, "args": args, "levelno": 30, "levelname": "WARNING", **extra})
    made.created = created
    return made


def emit(made: logging.LogRecord) -> None:
    logging.getLogger(made.name).handle(made)


def fail() -> None:
    raise RuntimeError("sent Authorization: Bearer abc.def.ghi")


class TestJson:
    def test_lines_hold_time_level_logger_message_and_fields(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        emit(
            record(
                "app", "%s is %s", "web-1", "UP", pod="web-1", namespace="shop", status="UP", latency=0.25, instance=("a", "b")
            )
        )
        assert json.loads(stream.getvalue()) == {
            "time": "2026-01-01T00:00:00.000Z", "level": "warning", "logger": "app", "message": "web-1 is UP",
            "pod": "web-1", "namespace": "shop", "status": "UP", "latency": 0.25, "instance": ["a", "b"],
        }  # fmt: skip

    def test_lines_stay_one_line_with_an_exception_in_one_field(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        try:
            fail()
        except RuntimeError:
            logging.getLogger("app").exception("it broke:\nbadly")
        assert stream.getvalue().count("\n") == 1
        line = json.loads(stream.getvalue())
        assert line["message"] == "it broke:\nbadly"
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("RuntimeError: sent Authorization: Bearer [redacted]")

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_lines_are_json_in_every_encoding_of_the_stream(self, encoding: str, configured: Configure) -> None:
        configured(LogFormat.JSON, LogLevel.INFO)
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding, errors="backslashreplace")  # as Python opens standard error
        configure(LogFormat.JSON, LogLevel.INFO, stream)
        emit(record("app", "k\u00e4rt \u5b57 \U0001f600", pod="\u00e4"))
        stream.flush()
        line = json.loads(written.getvalue())
        assert (line["message"], line["pod"]) == ("k\u00e4rt \u5b57 \U0001f600", "\u00e4")

    def test_fields_of_kopf_stay_out(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        emit(record("kopf", "x", k8s_skip=True, k8s_ref={"uid": "u"}, settings=object()))
        assert set(json.loads(stream.getvalue())) == {"time", "level", "logger", "message"}

    def test_a_field_cannot_replace_what_each_line_has(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        emit(record("app", "x", time="never", level="fun", logger="me"))
        line = json.loads(stream.getvalue())
        assert (line["level"], line["logger"]) == ("warning", "app")

    def test_strange_values_are_written_as_text(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        emit(record("app", "x", error=ValueError("no"), nothing=None, yes=True, path={"a": 1}))
        line = json.loads(stream.getvalue())
        assert (line["error"], line["nothing"], line["yes"], line["path"]) == ("no", None, True, "{'a': 1}")

    def test_a_secret_in_a_message_leaves_the_json_whole(self, configured: Configure) -> None:
        stream = configured(LogFormat.JSON, LogLevel.INFO)
        emit(record("app", 'posted {"name":"root","password":"pa55"}', url="http://root:pa55@registry:30100"))
        assert "pa55" not in stream.getvalue()
        assert json.loads(stream.getvalue())["url"] == "http://[redacted]@registry:30100"


class TestPlain:
    def test_lines_are_for_people(self, configured: Configure) -> None:
        stream = configured(LogFormat.PLAIN, LogLevel.INFO)
        emit(record("app", "written", pod="web-1", note='two "words"', instance=["a", "b"], empty=""))
        assert stream.getvalue() == (
            '2026-01-01T00:00:00.000Z WARNING app: written pod=web-1 note="two \\"words\\"" instance=a,b empty=""\n'
        )

    def test_a_message_cannot_forge_a_line(self, configured: Configure) -> None:
        stream = configured(LogFormat.PLAIN, LogLevel.INFO)
        emit(record("app", "bad\n2026-01-01T00:00:00.000Z ERROR app: forged\x1b[31m", pod="a\nb"))
        assert stream.getvalue().count("\n") == 1
        assert "\x1b" not in stream.getvalue()

    def test_the_stack_is_below_the_line(self, configured: Configure) -> None:
        stream = configured(LogFormat.PLAIN, LogLevel.INFO)
        try:
            fail()
        except RuntimeError:
            logging.getLogger("app").exception("it broke")
        lines = stream.getvalue().splitlines()
        assert lines[0].endswith("ERROR   app: it broke")
        assert lines[-1] == "RuntimeError: sent Authorization: Bearer [redacted]"


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (LogLevel.DEBUG, ["debug", "info", "warning", "error"]),
        (LogLevel.INFO, ["info", "warning", "error"]),
        (LogLevel.WARNING, ["warning", "error"]),
        (LogLevel.ERROR, ["error"]),
    ],
)
def test_the_level_is_kept(configured: Configure, level: LogLevel, shown: list[str]) -> None:
    stream = configured(LogFormat.JSON, level)
    for name in ("debug", "info", "warning", "error"):
        logging.getLogger("registry_status.test").log(logging.getLevelName(name.upper()), "x")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown


@pytest.mark.parametrize("level", LogLevel)
@pytest.mark.parametrize("name", ["httpx", "aiohttp.access", "kubernetes.aio", "kopf.objects", "asyncio"])
def test_libraries_are_quiet(configured: Configure, level: LogLevel, name: str) -> None:
    configured(LogFormat.PLAIN, level)
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert logging.getLogger(name).isEnabledFor(logging.WARNING) is (level is not LogLevel.ERROR)


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_dry_run_marks_every_line(configured: Configure, log_format: LogFormat) -> None:
    configured(log_format, LogLevel.INFO)
    stream = io.StringIO()
    configure(log_format, LogLevel.INFO, stream, dry_run=True)
    logging.getLogger("any").info("%d of %s", 1, "two")
    assert "dry run: 1 of two" in stream.getvalue()


def test_configuring_again_replaces_what_was(configured: Configure) -> None:
    configured(LogFormat.PLAIN, LogLevel.DEBUG)
    stream = configured(LogFormat.JSON, LogLevel.INFO)
    logging.getLogger("app").info("once")
    assert len(stream.getvalue().splitlines()) == 1


class TestLimiter:
    def test_makes_one_line_with_a_count_of_a_flood(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = FakeClock()
        limiter = LogLimiter(clock, interval=60)
        for _ in range(180):
            limiter.log(logging.getLogger("app"), logging.WARNING, "refused", "it refuses", {"pod": "web-1"})
            clock.now += 1
        assert [(line.getMessage(), getattr(line, "suppressed", 0)) for line in caplog.records] == [
            ("it refuses", 0), ("it refuses", 59), ("it refuses", 59),
        ]  # fmt: skip
        assert {vars(line)["pod"] for line in caplog.records} == {"web-1"}

    def test_lets_a_burst_pass(self) -> None:
        limiter = LogLimiter(FakeClock(), burst=3)
        assert [limiter.admit("key") for _ in range(5)] == [0, 0, 0, None, None]

    def test_knows_keys_apart(self) -> None:
        limiter = LogLimiter(FakeClock())
        assert [limiter.admit(key) for key in ("a", "b", "a")] == [0, 0, None]

    def test_does_not_count_what_the_level_drops(self, caplog: pytest.LogCaptureFixture) -> None:
        limiter, logger = LogLimiter(FakeClock()), logging.getLogger("app")
        with caplog.at_level(logging.WARNING):
            limiter.log(logger, logging.DEBUG, "key", "dropped")
            limiter.log(logger, logging.WARNING, "key", "shown")
        assert [line.getMessage() for line in caplog.records] == ["shown"]

    def test_has_a_memory_with_an_end(self) -> None:
        limiter = LogLimiter(FakeClock())
        for number in range(KEYS + 1):
            limiter.admit(str(number))
        assert limiter.admit(str(KEYS)) is None
        assert limiter.admit("0") == 0
