"""From a record back to the task that it is of, whose key is computed anew and never read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any

from avbench.cells import Cell, Networks, PluginRef, content_key
from avbench.jobs import EvaluateTask, prerequisite_key

Record = Mapping[str, Any]
_NOTHING = PluginRef("", "", 0, "", "", {}, {})


def reference(values: Mapping[str, Any]) -> PluginRef:
    """A plugin reference from a record."""
    return PluginRef(**{field.name: values[field.name] for field in fields(PluginRef) if field.name in values})


def judged_by(record: Record) -> Networks:
    """How an evaluation built and trained its networks."""
    parts = ("protocol", "evaluated_architecture", "fusion")
    return Networks(*(reference(record[part]) for part in parts))


def cell(record: Record, content: str = "") -> Cell:
    """The cell of a distil or an evaluate record.

    Args:
        content: for a set that was brought from elsewhere, its content hash, which is part of its key.
    """
    networks = judged_by(record) if "protocol" in record else Networks(_NOTHING, _NOTHING, _NOTHING)
    return Cell(
        dataset=record["dataset"]["name"],
        fingerprint=record["dataset"]["fingerprint"],
        method=reference(record["method"]),
        role=record["role"],
        ipc=record["ipc"],
        seed=record["seed"],
        modality=record["modality"],
        preset=record["preset"],
        precision=record["precision"],
        training=Networks(networks.protocol, reference(record["architecture"]), networks.fusion),
        prerequisites=record["prerequisites"],
        planned_seeds=record["planned_seeds"],
        planned_networks=record["planned_networks"],
        content=content,
        dataset_plugin=record["dataset"].get("plugin", ""),
    )


def distil_key(record: Record) -> str:
    """The key that a distil record's facts give."""
    adopted = "adopted" in record and record["status"] == "done"
    return cell(record, record["result"]["content_hash"] if adopted else "").key


def evaluation(record: Record, made: Record | None, networks: int) -> EvaluateTask:
    """The task of an evaluate record, on the cell of the distil record that it names, as far as that is there."""
    content = made["result"]["content_hash"] if made and "adopted" in made and made["status"] == "done" else ""
    snapshot = None
    if made is not None and made["status"] == "done" and made["result"]["content_hash"] != record.get("set_hash"):
        steps = (int(step) for step, known in made["result"]["snapshots"].items() if known == record.get("set_hash"))
        snapshot = min(steps, default=None)
    split = record.get("split", "test")
    return EvaluateTask(cell(record, content), judged_by(record), networks, snapshot, split)


def evaluate_key(record: Record, made: Record | None) -> str:
    """The key that an evaluate record's facts give; "" for one that failed on a set that is not known."""
    set_hash = record.get("set_hash") or (made["result"]["content_hash"] if made and "result" in made else "")
    networks = len(record["result"]["networks"]) if record["status"] == "done" else record["planned_networks"]
    return evaluation(record, made, networks).record_key(set_hash) if set_hash else ""


def needed_key(record: Record) -> str:
    """The key that the facts of a prerequisite's record give."""
    depends_on = frozenset(record["depends_on"])
    training = Networks(
        *(reference(record["training"][part]) if part in record["training"] else _NOTHING for part in _PARTS)
    )
    same = (record["dataset"]["fingerprint"], record.get("seed", 0), record.get("modality", ""), record["precision"])
    return prerequisite_key(record["identity"], *same, training, depends_on)


_PARTS = ("protocol", "architecture", "fusion")


def tuning_key(record: Record) -> str:
    """The key that the facts of a choice give: what was listed, not what was chosen."""
    besides = ("schema_version", "kind", "key", "chosen", "chosen_cells", "values", "finished")
    facts = {name: value for name, value in record.items() if name not in besides}
    facts["values"] = {value["value"]: value["cells"] for value in record["values"]}
    return content_key("tuning", facts)


def configuration(record: Record) -> Hashable:
    """What the seeds of one row have in common."""
    own = cell(record)
    text = str([own.method.identity(), own.training.architecture.identity()])
    return (own.fingerprint, text, own.ipc, own.modality, own.precision)


def way(record: Record) -> Hashable:
    """How an evaluation judges: two of one way and configuration belong to one row."""
    return (str(judged_by(record).identity()), record.get("split", "test"))
