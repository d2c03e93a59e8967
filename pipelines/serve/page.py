"""The page at `/`: it stands alone with its style and its script, under a policy that lets nothing else in."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files

from fastapi import APIRouter, Response

HEAD_OF_POLICY = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
REST_OF_POLICY = "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"


def router_of(index: str, *, needs_token: bool) -> APIRouter:
    """The page for this index. It holds no content: its script asks the endpoints, as anybody does."""
    source, style, script = (
        (files("pipelines.serve") / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    text = source.replace("{{style}}", style).replace("{{script}}", script)
    text = text.replace("{{index}}", escape(index)).replace("{{token}}", "yes" if needs_token else "no")
    headers = {"Content-Security-Policy": policy_of(text), "X-Frame-Options": "DENY"}
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return router


def policy_of(text: str) -> str:
    """The Content-Security-Policy under which the page's own script and style work, and no others."""
    script, style = (_hash(text, name) for name in ("script", "style"))
    return f"{HEAD_OF_POLICY}; script-src {script}; style-src {style}; {REST_OF_POLICY}"


def _hash(text: str, name: str) -> str:
    """Of what stands in the one element of this name."""
    _, _, after = text.partition(f"<{name}>")
    inside, end, rest = after.partition(f"</{name}>")
    assert end and f"<{name}" not in rest, f"the page has one <{name}>"
    return f"'sha256-{b64encode(sha256(inside.encode('utf-8')).digest()).decode('ascii')}'"
