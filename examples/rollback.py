"""An agent that tries, looks at what came of it, and goes back when it was a dead end.

The agent packs a box: it picks an item, and if what it has packed leads nowhere, it rolls its
whole state back to an earlier snapshot and takes another way. A snapshot takes the same time
whatever the store holds, and going back takes as long as what changed, so an agent may take a
snapshot before every step.

Runs without a network or a server::

    python examples/rollback.py
"""

from __future__ import annotations

from swarmstate import Snapshot, Store

WEIGHTS = {"kettle": 7, "teapot": 6, "cups": 5, "tray": 4}
GOAL = 15
"""The box must weigh exactly this."""


def possible(store: Store) -> list[str]:
    """Return what could be packed next: what still fits, and was not given up here before."""
    weight = store.get("box", "weight", 0)
    packed = store.get("box", "packed", [])
    given_up = store.get("box", "given up", [])
    return [
        name
        for name in WEIGHTS
        if name not in packed and name not in given_up and weight + WEIGHTS[name] <= GOAL
    ]


def pack(store: Store, name: str) -> None:
    """Put an item into the box: three values, at once."""
    store.set_many(
        [
            ("box", "packed", [*store.get("box", "packed", []), name]),
            ("box", "weight", store.get("box", "weight", 0) + WEIGHTS[name]),
            ("box", "given up", []),
        ]
    )


def main() -> None:
    """Pack the box."""
    store = Store()
    before: list[tuple[Snapshot, str]] = []  # each step that was taken, and how it was before
    while store.get("box", "weight", 0) != GOAL:
        if choices := possible(store):
            before.append((store.snapshot(), choices[0]))
            pack(store, choices[0])
            print(f"packed {choices[0]}: {store.get('box', 'weight')} of {GOAL}")
            continue
        snapshot, name = before.pop()
        print(f"a dead end: {name} comes out again")
        store.restore(snapshot)
        store.update("box", "given up", lambda names, name=name: [*names, name], default=[])
    print(f"done: {', '.join(store.get('box', 'packed'))}")


if __name__ == "__main__":
    main()
