# What must be as it was when this module was written, now and at every call.
#
# On import everything is compared with what is installed (see learning). After that, a class is
# watched by the version that CPython gives it, which is new whenever an attribute of it or of a base
# changed, and a module by looking up the few names that matter. So a patched method is called, whenever
# it was patched.

cdef enum:
    MAX_FIELDS = 9
    MAX_NAME = 24  # bytes of a field's name, packed
    MAX_HEAD = 96
    MAX_WATCHED = 8

# What a field's value must be for its message to be known exactly.
cdef enum:
    CONTENT = 1  # a str, or a list of str and dict
    PLAIN_DICT
    TYPE  # the one text of the class
    TEXT
    OPTIONAL_TEXT
    TOOL_CALLS
    NO_ITEMS  # an empty list
    USAGE
    STATUS
    ANYTHING

cdef struct Known:
    PyTypeObject *kind
    unsigned int good  # the version under which it was found unchanged
    unsigned int bad  # the one under which it was found changed

cdef struct Field:
    PyObject *name
    int what
    int size
    uint8_t packed[MAX_NAME]

cdef struct Model:
    Known known
    int count
    Field fields[MAX_FIELDS]
    int head_size
    uint8_t head[MAX_HEAD]  # the array of four, module, name and the map's head
    PyObject *module
    PyObject *name
    PyObject *type
    PyObject *empty  # a dict of the fields in order, to be copied and filled
    PyObject *names  # the set of the fields
    bint has_tool_calls

cdef struct Watched:
    PyObject *items  # the names of a module
    PyObject *name
    PyObject *value
    uint64_t version  # the one of `items` under which the value was found, if there are versions

cdef struct Watch:
    int count
    Watched names[MAX_WATCHED]

cdef Known serializer_class
cdef Model[4] models
cdef int model_count = 0
cdef PyTypeObject *snapshot_class = NULL  # _DeltaSnapshot
cdef Watch to_write, to_read, to_write_messages, to_read_messages
cdef list kept_alive = []  # what the structures above point to
cdef dict attributes_of = {}  # class -> the names that matter, and what stood under them

cdef Py_ssize_t attribute_count = 0  # of a serializer
cdef object encode_error = None
cdef object langgraph_pack = None
cdef object ormsgpack_unpack = None
cdef object unpack_option = None
cdef object hook_code = None
cdef dict hook_globals = {}
cdef PyObject *extra_member = NULL
cdef PyObject *fields_set_member = NULL
cdef PyObject *private_member = NULL
cdef bytes model_tail = b""

cdef PyObject *own(object value):
    """Keep a value for as long as the process lives."""
    kept_alive.append(value)
    return <PyObject *>value

cdef PyObject *text_dumps_typed = own(sys.intern("dumps_typed"))
cdef PyObject *text_loads_typed = own(sys.intern("loads_typed"))
cdef PyObject *text_hook = own(sys.intern("_unpack_ext_hook"))
cdef PyObject *text_msgpack = own(sys.intern("msgpack"))
cdef PyObject *text_name = own(sys.intern("name"))
cdef PyObject *text_args = own(sys.intern("args"))
cdef PyObject *text_id = own(sys.intern("id"))
cdef PyObject *text_type = own(sys.intern("type"))
cdef PyObject *text_tool_call = own(sys.intern("tool_call"))
cdef PyObject *text_tool_calls = own(sys.intern("tool_calls"))
cdef PyObject *text_success = own(sys.intern("success"))
cdef PyObject *text_error = own(sys.intern("error"))
cdef PyObject *text_input_details = own(sys.intern("input_token_details"))
cdef PyObject *text_output_details = own(sys.intern("output_token_details"))
cdef PyObject *no_arguments = own(())

cdef PyObject *usage_names[3]
cdef PyObject *input_names[3]
cdef PyObject *output_names[2]


# --- Classes and modules, at every call ---------------------------------------------------------------


cdef list own_attributes(kind, tuple names):
    """The line of a class, and what each of it has under some names itself."""
    return [(one, [one.__dict__.get(name) for name in names]) for one in kind.__mro__]


cdef bint are_same(list found, list expected):
    """Whether all attributes are the very same objects; compares nothing by equality."""
    if len(found) != len(expected):
        return False
    for (one, values), (other, others) in zip(found, expected):
        if one is not other or any([a is not b for a, b in zip(values, others)]):
            return False
    return True


cdef int remember(Known *known, kind, tuple names) except -1:
    known.kind = <PyTypeObject *>own(kind)
    known.good = known.bad = 0
    attributes_of[kind] = (names, own_attributes(kind, names))
    return 0


cdef inline bint is_current(Known *known) noexcept:
    """Whether nothing that matters of a class has changed since import."""
    cdef unsigned int version = lm_version(known.kind)
    return version == known.good and version != 0 or look_again(known, version)


cdef bint look_again(Known *known, unsigned int version) noexcept:
    if version != 0 and version == known.bad:
        return False
    cdef bint same = False
    try:
        kind = <object>known.kind
        names, expected = attributes_of[kind]
        same = are_same(own_attributes(kind, names), expected)
        hasattr(kind, "__module__")  # looks it up as every lookup does, which gives a version out
    except Exception:  # out of memory, say: then LangGraph is asked
        return False
    version = lm_version(known.kind)
    if same:
        known.good = version
    else:
        known.bad = version
    return same


cdef int watch(Watch *watched, module, tuple names) except -1:
    for name in names:
        watched.names[watched.count].items = own(vars(module))
        watched.names[watched.count].name = own(sys.intern(name))
        watched.names[watched.count].value = own(vars(module)[name])
        watched.count += 1
    return 0


cdef inline bint are_current(Watch *watched) noexcept:
    """Whether what is passed over of some modules is still there."""
    cdef Watched *one
    cdef uint64_t version
    cdef int i
    for i in range(watched.count):
        one = &watched.names[i]
        version = lm_dict_version(one.items)
        if version == 0 or version != one.version:
            if PyDict_GetItemWithError(one.items, one.name) != one.value:
                return False
            one.version = version
    return True


cdef bint is_importable(Model *model) noexcept:
    """Whether a class is what its name stands for, so what LangGraph would build."""
    cdef PyObject *module = PyDict_GetItemWithError(PyImport_GetModuleDict(), model.module)
    return (
        module != NULL and PyModule_CheckExact(module)
        and PyDict_GetItemWithError(PyModule_GetDict(module), model.name)
        == <PyObject *>model.known.kind
    )


cdef inline Model *table_of(PyTypeObject *kind) noexcept:
    """The table of a class, or NULL."""
    cdef int i
    for i in range(model_count):
        if models[i].known.kind == kind:
            return &models[i]
    return NULL


cdef inline Model *model_of(PyTypeObject *kind) noexcept:
    """The table of a class, or NULL also where the class has changed."""
    cdef Model *model = table_of(kind)
    return model if model != NULL and is_current(&model.known) else NULL


cdef bint is_langgraphs_hook(hook):
    return (
        type(hook) is types.FunctionType
        and hook.__code__ is hook_code
        and hook.__globals__ is hook_globals
    )


cdef inline bint is_known(PyTypeObject *kind) noexcept:
    """Whether values of a class are written here, as a rule."""
    return (
        kind == &PyUnicode_Type or kind == &PyDict_Type or kind == &PyList_Type
        or table_of(kind) != NULL
        or kind == &PyLong_Type or kind == &PyFloat_Type or kind == &PyBool_Type
        or kind == &PyTuple_Type or kind == &PyBytes_Type or kind == lm_type(Py_None)
        or kind == snapshot_class
    )


cdef inline bint is_text(PyObject *value, PyObject *expected) noexcept:
    """Whether a value is exactly a str and equal to an ASCII one; runs no foreign code."""
    cdef Py_ssize_t size
    if value == expected:
        return True
    if lm_type(value) != &PyUnicode_Type or not PyUnicode_IS_ASCII(value):
        return False
    size = PyUnicode_GET_LENGTH(expected)
    return PyUnicode_GET_LENGTH(value) == size and not memcmp(
        PyUnicode_DATA(value), PyUnicode_DATA(expected), size)


# --- The parts of messages, alike in both directions --------------------------------------------------


cdef bint is_content(PyObject *value) noexcept:
    cdef PyTypeObject *kind = lm_type(value)
    cdef Py_ssize_t i
    if kind == &PyUnicode_Type:
        return True
    if kind != &PyList_Type:
        return False
    for i in range(size_of(value)):
        kind = lm_type(PyList_GET_ITEM(value, i))
        if kind != &PyUnicode_Type and kind != &PyDict_Type:
            return False
    return True


cdef bint has_text_keys(PyObject *items) noexcept:
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t position = 0
    while PyDict_Next(items, &position, &key, &item):
        if lm_type(key) != &PyUnicode_Type:
            return False
    return True


cdef bint is_tool_call(PyObject *value, bint ordered) noexcept:
    """Whether it is a dict of name, args, id and type; `ordered`: and in this order."""
    cdef PyObject *key
    cdef PyObject *item
    cdef PyTypeObject *kind
    cdef Py_ssize_t position = 0
    cdef int which, i = 0
    if lm_type(value) != &PyDict_Type or PyDict_Size(value) != 4:
        return False
    while PyDict_Next(value, &position, &key, &item):
        kind = lm_type(item)
        if is_text(key, text_name) and kind == &PyUnicode_Type:
            which = 0
        elif is_text(key, text_args) and kind == &PyDict_Type and has_text_keys(item):
            which = 1
        elif is_text(key, text_id) and (kind == &PyUnicode_Type or item == Py_None):
            which = 2
        elif is_text(key, text_type) and is_text(item, text_tool_call):
            which = 3
        else:
            return False
        if ordered and which != i:
            return False
        i += 1
    return True  # four different keys, and no fifth


cdef bint are_tool_calls(PyObject *value, bint ordered) noexcept:
    cdef Py_ssize_t i
    if lm_type(value) != &PyList_Type:
        return False
    for i in range(size_of(value)):
        if not is_tool_call(PyList_GET_ITEM(value, i), ordered):
            return False
    return True


cdef bint are_counts(PyObject *value, PyObject **names, int count) noexcept:
    """Whether it is a dict of some of the names, in their order, to ints."""
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t position = 0
    cdef int i = 0
    if lm_type(value) != &PyDict_Type:
        return False
    while PyDict_Next(value, &position, &key, &item):
        while i < count and not is_text(key, names[i]):
            i += 1
        if i == count or lm_type(item) != &PyLong_Type:
            return False
        i += 1
    return True


cdef bint is_usage(PyObject *value) noexcept:
    """Whether it is a dict of the three counts, and then the details that there are."""
    cdef PyObject *key
    cdef PyObject *item
    cdef Py_ssize_t position = 0
    cdef int i = 0
    if lm_type(value) != &PyDict_Type:
        return False
    while PyDict_Next(value, &position, &key, &item):
        if i < 3:
            if not is_text(key, usage_names[i]) or lm_type(item) != &PyLong_Type:
                return False
        elif i == 3 and is_text(key, text_input_details):
            if not are_counts(item, input_names, 3):
                return False
        elif i <= 4 and is_text(key, text_output_details):
            if not are_counts(item, output_names, 2):
                return False
            i = 4
        else:
            return False
        i += 1
    return i >= 3


cdef inline bint has_status(PyObject *value) noexcept:
    return is_text(value, text_success) or is_text(value, text_error)
