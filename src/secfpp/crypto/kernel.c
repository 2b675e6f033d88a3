/* The compiled kernel, as Python calls it; secfpp.crypto.field and others say what each function is, in numpy.

   Arrays are uint64 in native order. They are checked for their length alone: the caller sees to types, and to operands
   below p. Written to Python's limited API, so that one binary serves all versions from 3.11 on.
*/

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "numbers.h"
#include "products.h"
#include "circuits.h"

#define REVISION 3 /* of what kernel.py may ask for */

/* Buffers of `count` arguments, the last `written` of them writable; their lengths in numbers go to `sizes`. */
static int opened(PyObject *const *args, Py_buffer *buffers, Py_ssize_t *sizes, int count, int written)
{
    for (int i = 0; i < count; i++) {
        int flags = i < count - written ? PyBUF_SIMPLE : PyBUF_WRITABLE;
        if (PyObject_GetBuffer(args[i], &buffers[i], flags) < 0) {
            while (i--)
                PyBuffer_Release(&buffers[i]);
            return 0;
        }
        sizes[i] = buffers[i].len / (Py_ssize_t)sizeof(u64);
    }
    return 1;
}

static PyObject *closed(Py_buffer *buffers, int count, int fits)
{
    while (count--)
        PyBuffer_Release(&buffers[count]);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "arrays of lengths that do not go together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static int expected(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given != wanted)
        PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", given, wanted);
    return given == wanted;
}

enum way { ADD, SUB, MUL };

/* (left, right, out): of one length, or one of left and right a single number. */
static PyObject *elementwise(PyObject *const *args, Py_ssize_t given, enum way way)
{
    Py_buffer buffers[3];
    Py_ssize_t sizes[3];
    if (!expected(given, 3) || !opened(args, buffers, sizes, 3, 1))
        return NULL;
    const u64 *a = buffers[0].buf, *b = buffers[1].buf;
    u64 *out = buffers[2].buf;
    Py_ssize_t n = sizes[2];
    int fits = (sizes[0] == n || sizes[0] == 1) && (sizes[1] == n || sizes[1] == 1) && (sizes[0] == n || sizes[1] == n);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        if (sizes[0] == sizes[1]) {
            if (way == ADD)
                add_all(a, b, out, n);
            else if (way == SUB)
                sub_all(a, b, out, n);
            else
                muladd_all(a, b, 1, NULL, out, n);
        } else if (sizes[1] == 1) {
            if (way == ADD)
                add_one(a, b[0], out, n);
            else if (way == SUB)
                add_one(a, once(P - b[0]), out, n);
            else
                muladd_all(a, b, 0, NULL, out, n);
        } else if (way == MUL) {
            muladd_all(b, a, 0, NULL, out, n);
        } else if (way == ADD) {
            add_one(b, a[0], out, n);
        } else {
            for (Py_ssize_t i = 0; i < n; i++)
                out[i] = once(a[0] + (P - b[i]));
        }
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 3, fits);
}

static PyObject *kernel_add(PyObject *self, PyObject *const *args, Py_ssize_t n) { return elementwise(args, n, ADD); }
static PyObject *kernel_sub(PyObject *self, PyObject *const *args, Py_ssize_t n) { return elementwise(args, n, SUB); }
static PyObject *kernel_mul(PyObject *self, PyObject *const *args, Py_ssize_t n) { return elementwise(args, n, MUL); }

/* (in, out) of one length */
static PyObject *unary(PyObject *const *args, Py_ssize_t given, void (*way)(const u64 *, u64 *, Py_ssize_t))
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 2) || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    if (sizes[0] == sizes[1]) {
        Py_BEGIN_ALLOW_THREADS
        way(buffers[0].buf, buffers[1].buf, sizes[0]);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, sizes[0] == sizes[1]);
}

static PyObject *kernel_elements(PyObject *self, PyObject *const *args, Py_ssize_t n) { return unary(args, n, elements_all); }
static PyObject *kernel_root(PyObject *self, PyObject *const *args, Py_ssize_t n) { return unary(args, n, root_all); }

static PyObject *kernel_pad(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 3))
        return NULL;
    int subtract = PyObject_IsTrue(args[2]);
    if (subtract < 0 || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    if (sizes[0] == sizes[1]) {
        Py_BEGIN_ALLOW_THREADS
        pad_all(buffers[1].buf, buffers[0].buf, sizes[0], subtract);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, sizes[0] == sizes[1]);
}

static PyObject *kernel_encode(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[3];
    Py_ssize_t sizes[3];
    if (!expected(given, 5))
        return NULL;
    Py_ssize_t holders = PyLong_AsSsize_t(args[3]), start = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 3, 1))
        return NULL;
    Py_ssize_t m = sizes[0], n = holders > 0 ? sizes[2] / holders : 0;
    int fits = m > 0 && holders > 0 && holders <= 122 && sizes[1] % m == 0 && sizes[2] == n * holders;
    fits = fits && start >= 0 && m <= n && start <= n - m;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        encode_all(buffers[0].buf, buffers[1].buf, sizes[1] / m, holders, m, buffers[2].buf, n, start);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 3, fits);
}

static PyObject *kernel_muladd(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[4];
    Py_ssize_t sizes[4];
    if (!expected(given, 4) || !opened(args, buffers, sizes, 4, 1))
        return NULL;
    Py_ssize_t n = sizes[3];
    int fits = sizes[0] == n && (sizes[1] == n || sizes[1] == 1) && sizes[2] == n;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        muladd_all(buffers[0].buf, buffers[1].buf, sizes[1] == n, buffers[2].buf, buffers[3].buf, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 4, fits);
}

static PyObject *kernel_compare(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[4];
    Py_ssize_t sizes[4];
    if (!expected(given, 5))
        return NULL;
    long bits = PyLong_AsLong(args[4]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 4, 2))
        return NULL;
    Py_ssize_t n = sizes[1];
    int fits = bits > 0 && bits <= 8 && sizes[0] == (((Py_ssize_t)1 << bits) - 1) * n && sizes[2] == n && sizes[3] == n;
    const u64 *digits = buffers[1].buf;
    for (Py_ssize_t i = 0; fits && i < n; i++)
        fits = digits[i] < (u64)1 << bits;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        compare_all(buffers[0].buf, digits, buffers[2].buf, buffers[3].buf, n, (int)bits);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 4, fits);
}

static PyObject *kernel_sum(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 3))
        return NULL;
    Py_ssize_t n = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    Py_ssize_t outer = n > 0 ? sizes[1] / n : 0, m = outer > 0 ? sizes[0] / sizes[1] : 0;
    int fits = outer > 0 && m > 0 && outer * n == sizes[1] && outer * m * n == sizes[0];
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        sum_all(buffers[0].buf, buffers[1].buf, outer, m, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, fits);
}

static PyObject *kernel_matmul(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[3];
    Py_ssize_t sizes[3];
    if (!expected(given, 6))
        return NULL;
    Py_ssize_t m = PyLong_AsSsize_t(args[3]), k = PyLong_AsSsize_t(args[4]), n = PyLong_AsSsize_t(args[5]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 3, 1))
        return NULL;
    int fits = m > 0 && k > 0 && n > 0 && m <= sizes[0] && k <= sizes[0] && n <= sizes[1];
    Py_ssize_t count = fits ? sizes[0] / k / m : 0;
    fits = fits && count * m * k == sizes[0] && count * k * n == sizes[1] && count * m * n == sizes[2];
    if (fits) {
        const u64 *left = buffers[0].buf, *right = buffers[1].buf;
        u64 *out = buffers[2].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            matmul_all(left + i * m * k, right + i * k * n, out + i * m * n, m, k, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 3, fits);
}

/* (table, out, bits, power) */
static PyObject *kernel_hadamard(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 4))
        return NULL;
    long bits = PyLong_AsLong(args[2]), power = PyLong_AsLong(args[3]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    Py_ssize_t values = bits >= 0 && bits <= 32 ? (Py_ssize_t)1 << bits : 0, n = values ? sizes[0] / values : 0;
    int fits = values && power >= 0 && power < 61 && n * values == sizes[0] && sizes[0] == sizes[1];
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        hadamard_all(buffers[0].buf, buffers[1].buf, values, n, (unsigned)power);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, fits);
}

static PyObject *kernel_weigh(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 2) || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    Py_ssize_t n = sizes[1], count = n ? sizes[0] / n : 0;
    int fits = count <= 61 && count * n == sizes[0];
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        weigh_all(buffers[0].buf, buffers[1].buf, count, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, fits);
}

static PyObject *kernel_characters(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 3))
        return NULL;
    long bits = PyLong_AsLong(args[2]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    Py_ssize_t n = bits > 0 && bits <= 32 ? sizes[0] / bits : 0;
    int fits = bits > 0 && bits <= 32 && n * bits == sizes[0] && sizes[1] == (((Py_ssize_t)1 << bits) - 1) * n;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        characters_all(buffers[0].buf, buffers[1].buf, (int)bits, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, fits);
}

/* (table, factors, out, size) */
static PyObject *kernel_convolve(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[3];
    Py_ssize_t sizes[3];
    if (!expected(given, 4))
        return NULL;
    Py_ssize_t size = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred() || !opened(args, buffers, sizes, 3, 1))
        return NULL;
    Py_ssize_t n = size > 0 ? sizes[2] / size : 0, count = n ? sizes[1] / n : 0;
    int each = sizes[0] != sizes[2], fits = size > 0 && size <= 1 << 20 && !(size & (size - 1));
    fits = fits && n * size == sizes[2] && count * n == sizes[1] && count <= size;
    fits = fits && (!each || sizes[0] == sizes[2] * size);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        convolve_all(buffers[0].buf, each, buffers[1].buf, buffers[2].buf, size, count, n);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 3, fits);
}

/* (wanted): whether products use the processor's vectors from now on; None changes nothing. */
static PyObject *kernel_vectors(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    if (!expected(given, 1))
        return NULL;
    int wanted = args[0] == Py_None ? vectors : PyObject_IsTrue(args[0]);
    if (wanted < 0)
        return NULL;
    vectors = wanted && can_use_vectors();
    return PyBool_FromLong(vectors);
}

#define METHOD(name, text) {#name, (PyCFunction)(void (*)(void))kernel_##name, METH_FASTCALL, text}

static PyMethodDef methods[] = {
    METHOD(add, "add(left, right, out)"),
    METHOD(sub, "sub(left, right, out)"),
    METHOD(mul, "mul(left, right, out)"),
    METHOD(elements, "elements(words, out)"),
    METHOD(pad, "pad(words, out, subtract)"),
    METHOD(muladd, "muladd(left, right, summands, out)"),
    METHOD(hadamard, "hadamard(table, out, bits, power)"),
    METHOD(weigh, "weigh(rows, out)"),
    METHOD(characters, "characters(signs, out, bits)"),
    METHOD(root, "root(squares, out)"),
    METHOD(convolve, "convolve(table, factors, out, size)"),
    METHOD(vectors, "vectors(wanted)"),
    METHOD(compare, "compare(characters, digits, greater, equal, bits)"),
    METHOD(encode, "encode(data, masks, shares, holders, start)"),
    METHOD(sum, "sum(summands, out, inner)"),
    METHOD(matmul, "matmul(left, right, out, rows, inner, columns)"),
    {NULL, NULL, 0, NULL},
};

static int started(PyObject *module)
{
    vectors = can_use_vectors();
    return PyModule_AddIntConstant(module, "REVISION", REVISION);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)started}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_kernel", "Arithmetic modulo 2^61 - 1, compiled.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
