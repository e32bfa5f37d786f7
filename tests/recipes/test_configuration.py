"""Settings from files: names and types are checked, and what is wrong is said with what would be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from vocable.errors import InputError
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.hubert_settings import HUBERT_RECIPES, read_settings
from vocable.recipes.shipped import shipped_recipes


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise InputError("rate below 0: give more")


@dataclass(frozen=True)
class Outer:
    count: int
    name: str | None = None
    path: Path = Path("here")
    pair: tuple[float, float] = (1.0, 2.0)
    several: tuple[str, ...] = ()
    flag: bool = False
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Maybe:
    name: str | None = "some"


def test_toml_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('count = 3\npair = [1, 2.5]\nseveral = ["x"]\n[inner]\nrate = 5e-4\nkind = "b"\n')
    (tmp_path / "a.yaml").write_text("count: 3\npair: [1, 2.5]\nseveral: x\ninner:\n  rate: 5e-4\n  kind: b\n")
    (tmp_path / "a.json").write_text('{"count": 3, "pair": [1, 2.5], "several": ["x"], "inner": {"rate": 5e-4, "kind": "b"}}')
    made = [built(Outer, read_values(tmp_path / f"a.{ending}"), "a") for ending in ("toml", "yaml", "json")]
    assert made[0] == made[1] == made[2] == Outer(3, pair=(1.0, 2.5), several=("x",), inner=Inner(5e-4, "b"))
    assert all(isinstance(value, float) for value in made[0].pair)


def test_options_take_the_place_of_what_a_file_says() -> None:
    values = {"count": 3, "inner": {"kind": "b"}}
    options = ["count=4", "inner.rate=2", "name=some text", 'several=["x", "y"]', "flag=true", "path = ~/there"]
    made = built(Outer, with_options(values, options), "options")
    assert (made.count, made.inner, made.name, made.several, made.flag) == (4, Inner(2.0, "b"), "some text", ("x", "y"), True)
    assert made.path == Path.home() / "there"
    assert values == {"count": 3, "inner": {"kind": "b"}}
    assert built(Maybe, with_options({"name": "some"}, ["name=null"]), "options") == Maybe(None)
    with pytest.raises(InputError, match="count should be a whole number, not None"):
        built(Outer, with_options(values, ["count=null"]), "options")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "f lacks the setting count: give it"),
        ({"count": "3"}, "f: count should be a whole number, not '3'"),
        ({"count": True}, "f: count should be a whole number, not True"),
        ({"count": 3, "cuont": 1}, "f: there is no setting cuont; did you mean 'count'?"),
        ({"count": 3, "rate": 1}, "f: there is no setting rate; did you mean 'inner.rate'?"),
        ({"count": 3, "zzz": 1}, "f: there is no setting zzz; there are count, name"),
        ({"count": 3, "inner": 1}, "f: inner is a section of settings, not 1"),
        ({"count": 3, "inner": {"kind": "c"}}, "f: inner.kind is one of a, b, not 'c'"),
        ({"count": 3, "inner": {"rate": -1}}, "f, inner: rate below 0: give more"),
        ({"count": 3, "pair": [1]}, "f: pair takes 2 values, not 1"),
        ({"count": 3, "path": 3}, "f: path should be a path, not 3"),
        ({"count": 3, "inner": {"rate": "much"}}, "f: inner.rate should be a number, not 'much'"),
        ({"count": 3, "inner": {"rate": float("nan")}}, "f: inner.rate should be a finite number, not nan"),
        ({"count": 3, "inner": {"rate": "inf"}}, "f: inner.rate should be a finite number, not inf"),
        ({"count": 3, "pair": [1, float("-inf")]}, "f: pair should be a finite number, not -inf"),
        ({"count": 3, "inner": {"rate": 10**400}}, "f: inner.rate should be a number, not 1000"),
        ({"count": float("nan")}, "f: count should be a finite number, not nan"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        built(Outer, values, "f")
    assert said in str(caught.value)


def test_files_that_are_no_settings_are_refused(tmp_path: Path) -> None:
    for name, content, said in (
        ("a.toml", "count = ", "can't be read as TOML"),
        ("a.yaml", "a: [", "can't be read as YAML"),
        ("b.yaml", "- 1", "holds no settings"),
        ("c.yaml", "a: !!python/object/apply:os.system [true]", "can't be read as YAML"),
        ("d.toml", "\xff", "can't be read"),
    ):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(InputError, match=said):
            read_values(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_values(tmp_path / "none.toml")
    with pytest.raises(InputError, match="is no setting: write it as training.steps=1000"):
        with_options({}, ["steps"])
    with pytest.raises(InputError, match="steps is a value and has no parts"):
        with_options({"steps": 3}, ["steps.more=3"])


@pytest.mark.parametrize("option", ["loss.unmasked=nan", "training.optimizer.learning_rate=inf", "masks.probability=-inf"])
def test_a_training_takes_no_number_that_is_none(option: str, tmp_path: Path, cli: Callable[..., str]) -> None:
    said = cli("train", "hubert", "small-logmel", "data.folder=x", option, "--out", tmp_path / "run", fails=True)
    name, value = option.split("=")
    assert said == f"vocable: small-logmel: {name} should be a finite number, not {value}\n"
    assert not (tmp_path / "run").exists()


def test_one_of_several_sections_goes_by_its_number_from_1() -> None:
    values = {"iterations": [{"layer": 3}, {"layer": 4}], "betas": [0.9, 0.98]}
    made = with_options(values, ["iterations.2.layer=5", "iterations.1.training.steps=7", "betas=[0.8, 0.9]"])
    assert made == {"iterations": [{"layer": 3, "training": {"steps": 7}}, {"layer": 5}], "betas": [0.8, 0.9]}
    assert values["iterations"] == [{"layer": 3}, {"layer": 4}]
    for option, said in (
        ("iterations.0.layer=5", "there is no 0 of several sections, which go from 1 to 2"),
        ("iterations.3.layer=5", "there is no 3 of several sections"),
        ("iterations.layer=5", "several sections: name one of them, from 1 to 2"),
        ("betas.1=3", "betas is a value and has no parts"),
    ):
        with pytest.raises(InputError, match=said):
            with_options(values, [option])


@pytest.mark.parametrize("name", shipped_recipes(HUBERT_RECIPES))
def test_settings_that_come_with_vocable_are_whole(name: str) -> None:
    made = read_settings(name, ["data.folder=labels"])
    assert made.batches.micro_batches >= 1
    assert made.model.config().layers >= 6


def test_the_published_recipes_are_the_papers() -> None:
    base, large, xlarge = (read_settings(name, ["data.folder=x"]) for name in ("hubert-base-2", "hubert-large", "hubert-xlarge"))
    peaks = [item.training.optimizer.learning_rate for item in (base, large, xlarge)]
    assert peaks == [5e-4, 1.5e-3, 3e-3]
    assert [item.batches.micro_batches for item in (base, large, xlarge)] == [32, 128, 256]
    assert [item.training.steps for item in (base, large, xlarge)] == [400_000] * 3
    assert [item.training.optimizer.clip_norm for item in (base, large, xlarge)] == [10, 1, 1]
    assert [item.loss.projection for item in (base, large, xlarge)] == [256, 768, 1024]
    assert base.regularization.layer_drop == 0.05
    assert base.regularization.feature_gradient == 0.1
    assert vars(large.regularization) == vars(xlarge.regularization) == {
        "dropout": 0, "attention_dropout": 0, "activation_dropout": 0, "input_dropout": 0, "layer_drop": 0, "feature_gradient": 1
    }  # fmt: skip
