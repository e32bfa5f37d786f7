from __future__ import annotations

import builtins
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints.fairseq_files import (
    LABELS,
    STATE,
    Dictionary,
    as_args,
    as_cfg,
    as_fine_tuned,
    as_fine_tuned_long_ago,
    as_omegaconf,
    as_s3prl,
    expected,
    model_settings,
    save_as_fairseq,
    weights,
)
from models.made import tiny
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import read_encoder
from vocable.checkpoints.fairseq_encoder import convolutions_of
from vocable.checkpoints.tensor_names import LABEL_EMBEDDINGS, SPECIAL_EMBEDDINGS
from vocable.errors import InputError, UnknownNormalizationError, UnsafeFileError
from vocable.models.config import CONVOLUTIONS, Convolution


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    return lambda content, old=False: save_as_fairseq(content, tmp_path / "made.pt", old)


LAYOUTS = [as_args, as_cfg, as_omegaconf, as_fine_tuned, as_fine_tuned_long_ago, as_s3prl]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("made", LAYOUTS)
def test_every_kind_of_file_holds_the_same_encoder(
    save: Callable[..., Path], made: Callable[[bool], dict[str, Any]], large: bool, old: bool
) -> None:
    found, state = read_encoder(save(made(large), old)), weights(large)
    assert found.layout == ("s3prl" if made is as_s3prl else "fairseq")
    assert found.config == tiny("hubert", large, layers=2)
    same(found, expected(state, large))
    heads = {"mask_embedding": "mask_emb"}
    if made in (as_fine_tuned, as_fine_tuned_long_ago):
        assert found.ignored == ("w2v_encoder.proj.bias", "w2v_encoder.proj.weight")
    else:
        heads |= {"final_projection.weight": "final_proj.weight", "final_projection.bias": "final_proj.bias"}
        assert found.ignored == ()
    assert all(torch.equal(found.heads[ours], state[theirs]) for ours, theirs in heads.items())
    assert set(found.heads) == {*heads, LABEL_EMBEDDINGS, SPECIAL_EMBEDDINGS}
    assert torch.equal(found.heads[LABEL_EMBEDDINGS], state["label_embs_concat"][4:])


def same(found: EncoderCheckpoint, tensors: dict[str, Tensor]) -> None:
    assert set(found.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == torch.float32
        assert torch.equal(found.tensors[name], tensor.float()), name


def test_weights_of_half_precision_are_the_same_numbers_in_float32(save: Callable[..., Path]) -> None:
    content = as_cfg()
    content["model"] = {name: item.half() for name, item in content["model"].items()}
    same(read_encoder(save(content)), expected(content["model"]))


def test_microsofts_wavlm_is_read(save: Callable[..., Path]) -> None:
    state = {name: item for name, item in weights().items() if not name.startswith(("label_embs", "final_proj"))}
    for at in range(2):
        attention = f"encoder.layers.{at}.self_attn"
        state[f"{attention}.grep_a"] = torch.rand(1, 4, 1, 1)
        state[f"{attention}.grep_linear.weight"], state[f"{attention}.grep_linear.bias"] = torch.rand(8, 16), torch.rand(8)
    state["encoder.layers.0.self_attn.relative_attention_bias.weight"] = torch.rand(40, 4)
    settings = model_settings() | {"relative_position_embedding": True, "num_buckets": 40, "max_distance": 90, "normalize": False}
    del settings["_name"]
    found = read_encoder(save({"cfg": settings, "model": state}))
    assert (found.layout, found.config.family, found.ignored) == ("wavlm", "wavlm", ())
    assert (found.config.relative_positions.buckets, found.config.relative_positions.max_distance) == (40, 90)  # type: ignore[union-attr]
    assert torch.equal(
        found.tensors["relative_positions.weight"], state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    )
    assert torch.equal(found.tensors["blocks.1.attention.gate.scale"], state["encoder.layers.1.self_attn.grep_a"])
    assert torch.equal(
        found.tensors["blocks.1.attention.gate.linear.weight"], state["encoder.layers.1.self_attn.grep_linear.weight"]
    )
    assert list(found.heads) == ["mask_embedding"]


@pytest.mark.parametrize("name", ["label_embs_concat", "label_embs"])
@pytest.mark.parametrize(("task", "specials"), [(STATE, 4), ({}, 4), ({"task_state": {"dictionaries": [Dictionary(0)]}}, 0)])
def test_the_first_rows_of_the_label_embeddings_are_no_labels(
    save: Callable[..., Path], name: str, task: dict[str, Any], specials: int
) -> None:
    content = as_cfg()
    content["model"][name] = rows = content["model"].pop("label_embs_concat")
    del content["task_state"]
    heads = read_encoder(save(content | task)).heads
    labels = heads[LABEL_EMBEDDINGS]
    assert torch.equal(labels, rows[specials:])
    assert labels.floor()[:, 0].tolist() == list(range(specials - 4, LABELS))
    if specials:
        assert torch.equal(heads[SPECIAL_EMBEDDINGS], rows[:specials])


def test_label_embeddings_without_labels_are_refused(save: Callable[..., Path]) -> None:
    content = as_cfg()
    content["model"]["label_embs_concat"] = torch.rand(4, 6)
    with pytest.raises(
        InputError, match=r"made\.pt has label embeddings of shape \(4, 6\), of which 4 are special: copy it again"
    ):
        read_encoder(save(content))


def test_a_file_that_does_not_say_how_waveforms_are_normalised_is_refused_unless_told(save: Callable[..., Path]) -> None:
    for made in (as_args, as_cfg, as_s3prl):
        content = made(True)
        for settings in (content.get("cfg"), content.get("task_cfg"), vars(content["args"]) if content.get("args") else None):
            if settings is not None:
                settings.get("task", settings).pop("normalize")
        path = save(content)
        with pytest.raises(
            UnknownNormalizationError, match=rf"^{path} doesn't say .*--waveform-normalization none .* or utterance"
        ):
            read_encoder(path)
        assert read_encoder(path, "none").config.waveform_normalization == "none"
        assert read_encoder(path, "utterance").config.waveform_normalization == "utterance"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", CONVOLUTIONS),
        ("[(512, 10, 5)] + [(512,3,2)]*4 + [(512,2,2)] + [(512,2,2)]", CONVOLUTIONS),
        (" [(512, 10, 5)] + 4 * [(512, 3, 2)] + 2 * [[512, 2, 2]]\n", CONVOLUTIONS),
        (str([(item.channels, item.width, item.stride) for item in CONVOLUTIONS]), CONVOLUTIONS),
        ("([(1, 2, 3)] + [(4, 5, 6)]) * 2", (Convolution(1, 2, 3), Convolution(4, 5, 6)) * 2),
        ("[(1, 2, 3)] * 0 + [(4, 5, 6)]", (Convolution(4, 5, 6),)),
    ],
)
def test_convolutions_are_written_as_sums_and_multiples_of_lists(text: str, meant: tuple[Convolution, ...]) -> None:
    assert convolutions_of(text) == meant


NO_CONVOLUTIONS = [
    "__import__('os').system('x')", "exec('x')", "[(1,2)]", "[(1,2,3,4)]", "[(a,1,2,3)]", "[('1',2,3)]", "[(1.0,2,3)]",
    "[(512,-10,5)]", "[(512,10,5)]*10**9", "[(512,10,5)]*1000000000", "[(512,10,5)]*64*64*64*64*64", "[(512,10,5)]*-1",
    "[(512,10,5)]*2.0", "[(512,10,5)]-[(512,10,5)]", "[(512,10,5) for _ in range(3)]", "[*x]", "(lambda: [(1,2,3)])()", "x",
    "[(512,10,5)][0:1]", "f'{x}'", "[(x:=1,2,3)]", "", "[", "[(512,10,5)", "[(1,2,3)]\0", "1;2", "-" * 900 + "1", "-" * 100_000 + "1",
    "(" * 300 + "[(1,2,3)]" + ")" * 300, "+".join(["[(1,2,3)]"] * 9000), "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_CONVOLUTIONS, ids=range(len(NO_CONVOLUTIONS)))
def test_nothing_else_is_evaluated_for_convolutions(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def run(*_: object) -> None:
        raise AssertionError

    for module, name in ((builtins, "eval"), (builtins, "exec"), (os, "system")):
        monkeypatch.setattr(module, name, run)
    with pytest.raises(ValueError):
        convolutions_of(text)
    monkeypatch.undo()
    if text:
        content = as_cfg()
        content["cfg"]["model"]["conv_feature_layers"] = text
        with pytest.raises(InputError, match=r"made\.pt has a configuration that can't be read"):
            read_encoder(save(content))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conv_pos_batch_norm", True), ("activation_fn", "relu"), ("layer_type", "conformer"), ("pos_enc_type", "rel_pos"),
        ("attn_type", "espnet"), ("pos_conv_depth", 5), ("target_glu", True),
    ],
)  # fmt: skip
def test_encoders_of_other_kinds_are_refused(save: Callable[..., Path], name: str, value: object) -> None:
    content = as_cfg()
    content["cfg"]["model"][name] = value
    with pytest.raises(InputError) as caught:
        read_encoder(path := save(content))
    assert str(caught.value) == f"{path} is of a kind that isn't known here: its {name} is {value!r}; take another checkpoint"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("encoder_layers", 3, "lacks the tensor encoder.layers.2.self_attn.q_proj.weight"),
        ("encoder_layers", 10**9, "a whole number from 1 to"),
        ("encoder_layers", float("inf"), "can't be read"),
        ("encoder_layers", None, "can't be read"),
        ("encoder_embed_dim", 128, "has post_extract_proj.weight of shape (64, 32), but its configuration says (128, 32)"),
        ("encoder_attention_heads", 7, "can't have 7 heads"),
        ("conv_bias", True, "lacks the tensor feature_extractor.conv_layers.0.0.bias"),
        ("conv_pos", "wide", "can't be read"),
    ],
)
def test_a_configuration_that_is_not_that_of_the_weights_is_refused(
    save: Callable[..., Path], name: str, value: object, said: str
) -> None:
    content = as_cfg()
    content["cfg"]["model"][name] = value
    with pytest.raises(InputError) as caught:
        read_encoder(path := save(content))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


class Asks:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def in_dictionary(evil: object) -> Dictionary:
    found = Dictionary()
    found.symbols.append(evil)  # type: ignore[arg-type]
    return found


def in_args(evil: object) -> dict[str, Any]:
    content = as_args()
    content["args"].mask_selection = evil
    return content


PLACES: dict[str, Callable[[object], object]] = {
    "alone": lambda evil: evil,
    "beside": lambda evil: as_cfg() | {"extra_state": [1, (2, {"x": evil})]},
    "for weights": lambda evil: as_cfg() | {"model": evil},
    "a weight": lambda evil: as_cfg() | {"model": {**weights(), "layer_norm.weight": evil}},
    "a key": lambda evil: as_cfg() | {"model": {**weights(), evil: 1}},
    "a setting": lambda evil: as_cfg() | {"cfg": {"model": model_settings() | {"conv_feature_layers": evil}}},
    "an argument": in_args,
    "a symbol": lambda evil: as_cfg() | {"task_state": {"dictionaries": [in_dictionary(evil)]}},
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(
    save: Callable[..., Path], tmp_path: Path, place: str, old: bool
) -> None:
    mark = tmp_path / "ran"
    for evil in (
        Asks(os.system, f"touch {mark}"),
        Asks(eval, f"open({str(mark)!r}, 'w')"),
        Asks(subprocess.Popen, ["touch", str(mark)]),
        Asks(getattr, Path(mark), "touch"),
        Asks(open, str(mark), "w"),
        Asks(torch.load, str(mark)),
    ):
        with pytest.raises(
            UnsafeFileError, match=r"made\.pt was not read, and nothing in it was run: it asks for [\w.]+, which no"
        ):
            read_encoder(save(PLACES[place](evil), old))
        assert not mark.exists()


def test_raw_pickles_run_nothing_either(tmp_path: Path) -> None:
    path = tmp_path / "made.pt"
    path.write_bytes(b"cposix\nsystem\n(X\x0b\x00\x00\x00touch " + b"ran  " + b"tR.")
    with pytest.raises(UnsafeFileError, match=r"posix\.system"):
        read_encoder(path)


@pytest.mark.parametrize("old", [False, True])
def test_files_cut_short_are_refused(save: Callable[..., Path], old: bool) -> None:
    path = save(as_args(), old)
    whole = path.read_bytes()
    read_encoder(path)
    for size in [
        *range(64),
        *range(64, len(whole) - 1, len(whole) // 90),
        *range(len(whole) - 30, len(whole), 3),
        len(whole) - 1,
    ]:
        path.write_bytes(whole[:size])
        with pytest.raises((InputError, UnsafeFileError)) as caught:
            read_encoder(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value), str(caught.value)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # where torch describes what it refuses
@pytest.mark.parametrize("old", [False, True])
def test_damaged_files_are_read_or_refused(save: Callable[..., Path], old: bool) -> None:
    path, rng = save(as_args(), old), torch.Generator().manual_seed(0)
    whole = path.read_bytes()
    first = 0 if old else whole.index(b"data.pkl")  # where values are named, and not the values
    for at, byte in zip(
        torch.randint(first, first + 8000, (150,), generator=rng), torch.randint(256, (150,), generator=rng), strict=True
    ):
        path.write_bytes(whole[:at] + bytes([int(byte)]) + whole[at + 1 :])
        try:
            read_encoder(path)
        except (InputError, UnsafeFileError) as error:
            assert str(error).startswith(str(path))
