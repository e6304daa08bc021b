/* What the check needs from where it runs. */
#ifndef RESNET8_BOARD_H
#define RESNET8_BOARD_H

#include <stdint.h>

void board_say(const char *text);

/* Begin to count instructions, and paint the stack that is not used. */
void board_begin(void);

/* Instructions since then, and the bytes of stack that were used; 0 where they are not known. */
void board_end(uint32_t *instructions, uint32_t *stack);

#endif
