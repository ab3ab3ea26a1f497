"""A page of HTML as a browser's accessibility tree shows it: elements by their roles and names."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "img", "br", "hr", "rect", "path"})
ROLES = {
    "main": "main",
    "nav": "navigation",
    "h1": "heading",
    "h2": "heading",
    "h3": "heading",
    "button": "button",
    "select": "combobox",
    "option": "option",
    "table": "table",
    "tr": "row",
    "td": "cell",
    "figure": "figure",
    "img": "image",
    "dialog": "dialog",
    "li": "listitem",
    "a": "link",
    "summary": "button",
}
INLINE = frozenset({"a", "span", "time", "button", "option"})
INPUTS = {
    "text": "textbox",
    "number": "spinbutton",
    "search": "searchbox",
    "checkbox": "checkbox",
    "range": "slider",
    "submit": "button",
}
NAMED_BY_CONTENT = frozenset({"heading", "button", "link", "cell", "columnheader", "rowheader", "option"})


class Node:
    """An element, its attributes, and what it holds: elements and texts."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Node | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.children: list[Node | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def all(self) -> Iterator[Node]:
        """Yield this element and all in it."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.all()

    @property
    def text(self) -> str:
        """The text that it shows, its spaces joined."""
        return " ".join(self._raw().split())

    def _raw(self) -> str:
        if self.attributes.get("aria-hidden") == "true" or self.tag in {"script", "style", "template"}:
            return ""
        text = "".join(child if isinstance(child, str) else child._raw() for child in self.children)
        return text if self.tag in INLINE else f" {text} "

    @property
    def role(self) -> str | None:
        """Its role, given or of its element."""
        if "role" in self.attributes:
            return self.attributes["role"]
        if self.tag == "input":
            return INPUTS.get(self.attributes.get("type", "text"))
        if self.tag == "th":
            return "rowheader" if self.attributes.get("scope") == "row" else "columnheader"
        if self.tag == "section":
            return "region" if self.name else None
        if self.tag == "header":
            return "banner"
        return ROLES.get(self.tag)

    @property
    def name(self) -> str:
        """Its accessible name."""
        if "aria-label" in self.attributes:
            return self.attributes["aria-label"]
        if "aria-labelledby" in self.attributes:
            root = self
            while root.parent is not None:
                root = root.parent
            return " ".join(one.text for one in root.all() if one.attributes.get("id") == self["aria-labelledby"])
        if self.tag == "img":
            return self.attributes.get("alt", "")
        if self.tag in {"table", "figure"}:
            kind = "caption" if self.tag == "table" else "figcaption"
            return next((one.text for one in self.all() if one.tag == kind), "")
        if self.tag in {"input", "select"}:
            label = self.parent
            while label is not None and label.tag != "label":
                label = label.parent
            return "" if label is None else " ".join(c.strip() for c in label.children if isinstance(c, str)).strip()
        return self.text if self.role in NAMED_BY_CONTENT else ""

    def find(self, role: str, name: str | None = None) -> list[Node]:
        """Return all elements of a role in it, and with a name if one is given."""
        return [one for one in self.all() if one.role == role and (name is None or one.name == name)]

    def get(self, role: str, name: str | None = None) -> Node:
        """Return the only element of a role in it, and with a name if one is given."""
        found = self.find(role, name)
        assert len(found) == 1, f"{len(found)} of role {role} named {name!r}"
        return found[0]

    def rows(self) -> list[list[str]]:
        """Return the texts of a table's rows, without its headers."""
        found = []
        for row in self.find("row"):
            cells = [one.text for one in row.all() if one.role in {"cell", "rowheader"}]
            if cells:
                found.append(cells)
        return found

    def values(self) -> list[tuple[str, str]]:
        """Return what a form would send as it is: pairs of a name and a value."""
        found = []
        for one in self.all():
            if one.tag == "input" and "name" in one.attributes:
                kind = one.attributes.get("type", "text")
                if kind != "checkbox" or "checked" in one.attributes:
                    found.append((one["name"], one.attributes.get("value", "")))
            elif one.tag == "select":
                options = one.find("option")
                chosen = next((o for o in options if "selected" in o.attributes), options[0])
                found.append((one["name"], chosen["value"]))
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {}, None)
        self.at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Node(tag, {name: value or "" for name, value in attrs}, self.at))

    def handle_endtag(self, tag: str) -> None:
        node: Node | None = self.at
        while node is not None and node.tag != tag:
            node = node.parent
        if node is not None and node.parent is not None:
            self.at = node.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read_page(text: str) -> Node:
    """Return a page's elements."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return parser.root
