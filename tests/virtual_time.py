"""An event loop whose clock jumps to the next timer when nothing else is to be done: hours pass in no time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

Result = TypeVar("Result")
Handle = TypeVar("Handle", bound=asyncio.Handle)
_Ts = TypeVarTuple("_Ts")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what it would have waited is added to the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual time. For code without real I/O only."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


def run_virtual(main: Coroutine[Any, Any, Result], loop: type[VirtualLoop] = VirtualLoop) -> Result:
    """Run a coroutine on virtual time; an error in any task that nobody awaits fails it too."""
    errors: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
        result = runner.run(main)
    assert not errors, errors
    return result


class Process:
    """What is started in its `context`. On a `FreezingLoop` it stands still while it is frozen, and for good when dead."""

    def __init__(self) -> None:
        self.frozen = self.dead = False
        self.missed: list[tuple[asyncio.Handle, Callable[[], None]]] = []
        self.context = Context()
        self.context.run(_PROCESS.set, self)

    def thaw(self) -> None:
        """What has arrived meanwhile comes first and then the timers, as in any event loop."""
        self.frozen = False
        missed, self.missed = sorted(self.missed, key=lambda one: isinstance(one[0], asyncio.TimerHandle)), []
        for _, run in missed:
            asyncio.get_running_loop().call_soon(run, context=self.context)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class FreezingLoop(VirtualLoop):
    """A virtual loop that several processes share."""

    def call_soon(self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None) -> asyncio.Handle:
        return _put_off(super().call_soon, partial(callback, *args), context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return _put_off(partial(super().call_at, when), partial(callback, *args), context)


def _put_off(schedule: Callable[..., Handle], callback: Callable[[], object], context: Context | None) -> Handle:
    """Have it called as `schedule` does, or when its process goes on."""
    context = copy_context() if context is None else context
    process = context.get(_PROCESS)

    def run() -> None:
        if process is not None and (process.frozen or process.dead):
            process.missed.append((handle, run))
        elif not handle.cancelled():  # since it was missed
            callback()

    handle = schedule(run, context=context)
    return handle


async def outside(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for what goes on whether the process that waits gives up, is frozen or is dead."""
    task = asyncio.create_task(work, context=Context())
    task.add_done_callback(lambda done: done.cancelled() or done.exception(), context=Context())
    return await asyncio.shield(task)
