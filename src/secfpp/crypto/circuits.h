/* Several steps of computations on shares in one go, a block of columns at a time, so that it stays in the cache. */

#define COLUMNS 512
#define LANES 32
#define MOST_VALUES 256

#define EACH_BLOCK(start, width, n) \
    for (ptrdiff_t start = 0, width; width = (n) - start < COLUMNS ? (n) - start : COLUMNS, start < (n); start += COLUMNS)

/* In place, rows[values, n]: sums and differences for every bit of the number of a row. */
VECTORS static void transform(u64 *rows, ptrdiff_t values, ptrdiff_t n, ptrdiff_t width)
{
    for (ptrdiff_t half = 1; half < values; half *= 2)
        for (ptrdiff_t v = 0; v < values; v += 2 * half)
            for (ptrdiff_t w = v; w < v + half; w++) {
                u64 *one = rows + w * n, *other = one + half * n;
                for (ptrdiff_t c = 0; c < width; c++) {
                    u64 x = one[c], y = other[c];
                    one[c] = once(x + y);
                    other[c] = once(x + (P - y));
                }
            }
}

VECTORS static void turn_all(u64 *numbers, ptrdiff_t n, unsigned power)
{
    for (ptrdiff_t i = 0; i < n; i++)
        numbers[i] = turned(numbers[i], power);
}

/* out[values, n]: the transform of table[values, n] times 2^power. */
static void hadamard_all(const u64 *table, u64 *out, ptrdiff_t values, ptrdiff_t n, unsigned power)
{
    EACH_BLOCK(start, width, n) {
        for (ptrdiff_t v = 0; v < values; v++)
            memcpy(out + v * n + start, table + v * n + start, (size_t)width * sizeof(u64));
        transform(out + start, values, n, width);
        if (power)
            for (ptrdiff_t v = 0; v < values; v++)
                turn_all(out + v * n + start, width, power);
    }
}

/* Of up to LANES numbers, whether each is its digit, and whether it is greater, from their indicators t[values, LANES]. */
VECTORS static void selected(const u64 *t, const u64 *digits, u64 *greater, u64 *equal, ptrdiff_t values)
{
    for (ptrdiff_t c = 0; c < LANES; c++)
        greater[c] = equal[c] = 0;
    for (ptrdiff_t v = 0; v < values; v++)
        for (ptrdiff_t c = 0; c < LANES; c++) {
            u64 above = (u64)0 - (u64)((u64)v > digits[c]), same = (u64)0 - (u64)((u64)v == digits[c]);
            greater[c] = once(greater[c] + (t[v * LANES + c] & above));
            equal[c] |= t[v * LANES + c] & same;
        }
}

/* From the characters of a number's bits [2^bits - 1, n] and a public digit [n]: shares of whether the number is
   the digit, and of whether it is greater. */
static void compare_all(const u64 *characters, const u64 *digits, u64 *greater, u64 *equal, ptrdiff_t n, int bits)
{
    ptrdiff_t values = (ptrdiff_t)1 << bits;
    unsigned power = (unsigned)(61 - bits);
    u64 t[MOST_VALUES * LANES], digit[LANES] = {0}, above[LANES], same[LANES];
    memset(t, 0, (size_t)values * LANES * sizeof(u64));
    for (ptrdiff_t start = 0; start < n; start += LANES) {
        ptrdiff_t width = n - start < LANES ? n - start : LANES;
        size_t bytes = (size_t)width * sizeof(u64);
        for (ptrdiff_t c = 0; c < LANES; c++)
            t[c] = 1;
        for (ptrdiff_t v = 1; v < values; v++)
            memcpy(t + v * LANES, characters + (v - 1) * n + start, bytes);
        memcpy(digit, digits + start, bytes);
        transform(t, values, LANES, LANES);
        selected(t, digit, above, same, values);
        turn_all(above, LANES, power);
        turn_all(same, LANES, power);
        memcpy(greater + start, above, bytes);
        memcpy(equal + start, same, bytes);
    }
}

/* out[n] = sum over j of 2^j rows[j, n], for up to 61 rows. */
VECTORS static void weigh_all(const u64 *rows, u64 *out, ptrdiff_t count, ptrdiff_t n)
{
    EACH_BLOCK(start, width, n) {
        u64 *into = out + start;
        for (ptrdiff_t c = 0; c < width; c++)
            into[c] = 0;
        for (ptrdiff_t j = 0; j < count; j++) {
            const u64 *row = rows + j * n + start;
            for (ptrdiff_t c = 0; c < width; c++)
                into[c] = once(into[c] + turned(row[c], (unsigned)j));
        }
    }
}

/* out[2^bits - 1, n]: row S - 1 is the product of those of signs[bits, n] whose bit is in S. */
static void characters_all(const u64 *signs, u64 *out, int bits, ptrdiff_t n)
{
    EACH_BLOCK(start, width, n)
        for (ptrdiff_t set = 1; set < (ptrdiff_t)1 << bits; set++) {
            int lowest = 0;
            while (!(set >> lowest & 1))
                lowest++;
            ptrdiff_t rest = set & (set - 1);
            const u64 *sign = signs + lowest * n + start;
            u64 *into = out + (set - 1) * n + start;
            if (rest)
                muladd_all(out + (rest - 1) * n + start, sign, 1, NULL, into, width);
            else
                memcpy(into, sign, (size_t)width * sizeof(u64));
        }
}

#define ROOT 59 /* y^(2^59 - 1) is an inverse square root of a square y, since p = 3 modulo 4 */

/* The number of ones in the exponent is doubled, and one more added, as the binary digits of ROOT say. */
static void root_all(const u64 *squares, u64 *out, ptrdiff_t n)
{
    u64 half[COLUMNS];
    EACH_BLOCK(start, width, n) {
        const u64 *y = squares + start;
        u64 *power = out + start;
        int ones = 1, place = 31;
        memcpy(power, y, (size_t)width * sizeof(u64));
        while (!(ROOT >> place & 1))
            place--;
        while (place--) {
            memcpy(half, power, (size_t)width * sizeof(u64));
            for (int i = 0; i < ones; i++)
                muladd_all(power, power, 1, NULL, power, width);
            muladd_all(power, half, 1, NULL, power, width);
            ones *= 2;
            if (ROOT >> place & 1) {
                muladd_all(power, power, 1, NULL, power, width);
                muladd_all(power, y, 1, NULL, power, width);
                ones++;
            }
        }
    }
}

/* out[p] = sum over s of table[p ^ s] times factors[s], [size, n]; the factors from `count` on are 1.
   With `each`, there is a table [size, n] for every p. */
static void convolve_all(const u64 *table, int each, const u64 *factors, u64 *out, ptrdiff_t size, ptrdiff_t count, ptrdiff_t n)
{
    EACH_BLOCK(start, width, n)
        for (ptrdiff_t p = 0; p < size; p++) {
            u64 *into = out + p * n + start;
            memset(into, 0, (size_t)width * sizeof(u64));
            for (ptrdiff_t s = 0; s < size; s++) {
                const u64 *term = table + ((each ? p * size : 0) + (p ^ s)) * n + start;
                if (s < count)
                    muladd_all(term, factors + s * n + start, 1, into, into, width);
                else
                    add_all(into, term, into, width);
            }
        }
}
