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

    import marimo as mo
    import numpy as np

    from resnet8 import words
    from resnet8.inspection.graph import drawn
    from resnet8.network.change import BITS, FIELDS, apply, asked
    from resnet8.numeric.variants import ROUNDINGS
    from resnet8.playground import changing, noise, page, plots, saving, sources, views, work
    from resnet8.playground.catalogue import evaluations, first, float_behind, models
    from resnet8.playground.flow import CHANGED, flow_of_changed
    from resnet8.playground.flow import flow as flow_of
    from resnet8.playground.strip import around, strip


@app.cell(hide_code=True)
def _():
    get_folder, set_folder = mo.state(str(sources.default_folder()))
    get_layer, set_layer = mo.state((1, 0))  # the layer to go to, by number, and a count: a click is always news
    get_image, set_image = mo.state((0, 0))  # the test image to go to, likewise
    get_changes, set_changes = mo.state({})  # by model: what is changed, and what came of it
    get_said, set_said = mo.state((None, None))  # of which model, and what is wrong with the change
    get_jobs, set_jobs = mo.state({})  # the work beside the page
    memory = page.asked()  # what was chosen last, at first what the address says: another model opens at the same layer

    def go(number):
        set_layer(lambda last: (number, last[1] + 1))

    def look(index):
        set_image(lambda last: (int(index), last[1] + 1))

    return (
        get_changes,
        get_folder,
        get_image,
        get_jobs,
        get_layer,
        get_said,
        go,
        look,
        memory,
        set_changes,
        set_folder,
        set_jobs,
        set_said,
    )


@app.cell(hide_code=True)
def _():
    page.column(
        mo.Html(page.NARROW),
        mo.md("""
        # Inside the quantized ResNet8

        Choose a model, an image and a layer in the menu; the page follows. Everything that is computed here is the exact
        arithmetic of the graph in the file, in NumPy (`resnet8.playground`); the same functions can be called from Python.
        """),
    )
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
        _folder, _said = work.attempt(sources.open_demo)
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

    _found, _problem = work.attempt(_looked)
    entries, known = _found or ((), ())
    _chooser = page.column(mo.md("## The folder"), folder_field, page.row(refresh_button, demo_button))
    mo.stop(
        not any(one.description is not None for one in entries),
        page.column(_chooser, *([_problem] if _problem is not None else []), views.no_models(entries)),
    )
    _title = f"{len(entries)} {'file' if len(entries) == 1 else 'files'} in this folder"
    page.column(_chooser, mo.accordion({_title: views.files(entries)}))
    return entries, folder, known


@app.cell(hide_code=True)
def _(entries, memory):
    _chosen = next((one for one in entries if one.path.name == memory.get("model")), None)
    model_problem = None
    if _chosen is None:
        _chosen = first(entries)
        if _named := memory.get("model"):
            model_problem = page.message(f"There is no {_named} here; {_chosen.name} is shown.", "warn")
    model_field = mo.ui.dropdown(
        {one.label: one for one in entries},
        value=_chosen.label,
        label="Model",
        searchable=True,
        allow_select_none=False,
        full_width=True,
        on_change=lambda entry: memory.update(model=entry.path.name),
    )
    return model_field, model_problem


@app.cell(hide_code=True)
def _(model_field):
    mo.sidebar(page.column(model_field), width="22rem")  # its own: it stays when a model cannot be opened
    return


@app.cell(hide_code=True)
def _(entries, model_field, model_problem):
    entry = model_field.value
    mo.stop(entry is None)
    opened, _problem = work.attempt(lambda: work.load(entry.path))
    mo.stop(_problem is not None, page.column(_problem, mo.md("Choose another model, or press *Look again*.")))
    network, float_opened, real, _said = opened.network, None, None, None
    if opened.quantized:
        _behind = float_behind(entry, entries)
        if _behind is None:
            _said = page.message("There is no float model here: nothing to compare with.", "warn")
        else:
            float_opened, _said = work.attempt(lambda: work.load(_behind.path))
            if _said is None:
                real, _said = work.attempt(lambda: work.matched(opened, float_opened))
            float_opened = None if real is None else float_opened
    page.column(model_problem, views.model(entry, opened, float_opened), _said)
    return entry, float_opened, network, opened, real


@app.cell(hide_code=True)
def _(get_layer, memory, network):
    _names = [one.name for one in network.layers]
    _number, _count = get_layer()
    if _count != memory.get("jumps", 0):  # a click, not another model
        memory.update(jumps=_count, layer=_names[min(_number, len(_names)) - 1])
    if memory.get("layer") not in _names:
        memory["layer"] = _names[min(max(memory.pop("number", 1), 1), len(_names)) - 1]
    _options = {f"{number} · {one.operator} · {one.name}": one.name for number, one in enumerate(network.layers, 1)}
    layer_field = mo.ui.dropdown(
        _options,
        value=list(_options)[_names.index(memory["layer"])],
        label="Layer",
        searchable=True,
        allow_select_none=False,
        full_width=True,
        on_change=lambda name: memory.update(layer=name),
    )
    return (layer_field,)


@app.cell(hide_code=True)
def _(go, memory, network):
    # A cell of its own: these keep the focus while the layer changes.
    _names = [one.name for one in network.layers]
    _numbers = np.arange(1, len(_names) + 1)
    layer_steps = page.steps(lambda by: go(sources.neighbour(_numbers, _names.index(memory["layer"]) + 1, by)))
    return (layer_steps,)


@app.cell(hide_code=True)
def _(layer_field, opened):
    mo.stop(layer_field.value is None)
    layer = opened.layer(layer_field.value)
    number = [one.name for one in opened.network.layers].index(layer.name) + 1
    return layer, number


@app.cell(hide_code=True)
def _(folder, known):
    split, _problem = work.attempt(lambda: sources.images_of(folder, sources.fingerprints(known)))
    mo.stop(split is None, _problem)
    image_from = mo.ui.dropdown(
        ["all test images", "one class", "FP32 right, quantized wrong"], value="all test images", label="Images"
    )
    class_field = mo.ui.dropdown(
        {name: label for label, name in enumerate(split.class_names)}, value=split.class_names[0], label="Class"
    )
    return class_field, image_from, split


@app.cell(hide_code=True)
def _(class_field, float_opened, image_from, known, opened, real, split):
    image_said, candidates = None, np.arange(len(split))
    if image_from.value == "one class":
        candidates = np.flatnonzero(split.labels == (class_field.value or 0))
    elif image_from.value == "FP32 right, quantized wrong":
        if real is None:
            image_said = page.message("This needs a quantized model and its float model.", "warn")
        else:
            _found, _where = work.lost_images(known, opened, float_opened, real, split)
            image_said = mo.md(f"{len(_found)} {_where}") if len(_found) else page.message(f"None {_where}.", "warn")
            candidates = _found if len(_found) else candidates
    return candidates, image_said


@app.cell(hide_code=True)
def _(candidates, get_image, memory, split):
    _index, _count = get_image()
    if _count != memory.get("looks", 0):
        memory.update(looks=_count, image=_index)
    image_field = mo.ui.number(
        0,
        len(split) - 1,
        step=1,
        value=sources.nearest(candidates, memory.get("image", 0)),
        label="Test image",
        debounce=True,
        on_change=lambda index: memory.update(image=int(index or 0)),
    )
    return (image_field,)


@app.cell(hide_code=True)
def _(candidates, look, memory):
    image_steps = page.steps(lambda by: look(sources.neighbour(candidates, memory["image"], by)))
    return (image_steps,)


@app.cell(hide_code=True)
def _(candidates, image_field, look, memory, split):
    index = memory["image"] = sources.nearest(candidates, image_field.value or 0)
    if index != image_field.value:
        look(index)  # the next of those that were asked for
    pixels, label = split.images[index : index + 1], int(split.labels[index])
    shown_image = page.picture(pixels[0], 4, f"test image {index}: {split.class_names[label]}", f"test image {index}")
    return index, label, pixels, shown_image


@app.cell(hide_code=True)
def _(class_field, image_field, image_from, image_said, image_steps, layer_field, layer_steps, shown_image):
    _class = class_field if image_from.value == "one class" else None
    mo.sidebar(
        page.column(
            layer_field,
            page.row(*layer_steps),
            image_from,
            _class,
            image_field,
            page.row(*image_steps),
            image_said,
            shown_image,
            mo.md(page.CONTENTS),
        ),
        width="22rem",
    )
    return


@app.cell(hide_code=True)
def _(entry, index, number):
    page.address(model=entry.path.name, layer=number, image=index)
    return


@app.cell(hide_code=True)
def _(go, layer, marked, network, number, opened):
    _key, _drawing = f"n{number}", drawn(network, opened.description, brief=True)
    _marks = {
        f"n{place}" for place, one in enumerate([noise.INPUT, *(one.name for one in network.layers)]) if one in marked
    }
    # Elements with names: Marimo forgets those that have none.
    network_strip = page.clickable(strip(_drawing, _key, _marks), go)
    whole_network = mo.lazy(lambda: page.sketch(_drawing, _key))
    page.column(
        mo.md(
            f"## The network\n\nLayer {number} of {len(network.layers)}: **{page.plain(layer.name)}**. Click on another, or choose "
            "it in the menu." + (" A dot marks what is changed." if marked else "")
        ),
        network_strip,
        mo.md(f"With its neighbours; {words.GRID}:"),
        page.sketch(around(_drawing, _key), _key),
        mo.accordion({"The whole network": whole_network}),
    )
    return network_strip, whole_network


@app.cell(hide_code=True)
def _(layer):
    views.layer(layer)
    return


@app.cell(hide_code=True)
def _(layer, real):
    views.parameters(layer, None if real is None else real.writers[layer.output.name])
    return


@app.cell(hide_code=True)
def _(index, label, network, pixels, real, split):
    flow = flow_of(network, pixels)
    float_flow = flow if not network.quantized else None if real is None else flow_of(real, pixels)
    flows = {} if float_flow is None else {plots.FLOAT: float_flow}
    flows |= {plots.QUANTIZED: flow} if network.quantized else {}
    image_errors = noise.of_flow(float_flow, flow) if len(flows) == 2 else ()
    views.image(index, pixels[0], label, flows, split)
    return float_flow, flow, flows, image_errors


@app.cell(hide_code=True)
def _(float_flow, flow, image_errors, layer, number, split):
    views.flowing(layer, flow, float_flow, image_errors[number] if image_errors else None, split.class_names)
    return


@app.cell(hide_code=True)
def _(entry, go, image_errors, index):
    mo.stop(not image_errors)
    errors_chart = page.clickable(views.series({plots.ACCUMULATED: image_errors}), go)
    page.column(
        mo.md("### Errors of all layers, this image"),
        errors_chart,
        mo.accordion({"As a table": views.errors(image_errors, f"{entry.path.stem}-image-{index}-errors.csv")}),
    )
    return (errors_chart,)


@app.cell(hide_code=True)
def _(network):
    mo.stop(
        not network.quantized,
        page.message("This is a float model: choose a quantized one to see noise and to change it.", "neutral"),
    )
    quantized = network
    sample_field = mo.ui.dropdown(["images from", sources.OFFICIAL], value="images from", label="Sample")
    first_field = mo.ui.number(0, 9_999, step=1, value=0, label="First", debounce=True)
    count_field = mo.ui.number(1, 10_000, step=1, value=200, label="How many", debounce=True)
    noise_button = mo.ui.run_button(label="Errors of all layers")
    alone_button = mo.ui.run_button(label="Each layer alone")
    flips_button = mo.ui.run_button(label="Compare many images")
    stop_noise, stop_alone, stop_flips = (mo.ui.run_button(label="Stop", kind="warn") for _ in range(3))
    return (
        alone_button,
        count_field,
        first_field,
        flips_button,
        noise_button,
        quantized,
        sample_field,
        stop_alone,
        stop_flips,
        stop_noise,
    )


@app.cell(hide_code=True)
def _(count_field, first_field, sample_field):
    official = sample_field.value == sources.OFFICIAL
    sample_row = page.row(sample_field, *(() if official else (first_field, count_field)))
    return official, sample_row


@app.cell(hide_code=True)
def _(alone_button, get_jobs, noise_button, opened, real, sample_row, stop_alone, stop_noise):
    mo.stop(real is None, page.message("Noise is measured against the float model, and there is none here.", "warn"))
    _running = [work.of(get_jobs(), title, opened.key).running for title in (work.NOISE, work.ALONE)]
    _stops = [one for one, running in zip((stop_noise, stop_alone), _running, strict=True) if running]
    page.column(
        mo.md(
            "## Noise of all layers\n\nSQNR = 10 log₁₀(Σ ref² / Σ (ref − q)²) dB. *Accumulated*: the quantized network, run "
            "from its input. *Isolated*: each layer fed the float values, quantized. *Each layer alone*: top-1 with this "
            "layer quantized and all others in float."
        ),
        sample_row,
        page.row(noise_button, alone_button, *_stops),
    )
    return


@app.cell(hide_code=True)
def _(count_field, first_field, official, split):
    _first, _count = int(first_field.value or 0), int(count_field.value or 200)
    sample, _problem = work.attempt(
        lambda: sources.official(split) if official else sources.sample(split, _first, _count)
    )
    mo.stop(sample is None, _problem)
    return (sample,)


@app.cell(hide_code=True)
def _(memory, noise_button, opened, quantized, real, sample, set_jobs, stop_noise):
    stop_noise  # pressing it runs this cell, which ends the thread
    if noise_button.value and real is not None:
        _work = partial(noise.noise, quantized, real, sample.split.images)
        work.begin(work.NOISE, len(sample), _work, key=(opened.key, sample.source), tell=set_jobs, jobs=memory)
    return


@app.cell(hide_code=True)
def _(alone_button, memory, opened, quantized, real, sample, set_jobs, stop_alone):
    stop_alone  # as above; a cell of its own: the other button does not end it
    if alone_button.value and real is not None:
        _work = partial(noise.sensitivity, quantized, real, sample.split.images, sample.split.labels)
        work.begin(work.ALONE, len(sample), _work, key=(opened.key, sample.source), tell=set_jobs, jobs=memory)
    return


@app.cell(hide_code=True)
def _(entry, get_jobs, go, opened, sample):
    _job, _views, noise_chart = work.of(get_jobs(), work.NOISE, opened.key, sample.source), [], None
    if _job.found is not None:
        noise_chart = page.clickable(
            views.series({plots.ACCUMULATED: _job.found.accumulated, plots.ISOLATED: _job.found.isolated}), go
        )
        _views = [mo.md(f"**Errors over {sample}**"), noise_chart]
        _views.append(
            mo.accordion(
                {
                    f"As a table, {kind}": views.errors(
                        getattr(_job.found, kind), f"{entry.path.stem}-{kind}-errors.csv"
                    )
                    for kind in (plots.ACCUMULATED, plots.ISOLATED)
                }
            )
        )
    page.column(page.message(_job.said, "warn") if _job.said else None, *_views)
    return (noise_chart,)


@app.cell(hide_code=True)
def _(get_jobs, go, opened, sample):
    _job, _views, alone_chart = work.of(get_jobs(), work.ALONE, opened.key, sample.source), [], None
    if _job.found is not None:
        alone_chart = page.clickable(plots.sensitivity(_job.found), go)
        _said = f"**Each layer alone over {sample}**; FP32 has {_job.found.score().correct} right"
        _views = [mo.md(_said), alone_chart]
    page.column(page.message(_job.said, "warn") if _job.said else None, *_views)
    return (alone_chart,)


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
    return field_field, tensor_field


@app.cell(hide_code=True)
def _(field_field, tensor_field):
    channel_field = None
    if tensor_field.value.params.per_channel and field_field.value in ("scale", "factor", "zero_point"):
        channel_field = mo.ui.text(value="", placeholder="all", label="Channel")
    return (channel_field,)


@app.cell(hide_code=True)
def _(changes, channel_field, field_field, quantized, tensor_field):
    if field_field.value == "rounding":
        value_field = mo.ui.dropdown(list(ROUNDINGS), value="half-away", label="Value")
    elif field_field.value == "bits":
        value_field = mo.ui.slider(BITS[0], BITS[-1], step=1, value=4, label="Value", show_value=True, debounce=True)
    elif field_field.value == "factor":
        _steps = [0.125, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0]
        value_field = mo.ui.slider(steps=_steps, value=2.0, label="Value", show_value=True, debounce=True)
    else:
        _channel = "" if channel_field is None else channel_field.value
        _grid = asked(quantized, changes).grids[tensor_field.value.name]
        _value, _placeholder = changing.present(_grid, field_field.value, _channel)
        value_field = mo.ui.text(value=_value, placeholder=_placeholder, label="Value")
    return (value_field,)


@app.cell(hide_code=True)
def _(change_to, memory):
    # A cell of its own: these keep the focus. What *Run* does is known where the fields are.
    run_change = mo.ui.button(label="Run", kind="success", on_click=lambda _: change_to(memory["wanted"]))
    reset_button = mo.ui.button(label="Reset", on_click=lambda _: change_to(tuple))
    return reset_button, run_change


@app.cell(hide_code=True)
def _(channel_field, changes, field_field, memory, quantized, reset_button, run_change, tensor_field, value_field):
    def _wanted():
        channel = "" if channel_field is None else channel_field.value
        change = changing.entered(tensor_field.value.name, field_field.value, value_field.value, channel)
        return changing.added(changes, change, quantized)

    memory["wanted"] = _wanted
    page.column(
        mo.md(
            "## Change it\n\nAnother grid holds for the layer that writes the tensor and for all that read it; weights are "
            "quantized anew from the float model, biases keep their real value. Changes add up, for each model its own."
        ),
        tensor_field,
        page.row(field_field, value_field, channel_field, run_change, reset_button),
    )
    return


@app.cell(hide_code=True)
def _(opened, quantized, real, set_changes, set_said):
    def change_to(wanted):
        """Change the model as the callable says, or say why that cannot be."""

        def changed():
            changes = wanted()
            return changes, apply(quantized, changes, real) if changes else None

        found, problem = work.attempt(changed)
        set_said((opened.key, problem))
        if problem is None:
            set_changes(lambda now: now | {opened.key: found})

    return (change_to,)


@app.cell(hide_code=True)
def _(get_changes, opened):
    changes, changed = get_changes().get(opened.key, ((), None))
    return changed, changes


@app.cell(hide_code=True)
def _(change_to, changed, changes, quantized):
    undo_buttons = mo.ui.array(
        [
            mo.ui.button(
                label="✕",
                tooltip="Take this change back",
                on_click=lambda _, number=number: change_to(lambda: changing.without(changes, number)),
            )
            for number in range(len(changes))
        ]
    )
    effects_view = mo.md("*Nothing is changed yet.*")
    if changes:
        effects_view = views.effects(changing.effects(quantized, changes, changed), list(undo_buttons))
    return effects_view, undo_buttons


@app.cell(hide_code=True)
def _(effects_view, get_said, opened):
    page.column(get_said()[1] if get_said()[0] == opened.key else None, effects_view)
    return


@app.cell(hide_code=True)
def _(changed, flow, layer, pixels, split):
    # The answer first, in a cell of its own; charts and the drawing are made behind it.
    changed_flow = None if changed is None else flow_of_changed(changed, flow, pixels)
    None if changed_flow is None else views.changed_prediction(layer, flow, changed_flow, split.class_names)
    return (changed_flow,)


@app.cell(hide_code=True)
def _(changed, changed_flow, float_flow, flow, flows, go, label, layer, network, split):
    marked, changed_chart, _view = frozenset(), None, None
    if changed_flow is not None:
        marked = changing.changed_layers(network, changed)
        if float_flow is None:
            _found = {"changed against original": noise.of_flow(flow, changed_flow)}
        else:
            _found = {
                plots.QUANTIZED: noise.of_flow(float_flow, flow),
                CHANGED: noise.of_flow(float_flow, changed_flow),
            }
        changed_chart = page.clickable(views.series(_found), go)
        _view = page.column(views.changed_image(layer, flows, changed_flow, split.class_names, label), changed_chart)
    _view
    return changed_chart, marked


@app.cell(hide_code=True)
def _(changed, flips_button, get_jobs, opened, sample_row, stop_flips):
    mo.stop(changed is None)
    _running = work.of(get_jobs(), work.FLIPS, opened.key).running
    page.column(
        mo.md("### Many images, original and changed"),
        sample_row,
        page.row(flips_button, stop_flips if _running else None),
    )
    return


@app.cell(hide_code=True)
def _(changed, changes, flips_button, memory, opened, quantized, real, sample, set_jobs, stop_flips):
    stop_flips  # pressing it runs this cell, which ends the thread
    if flips_button.value and changed is not None:
        _work = partial(noise.compared, quantized, changed, real, sample.split.images, sample.split.labels)
        work.begin(work.FLIPS, len(sample), _work, key=(opened.key, changes, sample.source), tell=set_jobs, jobs=memory)
    return


@app.cell(hide_code=True)
def _(changes, get_jobs, go, look, opened, sample):
    _job = work.of(get_jobs(), work.FLIPS, opened.key, changes, sample.source)
    _views, flips_chart, look_buttons = [], None, None
    if _job.found is not None:
        _flipped = sample.indices[_job.found.answers.changed(CHANGED)][: views.FLIPS]
        look_buttons = mo.ui.array(
            [mo.ui.button(label=f"look at {one}", on_click=lambda _, one=one: look(one)) for one in _flipped]
        )
        _views = [views.flips(_job.found, sample, list(look_buttons))]
        if _job.found.original:
            flips_chart = page.clickable(
                views.series({plots.QUANTIZED: _job.found.original, CHANGED: _job.found.changed}), go
            )
            _views += [mo.md("SQNR against FP32, accumulated"), flips_chart]
    page.column(page.message(_job.said, "warn") if _job.said else None, *_views)
    return flips_chart, look_buttons


@app.cell(hide_code=True)
def _(changed, entry):
    mo.stop(changed is None)
    save_field = mo.ui.text(value=saving.free_name(entry.path), label="Save as", full_width=True)
    save_button = mo.ui.run_button(label="Save")
    return save_button, save_field


@app.cell(hide_code=True)
def _(changes, entry, float_opened, opened, save_button, save_field, split):
    def _save():
        path = saving.beside(entry.path, save_field.value.strip())
        return path, saving.save(path, opened, changes, float_opened, split.images)

    _said = mo.md("An ONNX file beside the model and a JSON of what was changed; nothing is overwritten.")
    if save_button.value:
        _saved, _problem = work.attempt(_save)
        _said = _problem if _saved is None else views.saved(*_saved)
    page.column(
        mo.md("### Save"),
        save_field,
        save_button,
        _said,
        mo.accordion({"The same in Python": page.code(saving.equivalent(opened, changes, float_opened))}),
    )
    return


@app.cell(hide_code=True)
def _(entries, entry, float_opened):
    _names = {one.path.name: one for one in entries if one.description is not None}
    _behind = () if float_opened is None else (float_opened.description.path,)
    _shown = [name for name, one in _names.items() if one is entry or str(one.path) in _behind]
    others_field = mo.ui.multiselect(_names, value=_shown, label="Models", max_selections=8)
    return (others_field,)


@app.cell(hide_code=True)
def _(layer, others_field):
    _found, _problems = {}, []
    for _one in others_field.value:
        _open, _problem = work.attempt(lambda one=_one: work.load(one.path))
        if _problem is None:
            _found[_one.path.name] = next((one for one in _open.network.layers if one.name == layer.name), None)
        else:
            _problems.append(_problem)
    page.column(
        mo.md(
            "## The same layer in several models\n\nIn files with folded BatchNorm its factors are part of the weights: "
            "other numbers, the same network."
        ),
        others_field,
        *_problems,
        views.same_layer(layer.name, _found),
    )
    return


if __name__ == "__main__":
    app.run()
