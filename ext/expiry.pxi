# When namespaces expire. A store makes this only once it is asked to let one expire.


cdef class Deadlines:
    """The namespaces that expire, each as the `Space` that it was then.

    A namespace that has lost all its keys since, or that a snapshot has replaced, is another `Space`
    and stays. The heap holds (time, namespace), the nearest first, and what is outdated until it
    comes to the top or outnumbers the rest.
    """

    cdef dict spaces  # namespace -> (Space, time)
    cdef list heap
    cdef double nearest

    def __cinit__(self):
        self.spaces = {}
        self.heap = []

    cdef int note(self, str namespace, Space space, double seconds) except -1:
        """Take the time from which on a namespace is gone."""
        cdef double at = monotonic() + seconds
        self.spaces[namespace] = (space, at)
        if len(self.heap) > 2 * len(self.spaces) + 32:
            self.heap = [(time, name) for name, (_, time) in self.spaces.items()]
            heapify(self.heap)
        else:
            heappush(self.heap, (at, namespace))
        self.nearest = self.heap[0][0]
        return 0

    cdef int drop_due(self, Live live) except -1:
        """Remove what has expired; O(log n) for each."""
        cdef double now = monotonic()
        cdef PyObject *found
        while self.heap and self.heap[0][0] <= now:
            at, namespace = heappop(self.heap)
            space, latest = self.spaces.get(namespace, (None, None))
            if latest != at:
                continue
            del self.spaces[namespace]
            found = PyDict_GetItemWithError(live.spaces, namespace)
            if found == <PyObject *>space:
                live.drop_space(namespace)
        self.nearest = self.heap[0][0] if self.heap else float("inf")
        return 0
