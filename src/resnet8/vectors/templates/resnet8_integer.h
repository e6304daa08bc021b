/*
 * Layers of a quantized network, in integers: 8-bit codes in, 8-bit codes out, 32-bit arithmetic between. C99.
 *
 *   accumulator = sum((x - zero_x) * (w - zero_w)) + bias
 *   output      = clamp(round(accumulator * multiplier / 2^shift) + zero_out, lowest, highest)
 *
 * No floating point and no integer wider than 32 bits. Of signed integers only sums and products that fit are formed,
 * and no negative one is shifted: nothing depends on the compiler.
 */
#ifndef RESNET8_INTEGER_H
#define RESNET8_INTEGER_H

#include <stdint.h>

/* How a product becomes whole. Ties are quotients that end in exactly one half. */
typedef enum {
    RESNET8_HALF_EVEN, /* nearest, ties to the even neighbour */
    RESNET8_HALF_AWAY, /* nearest, ties away from zero */
    RESNET8_HALF_UP,   /* nearest, ties upwards */
    RESNET8_TRUNCATE   /* down: the bits behind the point of a two's complement number are dropped */
} resnet8_rounding;

typedef enum {
    RESNET8_CONV,         /* also dense layers: 1 x 1 kernel on a 1 x 1 map */
    RESNET8_MUL,          /* times a constant of each channel */
    RESNET8_ADD,          /* two tensors, or a tensor and a constant of each channel */
    RESNET8_AVERAGE_POOL, /* over the whole map */
    RESNET8_RESCALE       /* the same reals on another grid */
} resnet8_kind;

/* A tensor of codes, int8_t or uint8_t: rows, columns, channels, the last varying fastest. */
typedef struct {
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t zero_point;
    int is_signed;
} resnet8_tensor;

typedef struct {
    resnet8_kind kind;
    resnet8_tensor a; /* what it reads */
    resnet8_tensor b; /* the second addend; constants of each channel are 1 x 1 x channels */
    resnet8_tensor output;
    int32_t lowest; /* codes that it writes: the output type's, from the zero point upwards after a ReLU */
    int32_t highest;

    const void *constants; /* weights (out, kernel row, kernel column, in), factors or addends; or NULL */
    int constants_are_signed;
    const void *constants_zero_point; /* of the same type */
    const int32_t *bias; /* one for each output channel; or NULL */
    int32_t kernel_rows;
    int32_t kernel_columns;
    int32_t stride_rows;
    int32_t stride_columns;
    int32_t pad_top; /* what is read outside the map has the code zero_x, which is real 0 */
    int32_t pad_left;

    int per_channel;             /* whether multiplier, shift and weights' zero point are one for each output channel */
    const int32_t *multiplier;   /* 0 to 2^31 - 1 */
    const int32_t *multiplier_b; /* of the second addend */
    const uint8_t *shift;        /* 0 to 62 */
} resnet8_layer;

/* What saturates resnet8_scale and resnet8_scale_sum: far outside every code. */
#define RESNET8_LIMIT 0x40000000

/* round(accumulator * multiplier / 2^shift), at most RESNET8_LIMIT in magnitude. */
int32_t resnet8_scale(int32_t accumulator, int32_t multiplier, int32_t shift, resnet8_rounding rounding);

/* round((a * multiplier_a + b * multiplier_b) / 2^shift), rounded once; |a| and |b| below 2^30. */
int32_t resnet8_scale_sum(int32_t a, int32_t multiplier_a, int32_t b, int32_t multiplier_b, int32_t shift,
                          resnet8_rounding rounding);

/* Codes of a tensor. */
int32_t resnet8_size(const resnet8_tensor *tensor);

/*
 * Run one layer on one image.
 *
 * a, b:        codes of its inputs; b only of a sum of two tensors.
 * accumulator: room for as many numbers as output has codes; a sum writes none.
 * output:      room for the codes.
 */
void resnet8_run(const resnet8_layer *layer, resnet8_rounding rounding, const void *a, const void *b,
                 int32_t *accumulator, void *output);

#endif
