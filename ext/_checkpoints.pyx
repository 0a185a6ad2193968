# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""What every call of a checkpointer does with names and records, whatever the store.

Four parts, which are included below, each with one idea:

* layout: the parts of a checkpoint as :mod:`swarmstate.checkpoints.format` lays them out;
* segments: where a packed list is cut;
* calls: what a call of LangGraph names and hands over;
* lists: long ones, of which only what is new is stored.

In memory a put without new messages spends two thirds of its time on these when they are written in
Python, and over Redis each of their frames is paid for after every wait on a socket. What goes wrong is
told by the Python modules that these belong to, which are imported only then.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.tuple cimport PyTuple_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy
cimport cython

from binascii import b2a_base64
from hashlib import sha256
from time import monotonic

from swarmstate.errors import ArgumentTypeError, DecodeError

cdef extern from *:
    """
    /* A named tuple of a class, without the call of its __new__, which is written in Python. */
    static inline PyObject *sc_named(PyObject *kind, PyObject *parts) {
        Py_ssize_t size = PyTuple_GET_SIZE(parts);
        PyObject *made = ((PyTypeObject *)kind)->tp_alloc((PyTypeObject *)kind, size);
        if (made != NULL) {
#if PY_VERSION_HEX >= 0x030E0000
            ((PyTupleObject *)made)->ob_hash = -1; /* not known yet: 0 would be taken for it */
#endif
            for (Py_ssize_t i = 0; i < size; i++) {
                Py_INCREF(PyTuple_GET_ITEM(parts, i));
                PyTuple_SET_ITEM(made, i, PyTuple_GET_ITEM(parts, i));
            }
        }
        return made;
    }
    """
    object sc_named(object kind, tuple parts)

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_UCS4 PyUnicode_READ_CHAR(object text, Py_ssize_t index)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 greatest)
    void *PyUnicode_DATA(object text)


cdef inline dict as_dict(object mapping):
    return <dict>mapping if type(mapping) is dict else dict(mapping)


cdef inline tuple plain(object parts, Py_ssize_t size):
    """The parts of a tuple, named or not, without a call for each."""
    if isinstance(parts, tuple) and PyTuple_GET_SIZE(<tuple>parts) == size:
        return <tuple>parts
    raise TypeError(f"expected a tuple of {size} parts, not {type(parts).__name__}")


include "checkpoint_layout.pxi"
include "list_segments.pxi"
include "checkpoint_calls.pxi"
include "checkpoint_lists.pxi"

# Last: it imports the package, whose modules look for what is above.
from swarmstate.checkpoints.protocol import (
    CheckpointName, CheckpointRecord, NO_LISTS, StoredCheckpoint, TaskWrite)
