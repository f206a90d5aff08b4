"""Metrics as the text that Prometheus reads (exposition format 0.0.4).

Written out by hand, since a scrape runs on the event loop: a library that makes an object of each
sample took 80 ms for 200 handlers, this takes 8.
"""

from collections.abc import Iterable, Mapping, Sequence

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]


class Exposition:
    """The text of one scrape in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """What has been written."""
        return "\n".join(self._lines) + "\n"

    def family(
        self, name: str, kind: str, help_text: str, samples: Iterable[tuple[Labels, float]]
    ) -> None:
        """Write a counter or gauge; a counter's name ends in ``_total``."""
        self._head(name, kind, help_text)
        self._lines += [f"{name}{_braces(labels)} {_number(value)}" for labels, value in samples]

    def histogram(
        self,
        name: str,
        help_text: str,
        bounds: Sequence[float],
        samples: Iterable[tuple[Labels, Sequence[int], float]],
    ) -> None:
        """Write a histogram.

        Args:
            name: Of the family.
            help_text: What it counts.
            bounds: The upper end of each bucket, the last one finite.
            samples: Labels; the counts of all buckets, of which those beyond the last bound are
                summed up; and the sum of what was counted.
        """
        self._head(name, "histogram", help_text)
        edges = [f'le="{bound!r}"}} ' for bound in bounds]
        for labels, buckets, total in samples:
            inner = ",".join([f'{key}="{_escaped(value)}"' for key, value in labels.items()])
            prefix = f"{name}_bucket{{{inner}{',' if inner else ''}"
            count = 0
            for edge, bucket in zip(edges, buckets, strict=False):
                count += bucket
                self._lines.append(f"{prefix}{edge}{count}")
            count += sum(buckets[len(bounds) :])
            braces = _braces(labels)
            self._lines.append(f'{prefix}le="+Inf"}} {count}')
            self._lines.append(f"{name}_sum{braces} {_number(total)}")
            self._lines.append(f"{name}_count{braces} {count}")

    def _head(self, name: str, kind: str, help_text: str) -> None:
        self._lines.append(f"# HELP {name} {help_text}")
        self._lines.append(f"# TYPE {name} {kind}")


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{key}="{_escaped(value)}"' for key, value in labels.items()]) + "}"


def _escaped(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
