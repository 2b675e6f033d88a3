/* Arithmetic modulo p = 2^61 - 1 on arrays of uint64 in native order; secfpp.crypto.field says what each is, in numpy.

   No branch and no address depends on a value. Buffers are checked for their length alone: the caller sees to types,
   and to operands below p. Written to Python's limited API, so that one binary serves all versions from 3.11 on.
*/

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif

typedef uint64_t u64;

#define REVISION 2 /* of what kernel.py may ask for */
#define P ((((u64)1) << 61) - 1)

static inline u64 once(u64 below_2p)
{
    u64 r = below_2p - P;
    return r + (P & ((u64)0 - (r >> 63)));
}

static inline u64 folded(u64 any) { return once((any & P) + (any >> 61)); }

static inline u64 turned(u64 a, unsigned power) /* 0..60 */
{
    return ((a << power) & P) | (a >> (61 - power));
}

static inline u64 element(u64 word) /* 61 bits of a uniform word; p stands for 0 */
{
    u64 a = word >> 3;
    return once(a);
}

#if defined(__SIZEOF_INT128__)
typedef unsigned __int128 u128;
static inline u64 multiplied(u64 a, u64 b)
{
    u128 t = (u128)a * b;
    return once(((u64)t & P) + (u64)(t >> 61));
}
#else
static inline u64 multiplied(u64 a, u64 b)
{
    u64 a0 = a & 0xFFFFFFFF, a1 = a >> 32, b0 = b & 0xFFFFFFFF, b1 = b >> 32;
    u64 low = a0 * b0, middle = a0 * b1 + a1 * b0, high = a1 * b1;
    u64 sum = (high << 3) + ((middle & (((u64)1 << 29) - 1)) << 32) + (middle >> 29) + (low & P) + (low >> 61);
    return folded(sum);
}
#endif

VECTORS static void add_all(const u64 *a, const u64 *b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = once(a[i] + b[i]);
}

VECTORS static void sub_all(const u64 *a, const u64 *b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = once(a[i] + (P - b[i]));
}

VECTORS static void add_one(const u64 *a, u64 b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = once(a[i] + b);
}

static void mul_all(const u64 *a, const u64 *b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = multiplied(a[i], b[i]);
}

static void mul_one(const u64 *a, u64 b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = multiplied(a[i], b);
}

VECTORS static void pad_all(u64 *out, const u64 *words, Py_ssize_t n, int subtract)
{
    if (subtract)
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = once(out[i] + (P - element(words[i])));
    else
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = once(out[i] + element(words[i]));
}

VECTORS static void elements_all(const u64 *words, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = element(words[i]);
}

/* Even and odd terms at 2^power, their sum and difference: the shares at 2^power and -2^power. */
VECTORS static void encode_pair(const u64 *data, const u64 *masks, Py_ssize_t threshold, Py_ssize_t n, Py_ssize_t stride,
                                unsigned power, u64 *plus, u64 *minus)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        plus[i] = data[i];
        minus[i] = 0;
    }
    for (Py_ssize_t t = 1; t <= threshold; t++) {
        const u64 *m = masks + (t - 1) * stride;
        unsigned turn = (unsigned)((power * (u64)t) % 61);
        u64 *into = t % 2 ? minus : plus;
        for (Py_ssize_t i = 0; i < n; i++)
            into[i] = once(into[i] + turned(m[i], turn));
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        u64 even = plus[i], odd = minus[i];
        plus[i] = once(even + odd);
        minus[i] = once(even + (P - odd));
    }
}

#define BLOCK 1024

/* m numbers, shared from column `start` on of shares with n columns. */
static void encode_all(const u64 *data, const u64 *masks, Py_ssize_t threshold, Py_ssize_t holders, Py_ssize_t m, u64 *out,
                       Py_ssize_t n, Py_ssize_t start)
{
    u64 spare[BLOCK];
    for (Py_ssize_t from = 0; from < m; from += BLOCK) {
        Py_ssize_t width = m - from < BLOCK ? m - from : BLOCK;
        for (Py_ssize_t j = 0; j < holders; j += 2) {
            u64 *plus = out + j * n + start + from, *minus = j + 1 < holders ? plus + n : spare;
            encode_pair(data + from, masks + from, threshold, width, m, (unsigned)(j / 2), plus, minus);
        }
    }
}

static void muladd_all(const u64 *a, u64 b, u64 *out, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        out[i] = once(out[i] + multiplied(a[i], b));
}

/* out[outer, n] of a[outer, m, n]: sums over the middle axis. */
VECTORS static void sum_all(const u64 *a, u64 *out, Py_ssize_t outer, Py_ssize_t m, Py_ssize_t n)
{
    for (Py_ssize_t o = 0; o < outer; o++, out += n, a += m * n) {
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = a[i];
        for (Py_ssize_t j = 1; j < m; j++)
            for (Py_ssize_t i = 0; i < n; i++)
                out[i] = once(out[i] + a[j * n + i]);
    }
}

#define MOST_VALUES 256

/* From the characters of a number's bits [2^bits - 1, n] and a public digit [n]: shares of whether the number is
   the digit, and of whether it is greater. */
static void compare_all(const u64 *characters, const u64 *digits, u64 *greater, u64 *equal, Py_ssize_t n, int bits)
{
    Py_ssize_t values = (Py_ssize_t)1 << bits;
    u64 t[MOST_VALUES];
    for (Py_ssize_t c = 0; c < n; c++) {
        t[0] = 1;
        for (Py_ssize_t v = 1; v < values; v++)
            t[v] = characters[(v - 1) * n + c];
        for (Py_ssize_t half = 1; half < values; half *= 2)
            for (Py_ssize_t v = 0; v < values; v += 2 * half)
                for (Py_ssize_t w = v; w < v + half; w++) {
                    u64 x = t[w], y = t[w + half];
                    t[w] = once(x + y);
                    t[w + half] = once(x + (P - y));
                }
        u64 sum = 0;
        for (Py_ssize_t v = values - 1; v > (Py_ssize_t)digits[c]; v--)
            sum = once(sum + t[v]);
        greater[c] = turned(sum, (unsigned)(61 - bits) % 61);
        equal[c] = turned(t[digits[c]], (unsigned)(61 - bits) % 61);
    }
}

#define WIDTH 4 /* sums that stay in registers */

/* out[width] = left[k] right[k, width], of a matrix with n columns; sums are folded before they could pass 2^128. */
static inline void row_product(const u64 *left, const u64 *right, u64 *out, Py_ssize_t k, Py_ssize_t n, int width)
{
#if defined(__SIZEOF_INT128__)
    u128 sums[WIDTH] = {0};
    for (Py_ssize_t from = 0; from < k; from += 32) {
        Py_ssize_t to = k - from < 32 ? k : from + 32;
        for (Py_ssize_t l = from; l < to; l++)
            for (int c = 0; c < width; c++)
                sums[c] += (u128)left[l] * right[l * n + c];
        for (int c = 0; c < width; c++)
            sums[c] = (sums[c] & P) + (sums[c] >> 61);
    }
    for (int c = 0; c < width; c++)
        out[c] = folded((u64)(sums[c] & P) + (u64)(sums[c] >> 61));
#else
    for (int c = 0; c < width; c++) {
        u64 sum = 0;
        for (Py_ssize_t l = 0; l < k; l++)
            sum = once(sum + multiplied(left[l], right[l * n + c]));
        out[c] = sum;
    }
#endif
}

/* out[m, n] = left[m, k] right[k, n] */
static void matmul_all(const u64 *left, const u64 *right, u64 *out, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n)
{
    for (Py_ssize_t j = 0; j < n; j += WIDTH)
        for (Py_ssize_t i = 0; i < m; i++) {
            const u64 *a = left + i * k, *b = right + j;
            u64 *into = out + i * n + j;
            switch (n - j) { /* constants, so that the loops unroll */
            case 1: row_product(a, b, into, k, n, 1); break;
            case 2: row_product(a, b, into, k, n, 2); break;
            case 3: row_product(a, b, into, k, n, 3); break;
            default: row_product(a, b, into, k, n, WIDTH);
            }
        }
}

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
                mul_all(a, b, out, n);
        } else if (sizes[1] == 1) {
            if (way == ADD)
                add_one(a, b[0], out, n);
            else if (way == SUB)
                add_one(a, once(P - b[0]), out, n);
            else
                mul_one(a, b[0], out, n);
        } else if (way == MUL) {
            mul_one(b, a[0], out, n);
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

static PyObject *kernel_elements(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Py_buffer buffers[2];
    Py_ssize_t sizes[2];
    if (!expected(given, 2) || !opened(args, buffers, sizes, 2, 1))
        return NULL;
    if (sizes[0] == sizes[1]) {
        Py_BEGIN_ALLOW_THREADS
        elements_all(buffers[0].buf, buffers[1].buf, sizes[0]);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 2, sizes[0] == sizes[1]);
}

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
    Py_buffer buffers[3];
    Py_ssize_t sizes[3];
    if (!expected(given, 3) || !opened(args, buffers, sizes, 3, 1))
        return NULL;
    int fits = sizes[0] == sizes[2] && sizes[1] == 1;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        muladd_all(buffers[0].buf, *(const u64 *)buffers[1].buf, buffers[2].buf, sizes[0]);
        Py_END_ALLOW_THREADS
    }
    return closed(buffers, 3, fits);
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

#define METHOD(name, text) {#name, (PyCFunction)(void (*)(void))kernel_##name, METH_FASTCALL, text}

static PyMethodDef methods[] = {
    METHOD(add, "add(left, right, out)"),
    METHOD(sub, "sub(left, right, out)"),
    METHOD(mul, "mul(left, right, out)"),
    METHOD(elements, "elements(words, out)"),
    METHOD(pad, "pad(words, out, subtract)"),
    METHOD(muladd, "muladd(factors, number, out)"),
    METHOD(compare, "compare(characters, digits, greater, equal, bits)"),
    METHOD(encode, "encode(data, masks, shares, holders, start)"),
    METHOD(sum, "sum(summands, out, inner)"),
    METHOD(matmul, "matmul(left, right, out, rows, inner, columns)"),
    {NULL, NULL, 0, NULL},
};

static int started(PyObject *module) { return PyModule_AddIntConstant(module, "REVISION", REVISION); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)started}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_kernel", "Arithmetic modulo 2^61 - 1, compiled.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&module); }
