"""Recipes of one's own: TOML files with the fields of :class:`resnet8.quantization.recipes.Recipe` or of a scheme."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args

from resnet8.errors import QuantizationError
from resnet8.files import read_bytes
from resnet8.quantization.recipes import BACKENDS, RECIPES, Form, Recipe, native
from resnet8.quantization.scheme import Scheme

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> Recipe:
    """A recipe of one's own: a TOML file with fields of :class:`Recipe`, named by its stem.

    ``framework``, ``activations`` and ``weights`` must be there; the others are else as in the shared recipes: one
    scale for a tensor, folded by ONNX Runtime, the framework's observer in float64, the first draw. For example::

        framework = "onnxruntime"
        activations = "uint8"
        weights = "int8"
        per_channel = true
        reduce_range = true

    Raises:
        StorageError: when the file cannot be read.
        QuantizationError: when it is no TOML, or gives a field that is missing, unknown or impossible; or its name is
            that of a known recipe.
    """
    name = path.stem
    if name in RECIPES or name.startswith("published-"):
        raise _unusable(path, f"the name {name}", "a name that no recipe has")
    try:
        given = tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise _unusable(path, str(error)[:200], "TOML") from error
    if given.get("mode") == "native":
        return _native(path, given)
    own = {one.name for one in fields(Recipe)} - {"name", "refused", "output", "reproduced", "scheme", "form"}
    if unknown := sorted(given.keys() - own):
        raise _unusable(path, ", ".join(unknown), f"no other fields than {', '.join(sorted(own))}")
    if missing := sorted({"framework", "activations", "weights"} - given.keys()):
        raise _unusable(path, f"no {' and no '.join(missing)}", "framework, activations and weights")
    chosen = str(given.get("mode") or given["framework"])
    backend = BACKENDS.get(chosen, BACKENDS["onnxruntime"])  # one that is not known is refused below
    values = {
        "name": name,
        "per_channel": False,
        "observed_in": "float64",
        "draw": "first",
        "output": f"resnet8_{name}.{backend.suffix}",
        "summary": f"of {path.name}",
        **backend.defaults,
    }
    from pydantic import TypeAdapter, ValidationError  # known recipes do without: they are looked up first of all

    try:
        made: Recipe = TypeAdapter(Recipe).validate_json(json.dumps(values | given, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _unusable(path, f"{first['loc'][0]} = {first['input']!r:.60}", first["msg"]) from error
    made.require_weights()
    return made


def _native(path: Path, given: dict[str, Any]) -> Recipe:
    """A recipe of this package's own kind: fields of :class:`Scheme`, ``layer_bits`` as a table, and ``form``."""
    from pydantic import TypeAdapter, ValidationError

    form = given.get("form", "qoperator")
    if form not in get_args(Form):
        raise _unusable(path, f"form = {form!r:.60}", " or ".join(get_args(Form)))
    layer_bits = given.get("layer_bits", {})
    if not isinstance(layer_bits, dict):
        raise _unusable(path, f"layer_bits = {layer_bits!r:.60}", "a table of layers and bits")
    known = {one.name for one in fields(Scheme)} - {"float_layers"}
    values = {name: value for name, value in given.items() if name not in ("mode", "form")}
    if unknown := sorted(values.keys() - known):
        raise _unusable(path, ", ".join(unknown), f"no other fields than form, mode, {', '.join(sorted(known))}")
    values["layer_bits"] = list(layer_bits.items())
    try:
        scheme: Scheme = TypeAdapter(Scheme).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = " ".join(map(str, first["loc"])) or "a value"
        raise _unusable(path, f"{where} = {first['input']!r:.60}", first["msg"]) from error
    return native(path.stem, f"resnet8_{path.stem}.onnx", f"of {path.name}", scheme, form=form)


def _unusable(path: Path, found: str, expected: str) -> QuantizationError:
    return QuantizationError(
        f"{path} is no recipe", found=found, expected=expected, remedy="the README shows a recipe of one's own"
    )
