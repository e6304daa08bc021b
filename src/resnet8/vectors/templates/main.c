/*
 * Runs every layer on its golden input, the whole network from image to logits, and the edge cases, and compares every
 * code and every accumulator. Exit status: 0 when all agree, 1 when anything differs.
 */
#include "vectors.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int32_t accumulators[RESNET8_LARGEST];
static uint8_t written[RESNET8_LARGEST];
static uint8_t activations[RESNET8_ACTIVATIONS];

static const uint8_t *image_of(const void *codes, const resnet8_tensor *tensor, int32_t image)
{
    return codes == NULL ? NULL : (const uint8_t *)codes + image * resnet8_size(tensor);
}

/* Codes are compared as bytes: both sides have the same type. */
static int32_t wrong_codes(const uint8_t *found, const uint8_t *expected, int32_t count)
{
    int32_t wrong = 0;
    for (int32_t i = 0; i < count; i++) {
        wrong += found[i] != expected[i];
    }
    return wrong;
}

static int32_t wrong_numbers(const int32_t *found, const int32_t *expected, int32_t count)
{
    int32_t wrong = 0;
    for (int32_t i = 0; i < count; i++) {
        wrong += found[i] != expected[i];
    }
    return wrong;
}

static int32_t report(const char *name, int32_t compared, int32_t wrong, int32_t wrong_accumulators)
{
    printf("  %-52s %9" PRId32 " codes %6" PRId32 " wrong", name, compared, wrong);
    if (wrong_accumulators >= 0) {
        printf(" %6" PRId32 " accumulators wrong", wrong_accumulators);
    }
    printf("%s\n", wrong > 0 || wrong_accumulators > 0 ? "   <-- MISMATCH" : "");
    return wrong > 0 || wrong_accumulators > 0;
}

static int32_t check_alone(const resnet8_case *one)
{
    const int32_t size = resnet8_size(&one->layer.output);
    int32_t wrong = 0, wrong_accumulators = one->accumulator == NULL ? -1 : 0;
    for (int32_t image = 0; image < one->images; image++) {
        const uint8_t *a = image_of(one->a, &one->layer.a, image);
        const uint8_t *b = image_of(one->b, &one->layer.b, image);
        resnet8_run(&one->layer, resnet8_chosen_rounding, a, b, accumulators, written);
        wrong += wrong_codes(written, image_of(one->output, &one->layer.output, image), size);
        if (one->accumulator != NULL) {
            wrong_accumulators += wrong_numbers(accumulators, one->accumulator + image * size, size);
        }
    }
    return report(one->name, one->images * size, wrong, wrong_accumulators);
}

static int32_t check_cases(const char *title, const resnet8_case *cases, int32_t count)
{
    int32_t failures = 0;
    printf("%s\n", title);
    for (int32_t i = 0; i < count; i++) {
        failures += check_alone(&cases[i]);
    }
    return failures;
}

static const void *source(int32_t from, int32_t image)
{
    return from == RESNET8_NETWORK_INPUT ? image_of(resnet8_input_codes, &resnet8_input, image)
                                         : activations + resnet8_layers[from].offset;
}

static void run_network(int32_t image, int32_t *wrong)
{
    for (int32_t i = 0; i < resnet8_layer_count; i++) {
        const resnet8_case *one = &resnet8_layers[i];
        uint8_t *output = activations + one->offset;
        resnet8_run(&one->layer, resnet8_chosen_rounding, source(one->a_from, image), source(one->b_from, image),
                    accumulators, output);
        wrong[i] += wrong_codes(output, image_of(one->output, &one->layer.output, image),
                                resnet8_size(&one->layer.output));
    }
}

static int32_t check_network(void)
{
    static int32_t wrong[$layers];
    const resnet8_case *last = &resnet8_layers[resnet8_logits_layer];
    const int32_t classes = resnet8_size(&last->layer.output);
    int32_t failures = 0, wrong_logits = 0;
    printf("whole network, from the codes of %" PRId32 " images\n", resnet8_images);
    for (int32_t image = 0; image < resnet8_images; image++) {
        run_network(image, wrong);
        wrong_logits += wrong_codes(activations + last->offset,
                                    image_of(resnet8_logits_codes, &last->layer.output, image), classes);
    }
    for (int32_t i = 0; i < resnet8_layer_count; i++) {
        const int32_t size = resnet8_size(&resnet8_layers[i].layer.output);
        failures += report(resnet8_layers[i].name, resnet8_images * size, wrong[i], -1);
    }
    return failures + report("logits", resnet8_images * classes, wrong_logits, -1);
}

static int32_t check_products(void)
{
    int32_t wrong = 0;
    for (int32_t rounding = 0; rounding < 4; rounding++) {
        for (int32_t i = 0; i < resnet8_products.count; i++) {
            wrong += resnet8_scale(resnet8_products.accumulator[i], resnet8_products.multiplier[i],
                                   resnet8_products.shift[i], (resnet8_rounding)rounding)
                     != resnet8_products.rounded[rounding * resnet8_products.count + i];
        }
    }
    return report("edge_products", 4 * resnet8_products.count, wrong, -1);
}

static int32_t check_sums(void)
{
    int32_t wrong = 0;
    for (int32_t rounding = 0; rounding < 4; rounding++) {
        for (int32_t i = 0; i < resnet8_sums.count; i++) {
            wrong += resnet8_scale_sum(resnet8_sums.a[i], resnet8_sums.multiplier_a[i], resnet8_sums.b[i],
                                       resnet8_sums.multiplier_b[i], resnet8_sums.shift[i],
                                       (resnet8_rounding)rounding)
                     != resnet8_sums.rounded[rounding * resnet8_sums.count + i];
        }
    }
    return report("edge_sums", 4 * resnet8_sums.count, wrong, -1);
}

int main(void)
{
    int32_t failures = check_cases("each layer, from its golden input", resnet8_layers, resnet8_layer_count);
    failures += check_network();
    failures += check_cases("edge cases", resnet8_edges, resnet8_edge_count);
    failures += check_products();
    failures += check_sums();
    if (failures > 0) {
        printf("FAIL: %" PRId32 " of the lines above\n", failures);
        return 1;
    }
    printf("PASS\n");
    return 0;
}
