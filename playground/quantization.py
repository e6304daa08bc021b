# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The playground: look inside the quantized network, and change it. Views only; the package does the work."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="resnet8 playground")

with app.setup:
    from functools import partial
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from resnet8 import words
    from resnet8.execute import real as float32
    from resnet8.numeric.grid import limits
    from resnet8.numeric.variants import ROUNDINGS
    from resnet8.playground import page, plots, sources
    from resnet8.playground.activations import capture, capture_real, noise, sensitivity
    from resnet8.playground.catalogue import evaluations, first, float_behind, models
    from resnet8.playground.change import BITS, FIELDS, added, apply, entered
    from resnet8.playground.compare import compare
    from resnet8.playground.drawing import around, box_key, drawing
    from resnet8.playground.images import image, of_class
    from resnet8.playground.save import equivalent, save
    from resnet8.playground.weights import across, use, weights
    from resnet8.words import kilobytes, percent


@app.cell(hide_code=True)
def _():
    get_folder, set_folder = mo.state(str(sources.default_folder()))
    get_layer, set_layer = mo.state(("", 0))  # what was clicked in the drawing, and a count: a click is always news
    get_changes, set_changes = mo.state((None, (), None))  # of which model, what, and what came of it
    get_said, set_said = mo.state((None, None))  # of which model, and what is wrong with the change
    get_noise, set_noise = mo.state(None)
    get_sensitivity, set_sensitivity = mo.state(None)
    get_flips, set_flips = mo.state(None)
    get_job, set_job = mo.state((None, ""))  # of which model, and why there is no noise; no flips
    get_flips_job, set_flips_job = mo.state((None, ""))
    memory = {}  # what was chosen last: another model opens at the same layer
    return (
        get_changes,
        get_flips,
        get_flips_job,
        get_folder,
        get_job,
        get_layer,
        get_noise,
        get_said,
        get_sensitivity,
        memory,
        set_changes,
        set_flips,
        set_flips_job,
        set_folder,
        set_job,
        set_layer,
        set_noise,
        set_said,
        set_sensitivity,
    )


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Inside the quantized ResNet8

    Choose a model here, an image and a layer on the left; the page follows. Everything that is computed here is the exact
    arithmetic of the graph in the file, in NumPy (`resnet8.playground`); the same functions can be called from Python.
    """)
    return


@app.cell(hide_code=True)
def _(get_folder, set_folder):
    folder_field = mo.ui.text(value=get_folder(), label="Folder with models", full_width=True, on_change=set_folder)
    refresh_button = mo.ui.run_button(label="Look again")
    demo_button = mo.ui.run_button(label="Open the demo")
    return demo_button, folder_field, refresh_button


@app.cell(hide_code=True)
def _(demo_button, set_folder):
    _said = None
    if demo_button.value:
        _folder, _said = page.attempt(sources.open_demo)
        if _said is None:
            set_folder(str(_folder))
    _said
    return


@app.cell(hide_code=True)
def _(demo_button, folder_field, refresh_button):
    refresh_button  # pressing it runs this cell
    folder = sources.named(folder_field.value)

    def _looked():
        measured = evaluations(folder)
        return models(folder, measured), measured

    _found, _problem = page.attempt(_looked)
    entries, known = _found or ((), ())
    _field = mo.vstack([folder_field, mo.hstack([refresh_button, demo_button], justify="start")])
    _none = mo.callout(
        mo.md(
            "**No models here.** `resnet8 reproduce` makes them in the current folder, `resnet8 reproduce --demo` those of "
            "the demo in `demo/`. *Open the demo* shows models of the demo at once, offline."
        ),
        kind="warn",
    )
    _rows = [
        (
            one.path.name,
            one.kind or one.error,
            "" if one.description is None else kilobytes(one.description.size_bytes),
            "" if one.score is None else percent(one.score.accuracy),
        )
        for one in entries
    ]
    _table = page.table(("file", "kind", "size", "top-1"), _rows, left=2)
    mo.stop(
        not any(one.description is not None for one in entries),
        mo.vstack([_field, *([_problem] if _problem is not None else []), _none, *([_table] if entries else [])]),
    )
    mo.vstack([_field, mo.accordion({f"The {len(_rows)} files here": _table})])
    return entries, folder, known


@app.cell(hide_code=True)
def _(entries, memory):
    _labels = {one.label: one for one in entries}
    _chosen = next((one for one in entries if one.path == memory.get("model")), first(entries))
    model_field = mo.ui.dropdown(
        _labels,
        value=_chosen.label,
        label="Model",
        full_width=True,
        on_change=lambda entry: memory.update(model=entry.path),
    )
    model_field
    return (model_field,)


@app.cell(hide_code=True)
def _(entries, model_field):
    entry = model_field.value
    mo.stop(entry is None)
    network, _problem = page.attempt(lambda: page.load(entry.path))
    _again = mo.md("Choose another model above, or press *Look again*.")
    mo.stop(_problem is not None, mo.vstack([_problem, _again]))
    float_network = real = None
    _said = []
    if network.quantized is not None:
        _behind = float_behind(entry, entries)
        if _behind is None:
            _said.append(mo.callout("There is no float model here: nothing to compare with.", kind="warn"))
        else:
            float_network, _problem = page.attempt(lambda: page.load(_behind.path))
            if _problem is None:
                real, _problem = page.attempt(lambda: page.matched(network, float_network))
            if _problem is not None:
                float_network = None
                _said.append(_problem)
    _facts = [
        f"**{entry.path.name}**",
        entry.kind,
        kilobytes(network.description.size_bytes),
        "accuracy not measured" if entry.score is None else f"top-1 {percent(entry.score.accuracy)}",
        f"{len(network.layers)} layers",
        f"{sum(one.macs for one in network.layers):,} multiply-accumulates",
    ]
    if float_network is not None:
        _facts.append(f"compared with {Path(float_network.description.path).name}")
    mo.vstack([mo.md(" · ".join(_facts)), *_said])
    return entry, float_network, network, real


@app.cell(hide_code=True)
def _(get_layer, memory, network):
    _options = {f"{number} · {one.operator} · {one.name}": one.name for number, one in enumerate(network.layers, 1)}
    _labels = {name: label for label, name in _options.items()}
    if get_layer() != memory.get("clicked", ("", 0)):  # a click, not another model
        memory.update(clicked=get_layer(), layer=get_layer()[0])
    layer_field = mo.ui.radio(
        _options,
        value=_labels.get(memory.get("layer"), next(iter(_options))),
        label="Layer",
        on_change=lambda name: memory.update(layer=name),
    )
    return (layer_field,)


@app.cell(hide_code=True)
def _(layer_field, network):
    mo.stop(layer_field.value is None)
    layer = network.layer(layer_field.value)
    number = [one.name for one in network.layers].index(layer.name)
    return layer, number


@app.cell(hide_code=True)
def _(folder, known):
    split, _problem = page.attempt(lambda: sources.images_of(folder, sources.fingerprints(known)))
    mo.stop(split is None, _problem)
    image_from = mo.ui.dropdown(
        ["all test images", "one class", "FP32 right, quantized wrong"], value="all test images", label="Images"
    )
    class_field = mo.ui.dropdown(
        {name: label for label, name in enumerate(split.class_names)}, value=split.class_names[0], label="Class"
    )
    return class_field, image_from, split


@app.cell(hide_code=True)
def _(class_field, float_network, image_from, known, memory, network, real, split):
    image_said, candidates = None, np.arange(len(split))
    if image_from.value == "one class":
        candidates = of_class(split, class_field.value or 0)
    elif image_from.value == "FP32 right, quantized wrong":
        if real is None:
            image_said = mo.callout("This needs a quantized model and its float model.", kind="warn")
        else:
            _found, _where = page.lost_images(known, network, float_network, real, split)
            image_said = mo.md(f"{len(_found)} {_where}") if len(_found) else mo.callout(f"None {_where}.", kind="warn")
            candidates = _found if len(_found) else candidates
    image_field = mo.ui.number(
        0,
        len(candidates) - 1,
        step=1,
        value=min(memory.get(image_from.value, 0), len(candidates) - 1),
        label=f"Number (0 to {len(candidates) - 1})",
        debounce=True,
        on_change=lambda number, among=image_from.value: memory.update({among: int(number or 0)}),
    )
    return candidates, image_field, image_said


@app.cell(hide_code=True)
def _(candidates, image_field, split):
    index = int(candidates[min(int(image_field.value or 0), len(candidates) - 1)])
    pixels = image(split, index)
    label = int(split.labels[index])
    shown_image = page.picture(pixels[0], 4, f"test image {index}: {split.class_names[label]}", f"test image {index}")
    return index, label, pixels, shown_image


@app.cell(hide_code=True)
def _(class_field, image_field, image_from, image_said, layer_field, shown_image):
    _choice = [image_from, *([class_field] if image_from.value == "one class" else []), image_field]
    mo.sidebar(
        [mo.vstack([*_choice, *([image_said] if image_said is not None else []), shown_image, layer_field])],
        width="22rem",
    )
    return


@app.cell(hide_code=True)
def _(layer, network, number, set_layer):
    def _go(clicked):
        if clicked:  # 0 is the input
            set_layer(lambda last: (network.layers[clicked - 1].name, last[1] + 1))

    _drawn = drawing(network)
    # Elements with names: Marimo forgets those that have none.
    network_strip = page.strip(_drawn, box_key(number), _go)
    whole_network = mo.lazy(lambda: page.sketch(_drawn, box_key(number)))
    mo.vstack(
        [
            mo.md(
                f"## The network\n\nLayer {number + 1} of {len(network.layers)}: **{layer.name}**. Click on another, or choose it on the left."
            ),
            network_strip,
            mo.md(f"With its neighbours; {words.GRID}:"),
            page.sketch(around(_drawn, box_key(number)), box_key(number)),
            mo.accordion({"The whole network": whole_network}),
        ]
    )
    return network_strip, whole_network


@app.cell(hide_code=True)
def _(layer):
    def _row(role, tensor):
        params = tensor.params
        one = params is not None and not params.per_channel
        ends = tensor.limits
        several = "–" if params is None else "per channel"
        real = [f"{(end - int(params.zero_point)) * float(params.scale):.4g}" for end in ends] if one else ["–"]
        return (
            role,
            tensor.name,
            words.shape(tensor.shape),
            tensor.dtype,
            f"{float(params.scale):.9g}" if one else several,
            int(params.zero_point) if one else several,
            "–" if ends is None else f"{ends[0]} to {ends[1]}",
            " to ".join(real),
        )

    _headings = ("tensor", "name in the file", "shape", "type", "scale", "zero point", "codes", "real range")

    _tensors = [(f"input {at}" if layer.residual else "input", one) for at, one in enumerate(layer.inputs, 1)]
    _tensors += [("weights", layer.weights)] if layer.weights is not None else []
    _tensors += [("output", layer.output)]
    _facts = [f"**{layer.operator}**" + (" of two activations" if layer.residual else "")]
    if layer.strides is not None:
        _facts.append(f"strides {layer.strides[0]}, {layer.strides[1]}")
        _facts.append("pads {} {} {} {} (top, left, bottom, right)".format(*layer.pads))
    if layer.relu:
        _facts.append("ReLU")
    if layer.macs:
        _facts.append(f"{layer.macs:,} multiply-accumulates for one image")
    _places = "\n".join(f"- {role}: `{name}`" for role, name in layer.parameters.items()) or "- no parameters"
    _nodes = "\n".join(f"- `{name}`" for name in layer.nodes)
    _views = [
        mo.md(f"## Layer {layer.name}\n\n" + " · ".join(_facts)),
        page.table(_headings, [_row(*one) for one in _tensors], left=4),
        mo.accordion({"Where the parameters are in the graph": mo.md(f"Parameters\n\n{_places}\n\nNodes\n\n{_nodes}")}),
    ]
    _per_channel = layer.weights is not None and layer.weights.params is not None and layer.weights.params.per_channel
    if _per_channel:
        _params = layer.weights.params
        _rows = [
            (at, f"{one:.9g}", int(zero))
            for at, (one, zero) in enumerate(zip(_params.scale.tolist(), _params.zero_point.tolist(), strict=True))
        ]
        _views += [
            mo.md("### Scales of the output channels"),
            plots.channels(_params),
            mo.accordion({"As a table": page.table(("channel", "scale", "zero point"), _rows)}),
        ]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(layer, network, real):
    _found = weights(network, layer.name, real)
    mo.stop(_found is None, mo.md("### Weights\n\nThis layer has none."))
    _views = [mo.md("### Weights")]
    _float = _found.real if _found.codes is None else _found.reference
    _tensors = {plots.FLOAT: _float} if _float is not None else {}
    if _found.codes is not None:
        _params, _limits = _found.tensor.params, _found.tensor.limits
        _tensors[plots.DEQUANTIZED] = _found.real
        _used = use(_found.codes, _limits)
        _views.append(
            mo.md(
                f"{_used.total:,} numbers · {_used.used} of {_used.used + _used.unused} codes occur, {_used.unused} do not · "
                f"{_used.at_lowest} at the least code {_limits[0]}, {_used.at_highest} at the greatest {_limits[1]} "
                f"({percent(_used.clipped)} at an end; what was clipped is among them)"
            )
        )
        _charts = [
            plots.values(_tensors, "weight"),
            plots.in_steps(_float, {plots.QUANTIZED: _found.codes}, _params, _limits),
        ]
    else:
        _charts = [plots.values(_tensors, "weight")]
    mo.vstack([*_views, mo.hstack(_charts, justify="start", wrap=True)])
    return


@app.cell(hide_code=True)
def _(entries, entry, float_network):
    _names = {one.path.name: one for one in entries if one.description is not None}
    _shown = {entry.path.name, *(() if float_network is None else (Path(float_network.description.path).name,))}
    others_field = mo.ui.multiselect(
        _names,
        value=[name for name in _names if name in _shown],
        label="Models",
        max_selections=8,
    )
    return (others_field,)


@app.cell(hide_code=True)
def _(layer, others_field):
    _networks, _said = {}, []
    for _entry in others_field.value:
        _open, _problem = page.attempt(lambda one=_entry: page.load(one.path))
        if _problem is None:
            _networks[_entry.path.name] = _open
        else:
            _said.append(_problem)
    _found = dict(zip(_networks, across(list(_networks.values()), layer.name), strict=True))
    _missing = [name for name, one in _found.items() if one is None]
    if _missing:
        _said.append(mo.md(f"No weights under the name {layer.name} in: {', '.join(_missing)}."))
    _tensors = {name: one.real for name, one in _found.items() if one is not None}
    mo.vstack(
        [
            mo.md(
                "### The same layer in several models\n\nIn files with folded BatchNorm its factors are part of the weights: "
                "other numbers, the same network."
            ),
            others_field,
            *_said,
            plots.values(_tensors, "weight (as a real number)") if _tensors else mo.md("Choose a model that has it."),
        ]
    )
    return


@app.cell(hide_code=True)
def _(index, label, network, pixels, real, split):
    if network.quantized is None:
        flow = None
        reals = capture_real(network.real, pixels)
        _logits = reals[network.real.logits.name].reshape(1, -1)
        _models = {plots.FLOAT: float32.probabilities(network.real, _logits)[0]}
    else:
        flow = capture(network.quantized, real, pixels)
        reals = flow.reference
        _models = {} if real is None else {plots.FLOAT: flow.reference_probabilities[0]}
        _models[plots.QUANTIZED] = flow.probabilities[0]
    _said = " · ".join(
        f"{name}: **{split.class_names[int(one.argmax())]}** ({percent(float(one.max()))})"
        for name, one in _models.items()
    )
    mo.vstack(
        [
            mo.md(f"## The image\n\nTest image {index} is a **{split.class_names[label]}**. {_said}"),
            mo.hstack(
                [
                    page.picture(pixels[0], 9, f"test image {index}", f"test image {index}"),
                    plots.probabilities(_models, split.class_names, label),
                ],
                justify="start",
                align="center",
                gap=2,
            ),
        ]
    )
    return flow, reals


@app.cell(hide_code=True)
def _(flow, layer, reals):
    _name = layer.output.name
    _views, _float = [], reals.get(_name)
    if flow is not None:
        _codes = flow.codes[_name]
        _used = use(_codes, layer.output.limits)
        _span = None if _float is None else (float(_float.min()), float(_float.max()))
        _views = [
            mo.md(
                f"{_used.total:,} numbers · {_used.used} of {_used.used + _used.unused} codes occur · {_used.at_lowest:,} at "
                f"the least code, {_used.at_highest:,} at the greatest"
            ),
            mo.hstack(
                [
                    page.maps(flow.real(_name), _span, "quantized"),
                    *([] if _float is None else [page.maps(_float, _span, "FP32")]),
                    plots.in_steps(_float, {plots.QUANTIZED: _codes}, layer.output.params, layer.output.limits),
                ],
                justify="start",
                wrap=True,
            ),
        ]
    elif _float is not None:
        _charts = [page.maps(_float, None, "FP32"), plots.values({plots.FLOAT: _float}, "activation")]
        _views = [mo.hstack(_charts, justify="start", wrap=True)]
    mo.vstack(
        [
            mo.md(
                f"## What flows\n\nThe output of **{layer.name}**, {words.shape(layer.output.shape)}, for this image."
            ),
            *_views,
        ]
    )
    return


@app.cell(hide_code=True)
def _(network):
    mo.stop(
        network.quantized is None,
        mo.callout("This is a float model: choose a quantized one to see noise and to change it.", kind="neutral"),
    )
    quantized = network.quantized
    sample_field = mo.ui.number(1, 10_000, step=1, value=200, label="Images", debounce=True)
    noise_button = mo.ui.run_button(label="SQNR of every layer")
    sensitivity_button = mo.ui.run_button(label="Each layer alone")
    stop_button = mo.ui.run_button(label="Stop", kind="warn")
    return noise_button, quantized, sample_field, sensitivity_button, stop_button


@app.cell(hide_code=True)
def _(noise_button, real, sample_field, sensitivity_button, stop_button):
    mo.stop(real is None, mo.callout("Noise is measured against the float model, and there is none here.", kind="warn"))
    mo.vstack(
        [
            mo.md(
                "## Noise of all layers\n\nSQNR = 10 log₁₀(Σ ref² / Σ (ref − q)²) dB. *Accumulated*: the quantized network, run "
                "from its input. *Isolated*: each layer fed the float values, quantized. *Each layer alone*: top-1 with this "
                "layer quantized and all others in float."
            ),
            mo.hstack([sample_field, noise_button, sensitivity_button, stop_button], justify="start", align="end"),
        ]
    )
    return


@app.cell(hide_code=True)
def _(memory, network, noise_button, quantized, real, sample_field, set_job, set_noise, split, stop_button):
    stop_button  # pressing it runs this cell, which ends the thread
    if noise_button.value:
        _part = split.first(int(sample_field.value or 200))
        _key, _work = (network.key, len(_part)), partial(noise, quantized, real, _part.images)
        page.in_background("SQNR", len(_part), _work, key=_key, keep=set_noise, said=set_job, jobs=memory)
    return


@app.cell(hide_code=True)
def _(memory, network, quantized, real, sample_field, sensitivity_button, set_job, set_sensitivity, split, stop_button):
    stop_button  # as above; a cell of its own: the other button does not end it
    if sensitivity_button.value:
        _part = split.first(int(sample_field.value or 200))
        _key, _work = (network.key, len(_part)), partial(sensitivity, quantized, real, _part.images, _part.labels)
        page.in_background(
            "Each layer alone", len(_part), _work, key=_key, keep=set_sensitivity, said=set_job, jobs=memory
        )
    return


@app.cell(hide_code=True)
def _(get_job, get_noise, get_sensitivity, network):
    _views = [mo.callout(get_job()[1], kind="warn")] if get_job()[1] and get_job()[0] == network.key else []
    if get_noise() is not None and get_noise()[0] == network.key:
        _views += [mo.md(f"**SQNR over {get_noise()[1]} images**"), plots.noise(get_noise()[2])]
    if get_sensitivity() is not None and get_sensitivity()[0] == network.key:
        _found = get_sensitivity()[2]
        _title = f"**Each layer alone over {get_sensitivity()[1]} images**; FP32 has {_found.reference.correct} right"
        _views += [mo.md(_title), plots.sensitivity(_found)]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(entry, layer):
    mo.stop(layer.output.params is None)
    _tensors = {f"output: {layer.output.name}": layer.output}
    if layer.weights is not None:
        _tensors[f"weights: {layer.weights.name}"] = layer.weights
    for _one in layer.inputs:
        _tensors[f"input: {_one.name}"] = _one
    tensor_field = mo.ui.dropdown(
        _tensors, value=next(iter(_tensors)), label=f"Tensor of {layer.name} ({entry.path.name})", full_width=True
    )
    field_field = mo.ui.dropdown(list(FIELDS), value="scale", label="What")
    run_change = mo.ui.run_button(label="Run", kind="success")
    reset_button = mo.ui.run_button(label="Reset")
    return field_field, reset_button, run_change, tensor_field


@app.cell(hide_code=True)
def _(field_field, tensor_field):
    channel_field = None
    if tensor_field.value.params.per_channel and field_field.value in ("scale", "factor", "zero_point"):
        channel_field = mo.ui.text(value="", placeholder="all", label="Channel")
    return (channel_field,)


@app.cell(hide_code=True)
def _(channel_field, field_field, tensor_field):
    _params = tensor_field.value.params
    _scales, _zero_points = np.ravel(_params.scale), np.ravel(_params.zero_point)
    _text = "" if channel_field is None else channel_field.value.strip()
    _channel = next((at for at in range(_scales.size) if str(at) == _text), 0)
    _now = {"scale": f"{float(_scales[_channel]):.9g}", "zero_point": str(int(_zero_points[_channel]))}
    if field_field.value == "rounding":
        value_field = mo.ui.dropdown(list(ROUNDINGS), value="half-away", label="Value")
    elif field_field.value == "bits":
        value_field = mo.ui.slider(BITS[0], BITS[-1], step=1, value=4, label="Value", show_value=True, debounce=True)
    elif field_field.value == "factor":
        _steps = [0.125, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0]
        value_field = mo.ui.slider(steps=_steps, value=2.0, label="Value", show_value=True, debounce=True)
    else:
        value_field = mo.ui.text(value=_now[field_field.value], label="Value")
    return (value_field,)


@app.cell(hide_code=True)
def _(channel_field, field_field, reset_button, run_change, tensor_field, value_field):
    _fields = [
        field_field,
        value_field,
        *([channel_field] if channel_field is not None else []),
        run_change,
        reset_button,
    ]
    mo.vstack(
        [
            mo.md(
                "## Change it\n\nAnother grid holds for the layer that writes the tensor and for all that read it; weights are "
                "quantized anew from the float model, biases keep their real value. Changes add up until *Reset*."
            ),
            tensor_field,
            mo.hstack(_fields, justify="start", align="end"),
        ]
    )
    return


@app.cell(hide_code=True)
def _(
    channel_field,
    field_field,
    get_changes,
    network,
    quantized,
    real,
    reset_button,
    run_change,
    set_changes,
    set_said,
    tensor_field,
    value_field,
):
    def _wanted():
        channel = "" if channel_field is None else channel_field.value
        change = entered(tensor_field.value.name, field_field.value, value_field.value, channel)
        wanted = added(get_changes()[1] if get_changes()[0] == network.key else (), change)
        return network.key, wanted, apply(quantized, wanted, real)

    if run_change.value:
        _found, _problem = page.attempt(_wanted)
        set_said((network.key, _problem))
        if _problem is None:
            set_changes(_found)
    elif reset_button.value:
        set_said((network.key, None))
        set_changes((network.key, (), None))
    return


@app.cell(hide_code=True)
def _(get_changes, get_said, network):
    changes, changed = get_changes()[1:] if get_changes()[0] == network.key else ((), None)
    _rows = [(one.tensor, one.field, one.value, "all" if one.channel is None else one.channel) for one in changes]
    _headings = ("tensor", "what", "value", "channel")
    _view = page.table(_headings, _rows, left=2) if _rows else mo.md("*Nothing is changed yet.*")
    _said = [get_said()[1]] if get_said()[1] is not None and get_said()[0] == network.key else []
    mo.vstack([*_said, _view])
    return changed, changes


@app.cell(hide_code=True)
def _(changed, flow, layer, pixels, split):
    mo.stop(changed is None)
    compared = compare(flow, changed, pixels)
    _row = next(one for one in compared.layers if one.activation == layer.output.name)
    _was, _is = (split.class_names[int(one.probabilities[0].argmax())] for one in (compared.original, compared.changed))
    mo.md(
        f"### This image, original and changed\n\nPredicted: **{_was}** → **{_is}**. In the output of {layer.name}, "
        f"{percent(_row.moved)} of the values are others."
    )
    return (compared,)


@app.cell(hide_code=True)
def _(compared, label, layer, split):
    _before, _after = compared.original, compared.changed
    _models = {} if _before.reference_probabilities is None else {plots.FLOAT: _before.reference_probabilities[0]}
    _models |= {plots.QUANTIZED: _before.probabilities[0], plots.CHANGED: _after.probabilities[0]}
    _name = layer.output.name
    _activation = _after.quantized.activations[_name]
    _same = _activation.params.same_as(layer.output.params)
    _codes = ({plots.QUANTIZED: _before.codes[_name]} if _same else {}) | {plots.CHANGED: _after.codes[_name]}
    _was, _is = _before.real(_name), _after.real(_name)
    _span = (float(_was.min()), float(_was.max()))
    mo.vstack(
        [
            mo.hstack(
                [
                    plots.probabilities(_models, split.class_names, label),
                    plots.in_steps(
                        _before.reference.get(_name), _codes, _activation.params, limits(_activation.params.dtype)
                    ),
                ],
                justify="start",
                wrap=True,
            ),
            mo.hstack(
                [
                    page.maps(_was, _span, "original"),
                    page.maps(_is, _span, "changed"),
                    page.maps(np.abs(_is - _was), None, "absolute difference"),
                ],
                justify="start",
                wrap=True,
            ),
            mo.md("SQNR against the float model, for this image"),
            plots.differences(compared.layers),
        ]
    )
    return


@app.cell(hide_code=True)
def _(changed):
    mo.stop(changed is None)
    count_field = mo.ui.number(1, 10_000, step=1, value=200, label="Images", debounce=True)
    flips_button = mo.ui.run_button(label="Compare top-1 and SQNR")
    stop_flips = mo.ui.run_button(label="Stop", kind="warn")
    mo.vstack(
        [
            mo.md("### Many images, original and changed"),
            mo.hstack([count_field, flips_button, stop_flips], justify="start", align="end"),
        ]
    )
    return count_field, flips_button, stop_flips


@app.cell(hide_code=True)
def _(
    changed,
    changes,
    count_field,
    flips_button,
    memory,
    network,
    quantized,
    real,
    set_flips,
    set_flips_job,
    split,
    stop_flips,
):
    stop_flips  # pressing it runs this cell, which ends the thread
    _part = split.first(int(count_field.value or 200))

    if flips_button.value:
        _work = partial(page.compared, quantized, changed, real, _part)
        _steps = page.comparisons(real) * len(_part)
        _key = (network.key, changes, _part)
        page.in_background(
            "Original and changed", _steps, _work, key=_key, keep=set_flips, said=set_flips_job, jobs=memory
        )
    return


@app.cell(hide_code=True)
def _(get_flips_job, network):
    mo.callout(get_flips_job()[1], kind="warn") if get_flips_job()[1] and get_flips_job()[0] == network.key else None
    return


@app.cell(hide_code=True)
def _(changes, get_flips, network):
    mo.stop(get_flips() is None or get_flips()[:2] != (network.key, changes))
    _part, (_found, _before, _after) = get_flips()[2:]
    _names = _part.class_names
    _views = [
        mo.md(
            f"Top-1 over {len(_part)} images: **{_found.original.correct}** ({percent(_found.original.accuracy)}) → "
            f"**{_found.changed.correct}** ({percent(_found.changed.accuracy)}); {len(_found.images)} images have another class"
            + (", the first 24:" if len(_found.images) > 24 else ".")
        ),
        mo.hstack(
            [
                page.picture(
                    _part.images[one.image],
                    3,
                    f"{one.image} {_names[one.label]}: {_names[one.before]} → {_names[one.after]}",
                    f"test image {one.image}",
                )
                for one in _found.images[:24]
            ],
            justify="start",
            wrap=True,
        ),
    ]
    if _before is not None:
        _views += [
            mo.md("SQNR against the float model, accumulated"),
            plots.noise_of({plots.QUANTIZED: _before, plots.CHANGED: _after}),
        ]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(changed, entry):
    mo.stop(changed is None)
    save_field = mo.ui.text(
        value=str(entry.path.with_name(f"{entry.path.stem}_changed.onnx")), label="Save as", full_width=True
    )
    save_button = mo.ui.run_button(label="Save")
    return save_button, save_field


@app.cell(hide_code=True)
def _(changes, float_network, network, save_button, save_field):
    _said = mo.md(
        "An ONNX file and, beside it, a JSON of what was changed; missing folders are made, nothing is overwritten."
    )
    if save_button.value:

        def _save():
            return save(Path(save_field.value), network, changes, float_network)

        _record, _problem = page.attempt(_save)
        if _problem is not None:
            _said = _problem
        else:
            _lost = f" Not in the file: {'; '.join(_record.not_in_the_file)}." if _record.not_in_the_file else ""
            _said = mo.callout(f"Saved: {save_field.value} and {save_field.value}.json.{_lost}", kind="success")
    mo.vstack(
        [
            mo.md("### Save"),
            save_field,
            save_button,
            _said,
            mo.accordion({"The same in Python": mo.md(f"```python\n{equivalent(network, changes, float_network)}```")}),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
