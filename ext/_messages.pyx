# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""LangGraph's ``JsonPlusSerializer`` for plain data and the four common messages.

Serializing is most of what a checkpoint costs, and nearly all of that is spent in Python and in
pydantic on messages whose shape is always the same. Here that shape is known: the same bytes are
written, and the same objects built, without either.

One rule keeps it exact: **what is not known exactly goes to LangGraph.** On the way out this is
decided value by value, on the way in extension by extension, and where a whole blob is odd (cut,
damaged, keys of unusual types), the whole blob goes there. So strict mode, allowlists, warnings,
events and errors are LangGraph's own, made by its code.

One extension module, in parts that are included below, each with one idea:

* known: the tables of the four classes, and what must be unchanged at every call;
* learning: what is installed, compared once with what this module was written for;
* writing: values into bytes;
* reading: bytes into values;
* trial: the comparison with LangGraph's serializer that runs once, on import.

This is the only place that uses private names of LangGraph. If one is missing, if a class of
LangChain has other fields, or if the trial finds a difference, `accelerate` returns None for
everything, `unavailable` says why, and LangGraph's serializer does all the work.

**Foreign code.** A writer owns its buffer, so whatever runs in between (a model's ``model_dump``, a
finalizer, another thread) can use this module itself. A reader builds everything before it calls
LangGraph for the first extension, with the collector paused, so nobody sees a half-built value.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove
cimport cython

import sys
import types
import typing

cdef extern from *:
    """
    #define lm_type(o) Py_TYPE(o)
    /* Changes whenever an attribute of the class or of a base does; 0: none was given out yet. */
    #define lm_version(t) ((t)->tp_version_tag)

    /* The same of a dict, which newer versions do not give out. */
    #if PY_VERSION_HEX < 0x030C0000
    #define lm_dict_version(items) (((PyDictObject *)(items))->ma_version_tag)
    #else
    #define lm_dict_version(items) 0
    #endif

    static inline void lm_store(unsigned char *p, unsigned long long n) {
        p[0] = n >> 56; p[1] = n >> 48; p[2] = n >> 40; p[3] = n >> 32;
        p[4] = n >> 24; p[5] = n >> 16; p[6] = n >> 8; p[7] = n;
    }
    static inline unsigned long long lm_load(const unsigned char *p, int size) {
        unsigned long long n = 0;
        for (int i = 0; i < size; i++) n = n << 8 | p[i];
        return n;
    }
    static inline int lm_all_ascii(const unsigned char *p, Py_ssize_t size) {
        unsigned long long found = 0, eight;
        for (; size >= 8; p += 8, size -= 8) { memcpy(&eight, p, 8); found |= eight; }
        while (size--) found |= p[size];
        return !(found & 0x8080808080808080ULL);
    }
    static inline int lm_raised(void) { return PyErr_Occurred() ? -1 : 0; }
    static inline PyObject *lm_new(PyTypeObject *type, PyObject *arguments) {
        return type->tp_new(type, arguments, NULL);
    }
    static inline PyObject *lm_new_tuple(PyTypeObject *type, PyObject *arguments) {
        return PyTuple_Type.tp_new(type, arguments, NULL);
    }
    static inline PyObject *lm_get(PyObject *member, PyObject *o) {
        return Py_TYPE(member)->tp_descr_get(member, o, (PyObject *)Py_TYPE(o));
    }
    static inline int lm_set(PyObject *member, PyObject *o, PyObject *value) {
        return Py_TYPE(member)->tp_descr_set(member, o, value);
    }
    """
    PyTypeObject *lm_type(PyObject *o) noexcept
    unsigned int lm_version(PyTypeObject *kind) noexcept
    uint64_t lm_dict_version(PyObject *items) noexcept
    void lm_store(uint8_t *p, uint64_t n) noexcept
    uint64_t lm_load(const uint8_t *p, int size) noexcept
    bint lm_all_ascii(const uint8_t *p, Py_ssize_t size) noexcept
    int lm_raised() except -1
    PyObject *lm_new(PyTypeObject *kind, PyObject *arguments) noexcept
    PyObject *lm_new_tuple(PyTypeObject *kind, PyObject *arguments) noexcept
    PyObject *lm_get(PyObject *member, PyObject *o) noexcept
    int lm_set(PyObject *member, PyObject *o, PyObject *value) noexcept

# Declared without references and exceptions: what may fail is checked where it is called.
cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyBool_Type, PyBytes_Type
    PyTypeObject PyByteArray_Type, PyList_Type, PyTuple_Type, PyDict_Type
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False
    int PyGC_Disable() noexcept
    int PyGC_Enable() noexcept
    void PyErr_Clear() noexcept
    PyObject *PyErr_Occurred() noexcept
    PyObject *PyImport_GetModuleDict() noexcept
    bint PyModule_CheckExact(PyObject *o) noexcept
    PyObject *PyModule_GetDict(PyObject *module) noexcept
    PyObject *PyObject_GenericGetDict(PyObject *o, void *context) noexcept
    int PyObject_GenericSetDict(PyObject *o, PyObject *value, void *context) noexcept
    Py_ssize_t size_of "Py_SIZE"(PyObject *o) noexcept
    bint PyUnicode_IS_ASCII(PyObject *text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text) noexcept
    void *PyUnicode_DATA(PyObject *text) noexcept
    const char *PyUnicode_AsUTF8AndSize(PyObject *text, Py_ssize_t *size) noexcept
    PyObject *PyUnicode_New(Py_ssize_t size, Py_UCS4 greatest) noexcept
    PyObject *PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors) noexcept
    long long PyLong_AsLongLongAndOverflow(PyObject *number, int *overflow) noexcept
    unsigned long long PyLong_AsUnsignedLongLong(PyObject *number) noexcept
    PyObject *PyLong_FromLong(long number) noexcept
    PyObject *PyLong_FromLongLong(long long number) noexcept
    PyObject *PyLong_FromUnsignedLongLong(unsigned long long number) noexcept
    double PyFloat_AS_DOUBLE(PyObject *number) noexcept
    PyObject *PyFloat_FromDouble(double number) noexcept
    char *PyBytes_AS_STRING(PyObject *data) noexcept
    char *PyByteArray_AS_STRING(PyObject *data) noexcept
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) noexcept
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1
    PyObject *PyList_New(Py_ssize_t size) noexcept
    PyObject *PyList_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept
    void PyList_SET_ITEM(PyObject *items, Py_ssize_t i, PyObject *item) noexcept
    int PyList_SetItem(PyObject *items, Py_ssize_t i, PyObject *item) except -1
    PyObject *PyTuple_New(Py_ssize_t size) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept
    void PyTuple_SET_ITEM(PyObject *items, Py_ssize_t i, PyObject *item) noexcept
    PyObject *PyDict_New() noexcept
    PyObject *PyDict_Copy(PyObject *items) noexcept
    PyObject *PyDict_GetItemWithError(PyObject *items, PyObject *key) noexcept
    int PyDict_SetItem(PyObject *items, PyObject *key, PyObject *value) noexcept
    Py_ssize_t PyDict_Size(PyObject *items) noexcept
    bint PyDict_Next(
        PyObject *items, Py_ssize_t *position, PyObject **key, PyObject **value) noexcept
    PyObject *PySet_New(PyObject *items) noexcept
    void incref "Py_INCREF"(PyObject *o) noexcept
    void decref "Py_DECREF"(PyObject *o) noexcept
    void xdecref "Py_XDECREF"(PyObject *o) noexcept

cdef enum:
    # Levels of containers. LangGraph's own limits are 255 on the way out and 1,024 on the way in;
    # what is deeper than this is left to it.
    MAX_DEPTH = 100
    EXT_MODEL = 5  # what LangGraph calls EXT_PYDANTIC_V2
    EXT_SNAPSHOT = 7  # EXT_DELTA_SNAPSHOT

# No msgpack length has more than 32 bits.
cdef Py_ssize_t MAX_SIZE = 0xFFFFFFFF

include "message_known.pxi"
include "message_learning.pxi"
include "message_writing.pxi"
include "message_reading.pxi"
include "message_trial.pxi"


@cython.final
cdef class Accelerated:
    """``dumps_typed`` and ``loads_typed`` of one serializer, made by `accelerate`.

    Every call looks whether the serializer, its class or its module was changed meanwhile (a patched
    method, a replaced hook); if so, the serializer itself is called.
    """

    cdef readonly object serde
    cdef object hook  # the serde's hook for extensions, once known to be LangGraph's own

    def __init__(self):
        raise TypeError("accelerate() makes these")

    def dumps_typed(self, obj, /):
        """Return the type tag and the bytes of a value, as the serializer itself does."""
        cdef PyTypeObject *kind = lm_type(<PyObject *>obj)
        if not self.is_untouched(text_dumps_typed, False):
            return self.serde.dumps_typed(obj)
        if kind == &PyBytes_Type:
            return ("bytes", obj)
        if <PyObject *>obj == Py_None:
            return ("null", b"")
        if kind == &PyByteArray_Type:
            return ("bytearray", obj)
        if not is_known(kind):
            return self.serde.dumps_typed(obj)
        try:
            packed = pack(obj)
        except encode_error:
            if not self.serde.pickle_fallback:
                raise
            return ("pickle", hook_globals["pickle"].dumps(obj))
        return self.serde.dumps_typed(obj) if packed is None else ("msgpack", packed)

    def loads_typed(self, data, /):
        """Return the value of a type tag and bytes, as the serializer itself does."""
        cdef PyObject *tag
        cdef PyObject *blob
        cdef PyObject *value
        cdef PyTypeObject *kind = lm_type(<PyObject *>data)
        if (
            (kind == &PyTuple_Type or kind == &PyList_Type) and size_of(<PyObject *>data) == 2
            and self.is_untouched(text_loads_typed, True)
        ):
            if kind == &PyTuple_Type:
                tag = PyTuple_GET_ITEM(<PyObject *>data, 0)
                blob = PyTuple_GET_ITEM(<PyObject *>data, 1)
            else:
                tag = PyList_GET_ITEM(<PyObject *>data, 0)
                blob = PyList_GET_ITEM(<PyObject *>data, 1)
            if is_text(tag, text_msgpack) and lm_type(blob) == &PyBytes_Type:
                held_blob, held_hook = <object>blob, self.hook
                value = unpack(blob, held_hook)
                if value != NULL:
                    found = <object>value
                    decref(value)
                    return found
        return self.serde.loads_typed(data)

    cdef bint is_untouched(self, PyObject *method, bint reading):
        """Whether the serializer's method is LangGraph's own, with all that it calls."""
        cdef PyObject *attributes
        cdef PyObject *hook
        cdef bint found
        if (
            lm_type(<PyObject *>self.serde) != serializer_class.kind
            or not is_current(&serializer_class)
            or not are_current(&to_read if reading else &to_write)
        ):
            return False
        attributes = PyObject_GenericGetDict(<PyObject *>self.serde, NULL)
        if attributes == NULL:
            PyErr_Clear()
            return False
        found = (
            PyDict_Size(attributes) == attribute_count
            and PyDict_GetItemWithError(attributes, method) == NULL)
        if found and reading:
            hook = PyDict_GetItemWithError(attributes, text_hook)
            if hook != <PyObject *>self.hook:
                found = hook != NULL and is_langgraphs_hook(<object>hook)
                if found:
                    self.hook = <object>hook
        decref(attributes)
        return found


# Savers ask for the same serializer again and again.
cdef Accelerated latest = None


def accelerate(serde, /):
    """Return a serializer's two methods, in C, or None where only the serializer itself will do.

    That is so for everything but an exact ``JsonPlusSerializer`` that has no hook of the user's, and
    for everything if `unavailable`.
    """
    global latest
    if latest is not None and latest.serde is serde:
        return latest
    if unavailable is not None or lm_type(<PyObject *>serde) != serializer_class.kind:
        return None
    cdef Accelerated made = Accelerated.__new__(Accelerated)
    made.serde = serde
    if made.is_untouched(text_dumps_typed, False) and made.is_untouched(text_loads_typed, True):
        latest = made
        return made
    return None


unavailable = prepare()
"""Why LangGraph's serializer does everything itself, or None."""
