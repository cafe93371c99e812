"""The public API: everything a plugin may build on. Importing it imports torch.

docs/plugins/api.md explains every name; docs/plugins/api.txt records names and signatures, and a test holds the code to
it. What is not listed here may change in any release.
"""

from avbench.data.audio import LogMel, one_thread, resample
from avbench.data.clips import (
    ClipOptions,
    MediaIndex,
    Plan,
    Recording,
    carve,
    find_annotation,
    prepare_clips,
    sha256_of,
)
from avbench.data.samples import Samples, TensorSamples, TestSet, TrainSet, ValSet
from avbench.data.store import SPLITS, Store, StoreInfo, open_store
from avbench.data.store_writer import StoreWriter
from avbench.data.windows import Loss
from avbench.dataset import Dataset, NoOptions, PrepareContext
from avbench.distill.augment import Augmentation, Transform
from avbench.distill.factor import check_fits, decode, pack
from avbench.distill.gradient import GradientDraws, GradientMatching, SyntheticTraining, gradient_distance
from avbench.distill.herding import herd
from avbench.distill.initial import class_embeddings, herding_rows, initial_items, random_rows, required_for
from avbench.distill.losses import LossWeights, weighted_loss
from avbench.distill.real import RealSide, StepDraw
from avbench.distill.synthetic import SyntheticItems
from avbench.distill.trajectory import InnerStep, Matched, StepSize, Student, inner_steps, match_trajectory
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet
from avbench.errors import AvbenchError, RequestError, nearest
from avbench.executors.base import Ended, Executor, Resources
from avbench.hooks import hookimpl
from avbench.method import Context, Method, SelectionMethod
from avbench.nets.base import Architecture, Encoder, draw_default, first_order, is_first_order
from avbench.nets.classifier import Classifier, Parameters
from avbench.nets.fusion import Embedding, Fusion, FusionHead
from avbench.options import Sourced, option, sourced, to_json
from avbench.plugin import Plugin, Setting
from avbench.prerequisite import Prerequisite, PrerequisiteContext, Product, TrainedNetwork
from avbench.previews import Preview, previews
from avbench.protocols.base import Evaluation, EvaluationContext, Metric, Protocol, Weights
from avbench.randomness import Streams
from avbench.work import State, Work

#: Semantic: the first number rises when a name goes or a signature changes so that a plugin may break, the second when
#: something is added. A plugin says which releases of avbench it was written for with its own requirement on avbench.
API_VERSION = "1.0"

__all__ = [
    "API_VERSION",
    "SPLITS",
    "Architecture",
    "Augmentation",
    "AvbenchError",
    "Classifier",
    "ClipOptions",
    "Context",
    "Dataset",
    "DistilledSet",
    "Embedding",
    "Encoder",
    "Ended",
    "Evaluation",
    "EvaluationContext",
    "Executor",
    "Fusion",
    "FusionHead",
    "GradientDraws",
    "GradientMatching",
    "InnerStep",
    "LearnedSet",
    "LogMel",
    "Loss",
    "LossWeights",
    "Matched",
    "MediaIndex",
    "Method",
    "Metric",
    "NoOptions",
    "Parameters",
    "Plan",
    "Plugin",
    "PrepareContext",
    "Prerequisite",
    "PrerequisiteContext",
    "Preview",
    "Product",
    "Protocol",
    "RealSide",
    "Recording",
    "RequestError",
    "Resources",
    "Samples",
    "SelectedSet",
    "SelectionMethod",
    "Setting",
    "Sourced",
    "State",
    "StepDraw",
    "StepSize",
    "Store",
    "StoreInfo",
    "StoreWriter",
    "Streams",
    "Student",
    "SyntheticItems",
    "SyntheticTraining",
    "TensorSamples",
    "TestSet",
    "TrainSet",
    "TrainedNetwork",
    "Transform",
    "ValSet",
    "Weights",
    "Work",
    "carve",
    "check_fits",
    "class_embeddings",
    "decode",
    "draw_default",
    "find_annotation",
    "first_order",
    "gradient_distance",
    "herd",
    "herding_rows",
    "hookimpl",
    "initial_items",
    "inner_steps",
    "is_first_order",
    "match_trajectory",
    "nearest",
    "one_thread",
    "open_store",
    "option",
    "pack",
    "prepare_clips",
    "previews",
    "random_rows",
    "required_for",
    "resample",
    "sha256_of",
    "sourced",
    "to_json",
    "weighted_loss",
]
