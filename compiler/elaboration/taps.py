"""Taps: what the encoder publishes, and who reads which of them.

Per name and resolution there are as many readers as instances whose own text reads. One tap is shared by all
readers; as many taps as readers are read in reverse order of publication.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from hvdsl.compiler.diagnostics import names as codes
from hvdsl.compiler.elaboration.environment import Owner
from hvdsl.compiler.elaboration.values import Drawn, Tensor
from hvdsl.grammar.diagnostics import Diagnostic, Fault
from hvdsl.grammar.source import Span

Key: TypeAlias = tuple[str, tuple[int, int]]


@dataclass(slots=True)
class _Channel:
    published: list[tuple[Tensor | Drawn, Span]] = field(default_factory=list)
    readers: list[Span] = field(default_factory=list)


def size_label(size: tuple[int, int]) -> str:
    """A resolution as a row's label has it."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


class Taps:
    def __init__(self) -> None:
        self._channels: dict[Key, _Channel] = {}

    def publish(self, name: str, tap: Tensor | Drawn, span: Span) -> None:
        tensor = tap.tensor if isinstance(tap, Drawn) else tap
        key = (name, tensor.shape[1:])
        self._channels.setdefault(key, _Channel()).published.append((tap, span))

    def read(self, name: str, label: tuple[int, int], owner: Owner, span: Span) -> Tensor | Drawn:
        """Return the tap that an owner reads: for each owner always the same.

        Raises:
            Fault: if nothing of that name is tapped at that resolution.
        """
        key = (name, label)
        channel = self._channels.get(key)
        if channel is None:
            raise self._nothing(name, label, owner, span)
        if key not in owner.reads:
            owner.reads[key] = len(channel.readers)
            channel.readers.append(span)
        reader, taps = owner.reads[key], channel.published
        if len(taps) == 1 or reader >= len(taps):
            return taps[0][0]
        return taps[-1 - reader][0]

    def _nothing(self, name: str, label: tuple[int, int], owner: Owner, span: Span) -> Fault:
        read = f"skip({name})" if name else "skip"
        here = [size_label(size) for n, size in self._channels if n == name]
        if here:
            tapped = f"the encoder taps {', '.join(here)}"
        else:
            others = sorted({n for n, _ in self._channels if n})
            tapped = f"the encoder taps nothing {'of that name' if name else 'without a name'}"
            if others:
                tapped += "; it taps " + ", ".join(f"`{n}`" for n in others)
        tap = f"tap({name}) = …" if name else "-> tap"
        whose = f"`{owner.name}`" if owner.kind in ("cell", "group") else "the row"
        return Fault(
            codes.NOTHING_TO_READ,
            "no encoder feature to read here",
            span,
            f"reads `{read}` at {size_label(label)}; {tapped}",
            f"a tap at {size_label(label)}",
            f"add `{tap}` to an encoder row at {size_label(label)}, or remove `{read}` from {whose}",
        )

    def audit(self) -> Iterator[Diagnostic]:
        """Yield what is wrong with the numbers of taps and readers, when every reader has read."""
        for (name, size), channel in self._channels.items():
            taps, readers = len(channel.published), len(channel.readers)
            read = f"`skip({name})`" if name else "`skip`"
            if readers == 0:
                yield Diagnostic(
                    codes.UNREAD_TAP,
                    f"nothing reads this tap at {size_label(size)}",
                    channel.published[0][1],
                    expected=f"a group of the decoder that reads {read} at {size_label(size)}",
                    help="remove the tap, or read it",
                    count=taps,
                )
            elif taps not in (1, readers):
                yield Diagnostic(
                    codes.TAPS_AND_READERS,
                    f"{taps} taps at {size_label(size)} for {readers} reader{'s' if readers > 1 else ''}",
                    channel.readers[0],
                    f"{readers} instances read {read} at {size_label(size)}; the encoder taps it {taps} times",
                    f"one tap, which all share, or {readers}",
                    f"tap {readers} times, or once",
                )
