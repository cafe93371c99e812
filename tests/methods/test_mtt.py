"""MTT: Table 9, experts and what they are shared over, Algorithm 1 against a plain unroll, and what goes wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Small
from full_unroll import unroll
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from avbench.api import Augmentation, Classifier, Context, PrerequisiteContext, Setting, Streams, TrainSet
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.desk import Desk, Spec
from avbench.distilled import load
from avbench.errors import AvbenchError, RequestError
from avbench.grammar import parse_variants
from avbench.jobs import Engine, EvaluateTask, PrerequisiteTask
from avbench.options import resolve
from avbench.plan import Plan, Request, make_plan
from avbench.prerequisite import SHARED_SEED
from avbench.results import RunDirectory
from avbench.tasks.distilling import distil
from avbench.tasks.evaluating import evaluate
from avbench.tasks.prerequisites import build_prerequisite
from avbench_methods.experts import Expert, ExpertTraining, after, segment
from avbench_methods.mtt import MTTConfig, TrajectoryMatching, expert_name, published, table9

FEW = {
    "steps": 4, "experts": 2, "expert_batch": 12, "inner_audio": 3, "inner_visual": 4, "batch_audio": 3,
    "batch_visual": 5, "step_audio": 0.02, "step_visual": 0.03, "lr_audio": 5.0, "lr_visual": 5.0, "lr_step": 1e-5,
}  # fmt: skip
EXPERT = Expert("a", 0, 3, 0.01, 8, "color_crop_cutout_flip_scale_rotate")


def train_expert(
    small: Small, expert: Expert, *, dtype: torch.dtype = torch.float64, micro_batch: int = 256, width: int = 4
) -> ExpertTraining:
    """An expert on the small store before its first epoch; what it does not depend on is not there."""
    return expert.build(
        PrerequisiteContext(
            train=TrainSet(small.stores[1], small.CPU, dtype),
            modality="",
            streams=Streams(SHARED_SEED),
            architecture=small.architecture(width),
            protocol=None,  # type: ignore[arg-type]
            fusion=None,  # type: ignore[arg-type]
            device=small.CPU,
            dtype=dtype,
            micro_batch=micro_batch,
        )
    )


def finish(training: ExpertTraining, first: int = 0) -> Mapping[str, Tensor]:
    for k in range(first, training.steps):
        training.step(k)
    return training.tensors()


EXPERTS: dict[tuple[Expert, torch.dtype], Mapping[str, Tensor]] = {}


def mtt(small: Small, *, ipc: int = 2, modality: str = "av", dtype: torch.dtype = torch.float64, **options: Any):  # type: ignore[no-untyped-def]
    """The method on the small store, with experts made once for all tests."""
    context = small.context(ipc=ipc, modality=modality, dtype=dtype, seed=options.pop("seed", 0))
    config = resolve(MTTConfig, "mtt", [({**FEW, **options}, "test")]).config
    TrajectoryMatching.check(config, context.setting)
    found = {}
    for name, need in TrajectoryMatching.requires(config, context.setting).items():
        assert isinstance(need, Expert)
        if (need, dtype) not in EXPERTS:
            EXPERTS[need, dtype] = finish(train_expert(small, need, dtype=dtype))
        found[name] = EXPERTS[need, dtype]
    return TrajectoryMatching(config, replace(context, prerequisites=found))


def run(method: TrajectoryMatching, first: int = 0) -> list[Mapping[str, float]]:
    return [method.step(k) for k in range(first, method.steps)]


# --- Algorithm 1 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"factor": 2, "augment": "none"}], ids=["as published", "packed"])
def test_items_and_step_sizes_follow_the_plain_unroll_under_torch_s_sgd(small: Small, options: dict) -> None:
    method = mtt(small, steps=4, **options)
    config, labels = method.config, method.context.labels
    items = {name: x.detach().clone().requires_grad_(True) for name, x in method.items.items.items()}
    betas = {n: torch.tensor(s.value, dtype=torch.float64, requires_grad=True) for n, s in method.step_size.items()}
    groups = [{"params": [x], "lr": config.of(name, "lr")} for name, x in items.items()]
    sgd = torch.optim.SGD([*groups, {"params": list(betas.values()), "lr": config.lr_step}], lr=0.0, momentum=0.5)
    origin = {name: x.detach().clone() for name, x in items.items()}
    for k in range(4):
        metrics = method.step(k)
        sgd.zero_grad()
        for name, x in items.items():
            inner, pair = method._inner_steps(name, k), method._expert(name, k)
            loss = unroll(method.students[name].network, x, labels, betas[name], inner, *pair, config.factor)
            loss.backward()
            assert metrics[f"loss_{name}"] == pytest.approx(float(loss.detach()), rel=1e-10)
        sgd.step()
        for name, x in items.items():
            moved = float((x.detach() - origin[name]).abs().max())
            assert moved > 1e-3
            assert float((method.items.items[name].detach() - x.detach()).abs().max()) <= 1e-10 * moved
            beta = float(betas[name].detach())
            assert method.step_size[name].value == pytest.approx(beta, rel=1e-10) and beta != config.of(name, "step")


def test_the_loss_on_the_experts_falls(small: Small) -> None:
    losses = run(mtt(small, steps=16, dtype=torch.float32, lr_audio=20.0, lr_visual=20.0))
    for name in "av":
        found = [step[f"loss_{name}"] for step in losses]
        assert sum(found[-4:]) < 0.95 * sum(found[:4])


def test_the_truncated_gradient_is_another_but_starts_from_the_same_loss(small: Small) -> None:
    exact, truncated = mtt(small), mtt(small, gradient="truncated")
    first, second = exact.step(0), truncated.step(0)
    assert first["loss_a"] == second["loss_a"] and first["step_size_a"] != second["step_size_a"]
    assert not torch.equal(exact.items.items["a"], truncated.items.items["a"])


def test_each_modality_learns_as_it_would_alone(small: Small) -> None:
    both = mtt(small)
    run(both)
    for name in "av":
        alone = mtt(small, modality=name)
        run(alone)
        assert torch.equal(alone.items.items[name], both.items.items[name])
        assert alone.step_size[name].value == both.step_size[name].value


def test_every_expert_comes_once_before_any_comes_again_whatever_the_ipc(small: Small) -> None:
    def drawn(method: TrajectoryMatching) -> list[tuple[int, int]]:
        starts = {}
        for index in range(2):
            stored = method.context.prerequisites[expert_name("a", index)]
            starts |= {float(stored[after(t)].sum()): (index, t) for t in range(2)}
        return [starts[float(method._expert("a", k)[0].sum())] for k in range(20)]

    found = drawn(mtt(small))
    assert all({found[k][0], found[k + 1][0]} == {0, 1} for k in range(0, 20, 2))
    assert {t for _, t in found} == {0, 1}
    assert drawn(mtt(small, ipc=1)) == found
    assert drawn(mtt(small, seed=1)) != found


def test_the_target_is_expert_epochs_after_the_start(small: Small) -> None:
    method = mtt(small, max_start=1, expert_epochs=2, experts=1)
    start, target = method._expert("v", 0)
    stored = method.context.prerequisites[expert_name("v", 0)]
    assert torch.equal(start, stored["epoch 0"]) and torch.equal(target, stored["epoch 2"])


@pytest.mark.parametrize("k", range(4))
def test_a_resumed_run_ends_with_the_same_bits(small: Small, tmp_path: Path, k: int) -> None:
    whole, killed, resumed = (mtt(small, dtype=torch.float32) for _ in range(3))
    run(whole)
    for done in range(k):
        killed.step(done)
    save_checkpoint(tmp_path / "c", k, killed.state())
    found = load_checkpoint(tmp_path / "c")
    assert found is not None
    resumed.load_state(found[1])
    run(resumed, found[0])
    assert resumed.distilled().content_hash == whole.distilled().content_hash


def test_the_set_carries_the_last_step_sizes(small: Small) -> None:
    method = mtt(small)
    last = run(method)[-1]
    assert method.distilled().step_size == {"a": last["step_size_a"], "v": last["step_size_v"]}
    assert mtt(small, modality="v", steps=0).distilled().step_size == {"v": 0.03}


def test_a_step_size_that_is_driven_down_stays_positive(small: Small) -> None:
    method = mtt(small, steps=8, lr_step=10.0, diverged=1e300)
    with np.errstate(all="ignore"):
        found = run(method)
    assert all(step[f"step_size_{name}"] > 0 for step in found for name in "av")


def test_a_diverging_run_says_so(small: Small) -> None:
    with pytest.raises(AvbenchError, match=r"training on the visual items diverged: loss .* lower lr_visual or step_v"):
        run(mtt(small, modality="v", step_visual=1e3))


# --- Experts --------------------------------------------------------------------------------------------------------


def test_an_expert_is_trained_by_plain_sgd_in_batches_of_a_fresh_order(small: Small) -> None:
    """The oracle: a module, torch's optimiser, one batch after the other."""
    training = train_expert(small, EXPERT)
    network = Classifier(small.architecture(), small.stores[1].info, "a").double()
    start = network.unflatten(training.trajectory[0])
    network.load_state_dict(start)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01)
    train, streams = TrainSet(small.stores[1], small.CPU, torch.float64), Streams(SHARED_SEED)
    found = finish(training)
    assert list(found) == [after(epoch) for epoch in range(4)]
    for epoch in range(3):
        rng = streams("expert 0 epoch a", step=epoch)
        order = rng.permutation(36)
        for rows in (order[0:8], order[8:16], order[16:24], order[24:32], order[32:]):
            x = Augmentation(EXPERT.augment).per_sample(rng, len(rows))(train.batch(rows, "a")["a"])
            sgd.zero_grad()
            F.cross_entropy(network(x), train.labels[torch.from_numpy(rows)]).backward()
            sgd.step()
        theirs = network.flatten({name: p.detach() for name, p in network.named_parameters()})
        assert float((found[after(epoch + 1)] - theirs).abs().max()) <= 1e-12
    assert len({tuple(theta.tolist()) for theta in found.values()}) == 4


def test_a_longer_expert_begins_as_a_shorter_one(small: Small) -> None:
    short, long = finish(train_expert(small, EXPERT)), finish(train_expert(small, replace(EXPERT, epochs=5)))
    assert len(long) == 6 and all(torch.equal(short[name], long[name]) for name in short)


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_micro_batches_change_an_expert_by_rounding_alone(small: Small, micro_batch: int) -> None:
    one, other = finish(train_expert(small, EXPERT)), finish(train_expert(small, EXPERT, micro_batch=micro_batch))
    assert all(float((one[name] - other[name]).abs().max()) < 1e-12 for name in one)


@pytest.mark.parametrize("k", range(4))
def test_a_resumed_expert_ends_with_the_same_bits(small: Small, tmp_path: Path, k: int) -> None:
    whole = finish(train_expert(small, EXPERT, dtype=torch.float32))
    killed, resumed = (train_expert(small, EXPERT, dtype=torch.float32) for _ in range(2))
    for done in range(k):
        killed.step(done)
    save_checkpoint(tmp_path / "c", k, killed.state())
    found = load_checkpoint(tmp_path / "c")
    assert found is not None
    resumed.load_state(found[1])
    assert all(torch.equal(theta, whole[name]) for name, theta in finish(resumed, found[0]).items())


def test_experts_and_modalities_differ(small: Small) -> None:
    starts = [train_expert(small, replace(EXPERT, index=i, modality=m)).trajectory[0] for i in (0, 1) for m in "av"]
    assert len({tuple(theta[:8].tolist()) for theta in starts}) == 4


class Spy(Mapping[str, Tensor]):
    """Tensors that note which of them are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.read = tensors, list[str]()

    def __getitem__(self, name: str) -> Tensor:
        self.read.append(name)
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_only_the_two_points_of_a_segment_are_read(small: Small) -> None:
    spy = Spy({after(k): torch.full((3,), float(k)) for k in range(50)})
    start, target = segment(spy, "expert", 7, 9, 3)
    assert (float(start[0]), float(target[0])) == (7, 9) and set(spy.read) == {"epoch 7", "epoch 9"}


# --- Table 9 and options --------------------------------------------------------------------------------------------


def defaults(small: Small, dataset: str, ipc: int, modality: str, preset: str = "paper") -> Any:
    info = replace(small.stores[1].info, dataset=dataset)
    layers = [(TrajectoryMatching.defaults(Setting(info, ipc, modality, preset)), "published")]
    return resolve(MTTConfig, "mtt", layers)


def test_table_9_is_the_paper_s() -> None:
    table = table9()
    assert len(table) == 20  # 24 configurations, four of them empty
    empty = {("v", "vggsound", 10), ("v", "vggsound", 20), ("v", "music21", 20), ("v", "ave", 20)}
    every = {(m, d, i) for m in "av" for d in ("vggs10k", "vggsound", "music21", "ave") for i in (1, 10, 20)}
    assert every - set(table) == empty
    assert {(row["expert_epochs"], row["max_start"]) for row in table.values()} == {("2", "2")}
    row = table["v", "ave", 10]
    assert [float(row[c]) for c in ("inner", "batch", "lr", "step")] == [2, 1, 1e5, 1e-4]
    assert all(float(row["step"]) == (1e-3 if m == "a" else 1e-4) for (m, _, _), row in table.items())


def test_published_settings_are_the_defaults_of_each_modality(small: Small) -> None:
    found = defaults(small, "ave", 1, "av")
    config = found.config
    assert (config.inner_audio, config.batch_audio, config.lr_audio, config.step_audio) == (20, 20, 1e3, 1e-3)
    assert (config.inner_visual, config.batch_visual, config.lr_visual, config.step_visual) == (5, 5, 1e3, 1e-4)
    assert (config.expert_epochs, config.max_start, config.lr_step, config.momentum) == (2, 2, 1e-5, 0.5)
    assert (config.steps, config.experts, config.expert_lr, config.expert_batch) == (5000, 20, 0.01, 256)
    assert found.origins["inner_audio"] == found.origins["max_start"] == "AVDD, Table 9"


@pytest.mark.parametrize(
    ("dataset", "ipc", "modality", "at", "marked"),
    [
        ("vggsound", 20, "v", ("vggsound", 1), True),
        ("music21", 20, "v", ("music21", 10), True),
        ("ave", 20, "v", ("ave", 10), True),
        ("ave", 20, "a", ("ave", 20), False),
        ("ave", 15, "a", ("ave", 10), True),
        ("ave", 50, "a", ("ave", 20), True),
        ("elsewhere", 10, "v", ("vggs10k", 10), True),
        ("elsewhere", 0, "a", ("vggs10k", 1), True),
    ],
)
def test_what_table_9_lacks_is_extrapolated_and_says_so(
    dataset: str, ipc: int, modality: str, at: tuple[str, int], marked: bool
) -> None:
    row, source = published(dataset, ipc, modality)
    assert (row["dataset"], int(row["ipc"]), row["modality"]) == (*at, modality)
    assert source == ("AVDD, Table 9" + (f", extrapolated from {at[0]} at IPC {at[1]}" if marked else ""))


def test_the_experts_epochs_are_those_that_are_ever_used(small: Small) -> None:
    assert MTTConfig(max_start=3, expert_epochs=4).expert("a", 1).epochs == 6
    assert MTTConfig(epochs=50).expert("v", 0).epochs == 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_audio": 0.0}, "lr_audio"), ({"lr_visual": -1.0}, "lr_visual"), ({"lr_step": 0}, "lr_step"),
        ({"lr_audio": "nan"}, "a finite number"), ({"step_visual": 0.0}, "step_visual"),
        ({"expert_lr": 0.0}, "expert_lr"), ({"experts": 0}, "experts"), ({"inner_audio": 0}, "inner_audio"),
        ({"max_start": 5, "epochs": 5}, "need experts of 6 epochs"), ({"augment": "flap"}, "flap"),
        ({"gradient": "half"}, "gradient"), ({"factor": 0}, "factor"), ({"momentum": 1.0}, "momentum"),
    ],
    ids=str,
)  # fmt: skip
def test_impossible_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        resolve(MTTConfig, "mtt", [(options, "test")])


def test_a_factor_that_does_not_fit_is_refused(small: Small) -> None:
    setting = small.context().setting
    with pytest.raises(RequestError, match="factor = 17"):
        TrajectoryMatching.check(MTTConfig(factor=17), setting)
    with pytest.raises(RequestError, match="init = noise"):
        TrajectoryMatching.check(MTTConfig(factor=2, init="noise"), setting)


# --- As tasks of a run ----------------------------------------------------------------------------------------------


class Bench:
    """A run directory on the small store; its jobs are done in this process."""

    SETTINGS: Mapping[str, Mapping[str, str]] = {
        "mtt": {name: str(value) for name, value in FEW.items()},
        "convnet": {"width": "4"},
        "recognition-quick": {"updates": "2", "epochs": "1"},
    }

    def __init__(self, small: Small, out: Path) -> None:
        self.small, self.directory = small, RunDirectory(out)
        out.mkdir(parents=True, exist_ok=True)

    def plan(self, methods: str = "mtt", ipcs: tuple[int, ...] = (1,), **changes: Any) -> Plan:
        info = self.small.stores[1].info
        given = {"seeds": 1, "networks": 1, "preset": "quick", "settings": self.SETTINGS, **changes}
        return make_plan(Request(parse_variants(methods, "--method"), (info,), ipcs, **given), self.directory)

    def carry_out(self, plan: Plan) -> None:
        spec = Spec((), self.directory.root, self.small.data, Engine(), ("test",), ())
        for job in plan.jobs:
            desk = Desk(spec, self.directory.root / "events.jsonl")
            for task in job.tasks:
                if isinstance(task, PrerequisiteTask):
                    build_prerequisite(desk, task)
                elif isinstance(task, EvaluateTask):
                    evaluate(desk, task)
                else:
                    distil(desk, [task])

    def records(self, kind: str) -> list[dict[str, Any]]:
        return list(self.directory.records(kind))

    def expert_file(self, plan: Plan, name: str) -> Path:
        (task,) = [task for task in plan.prerequisites if task.name == name]
        return self.directory.folder("prerequisite", task.key) / "tensors.safetensors"


@pytest.fixture
def bench(small: Small, tmp_path: Path) -> Bench:
    return Bench(small, tmp_path / "runs")


def test_experts_are_shared_over_seeds_ipcs_modalities_protocols_and_fusions(bench: Bench) -> None:
    plan = bench.plan("mtt,mtt[lr_step=0.1]", (1, 2), seeds=2, modalities=("a", "v", "av"))
    assert len(plan.cells) == 2 * 2 * 2 * 3
    titles = {task.title for task in plan.prerequisites}
    assert len(plan.prerequisites) == len(titles) == 4
    assert titles == {f"{which} expert {i} for small1" for which in ("audio", "visual") for i in (0, 1)}
    keys = {task.key for task in plan.prerequisites}
    judged = bench.plan(protocols=parse_variants("recognition-code[epochs=2]", "--protocol"))
    assert {task.key for task in judged.prerequisites} == keys
    wider = bench.plan(settings={**bench.SETTINGS, "convnet": {"width": "5"}})
    assert not keys & {task.key for task in wider.prerequisites}
    slower = bench.plan("mtt[expert_lr=0.02]")
    assert not keys & {task.key for task in slower.prerequisites}


def test_a_cell_is_distilled_and_judged_with_its_own_step_sizes(bench: Bench) -> None:
    plan = bench.plan("mtt", modalities=("av",))
    bench.carry_out(plan)
    (cell,), (judged,) = bench.records("distil"), bench.records("evaluate")
    assert cell["status"] == judged["status"] == "done", (cell, judged)
    found = load(bench.directory.folder("distil", cell["key"]))
    assert judged["result"]["learned_step_size"] == found.step_size
    curve = (bench.directory.folder("distil", cell["key"]) / "curve.jsonl").read_text().splitlines()
    assert found.step_size == {name: json.loads(curve[-1])[f"step_size_{name}"] for name in "av"}
    assert bench.plan().jobs == ()


def test_the_protocol_s_own_training_is_an_option_with_a_key_of_its_own(bench: Bench) -> None:
    bench.carry_out(bench.plan())
    other = bench.plan(protocols=parse_variants("recognition-quick[step_size=protocol]", "--protocol"))
    assert [job.kind for job in other.jobs] == ["evaluate"]
    bench.carry_out(other)
    with_learned = ["learned_step_size" in record["result"] for record in bench.records("evaluate")]
    assert sorted(with_learned) == [False, True]


def test_an_absent_expert_is_built_again_and_what_is_done_stays(bench: Bench) -> None:
    plan = bench.plan()
    bench.carry_out(plan)
    before = {record["key"] for record in bench.records("distil")}
    bench.expert_file(plan, "audio expert 0").unlink()
    again = bench.plan(ipcs=(1, 2))
    assert [job.kind for job in again.jobs] == ["prerequisite", "distil", "evaluate"]
    bench.carry_out(again)
    assert before < {record["key"] for record in bench.records("distil")}
    assert all(record["status"] == "done" for record in bench.records("distil"))


def test_an_expert_cut_off_while_it_was_written_does_not_count(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench import tensor_files

    def torn(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
        save_file(dict(tensors), path)
        path.write_bytes(path.read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", torn)
    plan = bench.plan()
    bench.carry_out(plan)
    assert {record["status"] for record in bench.records("prerequisite")} == {"failed"}
    assert not bench.expert_file(plan, "audio expert 0").exists()
    monkeypatch.undo()
    bench.carry_out(bench.plan(retry_failed=True))
    assert [record["status"] for record in bench.records("distil")] == ["done"]


def spoil(path: Path, how: str) -> None:
    tensors = load_file(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "garbage":
        path.write_bytes(b"\x93NUMPY" + b"\xff" * 4000)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other network":
        save_file({name: theta[:-5].clone() for name, theta in tensors.items()}, path)
    else:
        save_file({"epoch 0": tensors["epoch 0"]}, path)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "can't be read"), ("garbage", "can't be read"), ("empty", "can't be read"),
        ("other network", "audio expert 1 is of another network"), ("too short", "audio expert 1 has no epoch"),
    ],
)  # fmt: skip
def test_a_spoiled_expert_fails_the_cell_with_a_clear_reason_and_nothing_is_lost(
    bench: Bench, how: str, words: str
) -> None:
    plan = bench.plan("mtt", (1,))
    bench.carry_out(replace(plan, jobs=tuple(job for job in plan.jobs if job.kind == "prerequisite")))
    path = bench.expert_file(plan, "audio expert 1")
    whole = path.read_bytes()
    spoil(path, how)
    bench.carry_out(bench.plan())
    (record,) = bench.records("distil")
    assert record["status"] == "failed" and words in record["error"]["reason"]
    path.write_bytes(whole)
    bench.carry_out(bench.plan(retry_failed=True))
    assert [r["status"] for r in bench.records("distil")] == ["done"]
    assert {r["status"] for r in bench.records("prerequisite")} == {"done"}


def test_a_run_that_becomes_not_a_number_fails_its_cell(bench: Bench) -> None:
    bench.carry_out(bench.plan("mtt[step_audio=1e30]"))
    (record,) = bench.records("distil")
    assert record["status"] == "failed"
    assert "diverged" in record["error"]["reason"] or "not finite" in record["error"]["reason"]
    assert bench.records("evaluate") == []


def test_mtt_needs_no_network_of_the_protocol(small: Small) -> None:
    needs = TrajectoryMatching.requires(MTTConfig(experts=3), small.context(modality="v").setting)
    assert list(needs) == [expert_name("v", i) for i in range(3)]
    herded = TrajectoryMatching.requires(MTTConfig(experts=1, init="herding"), small.context().setting)
    assert list(herded) == ["features", "audio expert 0", "visual expert 0"]
    assert {f.name for f in dataclasses.fields(Expert)} == {"modality", "index", "epochs", "lr", "batch", "augment"}


def test_context_is_given_the_keys_of_its_experts(bench: Bench) -> None:
    (cell,) = bench.plan().cells
    assert set(cell.prerequisites) == {expert_name(name, i) for name in "av" for i in (0, 1)}
    assert isinstance(bench.small.context(), Context)
