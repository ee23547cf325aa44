"""Files that may be replaced while the process runs."""

import resource
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from registry_status.cluster.access import AccessError, Tls
from registry_status.config import SettingsError
from registry_status.registry.files import SecretFile
from registry_status.registry.tls import TlsFiles
from registry_status.watched import LOOK_EVERY, Watched
from tests.unit.mounts import PEMS


@contextmanager
def too_many_open_files() -> Iterator[None]:
    """The kernel opens no file for this process, as when all descriptors are in use; it tells of files all the same."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


Clock = Callable[[], float]
Use = Callable[[], object]
"""Looks at the file, and gives what is in use."""


def secret(file: Path, clock: Clock) -> Use:
    found = SecretFile(file, "registry_password_file")

    def use() -> str:
        with suppress(SettingsError):
            found.look(clock())
        return found.text

    return use


def registry_authorities(file: Path, clock: Clock) -> Use:
    return TlsFiles(file, None, None, clock=clock)


def api_authorities(file: Path, clock: Clock) -> Use:
    def load() -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:
            raise AccessError(str(error)) from None

    return Tls(load, file, clock=clock)


@pytest.mark.parametrize("kind", [secret, registry_authorities, api_authorities])
def test_a_file_that_was_replaced_and_could_not_be_opened_once_is_in_use_after_the_next_look(
    tmp_path: Path, kind: Callable[[Path, Clock], Use]
) -> None:
    file, now = tmp_path / "file", [0.0]
    file.write_bytes((PEMS / "ca.pem").read_bytes())
    use = kind(file, lambda: now[0])
    before = use()
    file.write_bytes((PEMS / "other-ca.pem").read_bytes())
    now[0] += LOOK_EVERY
    with too_many_open_files():
        assert use() == before
    now[0] += LOOK_EVERY
    after = use()
    assert after != before
    now[0] += LOOK_EVERY
    assert use() == after


def test_troubles_that_take_turns_are_told_once_each(tmp_path: Path) -> None:
    """As where one of several files is no good, and now and then none can be opened."""
    file, moments = tmp_path / "file", iter(range(0, 1000, int(LOOK_EVERY)))
    file.write_text("a")
    watched = Watched(file)
    news = []
    for why in ["no key", "too many open files"] * 3:
        assert watched.changed(next(moments))
        news.append(watched.failed(why))
    assert news == [True, True, False, False, False, False]


def test_what_cannot_be_used_is_news_once_until_the_file_or_the_reason_is_another(tmp_path: Path) -> None:
    file, moments = tmp_path / "file", iter(range(0, 1000, int(LOOK_EVERY)))
    watched = Watched(file)
    news = []
    for content, why in [("a", "bad"), ("a", "bad"), ("a", "worse"), ("a", "worse"), ("b2", "worse"), ("b2", "worse")]:
        if not file.exists() or file.read_text() != content:
            file.write_text(content)
        assert watched.changed(next(moments)), "it is looked at again"
        news.append(watched.failed(why))
    assert news == [True, False, True, False, True, False]
    assert watched.changed(next(moments))
    assert not watched.changed(next(moments)), "it could be used"
