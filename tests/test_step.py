"""A step in micro-batches, after a lack of memory, and beside the loop as peers write it: the same mathematics."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bench.core.spec import TrainConfig
from bench.perf.plain import PlainTimeLLM, WindowDataset, batches_of, train_plainly, validate_plainly
from bench.plan import registry
from bench.train import evaluate as evaluation
from bench.train import step
from bench.train.device import out_of_memory, seed_everything
from bench.train.evaluate import SERIES_PER_BATCH, evaluate, scorer
from bench.train.graph import Graph, replays
from bench.train.loop import fit
from bench.train.step import SERIES_PER_MICRO_BATCH, Stepper
from bench.train.windows import Windows
from models import layers
from models.kernels import fused, is_plain, plain
from models.options import Shape
from tests import graphs
from tests.builders import python, waves

pytestmark = pytest.mark.usefixtures("slim_backbones")

CONTEXT, HORIZON, CHANNELS = 48, 12, 3
SHAPE = Shape(CONTEXT, HORIZON, CHANNELS, 24, "three waves")
LANGUAGE = {"backbone": "gpt2-random", "blocks": 2}
STILL = {  # nothing random while training: dropout draws other masks in other loops
    "logo_llm": {**LANGUAGE, "local_tap": 1, "global_tap": 2, "dropout": 0.0},
    "time_llm_lite": {**LANGUAGE, "prototypes": 20, "feedforward": 8, "heads": 2, "dropout": 0.0},
    "calf_lite": {**LANGUAGE, "components": 20, "feedforward": 64, "dropout": 0.0, "lora_dropout": 0.0},
    "patchtst": {"width": 16, "heads": 4, "feedforward": 32, "dropout": 0.0},
    "itransformer": {"width": 32, "heads": 4, "feedforward": 32, "dropout": 0.0},
    "dlinear": {},
}


def part(first: int, count: int) -> Windows:
    values = torch.tensor(waves(900, CHANNELS), dtype=torch.float32)
    calendar = torch.rand(900, 4, generator=torch.Generator().manual_seed(0))
    return Windows(values, first, count, CONTEXT, HORIZON, calendar)


def config(**more: object) -> TrainConfig:
    return TrainConfig.model_validate({"epochs": 1, "batch": 16, "lr": 1e-3, "schedule": "constant", **more})


def build(model: str, kind: type[nn.Module] | None = None) -> nn.Module:
    seed_everything(3)
    model_class = kind or registry.load(model)
    built = model_class(SHAPE, registry.make_options(model, model_class, STILL[model]))
    for module in built.modules():
        if isinstance(module, nn.Dropout):  # GPT-2 brings its own
            module.p = 0.0
    return built


class TestEqualMathematics:
    @pytest.mark.parametrize("model", STILL)
    def test_float32_training_equals_the_plain_loop(self, model: str) -> None:
        ours, theirs = self.train_both(model, "float32", loss="mse")
        assert ours[0] == pytest.approx(theirs[0], rel=1e-5), "mean loss of the epoch"
        assert ours[1] == pytest.approx(theirs[1], rel=5e-4), "error on later windows"

    @pytest.mark.parametrize("model", ["logo_llm", "time_llm_lite", "calf_lite"])
    def test_bf16_training_stays_within_its_tolerance(self, model: str) -> None:
        ours, theirs = self.train_both(model, "bf16", loss="mse", lr=3e-4)
        assert ours[0] != theirs[0], "the arithmetic is another"
        assert ours[0] == pytest.approx(theirs[0], rel=5e-3)
        assert ours[1] == pytest.approx(theirs[1], rel=5e-3)

    @pytest.mark.parametrize("model", ["logo_llm", "calf_lite"])
    def test_the_plain_loop_under_bf16_autocast_stays_within_its_tolerance(self, model: str) -> None:
        train, later = part(0, 64), part(500, 32)
        with plain():
            slow = build(model)
            losses = list(train_plainly(slow, train, config(precision="bf16", lr=3e-4), range(64), workers=0))
            error = validate_plainly(slow, later, config(precision="bf16"), workers=0)
            assert error != evaluate(slow, later, "float32").mse, "the arithmetic is another"
            assert error == pytest.approx(evaluate(slow, later, "float32").mse, rel=5e-3)
            again = list(train_plainly(build(model), train, config(lr=3e-4), range(64), workers=0))
        assert losses != again and losses == pytest.approx(again, rel=1e-2)

    @staticmethod
    def train_both(model: str, precision: str, **more: object) -> tuple[tuple[float, float], tuple[float, float]]:
        """Mean training loss and later error of our loop, and of the plain one in float32."""
        train, later = part(0, 64), part(500, 32)
        fast = build(model)
        fitted = fit(fast, train, part(300, 16), config(precision=precision, **more), 7)
        ours = fitted.curve[0].train_loss, evaluate(fast, later, precision).mse
        order = torch.randperm(64, generator=torch.Generator().manual_seed(7)).tolist()
        with plain():
            slow = build(model, PlainTimeLLM if model == "time_llm_lite" else None)
            losses = list(train_plainly(slow, train, config(**more), order, workers=0))
            theirs = sum(losses) / len(losses), evaluate(slow, later, "float32").mse
            assert validate_plainly(slow, later, config(**more), workers=0) == pytest.approx(theirs[1], rel=1e-5)
        return ours, theirs

    @pytest.mark.parametrize(
        ("model", "layers"),
        [
            ("patchtst", 2),  # the first one has no earlier scores
            ("itransformer", 1),
            ("logo_llm", 2),  # blocks, mixers
            ("time_llm_lite", 2),  # blocks, reprogramming
            ("calf_lite", 4),  # blocks with and without updates, encoder, attention to words
        ],
    )
    def test_layers_through_a_compiler_train_to_the_same_numbers(
        self, model: str, layers: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
        torch.compiler.reset()
        counters.clear()
        self.assert_trains_alike(model)
        assert counters["stats"]["unique_graphs"] == layers, "one for all layers of a kind"
        assert not counters["graph_break"]

    @pytest.mark.nightly
    @pytest.mark.skipif(not shutil.which("g++"), reason="torch writes C++ here, and no compiler for it is installed")
    @pytest.mark.parametrize("model", ["patchtst", "itransformer", "logo_llm", "time_llm_lite", "calf_lite"])
    def test_code_that_torch_writes_trains_to_the_same_numbers(self, model: str) -> None:
        """As a GPU's code does in test_gpu; half a minute for a model."""
        torch.compiler.reset()
        counters.clear()
        self.assert_trains_alike(model)
        assert counters["stats"]["unique_graphs"] and not counters["graph_break"]

    @staticmethod
    def assert_trains_alike(model: str) -> None:
        """Compare a training whose layers are compiled with one whose are not: losses, gradients, a later error."""

        def trained(kind: Callable[[], AbstractContextManager[None]]) -> tuple[list[float], dict[str, torch.Tensor]]:
            net = build(model)
            take_step = Stepper(net.train(), part(0, 200), config())
            with kind():
                losses = [take_step(torch.arange(16), 1e-3).item()]
                gradients = {name: each.grad.clone() for name, each in net.named_parameters() if each.grad is not None}
                losses += [take_step(torch.arange(first, first + 16), 1e-3).item() for first in (16, 32)]
            return [*losses, evaluate(net, part(300, 16), "float32").mse], gradients

        (expected, gradients), (losses, compiled) = trained(nullcontext), trained(fused)
        assert losses[:3] == pytest.approx(expected[:3], rel=1e-4)
        assert losses[3] == pytest.approx(expected[3], rel=1e-3), "Adam moves weights by rounding alone, too"
        assert gradients and compiled.keys() == gradients.keys()
        largest = max(gradient.abs().max().item() for gradient in gradients.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(compiled[name], gradient, atol=1e-5 * largest, rtol=1e-3, msg=name)

    def test_plain_means_the_libraries_own_operations(self) -> None:
        from transformers.activations import NewGELUActivation

        with plain():
            assert is_plain()
            peers = build("logo_llm")
        assert not is_plain()
        assert any(isinstance(module, NewGELUActivation) for module in peers.modules())
        assert not any(isinstance(module, NewGELUActivation) for module in build("logo_llm").modules())

    def test_the_plain_data_set_holds_the_windows_that_ours_gathers(self) -> None:
        windows = part(5, 20)
        x, y = windows.contexts(torch.tensor([0, 7])), windows.targets(torch.tensor([0, 7]))
        calendar = windows.gather_calendar(torch.tensor([0, 7]))
        for row, position in enumerate((0, 7)):
            sample = WindowDataset(windows)[position]
            assert all(torch.equal(a, b) for a, b in zip(sample, (x[row], y[row], calendar[row]), strict=True))


class Net(nn.Module):
    """One layer; it runs out of memory above `limit` windows."""

    def __init__(self, dropout: float = 0.0, limit: int = 1000) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.dropout, self.limit = nn.Linear(CONTEXT, HORIZON), nn.Dropout(dropout), limit
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.linear(self.dropout(x).transpose(1, 2)).transpose(1, 2)
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        self.seen.append(len(x))
        return mixed


def weights_after_steps(net: nn.Module, **more: object) -> torch.Tensor:
    torch.manual_seed(5)
    step = Stepper(net, part(0, 200), config(**more))
    for start in (0, 16, 32):
        step(torch.arange(start, start + 16), 1e-2)
    return net.linear.weight.detach()


class TestMicroBatches:
    @pytest.mark.parametrize("loss", ["mse", "l1", "smooth_l1"])
    def test_the_gradients_of_the_pieces_add_up_to_the_batchs(self, monkeypatch, loss: str) -> None:
        whole = weights_after_steps(Net(), loss=loss)
        monkeypatch.setitem(SERIES_PER_MICRO_BATCH, "cpu", 5 * CHANNELS + 1)
        net = Net()
        torch.testing.assert_close(weights_after_steps(net, loss=loss), whole, rtol=1e-5, atol=1e-7)
        assert net.seen == [5, 5, 6] * 3  # no piece of a single window

    @pytest.mark.parametrize("model", ["calf_lite", "logo_llm", "itransformer"])
    def test_a_models_own_loss_is_split_alike(self, monkeypatch, model: str) -> None:
        losses = []
        for series in (2048, 5 * CHANNELS):
            monkeypatch.setitem(SERIES_PER_MICRO_BATCH, "cpu", series)
            step = Stepper(build(model).train(), part(0, 200), config(loss="l1"))
            losses.append([step(torch.arange(start, start + 16), 1e-3).item() for start in (0, 16, 32)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    def test_one_wide_window_is_the_least(self, monkeypatch) -> None:
        monkeypatch.setitem(SERIES_PER_MICRO_BATCH, "cpu", 1)
        assert Stepper(Net(), part(0, 200), config()).micro_batch == 1

    def test_batch_norm_is_never_split(self, monkeypatch) -> None:
        monkeypatch.setitem(SERIES_PER_MICRO_BATCH, "cpu", 1)
        step = Stepper(build("patchtst"), part(0, 200), config())
        assert step.micro_batch == 16 and not step.divisible


class TestOutOfMemory:
    def test_the_micro_batch_is_halved_for_good_and_nothing_else_changes(self) -> None:
        short, known = Net(dropout=0.5, limit=7), Net(dropout=0.5)
        torch.manual_seed(5)
        halved = Stepper(short, part(0, 200), config())
        whole = Stepper(known, part(0, 200), config())
        whole.micro_batch = 4  # from the outset
        for start in (0, 16):
            torch.manual_seed(start)
            halved(torch.arange(start, start + 16), 1e-2)
            torch.manual_seed(start)
            whole(torch.arange(start, start + 16), 1e-2)
        assert halved.micro_batch == 4
        assert short.seen == [4] * 8
        assert torch.equal(short.linear.weight, known.linear.weight), (
            "the step was done again from the same random state"
        )

    def test_one_window_that_does_not_fit_ends_the_run(self) -> None:
        with pytest.raises(torch.OutOfMemoryError):
            weights_after_steps(Net(limit=0))

    def test_other_errors_are_not_taken_for_it(self) -> None:
        class Broken(Net):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                raise RuntimeError("shapes do not match")

        with pytest.raises(RuntimeError, match="shapes do not match"):
            weights_after_steps(Broken())

    def test_evaluation_halves_its_batch_too(self) -> None:
        net, windows = Net(limit=7), part(0, 200)
        errors = evaluate(net, windows, "float32")
        assert max(net.seen) <= 7 and sum(net.seen) == errors.windows == 200
        assert errors.mse == pytest.approx(evaluate(Net(), windows, "float32").mse, rel=1e-6)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
    def test_what_torch_raises_on_a_cpu_is_recognised(self) -> None:
        code = """
        import resource, torch
        from bench.train.device import out_of_memory
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        try:
            torch.empty(16 << 30, dtype=torch.uint8)
        except Exception as error:
            print(out_of_memory(error))
        """
        ended = python("-c", textwrap.dedent(code))
        assert ended.stdout.strip() == "True", ended.stderr
        assert out_of_memory(MemoryError()) and not out_of_memory(ValueError("memory"))


class TestCapturable:
    """What a CUDA graph asks of a step, on tensors without values: what the host reads from one is an error there."""

    @staticmethod
    def gradients(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "autocast", lambda *kind, **enabled: nullcontext())  # there is none for shapes alone
        monkeypatch.setitem(SERIES_PER_MICRO_BATCH, "meta", 5 * CHANNELS)
        monkeypatch.setitem(layers.SERIES_PER_PIECE, "meta", 1024)
        windows = part(0, 200)
        assert windows.calendar is not None
        shapes = dataclasses.replace(windows, series=windows.series.to("meta"), calendar=windows.calendar.to("meta"))
        step = Stepper(model.train().to("meta"), shapes, config())
        step._gradients(torch.arange(16, device="meta"))
        nn.utils.clip_grad_norm_(step.trainable, 1.0)

    @pytest.mark.parametrize("model", STILL)
    def test_a_step_of_a_model_that_says_so_reads_nothing_back(self, model: str, monkeypatch) -> None:
        built = build(model)
        assert getattr(built, "capturable", False)
        self.gradients(built, monkeypatch)
        assert all(parameter.grad is not None for parameter in built.parameters() if parameter.requires_grad)

    def test_one_that_does_is_found_out(self, monkeypatch) -> None:
        class Asking(Net):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x) if x.mean() > 0 else super().forward(-x)

        with pytest.raises(RuntimeError, match="meta"):
            self.gradients(Asking(), monkeypatch)


def test_the_record_says_how_many_windows_passed_at_once() -> None:
    fitted = fit(Net(), part(0, 100), part(200, 50), config(), 1)
    assert fitted.micro_batch == 16
    assert math.isfinite(fitted.curve[0].train_loss)


class TestReplayedEvaluation:
    """Evaluation by the code that a GPU replays it with: what was captured is done again, without Python."""

    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(SERIES_PER_BATCH, "cpu", 20 * CHANNELS)

    @pytest.mark.parametrize("precision", ["float32", "bf16"])
    @pytest.mark.parametrize("model", STILL)
    def test_errors_and_what_observers_see_are_the_same(self, model: str, precision: str, monkeypatch) -> None:
        built, windows = build(model), part(0, 115)
        batches: tuple[list[list[torch.Tensor]], ...] = [], []
        once = evaluate(built, windows, precision, [lambda *shown: batches[0].append([each.clone() for each in shown])])
        graphs.pretend(monkeypatch)
        score = scorer(built, windows, precision)
        shows = [lambda *shown: batches[1].append([each.clone() for each in shown])]
        # (The stand-in composes some operations of others than torch does.)
        assert evaluate(built, windows, precision, shows, score=score).mse == pytest.approx(once.mse, rel=1e-6)
        assert isinstance(score, Graph) and score.graph.replayed == 2, "three of five whole batches warm up"
        assert [len(index) for index, _, _ in batches[1]] == [20] * 5 + [15]
        for one, other in zip(*batches, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 if precision == "float32" else 1e-2)

    def test_one_graph_serves_all_epochs_and_reads_the_weights_of_each(self, monkeypatch) -> None:
        train, val, several = part(0, 64), part(300, 45), config(epochs=4)
        as_is = fit(build("dlinear"), train, val, several, 7)
        graphs.pretend(monkeypatch)
        monkeypatch.setattr(step, "replays", lambda model, device: False)
        made = []
        monkeypatch.setattr(evaluation, "Graph", lambda *of: made.append(Graph(*of)) or made[-1])
        replayed = fit(build("dlinear"), train, val, several, 7)
        (graph,) = made
        assert graph.graph.replayed == 4 * 2 - 3
        losses = [[epoch.val_loss for epoch in each.curve] for each in (as_is, replayed)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6) and losses[0][0] > 1.1 * losses[0][-1]

    def test_where_memory_runs_out_smaller_batches_run_without_a_graph(self, monkeypatch) -> None:
        graphs.pretend(monkeypatch)
        net, windows = Net(limit=7), part(0, 200)
        net.capturable = True
        assert isinstance(scorer(net, windows, "float32"), Graph)
        errors = evaluate(net, windows, "float32")
        assert max(net.seen) == 5 and sum(net.seen) == 200
        assert errors.mse == pytest.approx(evaluate(Net(), windows, "float32").mse, rel=1e-6)

    def test_a_step_that_cannot_be_captured_runs_as_it_is(self, monkeypatch) -> None:
        class Asking(Net):
            capturable = True

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x) if x.mean() > 0 else super().forward(-x)

        windows = part(0, 200)
        once = evaluate(Asking(), windows, "float32")
        graphs.pretend(monkeypatch)
        with pytest.warns(UserWarning, match="could not become a CUDA graph") as said:
            assert evaluate(Asking(), windows, "float32") == once
        assert len(said) == 1

    def test_only_models_that_say_so_are_replayed_and_only_on_a_gpu(self) -> None:
        gpu, cpu = torch.device("cuda"), torch.device("cpu")
        assert replays(build("dlinear"), gpu) and not replays(Net(), gpu)
        assert not replays(build("dlinear"), cpu)
        assert not isinstance(scorer(build("dlinear"), part(0, 200), "float32"), Graph)
        assert Stepper(build("dlinear"), part(0, 200), config()).graph is None


class Parents(WindowDataset):
    """Holds the parent process of whoever asks, in place of each target."""

    def __getitem__(self, position: int) -> tuple[torch.Tensor, ...]:
        x, _, calendar = super().__getitem__(position)
        return x, torch.tensor(os.getppid()), calendar


def test_workers_that_load_data_are_forked_from_another_process_and_load_the_same() -> None:
    """A fork of one that holds CUDA may hang."""
    windows = Windows(torch.randn(50, 2), 0, 20, 8, 4)
    with_workers, without = (list(batches_of(Parents(windows), 6, workers, [*range(20)][::-1])) for workers in (2, 0))
    assert all(torch.equal(x, y) for (x, *_), (y, *_) in zip(with_workers, without, strict=True))
    parents = {int(parent) for _, all_of_batch, _ in with_workers for parent in all_of_batch}
    assert len(parents) == 1, "it is one process for all workers"
    assert sys.platform != "linux" or os.getpid() not in parents
