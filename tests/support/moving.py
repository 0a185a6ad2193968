"""A slot of a cluster that moves from one node to another, a key at a time."""

from __future__ import annotations

import redis


class MovingSlot:
    """One slot on its way.

    Args:
        port: The port of any node of the cluster.
        slot: The slot.
    """

    def __init__(self, port: int, slot: int) -> None:
        self.slot = slot
        with redis.Redis(port=port, socket_timeout=10) as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        self.nodes = [
            redis.Redis(port=node_port, socket_timeout=10)
            for node_port in sorted({entry[2][1] for entry in ranges})
        ]
        owner = next(entry[2][1] for entry in ranges if entry[0] <= slot <= entry[1])
        ports = [node.connection_pool.connection_kwargs["port"] for node in self.nodes]
        self.source = self.nodes[ports.index(owner)]
        self.target = self.nodes[ports.index(owner) - 1]
        self._target_port = ports[ports.index(owner) - 1]
        self._here, self._there = (
            node.execute_command("CLUSTER", "MYID") for node in (self.source, self.target)
        )

    def begin(self) -> None:
        """Tell both nodes."""
        self.target.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._here)
        self.source.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._there)

    def left(self) -> list[bytes]:
        """Return what is still at the source."""
        found: list[bytes] = self.source.execute_command(
            "CLUSTER", "GETKEYSINSLOT", self.slot, 1000
        )
        return sorted(found)

    def move(self, key: bytes) -> None:
        """Move one key; raises if the target has one of that name."""
        self.source.execute_command("MIGRATE", "127.0.0.1", self._target_port, key, 0, 5000)

    def end(self) -> None:
        """Give the slot to the target."""
        others = [node for node in self.nodes if node is not self.target]
        for node in (self.target, *others):
            node.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", self._there)
        for node in self.nodes:
            node.close()
