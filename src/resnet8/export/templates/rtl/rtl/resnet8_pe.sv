// Convolution and dense layer, one output channel: LANES products a clock, accumulated on the bias, then requantized.
//
// A sum is one word or more: «first» goes with its first word, «last» with its last; words with «enable» 0 do not count.
// In the clock after the last word «done» is 1, and accumulator and y hold until the next sum ends.
module resnet8_pe #(
    parameter int LANES = 4,
    parameter int X_SIGNED = 1,
    parameter int X_ZERO_POINT = 0,
    parameter int W_SIGNED = 1,
    parameter int PRODUCT_WIDTH = 17,
    parameter int ACCUMULATOR_WIDTH = 24,
    parameter int MULTIPLIER_WIDTH = 31,
    parameter int SHIFT_WIDTH = 6,
    parameter int NUMERATOR_WIDTH = 55,
    parameter int SCALED_WIDTH = 24,
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
    input  logic        [8*LANES-1:0]           x,             // lane 0 in the lowest byte
    input  logic        [8*LANES-1:0]           w,
    input  logic        [7:0]                   w_zero_point,  // of this output channel
    input  logic signed [ACCUMULATOR_WIDTH-1:0] bias,
    input  logic        [MULTIPLIER_WIDTH-1:0]  multiplier,
    input  logic        [SHIFT_WIDTH-1:0]       shift,
    output logic                                done,
    output logic signed [ACCUMULATOR_WIDTH-1:0] accumulator,
    output logic        [7:0]                   y
);
    localparam logic X_SIGN = X_SIGNED != 0;
    localparam logic W_SIGN = W_SIGNED != 0;
    localparam logic signed [8:0] X_ZERO = 9'(X_ZERO_POINT);

    // The sum of this word's products. It may wrap on the way: the final sum fits, so it is right in the end.
    function automatic signed [ACCUMULATOR_WIDTH-1:0] dot(
        input [8*LANES-1:0] xs,
        input [8*LANES-1:0] ws,
        input [7:0] zero
    );
        integer lane;
        reg signed [8:0] dx;
        reg signed [8:0] dw;
        reg signed [PRODUCT_WIDTH-1:0] product;
        begin
            dot = {ACCUMULATOR_WIDTH{1'b0}};
            for (lane = 0; lane < LANES; lane = lane + 1) begin
                dx = $signed({X_SIGN & xs[8*lane+7], xs[8*lane+:8]}) - X_ZERO;
                dw = $signed({W_SIGN & ws[8*lane+7], ws[8*lane+:8]}) - $signed({W_SIGN & zero[7], zero});
                product = PRODUCT_WIDTH'(dx) * PRODUCT_WIDTH'(dw);
                dot = dot + ACCUMULATOR_WIDTH'(product);
            end
        end
    endfunction

    logic signed [ACCUMULATOR_WIDTH-1:0] sum;
    wire signed [ACCUMULATOR_WIDTH-1:0] next = (first ? bias : sum) + dot(x, w, w_zero_point);

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
