"""`python -m lrm_cli` is `lrm`."""

from lrm_cli.app import main

main()
