# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""msgpack at C speed, for the built-in codecs.

One extension module in three files, which are included below, each with one idea:

* scanning: which bytes the libraries that decode them may be shown;
* packing: msgpack for exact built-in types, the encoder of both codecs;
* columns: what a choice among many values needs of them, without decoding them.

It imports nothing of swarmstate: the codecs build on it, and the engine on the codecs.
"""

from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
cimport cython

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyObject_Vectorcall(
        PyObject *callable, PyObject **args, size_t count, PyObject *names)
    void PyErr_Clear()

include "scanning.pxi"
include "packing.pxi"
include "columns.pxi"
