# Values into bytes, as LangGraph's serializer writes them.
#
# Plain values (exact built-in types) and the four messages are written here. Every other value is
# given to LangGraph by itself, or in one list with neighbours of which the same is true. It is wrapped
# in as many lists as it stands in, so that its depth counts as it would have, and the heads of these
# lists are then cut off. A function that returns NULL without an exception says "not known exactly";
# what it has written is then overwritten.
#
# A writer owns its buffer while it writes, because whatever LangGraph calls may come back here. One
# buffer is kept for the next writer: fresh memory costs more than to copy what was written. For the
# same reason, every container on the way down to a value is held: it may be dropped by its owner.

cdef enum:
    FIRST_SIZE = 1 << 14  # bytes
    MAX_KEPT_SIZE = 1 << 20  # a larger buffer becomes the result itself

cdef struct Writer:
    PyObject *data  # bytes that nobody else knows
    uint8_t *limit
    int passes  # whether messages may be passed over LangGraph: -1 if not looked at yet
    bint changed  # whether foreign code changed a container that was being written

cdef enum:
    ATTEMPTS = 3  # to write a value that foreign code changes

cdef PyObject *kept_buffer = NULL


cdef object pack(object value):
    """Return the bytes of a value, or None where LangGraph has to pack the whole."""
    global kept_buffer
    cdef Writer w
    cdef uint8_t *end
    cdef Py_ssize_t size
    if kept_buffer != NULL:
        w.data, kept_buffer = kept_buffer, NULL
    else:
        w.data = new_bytes(NULL, FIRST_SIZE)
        lm_raised()
    w.limit = start_of(&w) + size_of(w.data)
    w.passes = -1
    try:
        for _ in range(ATTEMPTS):
            w.changed = False
            end = write_any(&w, start_of(&w), <PyObject *>value, 0)
            if not w.changed:
                break
        else:
            # LangGraph would go on behind the end of a list that has become shorter.
            raise RuntimeError("a list or dict changes whenever it is serialized")
        if end == NULL:
            return None
        size = end - start_of(&w)
        if size_of(w.data) <= MAX_KEPT_SIZE:
            return PyBytes_FromStringAndSize(PyBytes_AS_STRING(w.data), size)
        _PyBytes_Resize(&w.data, size)  # which leaves NULL when it fails
        packed = <object>w.data
        decref(w.data)
        w.data = NULL
        return packed
    finally:
        if kept_buffer == NULL and w.data != NULL and size_of(w.data) <= MAX_KEPT_SIZE:
            kept_buffer = w.data
        else:
            xdecref(w.data)


cdef inline uint8_t *start_of(Writer *w) noexcept:
    return <uint8_t *>PyBytes_AS_STRING(w.data)


cdef uint8_t *grow(Writer *w, uint8_t *end, Py_ssize_t more) except NULL:
    """Make room for `more` bytes at `end`; the buffer may move, so use what is returned."""
    cdef Py_ssize_t used = end - start_of(w), size = max(2 * size_of(w.data), used + more)
    _PyBytes_Resize(&w.data, size)
    w.limit = start_of(w) + size
    return start_of(w) + used


cdef inline uint8_t *room(Writer *w, uint8_t *end, Py_ssize_t more) except NULL:
    return end if w.limit - end >= more else grow(w, end, more)


cdef inline uint8_t *put_number(uint8_t *end, uint64_t number, int size) noexcept:
    """Write an unsigned number, the most significant byte first; there must be room for eight."""
    lm_store(end, number << 8 * (8 - size))
    return end + size


cdef inline uint8_t *put_size(
    uint8_t *end, Py_ssize_t size, int fix, int short, int head8, int head16
) noexcept:
    """Write the head of a text, bytes, list or dict.

    `fix` is the head that holds sizes below `short` itself, `head8` the one followed by one byte (0:
    there is none), `head16` by two, and the one after that by four.
    """
    if size < short:
        end[0] = <uint8_t>(fix | size)
        return end + 1
    if head8 and size <= 0xFF:
        end[0] = <uint8_t>head8
        return put_number(end + 1, size, 1)
    if size <= 0xFFFF:
        end[0] = <uint8_t>head16
        return put_number(end + 1, size, 2)
    end[0] = <uint8_t>(head16 + 1)
    return put_number(end + 1, size, 4)


cdef uint8_t *write_text(Writer *w, uint8_t *end, PyObject *value) except? NULL:
    cdef Py_ssize_t size
    cdef const char *data
    if PyUnicode_IS_ASCII(value):
        size = PyUnicode_GET_LENGTH(value)
        data = <const char *>PyUnicode_DATA(value)
    else:
        data = PyUnicode_AsUTF8AndSize(value, &size)
        if data == NULL:  # a lone surrogate
            PyErr_Clear()
            return NULL
    if size > MAX_SIZE:
        return NULL
    end = put_size(room(w, end, size + 9), size, 0xA0, 32, 0xD9, 0xDA)
    memcpy(end, data, size)
    return end + size


cdef uint8_t *write_bytes(
    Writer *w, uint8_t *end, const char *data, Py_ssize_t size
) except? NULL:
    if size > MAX_SIZE:
        return NULL
    end = put_size(room(w, end, size + 9), size, 0, 0, 0xC4, 0xC5)
    memcpy(end, data, size)
    return end + size


cdef uint8_t *put_int(uint8_t *end, PyObject *value) noexcept:
    cdef int overflow, size
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef unsigned long long magnitude
    if overflow < 0:
        return NULL
    if overflow > 0:
        magnitude = PyLong_AsUnsignedLongLong(value)
        if PyErr_Occurred() != NULL:
            PyErr_Clear()
            return NULL
        end[0] = 0xCF
        return put_number(end + 1, magnitude, 8)
    if number >= 0:
        if number <= 0x7F:
            end[0] = <uint8_t>number
            return end + 1
        size = 0 if number <= 0xFF else 1 if number <= 0xFFFF else 2 if number <= 0xFFFFFFFFLL else 3
        end[0] = 0xCC + size
    else:
        if number >= -32:
            end[0] = <uint8_t>(0x100 + number)
            return end + 1
        size = 0 if number >= -0x80 else 1 if number >= -0x8000 else 2 if number >= -0x80000000LL else 3
        end[0] = 0xD0 + size
    return put_number(end + 1, <uint64_t>number, 1 << size)


cdef inline uint8_t *write_leaf(
    Writer *w, uint8_t *end, PyObject *value, PyTypeObject *kind
) except? NULL:
    """A value that holds no other; NULL where it is not plain."""
    cdef double number
    cdef uint64_t bits
    if kind == &PyUnicode_Type:
        return write_text(w, end, value)
    end = room(w, end, 9)
    if value == Py_None:
        end[0] = 0xC0
        return end + 1
    if kind == &PyLong_Type:
        return put_int(end, value)
    if kind == &PyBool_Type:
        end[0] = 0xC3 if value == Py_True else 0xC2
        return end + 1
    if kind == &PyFloat_Type:
        number = PyFloat_AS_DOUBLE(value)
        memcpy(&bits, &number, 8)
        end[0] = 0xCB
        return put_number(end + 1, bits, 8)
    if kind == &PyBytes_Type:
        return write_bytes(w, end, PyBytes_AS_STRING(value), size_of(value))
    return NULL


cdef uint8_t *write_plain(Writer *w, uint8_t *end, PyObject *value, int depth) except? NULL:
    """A value of exact built-in types alone, with texts as keys; runs no foreign code."""
    cdef PyTypeObject *kind = lm_type(value)
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t i = 0
    if kind == &PyDict_Type:
        if depth >= MAX_DEPTH or PyDict_Size(value) > MAX_SIZE:
            return NULL
        end = put_size(room(w, end, 9), PyDict_Size(value), 0x80, 16, 0, 0xDE)
        while PyDict_Next(value, &i, &key, &item):
            if lm_type(key) != &PyUnicode_Type:
                return NULL
            end = write_text(w, end, key)
            if end == NULL:
                return NULL
            end = write_plain(w, end, item, depth + 1)
            if end == NULL:
                return NULL
        return end
    if kind == &PyList_Type or kind == &PyTuple_Type:
        if depth >= MAX_DEPTH or size_of(value) > MAX_SIZE:
            return NULL
        end = put_size(room(w, end, 9), size_of(value), 0x90, 16, 0, 0xDC)
        for i in range(size_of(value)):
            item = PyList_GET_ITEM(value, i) if kind == &PyList_Type else PyTuple_GET_ITEM(value, i)
            end = write_plain(w, end, item, depth + 1)
            if end == NULL:
                return NULL
        return end
    return write_leaf(w, end, value, kind)


# --- What may hold anything ---------------------------------------------------------------------------


cdef uint8_t *write_any(Writer *w, uint8_t *end, PyObject *value, int depth) except? NULL:
    """Any value that stands in `depth` containers; NULL where the whole has to start again."""
    cdef PyTypeObject *kind = lm_type(value)
    cdef Py_ssize_t at = end - start_of(w)
    if kind == &PyDict_Type and depth < MAX_DEPTH:
        return write_dict(w, end, <object>value, depth)
    if (kind == &PyList_Type or kind == &PyTuple_Type) and depth < MAX_DEPTH:
        return write_items(w, end, <object>value, kind == &PyList_Type, depth)
    end = write_leaf(w, end, value, kind)
    return end if end != NULL else write_object(w, start_of(w) + at, <object>value, depth)


cdef uint8_t *write_object(Writer *w, uint8_t *end, object value, int depth) except? NULL:
    """A value that is not plain, or that ormsgpack has to judge."""
    cdef PyTypeObject *kind = lm_type(<PyObject *>value)
    cdef Py_ssize_t at = end - start_of(w)
    cdef Model *model
    held = value
    model = model_of(kind)
    if model != NULL or kind == snapshot_class:
        if w.passes < 0:
            w.passes = are_current(&to_write_messages)
        if w.passes and model != NULL:
            end = write_message(w, end, <PyObject *>value, model)
            if end != NULL:
                return end
        elif w.passes and size_of(<PyObject *>value) == 1:
            return write_snapshot(w, end, value)
    return write_by_langgraph(w, start_of(w) + at, value, depth)


cdef uint8_t *write_dict(Writer *w, uint8_t *end, object items, int depth) except? NULL:
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t at, position = 0, size = PyDict_Size(<PyObject *>items), i = 0
    held = items
    if size > MAX_SIZE:
        return NULL
    end = put_size(room(w, end, 9), size, 0x80, 16, 0, 0xDE)
    while i < size and PyDict_Next(<PyObject *>items, &position, &key, &item):
        end = room(w, end, 9)
        at = end - start_of(w)
        end = (
            write_text(w, end, key) if lm_type(key) == &PyUnicode_Type
            else put_int(end, key) if lm_type(key) == &PyLong_Type
            else NULL)
        if end == NULL:
            held_item = <object>item
            end = write_key(w, start_of(w) + at, <object>key, depth)
            if end == NULL:
                return NULL
        end = write_any(w, end, item, depth + 1)
        if end == NULL:
            return NULL
        i += 1
    if i != size or PyDict_Size(<PyObject *>items) != size:  # not what its head says any more
        w.changed = True
        return NULL
    return end


cdef uint8_t *write_key(Writer *w, uint8_t *end, object key, int depth) except? NULL:
    """A key of a dict in `depth` containers, packed by LangGraph as the only key of a dict."""
    cdef Py_ssize_t at = end - start_of(w)
    held = key
    try:
        value = {key: None}
    except Exception:  # it is hashed once more than LangGraph would, and may not like that
        return NULL
    for _ in range(depth):
        value = [value]
    return add_packed(w, at, langgraph_pack(value), depth + 1, 1)


cdef uint8_t *write_items(
    Writer *w, uint8_t *end, object items, bint is_list, int depth
) except? NULL:
    cdef PyObject *item
    cdef Py_ssize_t i = 0, size = size_of(<PyObject *>items)
    held = items
    if size > MAX_SIZE:
        return NULL
    end = put_size(room(w, end, 9), size, 0x90, 16, 0, 0xDC)
    while i < size:
        item = item_of(items, i, is_list)
        if item == NULL:  # the list has become shorter
            w.changed = True
            return NULL
        if is_known(lm_type(item)):
            end = write_any(w, end, item, depth + 1)
            i += 1
        else:
            end = write_run(w, end, neighbours(items, i, size, is_list), depth, &i)
        if end == NULL:
            return NULL
    return end


cdef list neighbours(object items, Py_ssize_t i, Py_ssize_t size, bint is_list):
    """The items from one on that only LangGraph can write."""
    cdef list run = []  # which may run foreign code, so nothing is looked at before
    cdef PyObject *item = item_of(items, i, is_list)
    while item != NULL and i < size and not is_known(lm_type(item)):
        run.append(<object>item)
        i += 1
        item = item_of(items, i, is_list)
    return run


cdef inline PyObject *item_of(object items, Py_ssize_t i, bint is_list) noexcept:
    """An item of a list, which may have become shorter, or of a tuple; NULL behind the end."""
    if i >= size_of(<PyObject *>items):
        return NULL
    if is_list:
        return PyList_GET_ITEM(<PyObject *>items, i)
    return PyTuple_GET_ITEM(<PyObject *>items, i)


cdef uint8_t *write_by_langgraph(Writer *w, uint8_t *end, object value, int depth) except NULL:
    """A value packed by LangGraph, as if it were called for everything that the value stands in."""
    cdef Py_ssize_t at = end - start_of(w)
    for _ in range(depth):
        value = [value]
    return add_packed(w, at, langgraph_pack(value), depth, 0)


cdef uint8_t *write_run(
    Writer *w, uint8_t *end, list run, int depth, Py_ssize_t *written
) except NULL:
    """Neighbours in a list or tuple that stands in `depth` containers, in one call of LangGraph."""
    cdef Py_ssize_t at = end - start_of(w), size = len(run)
    value = run
    for _ in range(depth):
        value = [value]
    written[0] += size
    return add_packed(
        w, at, langgraph_pack(value), depth + (1 if size < 16 else 3 if size <= 0xFFFF else 5), 0)


cdef uint8_t *add_packed(
    Writer *w, Py_ssize_t at, bytes packed, Py_ssize_t skipped, Py_ssize_t cut
) except NULL:
    """Add some bytes but for the first and the last of them."""
    cdef Py_ssize_t size = size_of(<PyObject *>packed) - skipped - cut
    cdef uint8_t *end = room(w, start_of(w) + at, size)
    memcpy(end, PyBytes_AS_STRING(<PyObject *>packed) + skipped, size)
    return end + size


cdef uint8_t *write_snapshot(Writer *w, uint8_t *end, object snapshot) except? NULL:
    """A _DeltaSnapshot: an extension that holds the bytes of its value."""
    cdef Py_ssize_t at = end - start_of(w)
    cdef bint is_packed = False
    try:
        end = write_any(
            w, room(w, end, 6) + 6, PyTuple_GET_ITEM(<PyObject *>snapshot, 0), 0)
        is_packed = True
    except encode_error:
        pass
    if not is_packed:  # LangGraph's error names the snapshot, not what it holds
        raise encode_error(f"Type is not msgpack serializable: {type(snapshot).__name__}")
    if end == NULL:
        return NULL
    return close_extension(w, at, end, 6, EXT_SNAPSHOT)


cdef uint8_t *close_extension(
    Writer *w, Py_ssize_t at, uint8_t *end, int reserved, int code
) except? NULL:
    """Write the head of an extension whose bytes stand `reserved` bytes behind `at`."""
    cdef uint8_t *head
    cdef Py_ssize_t size = end - (start_of(w) + at) - reserved
    cdef int needed
    if size > MAX_SIZE:
        return NULL
    needed = (
        2 if size == 1 or size == 2 or size == 4 or size == 8 or size == 16
        else 3 if size <= 0xFF else 4 if size <= 0xFFFF else 6)
    end = room(w, end, 8)
    head = start_of(w) + at
    if needed != reserved:
        memmove(head + needed, head + reserved, size)
    if needed == 2:
        head[0] = 0xD4 if size == 1 else 0xD5 if size == 2 else 0xD6 if size == 4 else (
            0xD7 if size == 8 else 0xD8)
    elif needed == 3:
        head[0] = 0xC7
        head[1] = <uint8_t>size
    elif needed == 4:
        head[0] = 0xC8
        head[1] = <uint8_t>(size >> 8)
        head[2] = <uint8_t>size
    else:
        head[0] = 0xC9
        head[1] = <uint8_t>(size >> 24)
        head[2] = <uint8_t>(size >> 16)
        head[3] = <uint8_t>(size >> 8)
        head[4] = <uint8_t>size
    head[needed - 1] = <uint8_t>code
    return head + needed + size


# --- Messages -----------------------------------------------------------------------------------------


cdef uint8_t *write_message(
    Writer *w, uint8_t *end, PyObject *message, Model *model
) except? NULL:
    """A message whose fields pydantic would dump as they are; runs no foreign code."""
    cdef PyObject *fields
    cdef PyObject *extra = lm_get(extra_member, message)
    cdef bint has_extra
    if extra == NULL:
        PyErr_Clear()
        return NULL
    has_extra = extra != Py_None and (lm_type(extra) != &PyDict_Type or PyDict_Size(extra) != 0)
    decref(extra)
    if has_extra:
        return NULL
    fields = PyObject_GenericGetDict(message, NULL)
    if fields == NULL:
        PyErr_Clear()
        return NULL
    decref(fields)  # which the message holds
    if lm_type(fields) != &PyDict_Type or PyDict_Size(fields) != model.count:
        return NULL
    return write_fields(w, end, fields, model)


cdef uint8_t *write_fields(
    Writer *w, uint8_t *end, PyObject *fields, Model *model
) except? NULL:
    cdef Py_ssize_t at = end - start_of(w), position = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef Field *field = model.fields
    end = room(w, end, 4 + MAX_HEAD) + 4
    memcpy(end, model.head, MAX_HEAD)
    end += model.head_size
    while PyDict_Next(fields, &position, &key, &value):
        if not is_text(key, field.name) or not is_field(value, field.what, model):
            return NULL
        end = room(w, end, MAX_NAME)
        memcpy(end, field.packed, MAX_NAME)  # a size known to the compiler is copied in place
        # The array of four, the map, and the field's value are two levels below LangGraph's own.
        end = write_plain(w, end + field.size, value, 2)
        if end == NULL:
            return NULL
        field += 1
    end = room(w, end, size_of(<PyObject *>model_tail))
    memcpy(end, PyBytes_AS_STRING(<PyObject *>model_tail), size_of(<PyObject *>model_tail))
    return close_extension(w, at, end + size_of(<PyObject *>model_tail), 4, EXT_MODEL)


cdef inline bint is_field(PyObject *value, int what, Model *model) noexcept:
    """Whether pydantic would dump a field's value as it is, and without a warning."""
    cdef PyTypeObject *kind = lm_type(value)
    if what == OPTIONAL_TEXT:
        return value == Py_None or kind == &PyUnicode_Type
    if what == CONTENT:
        return is_content(value)
    if what == PLAIN_DICT:
        return kind == &PyDict_Type
    if what == TYPE:
        return is_text(value, model.type)
    if what == TEXT:
        return kind == &PyUnicode_Type
    if what == TOOL_CALLS:
        return are_tool_calls(value, False)
    if what == NO_ITEMS:
        return kind == &PyList_Type and size_of(value) == 0
    if what == USAGE:
        return value == Py_None or is_usage(value)
    if what == STATUS:
        return has_status(value)
    return True  # whatever write_plain takes
