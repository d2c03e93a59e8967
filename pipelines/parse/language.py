"""The English model that unstructured wants, and small rules in its place where it is not installed.

unstructured asks spaCy two things: where sentences end and whether there is a verb; from that it tells prose from
titles. It downloads `en_core_web_sm` for this on first use and fails without a network. Our rules need no download and
are several times faster; headings of Markdown, HTML and Office files come from tags and styles and do not depend on it.
"""

import logging
import os
from functools import cache
from typing import Any

from pipelines.errors import ConfigError
from pipelines.parse.fingerprint import RULES, tokenizer_name

log = logging.getLogger(__name__)

QUIET = {"DO_NOT_TRACK": "1", "SCARF_NO_ANALYTICS": "true", "UNSTRUCTURED_DISABLE_NOTICE": "1", "HF_HUB_OFFLINE": "1"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_AUXILIARIES = _words("""
    am is are was were be been being has have had having do does did done can could will would shall should may
    might must ought 's 're 've 'm 'd 'll isn't aren't wasn't n't
""")
_MODALS = _words("""
    can could will would shall should may might must to not n't please
""")
_VERBS = _words("""
    make makes made use uses get gets got give gives gave given take takes took taken go goes went gone come comes
    came see sees saw seen know knows knew known find finds found show shows shown say says said tell tells told
    think thinks thought want wants need needs keep keeps kept let lets begin begins began begun run runs ran
    work works call calls try tries ask asks feel feels felt become becomes became leave leaves left put puts
    mean means meant set sets build builds built send sends sent read reads write writes wrote written provide
    provides include includes contain contains allow allows require requires create creates define defines
    describe describes return returns support supports help helps follow follows add adds change changes remove
    removes start starts stop stops open opens close closes click choose select enter install ensure check
    consider hold holds held bring brings brought happen happens happened seem seems lie lies stand stands stood
    live lives believe believes represent represents cause causes lead leads led increase increases decrease
    decreases reduce reduces apply applies depend depends exist exists occur occurs remain remains appear appears
    speak speaks spoke spoken buy buys bought pay pays paid sell sells sold lose loses lost win wins won grow
    grows grew grown fall falls fell fallen rise rises rose
""")
_VERB_ENDINGS = ("ed", "ing", "ize", "izes", "ify", "ifies")


@cache
def unstructured_ready() -> None:
    """Make unstructured usable offline in this process; to be called before anything of it is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if tokenizer_name() != RULES:
        return
    from unstructured.nlp import tokenize

    if not hasattr(tokenize, "_get_nlp"):
        raise ConfigError(
            "this version of unstructured cannot work without the English model of spaCy",
            hint="install it: python -m spacy download en_core_web_sm",
        )
    nlp = _rules()
    setattr(tokenize, "_get_nlp", lambda: nlp)  # noqa: B010 - the name is private to the library
    log.info("en_core_web_sm is not installed: sentences and verbs are found by rules")


def _rules() -> Any:
    import spacy
    from spacy.language import Language

    @Language.component("snapdex_verbs")
    def tag_verbs(doc: Any) -> Any:
        previous = ""
        for token in doc:
            word = token.lower_
            token.tag_ = "VB" if is_verb(word, previous) else "NN"
            previous = word
        return doc

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("snapdex_verbs")
    return nlp


def is_verb(word: str, previous: str) -> bool:
    """Whether a lower-case English word reads as a verb after `previous`: recall matters more than precision here."""
    if word in _AUXILIARIES or word in _VERBS:
        return True
    if not word.isalpha():
        return False
    return previous in _MODALS or (len(word) > 4 and word.endswith(_VERB_ENDINGS))
