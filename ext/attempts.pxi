# Writes that depend on what is there: read it, let the caller's code or the codec work outside of any
# lock, and write only if nothing has changed meanwhile; if something has, begin again.


cdef enum:
    MAX_ATTEMPTS = 1000  # of one call


cdef object replace(Store store, str space, str name, object fn, object default):
    """What Store.update does."""
    cdef PyObject *found
    cdef bytes before, after
    cdef Live live
    for _ in range(MAX_ATTEMPTS):
        live = store.open()
        found = lookup(live.spaces, space, name)
        before = <bytes>found if found != NULL else None
        value = fn(
            default if before is None else store.decoder.decode(before, live.trusted, space, name))
        after = store.encoder.encode(value)
        live = store.open()
        # `before` is alive, so an equal address means that nothing else was stored since, or
        # that the same value was stored again.
        if lookup(live.spaces, space, name) == (<PyObject *>before if before is not None else NULL):
            live.put(space, name, after)
            return value
    raise StoreUnavailable(
        f"update of {place(space, name)} gave way to other writers {MAX_ATTEMPTS} times: does the "
        "function itself write this key?")


cdef bint exchange_if(Store store, object items, object delete, object expect) except -1:
    """What Store.commit does."""
    cdef list staged = [], names = [], expected = [], wanted, different
    cdef Py_ssize_t place_in, index
    cdef bint was_enabled
    cdef Live live
    writes, gone, expectations = check_commit(items, delete, expect)
    for (namespace, key), value in writes.items():
        staged += [namespace, key, store.encoder.encode(value)]
    for pair in gone:
        names += pair
    for (namespace, key), value in expectations.items():
        expected += [namespace, key, None if value is ABSENT else store.encoder.encode(value)]
    wanted = list(expected)
    for _ in range(MAX_ATTEMPTS):
        was_enabled = PyGC_Disable()
        try:
            live = store.open()
            different = live.differing(expected)
            if not different:
                live.exchange(staged, names)
                return True
        finally:
            if was_enabled:
                PyGC_Enable()
        for place_in in range(0, PyList_GET_SIZE(different), 2):
            index, held = different[place_in], different[place_in + 1]
            if held is None or wanted[index + 2] is None:
                return False
            if encoded_again(store.encoder, store.decoder, <bytes>held) != wanted[index + 2]:
                return False
            expected[index + 2] = held
    raise StoreUnavailable(f"commit gave way to other writers {MAX_ATTEMPTS} times")


cdef object pop_last(Store store, str space):
    """What Store.pop does."""
    cdef list last, found
    cdef bint was_enabled, trusted
    cdef Live live
    last = None
    for _ in range(MAX_ATTEMPTS):
        was_enabled = PyGC_Disable()
        try:
            live = store.open()
            trusted = live.trusted
            found = last_of(live, space, 1, None)
            # As in update(): an equal address means that what was decoded is still there.
            if found and last and found[0] == last[0] and found[1] is last[1]:
                entry = (found[0], value)
                live.drop(space, <str>found[0])
                return entry
        finally:
            if was_enabled:
                PyGC_Enable()
        if not found:
            return None
        last = found
        value = store.decoder.decode(<bytes>last[1], trusted, space, last[0])
    raise StoreUnavailable(f"pop from {shown(space)} gave way to other writers {MAX_ATTEMPTS} times")
