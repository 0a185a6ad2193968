# What checkpoints become on their way to and from the scripts: arguments, and replies.

cdef object sha1 = functools.partial(hashlib.sha1, usedforsecurity=False)

cdef enum:
    MOST_DEEP = 8


@cython.final
cdef class Values:
    """A codec as the checkpointer uses it, without a frame where a value is plain.

    Args:
        codec: turns values into bytes and back.
        default: encodes what the codec does not know.
    """

    cdef readonly object codec
    cdef object default, pack
    cdef tuple more
    cdef bint plain

    def __init__(self, codec, default=None):
        self.codec = codec
        self.default = default
        path = getattr(codec, "fast", None)
        if path is not None:
            self.pack, self.more, _, _ = path
            self.plain = codec.wire == "msgpack"

    cpdef encode(self, value):
        """Return a value as bytes, as the codec encodes it."""
        if self.pack is not None and not self.more:
            try:
                return self.pack(value)
            except Exception:  # encode() alone decides what is accepted and what an error says
                pass
        return self.codec.encode(value, default=self.default)

    cpdef decode(self, data):
        """Return the value that bytes hold, as the codec decodes it."""
        if self.plain and type(data) is bytes:
            try:
                return plain_value(<bytes>data)
            except Odd:
                pass
        return self.codec.decode(data)


class Odd(Exception):
    """Bytes that the codec has to decode, or to refuse."""


cdef struct Reading:
    const unsigned char *at
    const unsigned char *end


cdef object plain_value(bytes data):
    """Decode msgpack of text, bytes, numbers, lists, and dicts by text; whatever else is odd."""
    cdef Reading r
    r.at = <const unsigned char *>PyBytes_AS_STRING(data)
    r.end = r.at + len(data)
    value = read_plain(&r, 0)
    if r.at != r.end:
        raise Odd
    return value


cdef inline Py_ssize_t big_endian(Reading *r, int size) except -1:
    """Read a length of so many bytes, which as many bytes must follow."""
    cdef Py_ssize_t number = 0
    cdef int index
    if r.end - r.at < size:
        raise Odd
    for index in range(size):
        number = number << 8 | r.at[index]
    r.at += size
    if number > r.end - r.at:
        raise Odd
    return number


cdef object read_plain(Reading *r, int depth):
    cdef unsigned char head
    if r.at == r.end or depth > MOST_DEEP:
        raise Odd
    head = r.at[0]
    r.at += 1
    if head < 0x80:
        return head
    if head < 0x90:
        return read_dict(r, head & 15, depth)
    if head < 0xa0:
        return read_list(r, head & 15, depth)
    if head < 0xc0:
        return read_text(r, head & 31)
    if head == 0xc0:
        return None
    if head == 0xc2:
        return False
    if head == 0xc3:
        return True
    if 0xc4 <= head <= 0xc6:
        return read_bytes(r, big_endian(r, 1 << (head - 0xc4)))
    if 0xd9 <= head <= 0xdb:
        return read_text(r, big_endian(r, 1 << (head - 0xd9)))
    if 0xdc <= head <= 0xdd:
        return read_list(r, big_endian(r, 2 << (head - 0xdc)), depth)
    if 0xde <= head <= 0xdf:
        return read_dict(r, big_endian(r, 2 << (head - 0xde)), depth)
    # Numbers above 127, below zero and with a fraction, extensions, and what is no msgpack.
    raise Odd


cdef object read_bytes(Reading *r, Py_ssize_t size):
    if size > r.end - r.at:
        raise Odd
    data = PyBytes_FromStringAndSize(<const char *>r.at, size)
    r.at += size
    return data


cdef object read_text(Reading *r, Py_ssize_t size):
    if size > r.end - r.at:
        raise Odd
    try:
        text = PyUnicode_DecodeUTF8(<const char *>r.at, size, NULL)
    except UnicodeDecodeError:
        raise Odd from None
    r.at += size
    return text


cdef object read_list(Reading *r, Py_ssize_t size, int depth):
    cdef list values = []
    for _ in range(size):
        values.append(read_plain(r, depth + 1))
    return values


cdef object read_dict(Reading *r, Py_ssize_t size, int depth):
    cdef dict values = {}
    for _ in range(size):
        key = read_plain(r, MOST_DEEP)
        if type(key) is not str:
            raise Odd
        values[key] = read_plain(r, depth + 1)
    return values


# To the server ----------------------------------------------------------------------------------


def entry(bytes encoded not None, parent, fields):
    """Return what is derived of a record, in plain msgpack, whatever the store's codec.

    Args:
        encoded: the record as it is stored.
        parent: the id of its parent, or None.
        fields: those that it refers to.
    """
    return pack_plain([sha1(encoded).hexdigest()[:16], parent or "", *fields])


def put_arguments(Values codec not None, id, list record not None, values not None, inherited, deltas, one):
    """Return what the scripts that store a checkpoint are told of it.

    Args:
        codec: the store's.
        id: the checkpoint's.
        record: its record, as plain lists.
        values: field -> type tag and bytes, for the values that it brings.
        inherited: the fields that must be there already, unless they are among the values.
        deltas: the fields that are rebuilt from writes.
        one: an encoded 1.
    """
    cdef list asked = [], kept = [], new = [], arguments
    for field in inherited:
        (kept if field in values else asked).append(field)
    for field in values:
        if field not in kept:
            new.append(field)
    parent = record[1] or ""
    arguments = [
        id, codec.encode(record), pack_plain([parent, *deltas]), one,
        parent if record[4] else "", len(asked), len(kept), *asked,
    ]
    for some in (kept, new):
        for field in some:
            arguments.append(field)
            arguments.append(codec.encode(values[field]))
    return arguments


def writes_arguments(Values codec not None, id, writes not None, values not None, inherited, drawn, one):
    """Return what the script that stores pending writes is told of them.

    Args:
        codec: the store's.
        id: the checkpoint's.
        writes: the writes.
        values: segment -> type tag and bytes, for those that they bring.
        inherited: the segments that must be there already, unless they are among the values.
        drawn: a number by lot, where there are any segments; or "".
        one: an encoded 1.
    """
    cdef list asked = [field for field in inherited if field not in values] if inherited else []
    cdef list arguments = [id, one, len(asked), len(values), drawn, *asked]
    for some in (values, writes):
        for key, value in some.items():
            arguments.append(key)
            arguments.append(codec.encode(value))
    return arguments


# From the server --------------------------------------------------------------------------------


def blobs(Values codec not None, keys, data):
    """Return field -> value for the fields that have one, right or wrong."""
    cdef dict found = {}
    for key, value in zip(keys, data, strict=True):
        if value is not None:
            name = (<bytes>key).decode() if type(key) is bytes else key
            try:
                found[name] = codec.decode(value)
            except DecodeError as error:
                # Only who knows the checkpoint can say what is lost by this.
                found[name] = error
    return found


def record_of(Values codec not None, data, name):
    """Return a record from its bytes, or raise for what is not one."""
    try:
        value = codec.decode(data)
    except DecodeError as error:
        raise DecodeError(f"{layout.place(name)}: {error}") from error
    return layout.decode_record(value, name)


def writes_of(Values codec not None, reply, name):
    """Return key and value of each pending write in the reply to HGETALL; not of what these need."""
    cdef list found = []
    if type(reply) is dict:
        pairs = reply.items()
    else:
        entries = iter(reply)
        pairs = zip(entries, entries, strict=True)
    try:
        for key, data in pairs:
            if (<bytes>key)[:2] != b"\0s":
                found.append(((<bytes>key).decode(), codec.decode(data)))
    except DecodeError as error:
        raise DecodeError(f"a pending write of {layout.place(name)}: {error}") from error
    return found


def unknown(reply):
    """Return id and record of the checkpoints of which is missing what is derived."""
    return [(raw_id, raw) for raw_id, raw, known, _ in reply[0] if not known]


def assembled(Values codec not None, space, reply, channels):
    """Return the checkpoints of one namespace in the reply of the script that reads them.

    Args:
        codec: the store's.
        space: names the namespace.
        reply: what the script returned.
        channels: those that were asked for; None: all.
    """
    cdef list made = []
    thread, checkpoint_ns, _ = space
    found, keys, data, _, _, missing, _ = reply
    held = blobs(codec, keys, data)
    for raw_id, raw, _, written in found:
        # Without the class's own __new__, which is written in Python.
        name = tuple.__new__(CheckpointName, (thread, checkpoint_ns, (<bytes>raw_id).decode()))
        record = record_of(codec, raw, name)
        made.append(layout.assemble(
            name,
            record,
            layout.record_fields(record, channels) if held else {},
            held,
            writes_of(codec, written, name) if written else (),
            marked=bool(missing) and b"\0w" + raw_id in missing,
        ))
    return made
