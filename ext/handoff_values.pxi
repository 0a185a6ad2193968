# What the values of a state are worth to a condition: their kind, their truth, how they compare.
#
# A value of a subclass counts as the built-in value that it extends, and is only read through that
# base; a value of any other type is true, equals nothing and holds nothing. So evaluating a condition
# runs no code of a value's class, and cannot raise because of it. Keys are found as dicts find them: one
# of a foreign type is asked whether it equals a name if it has that name's hash.

cdef enum _Kind:
    _NULL
    _BOOL
    _NUMBER
    _TEXT
    _BYTES
    # Up to here: scalars. From here: containers.
    _SEQUENCE
    _DICT
    _SET
    _OTHER


cdef inline _Kind _kind_of(object value) noexcept:
    if PyUnicode_Check(value):
        return _TEXT
    if value is None:
        return _NULL
    if value is True or value is False:
        return _BOOL
    if PyLong_Check(value) or PyFloat_Check(value):
        return _NUMBER
    if PyDict_Check(value):
        return _DICT
    if PyList_Check(value) or PyTuple_Check(value):
        return _SEQUENCE
    if PyBytes_Check(value) or PyByteArray_Check(value):
        return _BYTES
    if PyAnySet_Check(value):
        return _SET
    return _OTHER


cdef inline object _plain(object value):
    """Return a scalar as an exact built-in value, which compares without foreign code."""
    if PyUnicode_CheckExact(value) or PyLong_CheckExact(value) or PyFloat_CheckExact(value):
        return value
    if PyUnicode_Check(value):
        return PyUnicode_FromObject(value)
    if PyFloat_Check(value):
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(value))
    if value is None or value is True or value is False:
        return value
    if PyLong_Check(value):
        return int.__pos__(value)
    if PyBytes_CheckExact(value):
        return value
    if PyBytes_Check(value):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(value), PyByteArray_GET_SIZE(value))


cdef bint _is_true(object value) except -1:
    """Return the truth that Python gives a built-in value; a value of another type is true."""
    cdef _Kind kind = _kind_of(value)
    if kind == _BOOL:
        return value is True
    if kind == _NULL:
        return False
    if kind == _NUMBER:
        return _plain(value) != 0
    if kind == _TEXT:
        return PyUnicode_GET_LENGTH(value) != 0
    if kind == _BYTES:
        return len(_plain(value)) != 0
    if kind == _SEQUENCE:
        return (PyList_GET_SIZE(value) if PyList_Check(value) else PyTuple_GET_SIZE(value)) != 0
    if kind == _DICT:
        return PyDict_Size(value) != 0
    return kind == _OTHER or PySet_GET_SIZE(value) != 0


cdef inline bint _compares(object left, object right, int operator) except -1:
    """Compare two scalars of one kind."""
    return PyObject_RichCompare(_plain(left), _plain(right), operator) is True


cdef bint _equal(object left, object right) except -1:
    """Whether two values are equal: of one kind, and the same in content."""
    cdef _Kind kind = _kind_of(left)
    if kind != _kind_of(right):
        return False
    if kind == _TEXT and PyUnicode_CheckExact(left) and PyUnicode_CheckExact(right):
        # Most texts that differ differ in length.
        return left is right or (
            PyUnicode_GET_LENGTH(left) == PyUnicode_GET_LENGTH(right) and
            PyUnicode_Compare(left, right) == 0)
    if kind < _SEQUENCE:
        return _compares(left, right, Py_EQ)
    return kind < _SET and _equal_in_content(left, right)


cdef bint _equal_in_content(object left, object right) except -1:
    """Compare containers without recursion, so that no depth and no cycle is too much."""
    cdef list todo = [(left, right)]
    cdef dict met = {}
    cdef dict ours, theirs
    cdef tuple one, other
    while todo:
        left, right = todo.pop()
        if _kind_of(left) != _kind_of(right):
            return False
        if _kind_of(left) < _SEQUENCE:
            if not _compares(left, right, Py_EQ):
                return False
            continue
        pair = (id(left), id(right))
        if pair in met:
            continue
        met[pair] = (left, right)  # kept alive, so that no other object has their ids
        if PyDict_Check(left):
            ours, theirs = _by_kind_and_key(left), _by_kind_and_key(right)
            if ours is None or theirs is None or len(ours) != len(theirs):
                return False
            for key, value in ours.items():
                if key not in theirs:
                    return False
                todo.append((value, theirs[key]))
        elif _kind_of(left) == _SEQUENCE:
            one, other = _items(left), _items(right)
            if len(one) != len(other):
                return False
            todo.extend(zip(one, other))
        else:
            return False
    return True


cdef dict _by_kind_and_key(object mapping):
    """Return a dict's values by (kind, key), so that 1 and True differ; None if a key is not a scalar."""
    cdef dict found = {}
    for key, value in PyDict_Items(mapping):
        if _kind_of(key) >= _SEQUENCE:
            return None
        found[_kind_of(key), _plain(key)] = value
    return found


cdef tuple _items(object sequence):
    """Return the items of a list or tuple, read through the base."""
    if PyList_Check(sequence):
        return PyList_AsTuple(sequence)
    return PyTuple_GetSlice(sequence, 0, PyTuple_GET_SIZE(sequence))


cdef bint _contains(object container, object value) except -1:
    """Whether a text has a part, a list, tuple or set an item, or a dict a key equal to a value."""
    cdef Py_ssize_t i = 0
    cdef _Kind kind = _kind_of(container)
    if kind == _TEXT:
        return PyUnicode_Check(value) and PyUnicode_Contains(container, value)
    if PyList_Check(container):
        while i < PyList_GET_SIZE(container):
            if _equal((<list>container)[i], value):
                return True
            i += 1
    elif PyTuple_Check(container):
        for i in range(PyTuple_GET_SIZE(container)):
            if _equal((<tuple>container)[i], value):
                return True
    elif kind == _DICT:
        if PyUnicode_Check(value):
            return PyDict_GetItemWithError(container, _plain(value)) is not NULL
        for key in PyDict_Keys(container):
            if _equal(key, value):
                return True
    elif kind == _SET:
        for item in PyFrozenSet_New(container):
            if _equal(item, value):
                return True
    return False
