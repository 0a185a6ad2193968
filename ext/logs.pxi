# Logs and conditional commits: what their methods in Store need.
#
# A log is the numbered keys of a namespace, those of exactly 16 digits. A namespace keeps them in
# order (`Space.log`) from the first time that it is asked for its log.


cdef object encoded_again(Encoder encoder, Decoder decoder, bytes data):
    """The bytes that this process would store for a value that was stored as `data`; else None.

    Another program may have encoded the same value otherwise. May run foreign code.
    """
    try:
        return encoder.encode(decoder.codec.decode(data))
    except (DecodeError, EncodeError):
        return None


cdef list last_of(Live live, str namespace, Py_ssize_t most, object before):
    """The last entries of a log, newest first: [key, data, key, ...]. Collector paused."""
    cdef PyObject *found = PyDict_GetItemWithError(live.spaces, namespace)
    cdef PyObject *data
    cdef list log, entries = []
    cdef Py_ssize_t at
    if found == NULL or most == 0:
        return entries
    log = (<Space>found).numbered()
    at = PyList_GET_SIZE(log) if before is None else bisect_left(log, before)
    while at > 0 and PyList_GET_SIZE(entries) // 2 != most:
        at -= 1
        data = PyDict_GetItemWithError((<Space>found).entries, log[at])
        if data != NULL:
            entries.append(log[at])
            entries.append(<object>data)
    return entries


cdef list next_keys(Live live, str namespace, Py_ssize_t count):
    """Keys above all in a log. Collector paused."""
    cdef list last = last_of(live, namespace, 1, None)
    cdef Py_ssize_t step
    cdef long long number = int(last[0]) if last else 0
    if count > LOG_KEYS - number:
        raise ArgumentValueError(
            f"namespace {shown(namespace)} cannot take {count} more entries: its last key is "
            f"{shown(last[0])}, and keys have {DIGITS} digits")
    return [f"{number + step:016d}" for step in range(1, count + 1)]
