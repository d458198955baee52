"""Reading a document's classes back as text."""


def members(document, scheme, name):
    """The text of a class's tokens, runs of neighbours together, a blank between runs."""
    text, classes = document.document.text, document.classes[scheme.name]
    pieces, last = [], None
    for place in range(1, len(document.tokens)):
        if scheme.classes[classes[place]] == name:
            start, end = document.offsets[place]
            pieces.append(text[start:end] if last == place - 1 else " " + text[start:end])
            last = place
    return " ".join("".join(pieces).split())
