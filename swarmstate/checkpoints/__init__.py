"""LangGraph threads in any store: the public layout, what an engine offers, and one for any store.

The names of the layout are handed on from :mod:`swarmstate.checkpoints.format`.
"""

from swarmstate.checkpoints.format import (
    FORMAT,
    THREADS,
    ThreadNames,
    assemble,
    decode_record,
    decode_write,
    encode_record,
    encode_writes,
    field,
    names,
    new_field,
    place,
    record_fields,
    thread_namespace,
    thread_of,
    unreadable,
)

__all__ = [
    "FORMAT",
    "THREADS",
    "ThreadNames",
    "assemble",
    "decode_record",
    "decode_write",
    "encode_record",
    "encode_writes",
    "field",
    "names",
    "new_field",
    "place",
    "record_fields",
    "thread_namespace",
    "thread_of",
    "unreadable",
]
