"""A few of the damaged pictures of `python -m benchmarks.fuzz`: each reads or is refused in one line."""

import pytest

from asgnet.data.photo import read_photo
from asgnet.errors import UserError
from benchmarks.fuzz import fuzz, main
from benchmarks.mutations import MUTATIONS, ORIGINALS, mutated

FILES = 150


def test_damaged_pictures_read_or_are_refused_in_one_line():
    tallies = fuzz(range(FILES))
    assert sum(tally.files for tally in tallies.values()) == FILES
    assert sum(tally.reads for tally in tallies.values()) > 100  # damage is not all there is
    assert [failure for tally in tallies.values() for failure in tally.failures if not failure.endswith(" s")] == []


@pytest.mark.parametrize("number", [42, 142, 181, 801, 1243])
def test_files_that_once_failed(number):
    """Warnings of odd metadata and of size, a JPEG of a kilobyte that says 177 million pixels, a logged line."""
    tallies = fuzz(range(number, number + 1))
    assert [failure for tally in tallies.values() for failure in tally.failures if not failure.endswith(" s")] == []


def test_the_originals_read_and_a_mutation_is_a_function_of_its_number(tmp_path):
    for name, (suffix, data) in ORIGINALS.items():
        (tmp_path / f"x{suffix}").write_bytes(data)
        assert sorted(read_photo(tmp_path / f"x{suffix}").shape) == [3, 48, 64], name
    assert mutated(7) == mutated(7) != mutated(7, seed=1)
    done = {how for number in range(500) for how in mutated(number)[1].split(", ")}
    assert done == set(MUTATIONS)


def test_a_jpeg_that_says_more_pixels_than_its_bytes_can_hold(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(ORIGINALS["JPEG"][1].replace(b"\x00\x30\x00\x40", b"\x33\xf4\x33\xf4", 1))
    with pytest.raises(UserError, match=r"x.jpg: damaged, for 13300 x 13300 pixels are not in \d+ bytes"):
        read_photo(path)


def test_the_script_prints_a_table(capsys):
    assert main(["--files", "25"]) == 0
    assert "25 files, random seed 0: 0 failures" in capsys.readouterr().out
