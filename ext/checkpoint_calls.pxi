# What a call of LangGraph names and hands over; swarmstate.integrations.langgraph decides what is right.


def name_of(config):
    """Return which checkpoint a config names; the id "" stands for the latest one.

    Raises:
        ArgumentTypeError, ArgumentValueError: it names none that a store can hold.
    """
    return named_by(config)


cdef tuple named_by(object config):
    cdef dict configurable
    if type(config) is dict:
        found = (<dict>config).get("configurable")
        if type(found) is dict:
            configurable = <dict>found
            thread = configurable.get("thread_id")
            if type(thread) is str:
                checkpoint_ns = configurable.get("checkpoint_ns") or ""
                checkpoint_id = configurable.get("checkpoint_id") or ""
                if is_text(checkpoint_ns) and is_text(checkpoint_id):
                    return <tuple>sc_named(CheckpointName, (thread, checkpoint_ns, checkpoint_id))
    from swarmstate.integrations.langgraph.config import unusual_name_of
    return <tuple>unusual_name_of(config)


cdef inline bint is_text(object value):
    """Whether a value certainly is a str that UTF-8 can hold."""
    return type(value) is str and PyUnicode_IS_ASCII(value)


def text(what, value):
    """Return a value as a str that every store can hold, or raise.

    Args:
        what: What errors call it.
        value: The value.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is not one.
    """
    return value if is_text(value) else as_text(what, value)


cdef object as_text(object what, object value):
    if is_text(value):
        return value
    from swarmstate.integrations.langgraph.config import unusual_text
    return unusual_text(what, value)


def config_of(name) -> dict:
    """Return the config that names a checkpoint."""
    cdef tuple parts = plain(name, 3)
    return config_named(parts[0], parts[1], parts[2])


cdef inline dict config_named(object thread, object checkpoint_ns, object checkpoint_id):
    return {
        "configurable": {
            "thread_id": thread, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}}


def checkpoint_metadata(excluded, config, metadata) -> dict:
    """Return the metadata that is stored, as LangGraph's ``get_checkpoint_metadata`` makes it.

    Args:
        excluded: The keys of the config that are left out.
        config: The config of the call; what it adds to the metadata are texts and numbers.
        metadata: The metadata of the call.
    """
    cdef dict made = {}
    for key, value in as_dict(metadata).items():
        made[key] = without_nul(value) if isinstance(value, str) else value
    for added in (config.get("metadata"), config.get("configurable")):
        if not added:
            continue
        for key, value in as_dict(added).items():
            if key in made or key in excluded or is_private(key):
                continue
            if isinstance(value, str):
                made[key] = without_nul(value)
            elif isinstance(value, (int, float)):
                made[key] = value
    return made


cdef inline bint is_private(object key):
    if type(key) is not str:
        return key.startswith("__")
    return (
        PyUnicode_GET_LENGTH(key) > 1
        and PyUnicode_READ_CHAR(key, 0) == u"_" and PyUnicode_READ_CHAR(key, 1) == u"_")


cdef inline object without_nul(object text):
    return text if type(text) is str and u"\0" not in <str>text else text.replace("\0", "")


def next_version(current, bits) -> str:
    """Return a version greater than ``current``, as LangGraph's checkpointers number them.

    Args:
        current: The version before, if any.
        bits: What tells it from that of another branch, below 2**56.
    """
    cdef long long number = 0, suffix = bits
    cdef Py_ssize_t index
    if type(current) is str and is_padded(<str>current) and PyUnicode_IS_ASCII(current):
        for index in range(PADDING):
            if number > 100_000_000_000_000_000:  # the next digit may be one too many
                break
            number = 10 * number + <long long>PyUnicode_READ_CHAR(current, index) - 48
        else:
            return f"{number + 1:032d}.{suffix:014x}"
    if isinstance(current, str):
        current = current.split(".")[0]
    return f"{(0 if current is None else int(current)) + 1:032}.{suffix:014x}"


def writes_of(config, writes, task_id, task_path, special, dumps, ListCache cache=None) -> tuple:
    """Return what a call of ``put_writes`` stores.

    Args:
        config: Names the checkpoint.
        writes: (channel, value) pairs.
        task_id: The task.
        task_path: Where the task comes in the order of its step.
        special: The special channels -> their positions, below zero.
        dumps: The serializer.
        cache: What is known of lists; None where they stay whole.

    Returns:
        The checkpoint's name, what `encode_writes` returns, and the segments of lists; None if
        there are none.

    Raises:
        ArgumentTypeError, ArgumentValueError: the config names no checkpoint, or the others are not
            text.
    """
    cdef tuple name = named_by(config)
    cdef dict encoded = {}
    cdef Py_ssize_t position = 0
    cdef ListWrites lists = None
    cdef Cut found
    if not name[2]:
        from swarmstate.integrations.langgraph.config import unnamed
        raise unnamed(config)
    task_id, task_path = as_text("task_id", task_id), as_text("task_path", task_path)
    for channel, value in writes:
        blob = dumps(value)
        found = None
        if cache is not None:
            found = cache.cut(value, blob)
        if found is None:
            tag, data = blob
        else:
            if lists is None:
                lists = ListWrites.__new__(ListWrites)
                lists.values, lists.asked = {}, {}
            tag, data = LIST, lists.add(cache, name, channel, found)
        add_write(encoded, special.get(channel, position), channel, tag, data, task_id, task_path)
        position += 1
    return name, encoded, lists


def tuple_of(found, loads, metadata, kind, ListCache cache=None):
    """Return a stored checkpoint as LangGraph knows it.

    Args:
        found: The checkpoint.
        loads: The serializer.
        metadata: Its metadata, if it has been loaded already.
        kind: LangGraph's ``CheckpointTuple``.
        cache: Where to note which lists are in segments.

    Raises:
        KeyError: the value of a channel is missing.
        Exception: whatever the serializer raises.
    """
    cdef tuple parts = plain(found, 4)
    cdef tuple name = plain(parts[0], 3), record = plain(parts[1], 7)
    cdef dict values = {}
    cdef list pending = []
    for channel in record[2]:
        if channel not in parts[2]:
            raise KeyError(channel)
    body = loads(record[4])
    if metadata is None:
        metadata = loads(record[5])
    for channel, blob in as_dict(parts[2]).items():
        values[channel] = loads(blob)
    if cache is not None:
        cache.learn(name, as_dict(record[1]), record[6], values)
    for write in parts[3]:
        written = plain(write, 5)
        pending.append((written[0], written[2], loads(written[3])))
    body["channel_values"] = values
    body["channel_versions"] = record[1]
    return sc_named(kind, (
        config_named(name[0], name[1], name[2]), body, metadata,
        None if record[0] is None else config_named(name[0], name[1], record[0]), pending))
