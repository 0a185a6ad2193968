# Names of namespaces and keys: exact `str` that UTF-8 can hold.
#
# The checks of swarmstate.arguments decide; here the common case is recognised without a call.


cdef inline bint is_plain(object name):
    """Whether `name` is an exact `str` that certainly holds no surrogate."""
    cdef Py_UCS4 char
    if type(name) is not str:
        return False
    if PyUnicode_IS_ASCII(name):
        return True
    for char in <str>name:
        if 0xD800 <= char <= 0xDFFF:
            return False
    return True


cdef inline str as_key(object name):
    return <str>name if is_plain(name) else <str>check_key(name)


cdef inline str as_namespace(object name):
    if is_plain(name) and (PyUnicode_GET_LENGTH(name) == 0 or PyUnicode_READ_CHAR(name, 0) != 0):
        return <str>name
    return <str>check_namespace(name)


cdef inline bint begins(object name, object prefix) except -1:
    """Whether a name starts with a prefix: its letters are compared where they are, in a tenth."""
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(prefix)
    cdef int kind = PyUnicode_KIND(prefix)
    if PyUnicode_GET_LENGTH(name) < length:
        return False
    if PyUnicode_KIND(name) != kind:
        return PyUnicode_Tailmatch(name, prefix, 0, PY_SSIZE_T_MAX, -1)
    return memcmp(PyUnicode_DATA(name), PyUnicode_DATA(prefix), length * kind) == 0


cdef list as_pairs(object pairs):
    """Checked names of a batch of pairs, flat: namespace, key, namespace, key, ..."""
    cdef list names = []
    cdef Py_ssize_t index = 0
    if type(pairs) is not list:
        pairs = iterate("pairs", pairs, "an iterable of (namespace, key) pairs")
    for pair in pairs:
        if type(pair) is tuple and PyTuple_GET_SIZE(pair) == 2:
            names.append(as_namespace(<object>PyTuple_GET_ITEM(pair, 0)))
            names.append(as_key(<object>PyTuple_GET_ITEM(pair, 1)))
        else:
            names.extend(check_pair(pair, index))
        index += 1
    return names
