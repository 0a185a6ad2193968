# The tree of a condition. Every node has a value and a truth; of most, one is the natural form.

cdef enum:
    _IN = 100  # besides Py_LT, Py_LE, Py_EQ, Py_NE, Py_GT and Py_GE


cdef class Condition:
    """A parsed condition."""

    cdef object value(self, object state):
        return self.holds(state)

    cdef bint holds(self, object state) except -1:
        return _is_true(self.value(state))


@cython.final
cdef class _Constant(Condition):
    cdef object constant

    cdef object value(self, object state):
        return self.constant


@cython.final
cdef class _Path(Condition):
    cdef tuple names

    cdef object value(self, object state):
        cdef PyObject *found
        for name in self.names:
            if not PyDict_Check(state):
                return None
            found = PyDict_GetItemWithError(state, name)
            if found is NULL:
                return None
            state = <object>found
        return state


@cython.final
cdef class _Not(Condition):
    cdef Condition inner

    cdef bint holds(self, object state) except -1:
        return not self.inner.holds(state)


@cython.final
cdef class _All(Condition):
    cdef tuple parts

    cdef bint holds(self, object state) except -1:
        for part in self.parts:
            if not (<Condition>part).holds(state):
                return False
        return True


@cython.final
cdef class _Any(Condition):
    cdef tuple parts

    cdef bint holds(self, object state) except -1:
        for part in self.parts:
            if (<Condition>part).holds(state):
                return True
        return False


@cython.final
cdef class _Comparison(Condition):
    cdef int operator
    cdef Condition left
    cdef Condition right

    cdef bint holds(self, object state) except -1:
        cdef object left = self.left.value(state)
        cdef object right = self.right.value(state)
        cdef _Kind kind
        if self.operator == Py_EQ:
            return _equal(left, right)
        if self.operator == Py_NE:
            return not _equal(left, right)
        if self.operator == _IN:
            return _contains(right, left)
        kind = _kind_of(left)
        if kind != _NUMBER and kind != _TEXT:
            return False
        return kind == _kind_of(right) and _compares(left, right, self.operator)
