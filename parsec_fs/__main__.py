"""`python -m parsec_fs`: the command line."""

from parsec_fs.cli.main import main

main()
