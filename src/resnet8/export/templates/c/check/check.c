/* Predicts the golden images and compares every logit. Exit status: 0 when all agree, 1 when one differs. */
#include "board.h"
#include "images.h"
#include "resnet8.h"

static void say_number(const char *what, uint32_t number)
{
    char digits[11];
    int at = 10;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (char)(number % 10u));
        number /= 10u;
    } while (number != 0);
    board_say(what);
    board_say(" ");
    board_say(digits + at);
    board_say("\n");
}

int main(void)
{
    uint32_t wrong = 0, instructions = 0, stack = 0, most = 0;
    for (uint32_t image = 0; image < $images; image++) {
        $logit logits[$classes];
        uint32_t counted = 0, used = 0;
        board_begin();
        resnet8_predict(check_images + image * $pixels, logits);
        board_end(&counted, &used);
        most = counted > most ? counted : most;
        instructions = image == 0 ? counted : instructions;
        stack = used > stack ? used : stack;
        for (uint32_t i = 0; i < $classes; i++) {
            wrong += logits[i] != check_logits[image * $classes + i];
        }
    }
    say_number("images", $images);
    say_number("wrong logits", wrong);
    if (most != 0) {
        say_number("instructions of the first prediction", instructions);
        say_number("instructions at most", most);
        say_number("stack bytes", stack);
    }
    board_say(wrong == 0 ? "PASS\n" : "FAIL\n");
    return wrong != 0;
}
