"""Never two leaders at one time: two or three candidates against whatever network, machines and people may do.

The simulation plays the rules (`Election`) without asyncio: requests that are late, lost on the way or on the way back, obeyed
after their sender has given up, processes that freeze and thaw, clocks that differ, a Lease that is edited and deleted.
"""

import random
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry_status.cluster.api import ApiError, Json
from registry_status.cluster.lease import DURATION, Act, Election, Lease, lease_body, parse_lease, renewal
from tests.unit.cluster.fake_lease import REF, LeaseStore

END = 60.0
STEP = 0.05


@dataclass
class Request:
    """On its way to the API server and back. Times are the world's."""

    act: Act
    body: Json | None
    sent_at: float
    arrives_at: float
    answered_at: float
    patience_ends: float
    obeyed: bool = False
    answer: Lease | None = None
    conflict: bool = False


@dataclass
class Node:
    """One candidate, on a machine whose clock is off by `skew`."""

    name: str
    skew: float
    election: Election
    request: Request | None = None
    frozen_until: float = 0.0
    dead: bool = False
    led: list[float] = field(default_factory=list)

    def may_write(self, t: float) -> bool:
        return self.election.remaining(t + self.skew) > 0


class World:
    """Everything, a step at a time."""

    def __init__(self, nodes: int, seed: int, slow: float, lossy: float) -> None:
        self.chance = random.Random(seed)
        self.slow, self.lossy = slow, lossy
        self.t = 0.0
        self.store = LeaseStore()
        self.on_the_wire: list[Request] = []
        self.nodes = [self.node(name) for name in "abc"[:nodes]]

    def node(self, name: str) -> Node:
        skew = self.chance.uniform(0, 1000)
        return Node(name, skew, Election(name, self.t + skew, random.Random(self.chance.random())))

    def run(self, faults: "list[tuple[float, str, int, float]]") -> None:
        waiting = sorted(faults)
        while self.t < END:
            while waiting and waiting[0][0] <= self.t:
                _, what, index, amount = waiting.pop(0)
                self.strike(what, self.nodes[index % len(self.nodes)], amount)
            self.step()
            self.t += STEP

    def strike(self, what: str, node: Node, amount: float) -> None:
        match what:
            case "freeze":
                node.frozen_until = max(node.frozen_until, self.t + amount)
            case "crash":
                self.nodes[self.nodes.index(node)] = self.node(node.name + "'")
            case "delete":
                self.store.delete()
            case "annotate":
                self.store.edit()
            case "wipe":
                self.store.edit(holderIdentity="")
            case "stranger":
                self.store.edit(holderIdentity="stranger")
            case "give":
                self.store.edit(holderIdentity=node.name)

    def step(self) -> None:
        for request in [request for request in self.on_the_wire if request.arrives_at <= self.t]:
            self.on_the_wire.remove(request)
            self.obey(request)
        for node in self.chance.sample(self.nodes, len(self.nodes)):
            if node.frozen_until <= self.t:
                self.work(node)
            self.check()

    def check(self) -> None:
        writers = [node.name for node in self.nodes if node.may_write(self.t)]
        assert len(writers) <= 1, (self.t, writers)

    def work(self, node: Node) -> None:
        now, request = self.t + node.skew, node.request
        if request is not None:
            answered, over = self.t >= request.answered_at and request.obeyed, self.t >= request.patience_ends
            if not answered and not over:
                return
            node.request = None
            if answered and not (over and self.chance.random() < 0.5):
                self.take_answer(node, request, now)
            else:
                node.election.failed(request.sent_at + node.skew, now)
        elif node.election.due_in(now) <= 0:
            self.send(node, now)

    def send(self, node: Node, now: float) -> None:
        act = node.election.next(now)
        body = None
        if act is not Act.READ:
            holder = node.election.holder_to_write()
            body = lease_body(REF, node.election.lease, holder, DURATION, 1e9 + now)
            node.election.sends(holder, renewal(body), now)
        there, back = self.delay(), self.delay()
        request = Request(act, body, self.t, self.t + there, self.t + there + back, self.t + node.election.patience(now))
        if self.chance.random() < self.lossy:
            request.answered_at = float("inf")
        if self.chance.random() >= self.lossy:
            self.on_the_wire.append(request)
        node.request = request

    def delay(self) -> float:
        return self.chance.expovariate(1 / self.slow) if self.slow else 0.0

    def obey(self, request: Request) -> None:
        request.obeyed = True
        try:
            if request.act is Act.READ:
                request.answer = parse_lease(self.store.get())
            elif request.act is Act.CREATE:
                request.answer = parse_lease(self.store.post(request.body or {}))
            else:
                request.answer = parse_lease(self.store.put(request.body or {}))
        except ApiError:
            request.conflict = request.act is not Act.READ

    def take_answer(self, node: Node, request: Request, now: float) -> None:
        was_leading = node.election.leading
        if request.conflict:
            node.election.conflicted(now)
        elif request.act is Act.READ:
            node.election.read(request.answer, now)
        else:
            assert request.answer is not None
            node.election.wrote(request.answer, request.sent_at + node.skew, now)
        if node.election.leading and not was_leading:
            node.led.append(self.t)


FAULTS = st.lists(
    st.tuples(
        st.floats(0, END),
        st.sampled_from(["freeze", "freeze", "freeze", "crash", "delete", "annotate", "wipe", "stranger", "give", "give"]),
        st.integers(0, 2),
        st.floats(0.1, 20),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    nodes=st.integers(2, 3),
    seed=st.integers(0, 2**32),
    slow=st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.0]),
    lossy=st.sampled_from([0.0, 0.1, 0.5]),
    faults=FAULTS,
)
@example(nodes=2, seed=0, slow=0.0, lossy=0.0, faults=[(1.0, "freeze", 1, 14.0), (15.0, "give", 1, 1.0)])
def test_never_two_may_write_at_one_time(
    nodes: int, seed: int, slow: float, lossy: float, faults: list[tuple[float, str, int, float]]
) -> None:
    World(nodes, seed, slow, lossy).run(faults)


@settings(max_examples=40, deadline=None)
@given(nodes=st.integers(2, 3), seed=st.integers(0, 2**32), faults=FAULTS)
def test_when_all_is_well_again_somebody_leads_soon(nodes: int, seed: int, faults: list[tuple[float, str, int, float]]) -> None:
    """A wait of DURATION, and before it the last fault's own (20 s at most)."""
    world = World(nodes, seed, 0.01, 0.0)
    world.run([fault for fault in faults if fault[0] < 25])
    assert sum(node.may_write(world.t) for node in world.nodes) == 1


def test_without_faults_one_leads_all_the_time() -> None:
    world = World(3, 1, 0.01, 0.0)
    world.run([])
    assert sorted(len(node.led) for node in world.nodes) == [0, 0, 1]
    (leader,) = [node for node in world.nodes if node.led]
    assert leader.led[0] < DURATION + 0.5


def test_the_simulation_would_notice_two() -> None:
    """An election that believes whatever it reads is caught."""

    class Rash(Election):
        def _free_at(self) -> float:
            return float("-inf")

    caught = 0
    for seed in range(10):
        world = World(2, seed, 0.3, 0.1)
        for node in world.nodes:
            node.election = Rash(node.name, world.t + node.skew, random.Random(seed))
        try:
            world.run([(10, "freeze", 0, 5), (20, "freeze", 1, 5)])
        except AssertionError:
            caught += 1
    assert caught > 5
