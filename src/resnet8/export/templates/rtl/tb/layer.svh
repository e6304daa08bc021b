// What every layer of the testbench has: its golden values, what it wrote, and the comparison of both.
// Included in the module of a layer, behind its parameters.

    localparam int POSITIONS = IMAGES * Y_ROWS * Y_COLUMNS;
    localparam int SHOWN = 10;  // differences that are printed for each layer; all are counted

    logic [7:0] y[0:POSITIONS*Y_CHANNELS-1];
    /* verilator lint_off UNDRIVEN */  // a sum of two tensors has none
    logic signed [31:0] sums[0:POSITIONS*Y_CHANNELS-1];
    /* verilator lint_on UNDRIVEN */
    logic [7:0] golden_y[0:POSITIONS*Y_CHANNELS-1];
    logic [31:0] golden_sums[0:POSITIONS*Y_CHANNELS-1];
    logic [8*WORD-1:0] golden_words[0:POSITIONS*Y_GROUPS-1];
    logic [7:0] shift[0:Y_CHANNELS-1];

    // What the top asks for (1: from the golden inputs, 2: from what the layers before have written); 0 when it is done.
    integer request = 0;
    integer rows = 0;  // how many of every map; 0 stands for all of them
    integer wrong = 0;
    integer compared = 0;

    // A process for each layer: a single one would be one huge function in Verilator.
    initial load;
    initial forever begin
        wait (request != 0);
        compared = 0;
        wrong = 0;
        if (request == 1) compare_words;
        else gather;
        run;
        compare;
        tell;
        request = 0;
    end

    // A code as a number.
    function automatic integer number(input [7:0] bits, input integer is_signed);
        number = $signed({{24{bits[7] && is_signed != 0}}, bits});
    endfunction

    // Whether a position belongs to the first «rows» rows of its map.
    function automatic logic taken(input integer position);
        taken = rows == 0 || (position / Y_COLUMNS) % Y_ROWS < rows;
    endfunction

    // The codes of a position and a group of channels that the layer wrote, as a word.
    function automatic [8*WORD-1:0] written(input integer position, input integer of_group);
        integer lane;
        integer channel;
        begin
            for (lane = 0; lane < WORD; lane = lane + 1) begin
                channel = of_group * WORD + lane;
                written[8*lane+:8] = channel < Y_CHANNELS ? y[position*Y_CHANNELS+channel] : 8'(Y_ZERO_POINT);
            end
        end
    endfunction

    task automatic load_golden;
        begin
            $readmemh({FOLDER, "/output.hex"}, golden_y);
            $readmemh({FOLDER, "/output_packed.hex"}, golden_words);
            $readmemh({FOLDER, "/shift.hex"}, shift);
            if (HAS_ACCUMULATOR != 0) $readmemh({FOLDER, "/accumulator.hex"}, golden_sums);
        end
    endtask

    // One difference more.
    task automatic differs(input string what, input integer index, input integer got, input integer expected);
        begin
            wrong = wrong + 1;
            if (wrong <= SHOWN)
                $display("%0s %0s[%0d]: got %0d, expected %0d", FOLDER, what, index, got, expected);
        end
    endtask

    task automatic differs_word(
        input string what, input integer index, input [8*WORD-1:0] got, input [8*WORD-1:0] expected
    );
        begin
            wrong = wrong + 1;
            if (wrong <= SHOWN) $display("%0s %0s[%0d]: got %h, expected %h", FOLDER, what, index, got, expected);
        end
    endtask

    // What the layer wrote, against its golden values.
    task automatic compare;
        integer place;
        reg [8*WORD-1:0] word_y_;
        begin
            for (place = 0; place < POSITIONS * Y_CHANNELS; place = place + 1)
                if (taken(place / Y_CHANNELS)) begin
                    if (HAS_ACCUMULATOR != 0) begin
                        compared = compared + 1;
                        if (sums[place] !== golden_sums[place])
                            differs("accumulator", place, sums[place], golden_sums[place]);
                    end
                    compared = compared + 1;
                    if (y[place] !== golden_y[place])
                        differs("output", place, number(y[place], Y_SIGNED), number(golden_y[place], Y_SIGNED));
                end
            for (place = 0; place < POSITIONS * Y_GROUPS; place = place + 1)
                if (taken(place / Y_GROUPS)) begin
                    compared = compared + 1;
                    word_y_ = written(place / Y_GROUPS, place % Y_GROUPS);
                    if (word_y_ !== golden_words[place])
                        differs_word("output_packed", place, word_y_, golden_words[place]);
                end
        end
    endtask

    // A line about what was compared.
    task automatic tell;
        if (request == 2) $display("%0s chained: %0d values, %0d wrong", FOLDER, compared, wrong);
        else if (rows == 0 || rows >= Y_ROWS) $display("%0s alone: %0d values, %0d wrong", FOLDER, compared, wrong);
        else
            $display("%0s alone, %0d of %0d rows: %0d values, %0d wrong", FOLDER, rows, Y_ROWS, compared, wrong);
    endtask
