# The public face of one moment.

cdef extern from "time.h":
    struct timespec:
        long long tv_sec
        long tv_nsec
    int TIME_UTC
    int timespec_get(timespec *moment, int base)


cdef double now():
    """Seconds since the Unix epoch."""
    cdef timespec moment
    timespec_get(&moment, TIME_UTC)
    return moment.tv_sec + moment.tv_nsec * 1e-9


@cython.no_gc  # see the head of _core.pyx
cdef class Snapshot:
    """A store, frozen at one moment.

    Immutable, hashable by identity, and safe to hold after its store is closed or gone. What it
    holds in memory is in proportion to what has changed since it was taken. Stores make it, by
    ``snapshot()``; so does :meth:`from_values`, for those who write a store.
    """

    cdef Live live  # the state in whose chain it stands; None where it stands alone
    cdef Decoder decoder  # None in a TracedSnapshot, which has its own
    cdef str first_space, first_key  # see the top of history.pxi
    cdef object first_old
    cdef dict undo, full, shortcut
    cdef PyObject *previous  # neighbours in the chain, borrowed like all links between snapshots
    cdef PyObject *next
    cdef PyObject *shortcut_to
    cdef PyObject *shortcut_from
    cdef object persistent  # the content as persistent maps, once asked for
    cdef long long number, elder  # ids; elder 0: none
    cdef double time
    cdef Py_ssize_t count, size
    cdef bint trusted
    # No __weakref__: callbacks of weak references would run while a dying snapshot is still linked.

    def __init__(self, *args, **options):
        raise ArgumentTypeError("a Snapshot is made by snapshot() of a store, or by Snapshot.from_values()")

    def __bool__(self):
        """True, also where it is empty."""
        return True

    def __dealloc__(self):
        cdef bint was_enabled
        if self.live is None:
            return
        if self.previous == NULL and self.next == NULL:
            self.live.head = NULL
            return
        was_enabled = PyGC_Disable()
        try:
            leave(self)
        finally:
            if was_enabled:
                PyGC_Enable()

    @classmethod
    def from_values(cls, values, *, codec="msgpack", parent=None):
        """Return a snapshot that holds ``values``, for those who write a store.

        Args:
            values: namespace -> key -> encoded value, as dicts. The bytes are not trusted: they are
                checked when they are decoded.
            codec: the name of the codec that decodes them.
            parent: the id of the snapshot taken before from the same store, if any.

        Raises:
            InvalidArgumentError: names or values of the wrong type.
            UnknownCodecError: there is no such codec.

        Cost: O(number of keys).
        """
        global last_id
        cdef Snapshot snapshot
        cdef dict copied = {}, mine
        cdef Py_ssize_t count = 0, size = 0
        if parent is not None and type(parent) is not int:
            raise ArgumentTypeError(
                f"parent must be None or an int, not {type(parent).__name__} ({shown(parent)})")
        if parent is not None and not 0 < parent < 1 << 63:
            raise ArgumentValueError(
                f"parent must be the id of a snapshot, which is positive, not {shown(parent)}")
        if type(values) is not dict:
            raise ArgumentTypeError(
                f"values must be a dict of dicts, not {type(values).__name__} ({shown(values)})")
        for namespace, entries in values.items():
            as_namespace(namespace)
            if type(namespace) is not str or type(entries) is not dict:
                raise ArgumentTypeError(
                    f"values[{shown(namespace)}] must be a dict under a plain str")
            # A copy, since what others could reach they could change.
            mine = PyDict_Copy(entries)
            for key, data in mine.items():
                as_key(key)
                if type(key) is not str or type(data) is not bytes:
                    raise ArgumentTypeError(
                        f"values[{shown(namespace)}][{shown(key)}] must be bytes under a plain "
                        f"str, not {type(data).__name__}")
                size += PyBytes_GET_SIZE(data)
            if mine:
                copied[namespace] = mine
                count += len(mine)
        snapshot = new_snapshot(new_decoder(codec))
        snapshot.elder = 0 if parent is None else parent
        snapshot.full = spaces_of(copied)
        snapshot.count = count
        snapshot.size = size
        snapshot.time = now()
        last_id += 1
        snapshot.number = last_id
        return snapshot

    @property
    def id(self) -> int:
        """A number that grows with every snapshot taken in this process."""
        return self.number

    @property
    def timestamp(self) -> float:
        """When the snapshot was taken, in seconds since the Unix epoch."""
        return self.time

    @property
    def parent(self):
        """The id of the snapshot taken before this one from the same store, or None."""
        return self.elder if self.elder else None

    @property
    def wire(self) -> str:
        """The wire format of the values."""
        decoder = decoder_of(self)
        return decoder.wire if decoder is not None else ""

    @property
    def size_bytes(self) -> int:
        """The size of all encoded values, in bytes. O(1)."""
        return self.size

    @property
    def keys(self):
        """Every (namespace, key) pair. O(all keys)."""
        cdef list pairs = []
        for namespace, entries in self.values().items():
            pairs.extend([(namespace, key) for key in <dict>entries])
        return pairs

    @property
    def state(self):
        """The content as persistent maps: a ``PMap`` of namespace -> ``PMap`` of key -> bytes.

        The first call costs O(all keys), or O(what changed) where a snapshot of the same store not
        far away has its maps already, with which these then share their structure; later calls
        return the same object.
        """
        if self.persistent is None:
            maps = persistent_maps(self)
            if self.persistent is None:
                self.persistent = maps
        return self.persistent

    def get(self, namespace, key, default=None):
        """Return one decoded value, or ``default`` where there is none.

        Raises:
            DecodeError: the bytes, which came from elsewhere, are not a valid value; the text names
                namespace and key.

        Cost: the codec's, and a step for each newer snapshot held, but never for more than some
        hundred of them in a row a second time.
        """
        cdef str space = as_namespace(namespace)
        cdef str name = as_key(key)
        cdef bint was_enabled = PyGC_Disable()
        cdef bytes data
        try:
            data = find(self, space, name)
        finally:
            if was_enabled:
                PyGC_Enable()
        if data is None:
            return default
        return decoder_of(self).decode(data, self.trusted, space, name)

    def values(self):
        """Return the encoded content as a fresh dict: namespace -> key -> bytes. O(all keys)."""
        cdef bint was_enabled = PyGC_Disable()
        try:
            return contents(self)
        finally:
            if was_enabled:
                PyGC_Enable()

    def diff(self, base):
        """Return how to go from ``base`` to this snapshot.

        Args:
            base: a snapshot of the same wire format, of any store.

        Returns:
            ``{"added": [...], "removed": [...], "changed": [...]}``: sorted (namespace, key) pairs.

        Raises:
            InvalidArgumentError: ``base`` is not a snapshot.
            WireFormatError: ``base`` holds values of another wire format.

        Cost: O(what was written between the two) for snapshots of one in-memory store, else
        O(all keys).
        """
        cdef dict found = None
        cdef Snapshot other
        cdef bint was_enabled
        if not isinstance(base, Snapshot) or (<Snapshot>base).wire != self.wire:
            check_snapshot(base, self.wire, "base")
        if isinstance(base, Snapshot):
            other = <Snapshot>base
            was_enabled = PyGC_Disable()
            try:
                if other.live is self.live and self.live is not None:
                    found = changes(other, self)
                if found is None:
                    found = differences(contents(other), contents(self))
            finally:
                if was_enabled:
                    PyGC_Enable()
        else:
            found = differences(contents_of_foreign(base, "base"), self.values())
        for pairs in found.values():
            (<list>pairs).sort()
        return found

    def __len__(self):
        """The number of keys in all namespaces. O(1)."""
        return self.count

    def __reduce__(self):
        raise TypeError(
            "a Snapshot can be neither copied nor pickled: keep its values(), which from_values() takes")

    def __repr__(self):
        return f"<swarmstate.Snapshot {self.number}: {self.count} keys, {self.size} bytes>"


@cython.internal
@cython.no_gc_clear  # so a snapshot can always be read; other parts of a cycle will give way
cdef class TracedSnapshot(Snapshot):
    """A snapshot whose codec could lead back to it, so the garbage collector has to know both."""

    cdef Decoder traced


cdef extern from *:
    """
    /* No class of a user's may derive from one: it is final but for the class above. */
    static void ss_seal(PyTypeObject *type) {
        type->tp_flags &= ~Py_TPFLAGS_BASETYPE;
        PyType_Modified(type);
    }
    """
    void ss_seal(type kind)

ss_seal(Snapshot)
ss_seal(TracedSnapshot)


cdef Snapshot new_snapshot(Decoder decoder):
    """An empty snapshot. May start the garbage collector, and with it foreign code."""
    cdef Snapshot snapshot
    if decoder.lasting:
        snapshot = Snapshot.__new__(Snapshot)
        snapshot.decoder = decoder
        return snapshot
    snapshot = TracedSnapshot.__new__(TracedSnapshot)
    (<TracedSnapshot>snapshot).traced = decoder
    return snapshot


cdef inline Decoder decoder_of(Snapshot snapshot):
    """What decodes a snapshot's values; None in one that no store made."""
    if snapshot.decoder is None and isinstance(snapshot, TracedSnapshot):
        return (<TracedSnapshot>snapshot).traced
    return snapshot.decoder


cdef dict contents_of_foreign(object snapshot, str what):
    """A copy of what a snapshot of another package holds; `what` it is called in an error."""
    state = snapshot.state
    try:
        return {name: dict(entries) for name, entries in state.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"{what} must be a snapshot: the state of this {type(snapshot).__name__} is not a mapping of "
            "namespace -> key -> bytes") from error


cdef int compare(dict found, tuple pair, object before, object after) except -1:
    """File a pair under what became of it."""
    if before is None:
        if after is not None:
            (<list>found["added"]).append(pair)
    elif after is None:
        (<list>found["removed"]).append(pair)
    elif before is not after and before != after:
        (<list>found["changed"]).append(pair)
    return 0


cdef dict changes(Snapshot base, Snapshot target):
    """The diff of two snapshots of one chain, or None where only their contents tell."""
    cdef dict found = {"added": [], "removed": [], "changed": []}
    cdef bint forward = base.number <= target.number
    cdef Snapshot newer = target if forward else base
    cdef dict log = gather(base if forward else target, newer)
    if log is None:
        return None
    for namespace, entries in log.items():
        for key, old in (<dict>entries).items():
            new = find(newer, namespace, key)
            if forward:
                compare(found, (namespace, key), old, new)
            else:
                compare(found, (namespace, key), new, old)
    return found


cdef dict differences(dict base, dict target):
    """The diff of two contents."""
    cdef dict found = {"added": [], "removed": [], "changed": []}
    cdef dict before, after
    for namespace, entries in target.items():
        before = base.get(namespace) or {}
        for key, data in (<dict>entries).items():
            compare(found, (namespace, key), before.get(key), data)
    for namespace, entries in base.items():
        after = target.get(namespace) or {}
        for key, data in (<dict>entries).items():
            if key not in after:
                compare(found, (namespace, key), data, None)
    return found
