/*
 * $model, quantized, in integers.
 *
 * image:  32 rows of 32 pixels of 3 bytes, red, green, blue, each 0 to 255 as in the picture: rows from the top, pixels
 *         from the left (height, width, channel; the channel varies fastest).
 * logits: a score for each class, in codes: real score = $scale * (code - ($zero_point)). The greatest is the class:
 *         $class_names.
 *
 * One prediction at a time: the buffers are static.
 */
#ifndef RESNET8_H
#define RESNET8_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void resnet8_predict(const uint8_t image[$pixels], $logit logits[$classes]);

#ifdef __cplusplus
}
#endif

#endif
