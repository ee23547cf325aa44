"""The fence: a replica whose turn is over sends no write, and waits for none."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from registry_status.model import InstanceStatus, Tenant
from registry_status.registry.base import FencedError, TransientError, UnavailableError
from registry_status.registry.circuit import TRIP
from registry_status.registry.devserver import Answer, Delay, DevServer, Fault, Hang, NewInstance, NewService
from registry_status.registry.servicecomb import ServiceComb
from registry_status.registry.transport import AiohttpTransport, FenceClosed
from tests.unit.registry.test_servicecomb import Seen

TENANT, SERVICE = Tenant(), "svc-1"


class Turn:
    """A replica's turn, which ends when its answers do: the last one lasts."""

    def __init__(self, *answers: float) -> None:
        self.answers = list(answers)
        self.asked = 0

    def remaining(self) -> float:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Until:
    """A turn that ends so many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.ends_at = asyncio.get_running_loop().time() + seconds

    def remaining(self) -> float:
        return self.ends_at - asyncio.get_running_loop().time()


@pytest.fixture
def server() -> DevServer:
    server = DevServer()
    server.registry.create_service(NewService(name="cart", service_id=SERVICE))
    server.registry.register(SERVICE, NewInstance(host_name="cart-1", instance_id="i-1"))
    return server


@pytest.fixture
async def url(server: DevServer) -> AsyncIterator[str]:
    async with server.listening() as url:
        yield url


async def write(client: ServiceComb) -> None:
    await client.write_status(TENANT, SERVICE, "i-1", InstanceStatus.DOWN)


@pytest.mark.parametrize("left", [5.5, 0.5])
async def test_while_the_turn_lasts_writes_are_sent(server: DevServer, url: str, left: float) -> None:
    async with ServiceComb([url], fence=Turn(left)) as client:
        await write(client)
    assert len(server.writes) == 1


@pytest.mark.parametrize("left", [0.0, -3.0])
async def test_afterwards_only_reads_are(server: DevServer, url: str, left: float) -> None:
    seen = Seen()
    async with ServiceComb([url], fence=Turn(left), observer=seen) as client:
        with pytest.raises(FencedError, match="does not lead") as caught:
            await write(client)
        assert len(await client.list_instances(TENANT, SERVICE)) == 1
    assert [request.method for request in server.requests] == ["GET"]
    assert not caught.value.maybe_applied
    assert seen.requests == [("write-status", "fenced"), ("list-instances", "ok")]


async def test_a_turn_that_ends_on_the_way_to_the_socket_is_noticed_there(server: DevServer, url: str) -> None:
    """Frozen between the look at the clock and the sending: the last look is the one that counts."""
    turn = Turn(5.0, -1.0)
    async with ServiceComb([url], fence=turn) as client:
        with pytest.raises(FencedError) as caught:
            await write(client)
    assert turn.asked == 2
    assert server.requests == []
    assert not caught.value.maybe_applied


async def test_the_transport_looks_when_the_connection_is_there() -> None:
    """To make it may take seconds, and a process may be frozen in them."""
    connected, received = asyncio.Event(), bytearray()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        received.extend(await reader.read(100))
        writer.close()

    turn = Turn(5.0, 0.0)
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(transport=AiohttpTransport(fence=turn), trust_env=False) as http:
        with pytest.raises(FenceClosed):
            await http.put(f"http://127.0.0.1:{port}/")
        await asyncio.wait_for(connected.wait(), 5)
    server.close()
    assert turn.asked == 2
    assert not received


async def test_no_connection_is_made_for_a_turn_that_is_over() -> None:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(transport=AiohttpTransport(fence=Turn(0.0)), trust_env=False) as http:
        with pytest.raises(FenceClosed):
            await http.put(f"http://127.0.0.1:{port}/")
    await asyncio.sleep(0.05)
    server.close()
    assert connections == []


async def test_the_transport_looks_again_when_a_connection_is_at_hand(server: DevServer, url: str) -> None:
    turn = Turn(5.0)
    async with ServiceComb([url], fence=turn) as client:
        await write(client)
        turn.answers, turn.asked = [0.0], 0
        with pytest.raises(FencedError) as caught:
            await client.write_status(TENANT, SERVICE, "i-1", InstanceStatus.UP)
    assert turn.asked == 1
    assert len(server.writes) == 1
    assert not caught.value.maybe_applied


@pytest.mark.parametrize("ends", [0.3, 0.05])
async def test_a_write_is_not_waited_for_longer_than_the_turn_lasts(server: DevServer, url: str, ends: float) -> None:
    server.faults.set(Fault(Hang(30)))
    async with ServiceComb([url], fence=Until(ends)) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(FencedError) as caught:
            await write(client)
        assert ends - 0.01 <= asyncio.get_running_loop().time() - began < ends + 0.3
    assert caught.value.maybe_applied, "it may have arrived"


async def test_a_read_is(server: DevServer, url: str) -> None:
    server.faults.set(Fault(Delay(0.4)))
    async with ServiceComb([url], fence=Until(0.1)) as client:
        assert len(await client.list_instances(TENANT, SERVICE)) == 1


async def test_what_is_fenced_off_says_nothing_about_the_address(url: str) -> None:
    """Neither a failure, which would open its circuit, nor a success, which would close it."""
    seen = Seen()
    turn = Turn(-1.0)
    async with ServiceComb([url], fence=turn, observer=seen) as client:
        for _ in range(10):
            with pytest.raises(FencedError):
                await write(client)
        assert seen.circuits == []


async def test_a_registry_that_hangs_is_still_noticed_by_a_leader(server: DevServer, url: str) -> None:
    """Its turn is renewed all the while, though each write gets less than the whole time."""
    server.faults.set(Fault(Hang(30)))
    async with ServiceComb([url], fence=Turn(0.1)) as client:
        with pytest.raises(TransientError) as caught:
            await write(client)
    assert caught.value.code == "timeout"


async def open_circuit(server: DevServer, client: ServiceComb) -> None:
    """The address suffers from 503 from now on, and the client knows."""
    server.faults.set(Fault(Answer(status=503)))
    for _ in range(TRIP):
        with pytest.raises(TransientError):
            await write(client)


async def test_an_open_circuit_is_probed_by_the_leader_only(server: DevServer, url: str) -> None:
    turn = Turn(5.0)
    async with ServiceComb([url], fence=turn) as client:
        await open_circuit(server, client)
        turn.answers = [0.0]
        asked = len(server.requests)
        server.faults.clear()
        await asyncio.sleep(1.3)
        assert len(server.requests) == asked
        turn.answers = [5.0]
        await asyncio.sleep(1.3)
        await write(client)
    assert len(server.writes) == 1


async def test_who_may_ask_again_is_told_what_the_address_suffers_from_not_that_nobody_probed_it(
    server: DevServer, url: str
) -> None:
    turn = Turn(5.0)
    async with ServiceComb([url], fence=turn) as client:
        await open_circuit(server, client)
        turn.answers = [0.0]
        await asyncio.sleep(1.3)
        with pytest.raises(UnavailableError, match="503"):
            await write(client)
