"""What a later process must know of a running local cluster, kept in a file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.namespaces import Process


@dataclass
class Record:
    """One cluster: its first process, where its API is, and the test run it ends with (none when it was made to stay)."""

    init: Process
    api_port: int
    owner: Process | None = None
    pids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        owner = document["owner"]
        return cls(
            init=Process(**document["init"]),
            api_port=document["api_port"],
            owner=Process(**owner) if owner else None,
            pids=document["pids"],
        )

    def write(self, path: Path) -> None:
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.rename(path)

    @property
    def running(self) -> bool:
        return self.init.alive

    @property
    def taken(self) -> bool:
        """Whether a test run that still goes on owns it."""
        return self.running and self.owner is not None and self.owner.alive
