# Bytes into values, as LangGraph's serializer reads them.
#
# A function that returns NULL without an exception says "odd": then LangGraph reads the message, if
# it was within one, or else the whole blob. Nothing here runs foreign code: an extension that only
# LangGraph knows is first represented by `pending`, and its place noted; when everything has been
# read, LangGraph is called for each in the order of the bytes. So a blob that turns out odd has
# caused no event yet, and LangGraph, which then reads it, causes each once.

cdef struct Later:
    PyObject *container  # a list or dict, owned
    PyObject *key  # of the dict, owned; NULL in a list
    Py_ssize_t index  # in the list
    const uint8_t *start
    const uint8_t *stop

cdef struct Reader:
    const uint8_t *p
    const uint8_t *end
    Py_ssize_t owed  # values that open containers still expect, of a byte at least each
    const uint8_t *extension  # where the bytes of the last `pending` start; they end at `p`
    const uint8_t *artifact
    const uint8_t *artifact_end
    Later *later
    Py_ssize_t count
    Py_ssize_t room
    int passes  # whether messages may be passed over LangGraph: -1 if not looked at yet

cdef enum:
    KEY_SLOTS = 1024
    MAX_KEPT_KEY = 40  # bytes

cdef PyObject *pending = own(object())
cdef PyObject *kept_keys[KEY_SLOTS]


cdef PyObject *unpack(PyObject *blob, object hook) except? NULL:
    """Return a new reference to the value of some bytes, or NULL where LangGraph has to read them."""
    cdef Reader reader
    cdef PyObject *value
    cdef bint was_enabled
    cdef Py_ssize_t i
    reader.p = <const uint8_t *>PyBytes_AS_STRING(blob)
    reader.end = reader.p + size_of(blob)
    reader.owed = reader.count = reader.room = 0
    reader.later = NULL
    reader.passes = -1
    # Up to Python 3.11, any new container could start the collector and with it finalizers; and
    # thousands of new values would start it for nothing.
    was_enabled = PyGC_Disable()
    value = read_any(&reader, 0)
    if was_enabled:
        PyGC_Enable()
    try:
        lm_raised()
        if value != NULL and (value == pending or reader.p != reader.end):
            decref(value)
            value = NULL
        if value != NULL:
            for i in range(reader.count):
                read_by_langgraph(&reader.later[i], hook)
        return value
    except BaseException:  # raised again: what was made so far must not leak
        xdecref(value)
        raise
    finally:
        forget_later(&reader, 0)
        free(reader.later)


cdef int read_by_langgraph(Later *later, object hook) except -1:
    """Put what LangGraph makes of an extension where it belongs."""
    raw = PyBytes_FromStringAndSize(<const char *>later.start, later.stop - later.start)
    # ormsgpack calls the hook, so that an error becomes what it would have become.
    made = ormsgpack_unpack(raw, ext_hook=hook, option=unpack_option)
    if later.key == NULL:
        Py_INCREF(made)
        PyList_SetItem(later.container, later.index, <PyObject *>made)
    elif PyDict_SetItem(later.container, later.key, <PyObject *>made) < 0:
        lm_raised()
    return 0


cdef bint add_later(
    Reader *r, PyObject *container, PyObject *key, Py_ssize_t index,
    const uint8_t *start, const uint8_t *stop,
) noexcept:
    """Note the place of an extension; False where memory ends."""
    cdef void *grown
    cdef Later *later
    if r.count == r.room:
        grown = realloc(r.later, (2 * r.room + 8) * sizeof(Later))
        if grown == NULL:
            return False
        r.later = <Later *>grown
        r.room = 2 * r.room + 8
    later = &r.later[r.count]
    r.count += 1
    incref(container)
    if key != NULL:
        incref(key)
    later.container, later.key, later.index = container, key, index
    later.start, later.stop = start, stop
    return True


cdef void forget_later(Reader *r, Py_ssize_t count) noexcept:
    while r.count > count:
        r.count -= 1
        decref(r.later[r.count].container)
        xdecref(r.later[r.count].key)


cdef inline bint take(Reader *r, int size, uint64_t *number) noexcept:
    """Read an unsigned number of some bytes; False where there are too few."""
    if r.end - r.p < size:
        return False
    number[0] = lm_load(r.p, size)
    r.p += size
    return True


cdef PyObject *read_any(Reader *r, int depth) noexcept:
    """Return a new reference to the next value, which stands in `depth` containers."""
    cdef int head, size
    cdef uint64_t number
    cdef double real
    cdef const uint8_t *start = r.p
    if start >= r.end:
        return NULL
    head = start[0]
    r.p += 1
    if head <= 0x7F:
        return PyLong_FromLong(head)
    if head <= 0x8F:
        return read_dict(r, head & 15, depth)
    if head <= 0x9F:
        return read_list(r, head & 15, depth)
    if head <= 0xBF:
        return read_text(r, head & 31)
    if head >= 0xE0:
        return PyLong_FromLong(head - 256)
    if head == 0xC0:
        return new_reference(Py_None)
    if head == 0xC2:
        return new_reference(Py_False)
    if head == 0xC3:
        return new_reference(Py_True)
    if 0xD9 <= head <= 0xDB:
        return read_text(r, number) if take(r, 1 << (head - 0xD9), &number) else NULL
    if head == 0xDC or head == 0xDD:
        return read_list(r, number, depth) if take(r, 2 << (head - 0xDC), &number) else NULL
    if head == 0xDE or head == 0xDF:
        return read_dict(r, number, depth) if take(r, 2 << (head - 0xDE), &number) else NULL
    if 0xC7 <= head <= 0xC9:
        size = 1 << (head - 0xC7)
        return read_extension(r, start, number, depth) if take(r, size, &number) else NULL
    if 0xD4 <= head <= 0xD8:
        return read_extension(r, start, 1 << (head - 0xD4), depth)
    if 0xC4 <= head <= 0xC6:
        if not take(r, 1 << (head - 0xC4), &number) or <uint64_t>(r.end - r.p) < number:
            return NULL
        r.p += number
        return new_bytes(<const char *>r.p - number, number)
    if 0xCC <= head <= 0xCF:
        return PyLong_FromUnsignedLongLong(number) if take(r, 1 << (head - 0xCC), &number) else NULL
    if 0xD0 <= head <= 0xD3:
        size = 1 << (head - 0xD0)
        if not take(r, size, &number):
            return NULL
        return PyLong_FromLongLong(
            <int8_t>number if size == 1 else <int16_t>number if size == 2
            else <int32_t>number if size == 4 else <long long>number)
    if head == 0xCB and take(r, 8, &number):
        memcpy(&real, &number, 8)
        return PyFloat_FromDouble(real)
    return NULL


cdef inline PyObject *new_reference(PyObject *value) noexcept:
    incref(value)
    return value


cdef PyObject *new_text(const uint8_t *data, Py_ssize_t size) noexcept:
    cdef PyObject *text
    if size > 1 and lm_all_ascii(data, size):
        text = PyUnicode_New(size, 127)
        if text != NULL:
            memcpy(PyUnicode_DATA(text), data, size)
        return text
    text = PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    if text == NULL:
        PyErr_Clear()  # not UTF-8
    return text


cdef inline PyObject *read_text(Reader *r, uint64_t size) noexcept:
    if <uint64_t>(r.end - r.p) < size:
        return NULL
    r.p += size
    return new_text(r.p - size, size)


cdef PyObject *read_key(Reader *r, int depth) noexcept:
    """A text, which is likely to have been met before, or an int."""
    cdef int head
    cdef Py_ssize_t size, i
    cdef unsigned int slot = 5381
    cdef const uint8_t *data
    cdef PyObject *key
    if r.p >= r.end:
        return NULL
    head = r.p[0]
    if 0xA0 <= head <= 0xBF:
        size = head & 31
        data = r.p + 1
    elif head == 0xD9 and r.end - r.p >= 2:
        size = r.p[1]
        data = r.p + 2
    elif head <= 0x7F or head >= 0xE0 or 0xCC <= head <= 0xD3 or head == 0xDA or head == 0xDB:
        return read_any(r, depth)
    else:
        return NULL
    if r.end - data < size:
        return NULL
    r.p = data + size
    if size > MAX_KEPT_KEY:
        return new_text(data, size)
    for i in range(size):
        slot = slot * 33 ^ data[i]
    slot %= KEY_SLOTS
    key = kept_keys[slot]
    if key != NULL and PyUnicode_GET_LENGTH(key) == size and not memcmp(
        PyUnicode_DATA(key), data, size
    ):
        return new_reference(key)
    key = new_text(data, size)
    if key != NULL and PyUnicode_IS_ASCII(key):
        xdecref(kept_keys[slot])
        kept_keys[slot] = new_reference(key)
    return key


cdef PyObject *read_list(Reader *r, uint64_t size, int depth) noexcept:
    cdef PyObject *items
    cdef PyObject *item
    cdef Py_ssize_t i
    if depth >= MAX_DEPTH or <uint64_t>(r.end - r.p) < size + r.owed:
        return NULL
    items = PyList_New(size)
    if items == NULL:
        return NULL
    r.owed += size
    for i in range(<Py_ssize_t>size):
        r.owed -= 1
        item = read_any(r, depth + 1)
        if item != NULL:
            PyList_SET_ITEM(items, i, item)
        if item == NULL or item == pending and not add_later(r, items, NULL, i, r.extension, r.p):
            decref(items)
            return NULL
    return items


cdef PyObject *read_dict(Reader *r, uint64_t size, int depth) noexcept:
    cdef PyObject *items
    cdef uint64_t i
    if depth >= MAX_DEPTH or <uint64_t>(r.end - r.p) < 2 * size + r.owed:
        return NULL
    items = PyDict_New()
    if items == NULL:
        return NULL
    r.owed += 2 * size
    for i in range(size):
        r.owed -= 2
        if not read_entry(r, items, depth):
            decref(items)
            return NULL
    # A key that comes twice: what LangGraph would make of it depends on what it reads between.
    if <uint64_t>PyDict_Size(items) != size:
        decref(items)
        return NULL
    return items


cdef inline bint read_entry(Reader *r, PyObject *items, int depth) noexcept:
    cdef bint done
    cdef PyObject *value
    cdef PyObject *key = read_key(r, depth)
    if key == NULL:
        return False
    value = read_any(r, depth + 1)
    done = value != NULL and PyDict_SetItem(items, key, value) == 0
    if done and value == pending:
        done = add_later(r, items, key, 0, r.extension, r.p)
    xdecref(value)
    decref(key)
    return done


# --- Extensions ---------------------------------------------------------------------------------------


cdef PyObject *read_extension(
    Reader *r, const uint8_t *start, uint64_t size, int depth
) noexcept:
    """A message or snapshot, or `pending`; `start` is where the extension's head does."""
    cdef const uint8_t *end = r.end
    cdef const uint8_t *stop
    cdef Py_ssize_t owed = r.owed, count = r.count
    cdef PyObject *made = NULL
    cdef int code, i
    if <uint64_t>(r.end - r.p) < size + 1:
        return NULL
    code = r.p[0]
    r.p += 1
    stop = r.p + size
    r.end, r.owed = stop, 0
    if r.passes < 0:
        r.passes = are_current(&to_read_messages)
    if not r.passes:
        pass
    elif code == EXT_MODEL:
        for i in range(model_count):
            if size > <uint64_t>models[i].head_size and not memcmp(
                r.p, models[i].head, models[i].head_size
            ):
                if is_current(&models[i].known) and is_importable(&models[i]):
                    r.p += models[i].head_size
                    made = read_message(r, &models[i], depth + 2)
                break
    elif code == EXT_SNAPSHOT:
        made = read_snapshot(r, depth + 1)
    r.end, r.owed, r.p = end, owed, stop
    if made == NULL and PyErr_Occurred() == NULL:
        forget_later(r, count)
        r.extension = start
        made = new_reference(pending)
    return made


cdef PyObject *read_snapshot(Reader *r, int depth) noexcept:
    cdef PyObject *outer
    cdef PyObject *inner
    cdef PyObject *made = NULL
    cdef PyObject *value
    if depth >= MAX_DEPTH:
        return NULL
    value = read_any(r, depth)
    if value == NULL or value == pending or r.p != r.end:
        xdecref(value)
        return NULL
    # As tuple.__new__ would: the class's own __new__ is Python code.
    inner = PyTuple_New(1)
    outer = PyTuple_New(1)
    if inner != NULL and outer != NULL:
        PyTuple_SET_ITEM(inner, 0, new_reference(value))
        PyTuple_SET_ITEM(outer, 0, new_reference(inner))
        made = lm_new_tuple(snapshot_class, outer)
    xdecref(inner)
    xdecref(outer)
    decref(value)
    return made


cdef PyObject *read_message(Reader *r, Model *model, int depth) noexcept:
    """A message that pydantic would accept as it is, every field being given."""
    cdef PyObject *values[MAX_FIELDS]
    cdef PyObject *made = NULL
    cdef Py_ssize_t tail = size_of(<PyObject *>model_tail)
    cdef int count = 0
    while count < model.count:
        values[count] = read_field(r, &model.fields[count], model, depth)
        if values[count] == NULL:
            break
        count += 1
    if (
        count == model.count and r.end - r.p == tail
        and not memcmp(r.p, PyBytes_AS_STRING(<PyObject *>model_tail), tail)
        and (not model.has_tool_calls or are_settled(values))
    ):
        made = new_message(r, model, values)
    while count:
        count -= 1
        decref(values[count])
    return made


cdef inline PyObject *read_field(Reader *r, Field *field, Model *model, int depth) noexcept:
    cdef PyObject *value
    if r.end - r.p < field.size or memcmp(r.p, field.packed, field.size):
        return NULL
    r.p += field.size
    value = read_any(r, depth)
    if value == NULL:
        return NULL
    if field.what == ANYTHING:
        r.artifact, r.artifact_end = r.extension, r.p
    elif not (
        are_tool_calls(value, True) if field.what == TOOL_CALLS
        else is_field(value, field.what, model)
    ):
        decref(value)
        return NULL
    return value


cdef inline bint are_settled(PyObject **values) noexcept:
    """Whether AIMessage takes its tool calls as they are, instead of those that OpenAI sent."""
    cdef PyObject *calls = values[6]
    if size_of(calls):
        return True
    return PyDict_GetItemWithError(values[1], text_tool_calls) == NULL


cdef PyObject *new_message(Reader *r, Model *model, PyObject **values) noexcept:
    cdef PyObject *message = lm_new(model.known.kind, no_arguments)
    cdef PyObject *fields = PyDict_Copy(model.empty)
    cdef PyObject *names = PySet_New(model.names)
    cdef PyObject *extra = PyDict_New()
    cdef bint done = message != NULL and fields != NULL and names != NULL and extra != NULL
    cdef int i = 0
    while done and i < model.count:
        done = PyDict_SetItem(fields, model.fields[i].name, values[i]) == 0
        if done and values[i] == pending:
            done = add_later(r, fields, model.fields[i].name, 0, r.artifact, r.artifact_end)
        i += 1
    done = (
        done and PyObject_GenericSetDict(message, fields, NULL) == 0
        and lm_set(fields_set_member, message, names) == 0
        and lm_set(extra_member, message, extra) == 0
        and lm_set(private_member, message, Py_None) == 0
    )
    xdecref(fields)
    xdecref(names)
    xdecref(extra)
    if done:
        return message
    xdecref(message)
    return NULL
