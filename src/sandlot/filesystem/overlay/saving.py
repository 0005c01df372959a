"""The nodes and open files of an overlay, in a snapshot: those of its layers, and how they belong
together."""

from __future__ import annotations

from typing import Any

from sandlot.filesystem.overlay.layers import Handle, Node
from sandlot.filesystem.overlay.merging import Merging
from sandlot.filesystem.types import Attr


def save(
    merging: Merging, nodes: list[Node], handles: list[tuple[Node, Any, int]]
) -> dict[str, Any]:
    """What it takes to know nodes and open files again, with the folders that they are in."""
    known: dict[Node, int] = {}
    look = [*nodes, *(node for node, _, _ in handles)]
    while look:
        node = look.pop()
        if node not in known and node is not merging.root:
            known[node] = len(known)
            look += [parent for parent, _ in node.names]
    ups = [node for node in known if node.upper is not None]
    lows = [node for node in known if node.lower is not None]
    files = [(node, handle, flags) for node, handle, flags in handles if isinstance(handle, Handle)]
    up_files = [(node.upper, h.inner, flags) for node, h, flags in files if h.upper]
    low_files = [(node.lower, h.inner, flags) for node, h, flags in files if not h.upper]
    return {
        "overlay": [
            [
                node.folder, node.ino, node.pending,
                [[known.get(parent, -1), name] for parent, name in node.names],
            ]
            for node in known
        ],
        "ups": [known[node] for node in ups],
        "lows": [known[node] for node in lows],
        "upper": merging.upper.save([node.upper for node in ups], up_files),
        "lower": merging.lower.save([node.lower for node in lows], low_files),
        "nodes": [known.get(node, -1) for node in nodes],
        "handles": [
            [handle.upper, handle.flags] if isinstance(handle, Handle) else None
            for _, handle, _ in handles
        ],
        "files": [len(up_files), len(low_files)],
    }  # fmt: skip


async def recall(merging: Merging, saved: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The nodes and open files that were saved, None where they are no more."""
    up_files, low_files = saved["files"]
    ups, up_handles = await merging.upper.recall(saved["upper"], len(saved["ups"]), up_files)
    lows, low_handles = await merging.lower.recall(saved["lower"], len(saved["lows"]), low_files)
    upper = dict(zip(saved["ups"], ups, strict=True))
    lower = dict(zip(saved["lows"], lows, strict=True))
    nodes: list[Node] = []
    for at, (folder, ino, pending, _) in enumerate(saved["overlay"]):
        up, low = upper.get(at), lower.get(at)
        node = merging.known(True, up) if up is not None else None
        if node is None and low is not None:
            node = merging.known(False, low)
        if node is None:
            node = Node(up, low, Attr(0o040000 if folder else 0o100000))
            node.ino = ino
            merging.more_names(node, pending)
            merging.know(node)
        nodes.append(node)
    for node, (_, _, _, names) in zip(nodes, saved["overlay"], strict=True):
        for parent, name in names:
            node.names[merging.root if parent < 0 else nodes[parent], name] = None

    def there(at: int) -> Node | None:
        node = merging.root if at < 0 else nodes[at]
        return node if node.upper is not None or node.lower is not None else None

    left = iter(up_handles), iter(low_handles)
    handles: list[Any] = []
    for one in saved["handles"]:
        if one is None:  # a folder
            handles.append(0)
            continue
        inner = next(left[0] if one[0] else left[1])
        handles.append(None if inner is None else Handle(inner, one[0], one[1]))
    return [there(at) for at in saved["nodes"]], handles
