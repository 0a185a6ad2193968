# The parts of a checkpoint in the public layout, and back; swarmstate.checkpoints.format says how it is.

FORMAT = 1
"""The version of the format, first in every record."""

PARTS = 9
"""How many parts a record has."""

LOST = "\0lost"
"""The key, among pending writes, of what says that earlier ones are gone."""

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


cdef str field_of(object channel, object version):
    cdef str name, text
    cdef Py_ssize_t zeros = 0
    if type(channel) is str:
        name = <str>channel
    elif isinstance(channel, str):
        name = str.__str__(channel)
    else:
        from swarmstate.arguments import shown
        raise ArgumentTypeError(
            f"a channel must be a str, not {type(channel).__name__} ({shown(channel)})")
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


def record_fields(record, channels=None) -> dict:
    """Return channel -> key for every value that a checkpoint has or, of deltas, may have.

    Args:
        record: The checkpoint's record.
        channels: The only channels that count; None: all of them.
    """
    cdef dict fields = {}
    cdef tuple parts = plain(record, 6)
    cdef dict versions = as_dict(parts[1])
    for names in (parts[2], parts[3]):
        for name in names:
            if (channels is None or name in channels) and name in versions:
                fields[name] = field_of(name, versions[name])
    return fields


def encode_record(record) -> list:
    """Return a record as plain lists for a codec."""
    cdef tuple parts = plain(record, 6)
    cdef tuple body = plain(parts[4], 2), metadata = plain(parts[5], 2)
    return [
        FORMAT, parts[0], parts[1], parts[2], parts[3],
        body[0], body[1], metadata[0], metadata[1]]


def decode_record(value, name):
    """Return a record from what the codec gave back.

    Raises:
        DecodeError: this is not a record, or one that a newer version wrote.
    """
    cdef list parts
    if type(value) is list and len(<list>value) == 9:
        parts = <list>value
        if (
            parts[0] == FORMAT
            and (parts[1] is None or type(parts[1]) is str)
            and type(parts[2]) is dict and are_versions(<dict>parts[2])
            and type(parts[3]) is list and are_names(<list>parts[3])
            and type(parts[4]) is list and are_names(<list>parts[4])
        ):
            return sc_named(CheckpointRecord, (
                parts[1], parts[2], parts[3], parts[4], (parts[5], parts[6]), (parts[7], parts[8])))
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


def encode_writes(writes, task_id, task_path, special, dumps) -> dict:
    """Return key -> value for a task's pending writes, in their checkpoint's namespace of writes.

    Args:
        writes: (channel, value) pairs; each is at its position, or at that of a special channel,
            for which the last one counts.
        task_id: The task.
        task_path: Where the task comes in the order of its step.
        special: The special channels -> their positions, below zero.
        dumps: The serializer.
    """
    cdef dict encoded = {}
    cdef Py_ssize_t position = 0
    for channel, value in writes:
        index = special.get(channel, position)
        blob = dumps(value)
        encoded[f"{index}:{task_id}"] = (
            [channel, blob[0], blob[1], task_path]
            if type(blob) is tuple and len(<tuple>blob) == 2 else [channel, *blob, task_path])
        position += 1
    return encoded


def decode_write(key, value, name):
    """Return a pending write from its key and value.

    Raises:
        DecodeError: this is not a pending write of this checkpoint.
    """
    cdef list parts
    if type(value) is list and len(<list>value) == 4 and key != LOST:
        parts = <list>value
        if type(parts[0]) is str and type(parts[3]) is str:
            index, _, task_id = key.partition(":")
            try:
                return sc_named(
                    TaskWrite, (task_id, int(index), parts[0], (parts[1], parts[2]), parts[3]))
            except ValueError:  # no number
                pass
    from swarmstate.checkpoints.format import no_write
    raise no_write(key, value, name)


def assemble(name, record, fields, held, writes, *, marked=False):
    """Return a checkpoint from what was read of it.

    Args:
        name: Which checkpoint it is.
        record: Its record.
        fields: Channel -> key of the values that were asked for.
        held: Key -> value, for the keys that have one; a DecodeError where it could not be read.
        writes: Key and value of each pending write.
        marked: Whether there must be pending writes.

    Raises:
        DecodeError: a value or a write is not what it should be, or the writes are missing.
    """
    cdef dict values = {}
    cdef list tasks
    for channel, key in as_dict(fields).items():
        value = held.get(key)
        if type(value) is list and len(<list>value) == 2:
            values[channel] = ((<list>value)[0], (<list>value)[1])
        elif value is not None:
            try:
                kind, data = value
            except (TypeError, ValueError):
                from swarmstate.checkpoints.format import unreadable
                raise unreadable(name, channel, value) from (
                    value if isinstance(value, DecodeError) else None)
            values[channel] = (kind, data)
    tasks = [decode_write(key, value, name) for key, value in writes]
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
