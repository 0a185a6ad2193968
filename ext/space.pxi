# One namespace: its entries, and an index of its greatest key from the first time it is asked for.


cdef dict new_dict():
    """A dict, allocated without giving the garbage collector a chance to run foreign code."""
    cdef bint was_enabled = PyGC_Disable()
    try:
        return {}
    finally:
        if was_enabled:
            PyGC_Enable()


@cython.final
@cython.no_gc  # holds only exact str and bytes, so the collector need not visit it
cdef class Space:
    """The entries of a namespace, key -> bytes.

    The index is two lists of keys: `rising`, in ascending order, takes a key greater than all
    before it in O(1), which is how checkpoint ids and log entries come; `heap`, a binary heap with
    its greatest key first, takes the others in O(log n). A deleted key stays in its list until it
    comes to the top, or until dead keys outnumber the living and the index is dropped.
    """

    cdef dict entries
    cdef list rising, heap
    cdef list log  # the numbered keys in ascending order, once a log is read or appended to
    cdef Ordered ordered  # all keys in ascending order, once those under a prefix are asked for

    @staticmethod
    cdef Space of(dict entries):
        cdef Space space = Space.__new__(Space)
        space.entries = entries
        return space

    cdef str greatest(self):
        """The greatest key. Call with the collector paused."""
        cdef str high = None
        if self.rising is None:
            self.rising = sorted(self.entries)
            self.heap = []
        while self.rising and self.rising[len(self.rising) - 1] not in self.entries:
            self.rising.pop()
        while self.heap and self.heap[0] not in self.entries:
            heap_pop(self.heap)
        if self.rising:
            high = self.rising[len(self.rising) - 1]
        if self.heap and (high is None or order(self.heap[0], high) > 0):
            high = self.heap[0]
        return high

    cdef int index(self, str key) except -1:
        """Take a key that is about to be inserted into the index."""
        cdef Py_ssize_t ranked = PyList_GET_SIZE(self.rising) + PyList_GET_SIZE(self.heap)
        if ranked > 2 * len(self.entries) + 32:
            self.rising = self.heap = None  # mostly dead keys: the next greatest() builds a new one
        elif not self.rising or order(key, self.rising[len(self.rising) - 1]) > 0:
            self.rising.append(key)
        else:
            heap_push(self.heap, key)
        return 0

    cdef list keys(self, str prefix):
        """All keys, or those that start with a prefix. Call with the collector paused."""
        if not prefix:
            return PyDict_Keys(self.entries)
        if self.ordered is None or self.ordered.is_worn(self.entries):
            self.ordered = Ordered.of(self.entries)
        return self.ordered.under(self.entries, prefix)

    cdef int rank(self, str key) except -1:
        """Take a key that is about to be inserted into the order of all."""
        if self.ordered.is_worn(self.entries):
            self.ordered = None
        else:
            self.ordered.fresh.append(key)
        return 0

    cdef list numbered(self):
        """The numbered keys, ascending: some may be dead, but not the last. Collector paused."""
        cdef Py_ssize_t size
        if self.log is None:
            self.log = sorted([key for key in self.entries if is_numbered(<str>key)])
        size = PyList_GET_SIZE(self.log)
        while size and self.log[size - 1] not in self.entries:
            self.log.pop()
            size -= 1
        return self.log

    cdef int number(self, str key) except -1:
        """Take a numbered key that is about to be inserted into the order of these."""
        cdef Py_ssize_t size = PyList_GET_SIZE(self.log)
        if size > 2 * len(self.entries) + 32 or (size and order(key, self.log[size - 1]) <= 0):
            self.log = None  # mostly dead keys, or out of order: numbered() sorts them again
        else:
            self.log.append(key)
        return 0


cdef enum:
    DIGITS = 16  # of a key that append() gives


cdef bint is_numbered(str key) noexcept:
    """Whether a key is one of those that append() gives, and tail() and pop() see."""
    cdef Py_UCS4 char
    if PyUnicode_GET_LENGTH(key) != DIGITS:
        return False
    for char in key:
        if not 48 <= char <= 57:
            return False
    return True


cdef long long keys_compared = 0  # for tests of what max_key() costs
cdef long long versions_walked = 0  # for tests of what reading an old snapshot costs


cdef inline int order(str left, str right) except? -1:
    global keys_compared
    keys_compared += 1
    return PyUnicode_Compare(left, right)


def work_done():
    """Return how many keys were compared and versions walked so far in this process.

    For tests: costs are counted, not timed.
    """
    return {"keys_compared": keys_compared, "versions_walked": versions_walked}


cdef int heap_push(list heap, str key) except -1:
    cdef Py_ssize_t child = PyList_GET_SIZE(heap), parent
    heap.append(key)
    while child:
        parent = (child - 1) >> 1
        if order(heap[parent], key) >= 0:
            break
        heap[child] = heap[parent]
        child = parent
    heap[child] = key
    return 0


cdef int heap_pop(list heap) except -1:
    cdef str key = heap.pop()
    cdef Py_ssize_t size = PyList_GET_SIZE(heap), parent = 0, child = 1
    if not size:
        return 0
    while child < size:
        if child + 1 < size and order(heap[child + 1], heap[child]) > 0:
            child += 1
        if order(key, heap[child]) >= 0:
            break
        heap[parent] = heap[child]
        parent = child
        child = 2 * parent + 1
    heap[parent] = key
    return 0


cdef Py_ssize_t bisect_left(list keys, str key) except -1:
    """Return how many of the keys, which are in order, are less than this one."""
    cdef Py_ssize_t low = 0, high = PyList_GET_SIZE(keys), middle
    while low < high:
        middle = (low + high) >> 1
        if order(<str>keys[middle], key) < 0:
            low = middle + 1
        else:
            high = middle
    return low
