# The names of a dict in ascending order, so that a prefix costs what lies under it.


cdef enum:
    FEW = 16  # new names that are inserted one by one; of more, all are sorted


@cython.final
@cython.no_gc  # holds only exact str, so the collector need not visit it
cdef class Ordered:
    """An index of the names in a dict, made the first time that a prefix of them is asked for.

    `ranked` is in ascending order; `fresh` takes what comes, as it comes, until the next question.
    A name that went stays until dead ones outnumber the living and the index is dropped; one that
    came back may be there twice.
    """

    cdef list ranked, fresh

    @staticmethod
    cdef Ordered of(dict names):
        """Sort names. Call with the collector paused, as all of this."""
        cdef Ordered self = Ordered.__new__(Ordered)
        self.ranked = sorted(names)
        self.fresh = []
        return self

    cdef bint is_worn(self, dict names):
        """Whether most of the index is names that are gone, so that it costs more than it saves."""
        cdef Py_ssize_t held = PyList_GET_SIZE(self.ranked) + PyList_GET_SIZE(self.fresh)
        return held > 2 * len(names) + 32

    cdef int settle(self) except -1:
        """Bring what came since the last question in order."""
        cdef Py_ssize_t place
        if PyList_GET_SIZE(self.fresh) > FEW:
            # Python's sort takes what is in order as it is, so this costs little more than a copy.
            self.ranked.extend(self.fresh)
            self.ranked.sort()
        else:
            for name in self.fresh:
                place = bisect_left(self.ranked, name)
                if place == PyList_GET_SIZE(self.ranked) or self.ranked[place] != name:
                    self.ranked.insert(place, name)
        self.fresh = []
        return 0

    cdef list under(self, dict names, str prefix):
        """The names that start with a prefix, ascending. O(log n) and what there is of them."""
        cdef list found = []
        cdef Py_ssize_t place
        cdef object name, last = None
        cdef bint exact
        self.settle()
        # As many as there are: so none is gone, and none there twice.
        exact = PyList_GET_SIZE(self.ranked) == len(names)
        for place in range(bisect_left(self.ranked, prefix), PyList_GET_SIZE(self.ranked)):
            name = self.ranked[place]
            if not begins(name, prefix):
                break
            if exact or (name in names and name != last):
                found.append(name)
                last = name
        return found
