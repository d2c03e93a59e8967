"""A metric over versions as an SVG image."""

import base64
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 30  # margins around the plot
NARROWEST = 0.1  # range of the vertical axis: a change of a thousandth is not a cliff
LINES = 4  # horizontal ones, the lowest and the highest included


def svg(points: Sequence[tuple[int, float]], title: str) -> str:
    """One point for each (version, value), in the order given, and a line through them."""
    lowest, highest = _range([value for _, value in points])
    step = (WIDTH - LEFT - RIGHT) / max(1, len(points) - 1)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - lowest) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)

    places = [(LEFT + n * step, y(value)) for n, (_, value) in enumerate(points)]
    scale = [lowest + n * (highest - lowest) / (LINES - 1) for n in range(LINES)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="10" fill="#444">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{LEFT}" y="18" font-size="13" fill="#111">{escape(title)}</text>'
        + "".join(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.3f}</text>'
            for value in scale
        )
        + f'<polyline fill="none" stroke="#2563eb" stroke-width="2" points="{_list(places)}"/>'
        + "".join(
            f'<circle cx="{x:.1f}" cy="{height:.1f}" r="4" fill="#2563eb"><title>v{number} {value:.4f}</title></circle>'
            f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">v{number}</text>'
            for (x, height), (number, value) in zip(places, points, strict=True)
        )
        + "</svg>"
    )


def data_uri(image: str) -> str:
    """The image as a URL that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode('utf-8')).decode('ascii')}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    room = max(0.0, NARROWEST - (max(values) - min(values))) / 2
    return min(values) - room, max(values) + room


def _list(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
