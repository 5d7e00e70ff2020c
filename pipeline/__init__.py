"""What happens to clips, from the manifest to the video."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.single import render_clip

__all__ = ["render_clip"]


def __getattr__(name: str):
    """`from pipeline import render_clip`, without making every import of the package load what it needs."""
    if name == "render_clip":
        from pipeline.single import render_clip

        return render_clip
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
