# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic, binding=False, auto_pickle=False
"""What every call to Redis goes through, as long as nothing goes wrong.

After each wait for a server the processor's caches are another program's, and a frame of the
interpreter costs five times as much as in a loop. A call went through eighty of them, which was most of
its time. So the way on which nothing goes wrong is written here, and what to do when something does
stays in Python, in :mod:`swarmstate.backends.redis.transport.exchange`.

One extension module in several files, which are included below, each with one idea:

* request: commands in the wire format;
* peer: a connection, to write on and to read from;
* trip: batches under way;
* hand: connections of a pool that are at hand;
* courier: sending what a trip carries, and reading the replies;
* threads: what checkpoints become on their way to and from the scripts.

Nothing here is done twice: the blocking and the coalescing driver, one server and a cluster all
send by `Courier.send` and read by `Courier.receive`. An interrupt can come only where Python code or
the system is called, which is less often than between any two steps of Python.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.string cimport memcpy
cimport cython

import _socket
import contextlib
import functools
import hashlib
import os
import socket
import threading
import time

from swarmstate._codec import pack as pack_plain
from swarmstate.checkpoints import format as layout
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError
from swarmstate.forks import here
from swarmstate.shown import shown

cdef extern from *:
    """
    #include <math.h>

    /* Each returns what the call of that name does, or the number of an error, negative. */
    #ifdef _WIN32
    #include <winsock2.h>
    static inline Py_ssize_t sr_send(int file, const char *data, Py_ssize_t size) {
        int done = send(file, data, size > INT_MAX ? INT_MAX : (int)size, 0);
        return done < 0 ? -(Py_ssize_t)WSAGetLastError() : done;
    }
    static inline Py_ssize_t sr_receive(int file, char *to, Py_ssize_t size) {
        int done = recv(file, to, size > INT_MAX ? INT_MAX : (int)size, 0);
        return done < 0 ? -(Py_ssize_t)WSAGetLastError() : done;
    }
    static inline double sr_now(void) { return (double)GetTickCount64() * 1e-3; }
    static inline Py_ssize_t sr_ready(int file, int to_write, int milliseconds) {
        WSAPOLLFD one = {(SOCKET)file, to_write ? POLLOUT : POLLIN, 0};
        int done = WSAPoll(&one, 1, milliseconds);
        return done < 0 ? -(Py_ssize_t)WSAGetLastError() : done;
    }
    static inline int sr_again(Py_ssize_t done) {
        return done == -WSAEWOULDBLOCK || done == -WSAEINTR;
    }
    #else
    #include <errno.h>
    #include <poll.h>
    #include <sys/socket.h>
    #include <time.h>
    static inline Py_ssize_t sr_send(int file, const char *data, Py_ssize_t size) {
        Py_ssize_t done = send(file, data, size, 0);
        return done < 0 ? -errno : done;
    }
    static inline Py_ssize_t sr_receive(int file, char *to, Py_ssize_t size) {
        Py_ssize_t done = recv(file, to, size, 0);
        return done < 0 ? -errno : done;
    }
    static inline double sr_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + now.tv_nsec * 1e-9;
    }
    static inline Py_ssize_t sr_ready(int file, int to_write, int milliseconds) {
        struct pollfd one = {file, to_write ? POLLOUT : POLLIN, 0};
        int done = poll(&one, 1, milliseconds);
        return done < 0 ? -errno : done;
    }
    static inline int sr_again(Py_ssize_t done) {
        return done == -EAGAIN || done == -EWOULDBLOCK || done == -EINTR;
    }
    #endif
    static inline Py_ssize_t sr_poll(int file, int to_write, double seconds) {
        return sr_ready(file, to_write, (int)ceil(fmax(seconds, 0.0) * 1e3));
    }
    """
    Py_ssize_t sr_send(int file, const char *data, Py_ssize_t size) noexcept nogil
    Py_ssize_t sr_receive(int file, char *to, Py_ssize_t size) noexcept nogil
    Py_ssize_t sr_poll(int file, bint to_write, double seconds) noexcept nogil
    double sr_now() noexcept nogil
    bint sr_again(Py_ssize_t done) noexcept

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_DATA(object text)
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)

# Out of reach for whoever replaces the functions of the module, as tests do that freeze the clock.
cdef object monotonic = (
    functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    if hasattr(time, "clock_gettime")
    else functools.partial(time.monotonic)
)

include "request.pxi"
include "peer.pxi"
include "trip.pxi"
include "hand.pxi"
include "courier.pxi"
include "threads.pxi"
