# The parts of a checkpoint in the public layout, and back; swarmstate.checkpoints.format says how it is.

FORMAT = 2
"""The version of the format, first in every record that needs it; otherwise it is 1."""

PARTS = {1: 9, 2: 10}
"""How many parts a record of each version has."""

LOST = "\0lost"
"""The key, among pending writes, of what says that earlier ones are gone."""

LIST = "list"
"""The type tag of a write whose value is a list in segments."""

ELEMENTS = "elements"
"""The type tag of a segment."""

cdef enum:
    PADDING = 32  # digits of LangGraph's version numbers


cdef inline Py_ssize_t length_of(str text):
    # A lone surrogate is counted as it is; the store refuses the name that holds it.
    return PyUnicode_GET_LENGTH(text) if PyUnicode_IS_ASCII(text) else len(
        text.encode("utf-8", "surrogatepass"))


cdef inline bint is_padded(str version):
    """Whether a version begins as LangGraph's do."""
    cdef Py_ssize_t index
    if (
        PyUnicode_GET_LENGTH(version) <= PADDING
        or PyUnicode_READ_CHAR(version, PADDING) != u"." or PyUnicode_READ_CHAR(version, 0) != u"0"
    ):
        return False
    if PyUnicode_IS_ASCII(version):
        for index in range(PADDING):
            if not u"0" <= PyUnicode_READ_CHAR(version, index) <= u"9":
                return False
        return True
    return version[:PADDING].isdigit()


def new_field(channel, version) -> str:
    """Return the key of a channel's value at one version; the type of the version counts.

    Subclasses count as what they are made of, as they do for the codecs: an enum member that is a
    text as well names the channel of that text.

    Raises:
        ArgumentTypeError: no channel or no version.
    """
    return field_of(channel, version)


cdef inline str plain_name(object channel):
    """The name of a channel as a str of no subclass."""
    if type(channel) is str:
        return <str>channel
    if isinstance(channel, str):
        return str.__str__(channel)
    from swarmstate.arguments import shown
    raise ArgumentTypeError(
        f"a channel must be a str, not {type(channel).__name__} ({shown(channel)})")


cdef inline str start_of_segments(object channel):
    """What the keys of all segments of a channel start with."""
    return joined(plain_name(channel), u"s", "", 0)


cdef str field_of(object channel, object version):
    cdef str name = plain_name(channel), text
    cdef Py_ssize_t zeros = 0
    if isinstance(version, str):
        text = <str>version if type(version) is str else str.__str__(version)
        if is_padded(text):
            # LangGraph's numbers are padded to 32 digits, which would be most of all keys.
            while PyUnicode_READ_CHAR(text, zeros) == u"0":
                zeros += 1
            return joined(name, u"z", text, zeros)
        return joined(name, u":", text, 0)
    if isinstance(version, int) and not isinstance(version, bool):
        return f"{length_of(name)}i{name}:{int.__repr__(version)}"
    if isinstance(version, float):
        return f"{length_of(name)}f{name}:{float.__repr__(version)}"
    from swarmstate.arguments import shown
    raise ArgumentTypeError(
        f"the version of channel {shown(channel)} must be a str, an int or a float, "
        f"not {type(version).__name__} ({shown(version)})")


cdef str joined(str name, Py_UCS4 kind, str version, Py_ssize_t start):
    """The key of a channel and the rest of a version; where both are ASCII, in one piece."""
    cdef char digits[24]
    cdef Py_ssize_t size, rest, length
    cdef char *end
    if not (PyUnicode_IS_ASCII(name) and PyUnicode_IS_ASCII(version)):
        return f"{length_of(name)}{kind}{name}:{version[start:]}"
    size = PyUnicode_GET_LENGTH(name)
    rest = PyUnicode_GET_LENGTH(version) - start
    length = snprintf(digits, 24, "%zd%c", size, <int>kind)
    key = PyUnicode_New(length + size + 1 + rest, 127)
    end = <char *>PyUnicode_DATA(key)
    memcpy(end, digits, length)
    memcpy(end + length, PyUnicode_DATA(name), size)
    end[length + size] = b":"
    memcpy(end + length + size + 1, <char *>PyUnicode_DATA(version) + start, rest)
    return <str>key


def segment_field(channel, segment) -> str:
    """Return the key of a segment of a channel's list."""
    return start_of_segments(channel) + segment


def mark_of_segment(key) -> str:
    """Return the key, among pending writes, of what says that these need a segment."""
    return "\0s" + key


cdef inline bint is_need(object key):
    """Whether a key among pending writes says that these need a segment."""
    return (
        type(key) is str and PyUnicode_GET_LENGTH(key) > 1
        and PyUnicode_READ_CHAR(key, 0) == 0 and PyUnicode_READ_CHAR(key, 1) == u"s")


def segments_among(keys) -> list:
    """Return the keys of the segments that pending writes need, by the keys of these."""
    return [(<str>key)[2:] for key in keys if is_need(key)]


def record_fields(record, channels=None) -> dict:
    """Return the key of every value that a checkpoint has or, of deltas, may have, by its place.

    This is all that a record refers to: segments are further values.

    Args:
        record: The checkpoint's record.
        channels: The only channels that count; None: all of them.
    """
    cdef dict fields = {}
    cdef tuple parts = plain(record, 7)
    cdef dict versions = as_dict(parts[1]), lists = as_dict(parts[6]) if parts[6] else None
    for names in (parts[2], parts[3]):
        for name in names:
            if (channels is None or name in channels) and name in versions:
                if lists is None or name not in lists:
                    fields[name] = field_of(name, versions[name])
    if lists is not None:
        for name, listed in lists.items():
            if channels is None or name in channels:
                add_segments(fields, name, listed)
    return fields


cdef int add_segments(dict fields, object channel, list listed) except -1:
    cdef Py_ssize_t at
    cdef str prefix = start_of_segments(channel)
    for at in range(1, len(listed)):
        fields[channel, at - 1] = prefix + <str>listed[at]
    return 0


def encode_record(record) -> list:
    """Return a record as plain lists for a codec."""
    cdef tuple parts = plain(record, 7)
    cdef tuple body = plain(parts[4], 2), metadata = plain(parts[5], 2)
    cdef list encoded = [
        1, parts[0], parts[1], parts[2], parts[3],
        body[0], body[1], metadata[0], metadata[1]]
    if parts[6]:
        encoded[0] = FORMAT
        encoded.append(parts[6])
    return encoded


def decode_record(value, name):
    """Return a record from what the codec gave back.

    Raises:
        DecodeError: this is not a record, or one that a newer version wrote.
    """
    cdef list parts
    if type(value) is list and 9 <= len(<list>value) <= 10:
        parts = <list>value
        form = parts[0]
        if (
            type(form) is int and form == len(parts) - 8
            and (parts[1] is None or type(parts[1]) is str)
            and type(parts[2]) is dict and are_versions(<dict>parts[2])
            and type(parts[3]) is list and are_names(<list>parts[3])
            and type(parts[4]) is list and are_names(<list>parts[4])
            and (form == 1 or (type(parts[9]) is dict and are_lists(<dict>parts[9])))
        ):
            return sc_named(CheckpointRecord, (
                parts[1], parts[2], parts[3], parts[4], (parts[5], parts[6]), (parts[7], parts[8]),
                NO_LISTS if form == 1 else parts[9]))
    from swarmstate.checkpoints.format import no_record
    raise no_record(value, name)


cdef bint are_versions(dict versions):
    for name, version in versions.items():
        if type(name) is not str or type(version) not in (str, int, float):
            return False
    return True


cdef bint are_names(list names):
    for name in names:
        if type(name) is not str:
            return False
    return True


cdef bint are_lists(dict lists):
    for channel, listed in lists.items():
        if type(channel) is not str or not is_listed(listed):
            return False
    return True


cdef bint is_listed(object listed):
    """Whether this is how many elements a list has, and its segments."""
    cdef Py_ssize_t at
    if type(listed) is not list or len(<list>listed) < 2:
        return False
    count = (<list>listed)[0]
    if type(count) is not int or not 0 <= count <= 0xFFFFFFFF:
        return False
    for at in range(1, len(<list>listed)):
        if type((<list>listed)[at]) is not str:
            return False
    return True


cdef tuple list_of(object name, object channel, list listed, dict held):
    """A list from its segments, as the serializer wrote it."""
    cdef list rows = [head_of(listed[0])]
    cdef str prefix = start_of_segments(channel)
    cdef Py_ssize_t at
    for at in range(1, len(listed)):
        rows.append(elements_in(held.get(prefix + <str>listed[at]), name, channel, listed[at]))
    return "msgpack", b"".join(rows)


cdef inline object elements_in(object value, object name, object channel, object segment):
    """The bytes of a segment that was read."""
    if type(value) is memoryview:
        return value
    if (
        type(value) is list and len(<list>value) == 2 and (<list>value)[0] == ELEMENTS
        and type((<list>value)[1]) is bytes
    ):
        return (<list>value)[1]
    from swarmstate.checkpoints.format import no_segment
    raise no_segment(name, channel, segment, value) from (
        value if isinstance(value, DecodeError) else None)


cdef bytes head_of(object count):
    """What a list of so many elements begins with in msgpack."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def encode_writes(writes, task_id, task_path, special, dumps) -> dict:
    """Return key -> value for a task's pending writes, in their checkpoint's namespace of writes.

    Args:
        writes: (channel, value) pairs; each is at its position, or at that of a special channel,
            for which the last one counts.
        task_id: The task.
        task_path: Where the task comes in the order of its step.
        special: The special channels -> their positions, below zero.
        dumps: Returns of a channel and a value what the serializer makes of it; or, of a list in
            segments, the tag `LIST`, and how many elements it has and its segments.
    """
    cdef dict encoded = {}
    cdef Py_ssize_t position = 0
    for channel, value in writes:
        tag, data = dumps(channel, value)
        add_write(encoded, special.get(channel, position), channel, tag, data, task_id, task_path)
        position += 1
    return encoded


cdef int add_write(
    dict encoded, object index, object channel, object tag, object data, object task_id,
    object task_path
) except -1:
    cdef Py_ssize_t at
    cdef str prefix
    encoded[f"{index}:{task_id}"] = [channel, tag, data, task_path]
    if type(data) is list:
        prefix = "\0s" + start_of_segments(channel)
        for at in range(1, len(<list>data)):
            encoded[prefix + <str>(<list>data)[at]] = 1
    return 0


def decode_write(key, value, name, held=None):
    """Return a pending write from its key and value.

    Args:
        key: Its key.
        value: What is stored there.
        name: The checkpoint.
        held: The segments that the writes of the checkpoint need, by key.

    Raises:
        DecodeError: this is not a pending write of this checkpoint, or a segment is missing.
    """
    cdef list parts
    if type(value) is list and len(<list>value) == 4 and key != LOST:
        parts = <list>value
        if type(parts[0]) is str and type(parts[3]) is str and (
            type(parts[2]) is not list or (parts[1] == LIST and is_listed(parts[2]))
        ):
            index, _, task_id = key.partition(":")
            try:
                position = int(index)
            except ValueError:  # no number
                pass
            else:
                blob = (
                    (parts[1], parts[2]) if type(parts[2]) is not list
                    else list_of(name, <str>parts[0], <list>parts[2], as_dict(held or {})))
                return sc_named(TaskWrite, (task_id, position, parts[0], blob, parts[3]))
    from swarmstate.checkpoints.format import no_write
    raise no_write(key, value, name)


def assemble(name, record, fields, held, writes, *, marked=False):
    """Return a checkpoint from what was read of it.

    Args:
        name: Which checkpoint it is.
        record: Its record.
        fields: What `record_fields` returned: the keys of values by their place.
        held: Key -> value, for the keys that have one; a DecodeError where it could not be read.
            With writes also the segments that these need. In place of a segment may stand a
            memoryview of its bytes.
        writes: Key and value of each pending write.
        marked: Whether there must be pending writes.

    Raises:
        DecodeError: a value or a write is not what it should be, or the writes are missing.
    """
    cdef dict values = {}, lists = None, found = as_dict(held)
    cdef list tasks, listed, rows
    cdef Py_ssize_t at
    cdef tuple parts = plain(record, 7)
    if parts[6]:
        lists = as_dict(parts[6])
    for channel, key in as_dict(fields).items():
        value = found.get(key)
        if lists is not None and type(channel) is tuple:  # each list has its places in a row
            at = <Py_ssize_t>(<tuple>channel)[1] + 1
            channel = (<tuple>channel)[0]
            if at == 1:
                listed = <list>lists[channel]
                rows = [head_of(listed[0])]
            rows.append(elements_in(value, name, channel, listed[at]))
            if at == len(listed) - 1:
                values[channel] = ("msgpack", b"".join(rows))
            continue
        if type(value) is list and len(<list>value) == 2:
            values[channel] = ((<list>value)[0], (<list>value)[1])
        elif type(value) is memoryview:  # a serializer of the user's has a type of that name
            values[channel] = (ELEMENTS, bytes(value))
        elif value is not None:
            try:
                kind, data = value
            except (TypeError, ValueError):
                from swarmstate.checkpoints.format import unreadable
                raise unreadable(name, channel, value) from (
                    value if isinstance(value, DecodeError) else None)
            values[channel] = (kind, data)
    tasks = [decode_write(key, value, name, found) for key, value in writes if not is_need(key)]
    if len(tasks) > 1:
        tasks = in_order(tasks)
    elif marked and not tasks:
        from swarmstate.checkpoints.format import lost_writes
        raise lost_writes(name)
    return sc_named(StoredCheckpoint, (name, record, values, tasks))


cdef list in_order(list tasks):
    """Writes in the order of TaskWrite.order."""
    cdef list ranked = []
    cdef tuple parts
    for write in tasks:
        parts = plain(write, 5)
        ranked.append(((parts[4], parts[0], parts[1]), len(ranked), write))
    ranked.sort()
    return [write for _, _, write in ranked]
