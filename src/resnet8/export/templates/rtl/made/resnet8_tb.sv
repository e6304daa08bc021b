// Runs every layer from its golden inputs, then the network from the images to the class scores; compares every value.
//
//     +rows=N   only the first N rows of every map, from golden inputs only
module resnet8_tb;
    `include "network/network.svh"

    localparam int LOGITS = IMAGES * $logits_size;

    logic [7:0] network_input[0:IMAGES*$input_size-1];
    logic [7:0] logits[0:LOGITS-1];
    integer rows = 0;
    integer compared = 0;
    integer wrong = 0;
    integer i;

$instances

    task automatic count(input integer more, input integer more_wrong);
        begin
            compared = compared + more;
            wrong = wrong + more_wrong;
        end
    endtask

    initial begin
        if ($$value$$plusargs("rows=%d", rows) == 0) rows = 0;
        #1;  // the layers read their files
        $$readmemh("network/input.hex", network_input);
        $$readmemh("network/logits.hex", logits);
$alone
        if (rows == 0) begin
$chained
            for (i = 0; i < LOGITS; i = i + 1) begin
                compared = compared + 1;
                if ($logits.y[i] !== logits[i]) begin
                    wrong = wrong + 1;
                    $$display("network logits[%0d]: got %0d, expected %0d", i,
                              $logits.number($logits.y[i], $logits_signed), $logits.number(logits[i], $logits_signed));
                end
            end
        end
        if (wrong != 0) begin
            $$display("FAIL: %0d of %0d values are wrong", wrong, compared);
            $$fatal(1, "values are wrong");
        end
        $$display("PASS: %0d values", compared);
        $$finish;
    end
endmodule
