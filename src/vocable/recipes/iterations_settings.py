"""HuBERT in several iterations, described: audio, the first labels, and each iteration's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vocable.errors import InputError
from vocable.features.normalization import Scope
from vocable.recipes.configuration import Values, built, read_values, with_options
from vocable.recipes.hubert_settings import HUBERT_RECIPES, HubertSettings
from vocable.recipes.shipped import recipe_file


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """What is learnt from."""

    train: Path
    """A folder of audio, or a manifest."""
    valid: Path | None = None
    """Another one to validate on; without it, a part of train."""
    valid_percent: float = 0.01
    """Part of train that is validated on, where there is no valid: a fraction below 1."""
    speakers: str | None = None
    """Who speaks: a path pattern such as '{speaker}/*/*', or a file of lines 'utterance speaker'."""
    alignments: Path | None = None
    """Phones of some utterances, as `vocable evaluate units` takes them: they choose layers, and score what was made."""
    min_seconds: float = 0.025


@dataclass(frozen=True, kw_only=True)
class FirstLabels:
    """What the first iteration learns."""

    features: Literal["mfcc", "logmel"] = "mfcc"
    normalize: Scope = "none"
    context: int = 0
    clusters: int = 100
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class IterationSettings:
    """One iteration.

    Raises:
        InputError: a part is none.
    """

    settings: str
    """Those of the training: a file, or one that comes with vocable, by name. Sections beside this take the place of its own."""
    layer: int | Literal["auto"] = "auto"
    """Of the iteration before, whose units are learnt; `auto` is the best by PNMI where there are alignments, else the
    measure.layer of that iteration's settings, or the middle."""
    clusters: int = 100
    """Of that layer's frames."""
    normalize: Scope = "none"
    """Of that layer's frames."""
    changes: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.clusters < 1 or (self.layer != "auto" and self.layer < 1):
            raise InputError(f"clusters {self.clusters} and layer {self.layer}: give 1 or more")

    def training(self, labels: Path) -> Values:
        """Return the settings of the training on labels in a folder."""
        values = merged(read_values(recipe_file(self.settings, HUBERT_RECIPES)), self.changes)
        data: Values = {"folder": str(labels)}
        if not (labels / "valid.tsv").is_file() and labels.is_dir():
            data["valid"] = None
        return {**values, "data": data}


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What is scored where phones are known.

    Raises:
        InputError: there can be no such units.
    """

    clusters: tuple[int, ...] = ()
    """Numbers of units; by default as many as there are first labels. Layers are chosen by the first."""

    def __post_init__(self) -> None:
        if any(count < 1 for count in self.clusters):
            raise InputError(f"scores.clusters {list(self.clusters)}: give numbers of 1 or more")


@dataclass(frozen=True)
class PretrainingSettings:
    """HuBERT in several iterations."""

    audio: AudioSettings
    labels: FirstLabels
    iterations: tuple[IterationSettings, ...]
    scores: ScoreSettings = field(default_factory=ScoreSettings)

    @property
    def scored_clusters(self) -> tuple[int, ...]:
        """Numbers of units that are scored."""
        return self.scores.clusters or (self.labels.clusters,)


_OWN = ("settings", "layer", "clusters", "normalize")


def read_iterations(path: Path, options: Sequence[str] = ()) -> PretrainingSettings:
    """Return the settings in a recipe file, each training's looked over; paths in it start from its folder.

    Raises:
        InputError: names what is wrong, and where.
    """
    values = with_options(_placed(read_values(path), path.parent), options)
    listed = values.pop("iterations", None)
    if isinstance(listed, dict):  # an option such as iterations.0.layer=3 on a recipe without any
        listed = None
    if not isinstance(listed, list) or not listed or not all(isinstance(item, dict) for item in listed):
        raise InputError(f"{path} has no [[iterations]]: give one for each, with the settings of its training")
    if unknown := sorted(set(values) - {"audio", "labels", "scores"}):
        raise InputError(f"{path}: there is no section [{unknown[0]}]; there are audio, labels, scores and [[iterations]]")
    audio = built(AudioSettings, values.get("audio", {}), f"{path}, [audio]")
    made: list[IterationSettings] = []
    depth = None
    for number, item in enumerate(listed, 1):
        where = f"{path}, iteration {number}"
        own = {name: item[name] for name in _OWN if name in item}
        changes = {name: value for name, value in item.items() if name not in _OWN}
        layer = own.pop("layer", "auto")
        if layer != "auto" and (not isinstance(layer, int) or isinstance(layer, bool)):
            raise InputError(f'{where}: layer is a whole number or "auto", not {layer!r}')
        if depth is not None and layer != "auto" and layer > depth:
            raise InputError(f'{where}: layer {layer} doesn\'t exist, the one before has {depth}; give one of them, or "auto"')
        if "data" in changes:
            raise InputError(f"{where}: [data] follows from [audio] and [labels] here: leave it out")
        if "settings" not in own:
            raise InputError(f"{where} lacks its settings: give a file, or a name such as small-logmel")
        training = _settings_path(str(own.pop("settings")), path)
        iteration = IterationSettings(settings=training, layer=layer, changes=changes, **vars(built(_Labels, own, where)))
        training_settings = built(HubertSettings, iteration.training(Path("labels")), where)  # says now what is wrong with it
        depth = training_settings.model.layers
        made.append(iteration)
    labels = built(FirstLabels, values.get("labels", {}), f"{path}, [labels]")
    return PretrainingSettings(audio, labels, tuple(made), built(ScoreSettings, values.get("scores", {}), f"{path}, [scores]"))


@dataclass(frozen=True, kw_only=True)
class _Labels:
    clusters: int = 100
    normalize: Scope = "none"


def _settings_path(named: str, recipe: Path) -> str:
    beside = recipe.parent / named
    return str(beside) if Path(named).suffix and beside.exists() else named


def _placed(values: Values, folder: Path) -> Values:
    """Return a recipe whose paths don't depend any more on where the file lies."""
    audio = values.get("audio")
    if not isinstance(audio, dict):
        return values
    placed = {
        name: str(folder / Path(value).expanduser())
        for name, value in audio.items()
        if name in ("train", "valid", "alignments") and isinstance(value, str)
    }
    speakers = audio.get("speakers")
    if isinstance(speakers, str) and "{" not in speakers and (folder / speakers).exists():
        placed["speakers"] = str(folder / speakers)
    return {**values, "audio": {**audio, **placed}}


def merged(values: Values, changes: Values) -> Values:
    """Return settings with others in their place, section by section."""
    made: dict[str, Any] = dict(values)
    for name, value in changes.items():
        before = made.get(name)
        made[name] = merged(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return made
