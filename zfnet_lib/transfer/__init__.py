"""Keep the features, train a new classifier on other pictures (sections 5.2 and 5.3)."""

from .classifiers import Coordinates, choose_decay, coordinates, fit_softmax, fit_svm
from .controls import Hog, Pixels
from .features import Extractor, LayerFeatures, NetworkFeatures, extract
from .folds import MOST, Fold, FoldError, draw_folds, protocol_folds
from .scores import average_precision, mean_precision, per_class_accuracy, precision_gain

__all__ = [
    "MOST",
    "Coordinates",
    "Extractor",
    "Fold",
    "FoldError",
    "Hog",
    "LayerFeatures",
    "NetworkFeatures",
    "Pixels",
    "average_precision",
    "choose_decay",
    "coordinates",
    "draw_folds",
    "extract",
    "fit_softmax",
    "fit_svm",
    "mean_precision",
    "per_class_accuracy",
    "precision_gain",
    "protocol_folds",
]
