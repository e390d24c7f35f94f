"""The clock: networks side by side on this machine, in our own backends and in other people's runtimes."""
