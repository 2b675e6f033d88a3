/* Numbers modulo p = 2^61 - 1, one and arrays of them. All operands are below p, and so is every result.

   No branch and no address depends on a value, but for digits, which are public.
*/

#include <stdint.h>
#include <stddef.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif

typedef uint64_t u64;

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

VECTORS static void add_all(const u64 *a, const u64 *b, u64 *out, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = once(a[i] + b[i]);
}

VECTORS static void sub_all(const u64 *a, const u64 *b, u64 *out, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = once(a[i] + (P - b[i]));
}

VECTORS static void add_one(const u64 *a, u64 b, u64 *out, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = once(a[i] + b);
}

VECTORS static void pad_all(u64 *out, const u64 *words, ptrdiff_t n, int subtract)
{
    if (subtract)
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = once(out[i] + (P - element(words[i])));
    else
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = once(out[i] + element(words[i]));
}

VECTORS static void elements_all(const u64 *words, u64 *out, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = element(words[i]);
}

/* Even and odd terms at 2^power, their sum and difference: the shares at 2^power and -2^power. */
VECTORS static void encode_pair(const u64 *data, const u64 *masks, ptrdiff_t threshold, ptrdiff_t n, ptrdiff_t stride,
                                unsigned power, u64 *plus, u64 *minus)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        plus[i] = data[i];
        minus[i] = 0;
    }
    for (ptrdiff_t t = 1; t <= threshold; t++) {
        const u64 *m = masks + (t - 1) * stride;
        unsigned turn = (unsigned)((power * (u64)t) % 61);
        u64 *into = t % 2 ? minus : plus;
        for (ptrdiff_t i = 0; i < n; i++)
            into[i] = once(into[i] + turned(m[i], turn));
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        u64 even = plus[i], odd = minus[i];
        plus[i] = once(even + odd);
        minus[i] = once(even + (P - odd));
    }
}

#define BLOCK 1024

/* m numbers, shared from column `start` on of shares with n columns. */
static void encode_all(const u64 *data, const u64 *masks, ptrdiff_t threshold, ptrdiff_t holders, ptrdiff_t m, u64 *out,
                       ptrdiff_t n, ptrdiff_t start)
{
    u64 spare[BLOCK];
    for (ptrdiff_t from = 0; from < m; from += BLOCK) {
        ptrdiff_t width = m - from < BLOCK ? m - from : BLOCK;
        for (ptrdiff_t j = 0; j < holders; j += 2) {
            u64 *plus = out + j * n + start + from, *minus = j + 1 < holders ? plus + n : spare;
            encode_pair(data + from, masks + from, threshold, width, m, (unsigned)(j / 2), plus, minus);
        }
    }
}

/* out[outer, n] of a[outer, m, n]: sums over the middle axis. */
VECTORS static void sum_all(const u64 *a, u64 *out, ptrdiff_t outer, ptrdiff_t m, ptrdiff_t n)
{
    for (ptrdiff_t o = 0; o < outer; o++, out += n, a += m * n) {
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = a[i];
        for (ptrdiff_t j = 1; j < m; j++)
            for (ptrdiff_t i = 0; i < n; i++)
                out[i] = once(out[i] + a[j * n + i]);
    }
}
