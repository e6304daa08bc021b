/* The network's parameters: what the layers are made of, and how they round. Written with the model. */
#ifndef RESNET8_PARAMETERS_H
#define RESNET8_PARAMETERS_H

#include <stdint.h>

/* Requantization: $requantization. */
#define RESNET8_$rounding 1

/*
 * How a product is formed and rounded: in 32 bits where it fits, in a 32-bit and a 16-bit part where the multiplier has
 * 15 bits, in 64 bits where it has more, of which the upper half is all where the shift is above 32. Only what is used
 * is compiled.
 */
enum { RESNET8_NARROW, RESNET8_SPLIT, RESNET8_HIGH, RESNET8_WIDE };
#define RESNET8_USES_NARROW $narrow
#define RESNET8_USES_SPLIT $split
#define RESNET8_USES_HIGH $high
#define RESNET8_USES_WIDE $wide

/* Whether weights of 4 bits, eight in a word, and of 8 bits, four in a word, are there. */
#define RESNET8_USES_4_BITS $four
#define RESNET8_USES_8_BITS $eight

#define RESNET8_GROUPS $groups /* of four codes, in the deepest window, an even number */
#define RESNET8_WINDOW $window /* codes of the deepest window over channels that are no multiple of four, or 4 */
#define RESNET8_PIXELS $pixels /* bytes of an image */
#define RESNET8_CLASSES $classes
#define RESNET8_ACTIVATIONS $activations /* bytes of the buffers that layers share */

typedef struct {
    const int32_t *multiplier; /* one, or one for each output channel */
    const uint8_t *shift;
    uint8_t per_channel;
    uint8_t form;
    uint8_t up; /* of the form high: places by which the accumulator is moved up before; shift counts them */
    int8_t zero_point;
    int8_t lowest;
    int8_t highest;
} resnet8_scaling;

/* (a - a_zero_point) * multiplier_a + (b - b_zero_point) * multiplier_b, rounded once. */
typedef struct {
    int32_t multiplier_a;
    int32_t multiplier_b;
    const int8_t *constant; /* b of each channel, or NULL where b is a tensor */
    int32_t size;
    int16_t channels;
    int8_t a_zero_point;
    int8_t b_zero_point;
    uint8_t shift;
    uint8_t form;
    uint8_t up; /* likewise, of both addends */
    int8_t zero_point;
    int8_t lowest;
    int8_t highest;
} resnet8_sum;

typedef struct {
    /*
     * For two output channels and four codes of depth (eight, of 4 bits): a word of the one, a word of the other; then
     * the next codes; then the next channels. Depth is kernel row, kernel column, channel, filled up to a multiple of
     * eight, where the codes are 0.
     */
    const uint32_t *weights;
    const int32_t *bias;               /* less x_zero_point times the sum of the channel's weights */
    const int16_t *weights_zero_point; /* of each output channel, or NULL where all are 0 */
    resnet8_scaling scaling;
    const resnet8_sum *sum; /* what is added to the codes at once, or NULL */
    int16_t height;
    int16_t width;
    int16_t channels;
    int16_t rows;
    int16_t columns;
    int16_t channels_out;
    int16_t groups; /* of four codes in a window, an even number */
    int8_t kernel_rows;
    int8_t kernel_columns;
    int8_t stride_rows;
    int8_t stride_columns;
    int8_t pad_top;
    int8_t pad_left;
    int8_t x_zero_point;
    uint8_t bits; /* of a weight: 8 or 4 */
} resnet8_conv;

/* (x - x_zero_point) * factor, or, averaged, the sum over the map. */
typedef struct {
    resnet8_scaling scaling;
    const int16_t *factor; /* less its zero point, of each channel; NULL stands for 1 */
    int32_t size;          /* codes of x */
    int16_t channels;
    int8_t x_zero_point;
} resnet8_elementwise;

$declarations
#endif
