"""What a set was before distillation: its snapshot after no step, or its initialisation made again."""

from __future__ import annotations

from avbench.cells import PluginRef
from avbench.configure import reconstruct
from avbench.distilled import DistilledSet, SelectedSet, load
from avbench.errors import AvbenchError
from avbench.jobs import default_micro_batch
from avbench.method import Context
from avbench.randomness import Streams
from avbench.results import hash_in
from avbench.show.networks import setting_of
from avbench.show.room import AbsentError, Room
from avbench.tasks.prerequisites import read_tensors


def beginning(room: Room) -> tuple[DistilledSet, str]:
    """The set before the first step, and where it comes from.

    Raises:
        AbsentError: it was selected, nothing is known of its making, or its initialisation can't be made again.
    """
    subject = room.subject
    if isinstance(subject.set, SelectedSet):
        raise AbsentError("this set was selected, not distilled in steps: there is no before")
    if subject.record is None or subject.directory is None:
        raise AbsentError("what it was before distillation is not known: the set has no record of a run beside it")
    known = hash_in(subject.record, 0)
    if known is not None:
        try:
            found = load(subject.directory.set_folder(subject.record["key"], 0))
        except AvbenchError as error:
            raise AbsentError(f"the snapshot of step 0 can't be read: {error}") from None
        if found.content_hash == known:
            return found, "the snapshot of step 0"
    if "adopted" in subject.record:
        raise AbsentError("what it was before distillation is not known: the set came from elsewhere")
    return _made_again(room), "made again by the method from its seed"


def _made_again(room: Room) -> DistilledSet:
    """What the method gives before any step, with all that its run gave it."""
    subject, record = room.subject, room.subject.record
    assert record is not None and subject.directory is not None
    store = room.store
    lost = [key for key in record["prerequisites"].values() if not subject.directory.done("prerequisite", key)]
    if lost:
        raise AbsentError(f"what it was before distillation needs the prerequisite {lost[0]}, which is no longer there")
    prerequisites = {
        name: read_tensors(subject.directory.folder("prerequisite", key))
        for name, key in record["prerequisites"].items()
    }
    try:
        method = reconstruct("methods", PluginRef(**record["method"]))
        context = Context(
            setting=setting_of(subject, store.info),
            train=room.train_set(),
            streams=Streams(subject.seed),
            architecture=reconstruct("architectures", PluginRef(**record["architecture"])).build(),
            prerequisites=prerequisites,
            prerequisite_keys=record["prerequisites"],
            device=room.device,
            dtype=subject.dtype,
            micro_batch=default_micro_batch(store.info),
            classes=tuple(range(len(store.info.classes))),
        )
        found: DistilledSet = method.target(method.config, context).distilled()
    except Exception as error:  # a plugin's code: whatever it raises, the other exhibits stand
        raise AbsentError(f"what it was before distillation can't be made again: {error}") from None
    return found
