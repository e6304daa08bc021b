/* The network and the edge cases as tables; written with the vectors. */
#include "vectors.h"

#include <stddef.h>

$includes

const resnet8_rounding resnet8_chosen_rounding = RESNET8_$rounding;
const int32_t resnet8_images = $images;
const resnet8_tensor resnet8_input = $input;
const void *const resnet8_input_codes = network_input;
const int32_t resnet8_logits_layer = $logits;
const void *const resnet8_logits_codes = network_logits;
const int32_t resnet8_layer_count = $layer_count;
const resnet8_case resnet8_layers[] = {
$layers};
const int32_t resnet8_edge_count = $edge_count;
const resnet8_case resnet8_edges[] = {
$edges};
const resnet8_scale_table resnet8_products = $products;
const resnet8_sum_table resnet8_sums = $sums;
