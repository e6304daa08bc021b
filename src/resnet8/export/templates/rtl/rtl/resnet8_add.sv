// The sum of two codes, each on its own grid: two products, one shift, one rounding. Combinational.
module resnet8_add #(
    parameter int A_SIGNED = 1,
    parameter int A_ZERO_POINT = 0,
    parameter int B_SIGNED = 1,
    parameter int B_ZERO_POINT = 0,
    parameter int MULTIPLIER_WIDTH = 31,  // of both
    parameter int SHIFT_WIDTH = 6,
    parameter int NUMERATOR_WIDTH = 41,
    parameter int SCALED_WIDTH = 12,
    parameter int ROUNDING = 0,
    parameter int Y_ZERO_POINT = 0,
    parameter int Y_LOWEST = -128,
    parameter int Y_HIGHEST = 127
) (
    input  logic [7:0]                  a,
    input  logic [7:0]                  b,
    input  logic [MULTIPLIER_WIDTH-1:0] multiplier_a,
    input  logic [MULTIPLIER_WIDTH-1:0] multiplier_b,
    input  logic [SHIFT_WIDTH-1:0]      shift,
    output logic [7:0]                  y
);
    localparam logic A_SIGN = A_SIGNED != 0;
    localparam logic B_SIGN = B_SIGNED != 0;
    localparam logic signed [8:0] A_ZERO = 9'(A_ZERO_POINT);
    localparam logic signed [8:0] B_ZERO = 9'(B_ZERO_POINT);

    wire signed [8:0] da = $signed({A_SIGN & a[7], a}) - A_ZERO;
    wire signed [8:0] db = $signed({B_SIGN & b[7], b}) - B_ZERO;
    wire signed [NUMERATOR_WIDTH-1:0] numerator =
        NUMERATOR_WIDTH'(da) * NUMERATOR_WIDTH'($signed({1'b0, multiplier_a})) +
        NUMERATOR_WIDTH'(db) * NUMERATOR_WIDTH'($signed({1'b0, multiplier_b}));

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
