"""LangGraph threads in any store: the public layout, what an engine offers, and one for any store.

The names of the layout are handed on from :mod:`swarmstate.checkpoints.format`.
"""

from swarmstate.checkpoints.format import (
    ELEMENTS,
    FORMAT,
    LIST,
    THREADS,
    ThreadNames,
    assemble,
    decode_record,
    decode_write,
    encode_record,
    encode_writes,
    field,
    is_segment,
    names,
    new_field,
    place,
    record_fields,
    segment_field,
    segment_of,
    segments_among,
    thread_namespace,
    thread_of,
    unreadable,
)

__all__ = [
    "ELEMENTS",
    "FORMAT",
    "LIST",
    "THREADS",
    "ThreadNames",
    "assemble",
    "decode_record",
    "decode_write",
    "encode_record",
    "encode_writes",
    "field",
    "is_segment",
    "names",
    "new_field",
    "place",
    "record_fields",
    "segment_field",
    "segment_of",
    "segments_among",
    "thread_namespace",
    "thread_of",
    "unreadable",
]
