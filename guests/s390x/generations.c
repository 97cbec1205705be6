/* What a compiler makes of loops for each generation of the architecture: the same numbers everywhere.
 *
 *   s390x-linux-gnu-gcc -march=z15 -O3 -ffp-contract=off -static -o generations generations.c -lm
 *
 * Prints "RESULT" and a digest of sums, products, comparisons, conversions, roots, divisions, bit counts and strings over
 * pseudo-random arrays. As /init it runs the programs of the other generations, /z10 and so on, and switches off.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 1000, ROUNDS = 200 };

static int8_t bytes[COUNT], others[COUNT];
static int16_t halves[COUNT];
static int32_t words[COUNT], factors[COUNT], results[COUNT];
static int64_t longs[COUNT];
static float floats[COUNT], divisors[COUNT];
static double doubles[COUNT], more[COUNT];

/* Marsaglia, "Xorshift RNGs", 2003. */
static uint64_t next(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* FNV-1a over the bytes of a number, lowest first. */
static uint64_t digest = 14695981039346656037u;

static void take(uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        digest ^= value >> 8 * i & 255;
        digest *= 1099511628211u;
    }
}

static void take_float(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    take(bits);
}

static void take_double(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    take(bits);
}

static void fill(void)
{
    for (int i = 0; i < COUNT; i++) {
        bytes[i] = next();
        others[i] = next();
        halves[i] = next();
        words[i] = next();
        factors[i] = next() % 1000;
        longs[i] = next();
        floats[i] = (float)(int32_t)next() / 65536;
        divisors[i] = next() % 1000 + 1;
        doubles[i] = (double)(int64_t)next() / 1e9;
        more[i] = next() % 100000 + 1;
    }
}

static void integers(void)
{
    int32_t products = 0, most = INT16_MIN, least = INT16_MAX;
    uint64_t sum = 0, bits = 0;

    for (int i = 0; i < COUNT; i++)
        products += bytes[i] * others[i];
    for (int i = 0; i < COUNT; i++)
        results[i] = (uint32_t)words[i] * (uint32_t)factors[i] + (words[i] > factors[i] ? words[i] : factors[i]);
    for (int i = 0; i < COUNT; i++)
        sum += (uint64_t)(longs[i] ^ longs[i] >> 7);
    for (int i = 0; i < COUNT; i++) {
        most = halves[i] > most ? halves[i] : most;
        least = halves[i] < least ? halves[i] : least;
    }
    for (int i = 0; i < COUNT; i++)
        bits += __builtin_popcountll(longs[i]) + __builtin_clzll(longs[i] | 1) + __builtin_ctzll(longs[i] | 1) +
                __builtin_bswap32(words[i]) % 7;
    take(products);
    for (int i = 0; i < COUNT; i++)
        take(results[i]);
    take(sum);
    take(most);
    take(least);
    take(bits);
}

static void floating(void)
{
    for (int i = 0; i < COUNT; i++)
        floats[i] = floats[i] / divisors[i] + divisors[i] * 0.5f;
    for (int i = 0; i < COUNT; i++)
        doubles[i] = sqrt(fabs(doubles[i])) - more[i] / 3.0;
    for (int i = 0; i < COUNT; i++)
        results[i] = (int32_t)more[i];
    for (int i = 0; i < COUNT; i++) {
        take_float(floats[i]);
        take_double(doubles[i]);
        take(results[i]);
    }
    for (int i = 0; i < COUNT; i++)
        doubles[i] = words[i];
    for (int i = 0; i < COUNT; i++)
        take_double(doubles[i]);
}

static void strings(int round)
{
    char line[400];
    int length = snprintf(line, sizeof line, "%d %s %.6f %lld %x", round, "cloister", more[3] / 7, (long long)longs[1],
                          (unsigned)words[2]);

    take(length);
    for (int i = 0; i < length; i++)
        take((unsigned char)line[i]);
    take(strlen(line));
    take(strchr(line, '.') - line);
    take(strcmp(line, "zz") < 0);
    take((char *)memchr(line, 'c', length) - line);
}

int main(void)
{
    static const char *const generations[] = { "/z10", "/z13", "/z14", "/z15" };

    if (getpid() == 1) {
        for (int i = 0; i < 4; i++) {
            if (!fork()) {
                execl(generations[i], generations[i], NULL);
                _exit(1);
            }
            wait(NULL);
        }
        reboot(RB_POWER_OFF);
    }
    for (int round = 0; round < ROUNDS; round++) {
        fill();
        integers();
        floating();
        strings(round);
    }
    printf("RESULT %016llx\n", (unsigned long long)digest);
    return 0;
}
