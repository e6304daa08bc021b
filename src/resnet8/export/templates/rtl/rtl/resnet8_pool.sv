// Average pool, one channel: a code a clock, accumulated, then requantized; the count is in the multiplier.
//
// «first», «last», «enable» and «done» as of resnet8_pe.
module resnet8_pool #(
    parameter int X_SIGNED = 1,
    parameter int X_ZERO_POINT = 0,
    parameter int ACCUMULATOR_WIDTH = 16,
    parameter int MULTIPLIER_WIDTH = 31,
    parameter int SHIFT_WIDTH = 6,
    parameter int NUMERATOR_WIDTH = 47,
    parameter int SCALED_WIDTH = 16,
    parameter int ROUNDING = 0,
    parameter int Y_ZERO_POINT = 0,
    parameter int Y_LOWEST = -128,
    parameter int Y_HIGHEST = 127
) (
    input  logic                                clk,
    input  logic                                reset,
    input  logic                                enable,
    input  logic                                first,
    input  logic                                last,
    input  logic        [7:0]                   x,
    input  logic        [MULTIPLIER_WIDTH-1:0]  multiplier,
    input  logic        [SHIFT_WIDTH-1:0]       shift,
    output logic                                done,
    output logic signed [ACCUMULATOR_WIDTH-1:0] accumulator,
    output logic        [7:0]                   y
);
    localparam logic X_SIGN = X_SIGNED != 0;
    localparam logic signed [8:0] X_ZERO = 9'(X_ZERO_POINT);

    wire signed [8:0] dx = $signed({X_SIGN & x[7], x}) - X_ZERO;
    logic signed [ACCUMULATOR_WIDTH-1:0] sum;
    wire signed [ACCUMULATOR_WIDTH-1:0] next =
        (first ? {ACCUMULATOR_WIDTH{1'b0}} : sum) + ACCUMULATOR_WIDTH'(dx);

    always_ff @(posedge clk) begin
        done <= enable & last & ~reset;
        if (enable) begin
            sum <= next;
            if (last) accumulator <= next;
        end
    end

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
