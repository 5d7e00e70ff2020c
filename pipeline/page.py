"""report.html: one self-contained page, with a small picture of each clip."""

import base64
from typing import TYPE_CHECKING

from pipeline.records import RENDERED, Record

if TYPE_CHECKING:
    from pipeline.report import Report

CLIPS_SHOWN = 500  # a page with more pictures would be slow to open; report.json and index/ have all clips

TEMPLATE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ n.clips.total }} clips, {{ n.clips.rendered or 0 }} rendered</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
  h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
  table { border-collapse: collapse; width: 100% }
  td, th { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
  td.number { text-align: right; font-variant-numeric: tabular-nums }
  img { width: 64px; height: 64px; object-fit: cover; border-radius: 4px; display: block }
  .hint, .small { color: #666 } .small { font-size: .85rem }
  .failed td:first-child { border-left: 4px solid #c33 }
</style>
<h1>{{ n.clips.total }} clips:
  {% for outcome, count in n.clips.items() if outcome != "total" and count %}{{ count }} {{ outcome }}
  {%- if not loop.last %}, {% endif %}{% endfor %}</h1>
<p>{{ "%.1f"|format(n.video_s / 60) }} minutes of video, {{ "%.1f"|format(n.video_bytes / 1e6) }} MB.
{% if n.this_run.clips %}This run rendered {{ n.this_run.rendered }} of {{ n.this_run.clips }} clips in
{{ "%.0f"|format(n.this_run.wall_s) }} s: {{ n.this_run.clips_per_min }} clips/min,
{{ n.this_run.video_s_per_s }} s of video per second.{% else %}This run had nothing left to do.{% endif %}</p>
{% if n.failures %}<h2>Not rendered</h2>
<table><tr><th>clips<th>why<th>which</tr>
{% for group in n.failures %}<tr class="failed"><td class="number">{{ group.clips|length }}
<td>{{ group.outcome }} in {{ group.stage }}: {{ group.error }}<br><span class="hint">{{ group.hint }}</span>
<td class="small">{{ group.clips[:20]|join(", ") }}{% if group.clips|length > 20 %} ...{% endif %}</tr>
{% endfor %}</table>{% endif %}
{% if n.warnings %}<h2>Warnings</h2>
<table><tr><th>clips<th>warning</tr>
{% for text, count in n.warnings.items() %}<tr><td class="number">{{ count }}<td>{{ text }}</tr>{% endfor %}
</table>{% endif %}
<h2>Clips</h2>
<table><tr><th><th>clip<th>length<th>size<th>warnings<th>render time</tr>
{% for clip, picture, link in clips %}<tr>
<td>{% if picture %}<img src="data:image/jpeg;base64,{{ picture }}" alt="">{% endif %}
<td>{% if link %}<a href="{{ link }}">{{ clip.clip_id }}</a>{% else %}{{ clip.clip_id }}{% endif %}
<td class="number">{{ "%.2f"|format(clip.duration_s) }} s<td class="number">{{ clip.width }} x {{ clip.height }}
<td>{{ clip.warnings|join(", ") }}<td class="number">{{ "%.1f"|format(clip.seconds_render) }} s</tr>
{% endfor %}</table>
{% if left_out %}<p class="small">{{ left_out }} more clips are in index/.</p>{% endif %}
<p class="small">run {{ n.run }}, {{ n.out }}</p>
</html>
"""


def draw_page(report: "Report") -> str:
    """The page as HTML; everything from outside is escaped."""
    from jinja2 import Environment

    made = [record for record in report.records if record.outcome == RENDERED]
    shown = [(record, base64.b64encode(record.thumbnail).decode(), _link(record)) for record in made[:CLIPS_SHOWN]]
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    return template.render(n=report.numbers, clips=shown, left_out=len(made) - len(shown))


def _link(record: Record) -> str:
    """Where the video is, seen from the page; empty inside a tar."""
    from urllib.parse import quote

    return quote(record.uri) if record.offset < 0 else ""
