"""`python -m abci_app`, the same as `parsec-abci`."""

from abci_app.cli import main

main()
