"""Failures that are not ours: something about the input, the machine or the options that the user can put right."""


class HvdslError(Exception):
    """One sentence that says what is wrong and what to do. The command line prints it and exits with 1."""


class UsageError(HvdslError):
    """An option that does not exist, does not apply or contradicts another. The command line exits with 2."""
