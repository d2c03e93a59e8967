"""The chart of a metric over versions."""

import base64
import re
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def circles(image):
    return [(float(each.get("cx")), float(each.get("cy"))) for each in image.iter(f"{SVG}circle")]


def labels(image):
    return [each.text for each in image.iter(f"{SVG}text") if re.fullmatch(r"v\d+", each.text)]


def test_it_has_a_point_and_a_label_for_each_version():
    from flows.chart import svg

    image = ElementTree.fromstring(svg([(3, 0.5), (4, 0.8), (9, 0.65)], "ndcg@10 of <handbook>"))
    (first, second, third), names = circles(image), labels(image)
    assert names == ["v3", "v4", "v9"]
    assert first[0] < second[0] < third[0]
    assert second[1] < third[1] < first[1], "higher is better, and up"
    assert [each.text for each in image.iter(f"{SVG}title")] == ["v3 0.5000", "v4 0.8000", "v9 0.6500"]
    assert "ndcg@10 of <handbook>" in [each.text for each in image.iter(f"{SVG}text")]


def test_versions_that_are_as_good_are_a_level_line():
    from flows.chart import HEIGHT, svg

    image = ElementTree.fromstring(svg([(n, 1.0) for n in range(1, 21)], "recall@5"))
    assert len({y for _, y in circles(image)}) == 1 and len(labels(image)) == 20
    assert all(0 < y < HEIGHT for _, y in circles(image))


def test_the_ingest_flow_leaves_one_when_two_versions_were_measured(workspace, golden, api):
    from flows.ingest import ingest

    ingest(str(workspace.root))
    assert api.artifacts("quality-handbook") == []
    (workspace.root / "docs" / "new.md").write_text("# New\n\nSomething new.\n", "utf-8")
    ingest(str(workspace.root))
    ingest(str(workspace.root))
    (url,) = api.artifacts("quality-handbook")
    image = ElementTree.fromstring(base64.b64decode(url.removeprefix("data:image/svg+xml;base64,")))
    assert labels(image) == ["v1", "v2"]
