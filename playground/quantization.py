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
    from resnet8.inspection.graph import drawn
    from resnet8.network.change import BITS, FIELDS, apply
    from resnet8.numeric.grid import limits
    from resnet8.numeric.variants import ROUNDINGS
    from resnet8.playground import page, plots, sources, sqnr
    from resnet8.playground.catalogue import evaluations, first, float_behind, models
    from resnet8.playground.changing import added, beside, entered, equivalent, save
    from resnet8.playground.codes import use
    from resnet8.playground.flow import flow as flow_of
    from resnet8.playground.strip import around
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
            one.name,
            " · ".join(filter(None, (one.kind, one.error, one.notice))),
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
    opened, _problem = page.attempt(lambda: page.load(entry.path))
    _again = mo.md("Choose another model above, or press *Look again*.")
    mo.stop(_problem is not None, mo.vstack([_problem, _again]))
    network, float_opened, real = opened.network, None, None
    _said = [mo.callout(entry.notice, kind="warn")] if entry.notice else []
    if opened.quantized:
        _behind = float_behind(entry, entries)
        if _behind is None:
            _said.append(mo.callout("There is no float model here: nothing to compare with.", kind="warn"))
        else:
            float_opened, _problem = page.attempt(lambda: page.load(_behind.path))
            if _problem is None:
                real, _problem = page.attempt(lambda: page.matched(opened, float_opened))
            if _problem is not None:
                float_opened = None
                _said.append(_problem)
    _facts = [
        f"**{page.plain(entry.path.name)}**",
        entry.kind,
        kilobytes(opened.description.size_bytes),
        "accuracy not measured" if entry.score is None else f"top-1 {percent(entry.score.accuracy)}",
        f"{len(network.layers)} layers",
        f"{sum(one.macs for one in network.layers):,} multiply-accumulates",
    ]
    if float_opened is not None:
        _facts.append(f"compared with {page.plain(Path(float_opened.description.path).name)}")
    mo.vstack([mo.md(" · ".join(_facts)), *_said])
    return entry, float_opened, network, opened, real


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
def _(layer_field, opened):
    mo.stop(layer_field.value is None)
    layer = opened.layer(layer_field.value)
    number = [one.name for one in opened.network.layers].index(layer.name) + 1
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
def _(class_field, float_opened, image_from, known, memory, opened, real, split):
    image_said, candidates = None, np.arange(len(split))
    if image_from.value == "one class":
        candidates = np.flatnonzero(split.labels == (class_field.value or 0))
    elif image_from.value == "FP32 right, quantized wrong":
        if real is None:
            image_said = mo.callout("This needs a quantized model and its float model.", kind="warn")
        else:
            _found, _where = page.lost_images(known, opened, float_opened, real, split)
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
    pixels = split.images[index : index + 1]
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
def _(layer, number, opened, set_layer):
    def _go(clicked):
        if clicked:  # 0 is the input
            set_layer(lambda last: (opened.network.layers[clicked - 1].name, last[1] + 1))

    _key, _drawing = f"n{number}", drawn(opened.network, opened.description, brief=True)
    # Elements with names: Marimo forgets those that have none.
    network_strip = page.clickable(_drawing, _key, _go)
    whole_network = mo.lazy(lambda: page.sketch(_drawing, _key))
    mo.vstack(
        [
            mo.md(
                f"## The network\n\nLayer {number} of {len(opened.network.layers)}: **{page.plain(layer.name)}**. Click on another, or choose it on the left."
            ),
            network_strip,
            mo.md(f"With its neighbours; {words.GRID}:"),
            page.sketch(around(_drawing, _key), _key),
            mo.accordion({"The whole network": whole_network}),
        ]
    )
    return network_strip, whole_network


@app.cell(hide_code=True)
def _(layer):
    def _row(role, tensor):
        grid, shape = tensor.grid, words.shape(tensor.shape)
        if grid is None:
            return role, tensor.name, shape, tensor.dtype, *[words.NONE] * 4
        low, high = limits(grid.dtype)
        scale = zero_point = "per channel"
        reals = words.NONE
        if not grid.per_channel:
            scale, zero_point = f"{float(grid.scale):.9g}", int(grid.zero_point)
            reals = " to ".join(f"{(end - zero_point) * float(grid.scale):.4g}" for end in (low, high))
        return role, tensor.name, shape, tensor.dtype, scale, zero_point, f"{low} to {high}", reals

    _headings = ("tensor", "name in the file", "shape", "type", "scale", "zero point", "codes", "real range")

    _tensors = [(f"input {at}" if layer.residual else "input", one) for at, one in enumerate(layer.reads, 1)]
    _tensors += [("weights", layer.parameter)] if layer.parameter is not None else []
    _tensors += [("output", layer.output)]
    _facts = [f"**{layer.operator}**" + (" of two activations" if layer.residual else "")]
    if (_conv := layer.window) is not None:
        _facts.append(f"strides {_conv.strides[0]}, {_conv.strides[1]}")
        _facts.append("pads {} {} {} {} (top, left, bottom, right)".format(*_conv.pads))
    if layer.relu:
        _facts.append("ReLU")
    if layer.macs:
        _facts.append(f"{layer.macs:,} multiply-accumulates for one image")
    _places = (
        "\n".join(f"- {role}: <code>{page.plain(name)}</code>" for role, name in layer.parameters.items())
        or "- no parameters"
    )
    _nodes = "\n".join(f"- <code>{page.plain(name)}</code>" for name in layer.nodes)
    _views = [
        mo.md(f"## Layer {page.plain(layer.name)}\n\n" + " · ".join(_facts)),
        page.table(_headings, [_row(*one) for one in _tensors], left=4),
        mo.accordion({"Where the parameters are in the graph": mo.md(f"Parameters\n\n{_places}\n\nNodes\n\n{_nodes}")}),
    ]
    _grid = None if layer.parameter is None else layer.parameter.grid
    if _grid is not None and _grid.per_channel:
        _numbers = zip(_grid.scale.tolist(), _grid.zero_point.tolist(), strict=True)
        _rows = [(at, f"{one:.9g}", int(zero)) for at, (one, zero) in enumerate(_numbers)]
        _views += [
            mo.md("### Scales of the output channels"),
            plots.channels(_grid),
            mo.accordion({"As a table": page.table(("channel", "scale", "zero point"), _rows)}),
        ]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(layer, real):
    _found = layer.parameter
    mo.stop(_found is None, mo.md("### Weights\n\nThis layer has none."))
    _views = [mo.md("### Weights")]
    _behind = _found if _found.grid is None else real and real.writers[layer.output.name].parameter
    _tensors = {} if _behind is None else {plots.FLOAT: _behind.real}
    if _found.grid is None:
        _charts = [plots.values(_tensors, "weight")]
    else:
        _limits = limits(_found.grid.dtype)
        _used = use(_found.codes, _limits)
        _views.append(
            mo.md(
                f"{_used}, {_used.unused} do not · "
                f"{_used.at_lowest} at the least code {_limits[0]}, {_used.at_highest} at the greatest {_limits[1]} "
                f"({percent(_used.clipped)} at an end; what was clipped is among them)"
            )
        )
        _charts = [
            plots.values({**_tensors, plots.DEQUANTIZED: _found.real}, "weight"),
            plots.in_steps(_tensors.get(plots.FLOAT), {plots.QUANTIZED: _found.codes}, _found.grid, _limits),
        ]
    mo.vstack([*_views, mo.hstack(_charts, justify="start", wrap=True)])
    return


@app.cell(hide_code=True)
def _(entries, entry, float_opened):
    _names = {one.path.name: one for one in entries if one.description is not None}
    _shown = {entry.path.name, *(() if float_opened is None else (Path(float_opened.description.path).name,))}
    others_field = mo.ui.multiselect(
        _names,
        value=[name for name in _names if name in _shown],
        label="Models",
        max_selections=8,
    )
    return (others_field,)


@app.cell(hide_code=True)
def _(layer, others_field):
    _found, _said = {}, []
    for _entry in others_field.value:
        _open, _problem = page.attempt(lambda one=_entry: page.load(one.path))
        if _problem is None:
            _found[_entry.path.name] = next(
                (one.parameter for one in _open.network.layers if one.name == layer.name), None
            )
        else:
            _said.append(_problem)
    _missing = [name for name, one in _found.items() if one is None]
    if _missing:
        _said.append(mo.md(page.plain(f"No weights under the name {layer.name} in: {', '.join(_missing)}.")))
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
    flow = flow_of(network, pixels)
    float_flow = flow if not network.quantized else None if real is None else flow_of(real, pixels)
    flows = {} if float_flow is None else {plots.FLOAT: float_flow}
    flows |= {plots.QUANTIZED: flow} if network.quantized else {}
    _models = {name: one.probabilities[0] for name, one in flows.items()}
    _said = " · ".join(
        f"{name}: **{page.plain(split.class_names[int(one.argmax())])}** ({percent(float(one.max()))})"
        for name, one in _models.items()
    )
    mo.vstack(
        [
            mo.md(f"## The image\n\nTest image {index} is a **{page.plain(split.class_names[label])}**. {_said}"),
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
    return float_flow, flow, flows


@app.cell(hide_code=True)
def _(float_flow, flow, layer):
    _name, _grid = layer.output.name, layer.output.grid
    _views, _float = [], None if float_flow is None else float_flow.real(_name)
    if _grid is not None:
        _codes = flow.values[_name]
        _used = use(_codes, limits(_grid.dtype))
        _span = None if _float is None else (float(_float.min()), float(_float.max()))
        _views = [
            mo.md(f"{_used} · {_used.at_lowest:,} at the least code, {_used.at_highest:,} at the greatest"),
            mo.hstack(
                [
                    page.maps(flow.real(_name), _span, "quantized"),
                    *([] if _float is None else [page.maps(_float, _span, "FP32")]),
                    plots.in_steps(_float, {plots.QUANTIZED: _codes}, _grid, limits(_grid.dtype)),
                ],
                justify="start",
                wrap=True,
            ),
        ]
    else:
        _charts = [page.maps(_float, None, "FP32"), plots.values({plots.FLOAT: _float}, "activation")]
        _views = [mo.hstack(_charts, justify="start", wrap=True)]
    mo.vstack(
        [
            mo.md(
                f"## What flows\n\nThe output of **{page.plain(layer.name)}**, {words.shape(layer.output.shape)}, for this image."
            ),
            *_views,
        ]
    )
    return


@app.cell(hide_code=True)
def _(network):
    mo.stop(
        not network.quantized,
        mo.callout("This is a float model: choose a quantized one to see noise and to change it.", kind="neutral"),
    )
    quantized = network
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
def _(memory, noise_button, opened, quantized, real, sample_field, set_job, set_noise, split, stop_button):
    stop_button  # pressing it runs this cell, which ends the thread
    if noise_button.value:
        _part = split.first(int(sample_field.value or 200))
        _key, _work = (opened.key, len(_part)), partial(sqnr.noise, quantized, real, _part.images)
        page.in_background("SQNR", len(_part), _work, key=_key, keep=set_noise, said=set_job, jobs=memory)
    return


@app.cell(hide_code=True)
def _(memory, opened, quantized, real, sample_field, sensitivity_button, set_job, set_sensitivity, split, stop_button):
    stop_button  # as above; a cell of its own: the other button does not end it
    if sensitivity_button.value:
        _part = split.first(int(sample_field.value or 200))
        _key, _work = (opened.key, len(_part)), partial(sqnr.sensitivity, quantized, real, _part.images, _part.labels)
        page.in_background(
            "Each layer alone", len(_part), _work, key=_key, keep=set_sensitivity, said=set_job, jobs=memory
        )
    return


@app.cell(hide_code=True)
def _(get_job, get_noise, get_sensitivity, opened):
    _views = [mo.callout(get_job()[1], kind="warn")] if get_job()[1] and get_job()[0] == opened.key else []
    if get_noise() is not None and get_noise()[0] == opened.key:
        _found = get_noise()[2]
        _series = {kind: [getattr(one, kind) for one in _found] for kind in ("accumulated", "isolated")}
        _chart = plots.decibels([one.layer for one in _found], _series)
        _views += [mo.md(f"**SQNR over {get_noise()[1]} images**"), _chart]
    if get_sensitivity() is not None and get_sensitivity()[0] == opened.key:
        _answers = get_sensitivity()[2]
        _title = f"**Each layer alone over {get_sensitivity()[1]} images**; FP32 has {_answers.score().correct} right"
        _views += [mo.md(_title), plots.sensitivity(_answers)]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(entry, layer):
    mo.stop(layer.output.grid is None)
    _tensors = {f"output: {layer.output.name}": layer.output}
    if layer.parameter is not None:
        _tensors[f"weights: {layer.parameter.name}"] = layer.parameter
    for _one in layer.reads:
        _tensors[f"input: {_one.name}"] = _one
    tensor_field = mo.ui.dropdown(
        _tensors,
        value=next(iter(_tensors)),
        label=page.plain(f"Tensor of {layer.name} ({entry.path.name})"),
        full_width=True,
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
    opened,
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
        wanted = added(get_changes()[1] if get_changes()[0] == opened.key else (), change)
        return opened.key, wanted, apply(quantized, wanted, real)

    if run_change.value:
        _found, _problem = page.attempt(_wanted)
        set_said((opened.key, _problem))
        if _problem is None:
            set_changes(_found)
    elif reset_button.value:
        set_said((opened.key, None))
        set_changes((opened.key, (), None))
    return


@app.cell(hide_code=True)
def _(get_changes, get_said, opened):
    changes, changed = get_changes()[1:] if get_changes()[0] == opened.key else ((), None)
    _rows = [(one.tensor, one.field, one.value, "all" if one.channel is None else one.channel) for one in changes]
    _headings = ("tensor", "what", "value", "channel")
    _view = page.table(_headings, _rows, left=2) if _rows else mo.md("*Nothing is changed yet.*")
    _said = [get_said()[1]] if get_said()[1] is not None and get_said()[0] == opened.key else []
    mo.vstack([*_said, _view])
    return changed, changes


@app.cell(hide_code=True)
def _(changed, flow, layer, pixels, split):
    mo.stop(changed is None)
    changed_flow = flow_of(changed, pixels)
    before, after = (one.real(layer.output.name) for one in (flow, changed_flow))
    _was, _is = (page.plain(split.class_names[int(one.probabilities[0].argmax())]) for one in (flow, changed_flow))
    mo.md(
        f"### This image, original and changed\n\nPredicted: **{_was}** → **{_is}**. In the output of {page.plain(layer.name)}, "
        f"{percent(float((before != after).mean()))} of the values are others."
    )
    return after, before, changed_flow


@app.cell(hide_code=True)
def _(after, before, changed_flow, float_flow, flow, flows, label, layer, split):
    _flows = flows | {plots.CHANGED: changed_flow}
    _name = layer.output.name
    _grid = changed_flow.network.activations[_name].grid
    _codes = {plots.QUANTIZED: flow.values[_name]} if _grid.same_as(layer.output.grid) else {}
    _codes |= {plots.CHANGED: changed_flow.values[_name]}
    _span = (float(before.min()), float(before.max()))
    if float_flow is None:
        _ratios = {"changed against original": sqnr.of_layers(flow, changed_flow)}
    else:
        _ratios = {name: sqnr.of_layers(float_flow, one) for name, one in _flows.items() if one is not float_flow}
    mo.vstack(
        [
            mo.hstack(
                [
                    plots.probabilities(
                        {name: one.probabilities[0] for name, one in _flows.items()}, split.class_names, label
                    ),
                    plots.in_steps(
                        None if float_flow is None else float_flow.real(_name), _codes, _grid, limits(_grid.dtype)
                    ),
                ],
                justify="start",
                wrap=True,
            ),
            mo.hstack(
                [
                    page.maps(before, _span, "original"),
                    page.maps(after, _span, "changed"),
                    page.maps(np.abs(after - before), None, "absolute difference"),
                ],
                justify="start",
                wrap=True,
            ),
            mo.md("SQNR against the float model, for this image"),
            plots.decibels(list(sqnr.rows(flow.network).values()), _ratios),
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
    opened,
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
        _key = (opened.key, changes, _part)
        page.in_background(
            "Original and changed", _steps, _work, key=_key, keep=set_flips, said=set_flips_job, jobs=memory
        )
    return


@app.cell(hide_code=True)
def _(get_flips_job, opened):
    mo.callout(get_flips_job()[1], kind="warn") if get_flips_job()[1] and get_flips_job()[0] == opened.key else None
    return


@app.cell(hide_code=True)
def _(changes, get_flips, opened):
    mo.stop(get_flips() is None or get_flips()[:2] != (opened.key, changes))
    _part, (_found, _noises) = get_flips()[2:]
    _original, _changed, _flips = _found.score(), _found.score(plots.CHANGED), _found.changed(plots.CHANGED)
    _names, _now = _part.class_names, _found.variants[plots.CHANGED]
    _views = [
        mo.md(
            f"Top-1 over {len(_part)} images: **{_original.correct}** ({percent(_original.accuracy)}) → "
            f"**{_changed.correct}** ({percent(_changed.accuracy)}); {len(_flips)} images have another class"
            + (", the first 24:" if len(_flips) > 24 else ".")
        ),
        mo.hstack(
            [
                page.picture(
                    _part.images[at],
                    3,
                    f"{at} {_names[_part.labels[at]]}: {_names[_found.reference[at]]} → {_names[_now[at]]}",
                    f"test image {at}",
                )
                for at in _flips[:24]
            ],
            justify="start",
            wrap=True,
        ),
    ]
    if _noises:
        _series = dict(zip((plots.QUANTIZED, plots.CHANGED), _noises, strict=True))
        _chart = plots.decibels(
            [one.layer for one in _noises[0]],
            {name: [one.accumulated for one in found] for name, found in _series.items()},
        )
        _views += [mo.md("SQNR against the float model, accumulated"), _chart]
    mo.vstack(_views)
    return


@app.cell(hide_code=True)
def _(changed, entry):
    mo.stop(changed is None)
    save_field = mo.ui.text(value=f"{entry.path.stem}_changed.onnx", label="Save as", full_width=True)
    save_button = mo.ui.run_button(label="Save")
    return save_button, save_field


@app.cell(hide_code=True)
def _(changes, entry, float_opened, opened, save_button, save_field):
    _said = mo.md("An ONNX file beside the model and a JSON of what was changed; nothing is overwritten.")
    if save_button.value:

        def _save():
            _path = beside(entry.path, save_field.value.strip())
            return _path, save(_path, opened, changes, float_opened)

        _saved, _problem = page.attempt(_save)
        if _problem is not None:
            _said = _problem
        else:
            _path, _record = _saved
            _lost = f" Not in the file: {'; '.join(_record.not_in_the_file)}." if _record.not_in_the_file else ""
            _said = mo.callout(f"Saved: {_path} and {_path}.json.{_lost}", kind="success")
    mo.vstack(
        [
            mo.md("### Save"),
            save_field,
            save_button,
            _said,
            mo.accordion({"The same in Python": mo.md(f"```python\n{equivalent(opened, changes, float_opened)}```")}),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
