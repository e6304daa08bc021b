// The average over the whole map: a resnet8_pool for each lane of a word, one group of channels after the other.

    localparam int COUNT = X_ROWS * X_COLUMNS;

    logic [7:0] x[0:IMAGES*COUNT*X_CHANNELS-1];
    logic [8*WORD-1:0] stream[0:IMAGES*Y_GROUPS*COUNT-1];
    logic [31:0] multiplier[0:Y_CHANNELS-1];

    logic clk = 0;
    logic reset = 0;
    logic enable = 0;
    logic first = 0;
    logic last = 0;
    logic [8*WORD-1:0] word = 0;
    wire [WORD-1:0] done;
    wire [8*WORD-1:0] word_y;
    wire [ACCUMULATOR_WIDTH*WORD-1:0] accumulators;
    // What each lane reads besides.
    logic [32*WORD-1:0] multipliers = 0;
    logic [8*WORD-1:0] shifts = 0;

    genvar unit_number;
    generate
        for (unit_number = 0; unit_number < WORD; unit_number = unit_number + 1) begin : lanes
            resnet8_pool #(
                .X_SIGNED(X_SIGNED),
                .X_ZERO_POINT(X_ZERO_POINT),
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
                .clk(clk),
                .reset(reset),
                .enable(enable),
                .first(first),
                .last(last),
                .x(word[8*unit_number+:8]),
                .multiplier(MULTIPLIER_WIDTH'(multipliers[32*unit_number+:32])),
                .shift(SHIFT_WIDTH'(shifts[8*unit_number+:8])),
                .done(done[unit_number]),
                .accumulator(accumulators[ACCUMULATOR_WIDTH*unit_number+:ACCUMULATOR_WIDTH]),
                .y(word_y[8*unit_number+:8])
            );
        end
    endgenerate

    // Word «number_» of the stream: image, group of channels, row, column.
    function automatic [8*WORD-1:0] gathered(input integer number_);
        integer lane;
        integer channel;
        integer image;
        begin
            image = number_ / (Y_GROUPS * COUNT);
            for (lane = 0; lane < WORD; lane = lane + 1) begin
                channel = (number_ / COUNT) % Y_GROUPS * WORD + lane;
                gathered[8*lane+:8] = channel < X_CHANNELS
                    ? x[(image*COUNT+number_%COUNT)*X_CHANNELS+channel] : 8'(X_ZERO_POINT);
            end
        end
    endfunction

    task automatic load;
        begin
            load_golden;
            $readmemh({FOLDER, "/x.hex"}, x);
            $readmemh({FOLDER, "/x_stream.hex"}, stream);
            $readmemh({FOLDER, "/multiplier.hex"}, multiplier);
        end
    endtask

    // The file with one value a line and the parameters give the words of the packed file; always the whole map.
    task automatic compare_words;
        integer place;
        reg [8*WORD-1:0] expected_;
        for (place = 0; place < IMAGES * Y_GROUPS * COUNT; place = place + 1) begin
            compared = compared + 1;
            expected_ = gathered(place);
            if (expected_ !== stream[place]) differs_word("x_stream", place, stream[place], expected_);
        end
    endtask

    // The words of the stream, from what is in x now.
    task automatic gather;
        integer place;
        for (place = 0; place < IMAGES * Y_GROUPS * COUNT; place = place + 1) stream[place] = gathered(place);
    endtask

    // The lanes take the numbers of their channels; one of the padding those of another, and nobody reads what it writes.
    task automatic choose(input integer of_group);
        integer lane;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            multipliers[32*lane+:32] = multiplier[(of_group*WORD+lane)%Y_CHANNELS];
            shifts[8*lane+:8] = shift[(of_group*WORD+lane)%Y_CHANNELS];
        end
    endtask

    // All averages. After each a word comes that does not count.
    task automatic run;
        integer image;
        integer index;
        integer lane;
        integer group;
        begin
            reset = 1;
            #1 clk = 1;
            #1 clk = 0;
            reset = 0;
            for (image = 0; image < IMAGES; image = image + 1)
                for (group = 0; group < Y_GROUPS; group = group + 1) begin
                    choose(group);
                    for (index = 0; index <= COUNT; index = index + 1) begin
                        enable = index < COUNT;
                        first = index == 0;
                        last = index >= COUNT - 1;
                        word = enable ? stream[(image*Y_GROUPS+group)*COUNT+index] : ~word;
                        #1 clk = 1;
                        #1 clk = 0;
                        compared = compared + 1;
                        if (done !== {WORD{index == COUNT - 1}})
                            differs("done", image * Y_GROUPS + group, 32'(done[0]), 32'(index == COUNT - 1));
                    end
                    for (lane = 0; lane < WORD; lane = lane + 1)
                        if (group * WORD + lane < Y_CHANNELS) begin
                            y[image*Y_CHANNELS+group*WORD+lane] = word_y[8*lane+:8];
                            sums[image*Y_CHANNELS+group*WORD+lane] =
                                32'($signed(accumulators[ACCUMULATOR_WIDTH*lane+:ACCUMULATOR_WIDTH]));
                        end
                end
        end
    endtask
