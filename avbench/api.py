"""The public API: everything a plugin may build on. Importing it imports torch."""

from avbench.data.audio import LogMel, one_thread, resample
from avbench.data.samples import Samples, TensorSamples, TestSet, TrainSet, ValSet
from avbench.data.store import SPLITS, Store, StoreInfo, StoreWriter, open_store
from avbench.dataset import Dataset, NoOptions, PrepareContext
from avbench.distill.augment import Augmentation, Transform
from avbench.distill.factor import check_fits, decode, pack
from avbench.distill.herding import herd
from avbench.distill.initial import herding_rows, initial_items, random_rows, required_for
from avbench.distill.losses import LossWeights, weighted_loss
from avbench.distill.real import RealSide, StepDraw
from avbench.distill.synthetic import SyntheticItems
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet
from avbench.errors import AvbenchError, RequestError, nearest
from avbench.executors.base import Ended, Executor, Resources
from avbench.hooks import hookimpl
from avbench.method import Context, Method, SelectionMethod
from avbench.nets.base import Architecture, Encoder, draw_default
from avbench.nets.fusion import Fusion, FusionHead
from avbench.options import Sourced, option, sourced, to_json
from avbench.plugin import Plugin, Setting
from avbench.prerequisite import Prerequisite, PrerequisiteContext, Product, TrainedNetwork
from avbench.protocols.base import Evaluation, EvaluationContext, Protocol, Weights
from avbench.randomness import Streams
from avbench.work import State, Work

__all__ = [
    "SPLITS",
    "Architecture",
    "Augmentation",
    "AvbenchError",
    "Context",
    "Dataset",
    "DistilledSet",
    "Encoder",
    "Ended",
    "Evaluation",
    "EvaluationContext",
    "Executor",
    "Fusion",
    "FusionHead",
    "LearnedSet",
    "LogMel",
    "LossWeights",
    "Method",
    "NoOptions",
    "Plugin",
    "PrepareContext",
    "Prerequisite",
    "PrerequisiteContext",
    "Product",
    "Protocol",
    "RealSide",
    "RequestError",
    "Resources",
    "Samples",
    "SelectedSet",
    "SelectionMethod",
    "Setting",
    "Sourced",
    "State",
    "StepDraw",
    "Store",
    "StoreInfo",
    "StoreWriter",
    "Streams",
    "SyntheticItems",
    "TensorSamples",
    "TestSet",
    "TrainSet",
    "TrainedNetwork",
    "Transform",
    "ValSet",
    "Weights",
    "Work",
    "check_fits",
    "decode",
    "draw_default",
    "herd",
    "herding_rows",
    "hookimpl",
    "initial_items",
    "nearest",
    "one_thread",
    "open_store",
    "option",
    "pack",
    "random_rows",
    "required_for",
    "resample",
    "sourced",
    "to_json",
    "weighted_loss",
]
