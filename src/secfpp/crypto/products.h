/* Products modulo p: of each element, and of matrices. Where the processor has instructions for eight products of
   52 bits at a time (AVX-512 IFMA), these are used unless `vectors` is 0.
*/

#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx512f,avx512ifma")))
#endif

static int vectors = 0; /* set once, before anything is computed */

static int can_use_vectors(void)
{
#if defined(WIDE)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
#else
    return 0;
#endif
}

#define WIDTH 4 /* sums that stay in registers */

/* out[width] = left[k] right[k, width], of a matrix with n columns; sums are folded before they could pass 2^128. */
static inline void row_product(const u64 *left, const u64 *right, u64 *out, ptrdiff_t k, ptrdiff_t n, int width)
{
#if defined(__SIZEOF_INT128__)
    u128 sums[WIDTH] = {0};
    for (ptrdiff_t from = 0; from < k; from += 32) {
        ptrdiff_t to = k - from < 32 ? k : from + 32;
        for (ptrdiff_t l = from; l < to; l++)
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
        for (ptrdiff_t l = 0; l < k; l++)
            sum = once(sum + multiplied(left[l], right[l * n + c]));
        out[c] = sum;
    }
#endif
}

/* out[m, n] = left[m, k] right[k, n] */
static void matmul_plain(const u64 *left, const u64 *right, u64 *out, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j += WIDTH)
        for (ptrdiff_t i = 0; i < m; i++) {
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

#if defined(WIDE)

/* a b = low + 2^52 middle + 2^104 high, from halves of 52 and 9 bits; each sum of its own, so that none waits. Sums of up
   to `MOST` products fit. */
struct sums {
    __m512i low, middle[3], high[3];
};
#define MOST 1024

WIDE static inline struct sums nothing(void)
{
    const __m512i zero = _mm512_setzero_si512();
    struct sums s = {zero, {zero, zero, zero}, {zero, zero, zero}};
    return s;
}

WIDE static inline void include(struct sums *s, __m512i a, __m512i b)
{
    __m512i a1 = _mm512_srli_epi64(a, 52), b1 = _mm512_srli_epi64(b, 52); /* instructions take the low 52 bits */
    s->low = _mm512_madd52lo_epu64(s->low, a, b);
    s->middle[0] = _mm512_madd52hi_epu64(s->middle[0], a, b);
    s->middle[1] = _mm512_madd52lo_epu64(s->middle[1], a, b1);
    s->middle[2] = _mm512_madd52lo_epu64(s->middle[2], a1, b);
    s->high[0] = _mm512_madd52hi_epu64(s->high[0], a, b1);
    s->high[1] = _mm512_madd52hi_epu64(s->high[1], a1, b);
    s->high[2] = _mm512_madd52lo_epu64(s->high[2], a1, b1);
}

WIDE static inline __m512i added(__m512i a, __m512i b, __m512i c) { return _mm512_add_epi64(_mm512_add_epi64(a, b), c); }

WIDE static inline __m512i once_each(__m512i below_2p)
{
    return _mm512_min_epu64(below_2p, _mm512_sub_epi64(below_2p, _mm512_set1_epi64(P)));
}

WIDE static inline __m512i folded_each(__m512i any)
{
    return once_each(_mm512_add_epi64(_mm512_and_si512(any, _mm512_set1_epi64(P)), _mm512_srli_epi64(any, 61)));
}

/* Of one product or many: 2^61 = 1, so that 2^104 = 2^43. What is added up stays below 2^63. */
WIDE static inline __m512i total(const struct sums *s, int many)
{
    const __m512i p = _mm512_set1_epi64(P);
    __m512i low = s->low, middle = added(s->middle[0], s->middle[1], s->middle[2]);
    __m512i high = added(s->high[0], s->high[1], s->high[2]), turned = _mm512_slli_epi64(high, 43);
    if (many) {
        low = added(_mm512_and_si512(low, p), _mm512_srli_epi64(low, 61), _mm512_srli_epi64(high, 18));
        turned = _mm512_and_si512(turned, p);
    }
    low = added(low, _mm512_and_si512(_mm512_slli_epi64(middle, 52), p), _mm512_srli_epi64(middle, 9));
    return folded_each(_mm512_add_epi64(low, turned));
}

WIDE static inline __mmask8 up_to(ptrdiff_t left) { return left >= 8 ? 0xFF : (__mmask8)((1u << left) - 1); }

/* Of eight numbers below p: below 2^64. The library's own sum of them ends in a signed one, which that is too much for. */
WIDE static inline u64 added_up(__m512i numbers)
{
    __m256i four = _mm256_add_epi64(_mm512_castsi512_si256(numbers), _mm512_extracti64x4_epi64(numbers, 1));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    return (u64)_mm_cvtsi128_si64(two) + (u64)_mm_extract_epi64(two, 1);
}

WIDE static inline void eight(const u64 *a, __m512i b, const u64 *c, u64 *out, __mmask8 some)
{
    struct sums s = nothing();
    include(&s, _mm512_maskz_loadu_epi64(some, a), b);
    __m512i result = total(&s, 0);
    if (c)
        result = once_each(_mm512_add_epi64(result, _mm512_maskz_loadu_epi64(some, c)));
    _mm512_mask_storeu_epi64(out, some, result);
}

WIDE static void muladd_wide(const u64 *a, const u64 *b, int each, const u64 *c, u64 *out, ptrdiff_t n)
{
    __m512i factor = each ? _mm512_setzero_si512() : _mm512_set1_epi64((long long)b[0]); /* of nothing, b is empty */
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        eight(a + i, each ? _mm512_loadu_si512(b + i) : factor, c ? c + i : NULL, out + i, 0xFF);
    if (i < n) {
        __mmask8 some = up_to(n - i);
        eight(a + i, each ? _mm512_maskz_loadu_epi64(some, b + i) : factor, c ? c + i : NULL, out + i, some);
    }
}

/* Eight columns at a time. */
WIDE static void matmul_wide(const u64 *left, const u64 *right, u64 *out, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j += 8) {
        __mmask8 some = up_to(n - j);
        for (ptrdiff_t i = 0; i < m; i++) {
            __m512i sum = _mm512_setzero_si512();
            for (ptrdiff_t from = 0; from < k; from += MOST) {
                ptrdiff_t to = k - from < MOST ? k : from + MOST;
                struct sums s = nothing();
                for (ptrdiff_t l = from; l < to; l++)
                    include(&s, _mm512_set1_epi64((long long)left[i * k + l]),
                            _mm512_maskz_loadu_epi64(some, right + l * n + j));
                sum = once_each(_mm512_add_epi64(sum, total(&s, 1)));
            }
            _mm512_mask_storeu_epi64(out + i * n + j, some, sum);
        }
    }
}

/* Eight terms of a sum at a time, for few columns. */
WIDE static void matmul_narrow(const u64 *left, const u64 *right, u64 *out, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n)
{
    u64 room[WIDTH * MOST];
    for (ptrdiff_t from = 0; from < k; from += MOST) {
        ptrdiff_t width = k - from < MOST ? k - from : MOST;
        const u64 *columns = n == 1 ? right + from : room;
        for (ptrdiff_t l = 0; n > 1 && l < width; l++)
            for (ptrdiff_t c = 0; c < n; c++)
                room[c * MOST + l] = right[(from + l) * n + c];
        for (ptrdiff_t i = 0; i < m; i++)
            for (ptrdiff_t c = 0; c < n; c++) {
                const u64 *a = left + i * k + from, *b = columns + c * MOST;
                struct sums s = nothing();
                ptrdiff_t l = 0;
                for (; l + 8 <= width; l += 8)
                    include(&s, _mm512_loadu_si512(a + l), _mm512_loadu_si512(b + l));
                __mmask8 some = up_to(width - l);
                include(&s, _mm512_maskz_loadu_epi64(some, a + l), _mm512_maskz_loadu_epi64(some, b + l));
                u64 sum = folded(added_up(total(&s, 1)));
                out[i * n + c] = from ? once(out[i * n + c] + sum) : sum;
            }
    }
}

#endif

/* out = a b + c; b is one number unless it is one for `each`, and c may be missing. */
static void muladd_all(const u64 *a, const u64 *b, int each, const u64 *c, u64 *out, ptrdiff_t n)
{
#if defined(WIDE)
    if (vectors) {
        muladd_wide(a, b, each, c, out, n);
        return;
    }
#endif
    if (c)
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = once(c[i] + multiplied(a[i], b[each ? i : 0]));
    else if (each)
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = multiplied(a[i], b[i]);
    else {
        u64 factor = b[0];
        for (ptrdiff_t i = 0; i < n; i++)
            out[i] = multiplied(a[i], factor);
    }
}

static void matmul_all(const u64 *left, const u64 *right, u64 *out, ptrdiff_t m, ptrdiff_t k, ptrdiff_t n)
{
#if defined(WIDE)
    if (vectors) {
        if (n > WIDTH)
            matmul_wide(left, right, out, m, k, n);
        else
            matmul_narrow(left, right, out, m, k, n);
        return;
    }
#endif
    matmul_plain(left, right, out, m, k, n);
}
