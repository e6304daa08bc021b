// A code times a constant of its channel, requantized; with factor 1 and zero point 0 a rescale. Combinational.
module resnet8_mul #(
    parameter int X_SIGNED = 1,
    parameter int X_ZERO_POINT = 0,
    parameter int FACTOR_SIGNED = 1,
    parameter int FACTOR_ZERO_POINT = 0,
    parameter int ACCUMULATOR_WIDTH = 17,
    parameter int MULTIPLIER_WIDTH = 31,
    parameter int SHIFT_WIDTH = 6,
    parameter int NUMERATOR_WIDTH = 48,
    parameter int SCALED_WIDTH = 17,
    parameter int ROUNDING = 0,
    parameter int Y_ZERO_POINT = 0,
    parameter int Y_LOWEST = -128,
    parameter int Y_HIGHEST = 127
) (
    input  logic        [7:0]                   x,
    input  logic        [7:0]                   factor,
    input  logic        [MULTIPLIER_WIDTH-1:0]  multiplier,
    input  logic        [SHIFT_WIDTH-1:0]       shift,
    output logic signed [ACCUMULATOR_WIDTH-1:0] accumulator,
    output logic        [7:0]                   y
);
    localparam logic X_SIGN = X_SIGNED != 0;
    localparam logic FACTOR_SIGN = FACTOR_SIGNED != 0;
    localparam logic signed [8:0] X_ZERO = 9'(X_ZERO_POINT);
    localparam logic signed [8:0] FACTOR_ZERO = 9'(FACTOR_ZERO_POINT);

    wire signed [8:0] dx = $signed({X_SIGN & x[7], x}) - X_ZERO;
    wire signed [8:0] df = $signed({FACTOR_SIGN & factor[7], factor}) - FACTOR_ZERO;
    assign accumulator = ACCUMULATOR_WIDTH'(dx) * ACCUMULATOR_WIDTH'(df);

    wire signed [NUMERATOR_WIDTH-1:0] numerator =
        NUMERATOR_WIDTH'(accumulator) * NUMERATOR_WIDTH'($signed({1'b0, multiplier}));

    resnet8_requantize #(
        .ROUNDING(ROUNDING),
        .NUMERATOR_WIDTH(NUMERATOR_WIDTH),
        .SHIFT_WIDTH(SHIFT_WIDTH),
        .SCALED_WIDTH(SCALED_WIDTH),
        .ZERO_POINT(Y_ZERO_POINT),
        .LOWEST(Y_LOWEST),
        .HIGHEST(Y_HIGHEST)
    ) requantize (
        .numerator(numerator),
        .shift(shift),
        .code(y)
    );
endmodule
