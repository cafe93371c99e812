"""The contract of a method plugin: given the training split and a budget, make a distilled set step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from avbench.data.samples import TrainSet
from avbench.distilled import DistilledSet, SelectedSet
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.plugin import Plugin, Setting
from avbench.prerequisite import Prerequisite
from avbench.randomness import Streams
from avbench.work import Work

T = TypeVar("T")
Role = Literal["method", "baseline", "upper bound"]


@dataclass(frozen=True)
class Context:
    """All that a method is given.

    Attributes:
        setting: dataset description, ipc, modality, preset.
        train: the training split; there is no way from here to validation or test samples.
        streams: the random streams of the run seed; a method draws from nothing else.
        architecture: the network used to distil.
        prerequisites: by the names that ``requires`` gave, the tensors of each.
        prerequisite_keys: by the same names, the key of each: for :meth:`share`, where it matters which it was.
        device, dtype: where and in what precision to compute.
        micro_batch: the most samples to send through a network at once; changes memory and speed, never draws.
        classes: the classes to distil: all of them, or one shard.
        shared: what cells that share their steps keep in common; see :meth:`share`.
    """

    setting: Setting
    train: TrainSet
    streams: Streams
    architecture: Architecture
    prerequisites: Mapping[str, Mapping[str, Tensor]]
    device: torch.device
    dtype: torch.dtype
    micro_batch: int
    classes: tuple[int, ...]
    shared: dict[Hashable, Any] = field(default_factory=dict)
    prerequisite_keys: Mapping[str, str] = field(default_factory=dict)

    def share(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for all cells of this job that ask with the same key."""
        if key not in self.shared:
            self.shared[key] = make()
        found: T = self.shared[key]
        return found

    @property
    def labels(self) -> Tensor:
        """Class-major labels (len(classes)·ipc,) of the items to make."""
        return torch.tensor(self.classes).repeat_interleave(self.setting.ipc)


class Method(Plugin, Work, ABC):
    """A distillation method. The runner owns the loop; the method makes steps.

    Class attributes:
        role: what the method is on a board.
        separable: whether classes distil independently, from draws by class, and metrics are sums over
            ``context.classes``: such a cell may be cut into class shards.
        selects: whether it selects real samples, so that an IPC above the class size is refused.
        uses_ipc: false for a method that takes the whole training set, whatever the IPC.
    """

    role: ClassVar[Role] = "method"
    separable: ClassVar[bool] = False
    selects: ClassVar[bool] = False
    uses_ipc: ClassVar[bool] = True

    def __init__(self, config: Any, context: Context) -> None:
        self.config = config
        self.context = context

    @classmethod
    def requires(cls, config: Any, setting: Setting) -> Mapping[str, Prerequisite]:
        """What must be built beforehand, by name; the runner builds each once and hands it over."""
        return {}

    @classmethod
    def shares(cls, config: Any) -> Hashable:
        """Equal, non-``None`` values mark cells whose steps draw the same: they may run in one job."""
        return None

    @classmethod
    def controls(cls, config: Any) -> Sequence[str]:
        """Variants that a fair board shows beside this one, such as ``"dm[init=herding]"``.

        They are recorded, and ``avbench run --controls`` adds them. A control takes over what the user set of this
        method, where it has an option of that name which is not written here.
        """
        return ()

    @classmethod
    def equals(cls, config: Any, setting: Setting) -> str | None:
        """The variant that this one is the same computation as, by construction, with **every** option that matters
        written out; ``None`` where it is nothing but itself.

        Boards mark rows with a common equal by ≡. Different arithmetic of one method may still round differently.
        """
        return None

    @classmethod
    def check(cls, config: Any, setting: Setting) -> None:
        """Refuse, with a RequestError, a configuration that cannot work in this setting."""

    @property
    def steps(self) -> int:
        return 0

    def step(self, k: int) -> Mapping[str, float]:
        return {}

    @abstractmethod
    def distilled(self) -> DistilledSet:
        """The distilled set as it stands after the steps made so far."""


class SelectionMethod(Method):
    """A method that only selects: write :meth:`select`, the rest is done here."""

    separable = True
    selects = True

    @abstractmethod
    def select(self, cls: int, count: int) -> Sequence[int]:
        """``count`` distinct rows of class ``cls`` of the training split."""

    def distilled(self) -> SelectedSet:
        ipc = self.context.setting.ipc
        rows = [list(self.select(c, ipc)) for c in self.context.classes]
        given = [len(of_class) for of_class in rows]
        if set(given) != {ipc}:
            raise RequestError(f"{type(self).__name__}.select gave {given} rows a class, asked for {ipc} each.")
        chosen = torch.tensor([row for of_class in rows for row in of_class])
        setting = self.context.setting
        return SelectedSet(setting.dataset, setting.modality, self.context.labels, chosen)
