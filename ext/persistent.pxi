# A moment as persistent maps of pyrsistent, which share structure between neighbouring moments.
#
# Building them runs Python code of pyrsistent, so all that is needed of the chain is collected
# before. The maps are built from buckets, as pyrsistent's own evolver does, but with tuples in
# them: the garbage collector stops tracking tuples of str and bytes, but never lists.


cdef object persistent_maps(Snapshot snapshot):
    """Build the maps of a snapshot from the nearest one that has its own, or from nothing."""
    cdef Snapshot base = None
    cdef dict log = None, wanted = None
    cdef bint was_enabled = PyGC_Disable()
    try:
        base = nearest(snapshot)
        if base is not None:
            if base.number < snapshot.number:
                log = gather(base, snapshot)
                if log is not None:
                    for namespace, entries in log.items():
                        for key in PyDict_Keys(entries):
                            (<dict>entries)[key] = find(snapshot, namespace, key)
            else:
                log = gather(snapshot, base)
        if log is None:
            wanted = contents(snapshot)
        else:
            maps = base.persistent
    finally:
        if was_enabled:
            PyGC_Enable()
    from pyrsistent import pmap

    if log is not None:
        return evolved(maps, log)
    return pmap({namespace: fresh_map(entries) for namespace, entries in wanted.items()})


cdef Snapshot nearest(Snapshot snapshot):
    """The snapshot nearest in the chain that has its maps, or None."""
    cdef PyObject *left = snapshot.previous
    cdef PyObject *right = snapshot.next
    while left != NULL or right != NULL:
        if right != NULL:
            if (<Snapshot>right).persistent is not None:
                return <Snapshot>right
            right = (<Snapshot>right).next
        if left != NULL:
            if (<Snapshot>left).persistent is not None:
                return <Snapshot>left
            left = (<Snapshot>left).previous
    return None


cdef object fresh_map(dict entries):
    """A PMap of a dict that nothing else changes meanwhile."""
    from pyrsistent import PMap, pvector

    cdef Py_ssize_t width = max(8, 2 * len(entries))
    cdef list buckets = [None] * width
    for key, data in entries.items():
        index = hash(key) % width
        bucket = buckets[index]
        buckets[index] = ((key, data),) if bucket is None else (*bucket, (key, data))
    return PMap(len(entries), pvector(buckets))


cdef object evolved(object maps, dict log):
    """The maps after a log of new values (None: removed)."""
    outer = maps.evolver()
    for namespace, entries in log.items():
        inner = maps.get(namespace)
        if inner is None:
            inner = fresh_map({key: data for key, data in (<dict>entries).items() if data is not None})
        else:
            inner = evolved_map(inner, entries)
        if len(inner):
            if inner is not maps.get(namespace):
                outer.set(namespace, inner)
        elif namespace in maps:
            outer.remove(namespace)
    return outer.persistent()


cdef object evolved_map(object inner, dict entries):
    from pyrsistent import PMap

    cdef Py_ssize_t size = len(inner), width = len(inner._buckets)
    cdef tuple bucket, kept
    cdef bint same = True
    buckets = inner._buckets.evolver()
    for key, data in entries.items():
        index = hash(key) % width
        found = buckets[index]
        bucket = () if found is None else tuple(found)
        before = None
        for pair in bucket:
            if (<tuple>pair)[0] == key:
                before = (<tuple>pair)[1]
        if before is data or before == data:
            continue
        same = False
        kept = tuple([pair for pair in bucket if (<tuple>pair)[0] != key])
        size += (data is not None) - (before is not None)
        if data is not None:
            kept = (*kept, (key, data))
        buckets[index] = kept if kept else None
    if same:
        return inner
    if size > 1.5 * width:
        everything = dict(inner)
        for key, data in entries.items():
            if data is None:
                everything.pop(key, None)
            else:
                everything[key] = data
        return fresh_map(everything)
    return PMap(size, buckets.persistent())
