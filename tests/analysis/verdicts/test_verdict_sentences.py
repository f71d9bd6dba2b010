"""Every sentence that a verdict can make is one that can be read."""

import doctest
import re

import fairsweep.analysis.verdicts.verdict_sentences as verdict_sentences
from fairsweep.analysis.verdicts.verdict_sentences import sentences


def test_doctest():
    assert doctest.testmod(verdict_sentences).failed == 0


def test_every_sentence_reads_as_one():
    found = dict(sentences())
    assert len(found) == 33
    for made_of, text in found.items():
        assert not re.search(r"\bnan\b|\binf\b|None|  |\.\.|∞", text), (made_of, text)
        assert text[0].isupper(), made_of
        assert text.endswith("."), made_of
        assert len(text) < 330, made_of


def test_no_number_of_seeds_says_how_many_images():
    text = dict(sentences())["margin=0.02, seeds=inf, images=900"]
    assert "No number of seeds would be enough to detect 2 points with so few test images: 900 test images" in text
