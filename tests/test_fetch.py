"""What is downloaded is unpacked nowhere but in its folder."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from torchvision.datasets.utils import extract_archive

from asgnet.data.fetch import fetch
from asgnet.errors import UserError


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4 cannot refuse members of a tar archive"
)
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
@pytest.mark.parametrize(
    "evil",
    [
        member("../outside.txt"),
        member("VOCdevkit/../../outside.txt"),
        member("link", type=tarfile.SYMTYPE, linkname="../.."),
        member("hard", type=tarfile.LNKTYPE, linkname="../../outside.txt"),
        member("device", type=tarfile.CHRTYPE),
    ],
    ids=lambda info: info.name,
)
def test_a_tar_member_that_would_land_elsewhere_is_refused(tmp_path, evil, suffix):
    archive, folder = tmp_path / f"a.{suffix}", tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz" if suffix == "tgz" else "w") as tar:
        tar.addfile(evil, io.BytesIO())
    with pytest.raises(UserError, match=r"cannot download VOC 2012 \(.*\): without a network, place it there"):
        fetch("VOC 2012", "it there", extract_archive, archive, folder)
    assert not list(folder.iterdir())
    assert {path.name for path in tmp_path.rglob("*")} == {archive.name, "in", "side"}
    assert "extraction_filter" not in vars(tarfile.TarFile)  # others' archives are theirs


def test_a_zip_stays_inside_and_a_whole_archive_is_unpacked(tmp_path):
    folder = tmp_path / "in"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    fetch("COCO 2014", "it there", extract_archive, tmp_path / "a.zip", folder)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(member("VOCdevkit/a.txt", size=1), io.BytesIO(b"x"))
    fetch("VOC 2012", "it there", extract_archive, tmp_path / "a.tar", folder)
    assert not (tmp_path / "outside.txt").exists()
    assert (folder / "VOCdevkit" / "a.txt").read_text() == "x"


def test_a_cut_off_archive_is_one_line(tmp_path):
    path: Path = tmp_path / "a.tar"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot download VOC 2012"):
        fetch("VOC 2012", "it there", extract_archive, path, tmp_path / "in")
