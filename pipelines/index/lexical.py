"""The tokeniser of lexical search must not change under an index: its words are hashed into stored weights."""

from pipelines.errors import IntegrityError
from pipelines.index.db import Connection
from pipelines.model import digest

WORDS = (
    "The QUICK foxes' jumping ERR-4021 PREFECT_API_URL v1.2.3 naïve Ärger ÉCOLE running generously 日本語 "
    "/etc/passwd x=3.14"
)
EXPECTED = "10735bc5e7581fd1"


def check_words(connection: Connection) -> str:
    """Tokenise fixed words as English; raises `IntegrityError` where this server does it differently than it should.

    A database whose locale does not know upper from lower case, or another stemmer, would find other terms.
    """
    rows = connection.execute("SELECT term FROM snapdex.terms('english', %s) ORDER BY term", [WORDS]).fetchall()
    found = digest(*(str(term) for (term,) in rows)).hex()[:16]
    if found != EXPECTED:
        raise IntegrityError(
            f"this server splits words differently ({found}, expected {EXPECTED})",
            hint="create the database with a UTF-8 locale (such as C.UTF-8) on Postgres 15 or newer",
        )
    return f"{len(rows)} terms of the reference words"
