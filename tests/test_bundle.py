"""Bundles: the same numbers to the bit without network, no file unverified, and one line for what is wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.core.base import ROOT, BenchError
from bench.core.card import DatasetCard, cards
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.data.bundle import make_bundle, use_bundle
from bench.data.series import data_dir, file_of, load_series
from bench.plan.suite import Filters, load_suite, plan
from bench.train.execute import run_one
from bench.train.loop import store_frozen
from models.llm_blocks import NORMS_AND_POSITIONS, Blocks, tokenize, word_embeddings
from models.llm_files import BackboneError
from tests.builders import make_spec, waves

SMOLLM2 = "smollm2-135m"
MakeCard = Callable[..., DatasetCard]
RUN = """
import sys
from pathlib import Path

from bench.data.bundle import use_bundle
from bench.core.card import DatasetCard
from bench.core.spec import RunSpec
from bench.core.card import cards

folder, card, spec = sys.argv[1:]
card, spec = DatasetCard.model_validate_json(card), RunSpec.model_validate_json(spec)
cards()[card.name] = card
use_bundle(Path(folder), [spec])

import torch
from bench.train.execute import run_one

torch.set_num_threads(1)
print(run_one(spec, torch.device("cpu")).model_dump_json())
"""
NO_NETWORK = """
import os, socket

class Refused(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            os._exit(97)
        super().connect(address)
    connect_ex = connect

socket.socket = Refused
socket.getaddrinfo = lambda *_, **__: os._exit(97)
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `use_bundle` sets holds for one test."""
    for name in ("BENCH_BUNDLE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("BENCH_DATA", os.environ.get("BENCH_DATA", ""))


@pytest.fixture
def card(make_card: MakeCard) -> DatasetCard:
    return make_card(waves(200, 3))


def llm_spec(card: DatasetCard, model: str = "logo_llm", backbone: str = "gpt2", **options: Any) -> RunSpec:
    """A small run in bf16 that reads two blocks, if no option says otherwise."""
    spec = make_spec(card, model, precision="bf16", max_steps=2)
    return spec.model_copy(update={"options": spec.options | {"backbone": backbone} | options})


def float32(spec: RunSpec) -> RunSpec:
    return spec.model_copy(update={"train": spec.train.model_copy(update={"precision": "float32"})})


def held(folder: Path, name: str = "gpt2") -> dict[str, Any]:
    """What the manifest says of a backbone."""
    (cut,) = [cut for cut in json.loads((folder / "manifest.json").read_text())["backbones"] if cut["name"] == name]
    return dict(cut)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def hide_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an original was asked for")

    for place in ("llm_files.in_package", "llm_files._in_hub_cache", "llm_blocks._converted"):
        monkeypatch.setattr(f"models.{place}", refuse)


@pytest.mark.parametrize("name", ["gpt2", SMOLLM2])
@pytest.mark.usefixtures("tiny_gpt2")
def test_blocks_words_and_tokens_of_a_bundle_are_the_originals_to_the_bit(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def read() -> tuple[dict[str, torch.Tensor], torch.Tensor, list[int]]:
        return Blocks(name, 2).model.state_dict(), word_embeddings(name), tokenize(name, "hello hell")

    weights, words, tokens = read()
    specs = [llm_spec(card, "time_llm_lite", name)]
    make_bundle(specs, tmp_path / "bundle")
    use_bundle(tmp_path / "bundle", specs)
    hide_originals(monkeypatch)
    bundled, bundled_words, bundled_tokens = read()
    assert bundled.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.equal(bundled[key], tensor) and bundled[key].dtype == tensor.dtype == torch.float32, key
    assert torch.equal(bundled_words, words) and bundled_words.dtype == words.dtype
    assert bundled_tokens == tokens
    kinds = {
        tensor.dtype for tensor in load_file(tmp_path / "bundle" / "backbones" / name / "model.safetensors").values()
    }
    assert (torch.float32 in kinds) == (name == "gpt2")
    assert held(tmp_path / "bundle", name)["rounded"] is False


@pytest.mark.parametrize("model", ["logo_llm", "calf_lite", "time_llm_lite"])
@pytest.mark.usefixtures("tiny_gpt2")
def test_a_run_has_the_same_numbers_from_a_bundle_also_from_one_with_rounded_matrices(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, cpu: torch.device
) -> None:
    spec = llm_spec(card, model, **({"heads": 4} if model == "calf_lite" else {}))
    expected = run_one(spec, cpu)
    assert expected.status == "done", expected.error
    make_bundle([spec], tmp_path / "bundle")
    assert held(tmp_path / "bundle")["rounded"] == (model != "time_llm_lite")
    use_bundle(tmp_path / "bundle", [spec])
    hide_originals(monkeypatch)
    got = run_one(spec, cpu)
    assert got.evaluations == expected.evaluations
    assert [(epoch.train_loss, epoch.val_loss) for epoch in got.curve] == [
        (epoch.train_loss, epoch.val_loss) for epoch in expected.curve
    ]
    assert got.where.backbone_sha256 == expected.where.backbone_sha256 is not None


@pytest.mark.usefixtures("tiny_gpt2")
def test_matrices_are_rounded_only_where_every_run_would_round_them_itself(card: DatasetCard, tmp_path: Path) -> None:
    logo, folder = llm_spec(card), tmp_path / "bundle"
    probed = logo.model_copy(update={"task": logo.task.model_copy(update={"probe": "training"})})
    for other in (float32(logo), probed, llm_spec(card, "time_llm_lite"), float32(llm_spec(card, "calf_lite"))):
        make_bundle([logo, other], folder)
        assert held(folder)["rounded"] is False
        stored = load_file(folder / "backbones" / "gpt2" / "model.safetensors")
        assert stored["h.1.mlp.c_fc.weight"].dtype == torch.float32
    original = Blocks("gpt2", 2, trained=NORMS_AND_POSITIONS)
    make_bundle([logo, llm_spec(card, "calf_lite"), logo], folder)
    stored = load_file(folder / "backbones" / "gpt2" / "model.safetensors")
    assert held(folder)["rounded"] is True
    assert stored["h.1.mlp.c_fc.weight"].dtype == torch.bfloat16
    assert stored["wpe.weight"].dtype == stored["wte.weight"].dtype == torch.float32
    for spec in (float32(logo), probed, float32(llm_spec(card, "calf_lite"))):
        with pytest.raises(BackboneError, match=r"^backbone gpt2: bundle .* holds matrices rounded to bf16"):
            use_bundle(folder, [spec])
    use_bundle(folder, [logo, float32(llm_spec(card, reader="nothing"))])
    bundled = Blocks("gpt2", 2, trained=NORMS_AND_POSITIONS)
    for blocks in (original, bundled):
        store_frozen(blocks, "bf16")
    for key, tensor in original.state_dict().items():
        assert torch.equal(bundled.state_dict()[key], tensor), key


@pytest.mark.usefixtures("tiny_gpt2")
def test_a_bundle_holds_the_most_that_any_run_reads_and_no_more(card: DatasetCard, tmp_path: Path) -> None:
    own = make_spec(card).model_copy(update={"model": "mine:Mine", "options": {"backbone": "gpt2"}})
    logo, calf, time_llm = (llm_spec(card, model) for model in ("logo_llm", "calf_lite", "time_llm_lite"))
    folder = tmp_path / "bundle"
    for specs, blocks, words, tokenizer in (
        ([logo], 2, False, False),
        ([llm_spec(card, blocks=1, local_tap=0, global_tap=1)], 1, False, False),
        ([llm_spec(card, reader="nothing")], 0, False, False),
        ([logo, llm_spec(card, blocks=3), make_spec(card)], 3, False, False),
        ([calf], 2, True, False),
        ([llm_spec(card, "time_llm_lite", reader="attention", blocks=3)], 0, True, False),
        ([logo, time_llm], 2, True, True),
        ([own], 3, True, True),
    ):
        make_bundle(specs, folder)
        assert [held(folder)[key] for key in ("blocks", "words", "tokenizer")] == [blocks, words, tokenizer]
        stored = load_file(folder / "backbones" / "gpt2" / "model.safetensors")
        assert {key.split(".")[1] for key in stored if key.startswith("h.")} == {str(n) for n in range(blocks)}
        assert ("wte.weight" in stored) == words
        assert ({"ln_f.weight", "wpe.weight"} <= stored.keys()) == (blocks > 0)
        assert ("backbones/gpt2/merges.txt" in files(folder)) == tokenizer
        use_bundle(folder, specs)
        os.environ["BENCH_BUNDLE"], os.environ["BENCH_DATA"] = "", str(tmp_path / "data")


def test_random_weights_and_plain_models_need_no_file_and_every_tested_data_set_comes_along(
    card: DatasetCard, make_card: MakeCard, tmp_path: Path
) -> None:
    other = make_card(waves(200, 3, seed=1), name="Others")
    spec = make_spec(card)
    task = spec.task.model_copy(update={"test_on": ("Others",), "cards": {**spec.task.cards, "Others": other.digest}})
    specs = [
        spec.model_copy(update={"task": task}),
        make_spec(card, "logo_llm"),
        llm_spec(card, backbone="gpt2-random"),
    ]
    lines = make_bundle(specs, tmp_path / "bundle")
    assert files(tmp_path / "bundle") == {"data/Waves.csv", "data/Others.csv", "manifest.json"}
    assert lines[:-1] == ["Waves: data/Waves.csv", "Others: data/Others.csv"]
    assert lines[-1] == f"{tmp_path / 'bundle'}: 2 files, 0.0 MiB"
    use_bundle(tmp_path / "bundle", specs)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert run_one(specs[0], torch.device("cpu")).status == "done"


def test_data_of_a_python_package_is_found_in_the_bundle_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = plan(load_suite("quick"), Filters(models=("dlinear",)))
    values = load_series(cards()["EPF"]).values
    make_bundle(specs, tmp_path)
    assert "data/tsdata/fpppy/EPF_FR_BE.csv" in files(tmp_path)
    use_bundle(tmp_path, specs)
    monkeypatch.setattr("models.llm_files.importlib.util.find_spec", lambda name: None)
    assert file_of(cards()["EPF"]).is_relative_to(tmp_path)
    assert (load_series(cards()["EPF"]).values == values).all()


@pytest.mark.usefixtures("tiny_gpt2")
def test_what_is_made_is_the_same_to_the_byte_and_takes_the_place_of_what_was_there(
    card: DatasetCard, tmp_path: Path
) -> None:
    folder, again = tmp_path / "bundle", tmp_path / "again"
    make_bundle([llm_spec(card, "time_llm_lite")], folder)
    (folder / "notes.txt").write_text("mine")
    for target in (folder, again):
        make_bundle([llm_spec(card)], target)
    assert files(folder) - {"notes.txt"} == files(again) == {
        "data/Waves.csv", "backbones/gpt2/model.safetensors", "manifest.json"
    }  # fmt: skip
    for path in files(again):
        assert (folder / path).read_bytes() == (again / path).read_bytes()


@pytest.mark.parametrize("kept", ["other.txt", "data/Waves.csv", "manifest.json"])
def test_a_folder_that_holds_anything_but_a_bundle_is_refused_and_left_alone(
    card: DatasetCard, tmp_path: Path, kept: str
) -> None:
    path = tmp_path / "bundle" / kept
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(BenchError, match=r"bundle: not empty, and no bundle\. Do: empty it, or choose another folder"):
        make_bundle([make_spec(card)], tmp_path / "bundle")
    assert path.read_text() == "{}"


def test_a_bundle_is_never_made_of_itself(card: DatasetCard, tmp_path: Path) -> None:
    make_bundle([make_spec(card)], tmp_path / "bundle")
    before = files(tmp_path / "bundle")
    os.environ["BENCH_DATA"] = str(tmp_path / "bundle" / "data")
    with pytest.raises(BenchError, match=r"would be made of a bundle\. Do: unset BENCH_BUNDLE, or BENCH_DATA"):
        make_bundle([make_spec(card)], tmp_path / "bundle")
    os.environ["BENCH_DATA"], os.environ["BENCH_BUNDLE"] = str(tmp_path / "data"), str(tmp_path / "bundle")
    with pytest.raises(BenchError, match="would be made of a bundle"):
        make_bundle([make_spec(card)], tmp_path / "new")
    assert files(tmp_path / "bundle") == before


@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.usefixtures("tiny_gpt2")
def test_a_making_that_ends_early_leaves_neither_manifest_nor_files(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, writes: int
) -> None:
    folder, flushed = tmp_path / "bundle", []
    make_bundle([llm_spec(card)], folder)

    def full(descriptor: int) -> None:
        if len(flushed) == writes:
            raise error
        flushed.append(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BenchError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            make_bundle([llm_spec(card)], folder)
    if isinstance(error, OSError):
        assert all(word in str(raised.value) for word in (str(folder), "No space left", "free the disk"))
    assert files(folder) == set()
    with pytest.raises(BenchError, match=r"not a complete bundle: no manifest\. Do: make it again"):
        use_bundle(folder, [])
    make_bundle([llm_spec(card)], folder)


def test_a_folder_that_cannot_be_written_and_data_that_fits_no_card_are_one_line(
    card: DatasetCard, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "bundle"):
        with pytest.raises(BenchError, match=r"bundle .*file.*\. Do: free the disk, or choose another folder"):
            make_bundle([make_spec(card)], folder)
    with file_of(card).open("a") as file:
        file.write("x")
    with pytest.raises(BenchError, match=r"Waves: .* has SHA-256"):
        make_bundle([make_spec(card)], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def manifest_with(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def path_of_data(path: str) -> Callable[[Path], None]:
    return manifest_with(lambda manifest: manifest["files"][0].update(path=path))


def flip(folder: Path) -> None:
    path = folder / "backbones" / "gpt2" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def no_safetensors(folder: Path) -> None:
    """The bytes are those that the manifest names, and no safetensors file."""
    content = b"\xff" * 64
    (folder / "backbones" / "gpt2" / "model.safetensors").write_bytes(content)
    entry = {"size": 64, "sha256": hashlib.sha256(content).hexdigest()}
    manifest_with(lambda manifest: manifest["files"][1].update(entry))(folder)


def link_out(path: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        outside = folder.parent / "outside"
        shutil.move(folder / path, outside)
        (folder / path).symlink_to(outside)

    return damage


def loop(folder: Path) -> None:
    (folder / "data" / "Waves.csv").unlink()
    (folder / "data" / "Waves.csv").symlink_to(folder / "data" / "Waves.csv")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda folder: os.truncate(folder / "data" / "Waves.csv", 100), "Waves.csv has 100 bytes, its man"),
    "flipped byte": (flip, "backbones/gpt2/model.safetensors has SHA-256"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "not a complete bundle: no manifest"),
    "not JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "invalid JSON"),
    "not text": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "the whole of it"),
    "unknown key": (manifest_with(lambda manifest: manifest.update(surprise=1)), "no key 'surprise'"),
    "other format": (manifest_with(lambda manifest: manifest.update(format=2)), "format: input should be 1, got '2'"),
    "no format": (manifest_with(lambda manifest: manifest.pop("format")), "format: field required"),
    "negative size": (manifest_with(lambda manifest: manifest["files"][0].update(size=-1)), "files.0.size"),
    "no hash": (manifest_with(lambda manifest: manifest["files"][0].update(sha256="../..")), "files.0.sha256"),
    "parent": (path_of_data("data/../../outside"), "must be a relative path below data, backbones or models"),
    "absolute": (path_of_data("/data/Waves.csv"), "must be a relative path"),
    "backslash": (path_of_data("data/..\\..\\outside"), "must be a relative path"),
    "NUL": (path_of_data("data/Waves\0.csv"), "must be a relative path"),
    "no path": (path_of_data(""), "must be a relative path"),
    "elsewhere": (path_of_data("manifest.json"), "must be a relative path"),
    "too long": (path_of_data("data/" + "x" * 5000), "cannot be read"),
    "a folder": (path_of_data("backbones/gpt2"), "backbones/gpt2 is not there"),
    "linked file": (link_out("data/Waves.csv"), "data/Waves.csv leads outside of it"),
    "linked folder": (link_out("data"), "data/Waves.csv leads outside of it"),
    "loop of links": (loop, "data/Waves.csv"),
    "missing file": (lambda folder: (folder / "data" / "Waves.csv").unlink(), "data/Waves.csv is not there"),
    "no safetensors": (no_safetensors, "is no safetensors file"),
    "unlisted file": (
        lambda folder: (folder / "backbones" / "gpt2" / "vocab.json").write_text("{}"),
        "vocab.json is not in its manifest",
    ),
    "unlisted data": (manifest_with(lambda manifest: manifest["files"].pop(0)), "Waves: no file that fits its card"),
    "other original": (
        manifest_with(lambda manifest: manifest["backbones"][0].update(sha256="0" * 64)),
        "holds other weights than this code reads",
    ),
    "no backbone": (manifest_with(lambda manifest: manifest["backbones"].clear()), "bundle does not hold it"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("tiny_gpt2")
def test_a_damaged_or_hostile_bundle_is_refused_in_one_line(card: DatasetCard, tmp_path: Path, damage: str) -> None:
    folder, specs = tmp_path / "bundle", [llm_spec(card)]
    make_bundle(specs, folder)
    use_bundle(folder, specs)
    os.environ["BENCH_BUNDLE"] = ""
    act, expected = DAMAGES[damage]
    act(folder)
    with pytest.raises((BenchError, BackboneError)) as raised:
        use_bundle(folder, specs)
    said = str(raised.value)
    assert expected.lower() in said.lower()
    assert str(folder) in said and "\n" not in said
    assert "make it again with 'python -m bench fetch --into'" in said
    assert os.environ["BENCH_BUNDLE"] == "", "a refused bundle is not in use"


@pytest.mark.parametrize(
    ("model", "options", "said_before", "said_when_read"),
    [
        ("logo_llm", {"blocks": 3, "global_tap": 3}, "holds 2 blocks, these runs need 3", r"no tensor h\.2\.\S+"),
        ("calf_lite", {}, "holds no word embeddings", "no word embeddings"),
        ("time_llm_lite", {}, "holds no word embeddings", "no word embeddings"),
        ("logo_llm", {"backbone": SMOLLM2}, "does not hold it", r"no model\.safetensors"),
    ],
)
@pytest.mark.usefixtures("tiny_gpt2")
def test_a_run_that_reads_more_than_the_bundle_holds_is_refused_before_it_starts_and_where_it_reads(
    card: DatasetCard, tmp_path: Path, model: str, options: dict[str, Any], said_before: str, said_when_read: str
) -> None:
    folder, fits, more = tmp_path / "bundle", float32(llm_spec(card)), float32(llm_spec(card, model, **options))
    make_bundle([fits], folder)
    name = more.options["backbone"]
    with pytest.raises(BackboneError, match=rf"^backbone {name}: bundle {folder} {said_before}\. Do: make it again"):
        use_bundle(folder, [fits, more])
    use_bundle(folder, [fits])
    with pytest.raises(
        BackboneError, match=rf"^backbone {name}: {said_when_read} in bundle {folder}\. Do: make it again for these"
    ):
        run_one(more, torch.device("cpu"))


@pytest.mark.usefixtures("tiny_gpt2")
def test_a_prompt_needs_a_tokenizer_in_the_bundle(card: DatasetCard, tmp_path: Path) -> None:
    folder, fits = tmp_path / "bundle", llm_spec(card, "time_llm_lite", reader="nothing")
    make_bundle([fits, float32(llm_spec(card))], folder)
    with pytest.raises(BackboneError, match=r"^backbone gpt2: bundle .* holds no tokenizer\. Do: make it again"):
        use_bundle(folder, [llm_spec(card, "time_llm_lite")])
    use_bundle(folder, [fits])
    with pytest.raises(BackboneError, match=r"^backbone gpt2: no tokenizer in bundle .*\. Do: make it again"):
        tokenize("gpt2", "hell")


def test_a_run_from_a_bundle_without_network_has_the_same_numbers_to_the_bit(
    make_card: MakeCard, tmp_path: Path
) -> None:
    """The paper's settings on SmolLM2; where it runs there is neither cache nor data, and a connection would end it."""
    filters = Filters(models=("logo_llm",), datasets=("ETTh1",), backbone=SMOLLM2, seeds=(2021,), horizons=(96,))
    (official,) = plan(load_suite("paper"), filters)
    assert official.options["blocks"] == 6 and official.train.precision == "bf16"
    card, train = make_card(waves(100, 1)), official.train.model_copy(update={"max_steps": 2, "batch": 4})
    spec = official.model_copy(update={"task": make_spec(card).task, "train": train})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = run_one(spec, torch.device("cpu"))
    torch.set_num_threads(threads)
    make_bundle([spec], tmp_path / "bundle")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    for empty in ("no data", "no hub"):
        (tmp_path / empty).mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BENCH_"))}
    env = kept | {
        "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}",
        "BENCH_DATA": str(tmp_path / "no data"),
        "HF_HOME": str(tmp_path / "no hub"),
    }

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", *words]
        return subprocess.run(
            command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )  # fmt: skip

    assert python("import socket; socket.create_connection(('127.0.0.1', 9))").returncode == 97
    ended = python(RUN, "bundle", card.model_dump_json(), spec.model_dump_json())
    assert ended.returncode == 0, ended.stderr
    got = RunResult.model_validate_json(ended.stdout)
    assert got.status == "done" and got.evaluations == expected.evaluations
    assert got.where.backbone_sha256 == expected.where.backbone_sha256
    assert got.where.data_sha256 == expected.where.data_sha256
    assert not any((tmp_path / "no hub").iterdir()) and not any((tmp_path / "no data").iterdir())


@pytest.mark.real_data
@pytest.mark.skipif(
    not all((data_dir() / cards()[name].source.path).is_file() for name in ("ETTh1", "Weather")),
    reason="BENCH_DATA lacks ETTh1 or Weather",
)
def test_a_bundle_of_two_data_sets_and_six_blocks_of_smollm2_is_under_60_mib(tmp_path: Path) -> None:
    specs = plan(load_suite("paper"), Filters(models=("logo_llm",), datasets=("ETTh1", "Weather"), backbone=SMOLLM2))
    lines = make_bundle(specs, tmp_path)
    size = sum((tmp_path / path).stat().st_size for path in files(tmp_path)) / 2**20
    assert held(tmp_path, SMOLLM2)["blocks"] == 6
    assert 40 < size < 60
    assert lines[-1] == f"{tmp_path}: 3 files, {size:.1f} MiB"
    use_bundle(tmp_path, specs)
