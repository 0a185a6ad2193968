"""What the store costs beyond what is unavoidable: the codec, and two look-ups in dicts."""

from __future__ import annotations

import statistics

from measuring import in_turns, loop
from memory_store import SMALL

from swarmstate import Store, codecs


def floors() -> int:
    """Print the store's own costs beside their limits; return how many are above."""
    store = Store(codec="ormsgpack")
    store.set("ns", "key", SMALL)
    fast = codecs.get("ormsgpack").fast
    data = codecs.dumps(SMALL)
    nested = {"ns": {"key": data}}
    calls = {
        "set": loop("set('ns', 'key', value)", set=store.set, value=SMALL),
        "get": loop("get('ns', 'key')", get=store.get),
        "contains": loop("contains('ns', 'key')", contains=store.contains),
        "encode": loop("pack(value, *rest)", pack=fast.pack, rest=fast.pack_args, value=SMALL),
        "decode": loop("unpack(data, *rest)", unpack=fast.unpack, rest=fast.unpack_args, data=data),
        "nested": loop("'ns' in nested and 'key' in nested['ns']", nested=nested),
    }
    cost = {name: statistics.median(times) * 1e9 for name, times in in_turns(calls).items()}
    limits = [
        ("set above the codec's cost, ns", cost["set"] - cost["encode"], 60),
        ("get above the codec's cost, ns", cost["get"] - cost["decode"], 60),
        ("contains over two nested look-ups in dicts", cost["contains"] / cost["nested"], 2.5),
    ]
    print(f"{'floor':58} {'limit':>9} {'measured':>9}")
    for name, measured, limit in limits:
        print(f"{name:58} {limit:>9g} {measured:>9.3g}{'   SHORT' if measured > limit else ''}")
    return sum(measured > limit for _, measured, limit in limits)
