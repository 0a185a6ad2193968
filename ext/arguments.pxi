# What Store() is called with: the ways out of calls that mean another store.


cdef int check_store_arguments(tuple args, dict options) except -1:
    """Raise for arguments that Store() does not have."""
    unknown = [name for name in options if name not in ("backend", "codec", "max_history", "default")]
    if unknown:
        raise ArgumentTypeError(
            f"Store() has no argument {shown(unknown[0])}, only backend, codec, max_history and "
            f"default: {OTHER_STORES}")
    if len(args) > 3:
        raise ArgumentTypeError(
            f"Store() takes at most 3 positional arguments (backend, codec, max_history), not {len(args)}")
    return 0


cdef str OTHER_STORES = (
    "Store keeps everything in memory, and other stores are opened by swarmstate.open_store(url) or "
    "have classes of their own, such as swarmstate.backends.redis.RedisStore")


cdef int refuse_backend(object backend) except -1:
    """Raise for a backend other than "memory"; an address may hold a password, so it is not shown."""
    if not isinstance(backend, str):
        raise ArgumentTypeError(
            f"backend must be 'memory', not {type(backend).__name__} ({shown(backend)}): {OTHER_STORES}")
    backend = str.__str__(backend)
    if backend == "memory":
        return 0
    scheme, found, _ = backend.partition("://")
    if found:
        given = f"a URL of the scheme {shown(scheme)}"
    elif backend.isidentifier():
        given = shown(backend)
    else:
        given = "an address"
    raise ArgumentValueError(f"backend must be 'memory', not {given}: {OTHER_STORES}")
