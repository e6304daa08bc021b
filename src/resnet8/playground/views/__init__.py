"""The sections of the page: values of this package in, Marimo's elements out. The notebook says when which is shown."""

from resnet8.playground.views.changed import FLIPS, changed_image, changed_prediction, effects, flips, saved
from resnet8.playground.views.images import errors, flowing, image, series
from resnet8.playground.views.layers import layer, parameters, same_layer
from resnet8.playground.views.models import files, model, no_models

__all__ = [
    "FLIPS",
    "changed_image",
    "changed_prediction",
    "effects",
    "errors",
    "files",
    "flips",
    "flowing",
    "image",
    "layer",
    "model",
    "no_models",
    "parameters",
    "same_layer",
    "saved",
    "series",
]
