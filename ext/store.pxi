# The public face of the live state.


cdef class Store:
    # The first line is the signature that `inspect` and `help` read; of a class Cython writes none.
    """Store(backend='memory', codec='msgpack', max_history=0, *, default=None)\n--\n\n\
A key/value store in memory, with free snapshots.

    Values are encoded by ``set`` and decoded by ``get``, so callers never share mutable state with
    the store. Names of namespaces and keys are ``str`` without lone surrogates; a namespace that
    starts with NUL is reserved and refused. A namespace without keys does not exist. Every method
    is atomic, batches included, also when several threads use the store. After :meth:`close`, every
    method raises :class:`~swarmstate.errors.StoreUnavailable`.

    All methods that take names raise :class:`~swarmstate.errors.InvalidArgumentError` for one that
    no store accepts, before anything is read or written.

    Args:
        backend: ``"memory"``, the only one; other stores have classes of their own.
        codec: the name of the codec of the values, see :mod:`swarmstate.codecs`.
        max_history: how many snapshots :meth:`history` keeps: 0 none, n the last n, None all.
        default: turns a value that the codec does not know into one that it does, or raises.

    Raises:
        InvalidArgumentError: an argument that is none of these.
        UnknownCodecError: there is no such codec.
    """

    cdef Live live  # None once closed
    cdef Encoder encoder
    cdef Decoder decoder
    cdef list kept  # the history; once it is full, a ring
    cdef Py_ssize_t oldest  # where the ring starts
    cdef Py_ssize_t bound  # max_history, or -1 for no bound
    cdef long long latest  # the id of the last snapshot, 0 for none
    cdef Deadlines deadlines  # None until a namespace is made to expire
    cdef Store apart  # the scratch store, None until it is asked for
    cdef bint borrowed  # whether this is the scratch store of another, which alone closes it
    cdef object __weakref__

    def __cinit__(self, *args, **options):
        if type(self) is Store:
            check_store_arguments(args, options)
        # For a subclass that forgets to call __init__.
        self.encoder = Encoder.__new__(Encoder)
        self.decoder = Decoder.__new__(Decoder)
        self.kept = []

    def __init__(self, backend="memory", codec="msgpack", max_history=0, *, default=None):
        cdef Encoder encoder = Encoder.__new__(Encoder)
        cdef Decoder decoder
        if type(backend) is not str or backend != "memory":
            refuse_backend(backend)
        check_default(default)
        bound = check_max_history(max_history)
        decoder = new_decoder(codec)
        encoder.bind(decoder.codec, default)
        self.bound = -1 if bound is None else min(bound, sys.maxsize)
        self.encoder = encoder
        self.decoder = decoder
        self.kept = []
        self.oldest = 0
        self.live = Live()

    @cython.final
    cdef inline Live open(self):
        if self.live is None:
            raise StoreUnavailable("the store is closed")
        if self.deadlines is not None:
            self.expire_due()
        return self.live

    @cython.final
    cdef int expire_due(self) except -1:
        """Remove what has expired."""
        cdef bint was_enabled = PyGC_Disable()
        try:
            if monotonic() >= self.deadlines.nearest:
                self.deadlines.drop_due(self.live)
        finally:
            if was_enabled:
                PyGC_Enable()
        return 0

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return self.decoder.name

    @property
    def max_history(self):
        """How many snapshots :meth:`history` keeps: 0 none, n the last n, None all."""
        return None if self.bound < 0 else self.bound

    def set(self, namespace, key, value):
        """Store one value.

        Raises:
            EncodeError: the codec does not accept the value; nothing was written.

        Cost: the codec's, and O(1).
        """
        cdef str space = as_namespace(namespace)
        cdef str name = as_key(key)
        cdef bytes data = self.encoder.encode(value)
        self.open().put(space, name, data)

    def get(self, namespace, key, default=None):
        """Return one value, or ``default`` where there is none.

        Raises:
            DecodeError: the bytes, which came from elsewhere by ``restore``, are not a valid value;
                the text names namespace and key.

        Cost: the codec's, and O(1).
        """
        cdef Live live = self.open()
        cdef PyObject *found = seek(live, namespace, key)
        cdef bytes data
        if found == NULL:
            return default
        data = <object>found
        return self.decoder.decode(data, live.trusted, namespace, key)

    def set_many(self, items):
        """Store all the (namespace, key, value) triples at once, or none.

        Args:
            items: an iterable of triples; of two for one key the later counts.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
        """
        cdef list staged = []
        cdef Py_ssize_t index = 0
        cdef bint was_enabled
        if type(items) is not list:
            items = iterate("items", items, "an iterable of (namespace, key, value) triples")
        for item in items:
            if type(item) is tuple and PyTuple_GET_SIZE(item) == 3:
                staged.append(as_namespace(<object>PyTuple_GET_ITEM(item, 0)))
                staged.append(as_key(<object>PyTuple_GET_ITEM(item, 1)))
                staged.append(self.encoder.encode(<object>PyTuple_GET_ITEM(item, 2)))
            else:
                namespace, key, value = check_item(item, index)
                staged.append(namespace)
                staged.append(key)
                staged.append(self.encoder.encode(value))
            index += 1
        was_enabled = PyGC_Disable()
        try:
            self.open().put_all(staged)
        finally:
            if was_enabled:
                PyGC_Enable()

    def get_many(self, pairs):
        """Return the values of (namespace, key) pairs at one moment, in their order.

        Args:
            pairs: an iterable of pairs.

        Returns:
            The values; None where there is none.

        Raises:
            DecodeError: as :meth:`get` does.
        """
        cdef list names = as_pairs(pairs)
        cdef list values = [None] * (PyList_GET_SIZE(names) // 2)
        cdef Live live = self.open()
        cdef bint trusted = live.trusted
        cdef PyObject *found
        cdef Py_ssize_t index
        for index in range(PyList_GET_SIZE(values)):
            found = lookup(live.spaces, <str>names[2 * index], <str>names[2 * index + 1])
            if found != NULL:
                values[index] = <object>found
        for index in range(PyList_GET_SIZE(values)):
            data = values[index]
            if data is not None:
                values[index] = self.decoder.decode(
                    <bytes>data, trusted, <str>names[2 * index], <str>names[2 * index + 1])
        return values

    def set_default(self, namespace, key, value) -> bool:
        """Store ``value`` only if the key is absent.

        Returns:
            Whether it was stored.

        Raises:
            EncodeError: the codec does not accept the value, whether or not the key is absent.
        """
        cdef str space = as_namespace(namespace)
        cdef str name = as_key(key)
        cdef bytes data = self.encoder.encode(value)
        cdef Live live = self.open()
        if lookup(live.spaces, space, name) != NULL:
            return False
        live.put(space, name, data)
        return True

    def contains(self, namespace, key) -> bool:
        """Return whether the key exists. O(1)."""
        return seek(self.open(), namespace, key) != NULL

    def delete(self, namespace, key) -> bool:
        """Remove a key. O(1).

        Returns:
            Whether it existed.
        """
        cdef str space, name
        if type(namespace) is str and type(key) is str:
            if self.open().drop(<str>namespace, <str>key):
                return True
            as_namespace(namespace)
            as_key(key)
            return False
        space = as_namespace(namespace)
        name = as_key(key)
        return self.open().drop(space, name)

    def delete_many(self, pairs) -> int:
        """Remove the keys of (namespace, key) pairs at once.

        Returns:
            How many existed.
        """
        cdef list names = as_pairs(pairs)
        cdef bint was_enabled = PyGC_Disable()
        try:
            return self.open().drop_all(names)
        finally:
            if was_enabled:
                PyGC_Enable()

    def delete_namespace(self, namespace) -> int:
        """Remove a namespace with all its keys. O(its keys).

        Returns:
            How many keys there were.
        """
        cdef str space = as_namespace(namespace)
        return self.open().drop_space(space)

    def expire(self, namespace, seconds) -> bool:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes do not put it off; calling this again does. A namespace that is removed, restored or
        loses its last key before then, and comes back, stays.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Cost: O(log n) in the number of namespaces that expire.
        """
        cdef str space = as_namespace(namespace)
        cdef PyObject *found
        cdef Space held
        cdef Live live
        cdef double left = check_seconds("seconds", seconds)
        cdef bint was_enabled = PyGC_Disable()
        try:
            live = self.open()
            found = PyDict_GetItemWithError(live.spaces, space)
            if found == NULL:
                return False
            held = <Space>found
            if self.deadlines is None:
                self.deadlines = Deadlines()
            self.deadlines.note(space, held, left)
            return True
        finally:
            if was_enabled:
                PyGC_Enable()

    def scratch(self):
        """Return the store's place for what need not last, such as a cache.

        It is a store of the same codec, always the same one, and no part of this one: not of
        ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It is closed with this one.
        """
        cdef Store made
        self.open()
        if self.borrowed:
            return self
        if self.apart is None:
            made = Store.__new__(Store)
            made.encoder = self.encoder
            made.decoder = self.decoder
            made.live = Live()
            made.borrowed = True
            if self.apart is None:
                self.apart = made
        return self.apart

    def update(self, namespace, key, fn, default=None):
        """Replace a value by ``fn(value)`` atomically.

        Args:
            namespace: the namespace.
            key: the key.
            fn: is given the value, or ``default`` where there is none, and returns the new one. It
                is called again when another writer was faster, so it should have no side effects.
            default: what ``fn`` is given where there is no value.

        Returns:
            What ``fn`` returned.

        Raises:
            EncodeError: the codec does not accept what ``fn`` returned; nothing was written.
            StoreUnavailable: other writers were faster 1,000 times in a row.
            DecodeError: as :meth:`get` does.
        """
        cdef str space = as_namespace(namespace)
        cdef str name = as_key(key)
        check_callable("fn", fn)
        return replace(self, space, name, fn, default)

    def commit(self, items=(), delete=(), *, expect=None) -> bool:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: as the names of any call; or a pair both in items and in delete.
            EncodeError: the codec does not accept a value; nothing was changed.
            StoreUnavailable: other writers were faster 1,000 times in a row.

        Cost: the codec's, and O(1) for each entry.
        """
        return exchange_if(self, items, delete, expect)

    def append(self, namespace, values):
        """Add values to the end of a log, all or none.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one.

        Cost: the codec's, and O(1) for each value; the first time O(keys of the namespace).
        """
        cdef str space = as_namespace(namespace)
        cdef list encoded = [], staged = [], keys
        cdef Py_ssize_t index
        cdef bint was_enabled
        cdef Live live
        for value in iterate("values", values, "an iterable of values"):
            encoded.append(self.encoder.encode(value))
        was_enabled = PyGC_Disable()
        try:
            live = self.open()
            keys = next_keys(live, space, PyList_GET_SIZE(encoded))
            for index in range(PyList_GET_SIZE(keys)):
                staged.append(space)
                staged.append(keys[index])
                staged.append(encoded[index])
            live.put_all(staged)
        finally:
            if was_enabled:
                PyGC_Enable()
        return keys

    def tail(self, namespace, limit=None, *, before=None):
        """Return the last (key, value) pairs of a log, oldest first.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.

        Raises:
            DecodeError: as :meth:`get` does.

        Cost: O(what is returned), plus O(log n) with ``before``; the first time O(keys of the
        namespace).
        """
        cdef str space = as_namespace(namespace)
        cdef list entries
        cdef Py_ssize_t most, index
        cdef bint was_enabled, trusted
        cdef Live live
        check_count("limit", limit, 0, optional=True)
        before = check_log_key("before", before)
        most = -1 if limit is None else min(limit, sys.maxsize)
        was_enabled = PyGC_Disable()
        try:
            live = self.open()
            trusted = live.trusted
            entries = last_of(live, space, most, before)
        finally:
            if was_enabled:
                PyGC_Enable()
        return [
            (entries[index], self.decoder.decode(<bytes>entries[index + 1], trusted, space, entries[index]))
            for index in range(PyList_GET_SIZE(entries) - 2, -1, -2)
        ]

    def pop(self, namespace):
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`.

        Raises:
            DecodeError: as :meth:`get` does; the entry stays.
            StoreUnavailable: other writers were faster 1,000 times in a row.

        Cost: the codec's, and O(1); the first time O(keys of the namespace).
        """
        return pop_last(self, as_namespace(namespace))

    def keys(self, namespace, prefix=None):
        """Return the keys of a namespace, or those that start with ``prefix`` in ascending order.

        Cost: O(its keys); with a prefix, once it was asked for one, O(log n) and what is returned.
        """
        cdef str space = as_namespace(namespace)
        prefix = check_prefix(prefix)
        return self.open().keys(space, prefix)

    def namespaces(self, prefix=None):
        """Return the namespaces, or those that start with ``prefix`` in ascending order.

        Cost: O(namespaces); with a prefix, once asked for one, O(log n) and what is returned.
        """
        prefix = check_prefix(prefix)
        return self.open().namespaces(prefix)

    def items(self, namespace):
        """Return the (key, value) pairs of a namespace at one moment. O(its keys).

        Raises:
            DecodeError: as :meth:`get` does.
        """
        cdef str space = as_namespace(namespace)
        cdef PyObject *found
        cdef list pairs
        cdef bint was_enabled, trusted
        cdef Live live = self.open()
        was_enabled = PyGC_Disable()
        try:
            trusted = live.trusted
            found = PyDict_GetItemWithError(live.spaces, space)
            pairs = [] if found == NULL else list((<Space>found).entries.items())
        finally:
            if was_enabled:
                PyGC_Enable()
        return [
            (key, self.decoder.decode(<bytes>data, trusted, space, <str>key)) for key, data in pairs]

    def max_key(self, namespace):
        """Return the greatest key of a namespace by code point, or None if it has none.

        Cost: O(n log n) the first time; then O(1) while keys come in ascending order, and O(log n)
        otherwise.
        """
        cdef str space = as_namespace(namespace)
        cdef PyObject *found
        cdef bint was_enabled = PyGC_Disable()
        try:
            found = PyDict_GetItemWithError(self.open().spaces, space)
            return None if found == NULL else (<Space>found).greatest()
        finally:
            if was_enabled:
                PyGC_Enable()

    def clear(self):
        """Remove everything; history and held snapshots stay. O(1) while a snapshot is held."""
        cdef bint was_enabled = PyGC_Disable()
        cdef Live live
        try:
            live = self.open()
            if live.count:
                live.replace({}, 0, 0)
            self.deadlines = None
        finally:
            if was_enabled:
                PyGC_Enable()

    def snapshot(self):
        """Freeze the whole store. O(1), whatever has changed since the last time."""
        cdef Snapshot taken = new_snapshot(self.decoder)
        self.open().freeze(taken, self.latest)
        self.latest = taken.number
        if self.bound < 0 or PyList_GET_SIZE(self.kept) < self.bound:
            self.kept.append(taken)
        elif self.bound:
            self.kept[self.oldest] = taken
            self.oldest = (self.oldest + 1) % self.bound
        return taken

    def restore(self, snapshot):
        """Make the store what ``snapshot`` holds, all of it or nothing.

        Args:
            snapshot: of any store of the same wire format.

        Raises:
            InvalidArgumentError: it is not a snapshot.
            WireFormatError: its values are of another wire format; nothing was changed.
            MemoryError: some of it may be restored; the snapshot is intact, so restore it again.

        Cost: O(what was written in between) for a snapshot of this very store, else O(all keys).
        """
        cdef Snapshot source
        cdef Live live
        cdef bint was_enabled
        live = self.open()
        if isinstance(snapshot, Snapshot):
            source = <Snapshot>snapshot
            if decoder_of(source) is not self.decoder:
                check_snapshot(source, self.decoder.wire)
        else:
            check_snapshot(snapshot, self.decoder.wire)
            source = Snapshot.from_values(
                contents_of_foreign(snapshot, "snapshot"), codec=self.decoder.name)
            live = self.open()
        was_enabled = PyGC_Disable()
        try:
            if source.live is live:
                live.rewind(source)
            else:
                live.replace(spaces_of(contents(source)), source.count, source.size)
                if not (source.trusted and writes_alike(decoder_of(source), self.decoder)):
                    live.trusted = False
            self.deadlines = None
        finally:
            if was_enabled:
                PyGC_Enable()

    def checkpoint_engine(self, *, ttl=None, ttl_on_read=False):
        """Return how a checkpointer keeps threads here; see :mod:`swarmstate.checkpoints`.

        Raises:
            InvalidArgumentError: a ttl, or ``ttl_on_read``: nothing expires in memory.
        """
        from swarmstate.checkpoints import generic, memory
        generic.refuse_expiry(self, ttl, ttl_on_read)
        return memory.engine_in_memory(self)

    def history(self):
        """Return the kept snapshots, oldest first."""
        self.open()
        return self.kept[self.oldest:] + self.kept[:self.oldest]

    def clear_history(self):
        """Let go of the kept snapshots."""
        self.open()
        self.kept = []
        self.oldest = 0

    def close(self):
        """Release what the store holds; calling it again does nothing.

        Snapshots that are held elsewhere stay as they are.
        """
        cdef Store apart = self.apart
        if self.borrowed:
            return
        self.live = None
        self.kept = []
        self.oldest = 0
        self.deadlines = None
        self.apart = None
        if apart is not None:
            apart.borrowed = False
            apart.close()

    def __len__(self):
        """The number of keys in all namespaces. O(1)."""
        return self.open().count

    def __bool__(self):
        """True, also where it is empty or closed."""
        return True

    def __contains__(self, namespace):
        """Whether the namespace has a key. O(1)."""
        return PyDict_GetItemWithError(self.open().spaces, as_namespace(namespace)) != NULL

    def __enter__(self):
        """Return the store."""
        self.open()
        return self

    def __exit__(self, exc_type, exc, traceback):
        """Close the store."""
        self.close()

    def __reduce__(self):
        raise TypeError("a Store can be neither copied nor pickled: restore() a snapshot into another")

    def __repr__(self):
        if self.live is None:
            return "<swarmstate.Store, closed>"
        return f"<swarmstate.Store: {self.live.count} keys, codec {shown(self.decoder.name)}>"


cdef inline PyObject *seek(Live live, object namespace, object key) except? NULL:
    """A borrowed reference to bytes, or NULL where there is no such key; raises for a bad name.

    The names are checked only where nothing is found: what is found was checked when it was stored.
    """
    cdef PyObject *found
    if type(namespace) is str and type(key) is str:
        found = get_item(<PyObject *>live.spaces, <PyObject *>namespace)
        if found != NULL:
            found = get_item(<PyObject *>(<Space>found).entries, <PyObject *>key)
            if found != NULL:
                return found
        as_namespace(namespace)
        as_key(key)
        return NULL
    return lookup(live.spaces, as_namespace(namespace), as_key(key))


cdef inline bint writes_alike(Decoder theirs, Decoder ours):
    """Whether bytes that one codec wrote need no check when the other reads them."""
    return theirs.codec is ours.codec or (theirs.lasting and ours.lasting)
