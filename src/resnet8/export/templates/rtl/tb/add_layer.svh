// A sum of two activations, or of one and a constant of each channel: a resnet8_add for each lane of a word.

    localparam int B_SIZE = B_CONSTANT != 0 ? Y_CHANNELS : POSITIONS * Y_CHANNELS;

    logic [7:0] a[0:POSITIONS*Y_CHANNELS-1];
    logic [7:0] b[0:B_SIZE-1];
    logic [8*WORD-1:0] a_stream[0:POSITIONS*Y_GROUPS-1];
    logic [8*WORD-1:0] b_stream[0:POSITIONS*Y_GROUPS-1];
    logic [31:0] multiplier_a[0:Y_CHANNELS-1];
    logic [31:0] multiplier_b[0:Y_CHANNELS-1];

    logic [8*WORD-1:0] word_a = 0;
    logic [8*WORD-1:0] word_b = 0;
    wire [8*WORD-1:0] word_y;
    // What each lane reads besides.
    logic [32*WORD-1:0] multiplier_as = 0;
    logic [32*WORD-1:0] multiplier_bs = 0;
    logic [8*WORD-1:0] shifts = 0;

    genvar unit_number;
    generate
        for (unit_number = 0; unit_number < WORD; unit_number = unit_number + 1) begin : lanes
            resnet8_add #(
                .A_SIGNED(A_SIGNED),
                .A_ZERO_POINT(A_ZERO_POINT),
                .B_SIGNED(B_SIGNED),
                .B_ZERO_POINT(B_ZERO_POINT),
                .MULTIPLIER_WIDTH(MULTIPLIER_WIDTH),
                .SHIFT_WIDTH(SHIFT_WIDTH),
                .NUMERATOR_WIDTH(NUMERATOR_WIDTH),
                .SCALED_WIDTH(SCALED_WIDTH),
                .ROUNDING(ROUNDING),
                .Y_ZERO_POINT(Y_ZERO_POINT),
                .Y_LOWEST(Y_LOWEST),
                .Y_HIGHEST(Y_HIGHEST)
            ) unit (
                .a(word_a[8*unit_number+:8]),
                .b(word_b[8*unit_number+:8]),
                .multiplier_a(MULTIPLIER_WIDTH'(multiplier_as[32*unit_number+:32])),
                .multiplier_b(MULTIPLIER_WIDTH'(multiplier_bs[32*unit_number+:32])),
                .shift(SHIFT_WIDTH'(shifts[8*unit_number+:8])),
                .y(word_y[8*unit_number+:8])
            );
        end
    endgenerate

    function automatic [8*WORD-1:0] gathered_a(input integer position, input integer of_group);
        integer lane;
        integer channel;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            channel = of_group * WORD + lane;
            gathered_a[8*lane+:8] = channel < Y_CHANNELS ? a[position*Y_CHANNELS+channel] : 8'(A_ZERO_POINT);
        end
    endfunction

    function automatic [8*WORD-1:0] gathered_b(input integer position, input integer of_group);
        integer lane;
        integer channel;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            channel = of_group * WORD + lane;
            gathered_b[8*lane+:8] = channel >= Y_CHANNELS ? 8'(B_ZERO_POINT)
                : B_CONSTANT != 0 ? b[channel] : b[position*Y_CHANNELS+channel];
        end
    endfunction

    task automatic load;
        begin
            load_golden;
            $readmemh({FOLDER, "/a.hex"}, a);
            $readmemh({FOLDER, "/b.hex"}, b);
            $readmemh({FOLDER, "/a_stream.hex"}, a_stream);
            $readmemh({FOLDER, "/b_stream.hex"}, b_stream);
            $readmemh({FOLDER, "/multiplier_a.hex"}, multiplier_a);
            $readmemh({FOLDER, "/multiplier_b.hex"}, multiplier_b);
        end
    endtask

    // The files with one value a line and the parameters give the words of the packed files.
    task automatic compare_words;
        integer place;
        reg [8*WORD-1:0] expected_;
        for (place = 0; place < POSITIONS * Y_GROUPS; place = place + 1)
            if (taken(place / Y_GROUPS)) begin
                compared = compared + 2;
                expected_ = gathered_a(place / Y_GROUPS, place % Y_GROUPS);
                if (expected_ !== a_stream[place]) differs_word("a_stream", place, a_stream[place], expected_);
                expected_ = gathered_b(place / Y_GROUPS, place % Y_GROUPS);
                if (expected_ !== b_stream[place]) differs_word("b_stream", place, b_stream[place], expected_);
            end
    endtask

    // The words of the streams, from what was written before.
    task automatic gather;
        integer place;
        for (place = 0; place < POSITIONS * Y_GROUPS; place = place + 1) begin
            a_stream[place] = gathered_a(place / Y_GROUPS, place % Y_GROUPS);
            b_stream[place] = gathered_b(place / Y_GROUPS, place % Y_GROUPS);
        end
    endtask

    // The lanes take the numbers of their channels; one of the padding those of another, and nobody reads what it writes.
    task automatic choose(input integer of_group);
        integer lane;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            multiplier_as[32*lane+:32] = multiplier_a[(of_group*WORD+lane)%Y_CHANNELS];
            multiplier_bs[32*lane+:32] = multiplier_b[(of_group*WORD+lane)%Y_CHANNELS];
            shifts[8*lane+:8] = shift[(of_group*WORD+lane)%Y_CHANNELS];
        end
    endtask

    // All words of the rows that are taken.
    task automatic run;
        integer position;
        integer lane;
        integer group;
        for (position = 0; position < POSITIONS; position = position + 1)
            if (taken(position))
                for (group = 0; group < Y_GROUPS; group = group + 1) begin
                    choose(group);
                    word_a = a_stream[position*Y_GROUPS+group];
                    word_b = b_stream[position*Y_GROUPS+group];
                    #1;
                    for (lane = 0; lane < WORD; lane = lane + 1)
                        if (group * WORD + lane < Y_CHANNELS)
                            y[position*Y_CHANNELS+group*WORD+lane] = word_y[8*lane+:8];
                end
    endtask
