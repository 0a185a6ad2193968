# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""The in-memory store and the snapshots of every store.

One extension module in several files, which are included below, each with one idea:

* names: what a namespace and a key may be;
* binding: what a store needs of its codec;
* ordered: names in ascending order, for those under a prefix;
* space: one namespace, and the index behind ``max_key``;
* history: the live state, and what each held snapshot remembers of its own past;
* snapshot: the public face of one moment;
* persistent: a moment as persistent maps;
* expiry: which namespaces are gone from when on;
* store: the public face of the live state;
* logs: what its methods for logs and conditional commits need;
* checkpoints: threads of LangGraph, as one store keeps them;
* mirror: the live state of a store that lies elsewhere, for the sake of its snapshots.

**How a call is atomic.** Nothing here releases the GIL, but that alone is not enough: running any
Python code (a codec, a hook, a finalizer) may switch threads, and up to Python 3.11 the allocation
of any container may start the garbage collector and with it the finalizers of any object. So every
method has three parts: first all that may run foreign code (checks, encoding); then the work on the
state itself, which handles only exact ``str`` and ``bytes`` and allocates no container unless the
collector is paused; then all that may run foreign code again (decoding), on references taken before.

**What the garbage collector sees.** Snapshots are hidden from it, since its bookkeeping would double
what a set and a snapshot together cost, and so are namespaces and live states, which it would have to
walk at each collection. So they may refer to nothing that could lead back to them: they hold exact
``str`` and ``bytes``, and the codec only where that is one of ours. A snapshot of a store with
another codec is of a class that the collector knows.
"""

import sys
from heapq import heapify, heappop, heappush
from time import monotonic

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_Copy, PyDict_GetItemWithError, PyDict_Keys, PyDict_Next, PyDict_SetDefault
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memcmp
cimport cython

from swarmstate.arguments import (
    LOG_KEYS,
    check_callable,
    check_commit,
    check_count,
    check_default,
    check_item,
    check_key,
    check_log_key,
    check_max_history,
    check_namespace,
    check_pair,
    check_prefix,
    check_seconds,
    check_snapshot,
    iterate,
)
from swarmstate.codecs import registry
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DecodeError,
    EncodeError,
    StoreUnavailable,
)
from swarmstate.protocols import ABSENT
from swarmstate.shown import place, shown

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index)
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    const Py_ssize_t PY_SSIZE_T_MAX
    int PyUnicode_Compare(object left, object right) except? -1
    Py_ssize_t PyUnicode_Tailmatch(
        object text, object part, Py_ssize_t start, Py_ssize_t end, int direction) except -1
    Py_ssize_t PyBytes_GET_SIZE(object data)
    object PyObject_Vectorcall(
        PyObject *callable, PyObject **args, size_t count, PyObject *names)
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    # As PyDict_GetItemWithError, which cannot fail for a str, but takes no references of its own.
    PyObject *get_item "PyDict_GetItemWithError"(PyObject *items, PyObject *key) noexcept

include "names.pxi"
include "binding.pxi"
include "ordered.pxi"
include "space.pxi"
include "history.pxi"
include "snapshot.pxi"
include "persistent.pxi"
include "logs.pxi"
include "expiry.pxi"
include "arguments.pxi"
include "store.pxi"
include "attempts.pxi"
include "checkpoints.pxi"
include "mirror.pxi"
