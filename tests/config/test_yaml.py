"""A recipe file holds settings and nothing else that YAML can express."""

import pytest

from famkd.config.load import load_recipe
from famkd.errors import UserError


@pytest.mark.parametrize(("text", "words"), [
    ("a: &a [x]\nb: *a", r"\*a stands for another value"),
    ("seed: 1\nseed: 2", "'seed' is set twice"),
    ("optim: {lr: 1, lr: 2}", "'optim.lr' is set twice"),
    ("<<: {seed: 1}", "'<<.seed' is not the name of a setting"),
    ("1: 2", "'1' is not the name of a setting"),
    ("? [a, b]\n: c", "the name of a setting is one word"),
    ("[" * 3000, "nested too deeply"),
    ("# " + "x" * 40_000, "larger than 32,768 bytes"),
    ('name: "\\e]0;owned\\a"', "characters that cannot be printed"),
    ('"\\u202e": 1', "characters that cannot be printed"),
    ("method: [kd, at]", "The setting method takes one word"),
    ("data: {sides: [[1], 2]}", "The setting data.sides cannot hold"),
])  # fmt: skip
def test_yaml_beyond_settings_is_refused(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", [b"\x00\x01\x02\xff", b"\x89PNG\r\n\x1a\n", "häßlich".encode("utf-16"), b"a: \xff"])
def test_a_binary_file_is_not_a_recipe(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError, match="Cannot read the recipe"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "a\0b"])
def test_a_name_that_no_file_can_have_is_not_a_recipe(name):
    with pytest.raises(UserError, match="There is no recipe"):
        load_recipe(name)
