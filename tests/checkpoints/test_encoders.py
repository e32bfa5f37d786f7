from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.made import STYLES, made_checkpoint, made_heads, same_values, saved, tiny, transformers_model, waveform
from vocable.checkpoints import encoders
from vocable.checkpoints.encoder_checkpoint import Tensors, expected_shapes, gathered
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.tensor_names import MASK_EMBEDDING, TRANSFORMERS
from vocable.errors import DiskFullError, InputError, UnknownNormalizationError, UnsafeFileError
from vocable.models.config import Family
from vocable.report.description import describe

LAYOUTS = ["vocable", "transformers", "fairseq"]


def refused(path: Path, *said: str, kind: type[Exception] = InputError, source: Path | None = None) -> None:
    """Check that an encoder is refused in one sentence that names a file."""
    with pytest.raises(kind) as caught:
        read_encoder(source or path)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert all(part in text for part in said), text


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(("family", "large"), STYLES)
def test_every_layout_gives_back_what_was_written(
    tmp_path: Path, family: Family, large: bool, special: bool, layout: Any
) -> None:
    # What has labels is HuBERT to fairseq, and Microsoft's files have no heads.
    heads = made_heads(special=special) if layout != "fairseq" or family == "hubert" else {}
    checkpoint = made_checkpoint(tiny(family, large, convolution_bias=large), 1, heads)
    write_encoder(checkpoint, tmp_path / "there", layout)
    there = read_encoder(tmp_path / "there")
    assert there.layout == ("wavlm" if family == "wavlm" and layout == "fairseq" else layout)
    assert there.ignored == ()
    write_encoder(there, tmp_path / "back", "vocable")
    back = read_encoder(tmp_path / "back")
    assert back.layout == "vocable"
    assert same_values(back, checkpoint)
    assert back.digest == there.digest == checkpoint.digest
    assert set(back.heads) == {MASK_EMBEDDING, *heads}
    assert replace(back.config, waveform_eps=checkpoint.config.waveform_eps) == checkpoint.config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_label_sets_go_through_every_layout(tmp_path: Path, layout: Any) -> None:
    heads = made_heads(special=True) | {
        "label_embeddings.1": torch.rand(7, 6),
        "special_embeddings.1": torch.rand(4, 6),
        "label_embeddings.2": torch.rand(3, 6),
        "final_projection.weight": torch.rand(18, 64),
        "final_projection.bias": torch.rand(18),
    }
    write_encoder(made_checkpoint(tiny(), 1, heads), tmp_path / "there", layout)
    found = read_encoder(tmp_path / "there")
    assert found.ignored == ()
    assert set(found.heads) == {MASK_EMBEDDING, *heads}
    assert all(torch.equal(found.heads[name], tensor) for name, tensor in heads.items())


def test_the_digest_is_of_the_encoder_alone() -> None:
    config = tiny()
    digest = made_checkpoint(config, 1).digest
    assert made_checkpoint(config, 1, made_heads()).digest == digest
    assert made_checkpoint(config, 2).digest != digest
    moved = {name: tensor.clone() for name, tensor in made_checkpoint(config, 1).tensors.items()}
    moved["blocks.2.feed_forward_norm.bias"][-1] += 1e-6
    assert replace(made_checkpoint(config, 1), tensors=Tensors.of(moved)).digest != digest


@pytest.mark.parametrize("large", [False, True])
def test_what_is_written_does_not_change_from_time_to_time(tmp_path: Path, large: bool) -> None:
    for name in ("one", "two"):
        torch.manual_seed(0)
        write_encoder(made_checkpoint(tiny("hubert", large), 1, made_heads()), tmp_path / name, "transformers")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(("family", "large"), STYLES)
def test_transformers_loads_what_we_write_and_gives_the_same_bits(tmp_path: Path, family: Family, large: bool) -> None:
    pytest.importorskip("transformers")
    model = transformers_model(tiny(family, large), seed=2)
    checkpoint = read_encoder(saved(model, tmp_path / "theirs", normalize=large))
    write_encoder(checkpoint, tmp_path / "ours", "transformers")
    loaded, report = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    samples = torch.from_numpy(waveform(7000))[None]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(samples).last_hidden_state, model(samples).last_hidden_state)
    assert json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())["do_normalize"] is large


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): item
        for name, item in state.items()
    }


def test_old_names_pickles_and_shards_are_read_alike(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = transformers_model(tiny("wavlm"), seed=3)
    plain = read_encoder(saved(model, tmp_path / "plain"))
    made = {}
    for name in ("old", "pickle", "old pickle", "shards"):
        made[name] = saved(model, tmp_path / name, **({"max_shard_size": "100KB"} if name == "shards" else {}))
    save_file(old_names(model.state_dict()), made["old"] / "model.safetensors")
    for name, state in (("pickle", model.state_dict()), ("old pickle", old_names(model.state_dict()))):
        (made[name] / "model.safetensors").unlink()
        torch.save(state, made[name] / "pytorch_model.bin", _use_new_zipfile_serialization=name == "pickle")
    assert len(list(made["shards"].glob("model-*.safetensors"))) > 1
    for folder in made.values():
        found = read_encoder(folder)
        assert same_values(found, plain)
        assert (found.digest, found.config, found.ignored) == (plain.digest, plain.config, ())


@pytest.mark.parametrize(("family", "prefix"), [("hubert", "hubert."), ("wav2vec2", "wav2vec2."), ("wavlm", "wavlm.")])
def test_a_model_for_recognition_has_its_encoder_taken_out(tmp_path: Path, family: Family, prefix: str) -> None:
    pytest.importorskip("transformers")
    model = transformers_model(tiny(family), seed=4, kind="ForCTC")
    found = read_encoder(saved(model, tmp_path / "made"))
    assert f"{prefix}encoder.layer_norm.weight" in load_file(tmp_path / "made" / "model.safetensors")
    assert found.ignored == ("lm_head.bias", "lm_head.weight")
    assert list(found.heads) == [MASK_EMBEDDING]
    inner = read_encoder(saved(getattr(model, prefix[:-1]), tmp_path / "inner"))
    assert same_values(found, inner)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "transformers")
    path = tmp_path / "made" / "model.safetensors"
    halves = {name: item.half() for name, item in load_file(path).items()}
    save_file(halves, path)
    found = read_encoder(tmp_path / "made")
    assert {found.tensors[name].dtype for name in found.tensors} == {torch.float32}
    assert torch.equal(found.tensors["norm.weight"], halves["encoder.layer_norm.weight"].float())


def test_tensors_are_not_read_before_they_are_asked_for() -> None:
    def read() -> Tensor:
        raise AssertionError

    config = tiny()
    names = TRANSFORMERS.names(config)
    shapes = {}
    for ours, shape in expected_shapes(config).items():
        for part in names[ours]:
            shapes[part] = (shape[0] // len(names[ours]), *shape[1:])
    found = gathered(Path("made"), config, TRANSFORMERS, Tensors(dict.fromkeys([*shapes, "other"], read)), shapes)
    assert found.others == ("other",)
    assert set(found.tensors) == set(expected_shapes(config))
    with pytest.raises(AssertionError):
        found.tensors["norm.weight"]


def test_a_folder_that_does_not_say_how_waveforms_are_normalised_is_refused_unless_told(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_encoder(made_checkpoint(tiny("hubert", large=True)), folder, "transformers")
    assert read_encoder(folder).config.waveform_normalization == "utterance"
    assert read_encoder(folder, "none").config.waveform_normalization == "none"
    for text in ("{}", '{"do_normalize": null}', '{"do_normalize": "yes"}', None):
        path = folder / "preprocessor_config.json"
        path.unlink() if text is None else path.write_text(text)
        refused(folder, "--waveform-normalization none", "preprocessor_config.json", kind=UnknownNormalizationError)
        for said in ("none", "utterance"):
            assert read_encoder(folder, said).config.waveform_normalization == said  # type: ignore[arg-type]


@pytest.mark.parametrize("said", ["none", "utterance"])
def test_what_is_told_of_waveforms_takes_the_place_of_what_a_checkpoint_says(tmp_path: Path, said: Any) -> None:
    for layout in LAYOUTS:
        for large in (False, True):
            write_encoder(made_checkpoint(tiny("hubert", large)), tmp_path / f"{layout}{large}", layout)  # type: ignore[arg-type]
            assert read_encoder(tmp_path / f"{layout}{large}", said).config.waveform_normalization == said


def changed(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("layout", ["vocable", "transformers"])
def test_weights_that_are_not_whole_are_refused(tmp_path: Path, layout: Any) -> None:
    folder = tmp_path / "made"
    write_encoder(made_checkpoint(tiny()), folder, layout)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    norm = "norm.weight" if layout == "vocable" else "encoder.layer_norm.weight"
    blamed = weights if layout == "vocable" else folder
    save_file({name: item for name, item in tensors.items() if name != norm}, weights)
    refused(blamed, f"lacks the tensor {norm}", "copy it again", source=folder)
    save_file(tensors | {norm: torch.ones(63)}, weights)
    refused(blamed, f"has {norm} of shape (63,)", "(64,)", source=folder)
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        refused(weights, "is not a whole safetensors file", "copy it again", source=folder)
    weights.unlink()
    refused(folder, "holds no weights", "model.safetensors")
    (folder / "config.json").unlink()
    refused(folder, "holds no encoder")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "bert"}, "is of a model of type 'bert'"),
        ({"hidden_act": "relu"}, "its hidden_act is 'relu'"),
        ({"feat_extract_activation": "relu"}, "its feat_extract_activation is 'relu'"),
        ({"conv_pos_batch_norm": True}, "its conv_pos_batch_norm is True"),
        ({"hidden_size": "64"}, "a whole number"),
        ({"num_hidden_layers": 0}, "a whole number"),
        ({"num_attention_heads": 5}, "can't have 5 heads"),
        ({"conv_kernel": [10, 3]}, "can't be read"),
        ({"conv_dim": 3}, "can't be read"),
        ({"conv_dim": [], "conv_kernel": [], "conv_stride": []}, "without convolutions"),
    ],
)
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, values: dict[str, object], said: str) -> None:
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "transformers")
    changed(tmp_path / "made", **values)
    refused(tmp_path / "made" / "config.json", said, source=tmp_path / "made")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\udcff"])
def test_a_configuration_that_is_no_json_is_no_encoder(tmp_path: Path, text: str) -> None:
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "transformers")
    (tmp_path / "made" / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(tmp_path / "made" / "config.json", "make it again, or remove it", source=tmp_path / "made")


def test_layers_with_adapters_are_refused(tmp_path: Path) -> None:
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "transformers")
    changed(tmp_path / "made", adapter_attn_dim=16)
    refused(tmp_path / "made" / "config.json", "adapter_attn_dim is 16", source=tmp_path / "made")
    changed(tmp_path / "made", adapter_attn_dim=None)
    weights = tmp_path / "made" / "model.safetensors"
    more = {**load_file(weights), "encoder.layers.1.adapter_layer.norm.weight": torch.ones(3)}
    save_file(more, weights)
    refused(tmp_path / "made", "encoder.layers.1.adapter_layer.norm.weight, a part of its layers that isn't known here")


def test_what_transformers_left_of_a_hub_model_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    write_encoder(made_checkpoint(tiny()), tmp_path / "there", "transformers")
    (tmp_path / "here").mkdir()
    for name in ("config.json", "model.safetensors"):  # transformers leaves preprocessor_config.json out
        (tmp_path / "here" / name).write_bytes((tmp_path / "there" / name).read_bytes())
    asked: list[bool] = []

    def fetched(name: str, local_files_only: bool = False, **_: object) -> str:
        asked.append(local_files_only)
        return str(tmp_path / ("here" if local_files_only else "there"))

    monkeypatch.setattr(hub, "snapshot_download", fetched)
    assert read_encoder("someone/model").config.waveform_normalization == "none"
    assert asked == [True, False]
    (tmp_path / "here" / "preprocessor_config.json").write_text('{"do_normalize": true}')
    asked.clear()
    assert read_encoder("hf:someone/model@main").config.waveform_normalization == "utterance"
    assert asked == [True]
    assert describe(Path("someone/model")).what == "a HuBERT encoder in the layout of transformers"

    def offline(name: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise hub.errors.LocalEntryNotFoundError("not here")
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"someone/model is no file here and can't be fetched \(no network\)"):
        read_encoder("someone/model")


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "vocable")
    weights = tmp_path / "made" / "model.safetensors"
    save_file({**load_file(weights), "mask_embedding": torch.ones(3)}, weights)
    refused(tmp_path / "made", "mask_embedding of shape (3,), which doesn't fit frames of 64 values")


def test_shards_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = saved(transformers_model(tiny()), tmp_path / "made", max_shard_size="100KB")
    shard = max(folder.glob("model-*.safetensors"))
    shard.rename(folder / "away")
    refused(shard, "isn't there, though model.safetensors.index.json names it", source=folder)
    for named in ({"a": "../away"}, {"a": 3}, {}, None):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
        refused(folder / "model.safetensors.index.json", "doesn't say which files", source=folder)


def test_a_folder_of_pickled_weights_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "transformers")
    state = load_file(tmp_path / "made" / "model.safetensors")
    (tmp_path / "made" / "model.safetensors").unlink()
    for new in (True, False):
        torch.save(state | {"evil": Evil()}, tmp_path / "made" / "pytorch_model.bin", _use_new_zipfile_serialization=new)
        refused(tmp_path / "made" / "pytorch_model.bin", "nothing in it was run", kind=UnsafeFileError, source=tmp_path / "made")
    assert not (tmp_path / "ran").exists()


def test_sources_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "nothing", "doesn't exist")
    refused(tmp_path, "holds no encoder")
    write_encoder(made_checkpoint(tiny()), tmp_path / "made", "vocable")
    refused(tmp_path / "made" / "model.safetensors", "is a part of an encoder: give its folder")
    (tmp_path / "file").write_bytes(b"something else altogether")
    refused(tmp_path / "file", "copy it again")
    torch.save({"a": torch.ones(2)}, tmp_path / "file")
    refused(tmp_path / "file", "holds no encoder of a known layout")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_stands_already_is_replaced_only_when_asked(tmp_path: Path, layout: Any) -> None:
    out, first, second = tmp_path / "out", made_checkpoint(tiny(), 1), made_checkpoint(tiny(), 2)
    write_encoder(first, out, layout)
    with pytest.raises(InputError, match="stands already: give another path, or --overwrite"):
        write_encoder(second, out, layout)
    assert read_encoder(out).digest == first.digest
    write_encoder(second, out, layout, overwrite=True)
    assert read_encoder(out).digest == second.digest
    assert names_in(tmp_path) == ["out"]


def test_other_files_and_folders_are_never_replaced(tmp_path: Path) -> None:
    checkpoint = made_checkpoint(tiny())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("dear")
    (tmp_path / "file").write_text("dear")
    with pytest.raises(InputError, match=r"holds thesis\.tex, which is not of an encoder"):
        write_encoder(checkpoint, tmp_path / "folder", "vocable", overwrite=True)
    with pytest.raises(InputError, match="is a folder, and fairseq's layout is a file"):
        write_encoder(checkpoint, tmp_path / "folder", "fairseq", overwrite=True)
    with pytest.raises(InputError, match="is a file, and this layout is a folder"):
        write_encoder(checkpoint, tmp_path / "file", "transformers", overwrite=True)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "dear"


def test_one_layout_in_place_of_another_leaves_nothing_of_it(tmp_path: Path) -> None:
    write_encoder(made_checkpoint(tiny(), 1, made_heads()), tmp_path / "out", "transformers")
    assert names_in(tmp_path / "out") == [
        "config.json", "model.safetensors", "preprocessor_config.json", "pretraining_heads.safetensors"
    ]  # fmt: skip
    write_encoder(made_checkpoint(tiny(), 2), tmp_path / "out", "vocable", overwrite=True)
    assert names_in(tmp_path / "out") == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("layout", ["vocable", "transformers"])
def test_a_write_that_fails_leaves_the_older_encoder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Any
) -> None:
    older = made_checkpoint(tiny(), 1)
    write_encoder(older, tmp_path / "out", layout)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encoders, "save_file", fail)
    for out in ("out", "new"):
        with pytest.raises(DiskFullError, match=f"no space left to write {tmp_path / out} "):
            write_encoder(made_checkpoint(tiny(), 2), tmp_path / out, layout, overwrite=True)
    assert names_in(tmp_path) == ["out"]
    assert read_encoder(tmp_path / "out").digest == older.digest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_disk_is_one_sentence(tmp_path: Path, layout: Any) -> None:
    checkpoint = made_checkpoint(tiny())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for most in (10_000, 100_000, 300_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
            with pytest.raises(DiskFullError, match=f"^no space left to write {tmp_path / 'out'} .*run the same command again"):
                write_encoder(checkpoint, tmp_path / "out", layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names_in(tmp_path) == []
