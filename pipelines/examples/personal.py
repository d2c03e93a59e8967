"""Personal data that has a form of its own: addresses, numbers with a checksum, telephone numbers."""

import re
from collections.abc import Iterator

_EMAIL = re.compile(r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_RESERVED = re.compile(r"[@.](?:example(?:\.(?:com|org|net))?|invalid|test|localhost)$", re.IGNORECASE)  # RFC 2606
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_CARD = re.compile(r"(?<![\w.,/-])(?:4\d|5[1-5]|2[2-7]|3[47]|6[05])\d\d(?:[ -]?\d){9,15}(?![\w/-]|[.,]\d)")
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-]|\.\d)")
_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"\+[1-9]\d{0,2}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"  # +49 (0)30 1234567
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}"  # (212) 555-0123
    r")(?![\w/-]|[.,]\d)"
)
_DIGITS = range(8, 16)  # of a telephone number with its country: E.164
_IBAN_LENGTHS = (  # the registry of SWIFT
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 "
    "SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
_LENGTH = {each[:2]: int(each[2:]) for each in _IBAN_LENGTHS.split()}


def personal(text: str) -> Iterator[tuple[str, str]]:
    """(what it is, its first two characters) of everything personal in the text that has a form of its own."""
    if "@" in text:
        for found in _EMAIL.finditer(text):
            if not _RESERVED.search(found[0]):
                yield "an e-mail address", _masked(found[0])
    seen: list[tuple[int, int]] = []
    for found in _IBAN.finditer(text):
        if (end := _iban_end(found[0])) is not None:
            seen.append((found.start(), found.start() + end))
            yield "an IBAN", _masked(found[0][:end])
    for what, pattern in (
        ("a credit card number", _CARD),
        ("a social security number", _SSN),
        ("a phone number", _PHONE),
    ):
        for found in pattern.finditer(text):
            start, end = found.span()
            if _plausible(what, found[0]) and not any(start < last and first < end for first, last in seen):
                seen.append((start, end))
                yield what, _masked(found[0])


def _masked(value: str) -> str:
    return f"{value[:2]}… ({len(value)} characters)"


def _plausible(what: str, value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    if what == "a credit card number":
        return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and _luhn(digits)
    return what != "a phone number" or not value.startswith("+") or len(digits) in _DIGITS


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def _iban_end(text: str) -> int | None:
    """Where the IBAN ends that the text begins with: as long as its country has them, and 1 modulo 97 (ISO 13616)."""
    length = _LENGTH.get(text[:2], 0)
    places = [place for place, letter in enumerate(text) if letter != " "][:length]
    if not length or len(places) < length:
        return None
    value = "".join(text[place] for place in places)
    number = int("".join(str(int(letter, 36)) for letter in value[4:] + value[:4]))
    return places[-1] + 1 if number % 97 == 1 else None
