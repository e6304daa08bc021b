/*
 * Layers of a quantized network on 8-bit codes, for microcontrollers. C99, no floating point, no heap, no library.
 *
 *   accumulator = sum((x - zero_x) * (w - zero_w)) + bias
 *   code        = clamp(round(accumulator * multiplier / 2^shift) + zero_out, lowest, highest)
 *
 * Codes are held as int8_t whatever the model's type: of uint8 codes and zero points 128 is subtracted, which changes no
 * difference code - zero_point. Tensors are rows, columns, channels, the last varying fastest.
 *
 * A window of x becomes a column of 16-bit numbers, two windows side by side; two output channels are multiplied with
 * both at once. Where the processor has the DSP extension, an instruction multiplies and adds two pairs.
 */
#ifndef RESNET8_KERNELS_H
#define RESNET8_KERNELS_H

#include <stdint.h>

#include "parameters.h"

/* RESNET8_NO_DSP: the plain C even where the extension is there. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(RESNET8_NO_DSP)
#define RESNET8_DSP 1
typedef uint32_t resnet8_column; /* two codes, 16 bits each: of four codes the first and third, the second and fourth */
#define RESNET8_PER_GROUP 2
#else
#define RESNET8_DSP 0
typedef int16_t resnet8_column;
#define RESNET8_PER_GROUP 4
#endif

/* Room for two columns of the deepest window. */
#define RESNET8_COLUMNS (2 * RESNET8_PER_GROUP * RESNET8_GROUPS)

/* The images' codes, (image code of the pixel) for each byte. */
void resnet8_take(const uint8_t *image, int8_t *output);

/* residual: the other addend of the layer's sum, or NULL; it may be the output itself, whose codes are then replaced. */
void resnet8_convolve(const resnet8_conv *layer, const int8_t *x, const int8_t *residual, resnet8_column *columns,
                      int8_t *output);

/* Each may write over what it reads. b is NULL where a constant of each channel is added. */
void resnet8_add(const resnet8_sum *layer, const int8_t *a, const int8_t *b, int8_t *output);
void resnet8_multiply(const resnet8_elementwise *layer, const int8_t *x, int8_t *output);

void resnet8_average(const resnet8_elementwise *layer, const int8_t *x, int8_t *output);

#endif
