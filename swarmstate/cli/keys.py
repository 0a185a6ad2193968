"""The commands that show a store's namespaces, keys and values."""

from __future__ import annotations

import sys
from typing import Any

import click

from swarmstate.cli.commands import command
from swarmstate.cli.opening import Place, check_not_memory
from swarmstate.cli.showing import Display, bytes_of
from swarmstate.cli.values import of_stored, shape_of

__all__: list[str] = []


@command(name="namespaces")
@click.argument("start", default="")
@click.option("--count", is_flag=True, help="Count keys and bytes, for which all is read.")
def namespaces(display: Display, place: Place, start: str, count: bool) -> None:
    """List the namespaces, or those that begin with START."""
    check_not_memory(place)
    with place.as_stored().reading() as store:
        found = sorted(store.namespaces(start or None))
        rows: list[Any] = list(found)
        if count:
            rows = []
            for namespace in found:
                items = store.items(namespace)
                size = sum(len(key.encode()) + len(data) for key, data in items)
                rows.append({"namespace": namespace, "keys": len(items), "bytes": size})
    if display.as_json:
        display.json(rows)
    elif count:
        display.table(
            ("namespace", "#keys", "#bytes"),
            ((row["namespace"], row["keys"], row["bytes"]) for row in rows),
            "no namespaces",
        )
    else:
        for namespace in found:
            display.line(namespace)


@command(name="keys")
@click.argument("namespace")
@click.argument("start", default="")
def keys(display: Display, place: Place, namespace: str, start: str) -> None:
    """List the keys of NAMESPACE, or those that begin with START."""
    check_not_memory(place)
    with place.as_stored().reading() as store:
        found = sorted(store.keys(namespace, start or None))
        if not found and namespace not in store:
            raise click.ClickException(f"there is no namespace {namespace!r}")
    if display.as_json:
        display.json(found)
        return
    for key in found:
        display.line(key)


@command(name="get")
@click.argument("namespace")
@click.argument("key")
@click.option("--raw", is_flag=True, help="Write the bytes as they are stored, and nothing else.")
def get(display: Display, place: Place, namespace: str, key: str, raw: bool) -> None:
    """Show the value of KEY in NAMESPACE.

    One that cannot be decoded is shown by its size and first bytes, and the command ends with 1.
    """
    check_not_memory(place)
    with place.as_stored().reading() as store:
        data = store.get(namespace, key)
    if data is None:
        raise click.ClickException(f"there is no key {key!r} in namespace {namespace!r}")
    if raw:
        sys.stdout.buffer.write(data)
        return
    value = of_stored(data, place.codec)
    broken = isinstance(value, dict) and "$undecodable" in value
    if display.as_json:
        display.json({"namespace": namespace, "key": key, "bytes": len(data), "value": value})
    else:
        display.note(f"{shape_of(value)}, {bytes_of(len(data))}")
        display.value(value, None)
    if broken:
        raise click.exceptions.Exit(1)
