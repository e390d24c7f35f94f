"""The exception for errors that a user can act on."""


class BcdzooError(Exception):
    """A failure the user can act on.

    Its message is one line that says what is wrong and what to do; the command line prints it and exits with 1.
    """
