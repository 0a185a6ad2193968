# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""The conditions of a handoff graph, and the walks over its edges.

A condition is parsed once into a tree of `Condition`, and evaluated by walking that tree: nothing is
handed to Python's own parser, and no method of a value is called. One extension module in files that
are included below, each with one idea:

* values: what the values of a state are worth to a condition;
* conditions: the tree, and how it is evaluated;
* parsing: text into a tree;
* edges: the first edge that holds, and the cycle that an edge would close.

Measured against the Rust package of the same name (CPython 3.11, one thread, conditions such as
``category == 'billing'``): closures in Python took 205 ns an edge where it takes 110, and splitting
the condition into tokens with one regular expression 2.5 us where it takes 3.2 for the whole edge.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Check, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Check, PyDict_GetItemWithError, PyDict_Items, PyDict_Keys, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact, PyFloat_FromDouble
from cpython.list cimport PyList_AsTuple, PyList_Check, PyList_GET_SIZE
from cpython.long cimport PyLong_Check, PyLong_CheckExact
from cpython.object cimport Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE, PyObject, PyObject_RichCompare
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.set cimport PyAnySet_Check, PyFrozenSet_New, PySet_GET_SIZE
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_SIZE, PyTuple_GetSlice
from cpython.unicode cimport PyUnicode_Check, PyUnicode_CheckExact, PyUnicode_Contains
cimport cython

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentValueError

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)
    void *PyUnicode_DATA(object text)
    Py_UCS4 PyUnicode_READ(int kind, void *data, Py_ssize_t index)
    void PyUnicode_InternInPlace(PyObject **text)
    int PyUnicode_Compare(object left, object right) except? -1
    object PyUnicode_FromObject(object text)

include "handoff_values.pxi"
include "handoff_conditions.pxi"
include "handoff_parsing.pxi"
include "handoff_edges.pxi"
