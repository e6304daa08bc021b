#include "resnet8_integer.h"

#include <stddef.h>

/* ---- 64-bit magnitudes in two words ---- */

typedef struct {
    uint32_t high;
    uint32_t low;
} wide;

static uint32_t magnitude(int32_t value)
{
    return value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
}

static wide multiply(uint32_t a, uint32_t b)
{
    const uint32_t a_low = a & 0xFFFFu, a_high = a >> 16;
    const uint32_t b_low = b & 0xFFFFu, b_high = b >> 16;
    const uint32_t low = a_low * b_low;
    const uint32_t cross_a = a_high * b_low;
    const uint32_t cross_b = a_low * b_high;
    const uint32_t middle = (low >> 16) + (cross_a & 0xFFFFu) + (cross_b & 0xFFFFu);
    wide product;
    product.low = (middle << 16) | (low & 0xFFFFu);
    product.high = a_high * b_high + (cross_a >> 16) + (cross_b >> 16) + (middle >> 16);
    return product;
}

static wide add(wide a, wide b)
{
    wide sum;
    sum.low = a.low + b.low;
    sum.high = a.high + b.high + (sum.low < a.low ? 1u : 0u);
    return sum;
}

/* a - b, where a is not below b. */
static wide subtract(wide a, wide b)
{
    wide difference;
    difference.low = a.low - b.low;
    difference.high = a.high - b.high - (a.low < b.low ? 1u : 0u);
    return difference;
}

static int below(wide a, wide b)
{
    return a.high != b.high ? a.high < b.high : a.low < b.low;
}

static wide shifted_right(wide value, int32_t shift)
{
    wide result;
    if (shift == 0) {
        return value;
    }
    if (shift < 32) {
        result.low = (value.low >> shift) | (value.high << (32 - shift));
        result.high = value.high >> shift;
    } else {
        result.low = value.high >> (shift - 32);
        result.high = 0;
    }
    return result;
}

static int bit(wide value, int32_t position)
{
    return (int)((position < 32 ? value.low >> position : value.high >> (position - 32)) & 1u);
}

/* Whether any of the lowest count bits is set. */
static int any_bit(wide value, int32_t count)
{
    if (count < 32) {
        return (value.low & ((1u << count) - 1u)) != 0;
    }
    return value.low != 0 || (value.high & ((1u << (count - 32)) - 1u)) != 0;
}

/* ---- rounding ---- */

/* Whether the magnitude of the quotient is rounded up: by its first dropped bit (guard) and the others (sticky). */
static int rounds_up(int negative, int odd, int guard, int sticky, resnet8_rounding rounding)
{
    switch (rounding) {
    case RESNET8_HALF_EVEN:
        return guard && (sticky || odd);
    case RESNET8_HALF_AWAY:
        return guard;
    case RESNET8_HALF_UP:
        return guard && (sticky || !negative);
    case RESNET8_TRUNCATE:
    default:
        return negative && (guard || sticky);
    }
}

static int32_t rounded(int negative, wide value, int32_t shift, resnet8_rounding rounding)
{
    const wide one = {0u, 1u};
    const wide limit = {0u, RESNET8_LIMIT};
    wide quotient = shifted_right(value, shift);
    if (shift > 0) {
        const int guard = bit(value, shift - 1);
        const int sticky = any_bit(value, shift - 1);
        if (rounds_up(negative, (int)(quotient.low & 1u), guard, sticky, rounding)) {
            quotient = add(quotient, one);
        }
    }
    if (below(limit, quotient)) {
        quotient = limit;
    }
    return negative ? -(int32_t)quotient.low : (int32_t)quotient.low;
}

int32_t resnet8_scale(int32_t accumulator, int32_t multiplier, int32_t shift, resnet8_rounding rounding)
{
    return rounded(accumulator < 0, multiply(magnitude(accumulator), (uint32_t)multiplier), shift, rounding);
}

int32_t resnet8_scale_sum(int32_t a, int32_t multiplier_a, int32_t b, int32_t multiplier_b, int32_t shift,
                          resnet8_rounding rounding)
{
    const wide one = multiply(magnitude(a), (uint32_t)multiplier_a);
    const wide other = multiply(magnitude(b), (uint32_t)multiplier_b);
    if ((a < 0) == (b < 0)) {
        return rounded(a < 0, add(one, other), shift, rounding);
    }
    if (below(one, other)) {
        return rounded(b < 0, subtract(other, one), shift, rounding);
    }
    return rounded(a < 0, subtract(one, other), shift, rounding);
}

/* ---- codes ---- */

static int32_t code(const void *codes, int is_signed, int32_t index)
{
    return is_signed ? (int32_t)((const int8_t *)codes)[index] : (int32_t)((const uint8_t *)codes)[index];
}

static void store(const resnet8_layer *layer, int32_t value, int32_t index, void *output)
{
    value += layer->output.zero_point;
    if (value < layer->lowest) {
        value = layer->lowest;
    }
    if (value > layer->highest) {
        value = layer->highest;
    }
    if (layer->output.is_signed) {
        ((int8_t *)output)[index] = (int8_t)value;
    } else {
        ((uint8_t *)output)[index] = (uint8_t)value;
    }
}

int32_t resnet8_size(const resnet8_tensor *tensor)
{
    return tensor->height * tensor->width * tensor->channels;
}

/* ---- layers ---- */

static int32_t weight(const resnet8_layer *layer, int32_t channel, int32_t index)
{
    const int32_t depth = layer->kernel_rows * layer->kernel_columns * layer->a.channels;
    const int is_signed = layer->constants_are_signed;
    return code(layer->constants, is_signed, channel * depth + index)
           - code(layer->constants_zero_point, is_signed, layer->per_channel ? channel : 0);
}

static int32_t convolved(const resnet8_layer *layer, const void *a, int32_t row, int32_t column, int32_t channel)
{
    const resnet8_tensor *x = &layer->a;
    int32_t sum = 0, index = 0;
    for (int32_t i = 0; i < layer->kernel_rows; i++) {
        for (int32_t j = 0; j < layer->kernel_columns; j++) {
            const int32_t y = row * layer->stride_rows + i - layer->pad_top;
            const int32_t z = column * layer->stride_columns + j - layer->pad_left;
            const int inside = y >= 0 && y < x->height && z >= 0 && z < x->width;
            for (int32_t k = 0; k < x->channels; k++, index++) {
                const int32_t read =
                    inside ? code(a, x->is_signed, (y * x->width + z) * x->channels + k) : x->zero_point;
                sum += (read - x->zero_point) * weight(layer, channel, index);
            }
        }
    }
    return sum + layer->bias[channel];
}

static void accumulate_conv(const resnet8_layer *layer, const void *a, int32_t *accumulator)
{
    int32_t index = 0;
    for (int32_t row = 0; row < layer->output.height; row++) {
        for (int32_t column = 0; column < layer->output.width; column++) {
            for (int32_t channel = 0; channel < layer->output.channels; channel++, index++) {
                accumulator[index] = convolved(layer, a, row, column, channel);
            }
        }
    }
}

static void accumulate_average_pool(const resnet8_layer *layer, const void *a, int32_t *accumulator)
{
    const resnet8_tensor *x = &layer->a;
    for (int32_t channel = 0; channel < x->channels; channel++) {
        accumulator[channel] = 0;
    }
    for (int32_t index = 0; index < resnet8_size(x); index++) {
        accumulator[index % x->channels] += code(a, x->is_signed, index) - x->zero_point;
    }
}

static void accumulate_elementwise(const resnet8_layer *layer, const void *a, int32_t *accumulator)
{
    const resnet8_tensor *x = &layer->a;
    for (int32_t index = 0; index < resnet8_size(x); index++) {
        const int32_t value = code(a, x->is_signed, index) - x->zero_point;
        if (layer->kind == RESNET8_MUL) {
            const int is_signed = layer->constants_are_signed;
            const int32_t factor = code(layer->constants, is_signed, index % x->channels);
            accumulator[index] = value * (factor - code(layer->constants_zero_point, is_signed, 0));
        } else {
            accumulator[index] = value;
        }
    }
}

static void run_add(const resnet8_layer *layer, resnet8_rounding rounding, const void *a, const void *b, void *output)
{
    const int constant = layer->constants != NULL;
    const void *addends = constant ? layer->constants : b;
    for (int32_t index = 0; index < resnet8_size(&layer->output); index++) {
        const int32_t one = code(a, layer->a.is_signed, index) - layer->a.zero_point;
        const int32_t place = constant ? index % layer->output.channels : index;
        const int32_t other = code(addends, layer->b.is_signed, place) - layer->b.zero_point;
        store(layer,
              resnet8_scale_sum(one, layer->multiplier[0], other, layer->multiplier_b[0], layer->shift[0], rounding),
              index, output);
    }
}

void resnet8_run(const resnet8_layer *layer, resnet8_rounding rounding, const void *a, const void *b,
                 int32_t *accumulator, void *output)
{
    switch (layer->kind) {
    case RESNET8_ADD:
        run_add(layer, rounding, a, b, output);
        return;
    case RESNET8_CONV:
        accumulate_conv(layer, a, accumulator);
        break;
    case RESNET8_AVERAGE_POOL:
        accumulate_average_pool(layer, a, accumulator);
        break;
    case RESNET8_MUL:
    case RESNET8_RESCALE:
    default:
        accumulate_elementwise(layer, a, accumulator);
        break;
    }
    for (int32_t index = 0; index < resnet8_size(&layer->output); index++) {
        const int32_t which = layer->per_channel ? index % layer->output.channels : 0;
        store(layer, resnet8_scale(accumulator[index], layer->multiplier[which], layer->shift[which], rounding), index,
              output);
    }
}
