"""CSVs of frames and labels: what they are taken for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocable.errors import InputError, MismatchError
from vocable.recipes.feature_pairs import read_pairs

CSV = "libri-360-data-cluster-pair.csv"


def test_lengths_of_a_csv_are_known_for_what_they_are(preprocessed: Path, tmp_path: Path) -> None:
    header, *lines = (preprocessed / CSV).read_text().splitlines()
    halved = []
    for line in lines:
        features, labels, length = line.split(",")
        target = tmp_path / Path(labels).name
        np.save(target, np.load(labels, allow_pickle=False)[::2])
        halved.append(f"{features},{target},{-(-int(length) // 2)}")
    (tmp_path / "stage2.csv").write_text("\n".join([header, *halved]) + "\n")
    pairs = read_pairs([tmp_path / "stage2.csv"], 40)
    assert pairs.rate == 50.0
    assert pairs.lengths.tolist() == read_pairs([preprocessed / CSV], 40).lengths.tolist()
    assert "counts frames of 20 ms" in pairs.notes[0]
    with pytest.raises(MismatchError, match="at one rate"):
        read_pairs([preprocessed / CSV, tmp_path / "stage2.csv"], 40)


def test_a_broken_csv_is_refused_with_its_line(preprocessed: Path, tmp_path: Path) -> None:
    header, *lines = (preprocessed / CSV).read_text().splitlines()
    features, labels, _ = lines[0].split(",")
    np.save(tmp_path / "few.npy", np.arange(3))
    np.save(tmp_path / "wide.npy", np.zeros((10, 39), np.float32))
    (tmp_path / "cut.npy").write_bytes(Path(features).read_bytes()[:-7])
    for row, said in (
        ("a,b", "line 2"),
        (f"{features},{labels},long", "line 2"),
        (f"{tmp_path / 'gone.npy'},{labels},3", "gone.npy isn't there"),
        (f"{features},{tmp_path / 'few.npy'},3", "3 labels"),
        (f"{tmp_path / 'wide.npy'},{labels},10", "40 bins"),
        (f"{tmp_path / 'cut.npy'},{labels},10", "not a whole .npy"),
        (f"{features},{labels},1", "neither of its frames"),
    ):
        (tmp_path / "some.csv").write_text(f"{header}\n{row}\n")
        with pytest.raises((InputError, MismatchError), match=said):
            read_pairs([tmp_path / "some.csv"], 40)
    (tmp_path / "some.csv").write_text("path,length\n")
    with pytest.raises(InputError, match="not with file_path"):
        read_pairs([tmp_path / "some.csv"], 40)
    with pytest.raises(InputError, match="isn't there"):
        read_pairs([tmp_path / "none.csv"], 40)
