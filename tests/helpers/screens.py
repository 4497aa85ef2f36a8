"""A stand-in for a terminal."""


class Screen:
    """A file that says it is a terminal, and remembers what is written."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass
