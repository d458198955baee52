import pytest

from interp.errors import InterpError, nearest
from interp.files import writing


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    place = tmp_path / "new" / "table.csv"
    with writing(place) as path:
        path.write_text("whole")
        assert not place.exists()
    assert place.read_text() == "whole"
    with pytest.raises(ValueError, match="in the middle"), writing(place) as path:
        path.write_text("half")
        raise ValueError("in the middle")
    assert place.read_text() == "whole"
    assert list(place.parent.iterdir()) == [place]


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    place = tmp_path / "folder"
    for names in (("a", "b"), ("c",)):
        with writing(place) as path:
            path.mkdir()
            for name in names:
                (path / name).write_text(name)
    assert [p.name for p in place.iterdir()] == ["c"]
    assert list(tmp_path.iterdir()) == [place]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InterpError, match=r"Cannot write .*file/child"), writing(tmp_path / "file" / "child") as path:
        path.write_text("never")
    with pytest.raises(InterpError, match="No space left"), writing(tmp_path / "full"):
        raise OSError(28, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_nearest_name_is_suggested_only_if_it_is_near():
    assert nearest("hook_patern", ["hook_pattern", "hook_z"]) == "; did you mean 'hook_pattern'?"
    assert nearest("xyz", ["hook_pattern"]) == ""
