"""kkt-bridge: receipts from MQTT to fiscal registers (KKT) and on to the operator of fiscal data (OFD)."""

__version__: str


def __getattr__(name: str) -> str:
    # The process that speaks to the OFD needs no version, and reading the package's metadata takes three megabytes.
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 (see above)

        return version("kkt-bridge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
