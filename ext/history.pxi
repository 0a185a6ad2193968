# The live state of a store, and how held snapshots remember what it was.
#
# The live state is plain dicts. The snapshots held of it form a chain, oldest to newest, in which
# each one keeps an undo log: the old value of every key written between it and the next one, or
# between it and now for the newest (`head`). So
#
# * a snapshot is taken in O(1), and while none is held a write records nothing;
# * a key as a snapshot saw it is the first old value found on the way from the snapshot to the
#   live state, and the live value if none is found;
# * the links are borrowed in both directions. A snapshot that dies unlinks itself and leaves its
#   log to its elder neighbour, which needs it; without one the log is freed. Nothing is ever
#   deallocated recursively;
# * a snapshot may instead be `full`, when it owns all its content and depends on no other: clear()
#   handed the live dicts over to it, or it came from another store.
#
# Logs are {namespace: {key: old bytes, or None where there was no such key}}. A program that takes a
# snapshot after every write has logs of one entry, so the first entry of a log is kept in fields
# (`first_...`), and only a second one makes the dicts: twice as fast, in half the memory.


cdef enum:
    FAR = 128  # versions that a read walks before it leaves a shortcut over them


cdef inline PyObject *lookup(dict spaces, str namespace, str key) noexcept:
    """A borrowed reference to bytes, or NULL."""
    cdef PyObject *space = get_item(<PyObject *>spaces, <PyObject *>namespace)
    if space == NULL:
        return NULL
    return get_item(<PyObject *>(<Space>space).entries, <PyObject *>key)


cdef inline PyObject *recorded(dict log, str namespace, str key):
    """A borrowed reference to what a log holds for a key (bytes or None), or NULL."""
    cdef PyObject *entries = PyDict_GetItemWithError(log, namespace)
    if entries == NULL:
        return NULL
    return PyDict_GetItemWithError(<dict>entries, key)


cdef int record(Snapshot head, str namespace, str key, object old) except -1:
    """Let a snapshot remember a value that is about to be replaced, or None for no value."""
    cdef PyObject *entries
    if head.full is not None:
        return 0
    if head.undo is None:
        if head.first_key is None:
            head.first_space, head.first_key, head.first_old = namespace, key, old
            return 0
        if head.first_key == key and head.first_space == namespace:
            return 0
        spill(head)
    entries = PyDict_GetItemWithError(head.undo, namespace)
    if entries == NULL:
        entries = PyDict_SetDefault(head.undo, namespace, new_dict())
    # The first value is the one that the snapshot saw; those recorded later are not.
    PyDict_SetDefault(<dict>entries, key, old)
    return 0


cdef dict spill(Snapshot snapshot):
    """Turn a log of at most one entry into dicts; return the log, or None if it is empty."""
    cdef dict log, entries
    if snapshot.first_key is not None:
        log, entries = new_dict(), new_dict()
        log[snapshot.first_space] = entries
        entries[snapshot.first_key] = snapshot.first_old
        snapshot.undo = log
        snapshot.first_space = snapshot.first_key = snapshot.first_old = None
    return snapshot.undo


cdef int absorb(dict older, dict newer) except -1:
    """Add what a later log holds to one that nothing else refers to. Call with the collector paused."""
    cdef PyObject *mine
    if newer is None:
        return 0
    for namespace, entries in newer.items():
        mine = PyDict_GetItemWithError(older, namespace)
        if mine == NULL:
            older[namespace] = PyDict_Copy(entries)
        else:
            for key, old in (<dict>entries).items():
                PyDict_SetDefault(<dict>mine, key, old)
    return 0


cdef Snapshot absorb_step(dict older, Snapshot step, bint far):
    """Add the log of one step towards the live state; return where it leads, None for there."""
    global versions_walked
    cdef PyObject *mine
    versions_walked += 1
    if far and step.shortcut is not None:
        absorb(older, step.shortcut)
        return <Snapshot>step.shortcut_to
    absorb(older, step.undo)
    if step.first_key is not None:
        mine = PyDict_GetItemWithError(older, step.first_space)
        if mine == NULL:
            older[step.first_space] = {step.first_key: step.first_old}
        else:
            PyDict_SetDefault(<dict>mine, step.first_key, step.first_old)
    return <Snapshot>step.next if step.next != NULL else None


cdef dict merge(dict older, dict newer):
    """Both logs in one, made of them: each entry moves from the smaller to the larger.

    So a value moves O(log n) times however many snapshots are dropped in whatever order.
    """
    cdef dict mine, theirs, kept
    cdef PyObject *found
    if older is None or newer is None:
        return newer if older is None else older
    kept = older if len(older) >= len(newer) else newer
    for namespace, entries in (newer if kept is older else older).items():
        found = PyDict_GetItemWithError(kept, namespace)
        if found == NULL:
            kept[namespace] = entries
            continue
        mine, theirs = (<dict>found, entries) if kept is older else (entries, <dict>found)
        if len(mine) >= len(theirs):
            for key, old in theirs.items():
                PyDict_SetDefault(mine, key, old)
            kept[namespace] = mine
        else:
            theirs.update(mine)
            kept[namespace] = theirs
    return kept


cdef int patch(dict spaces, dict log) except -1:
    """Turn namespaces back to what a log remembers. Call with the collector paused."""
    cdef PyObject *found
    cdef Space space
    if log is None:
        return 0
    for namespace, entries in log.items():
        found = PyDict_GetItemWithError(spaces, namespace)
        space = <Space>found if found != NULL else Space.of({})
        for key, old in (<dict>entries).items():
            if old is None:
                space.entries.pop(key, None)
            else:
                space.entries[key] = old
        space.rising = space.heap = space.log = None
        space.ordered = None
        if space.entries:
            spaces[namespace] = space
        elif found != NULL:
            del spaces[namespace]
    return 0


@cython.final
@cython.no_gc  # visiting every namespace of every store would make each collection O(store)
cdef class Live:
    """The present content of one store, kept alive by the store and by its held snapshots.

    No method runs foreign code, so each is atomic.
    """

    cdef dict spaces  # namespace -> Space; none is empty
    cdef Ordered ordered  # all namespaces in ascending order, once a prefix is asked for
    cdef Py_ssize_t count, size  # keys, and bytes of all values
    cdef PyObject *head  # the newest held snapshot, borrowed
    cdef bint trusted  # whether all bytes were encoded in this process

    def __cinit__(self):
        self.spaces = {}
        self.trusted = True

    cdef object put(self, str namespace, str key, bytes data):
        """Store a value; return the one that it replaced, or None. Where memory ends, do nothing."""
        cdef PyObject *found = PyDict_GetItemWithError(self.spaces, namespace)
        cdef Space space
        if found != NULL:
            return self.put_into(<Space>found, namespace, key, data)
        if self.head != NULL:
            record(<Snapshot>self.head, namespace, key, None)
        space = Space.of(new_dict())
        space.entries[key] = data
        if self.ordered is not None:
            self.rank(namespace)
        self.spaces[namespace] = space
        self.count += 1
        self.size += PyBytes_GET_SIZE(data)
        return None

    cdef inline object put_into(self, Space space, str namespace, str key, bytes data):
        cdef PyObject *found = PyDict_GetItemWithError(space.entries, key)
        cdef object old = <object>found if found != NULL else None
        if self.head != NULL:
            record(<Snapshot>self.head, namespace, key, old)
        if found == NULL:
            if space.rising is not None:
                space.index(key)
            if space.log is not None and is_numbered(key):
                space.number(key)
            if space.ordered is not None:
                space.rank(key)
        space.entries[key] = data
        self.count += found == NULL
        self.size += PyBytes_GET_SIZE(data) - (PyBytes_GET_SIZE(old) if old is not None else 0)
        return old

    cdef list namespaces(self, str prefix):
        """All namespaces, or those that start with a prefix."""
        cdef bint was_enabled = PyGC_Disable()
        try:
            if not prefix:
                return PyDict_Keys(self.spaces)
            if self.ordered is None or self.ordered.is_worn(self.spaces):
                self.ordered = Ordered.of(self.spaces)
            return self.ordered.under(self.spaces, prefix)
        finally:
            if was_enabled:
                PyGC_Enable()

    cdef list keys(self, str namespace, str prefix):
        """The keys of a namespace, or those that start with a prefix."""
        cdef PyObject *found
        cdef bint was_enabled = PyGC_Disable()
        try:
            found = PyDict_GetItemWithError(self.spaces, namespace)
            return [] if found == NULL else (<Space>found).keys(prefix)
        finally:
            if was_enabled:
                PyGC_Enable()

    cdef int rank(self, str namespace) except -1:
        """Take a namespace that is about to be inserted into the order of all."""
        if self.ordered.is_worn(self.spaces):
            self.ordered = None
        else:
            self.ordered.fresh.append(namespace)
        return 0

    cdef int put_all(self, list staged) except -1:
        """Store all of [namespace, key, data, namespace, ...], or nothing. Collector paused."""
        cdef Py_ssize_t index = 0, size = PyList_GET_SIZE(staged)
        try:
            while index < size:
                # What was replaced takes the place of what is stored, to be put back if memory ends.
                staged[index + 2] = self.put(
                    <str>staged[index], <str>staged[index + 1], <bytes>staged[index + 2])
                index += 3
        finally:  # not `except`, which costs a small batch 7% of its time
            # None of this allocates: keys leave dicts, and those that stay have their logs already.
            while index < size and index:
                index -= 3
                if staged[index + 2] is None:
                    self.drop(<str>staged[index], <str>staged[index + 1])
                else:
                    self.put(<str>staged[index], <str>staged[index + 1], <bytes>staged[index + 2])
        return 0

    cdef bint drop(self, str namespace, str key, bint recorded=False) except -1:
        cdef PyObject *found = PyDict_GetItemWithError(self.spaces, namespace)
        cdef PyObject *old
        if found == NULL:
            return False
        old = PyDict_GetItemWithError((<Space>found).entries, key)
        if old == NULL:
            return False
        if self.head != NULL and not recorded:
            record(<Snapshot>self.head, namespace, key, <object>old)
        self.count -= 1
        self.size -= PyBytes_GET_SIZE(<object>old)
        del (<Space>found).entries[key]
        if not (<Space>found).entries:
            del self.spaces[namespace]
        return True

    cdef Py_ssize_t drop_all(self, list names) except -1:
        """Remove all keys of [namespace, key, namespace, ...], or none; return how many there were."""
        self.remember(names)
        return self.drop_remembered(names)

    cdef int remember(self, list names) except -1:
        """Let the newest snapshot remember values before they go.

        Memory can end only while its log grows, so that it takes all before anything goes.
        """
        cdef Py_ssize_t index
        cdef PyObject *old
        if self.head != NULL:
            for index in range(0, PyList_GET_SIZE(names), 2):
                old = lookup(self.spaces, <str>names[index], <str>names[index + 1])
                if old != NULL:
                    record(<Snapshot>self.head, <str>names[index], <str>names[index + 1], <object>old)
        return 0

    cdef Py_ssize_t drop_remembered(self, list names) except -1:
        cdef Py_ssize_t index, gone = 0
        for index in range(0, PyList_GET_SIZE(names), 2):
            gone += self.drop(<str>names[index], <str>names[index + 1], True)
        return gone

    cdef int exchange(self, list staged, list names) except -1:
        """Store what put_all() takes and remove what drop_all() takes, or nothing. Collector paused.

        No key is in both.
        """
        self.remember(names)
        self.put_all(staged)
        self.drop_remembered(names)
        return 0

    cdef list differing(self, list expected):
        """Compare with [namespace, key, data or None for no value, ...]; return what differs.

        Returns [index of its namespace, data or None, index, ...]. Collector paused.
        """
        cdef list different = []
        cdef Py_ssize_t index
        cdef PyObject *found
        for index in range(0, PyList_GET_SIZE(expected), 3):
            found = lookup(self.spaces, <str>expected[index], <str>expected[index + 1])
            held = <object>found if found != NULL else None
            if held is not expected[index + 2] and held != expected[index + 2]:
                different.append(index)
                different.append(held)
        return different

    cdef Py_ssize_t drop_space(self, str namespace) except -1:
        cdef PyObject *found = PyDict_GetItemWithError(self.spaces, namespace)
        cdef PyObject *log = NULL
        cdef Snapshot head
        cdef dict entries
        cdef Py_ssize_t gone
        if found == NULL:
            return 0
        entries = (<Space>found).entries
        head = <Snapshot>self.head if self.head != NULL else None
        if head is not None and head.full is None:
            # The entries themselves become the log, under what it remembers already.
            if spill(head) is None:
                head.undo = new_dict()
            log = PyDict_GetItemWithError(head.undo, namespace)
            if log == NULL:
                head.undo[namespace] = entries
        gone = len(entries)
        self.count -= gone
        for data in entries.values():
            self.size -= PyBytes_GET_SIZE(data)
        del self.spaces[namespace]
        if log != NULL:
            entries.update(<dict>log)
            head.undo[namespace] = entries
        return gone

    cdef int replace(self, dict spaces, Py_ssize_t count, Py_ssize_t size) except -1:
        """Start over with other content; a held snapshot takes over the old. Collector paused."""
        cdef Snapshot head = <Snapshot>self.head if self.head != NULL else None
        if head is not None and head.full is None:
            patch(self.spaces, spill(head))
            head.full, head.undo = self.spaces, None
        self.spaces = spaces
        self.ordered = None
        self.count = count
        self.size = size
        return 0

    cdef int rewind(self, Snapshot snapshot) except -1:
        """Go back to a snapshot of this very state. Call with the collector paused."""
        cdef bint newest = self.head == <PyObject *>snapshot
        cdef dict changed
        if newest and snapshot.full is None:
            # Once all that it remembers is back, the newest snapshot has nothing to remember.
            self.head = NULL
            try:
                self.put_back(spill(snapshot))
            finally:
                self.head = <PyObject *>snapshot
            snapshot.undo = None
        elif newest:
            # Everything was cleared since: its content goes back as it came, in O(1).
            self.replace(snapshot.full, snapshot.count, snapshot.size)
            snapshot.full = None
        else:
            changed = gather(snapshot, None)
            if changed is not None:
                self.put_back(changed)
            else:
                self.replace(spaces_of(contents(snapshot)), snapshot.count, snapshot.size)
        return 0

    cdef int put_back(self, dict log) except -1:
        cdef PyObject *found
        cdef Space space
        if log is None:
            return 0
        for namespace, entries in log.items():
            found = PyDict_GetItemWithError(self.spaces, namespace)
            space = <Space>found if found != NULL else None
            for key, old in (<dict>entries).items():
                if old is None:
                    self.drop(namespace, key)
                    if space is not None and not space.entries:
                        space = None  # that was its last key, so it is gone
                elif space is not None:
                    self.put_into(space, namespace, key, old)
                else:
                    self.put(namespace, key, old)
                    space = <Space>PyDict_GetItemWithError(self.spaces, namespace)
        return 0

    cdef int freeze(self, Snapshot snapshot, long long parent) except -1:
        """Make an empty snapshot the newest of the chain."""
        global last_id
        last_id += 1
        snapshot.number = last_id
        snapshot.time = now()
        snapshot.elder = parent
        snapshot.count = self.count
        snapshot.size = self.size
        snapshot.trusted = self.trusted
        snapshot.live = self
        snapshot.previous = self.head
        if self.head != NULL:
            (<Snapshot>self.head).next = <PyObject *>snapshot
        self.head = <PyObject *>snapshot
        return 0


cdef long long last_id = 0  # of all snapshots in this process


cdef int leave(Snapshot gone) except -1:
    """Take a dying snapshot out of its chain. Call with the collector paused."""
    cdef Snapshot elder
    if gone.shortcut_from != NULL:
        elder = <Snapshot>gone.shortcut_from
        elder.shortcut = None
        elder.shortcut_to = NULL
    if gone.shortcut_to != NULL:
        (<Snapshot>gone.shortcut_to).shortcut_from = NULL
    if gone.next != NULL:
        (<Snapshot>gone.next).previous = gone.previous
    else:
        gone.live.head = gone.previous
    if gone.previous == NULL:
        return 0
    elder = <Snapshot>gone.previous
    elder.next = gone.next
    if elder.full is not None:
        return 0
    if gone.full is not None:
        patch(gone.full, spill(elder))
        elder.full, elder.undo = gone.full, None
    elif gone.first_key is not None:
        record(elder, gone.first_space, gone.first_key, gone.first_old)
    elif gone.undo is not None:
        elder.undo = merge(spill(elder), gone.undo)
    return 0


cdef bytes find(Snapshot snapshot, str namespace, str key):
    """The bytes of a key as a snapshot saw it, or None. Call with the collector paused."""
    global versions_walked
    cdef Snapshot step = snapshot, start = snapshot
    cdef PyObject *found
    cdef dict log
    cdef int walked = 0
    while True:
        if step.full is not None:
            found = lookup(step.full, namespace, key)
            return <bytes>found if found != NULL else None
        log = step.undo if step.shortcut is None else step.shortcut
        if log is None:
            if step.first_key is not None and step.first_key == key and step.first_space == namespace:
                return step.first_old
        else:
            found = recorded(log, namespace, key)
            if found != NULL:
                return <object>found
        if step.next == NULL:
            break
        step = <Snapshot>(step.next if step.shortcut is None else step.shortcut_to)
        walked += 1
        versions_walked += 1
        if walked == FAR:
            cut_short(start, step)
            start, walked = step, 0
    if step.live is None:
        return None
    found = lookup(step.live.spaces, namespace, key)
    return <bytes>found if found != NULL else None


cdef int cut_short(Snapshot start, Snapshot end) except -1:
    """Let later reads go from `start` to `end` in one step.

    So a walk over n versions is n / FAR steps from the second read on, for one more copy of each
    log entry. Shortcuts do not overlap: where one ends already, none is made.
    """
    cdef dict merged
    cdef Snapshot step = start
    if end.shortcut_from != NULL and end.shortcut_from != <PyObject *>start:
        return 0
    merged = {}
    while step is not end:
        step = absorb_step(merged, step, True)
    if start.shortcut_to != NULL:
        (<Snapshot>start.shortcut_to).shortcut_from = NULL
    start.shortcut = merged
    start.shortcut_to = <PyObject *>end
    end.shortcut_from = <PyObject *>start
    return 0


cdef dict gather(Snapshot older, Snapshot newer):
    """The log of all that was written between two moments; `newer` None is the live state.

    Returns None where everything was replaced in between. Call with the collector paused.
    """
    cdef dict merged = {}
    cdef Snapshot step = older
    cdef bint far
    while step is not newer:
        if step.full is not None:
            return None
        far = step.shortcut is not None and (
            newer is None or (<Snapshot>step.shortcut_to).number <= newer.number)
        step = absorb_step(merged, step, far)
    return merged


cdef dict contents(Snapshot snapshot):
    """All that a snapshot holds, as new dicts of dicts. Call with the collector paused."""
    cdef dict merged = {}, copied = {}, base
    cdef Snapshot step = snapshot
    cdef PyObject *found
    while step is not None and step.full is None:
        step = absorb_step(merged, step, True)
    if step is not None:
        base = step.full
    else:
        base = snapshot.live.spaces if snapshot.live is not None else {}
    for namespace, space in base.items():
        copied[namespace] = PyDict_Copy((<Space>space).entries)
    for namespace, entries in merged.items():
        found = PyDict_GetItemWithError(copied, namespace)
        if found == NULL:
            copied[namespace] = {}
            found = PyDict_GetItemWithError(copied, namespace)
        for key, old in (<dict>entries).items():
            if old is None:
                (<dict>found).pop(key, None)
            else:
                (<dict>found)[key] = old
        if not <dict>found:
            del copied[namespace]
    return copied


cdef dict spaces_of(dict values):
    """Namespaces that take over a dict of dicts, none of them empty. Collector paused."""
    return {namespace: Space.of(entries) for namespace, entries in values.items()}
