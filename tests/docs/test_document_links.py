"""Links between the documents lead somewhere, and the README leads to every page."""

from __future__ import annotations

import pytest
from documents import DOCUMENTS, ROOT, anchors, broken_links, links


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_into_the_repository_lead_to_files_and_headings(document: str) -> None:
    assert broken_links(document) == []


def test_the_readme_links_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert set(DOCUMENTS) - linked == {"README.md"}


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


# --- The machinery itself ------------------------------------------------------------------------

PAGE = "# One\n\n## Two, or `three`\n\n[a](LINK)\n\n```sh\n# Four\n```\n\n## Five\n\n## Five\n"


@pytest.mark.parametrize(
    "link",
    [
        "../README.md",
        "#two-or-three",
        "#five-1",
        "../README.md#swarmstate",
        "https://x/y#z",
        "../ext",
    ],
)
def test_a_link_that_leads_somewhere_is_accepted(link: str) -> None:
    assert broken_links("docs/D.md", PAGE.replace("LINK", link)) == []


@pytest.mark.parametrize(
    "link",
    [
        *("README.md", "missing.md", "../../elsewhere"),
        *("#two", "#four", "#five-2", "../README.md#nowhere", "../LICENSE#mit"),
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(link: str) -> None:
    assert broken_links("docs/D.md", PAGE.replace("LINK", link)) == [link]


def test_links_are_found_in_every_form_and_code_is_none() -> None:
    text = "[a](b) ![c](d.svg 'e') `[f](g)` [h]\n\n[h]: i\n\n```python\nj[k](m)\n```\n"
    assert links("D", text) == ["b", "d.svg", "i"]


def test_headings_in_blocks_are_none() -> None:
    assert anchors("D", PAGE) == {"one", "two-or-three", "five", "five-1"}
