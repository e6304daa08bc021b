/* The golden vectors as tables, for main.c. */
#ifndef RESNET8_VECTORS_H
#define RESNET8_VECTORS_H

#include "resnet8_integer.h"

/* Codes that one layer writes for one image, at most; and all layers of the network together. */
#define RESNET8_LARGEST $largest
#define RESNET8_ACTIVATIONS $activations

#define RESNET8_NETWORK_INPUT (-1)

/* A layer with what it reads and what it must write. */
typedef struct {
    const char *name;
    resnet8_layer layer;
    int32_t images;
    const void *a;
    const void *b;              /* NULL but for a sum of two tensors */
    const int32_t *accumulator; /* NULL for a sum */
    const void *output;
    /* In the network: whose output is read (RESNET8_NETWORK_INPUT: the images), and where the own one is kept. */
    int32_t a_from;
    int32_t b_from;
    int32_t offset;
} resnet8_case;

/* round(accumulator * multiplier / 2^shift) by each rounding, in the order of resnet8_rounding. */
typedef struct {
    int32_t count;
    const int32_t *accumulator;
    const int32_t *multiplier;
    const uint8_t *shift;
    const int32_t *rounded;
} resnet8_scale_table;

/* round((a * multiplier_a + b * multiplier_b) / 2^shift), likewise. */
typedef struct {
    int32_t count;
    const int32_t *a;
    const int32_t *multiplier_a;
    const int32_t *b;
    const int32_t *multiplier_b;
    const uint8_t *shift;
    const int32_t *rounded;
} resnet8_sum_table;

extern const resnet8_rounding resnet8_chosen_rounding;
extern const int32_t resnet8_images;
extern const resnet8_tensor resnet8_input;
extern const void *const resnet8_input_codes;
extern const int32_t resnet8_logits_layer;
extern const void *const resnet8_logits_codes;
extern const int32_t resnet8_layer_count;
extern const resnet8_case resnet8_layers[];
extern const int32_t resnet8_edge_count;
extern const resnet8_case resnet8_edges[];
extern const resnet8_scale_table resnet8_products;
extern const resnet8_sum_table resnet8_sums;

#endif
