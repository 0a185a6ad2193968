# The threads of LangGraph in a store: the operations of a checkpoint engine that every step of a
# graph needs, each done at one moment.
#
# What they leave in the store, and what they return, is what swarmstate.checkpoints.generic says, which
# needs a call of the store for each of their parts; how a thread lies in a store is known only to
# swarmstate.checkpoints.format. Measured (10 messages): a put without new messages takes a third of the
# generic engine's time, a get half of it.
#
# An operation that decides what to remove takes several moments, so all engines over one store share a
# lock. What writes here takes it as well, after all foreign code has run; what reads does not.


# Of swarmstate.checkpoints, which is imported when the first engine is made.
cdef object assemble = None, check_id, CheckpointName, decode_record, encode_record, newest_first
cdef object lock_of, Limits, record_fields, size_of
cdef object StoredCheckpoint, thread_names, thread_namespace
cdef str LOST


# (thread, checkpoint namespace) -> its ThreadNames, for those asked for lately.
cdef dict known_names = {}

cdef enum:
    KNOWN = 4096  # names, ...
    LONGEST = 256  # ... each of so many letters, so that long ids take no memory


cdef inline tuple where_is(object thread, object checkpoint_ns):
    """The ThreadNames of a checkpoint namespace; raises where the store cannot hold them."""
    cdef tuple where
    cdef bint short_ = type(thread) is str and type(checkpoint_ns) is str and (
        PyUnicode_GET_LENGTH(thread) + PyUnicode_GET_LENGTH(checkpoint_ns) <= LONGEST)
    if short_:
        found = known_names.get((thread, checkpoint_ns))
        if found is not None:
            return <tuple>found
    where = <tuple>thread_names(thread, checkpoint_ns)
    as_namespace(where[0])
    as_key(checkpoint_ns)
    if short_:
        if len(known_names) >= KNOWN:
            known_names.clear()
        known_names[thread, checkpoint_ns] = where
    return where


cdef object named = tuple.__new__  # a named tuple, without its own __new__, written in Python


cdef inline tuple name_parts(object name):
    """A CheckpointName as a tuple whose parts are taken without a call for each."""
    if isinstance(name, tuple) and PyTuple_GET_SIZE(<tuple>name) == 3:
        return <tuple>name
    return tuple(CheckpointName(*name))


cdef inline str as_id(object checkpoint_id):
    """An id that a checkpoint may have."""
    cdef str key = as_key(checkpoint_id)
    if is_mark(key):
        check_id(key)
    return key


cdef int import_layout() except -1:
    global assemble, check_id, CheckpointName, decode_record, encode_record, newest_first
    global lock_of, Limits, LOST, record_fields, size_of, StoredCheckpoint
    global thread_names, thread_namespace
    from swarmstate.checkpoints import format, generic, limits, protocol
    check_id, decode_record, encode_record = format.check_id, format.decode_record, format.encode_record
    LOST, record_fields = format.LOST, format.record_fields
    thread_names, thread_namespace = format.names, format.thread_namespace
    lock_of, newest_first, size_of = generic.lock_of, generic.newest_first, generic.size_of
    Limits = limits.Limits
    CheckpointName, StoredCheckpoint = protocol.CheckpointName, protocol.StoredCheckpoint
    assemble = format.assemble  # last: it says that all are there
    return 0


cdef inline dict as_dict(object mapping):
    return <dict>mapping if type(mapping) is dict else dict(mapping)


cdef inline bint is_mark(str key):
    """Whether a key among the records says something of a record: see swarmstate.checkpoints.format."""
    return (
        PyUnicode_GET_LENGTH(key) > 1
        and PyUnicode_READ_CHAR(key, 0) == 0
        and u"p" <= PyUnicode_READ_CHAR(key, 1) <= u"w")


cdef list newest_ids(Space space, str before, Py_ssize_t limit):
    """The greatest checkpoint ids, greatest first; `limit` -1: all. Call with the collector paused.

    With a limit the cost is that of what is found, and of what lies above `before` without order.
    """
    cdef list found = [], open_ = []
    cdef Py_ssize_t at, index, child
    cdef str key, last = None
    if limit < 0:
        for name in space.entries:
            if not is_mark(name) and (before is None or order(name, before) < 0):
                found.append(name)
        found.sort(reverse=True)
        return found
    space.greatest()  # builds the index
    at = bisect_left(space.rising, before) if before is not None else PyList_GET_SIZE(space.rising)
    # The places in the heap whose key may come next, that of the greatest one last: below each lie
    # lesser keys only, so its children join once it was taken.
    if space.heap:
        open_.append(0)
    while (at or open_) and PyList_GET_SIZE(found) < limit:
        key = <str>space.rising[at - 1] if at else None
        index = <Py_ssize_t>open_[PyList_GET_SIZE(open_) - 1] if open_ else -1
        if key is not None and (index < 0 or order(key, <str>space.heap[index]) >= 0):
            at -= 1
        else:
            key = <str>space.heap[index]
            open_.pop()
            for child in range(2 * index + 1, min(2 * index + 3, PyList_GET_SIZE(space.heap))):
                open_.insert(rank(space.heap, open_, <str>space.heap[child]), child)
        if (
            not is_mark(key) and key in space.entries
            and (before is None or order(key, before) < 0)
            and (last is None or order(key, last) != 0)  # one that was removed may be listed twice
        ):
            found.append(key)
            last = key
    return found


cdef Py_ssize_t rank(list heap, list places, str key) except -1:
    """How many of the ordered places of a heap hold a lesser key than this."""
    cdef Py_ssize_t low = 0, high = PyList_GET_SIZE(places), middle
    while low < high:
        middle = (low + high) >> 1
        if order(<str>heap[<Py_ssize_t>places[middle]], key) < 0:
            low = middle + 1
        else:
            high = middle
    return low


cdef int bury(Live live, tuple where, str checkpoint_ns) except -1:
    """Remove what is left of a checkpoint namespace that is not listed, but for its values.

    Call with the collector paused.
    """
    cdef PyObject *found
    if lookup(live.spaces, <str>where[0], checkpoint_ns) != NULL:
        return 0
    for part in (<str>where[1], <str>where[3]):
        found = get_item(<PyObject *>live.spaces, <PyObject *>part)
        if found != NULL:
            for key in PyDict_Keys((<Space>found).entries):
                live.drop_space(<str>where[4] + (<str>key[2:] if is_mark(key) else <str>key))
            live.drop_space(part)
    return 0


cdef list ready(Live live, tuple where, str checkpoint_ns, list wanted, list fields):
    """Those of the wanted values that are neither here nor to come, or None: then there is room.

    Call with the collector paused.
    """
    cdef list missing = None
    for key in wanted:
        if lookup(live.spaces, <str>where[2], <str>key) == NULL and key not in fields:
            if missing is None:
                missing = []
            missing.append(key)
    if missing is None:
        bury(live, where, checkpoint_ns)
    return missing


cdef inline int stage(list staged, object namespace, object key, object data) except -1:
    staged.append(namespace)
    staged.append(key)
    staged.append(data)
    return 0


@cython.no_gc_clear  # what it refers to is never None, also in a cycle that is being collected
cdef class Checkpoints:
    """The operations that are done at one moment; see :class:`swarmstate.checkpoints.memory`.

    Args:
        store: the store.
    """

    cdef Store store
    cdef object acquire, release, limits, limited
    cdef bytes encoded_one  # where the codec is one of ours, which always write the same
    cdef bint plain  # whether it writes msgpack and nothing around it

    def __cinit__(self, Store store not None):
        if assemble is None:
            import_layout()
        self.store = store
        lock = lock_of(store)
        self.acquire = lock.acquire
        self.release = lock.release
        self.limits = Limits(store)
        self.limited = self.limits.noted
        if store.decoder.lasting:
            self.encoded_one = self.encode(1)
            self.plain = self.encode(["elements", b""]) == b"\x92\xa8elements\xc4\0"

    cdef bytes one(self):
        """The value of entries that only say that they are there."""
        return self.encoded_one if self.encoded_one is not None else self.encode(1)

    cdef bytes encode(self, object value):
        return self.store.encoder.encode(value)

    cdef object decode(self, bytes data, bint trusted, str namespace, str key):
        return self.store.decoder.decode(data, trusted, namespace, key)

    cdef object elements(self, bytes data):
        """The bytes within a segment as it is stored, where they can be seen there; else None.

        A list is put together from these with one copy: without, a get at 100 messages takes 4% more.
        """
        cdef const unsigned char *p = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = len(data), head, index, length = 0
        if (
            not self.plain or size < 12
            or memcmp(p, b"\x92\xa8elements", 10) or not 0xC4 <= p[10] <= 0xC6
        ):
            return None
        head = 11 + (1 << (p[10] - 0xC4))
        if size < head:
            return None
        for index in range(11, head):
            length = length << 8 | p[index]
        return memoryview(data)[head:] if head + length == size else None

    def put(self, name, record, values, inherited, *, keep=None, caller=None):
        """Store a checkpoint; see :class:`~swarmstate.checkpoints.protocol.CheckpointEngine`."""
        cdef str checkpoint_ns, checkpoint_id, parent = None
        cdef tuple where
        cdef list fields = [], fresh = [], wanted = [], missing
        cdef bytes data, one
        cdef tuple parts = name_parts(name)
        checkpoint_id = as_id(parts[2])
        where = where_is(parts[0], parts[1])
        checkpoint_ns = as_key(parts[1])
        noted = None
        deltas = (<tuple>record)[3] if isinstance(record, tuple) else record.deltas
        if deltas and record.parent:
            parent = as_key(record.parent)
        one = self.one()
        data = self.encode(encode_record(record))
        for key, value in as_dict(values).items():
            fields.append(as_key(key))
            fresh.append(self.encode(value))
        for key in inherited:
            wanted.append(as_key(key))
        self.acquire()
        try:
            if keep is not None or where[1] in self.limited:
                missing = self.make_room(where, checkpoint_ns, wanted, fields)
                if missing:
                    return None, missing
                noted = self.limits.before(where, checkpoint_id, keep)
            missing = self.add(
                where, checkpoint_ns, checkpoint_id, parent, one, data, fields, fresh, wanted)
            if missing:
                return None, missing
            if keep is None:
                return None, []
            if deltas:
                referred = tuple(record_fields(record).values())
            else:
                referred = tuple({*fields, *wanted})
            return self.limits.after(where, name, record, referred, keep, caller, noted), []
        finally:
            self.release()

    cdef list make_room(self, tuple where, str checkpoint_ns, list wanted, list fields):
        """What `ready` does, on its own."""
        cdef Live live = self.store.open()
        cdef bint was_enabled = PyGC_Disable()
        try:
            return ready(live, where, checkpoint_ns, wanted, fields)
        finally:
            if was_enabled:
                PyGC_Enable()

    cdef list add(
        self, tuple where, str checkpoint_ns, str checkpoint_id, str parent,
        bytes one, bytes data, list fields, list fresh, list wanted
    ):
        """Store a checkpoint and its values, or nothing where `ready` returns what is missing."""
        cdef Live live = self.store.open()
        cdef bint was_enabled = PyGC_Disable()
        cdef Py_ssize_t index
        cdef PyObject *orphan
        cdef list staged, missing
        try:
            missing = ready(live, where, checkpoint_ns, wanted, fields)
            if missing is not None:
                return missing
            staged = [where[0], checkpoint_ns, one, where[1], checkpoint_id, data]
            if parent is not None and lookup(live.spaces, <str>where[1], parent) == NULL:
                stage(staged, where[1], "\0p" + checkpoint_id, one)
            for index in range(PyList_GET_SIZE(fields)):
                key = fields[index]
                # What was there first stays: the caller may have changed its objects since.
                if key in wanted and lookup(live.spaces, <str>where[2], <str>key) != NULL:
                    continue
                stage(staged, where[2], key, fresh[index])
            orphan = lookup(live.spaces, <str>where[3], checkpoint_id)
            if orphan != NULL and live.head != NULL:
                # First, so that memory cannot end once something was stored.
                record(<Snapshot>live.head, <str>where[3], checkpoint_id, <object>orphan)
            live.put_all(staged)
            if orphan != NULL:
                live.drop(<str>where[3], checkpoint_id, True)
        finally:
            if was_enabled:
                PyGC_Enable()
        return None

    def put_writes(self, name, writes, values=None, inherited=()):
        """Store pending writes of a task, and the segments that are new."""
        cdef str checkpoint_ns, checkpoint_id, target, mark
        cdef tuple where
        cdef list coming = [], fields = [], fresh = [], wanted = [], needed = [], missing
        cdef bytes one
        cdef tuple parts = name_parts(name)
        checkpoint_id = as_id(parts[2])
        if not writes:
            return []
        where = where_is(parts[0], parts[1])
        checkpoint_ns = as_key(parts[1])
        target = <str>where[4] + checkpoint_id
        mark = "\0w" + checkpoint_id
        one = self.one()
        for key, value in as_dict(writes).items():
            coming.append(as_key(key))
            if is_mark(<str>key):
                needed.append((<str>key)[2:])
                coming.append(one)
            else:
                coming.append(self.encode(value))
        if values:
            for key, value in as_dict(values).items():
                fields.append(as_key(key))
                fresh.append(self.encode(value))
        for key in inherited:
            wanted.append(as_key(key))
        self.acquire()
        try:
            if needed and where[1] in self.limited:
                missing = self.make_room(where, checkpoint_ns, wanted, fields)
                if missing:
                    return missing
                self.limits.need(where, checkpoint_id, needed)
            missing = self.write(
                where, checkpoint_ns, checkpoint_id, target, mark, one, coming, fields, fresh, wanted)
            return missing if missing else []
        finally:
            self.release()

    cdef list write(
        self, tuple where, str checkpoint_ns, str checkpoint_id, str target, str mark,
        bytes one, list coming, list fields, list fresh, list wanted
    ):
        """Store those of the coming keys and values that may be, and what says of them.

        Nothing is stored where `ready` returns what is missing.
        """
        cdef Live live = self.store.open()
        cdef bint was_enabled = PyGC_Disable()
        cdef Py_ssize_t index
        cdef list staged = [], missing
        cdef str key
        cdef PyObject *there
        try:
            missing = ready(live, where, checkpoint_ns, wanted, fields)
            if missing is not None:
                return missing
            there = get_item(<PyObject *>live.spaces, <PyObject *>target)
            if lookup(live.spaces, <str>where[1], checkpoint_id) == NULL:
                stage(staged, where[0], checkpoint_ns, one)
                stage(staged, where[3], checkpoint_id, one)
            for index in range(PyList_GET_SIZE(fields)):
                stage(staged, where[2], fields[index], fresh[index])
            if lookup(live.spaces, <str>where[1], mark) == NULL:
                stage(staged, where[1], mark, one)
            elif there == NULL:
                stage(staged, target, LOST, one)
            for index in range(0, PyList_GET_SIZE(coming), 2):
                key = <str>coming[index]
                # One that is there stays, unless it is of a special channel.
                if (
                    there == NULL
                    or get_item(<PyObject *>(<Space>there).entries, <PyObject *>key) == NULL
                    or (PyUnicode_GET_LENGTH(key) and PyUnicode_READ_CHAR(key, 0) == u"-")
                ):
                    stage(staged, target, key, coming[index + 1])
            live.put_all(staged)
        finally:
            if was_enabled:
                PyGC_Enable()
        return None

    def get(self, name):
        """Return a whole checkpoint; the latest is found in O(1)."""
        cdef Live live
        cdef str checkpoint_ns, wanted, key
        cdef tuple where
        cdef bytes raw
        cdef PyObject *found
        cdef tuple parts = name_parts(name)
        where = where_is(parts[0], parts[1])
        checkpoint_ns, wanted = as_key(parts[1]), as_key(parts[2])
        while True:
            live = self.store.open()
            if lookup(live.spaces, <str>where[0], checkpoint_ns) == NULL:
                return None
            key = wanted if wanted else latest(live, <str>where[1])
            if key is None or is_mark(key):
                return None
            found = lookup(live.spaces, <str>where[1], key)
            if found == NULL:
                return None
            raw = <bytes>found
            checkpoint = name if wanted else named(CheckpointName, (parts[0], checkpoint_ns, key))
            whole = self.whole(checkpoint, where, key, raw, None, True)
            # It may have gone while foreign code ran: then another one is the latest, or none.
            if whole is not None:
                return whole

    cdef object whole(
        self, object name, tuple where, str checkpoint_id, bytes raw, object channels, bint writes
    ):
        """A checkpoint with its values and writes, or None if it went away meanwhile."""
        cdef Live live = self.store.open()
        cdef PyObject *found
        cdef str target = None
        cdef list keys = [], written = []
        cdef dict fields, held = {}
        cdef bint was_enabled, trusted, marked = False, gone = False
        record = decode_record(
            self.decode(raw, live.trusted, <str>where[1], checkpoint_id), name)
        fields = record_fields(record, channels)
        if writes:
            target = <str>where[4] + checkpoint_id
        live = self.store.open()
        was_enabled = PyGC_Disable()
        try:
            trusted = live.trusted
            for key in fields.values():
                found = lookup(live.spaces, <str>where[2], <str>key)
                if found != NULL:
                    keys.append(key)
                    keys.append(<object>found)
                else:
                    gone = True
            if writes:
                found = get_item(<PyObject *>live.spaces, <PyObject *>target)
                if found != NULL:
                    for key, data in (<Space>found).entries.items():
                        if not is_mark(<str>key):
                            written.append(key)
                            written.append(data)
                            continue
                        # Of a segment that these need.
                        field = (<str>key)[2:]
                        found = lookup(live.spaces, <str>where[2], <str>field)
                        if found != NULL:
                            keys.append(field)
                            keys.append(<object>found)
                        else:
                            gone = True
                else:
                    gone = True
                    marked = lookup(live.spaces, <str>where[1], "\0w" + checkpoint_id) != NULL
            if gone:
                gone = lookup(live.spaces, <str>where[1], checkpoint_id) == NULL
        finally:
            if was_enabled:
                PyGC_Enable()
        if gone:
            return None
        for index in range(0, PyList_GET_SIZE(keys), 2):
            key = <str>keys[index]
            elements = self.elements(<bytes>keys[index + 1]) if trusted else None
            held[key] = elements if elements is not None else self.decode(
                <bytes>keys[index + 1], trusted, <str>where[2], key)
        pending = [
            (<str>written[index], self.decode(
                <bytes>written[index + 1], trusted, target, <str>written[index]))
            for index in range(0, PyList_GET_SIZE(written), 2)
        ]
        return assemble(name, record, fields, held, pending, marked=marked)

    def list_ids(self, threads, checkpoint_ns, before, limit):
        """Return the names of checkpoints, greatest id first. With a limit, O(what is found)."""
        cdef list places = [], ids, found = []
        cdef tuple where
        cdef str least = None if before is None else as_key(before)
        cdef Py_ssize_t most = -1 if limit is None else max(limit, 0)
        cdef Live live = self.store.open()
        cdef PyObject *space
        cdef bint was_enabled
        for thread in threads:
            if checkpoint_ns is None:
                for each in self.store.keys(thread_namespace(thread)):
                    places.append((thread, each))
            elif lookup(
                live.spaces, <str>where_is(thread, checkpoint_ns)[0], as_key(checkpoint_ns)
            ) != NULL:
                places.append((thread, checkpoint_ns))
        for thread, each in places:
            where = where_is(thread, each)
            live = self.store.open()
            was_enabled = PyGC_Disable()
            try:
                space = get_item(<PyObject *>live.spaces, <PyObject *>where[1])
                ids = [] if space == NULL else newest_ids(<Space>space, least, most)
            finally:
                if was_enabled:
                    PyGC_Enable()
            found += [named(CheckpointName, (thread, each, one)) for one in ids]
        return newest_first(found, limit) if PyList_GET_SIZE(places) > 1 else found

    def load(self, names, *, channels, writes, most=None):
        """Return checkpoints by name, as many as `most` bytes allow."""
        cdef Live live = self.store.open()
        cdef list raws = [], wheres = [], found = []
        cdef tuple where, parts
        cdef PyObject *raw
        cdef Py_ssize_t index, size = 0, room = most or 0, has
        cdef bint only_records = not writes and channels is not None and not channels
        for name in names:
            parts = name_parts(name)
            as_key(parts[2])
            wheres.append(where_is(parts[0], parts[1]))
        for index in range(PyList_GET_SIZE(wheres)):
            where = <tuple>wheres[index]
            name = names[index]
            raw = lookup(live.spaces, <str>where[1], as_key(name[2]))
            if (
                raw == NULL or is_mark(name[2])
                or lookup(live.spaces, <str>where[0], as_key(name[1])) == NULL
            ):
                raws.append(None)
            else:
                raws.append(<object>raw)
        for index in range(PyList_GET_SIZE(wheres)):
            name = names[index]
            if raws[index] is None:
                found.append(None)
            elif only_records:
                value = self.decode(
                    <bytes>raws[index], live.trusted, <str>(<tuple>wheres[index])[1], name[2])
                found.append(StoredCheckpoint(name, decode_record(value, name), {}, []))
            else:
                one = self.whole(
                    name, <tuple>wheres[index], name[2], raws[index], channels, writes)
                if most is not None:
                    has = size_of(one) if one is not None else 0
                    if found:
                        size += has
                    else:
                        room = max(room, has)
                found.append(one)
                if most is not None and size > room:
                    break
        return found


cdef str latest(Live live, str checkpoints):
    """The greatest checkpoint id, or None."""
    cdef bint was_enabled = PyGC_Disable()
    cdef PyObject *found
    cdef list ids
    cdef str key
    try:
        found = get_item(<PyObject *>live.spaces, <PyObject *>checkpoints)
        if found == NULL:
            return None
        key = (<Space>found).greatest()
        if key is None or not is_mark(key):
            return key
        ids = newest_ids(<Space>found, None, 1)  # marks come before every usual id
        return <str>ids[0] if ids else None
    finally:
        if was_enabled:
            PyGC_Enable()
