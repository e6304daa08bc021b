#include "parameters.h"

#include <stddef.h>

/* Codes of the 256 values of a pixel's channel. */
$pixels
$layers
