"""The fast path is the same function: folding, rehearsal and capture, the literal modules, and what bench reports."""

import contextlib
import json
import types
from typing import NamedTuple

import pytest
import torch
from helpers.steps import make_step
from torch import Tensor, nn

from famkd.bench import step as timing
from famkd.bench.modules import costs, modules
from famkd.bench.reference import ReferenceFilter, ReferenceLoader, use_reference
from famkd.bench.step import as_json, bench, noise_images, save_csv
from famkd.cli.bench import bench_command
from famkd.config.load import load_recipe
from famkd.data.in_memory import InMemory
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.layers.fourier import FAM
from famkd.layers.fusion import CrossAttention
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.sweep.memory import step_memory
from famkd.sweep.seeds import fitting
from famkd.tasks import Classification
from famkd.training import cuda_graph as graph
from famkd.training.build import build_distiller, build_recipe_data
from famkd.training.cuda_graph import warm_up
from famkd.training.step import Step


class Piece(NamedTuple):
    index: Tensor


IMAGES = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def take(piece: Piece) -> Batch:
    return Batch(IMAGES[piece.index], piece.index % 4, piece.index)


def a_step(kind: str = "eager") -> Step:
    torch.manual_seed(0)
    student, teacher = build_model("resnet8x0.5", 4), build_model("resnet8", 4)
    probe = take(Piece(torch.arange(8)))
    methods = {"fam_review": METHODS["fam_review"], "crd": METHODS["crd"]}
    distiller = Distiller(Classification(), student, teacher, methods, probe=probe, labels=torch.arange(32) % 4)
    parameters = [p for p in distiller.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)
    step = make_step(distiller.train(), optimizer, take, methods, kind)
    step.set_epoch(0.05, {"task": 1.0, "fam_review": 0.5, "crd": 0.1})
    return step


def test_the_warm_up_leaves_no_trace():
    """Weights, running statistics, CRD's memory, momentum and sums are as if the warm-up had never been."""
    step, fresh = a_step(), a_step()
    warm_up_on_cpu(step)
    for (name, one), other in zip(step.distiller.state_dict().items(), fresh.distiller.state_dict().values()):
        assert torch.equal(one, other), name
    moments = [state["momentum_buffer"] for state in step.optimizer.state.values()]
    assert len(moments) == len(step.optimizer.param_groups[0]["params"])
    assert all(m.abs().max() == 0 for m in moments)
    assert step.monitor.loss_sums.abs().max() == 0


def warm_up_on_cpu(step: Step) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_side_stream", contextlib.nullcontext)
        warm_up(step, Piece(torch.arange(8)), 3)


def test_a_captured_step_reads_new_inputs_rates_and_weights(monkeypatch):
    """The graph engine with capture played by a recorder: replays equal plain steps, over a change of epoch."""
    for name in ("_side_stream", "_refusing_waits"):
        monkeypatch.setattr(graph, name, contextlib.nullcontext)
    monkeypatch.setattr(graph, "_capture", lambda run: run)
    plain, captured = a_step("eager"), a_step("eager")
    captured.engine = "graph"
    for step in (plain, captured):
        torch.manual_seed(7)
        for epoch, lr in enumerate((0.05, 0.01)):
            step.set_epoch(lr, {"task": 1.0, "fam_review": 0.5 * epoch, "crd": 0.0})
            for start in (0, 8, 16, 24):
                torch.manual_seed(start)  # CRD draws negatives; a warm-up draws too
                if step is captured and step._graph is None:
                    step._graph = graph.Graph(step, Piece(torch.arange(start, start + 8)))
                    torch.manual_seed(start)
                step(Piece(torch.arange(start, start + 8)))
    assert captured.monitor.means(4) == pytest.approx(plain.monitor.means(4), rel=1e-5)
    for one, other in zip(captured.distiller.parameters(), plain.distiller.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 6), (7, 7)])
def test_the_literal_modules_are_the_same_function(size):
    torch.manual_seed(0)
    fam, fuse = FAM(3, 4, size), CrossAttention(4)
    x, y = torch.randn(2, 3, *size), torch.randn(2, 4, *size)
    wanted_fam, wanted_fuse, response = fam(x), fuse(y, y), fam.filter.response()
    literal = use_reference(nn.ModuleDict({"fam": fam, "fuse": fuse}))
    naive = literal["fam"].filter
    assert isinstance(naive, ReferenceFilter)
    half = size[1] // 2 + 1
    full = torch.zeros(4, 3, *size, dtype=torch.cfloat)
    full[..., :half] = response
    rows, cols = (-torch.arange(size[0])) % size[0], (-torch.arange(half, size[1])) % size[1]
    full[..., half:] = response[..., rows, :][..., cols].conj()
    with torch.no_grad():
        naive.weight.copy_(full)
    torch.testing.assert_close(literal["fam"](x), wanted_fam, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(literal["fuse"](y, y), wanted_fuse, rtol=1e-5, atol=1e-5)


def test_the_literal_loader_decodes_what_the_data_set_holds():
    images = noise_images(n=8)
    still = type(images)(**{**images.__dict__, "pad": 0, "flip": False})
    batch = next(iter(ReferenceLoader(still, 8, torch.device("cpu"))))
    ours = InMemory(still, 8).probe()
    torch.testing.assert_close(batch.images, ours.images[batch.index], rtol=1e-4, atol=1e-4)
    assert torch.equal(batch.targets, ours.targets[batch.index])


def test_bench_reports_every_part_under_a_plain_key(tmp_path):
    recipe = load_recipe("quickstart", "--engine", "eager", "--data.batch_size", "16")
    figures = bench(recipe, steps=2, against_naive=True)
    assert json.loads(as_json(figures)) == figures
    parts = [figures[f"{name}_ms"] for name in ("data", "teacher", "student", "method", "optimiser")]
    assert sum(parts) >= figures["ms_per_step"] * 0.999
    assert figures["ratio"] == pytest.approx(figures["naive_ms_per_step"] / figures["ms_per_step"])
    assert figures["images_per_s"] == pytest.approx(16000 / figures["ms_per_step"])
    assert 0 < figures["share_of_matmul_ceiling"] < 1
    for _ in range(2):
        path = save_csv(figures, tmp_path)
    assert len(path.read_text().splitlines()) == 3


def test_peak_memory_is_the_steps_own(monkeypatch):
    asked = []
    monkeypatch.setattr(timing, "ceilings", lambda device: asked.append(device) or (1.0, 1.0))
    monkeypatch.setattr("resource.getrusage", lambda who: types.SimpleNamespace(ru_maxrss=1024 * (1 + len(asked))))
    figures = bench(load_recipe("quickstart", "--engine", "eager", "--data.batch_size", "16"), steps=1)
    assert len(asked) == figures["peak_mib"] == 1


def test_bench_times_the_recipes_own_arithmetic(monkeypatch):
    """Parts alone are in the step's precision, and a batch is cut as training cuts it."""
    seen, time_parts = [], timing.time_parts
    study, teach = Classification.study, Classification.teach

    def noting(call):
        def noted(self, network, batch, *rest, **options):
            seen.append((len(batch.images), torch.is_autocast_enabled("cpu")))
            return call(self, network, batch, *rest, **options)

        return noted

    def noted_parts(*arguments):
        assert seen[-1] == (8, True)
        seen.clear()
        times = time_parts(*arguments)
        assert set(seen) == {(16, True)}
        return times

    monkeypatch.setattr(Classification, "study", noting(study))
    monkeypatch.setattr(Classification, "teach", noting(teach))
    monkeypatch.setattr(timing, "time_parts", noted_parts)
    flags = ("--data.batch_size", "16", "--optim.accumulate", "2", "--precision", "bf16-mixed", "--accelerator", "cpu")
    bench(load_recipe("quickstart", "--engine", "eager", *flags), steps=1)


def test_bench_refuses_what_the_cost_of_attention_leaves_out():
    for flags in (["--noise"], ["--against", "naive"], ["--save", "x"]):
        with pytest.raises(UserError, match="--attention times modules, so it cannot be combined"):
            bench_command(["quickstart", "--attention", *flags])


def test_bench_refuses_a_step_that_training_would():
    with pytest.raises(UserError, match="cannot be cut into 3 equal parts"):
        bench(load_recipe("quickstart", "--optim.accumulate", "3"), noise=True)


@pytest.mark.slow
def test_costs_are_of_compiled_code_at_every_size(monkeypatch):
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile(f, backend="eager", **options))
    with torch._dynamo.config.patch(recompile_limit=4, fail_on_recompile_limit_hit=True):
        costs(load_recipe("quickstart", "--engine", "compile"), steps=1, batch=2, sizes=((4, 8), (8, 4)))


def test_costs_cover_every_module_and_count_complex_numbers_twice():
    rows = costs(load_recipe("quickstart", "--engine", "eager"), steps=1, batch=2, sizes=((4, 8),))
    assert [row["module"] for row in rows] == list(modules(4, 8))
    parameters = {row["module"]: row["parameters"] for row in rows}
    assert parameters["AT map"] == 0
    assert parameters["FAM dense"] == 4 * 4 * 8 * 5 * 2 + 4 * 4 + 4 + 2
    assert parameters["naive FAM"] == 4 * 4 * 8 * 8 * 2 + 4 * 4 + 4 + 2
    assert all(row["ms"] > 0 for row in rows)


@pytest.mark.slow
def test_seeds_train_apart_and_end_with_mean_and_spread(small, python, tmp_path):
    flags = ("--epochs", "1", "--seeds", "0", "1", "--runs", str(tmp_path / "runs"))
    code, out, err = python("-m", "famkd", "train", "small.yaml", *flags)
    assert code == 0, err
    assert (tmp_path / "runs/small/none-seed0/student.safetensors").is_file()
    assert (tmp_path / "runs/small/none-seed1/student.safetensors").is_file()
    assert "±" in out


@pytest.mark.slow
def test_as_many_seeds_go_at_once_as_fit_on_the_gpus(monkeypatch):
    gib, free = 2**30, [9 * 2**30, 1 * 2**30]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[gpu], 80 * gib))
    recipe = load_recipe("quickstart")
    assert fitting(recipe, 0) == 1
    assert fitting(recipe, 1) == 4  # a little more than 2 GiB each
    assert fitting(recipe, 2) == 4 + 1
    monkeypatch.setattr("famkd.sweep.seeds.build_training_data", lambda recipe: types.SimpleNamespace(streamed=True))
    assert fitting(load_recipe("imagenet/resnet34-resnet18"), 2) == 2


def test_memory_of_a_step_grows_with_the_batch_and_counts_what_stays():
    recipe = load_recipe("quickstart", "--method", "none")
    data = build_recipe_data(recipe)
    held = []
    for images in (16, 64):
        distiller = build_distiller(recipe, data, weights=False).train()
        numbers = sum(p.numel() for p in distiller.parameters())
        batch = Batch(*(each[:images] for each in data.probe()[:3]))
        held.append(step_memory(distiller, batch, recipe.optim, {"task": 1.0}))
    assert held[1].peak - held[1].kept > 3 * (held[0].peak - held[0].kept)
    assert 4 * 3 * numbers < held[0].kept < 4 * 4 * numbers + 16 * 3 * 32 * 32 * 4  # weights, gradients, momentum


def test_seeds_refuse_one_directory(small):
    from famkd.cli import train_command

    with pytest.raises(UserError, match="--runs"):
        train_command(["small.yaml", "--seeds", "0", "1", "--out", "x"])
