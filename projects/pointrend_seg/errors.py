"""The one exception type for what a user can put right."""


class InputError(ValueError):
    """A config, file, data set or checkpoint of the user's does not fit.

    The message is one or a few sentences: what was expected, what came, and what to do. The
    command-line tools print it without a traceback and exit with status 2.
    """
