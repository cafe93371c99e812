"""From a plan of recordings to a store: decode what is new, count what is lost, write class by class."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avbench.data.clips import ClipOptions, Plan, carve, known_labels, only_classes, shared_videos
from avbench.data.pool import decode_all
from avbench.data.report import REPORT_NAME, LostSample, Report
from avbench.data.shards import Done, Journal, Recipe, Stretch, Task, read_samples, shard_path, task_for
from avbench.data.store import SPLITS, Store, StoreInfo
from avbench.data.store_writer import StoreWriter
from avbench.data.video import ClipFormat
from avbench.data.windows import Loss
from avbench.dataset import PrepareContext
from avbench.errors import RequestError
from avbench.options import to_json

#: The paper's statistics of colour frames on [0, 1].
_FRAME_MEAN, _FRAME_STD = (0.425, 0.396, 0.370), (0.229, 0.224, 0.221)


def make_store(plan: Plan, options: ClipOptions, context: PrepareContext) -> Store:
    """Decode the plan's recordings and write the store.

    A killed preparation goes on where it stopped: finished videos lie in a work folder beside the store to be.

    Raises:
        RequestError: nothing to decode, no sample came out, another preparation of the name is under way, or,
            with ``context.strict``, something was lost.
    """
    plan = _with_val(known_labels(only_classes(plan, options.classes)), options)
    if not any(r.path for r in plan.recordings):
        raise RequestError(_nothing(plan, context))
    size = options.size
    clip_format = ClipFormat(size, size, options.sample_rate_hz, options.frame_rule)
    recipe = Recipe(options.seconds, clip_format, options.log_mel)
    work = context.data / f".{context.name}.preparing"
    with _alone(work, context.name):
        outcome = _decode(plan, recipe, work, context)
        report = _report(plan, outcome, options, context)
        _check(report, work, context)
        store = _assemble(plan, outcome, recipe, options, report, context)
    shutil.rmtree(work, ignore_errors=True)
    return store


def _with_val(plan: Plan, options: ClipOptions) -> Plan:
    """The plan with a val split, and a note where a video is in two splits by the dataset's own doing."""
    shared = shared_videos(plan.recordings)
    notes = [f"{n} videos occur in both {a} and {b}, as in the dataset's lists." for (a, b), n in shared.items()]
    plan = replace(plan, notes=(*plan.notes, *notes))
    if options.val_fraction and not any(r.split == "val" for r in plan.recordings):
        plan = carve(plan, "train", "val", options.val_fraction, options.seed)
        plan = replace(plan, expected={k: v for k, v in plan.expected.items() if k == "test"})
    return plan


def _nothing(plan: Plan, context: PrepareContext) -> str:
    listed = len(plan.recordings)
    if not listed:
        return f"{plan.dataset}: the annotations under {context.source} name no recording of the known classes."
    missing = plan.recordings[0].video
    return (
        f"{plan.dataset}: {listed} recordings are listed, none has a file under {context.source} "
        f"(looked for {missing!r} and others); give --source the folder that holds the videos."
    )


@contextlib.contextmanager
def _alone(work: Path, name: str) -> Iterator[None]:
    """Hold the work folder; a lock of the operating system, so that a killed holder leaves none."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(f"another avbench is preparing {name!r} in {work}; wait for it, or stop it.") from None
        yield


@dataclass(frozen=True)
class _Outcome:
    """What decoding gave: for each recording of the plan its shard and samples, and all that was lost."""

    shards: Sequence[Path | None]
    kept: Sequence[Sequence[tuple[int, float]]]
    lost: Sequence[LostSample]


def _decode(plan: Plan, recipe: Recipe, work: Path, context: PrepareContext) -> _Outcome:
    stretches: dict[Path, dict[Stretch, int]] = {}
    for r in plan.recordings:
        if r.path is not None:
            wanted = stretches.setdefault(r.path, {})
            wanted.setdefault(Stretch(r.take, r.begin_s, r.end_s), len(wanted))
    tasks = {path: task_for(path, list(wanted), recipe) for path, wanted in stretches.items()}
    results = _run(list(tasks.values()), recipe, work, context)
    shards: list[Path | None] = []
    kept: list[Sequence[tuple[int, float]]] = []
    lost = [LostSample(video, "", "", None, str(reason), detail) for video, reason, detail in plan.lost]
    for r in plan.recordings:
        if r.path is None:
            lost.append(LostSample(r.video, r.split, "", None, str(Loss.MISSING), "no file was found"))
            shards.append(None)
            kept.append(())
            continue
        done = results[tasks[r.path].key]
        index = stretches[r.path][Stretch(r.take, r.begin_s, r.end_s)]
        file = _relative(r.path, context.source)
        lost += [LostSample(r.video, r.split, file, *each) for each in done.lost[index]]
        shards.append(shard_path(work, done.key))
        kept.append(done.kept[index])
    return _Outcome(shards, kept, lost)


def _relative(path: Path, source: Path | None) -> str:
    return str(path.relative_to(source) if source is not None and source in path.parents else path)


def _run(tasks: Sequence[Task], recipe: Recipe, work: Path, context: PrepareContext) -> Mapping[str, Done]:
    """Decode the tasks that no earlier preparation finished; results by key."""
    journal = Journal(work)
    try:
        results = {task.key: journal.done[task.key] for task in tasks if task.key in journal.done}
        left = [task for task in tasks if task.key not in results]
        context.progress(len(results), len(tasks), "videos")
        workers = max(1, min(context.workers, len(left)))
        for done, lasting in decode_all(left, recipe, recipe.log_mel.filters(), work, workers) if left else ():
            if lasting:
                journal.add(done)
            results[done.key] = done
            context.progress(len(results), len(tasks), "videos")
    finally:
        journal.close()
    return results


def _report(plan: Plan, outcome: _Outcome, options: ClipOptions, context: PrepareContext) -> Report:
    trained = {r.label for r, kept in zip(plan.recordings, outcome.kept, strict=True) if kept and r.split == "train"}
    left_out = [label for label in plan.classes if label not in trained]
    samples = dict.fromkeys(SPLITS, 0)
    for r, kept in zip(plan.recordings, outcome.kept, strict=True):
        samples[r.split] += len(kept) if r.label in trained else 0
    return Report(
        dataset=plan.dataset,
        name=context.name,
        listed=dict(Counter(r.split for r in plan.recordings)),
        found=dict(Counter(r.split for r in plan.recordings if r.path is not None)),
        samples=samples,
        expected=dict(plan.expected),
        lost=outcome.lost,
        left_out=left_out,
        notes=list(plan.notes),
        options=to_json(options),
    )


def _check(report: Report, work: Path, context: PrepareContext) -> None:
    """Refuse an empty store, and any loss where the user asks for that.

    Raises:
        RequestError: naming the report, which then lies in the work folder.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items()) or "nothing lost"
    if not report.samples["train"] or not report.samples["test"]:
        empty = "train" if not report.samples["train"] else "test"
        path = report.write(work)
        raise RequestError(f"{report.name}: no sample of {empty} could be made ({reasons}); see {path}.")
    if context.strict and report.lost:
        path = report.write(work)
        raise RequestError(
            f"{report.name}: {len(report.lost)} lost ({reasons}), and --strict allows none; see {path}. "
            "What was decoded is kept: add or repair the files and run the same command again."
        )


def _assemble(
    plan: Plan,
    outcome: _Outcome,
    recipe: Recipe,
    options: ClipOptions,
    report: Report,
    context: PrepareContext,
) -> Store:
    """Copy the samples of all shards into a store, class by class; memory does not grow with their number."""
    order, info = _layout(plan, outcome, options, report, context)
    total, done = sum(map(sum, info.counts.values())), 0
    _check_room(total * recipe.sample_bytes, context.data)
    writer = StoreWriter(context.data, info)
    try:
        rows: Counter[str] = Counter()
        for number in order:
            recording, kept, shard = plan.recordings[number], outcome.kept[number], outcome.shards[number]
            assert shard is not None
            for (_, start_s), (mel, frame) in zip(kept, read_samples(shard, [n for n, _ in kept], recipe), strict=True):
                writer.put(recording.split, rows[recording.split], mel, frame, recording.video, f"{start_s:g}")
                rows[recording.split] += 1
                done += 1
            context.progress(done, total, "samples written")
        report.write(writer.folder)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def _layout(
    plan: Plan, outcome: _Outcome, options: ClipOptions, report: Report, context: PrepareContext
) -> tuple[list[int], StoreInfo]:
    """The recordings by number in the order of the store's rows, and what the store says of itself."""
    classes = [label for label in plan.classes if label not in set(report.left_out)]
    index = {label: i for i, label in enumerate(classes)}
    used = [n for n, kept in enumerate(outcome.kept) if kept and plan.recordings[n].label in index]
    order = sorted(used, key=lambda n: (SPLITS.index(plan.recordings[n].split), index[plan.recordings[n].label]))
    counts = {split: [0] * len(classes) for split in SPLITS}
    for n in order:
        counts[plan.recordings[n].split][index[plan.recordings[n].label]] += len(outcome.kept[n])
    visual_depth, audio_depth = options.depths
    log_mel = options.log_mel
    notes = list(plan.notes)
    if report.left_out:
        notes.append(f"Left out, for they have no training sample: {'; '.join(report.left_out)}.")
    if report.lost:
        notes.append(f"{len(report.lost)} lost of what the annotations promise, see {REPORT_NAME}.")
    info = StoreInfo(
        name=context.name,
        dataset=plan.dataset,
        dataset_version=plan.dataset_version,
        classes=tuple(classes),
        counts={split: tuple(per_class) for split, per_class in counts.items()},
        audio_shape=log_mel.shape,
        frame_shape=(3, options.size, options.size),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=_FRAME_MEAN,
        frame_std=_FRAME_STD,
        visual_depth=visual_depth,
        audio_depth=audio_depth,
        grid=options.grid,
        preset=options.preset,
        sample_rate_hz=options.sample_rate_hz,
        audio_transform=log_mel.as_json(),
        licence=plan.licence,
        citation=plan.citation,
        options=to_json(options),
        sources=dict(plan.sources),
        notes=tuple(notes),
    )
    return order, info


def _check_room(needed_bytes: int, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise RequestError(
            f"the store needs {needed_bytes / 1e9:.1f} GB under {folder}/, {free_bytes / 1e9:.1f} GB are free; "
            "make room and run the same command again: what was decoded is kept."
        )
