// A convolution or dense layer: PES units resnet8_pe, each of an output channel, fed with the same words of the input;
// then those of the next channels.

    localparam int PES = Y_CHANNELS < 8 ? Y_CHANNELS : 8;

    logic [7:0] x[0:IMAGES*X_ROWS*X_COLUMNS*X_CHANNELS-1];
    logic [8*WORD-1:0] stream[0:POSITIONS*WORDS-1];
    logic [8*WORD-1:0] weights_packed[0:Y_CHANNELS*WORDS-1];
    logic [7:0] weights[0:Y_CHANNELS*K_ROWS*K_COLUMNS*X_CHANNELS-1];
    logic [7:0] weights_zero_point[0:Y_CHANNELS-1];
    logic [31:0] bias[0:Y_CHANNELS-1];
    logic [31:0] multiplier[0:Y_CHANNELS-1];

    logic clk = 0;
    logic reset = 0;
    logic enable = 0;
    logic first = 0;
    logic last = 0;
    logic [8*WORD-1:0] word = 0;
    logic [8*WORD*PES-1:0] words_w = 0;  // what each unit reads besides
    logic [8*PES-1:0] zero_points = 0;
    logic [32*PES-1:0] biases = 0;
    logic [32*PES-1:0] multipliers = 0;
    logic [8*PES-1:0] shifts = 0;
    wire [PES-1:0] done;
    wire [8*PES-1:0] codes;
    wire [ACCUMULATOR_WIDTH*PES-1:0] accumulators;
    logic [8*PES-1:0] codes_seen = 0;
    logic [ACCUMULATOR_WIDTH*PES-1:0] sums_seen = 0;

    always @(negedge clk)
        if (&done) begin
            codes_seen <= codes;
            sums_seen <= accumulators;
        end

    genvar pe;
    generate
        for (pe = 0; pe < PES; pe = pe + 1) begin : units
            resnet8_pe #(
                .LANES(WORD),
                .X_SIGNED(X_SIGNED),
                .X_ZERO_POINT(X_ZERO_POINT),
                .W_SIGNED(W_SIGNED),
                .PRODUCT_WIDTH(PRODUCT_WIDTH),
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
                .x(word),
                .w(words_w[8*WORD*pe+:8*WORD]),
                .w_zero_point(zero_points[8*pe+:8]),
                .bias(ACCUMULATOR_WIDTH'(biases[32*pe+:32])),
                .multiplier(MULTIPLIER_WIDTH'(multipliers[32*pe+:32])),
                .shift(SHIFT_WIDTH'(shifts[8*pe+:8])),
                .done(done[pe]),
                .accumulator(accumulators[ACCUMULATOR_WIDTH*pe+:ACCUMULATOR_WIDTH]),
                .y(codes[8*pe+:8])
            );
        end
    endgenerate

    // Word «number» of the sum at an output position, from the codes of the map; its border has the zero point.
    function automatic [8*WORD-1:0] gathered(input integer position, input integer number_);
        integer image;
        integer row;
        integer column;
        integer channel;
        integer lane;
        begin
            image = position / (Y_ROWS * Y_COLUMNS);
            row = (position / Y_COLUMNS) % Y_ROWS * STRIDE_ROWS - PAD_TOP + number_ / (K_COLUMNS * X_GROUPS);
            column = position % Y_COLUMNS * STRIDE_COLUMNS - PAD_LEFT + (number_ / X_GROUPS) % K_COLUMNS;
            for (lane = 0; lane < WORD; lane = lane + 1) begin
                channel = number_ % X_GROUPS * WORD + lane;
                if (row >= 0 && row < X_ROWS && column >= 0 && column < X_COLUMNS && channel < X_CHANNELS)
                    gathered[8*lane+:8] = x[((image*X_ROWS+row)*X_COLUMNS+column)*X_CHANNELS+channel];
                else gathered[8*lane+:8] = 8'(X_ZERO_POINT);
            end
        end
    endfunction

    // The same of the weights of an output channel, whose padding has their zero point.
    function automatic [8*WORD-1:0] gathered_weights(input integer of_channel, input integer number_);
        integer channel;
        integer lane;
        for (lane = 0; lane < WORD; lane = lane + 1) begin
            channel = number_ % X_GROUPS * WORD + lane;
            gathered_weights[8*lane+:8] = channel < X_CHANNELS
                ? weights[(of_channel*K_ROWS*K_COLUMNS+number_/X_GROUPS)*X_CHANNELS+channel]
                : weights_zero_point[of_channel];
        end
    endfunction

    task automatic load;
        begin
            load_golden;
            $readmemh({FOLDER, "/x.hex"}, x);
            $readmemh({FOLDER, "/x_stream.hex"}, stream);
            $readmemh({FOLDER, "/weights.hex"}, weights);
            $readmemh({FOLDER, "/weights_packed.hex"}, weights_packed);
            $readmemh({FOLDER, "/weights_zero_point.hex"}, weights_zero_point);
            $readmemh({FOLDER, "/bias.hex"}, bias);
            $readmemh({FOLDER, "/multiplier.hex"}, multiplier);
        end
    endtask

    // The files with one value a line and the parameters give the words of the packed files.
    task automatic compare_words;
        integer place;
        reg [8*WORD-1:0] expected_;
        begin
            for (place = 0; place < POSITIONS * WORDS; place = place + 1)
                if (taken(place / WORDS)) begin
                    compared = compared + 1;
                    expected_ = gathered(place / WORDS, place % WORDS);
                    if (expected_ !== stream[place]) differs_word("x_stream", place, stream[place], expected_);
                end
            for (place = 0; place < Y_CHANNELS * WORDS; place = place + 1) begin
                compared = compared + 1;
                expected_ = gathered_weights(place / WORDS, place % WORDS);
                if (expected_ !== weights_packed[place])
                    differs_word("weights_packed", place, weights_packed[place], expected_);
            end
        end
    endtask

    // The words of the stream, from what is in x now.
    task automatic gather;
        integer place;
        for (place = 0; place < POSITIONS * WORDS; place = place + 1)
            stream[place] = gathered(place / WORDS, place % WORDS);
    endtask

    // All sums of the rows that are taken. After each a word comes that does not count.
    task automatic run;
        integer position;
        integer step;
        integer base;
        integer unit_;
        begin
            reset = 1;
            #1 clk = 1;
            #1 clk = 0;
            reset = 0;
            for (position = 0; position < POSITIONS; position = position + 1)
                if (taken(position))
                    for (base = 0; base < Y_CHANNELS; base = base + PES) begin
                        for (unit_ = 0; unit_ < PES; unit_ = unit_ + 1) begin
                            // Behind the last channel come the first ones again: nobody reads what they write.
                            zero_points[8*unit_+:8] = weights_zero_point[(base+unit_)%Y_CHANNELS];
                            biases[32*unit_+:32] = bias[(base+unit_)%Y_CHANNELS];
                            multipliers[32*unit_+:32] = multiplier[(base+unit_)%Y_CHANNELS];
                            shifts[8*unit_+:8] = shift[(base+unit_)%Y_CHANNELS];
                        end
                        for (step = 0; step <= WORDS; step = step + 1) begin
                            enable = step < WORDS;
                            first = step == 0;
                            last = step >= WORDS - 1;
                            for (unit_ = 0; unit_ < PES; unit_ = unit_ + 1)
                                words_w[8*WORD*unit_+:8*WORD] =
                                    weights_packed[(base+unit_)%Y_CHANNELS*WORDS+step%WORDS];
                            word = enable ? stream[position*WORDS+step] : ~word;
                            #1 clk = 1;
                            #1 clk = 0;
                            compared = compared + 1;
                            if (done !== {PES{step == WORDS - 1}})
                                differs("done", position, 32'(done[0]), 32'(step == WORDS - 1));
                        end
                        for (unit_ = 0; unit_ < PES; unit_ = unit_ + 1)
                            if (base + unit_ < Y_CHANNELS) begin
                                y[position*Y_CHANNELS+base+unit_] = codes_seen[8*unit_+:8];
                                sums[position*Y_CHANNELS+base+unit_] =
                                    32'($signed(sums_seen[ACCUMULATOR_WIDTH*unit_+:ACCUMULATOR_WIDTH]));
                            end
                    end
        end
    endtask
