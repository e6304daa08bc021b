#include "resnet8.h"

#include <stddef.h>

#include "resnet8_kernels.h"

/* Two windows as columns; and the codes of the layers, of which $live bytes are needed at once. */
static struct {
    resnet8_column columns[RESNET8_COLUMNS];
    int8_t codes[RESNET8_ACTIVATIONS];
} memory;

void resnet8_predict(const uint8_t image[$pixels], $logit logits[$classes])
{
    int8_t *const codes = memory.codes;
    resnet8_take(image, codes + $image);
$steps
    for (int i = 0; i < $classes; i++) {
        logits[i] = ($logit)(codes[$at + i]$shifted);
    }
}
