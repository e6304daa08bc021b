// A numerator becomes a code: shifted to the right, rounded, moved by the zero point, clamped. Combinational.
//
// With shift 0 nothing is dropped: guard and sticky are 0 then, so there is no case of its own.
module resnet8_requantize #(
    parameter int ROUNDING = 0,          // 0 half-even, 1 half-away, 2 half-up, 3 truncate
    parameter int NUMERATOR_WIDTH = 53,
    parameter int SHIFT_WIDTH = 6,
    parameter int SCALED_WIDTH = 24,     // of the rounded quotient; at most NUMERATOR_WIDTH
    parameter int ZERO_POINT = 0,
    parameter int LOWEST = -128,
    parameter int HIGHEST = 127
) (
    input  logic signed [NUMERATOR_WIDTH-1:0] numerator,
    input  logic        [SHIFT_WIDTH-1:0]     shift,
    output logic        [7:0]                 code
);
    localparam int SUM_WIDTH = (SCALED_WIDTH > 9 ? SCALED_WIDTH : 9) + 1;
    localparam logic signed [SUM_WIDTH-1:0] ZERO = SUM_WIDTH'(ZERO_POINT);
    localparam logic signed [SUM_WIDTH-1:0] LOW = SUM_WIDTH'(LOWEST);
    localparam logic signed [SUM_WIDTH-1:0] HIGH = SUM_WIDTH'(HIGHEST);

    // One bit more than the numerator: what is kept ends in the first dropped bit.
    wire signed [NUMERATOR_WIDTH:0] doubled = {numerator, 1'b0};
    // The bits above SCALED_WIDTH repeat the sign, whatever the layer reads.
    /* verilator lint_off UNUSED */
    wire signed [NUMERATOR_WIDTH:0] kept = doubled >>> shift;
    /* verilator lint_on UNUSED */
    wire [NUMERATOR_WIDTH:0] behind = doubled & ~({(NUMERATOR_WIDTH + 1) {1'b1}} << shift);

    wire guard = kept[0];
    wire sticky = |behind;
    wire odd = kept[1];
    wire negative = numerator[NUMERATOR_WIDTH-1];
    wire up = ROUNDING == 0 ? guard & (sticky | odd)
            : ROUNDING == 1 ? guard & (sticky | ~negative)
            : ROUNDING == 2 ? guard
            : 1'b0;

    wire signed [SCALED_WIDTH-1:0] quotient = kept[SCALED_WIDTH:1];
    wire signed [SUM_WIDTH-1:0] moved = SUM_WIDTH'(quotient) + $signed({{(SUM_WIDTH - 1) {1'b0}}, up}) + ZERO;
    assign code = moved < LOW ? LOW[7:0] : moved > HIGH ? HIGH[7:0] : moved[7:0];

    // These say nothing that the parameters do not say, but lint wants every signal used.
    /* verilator lint_off UNUSED */
    wire unused = &{1'b0, sticky, odd, negative, guard};
    /* verilator lint_on UNUSED */
endmodule
