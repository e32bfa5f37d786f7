"""One training of a disentangled HuBERT, described: that of a HuBERT, with what its frames are kept from telling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vocable.errors import InputError
from vocable.pretraining.disentanglement_settings import DisentanglementSettings
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.hubert_settings import HUBERT_RECIPES, DataSettings, HubertSettings
from vocable.recipes.shipped import recipe_file


@dataclass(frozen=True, kw_only=True)
class DisentangledDataSettings(DataSettings):
    """Where audio and labels are, and who speaks how high.

    Raises:
        InputError: it is nowhere.
    """

    feat_dir: Path | None = None
    """Holds who speaks, `{split}.spk` and dict.spk.txt, and how high, `{split}.f0` and f0.json; by default the labels' folder, or
    the manifests'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folder is None:
            raise InputError("speakers and pitch are of a manifest's rows, and data.sets has none: give data.folder")

    @property
    def voices(self) -> Path:
        """The folder of the files of speakers and pitch."""
        return self.feat_dir or self.label_folder or self.place


@dataclass(frozen=True, kw_only=True)
class DisentangledSettings(HubertSettings):
    """One training of a disentangled HuBERT."""

    data: DisentangledDataSettings
    disentanglement: DisentanglementSettings = field(default_factory=DisentanglementSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.disentanglement.layer(self.model.layers) and self.model.input == "logmel" and self.model.mel_hides_input:
            raise InputError("disentanglement.tap conv: with mel_hides_input no frame is whole there; tap a layer, or last")


DISENTANGLED_RECIPES = ("disentangled", *HUBERT_RECIPES)
"""Folders of the settings that come with vocable; plain HuBERT's have the usual disentanglement."""


def read_disentangled_settings(source: str | Path, options: Sequence[str] = ()) -> DisentangledSettings:
    """Return the settings of one training out of a file, some of them replaced by dotted options.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, DISENTANGLED_RECIPES)
    return built(DisentangledSettings, with_options(read_values(path), options), str(source))
