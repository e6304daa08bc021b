#include "resnet8_kernels.h"

#include <stddef.h>

/* A shift of a negative number to the right must keep the sign: C leaves that to the compiler. */
typedef char resnet8_shifts_keep_the_sign[(-3 >> 1) == -2 ? 1 : -1];

#if RESNET8_DSP
#define RESNET8_INLINE static inline __attribute__((always_inline))
#define RESNET8_ALONE static __attribute__((noinline)) /* with all registers for itself */
#else
#define RESNET8_INLINE static inline
#endif

/* ---- rounding: value / 2^shift ---- */

#if RESNET8_USES_NARROW
RESNET8_INLINE int32_t rounded(int32_t value, int32_t shift)
{
#if RESNET8_TRUNCATE
    return value >> shift;
#else
    if (shift == 0) {
        return value;
    }
    const int32_t half = (int32_t)1 << (shift - 1);
#if RESNET8_HALF_UP
    return (value + half) >> shift;
#elif RESNET8_HALF_AWAY
    return (value + (half - (value < 0))) >> shift;
#else /* half to even: a little less than a half is added to an even quotient, a half to an odd one */
    return (value + (half - 1) + ((value >> shift) & 1)) >> shift;
#endif
#endif
}
#endif

#if RESNET8_USES_SPLIT || RESNET8_USES_HIGH
/* A number in two parts, high * 2^n + low, places = shift - n > 0: of low only counts whether it is 0. */
RESNET8_INLINE int32_t rounded_parts(int32_t high, uint32_t low, int32_t places)
{
#if RESNET8_TRUNCATE
    (void)low;
    return high >> places;
#else
    const int32_t half = (int32_t)1 << (places - 1);
#if RESNET8_HALF_UP
    (void)low;
    return (high + half) >> places;
#elif RESNET8_HALF_AWAY
    return (high + (half - (high < 0 && low == 0))) >> places;
#else
    return (high + (half - 1) + (((high >> places) & 1) | (low != 0))) >> places;
#endif
#endif
}
#endif

#if RESNET8_USES_SPLIT
/* value * multiplier, which is below 2^15, as high * 2^16 + low; shift is at least 17. */
RESNET8_INLINE int32_t rounded_split(int32_t value, int32_t multiplier, int32_t shift)
{
    const uint32_t low = ((uint32_t)value & 0xFFFFu) * (uint32_t)multiplier;
    return rounded_parts((value >> 16) * multiplier + (int32_t)(low >> 16), low & 0xFFFFu, shift - 16);
}
#endif

#if RESNET8_USES_HIGH
/* |value| < 2^62, shift at least 33. */
RESNET8_INLINE int32_t rounded_high(int64_t value, int32_t shift)
{
    return rounded_parts((int32_t)(value >> 32), (uint32_t)value, shift - 32);
}
#endif

#if RESNET8_USES_WIDE
/* |value| < 2^62. What is too large for any code is cut to 2^30. */
RESNET8_INLINE int32_t rounded_wide(int64_t value, int32_t shift)
{
#if !RESNET8_TRUNCATE
    if (shift > 0) {
        const int64_t half = (int64_t)1 << (shift - 1);
#if RESNET8_HALF_UP
        value += half;
#elif RESNET8_HALF_AWAY
        value += half - (value < 0);
#else
        value += half - 1 + ((value >> shift) & 1);
#endif
    }
#endif
    value >>= shift;
    if (value > 0x40000000) {
        return 0x40000000;
    }
    return value < -0x40000000 ? -0x40000000 : (int32_t)value;
}
#endif

/* round(value * multiplier / 2^shift); of the form high, shift counts the places by which value is moved up, too */
RESNET8_INLINE int32_t scaled(const resnet8_scaling *to, int32_t value, int32_t multiplier, int32_t shift)
{
    switch (to->form) {
#if RESNET8_USES_NARROW
    case RESNET8_NARROW:
        return rounded(value * multiplier, shift);
#endif
#if RESNET8_USES_SPLIT
    case RESNET8_SPLIT:
        return rounded_split(value, multiplier, shift);
#endif
#if RESNET8_USES_HIGH
    case RESNET8_HIGH:
        return rounded_high((int64_t)(value * ((int32_t)1 << to->up)) * multiplier, shift);
#endif
#if RESNET8_USES_WIDE
    case RESNET8_WIDE:
        return rounded_wide((int64_t)value * multiplier, shift);
#endif
    default:
        return 0; /* not reached */
    }
}

RESNET8_INLINE int32_t clamped(int32_t value, int32_t lowest, int32_t highest)
{
    return value < lowest ? lowest : value > highest ? highest : value;
}

RESNET8_INLINE int32_t code_of(const resnet8_scaling *to, int32_t accumulator, int32_t multiplier, int32_t shift)
{
    return clamped(scaled(to, accumulator, multiplier, shift) + to->zero_point, to->lowest, to->highest);
}

RESNET8_INLINE int32_t quotient_of_sum(const resnet8_sum *to, int32_t a, int32_t b)
{
    switch (to->form) {
#if RESNET8_USES_NARROW
    case RESNET8_NARROW:
        return rounded(a * to->multiplier_a + b * to->multiplier_b, to->shift);
#endif
#if RESNET8_USES_HIGH
    case RESNET8_HIGH:
        a *= (int32_t)1 << to->up;
        b *= (int32_t)1 << to->up;
        return rounded_high((int64_t)a * to->multiplier_a + (int64_t)b * to->multiplier_b, to->shift);
#endif
#if RESNET8_USES_WIDE
    case RESNET8_WIDE:
        return rounded_wide((int64_t)a * to->multiplier_a + (int64_t)b * to->multiplier_b, to->shift);
#endif
    default:
        (void)a;
        (void)b;
        return 0; /* not reached */
    }
}

RESNET8_INLINE int32_t added(const resnet8_sum *to, int32_t a, int32_t b)
{
    return clamped(quotient_of_sum(to, a - to->a_zero_point, b - to->b_zero_point) + to->zero_point, to->lowest,
                   to->highest);
}

/* ---- columns, and their products with weights ---- */

/*
 * columns points to the first group of four codes of one of two columns; its next group is two groups on. What is
 * written returns where the next group goes.
 */
#define NEXT_GROUP (2 * RESNET8_PER_GROUP)

#if RESNET8_DSP

RESNET8_INLINE uint32_t even(uint32_t four)
{
    uint32_t two;
    __asm__("sxtb16 %0, %1" : "=r"(two) : "r"(four));
    return two;
}

RESNET8_INLINE uint32_t odd(uint32_t four)
{
    uint32_t two;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(two) : "r"(four));
    return two;
}

RESNET8_INLINE int32_t two_products(uint32_t a, uint32_t b, int32_t sum)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

RESNET8_INLINE resnet8_column *expand(resnet8_column *columns, const int8_t *codes, int32_t groups)
{
    for (; groups > 0; groups--, columns += NEXT_GROUP, codes += 4) {
        uint32_t four;
        __builtin_memcpy(&four, codes, sizeof four);
        columns[0] = even(four);
        columns[1] = odd(four);
    }
    return columns;
}

RESNET8_INLINE resnet8_column *fill(resnet8_column *columns, int32_t code, int32_t groups)
{
    const uint32_t two = ((uint32_t)code & 0xFFFFu) * 0x10001u;
    for (; groups > 0; groups--, columns += NEXT_GROUP) {
        columns[0] = two;
        columns[1] = two;
    }
    return columns;
}

RESNET8_INLINE int32_t column_sum(const resnet8_column *columns, int32_t groups)
{
    int32_t sum = 0;
    for (; groups > 0; groups--, columns += NEXT_GROUP) {
        sum = two_products(columns[0], 0x10001u, two_products(columns[1], 0x10001u, sum));
    }
    return sum;
}

/* A pair of weights of each of two channels, times a pair of codes of each of two columns. */
#define FOUR_PRODUCTS(v, w, x, y)     \
    do {                              \
        s0 = two_products(v, x, s0);  \
        s1 = two_products(v, y, s1);  \
        s2 = two_products(w, x, s2);  \
        s3 = two_products(w, y, s3);  \
    } while (0)

/* What is read behind it is not read before: the registers would not do. */
#define NOTHING_EARLIER __asm__ volatile("" ::: "memory")

#if RESNET8_USES_8_BITS
/* Four sums: of the first channel with both columns, of the second with both. Returns where the next weights are. */
RESNET8_ALONE const uint32_t *products_8(const uint32_t *weights, const resnet8_column *columns, int32_t groups,
                                         int32_t sums[4])
{
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    const uint32_t *const end = weights + 2 * groups;
    do {
        uint32_t v = weights[0], w = weights[1];
        FOUR_PRODUCTS(even(v), even(w), columns[0], columns[2]);
        FOUR_PRODUCTS(odd(v), odd(w), columns[1], columns[3]);
        NOTHING_EARLIER;
        v = weights[2], w = weights[3];
        FOUR_PRODUCTS(even(v), even(w), columns[4], columns[6]);
        FOUR_PRODUCTS(odd(v), odd(w), columns[5], columns[7]);
        weights += 4;
        columns += 2 * NEXT_GROUP;
    } while (weights != end);
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    return weights;
}
#endif

#if RESNET8_USES_4_BITS
/* The same with weights of 4 bits, counted from the least: each mask leaves two, 16 bits apart, as codes lie. */
RESNET8_ALONE const uint32_t *products_4(const uint32_t *weights, const resnet8_column *columns, int32_t groups,
                                         int32_t sums[4])
{
    uint32_t mask = 0x000F000Fu;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    const uint32_t *const end = weights + groups;
    __asm__("" : "+r"(mask)); /* in a register: a shift is then part of the instruction that masks */
    do {
        const uint32_t v = weights[0], w = weights[1];
        FOUR_PRODUCTS(v & mask, w & mask, columns[0], columns[2]);
        FOUR_PRODUCTS((v >> 4) & mask, (w >> 4) & mask, columns[1], columns[3]);
        NOTHING_EARLIER;
        FOUR_PRODUCTS((v >> 8) & mask, (w >> 8) & mask, columns[4], columns[6]);
        FOUR_PRODUCTS((v >> 12) & mask, (w >> 12) & mask, columns[5], columns[7]);
        weights += 2;
        columns += 2 * NEXT_GROUP;
    } while (weights != end);
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    return weights;
}
#endif

#else /* plain C */

RESNET8_INLINE resnet8_column *expand(resnet8_column *columns, const int8_t *codes, int32_t groups)
{
    for (; groups > 0; groups--, columns += NEXT_GROUP, codes += 4) {
        for (int i = 0; i < 4; i++) {
            columns[i] = codes[i];
        }
    }
    return columns;
}

RESNET8_INLINE resnet8_column *fill(resnet8_column *columns, int32_t code, int32_t groups)
{
    for (; groups > 0; groups--, columns += NEXT_GROUP) {
        for (int i = 0; i < 4; i++) {
            columns[i] = (int16_t)code;
        }
    }
    return columns;
}

RESNET8_INLINE int32_t column_sum(const resnet8_column *columns, int32_t groups)
{
    int32_t sum = 0;
    for (; groups > 0; groups--, columns += NEXT_GROUP) {
        sum += columns[0] + columns[1] + columns[2] + columns[3];
    }
    return sum;
}

#if RESNET8_USES_8_BITS
RESNET8_INLINE int32_t byte_of(uint32_t word, int place)
{
    return (int32_t)(((word >> (8 * place)) & 0xFFu) ^ 0x80u) - 0x80;
}

RESNET8_INLINE const uint32_t *products_8(const uint32_t *weights, const resnet8_column *columns, int32_t groups,
                                          int32_t sums[4])
{
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (; groups > 0; groups--, columns += NEXT_GROUP, weights += 2) {
        for (int i = 0; i < 4; i++) {
            const int32_t v = byte_of(weights[0], i), w = byte_of(weights[1], i);
            const int32_t x = columns[i], y = columns[4 + i];
            sums[0] += v * x;
            sums[1] += v * y;
            sums[2] += w * x;
            sums[3] += w * y;
        }
    }
    return weights;
}
#endif

#if RESNET8_USES_4_BITS
/* Of eight codes, the first, second, fifth and sixth are in the lower half of the word, each 16 bits below the other. */
RESNET8_INLINE int32_t nibble_of(uint32_t word, int place)
{
    const int nibble = (place & 1) + ((place & 2) << 1) + ((place & 4) >> 1);
    return (int32_t)((word >> (4 * nibble)) & 0xFu);
}

RESNET8_INLINE const uint32_t *products_4(const uint32_t *weights, const resnet8_column *columns, int32_t groups,
                                          int32_t sums[4])
{
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (; groups > 0; groups -= 2, columns += 2 * NEXT_GROUP, weights += 2) {
        for (int i = 0; i < 8; i++) {
            const int32_t v = nibble_of(weights[0], i), w = nibble_of(weights[1], i);
            const int32_t x = columns[(i >> 2) * NEXT_GROUP + (i & 3)];
            const int32_t y = columns[(i >> 2) * NEXT_GROUP + 4 + (i & 3)];
            sums[0] += v * x;
            sums[1] += v * y;
            sums[2] += w * x;
            sums[3] += w * y;
        }
    }
    return weights;
}
#endif

#endif

/* ---- windows ---- */

/* Channels that are no multiple of four: code after code, then as one run. */
static void gather_codes(const resnet8_conv *layer, const int8_t *x, int32_t top, int32_t left,
                         resnet8_column *columns)
{
    int8_t window[RESNET8_WINDOW];
    int32_t size = 0;
    for (int32_t y = top; y < top + layer->kernel_rows; y++) {
        for (int32_t z = left; z < left + layer->kernel_columns; z++) {
            const int inside = y >= 0 && y < layer->height && z >= 0 && z < layer->width;
            for (int32_t k = 0; k < layer->channels; k++) {
                window[size++] = inside ? x[(y * layer->width + z) * layer->channels + k] : layer->x_zero_point;
            }
        }
    }
    while (size < 4 * layer->groups) {
        window[size++] = 0;
    }
    (void)expand(columns, window, layer->groups);
}

/* The window of one output position as a column. Outside the map are codes of the zero point. */
static void gather(const resnet8_conv *layer, const int8_t *x, int32_t row, int32_t column, resnet8_column *columns)
{
    const int32_t top = row * layer->stride_rows - layer->pad_top;
    const int32_t left = column * layer->stride_columns - layer->pad_left;
    if (layer->channels % 4 != 0) {
        gather_codes(layer, x, top, left, columns);
        return;
    }
    const int32_t groups = layer->channels / 4, zero = layer->x_zero_point;
    const int32_t before = clamped(-left, 0, layer->kernel_columns);
    const int32_t after = clamped(left + layer->kernel_columns - layer->width, 0, layer->kernel_columns - before);
    const int32_t inside = layer->kernel_columns - before - after;
    for (int32_t y = top; y < top + layer->kernel_rows; y++) {
        if (y < 0 || y >= layer->height || inside == 0) {
            columns = fill(columns, zero, layer->kernel_columns * groups);
            continue;
        }
        columns = fill(columns, zero, before * groups);
        columns = expand(columns, x + (y * layer->width + left + before) * layer->channels, inside * groups);
        columns = fill(columns, zero, after * groups);
    }
    (void)fill(columns, 0, layer->groups - layer->kernel_rows * layer->kernel_columns * groups);
}

/* ---- layers ---- */

RESNET8_INLINE const uint32_t *products(const resnet8_conv *layer, const uint32_t *weights,
                                        const resnet8_column *columns, int32_t sums[4])
{
#if RESNET8_USES_8_BITS
    if (layer->bits == 8) {
        return products_8(weights, columns, layer->groups, sums);
    }
#endif
#if RESNET8_USES_4_BITS
    return products_4(weights, columns, layer->groups, sums);
#else
    return weights; /* not reached */
#endif
}

/* All channels of one or two neighbouring positions; index is that of the first code. */
static void convolve_pair(const resnet8_conv *layer, int32_t positions, int32_t index, const int8_t *residual,
                          const resnet8_column *columns, int8_t *output)
{
    const resnet8_scaling *const to = &layer->scaling;
    const int32_t channels = layer->channels_out;
    const uint32_t *weights = layer->weights;
    int32_t codes[2] = {0, 0}; /* the sums of both columns */
    if (layer->weights_zero_point != NULL) {
        codes[0] = column_sum(columns, layer->groups);
        codes[1] = column_sum(columns + RESNET8_PER_GROUP, layer->groups);
    }
    for (int32_t channel = 0; channel < channels;) {
        int32_t sums[4];
        weights = products(layer, weights, columns, sums);
        for (int32_t i = 0; i < 4 && channel < channels; i += 2, channel++) {
            const int32_t which = to->per_channel ? channel : 0;
            const int32_t multiplier = to->multiplier[which], shift = to->shift[which], bias = layer->bias[channel];
            const int32_t zero = layer->weights_zero_point == NULL ? 0 : layer->weights_zero_point[channel];
            for (int32_t j = 0, at = index + channel; j < positions; j++, at += channels) {
                const int32_t code = code_of(to, sums[i + j] - zero * codes[j] + bias, multiplier, shift);
                output[at] = (int8_t)(layer->sum == NULL ? code : added(layer->sum, code, residual[at]));
            }
        }
    }
}

void resnet8_convolve(const resnet8_conv *layer, const int8_t *x, const int8_t *residual, resnet8_column *columns,
                      int8_t *output)
{
    int32_t pending = 0, index = 0;
    for (int32_t row = 0; row < layer->rows; row++) {
        for (int32_t column = 0; column < layer->columns; column++) {
            gather(layer, x, row, column, columns + pending * RESNET8_PER_GROUP);
            if (++pending == 2) {
                convolve_pair(layer, 2, index, residual, columns, output);
                pending = 0;
                index += 2 * layer->channels_out;
            }
        }
    }
    if (pending == 1) {
        (void)fill(columns + RESNET8_PER_GROUP, 0, layer->groups);
        convolve_pair(layer, 1, index, residual, columns, output);
    }
}

void resnet8_add(const resnet8_sum *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    int32_t channel = 0;
    for (int32_t index = 0; index < layer->size; index++) {
        output[index] = (int8_t)added(layer, a[index], b != NULL ? b[index] : layer->constant[channel]);
        channel = channel + 1 == layer->channels ? 0 : channel + 1;
    }
}

void resnet8_multiply(const resnet8_elementwise *layer, const int8_t *x, int8_t *output)
{
    const resnet8_scaling *const to = &layer->scaling;
    int32_t channel = 0;
    for (int32_t index = 0; index < layer->size; index++) {
        const int32_t factor = layer->factor == NULL ? 1 : layer->factor[channel], which = to->per_channel ? channel : 0;
        const int32_t product = (x[index] - layer->x_zero_point) * factor;
        output[index] = (int8_t)code_of(to, product, to->multiplier[which], to->shift[which]);
        channel = channel + 1 == layer->channels ? 0 : channel + 1;
    }
}

void resnet8_average(const resnet8_elementwise *layer, const int8_t *x, int8_t *output)
{
    const resnet8_scaling *const to = &layer->scaling;
    for (int32_t channel = 0; channel < layer->channels; channel++) {
        const int32_t which = to->per_channel ? channel : 0;
        int32_t sum = 0;
        for (int32_t index = channel; index < layer->size; index += layer->channels) {
            sum += x[index] - layer->x_zero_point;
        }
        output[channel] = (int8_t)code_of(to, sum, to->multiplier[which], to->shift[which]);
    }
}

void resnet8_take(const uint8_t *image, int8_t *output)
{
    for (int32_t index = 0; index < RESNET8_PIXELS; index++) {
        output[index] = resnet8_pixel_codes[image[index]];
    }
}
