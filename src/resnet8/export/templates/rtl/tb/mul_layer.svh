// A product with a constant of each channel, or a rescale: a resnet8_mul for each lane of a word.

    logic [7:0] x[0:POSITIONS*Y_CHANNELS-1];
    logic [8*WORD-1:0] stream[0:POSITIONS*Y_GROUPS-1];
    logic [7:0] factor[0:Y_CHANNELS-1];
    logic [31:0] multiplier[0:Y_CHANNELS-1];

    logic [8*WORD-1:0] word = 0;
    wire [8*WORD-1:0] word_y;
    wire [ACCUMULATOR_WIDTH*WORD-1:0] accumulators;
    // What each lane reads besides.
    logic [32*WORD-1:0] multipliers = 0;
    logic [8*WORD-1:0] shifts = 0;
    logic [8*WORD-1:0] factors = 0;

    genvar unit_number;
    generate
        for (unit_number = 0; unit_number < WORD; unit_number = unit_number + 1) begin : lanes
            resnet8_mul #(
                .X_SIGNED(X_SIGNED),
                .X_ZERO_POINT(X_ZERO_POINT),
                .FACTOR_SIGNED(FACTOR_SIGNED),
                .FACTOR_ZERO_POINT(FACTOR_ZERO_POINT),
                .ACCUMULATOR_WIDTH(ACCUMULATOR_WIDTH),
                .MULTIPLIER_WIDTH(MULTIPLIER_WIDTH),
                .SHIFT_WIDTH(SHIFT_WIDTH),
                .NUMERATOR_WIDTH(NUMERATOR_WIDTH),
                .SCALED_WIDTH(SCALED_WIDTH),
                .ROUNDING(ROUNDING),
                .Y_ZERO_POINT(Y_ZERO_POINT),
                .Y_LOWEST(Y_LOWEST),
                .Y_HIGHEST(Y_HIGHEST)
            ) unit (
                .x(word[8*unit_number+:8]),
                .factor(factors[8*unit_number+:8]),
                .multiplier(MULTIPLIER_WIDTH'(multipliers[32*unit_number+:32])),
                .shift(SHIFT_WIDTH'(shifts[8*unit_number+:8])),
                .accumulator(accumulators[ACCUMULATOR_WIDTH*unit_number+:ACCUMULATOR_WIDTH]),
                .y(word_y[8*unit_number+:8])
            );
        end
    endgenerate

    function automatic [8*WORD-1:0] gathered(input integer position, input integer of_group);
        integer lane;
        integer channel;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            channel = of_group * WORD + lane;
            gathered[8*lane+:8] = channel < Y_CHANNELS ? x[position*Y_CHANNELS+channel] : 8'(X_ZERO_POINT);
        end
    endfunction

    task automatic load;
        begin
            load_golden;
            $readmemh({FOLDER, "/x.hex"}, x);
            $readmemh({FOLDER, "/x_stream.hex"}, stream);
            $readmemh({FOLDER, "/factor.hex"}, factor);
            $readmemh({FOLDER, "/multiplier.hex"}, multiplier);
        end
    endtask

    // The files with one value a line and the parameters give the words of the packed files.
    task automatic compare_words;
        integer place;
        reg [8*WORD-1:0] expected_;
        for (place = 0; place < POSITIONS * Y_GROUPS; place = place + 1)
            if (taken(place / Y_GROUPS)) begin
                compared = compared + 1;
                expected_ = gathered(place / Y_GROUPS, place % Y_GROUPS);
                if (expected_ !== stream[place]) differs_word("x_stream", place, stream[place], expected_);
            end
    endtask

    // The words of the streams, from what was written before.
    task automatic gather;
        integer place;
        for (place = 0; place < POSITIONS * Y_GROUPS; place = place + 1) begin
            stream[place] = gathered(place / Y_GROUPS, place % Y_GROUPS);
        end
    endtask

    // The lanes take the numbers of their channels; one of the padding those of another, and nobody reads what it writes.
    task automatic choose(input integer of_group);
        integer lane;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            multipliers[32*lane+:32] = multiplier[(of_group*WORD+lane)%Y_CHANNELS];
            shifts[8*lane+:8] = shift[(of_group*WORD+lane)%Y_CHANNELS];
            factors[8*lane+:8] = factor[(of_group*WORD+lane)%Y_CHANNELS];
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
                    word = stream[position*Y_GROUPS+group];
                    #1;
                    for (lane = 0; lane < WORD; lane = lane + 1)
                        if (group * WORD + lane < Y_CHANNELS) begin
                            y[position*Y_CHANNELS+group*WORD+lane] = word_y[8*lane+:8];
                            sums[position*Y_CHANNELS+group*WORD+lane] =
                                32'($signed(accumulators[ACCUMULATOR_WIDTH*lane+:ACCUMULATOR_WIDTH]));
                        end
                end
    endtask
