"""The `lrm` script, which `python -m lrm_cli` is too."""

import sys


def main() -> None:
    """Entry point. Ctrl-C while everything else is imported shows no traceback either."""
    try:
        from lrm_cli import app
    except KeyboardInterrupt:
        sys.exit(130)
    app.main()


if __name__ == "__main__":
    main()
