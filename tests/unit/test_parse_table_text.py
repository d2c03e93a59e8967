"""Cells keep their characters: a price in pounds must not become another one."""

from pipelines.parse.formats.partition import table_text


def test_cells_keep_characters_beyond_ascii() -> None:
    html = "<table><tr><td>Up to</td><td>£150 - Ärger 日本</td></tr><tr><td></td><td>x</td></tr></table>"
    assert table_text(html) == "Up to | £150 - Ärger 日本\n | x"
